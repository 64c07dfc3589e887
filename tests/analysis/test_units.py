import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.analysis.plan import make_plan
from hiercorr.analysis.units import check_columns, choose_units

OBS = pd.DataFrame(
    {
        "donor": ["a", "a", "b", "b"],
        "library": ["1", "2", "3", "4"],
        "stim": ["no", "yes", "no", "yes"],
        "sex": ["f", "f", "m", "m"],
        "week": ["1", "2", "1", "2"],
    }
)


def units(**options):
    return choose_units(make_plan({"target": "A", **options}), OBS)


def test_a_condition_within_donors_makes_samples_of_donor_and_condition():
    found = units(sample="donor", condition="stim")
    assert found.sample == ("donor", "stim")
    assert found.block == "donor"
    assert found.formula == "~ stim"
    assert found.within_donors == ["stim"]
    assert len(found.choices) == 2


def test_a_condition_of_samples_leaves_them_as_they_are():
    found = units(sample="library", condition="stim", block="donor", formula="~ sex")
    assert (found.sample, found.block, found.formula) == ("library", "donor", "~ sex + stim")
    found = units(sample="library", condition="stim", formula="~ stim + (1 | donor)")
    assert (found.block, found.formula) == (None, "~ stim + (1 | donor)")
    assert units(sample="donor").choices == []


def test_a_condition_with_one_value_is_not_adjusted_for():
    found = choose_units(
        make_plan({"target": "A", "sample": "donor", "condition": ["stim", "sex"]}),
        OBS[OBS["sex"] == "f"],
    )
    assert found.formula == "~ stim"
    assert any("'sex' has one value, 'f', and is not adjusted for" in c for c in found.choices)


def test_conditions_of_donors_alongside_one_within_them():
    found = units(sample="donor", condition=["stim", "sex"])
    assert (found.sample, found.block, found.formula) == (("donor", "stim"), "donor", "~ stim")
    assert any("effects of 'donor' adjust for 'sex' as well" in c for c in found.choices)
    found = units(sample="library", block="donor", condition=["stim", "sex"])
    assert found.formula == "~ stim"
    assert units(sample="donor", condition="sex").formula == "~ sex"


def test_what_cannot_be_used_is_refused():
    for used in ({"sample": "donor"}, {"sample": "library", "block": "donor"}):
        with pytest.raises(hc.InputError, match="condition='donor' is the column of"):
            check_columns(make_plan({"target": "A", "condition": "donor", **used}), OBS)
    with pytest.raises(hc.InputError, match="'stim' and 'week' vary within"):
        units(sample="donor", condition=["stim", "week"])
    with pytest.raises(hc.InputError, match="single samples"):
        units(sample="donor", condition="stim", block="sex")
    with pytest.raises(hc.InputError, match="did you mean 'donor'"):
        check_columns(make_plan({"target": "A", "sample": "doner"}), OBS)
