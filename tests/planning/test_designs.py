"""Quantities that reach a power, and the reliability of sums."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.planning.designs import reliability
from hiercorr.simulate import simulate_counts


@pytest.mark.sampled(7)
@pytest.mark.parametrize("question", ["within", "between", "differential"])
@pytest.mark.parametrize("solved", ["samples", "cells", "rho", "mean"])
def test_what_is_solved_reaches_the_power(question, solved):
    rho = 0.6 if question == "between" else 0.25
    given = {"samples": 16, "cells": 150, "mean": 0.8, "rho": rho}
    found = hc.power(question, **{**given, solved: None}, power=0.6)
    assert found.power >= 0.6 - 0.02
    value = getattr(found, solved)
    if solved in ("samples", "cells"):
        assert isinstance(value, int)
        assert hc.power(question, **{**given, solved: value - 1}).power < 0.6
    else:
        assert found.power == pytest.approx(
            0.6, abs=0.02
        )  # what a cell tells comes from a draw of counts


def test_heterogeneity_that_is_tolerated():
    found = hc.power(samples=10, cells=400, mean=1.0, rho=0.3, heterogeneity=None, power=0.8)
    assert 0 < found.heterogeneity < 0.5


def test_reliability_is_that_of_the_sums():
    base = hc.power("between", samples=400, cells=100, mean=0.5, rho=0.8)
    said = 0.8 * reliability(0.5, 0.8, base, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata, _ = simulate_counts(400, 100, 8, mean=0.5, between=0.8, depth_shift=0.0, seed=2)
        found = (
            hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm")
            .fit()
            .dataset["correlation"]
            .values
        )
    i = np.arange(0, 8, 2)
    assert said < 0.75
    assert found[i, i + 1].mean() == pytest.approx(said, abs=0.06)
    assert base.df == 398
