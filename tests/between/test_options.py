"""Options of a fit between samples."""

import pytest

import hiercorr as hc
from hiercorr.between.options import BetweenOptions, BlockFacts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "kendall"}, "method must be one of"),
        ({"method": "hc3"}, "name it with target="),
        ({"target": "nothing"}, "unknown target gene"),
        ({"precision": "half"}, "precision must be one of"),
        ({"confidence": 95}, "between 0 and 1"),
        (
            {"contrasts": {"a": "nothing"}},
            "cannot read contrast 'a'.*the coefficients are Intercept",
        ),
        (
            {"contrasts": {"a": ("condition", "none", "ctrl")}},
            "unknown level of 'condition' 'none'",
        ),
        ({"contrasts": {"a": ("age", "x", "y")}}, "unknown column of the formula 'age'"),
    ],
)
def test_bad_fits(adjusted, options, match):
    with pytest.raises(hc.InputError, match=match):
        adjusted.fit(**options)


ALONE = {
    "method": "pearson",
    "target": None,
    "interaction": None,
    "contrasts": {},
    "permutations": None,
    "precision": "single",
    "confidence": 0.95,
    "seed": None,
    "progress": None,
}
FACTS = {"block": None, "method": None, "n_blocks": 0, "residual_df": 8, "has_cells": True}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "kendall"}, "method"),
        ({"target": 3}, "target"),
        ({"interaction": 3}, "interaction"),
        ({"contrasts": "age"}, "contrasts"),
        ({"permutations": 20.5}, "permutations"),
        ({"permutations": True}, "permutations"),
        ({"precision": "half"}, "precision"),
        ({"confidence": 1.0}, "confidence"),
        ({"seed": "one"}, "seed"),
        ({"progress": "yes"}, "progress"),
    ],
)
def test_each_option_is_checked_alone(options, match):
    BetweenOptions(**ALONE)
    with pytest.raises(hc.InputError, match=match):
        BetweenOptions(**{**ALONE, **options})


@pytest.mark.parametrize(
    ("options", "facts", "match"),
    [
        ({"method": "voom"}, {}, "target="),
        ({}, {"block": "donor", "method": "cluster", "n_blocks": 5}, "target="),
        (
            {"method": "hc3", "target": "g"},
            {"block": "donor", "method": "cluster", "n_blocks": 5},
            "method='ols'",
        ),
        (
            {"method": "ols", "target": "g"},
            {"block": "donor", "method": "cluster", "n_blocks": 2},
            "fewer than 3",
        ),
        (
            {"method": "spearman"},
            {"block": "donor", "method": "correlation", "n_blocks": 4},
            "block_method='fixed'",
        ),
        ({"interaction": "arm"}, {}, "target="),
        (
            {"method": "ols", "target": "g", "interaction": "arm", "permutations": 99},
            {},
            "permutations",
        ),
        ({"permutations": 18}, {}, "at least 19"),
        ({"permutations": 19, "method": "hc3", "target": "g"}, {}, "permutations"),
        (
            {"permutations": 19},
            {"block": "donor", "method": "correlation", "n_blocks": 4},
            "block",
        ),
        ({"method": "corrected"}, {"has_cells": False}, "needs the cells"),
        ({"method": "corrected"}, {"residual_df": 2}, "3 residual degrees of freedom"),
        ({"method": "spearman", "contrasts": {"a": "age"}}, {}, "contrasts"),
    ],
)
def test_options_are_checked_against_the_model(options, facts, match):
    BetweenOptions(**ALONE).check(BlockFacts(**FACTS))
    with pytest.raises(hc.InputError, match=match):
        BetweenOptions(**{**ALONE, **options}).check(BlockFacts(**{**FACTS, **facts}))
