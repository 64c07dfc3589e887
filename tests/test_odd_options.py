"""Options with values that a type check would let through: through every door, an InputError."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data():
    made, _ = simulate_counts(6, 30, 5, mean=4, within=0.4, seed=3)
    made.obs["arm"] = np.where(pd.factorize(made.obs["sample"])[0] % 2, "b", "a")
    return made


def within(d, **o):
    return hc.CSCore(d, "sample", **{"depth": "depth", **o})


def between(d, **o):
    return hc.Pseudobulk(d, "sample", formula="~ arm", **{"depth": "depth", **o})


def difference(d, **o):
    return hc.differential(d, "sample", "arm", **{"depth": "depth", **o})


NUMBERS = {
    "min_cells": (
        [lambda d, v: within(d, min_cells=v), lambda d, v: between(d, min_cells=v)],
        [np.nan, -5, 10.5, True, "3", [10], {10}],
    ),
    "seed": (
        [
            lambda d, v: within(d).fit(uncertainty="bootstrap", n_bootstrap=20, seed=v),
            lambda d, v: between(d).fit(target="gene1", permutations=20, seed=v),
            lambda d, v: difference(d, permutations=20, seed=v),
        ],
        [-1, "a", 1.5, True, [1], {1}, np.nan],
    ),
    "n_bootstrap": (
        [lambda d, v: within(d).fit(uncertainty="bootstrap", n_bootstrap=v)],
        [10**11, 0, -1, 99.5, "a", True, {5}],
    ),
    "permutations": (
        [
            lambda d, v: between(d).fit(target="gene1", permutations=v),
            lambda d, v: difference(d, permutations=v),
            lambda d, v: hc.traps(d, "sample", "gene1", depth="depth", permutations=v),
        ],
        [10**11, 0, -1, 99.5, "a", True, {5}],
    ),
    "memory_limit": (
        [lambda d, v: within(d, memory_limit=v)],
        [np.inf, np.nan, -1, "x", {1}, "inf", "1e400GB", True, 0],
    ),
}


@pytest.mark.parametrize("option", NUMBERS)
def test_numbers(data, option):
    doors, values = NUMBERS[option]
    for door in doors:
        for value in values:
            with pytest.raises(hc.InputError, match=option):
                door(data, value)


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"arm": ["a"]}),
        {"a": 1},
        [["a"]],
        [],
        pd.Series([True] * 180),
    ],
    ids=["table", "mapping", "nested", "empty", "mask"],
)
@pytest.mark.parametrize("door", [within, between])
def test_values_of_a_subset(data, door, value):
    with pytest.raises(hc.InputError, match=r"subset|obs column"):
        door(data, subset={"arm": value})


def test_sets_of_genes_have_one_order(data):
    found = within(data, genes={"gene3", "gene0", "gene2"}).counts.genes
    assert list(found) == ["gene0", "gene2", "gene3"]


CONTRASTS = {
    "the name of a coefficient": ({"arm[T.b]": ("arm", "a", "b")}, "has the name of a coefficient"),
    "the intercept": ({"Intercept": "Intercept"}, "has the name of a coefficient"),
    "a level and itself": ({"x": ("arm", "a", "a")}, "compares a level with itself"),
    "nothing": ({"x": "arm[T.b] - arm[T.b]"}, "is 0 for all coefficients"),
}


@pytest.mark.parametrize("kind", CONTRASTS)
def test_contrasts(data, kind):
    contrasts, message = CONTRASTS[kind]
    with pytest.raises(hc.InputError, match=message):
        between(data).fit(target="gene1", contrasts=contrasts)
    contrast = next(iter(contrasts.values()))
    if "coefficient:" not in message and kind in ("a level and itself", "nothing"):
        with pytest.raises(hc.InputError, match=message):
            difference(data, contrast=contrast)
