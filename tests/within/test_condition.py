"""The condition of a differential analysis: its coefficient, contrasts, groups."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.within.condition import Condition, condition_design
from tests.support import OPTIONS, read_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
NOTHING = {"formula": None, "block": None, "contrast": None}


def test_condition_is_not_taken_for_a_column_whose_name_holds_its_own(data):
    named = data.copy()
    named.obs["arm_2"] = named.obs["batch"]
    found = hc.differential(named, condition="arm", formula="~ arm_2 + arm", **OPTIONS).dataset
    wanted = hc.differential(data, condition="arm", formula="~ batch", **OPTIONS).dataset
    assert found.attrs["contrast"] == "arm[T.b]"
    np.testing.assert_allclose(found["difference"], wanted["difference"], rtol=1e-5, atol=1e-7)


def test_contrast_of_three_groups(data):
    three = data.copy()
    third = three.obs["sample"].str.match("s[12]a")
    three.obs["arm"] = np.where(third, "c", three.obs["arm"].astype(str))
    r = hc.differential(three, condition="arm", contrast=("arm", "b", "c"), **OPTIONS)
    back = hc.differential(three, condition="arm", contrast=("arm", "c", "b"), **OPTIONS)
    np.testing.assert_allclose(
        r.matrix("difference"), -back.matrix("difference"), rtol=1e-4, atol=1e-6
    )


def design(adata, **options):
    stated = Condition(**{"stated": "arm", "sample": "sample", **NOTHING, **options})
    return condition_design(read_counts(adata, **OPTIONS), stated)


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([0, 1], False),
        ([1, 3], True),
        ([1, 2, 3], True),
        ([1.0, 2.0, 3.0], False),
        ([10, 21, 32, 47, 53, 66, 78, 91, 95, 99, 101, 103], False),
    ],
)
def test_numbers_that_may_be_codes_of_groups(data, values, warned):
    coded = data.copy()
    samples = pd.factorize(coded.obs["sample"])[0]
    coded.obs["age"] = np.array(values)[samples % len(values)]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        design(coded, stated="age")
    assert any("is a slope per unit" in str(w.message) for w in found) == warned


@pytest.mark.parametrize(
    ("sample", "block", "units"),
    [
        ("sample", None, "sample"),
        ("sample", "donor", "sample"),
        ("sample", "sample", "sample|arm"),
    ],
)
def test_units_are_samples_or_conditions_within_them(sample, block, units):
    assert Condition("arm", sample, None, block, None).units == units


def test_groups_follow_the_levels_in_order(data):
    found = design(data)
    assert found.levels == ["a", "b"]
    names = [found.levels[k] for k in found.groups("arm")]
    assert names == found.table["arm"].astype(str).tolist()
    assert found.describe_contrast() == "arm[T.b]"
    assert design(data, stated="age").groups("age") is None


def test_contrasts_are_described_as_combinations(data):
    combined = design(data, formula="~ batch", contrast="2 * arm[T.b] - batch[T.y]")
    values = dict(zip(combined.design.names, combined.contrast, strict=True))
    assert values == {"Intercept": 0, "batch[T.y]": -1, "arm[T.b]": 2}
    assert combined.describe_contrast() == "-1 batch[T.y] +2 arm[T.b]"


def test_terms_of_cells_are_told_from_terms_of_samples(data):
    cells = data.copy()
    cells.obs["phase"] = np.random.default_rng(0).random(cells.n_obs)
    found = design(cells, formula="~ batch + phase")
    assert (found.sample_terms, found.cell_terms) == (["batch"], ["phase"])
    assert found.cells.shape == (cells.n_obs, 2)
    assert not any("phase" in name for name in found.design.names)
