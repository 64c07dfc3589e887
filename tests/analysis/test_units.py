import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.analysis.plan import make_plan
from hiercorr.analysis.units import choose_units

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


def test_what_cannot_be_used_is_refused():
    with pytest.raises(hc.InputError, match="'stim' and 'week' vary within"):
        units(sample="donor", condition=["stim", "week"])
    with pytest.raises(hc.InputError, match="single samples"):
        units(sample="donor", condition="stim", block="sex")
    with pytest.raises(hc.InputError, match="did you mean 'donor'"):
        units(sample="doner")
