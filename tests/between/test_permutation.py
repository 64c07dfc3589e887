"""Permutation tests: exact ones by brute force, Freedman-Lane by hand, seeds."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import hiercorr as hc
from hiercorr.between import residuals
from hiercorr.between.permutation import freedman_lane_p
from hiercorr.design.permutation import arrangements
from tests.between.support import BLOCKS, DESIGN, Y, model, pseudobulk

RNG = np.random.default_rng(3)


def test_permutation_is_exact_and_never_zero():
    y = RNG.normal(size=(5, 3))
    y[:, 1] = y[:, 0] + 0.01 * y[:, 1]
    fitted = residuals.residuals(y, np.ones((5, 1)))
    r = fitted.unit.T @ fitted.unit
    chosen = arrangements(5, 1000, None, None)
    assert (chosen.exact, chosen.possible) == (True, 120)
    assert chosen.smallest_p == pytest.approx(1 / 120)
    p = freedman_lane_p(fitted.unit, fitted.unit, fitted, chosen, r)
    for j, k in ((0, 1), (0, 2), (1, 2)):
        sizes = [
            abs(np.corrcoef(y[list(o), j], y[:, k])[0, 1]) for o in itertools.permutations(range(5))
        ]
        assert p[j, k] == pytest.approx(np.mean(np.array(sizes) >= abs(r[j, k]) - 1e-9))
    drawn = arrangements(12, 99, None, 1)
    assert (drawn.exact, drawn.smallest_p) == (False, 0.01)
    fitted = residuals.residuals(np.column_stack([Y[:, 0], Y[:, 0] + 1e-6 * Y[:, 1]]), DESIGN)
    r = fitted.unit.T @ fitted.unit
    assert freedman_lane_p(fitted.unit, fitted.unit, fitted, drawn, r)[0, 1] == pytest.approx(0.01)


def test_freedman_lane_by_hand():
    chosen = arrangements(12, 199, BLOCKS, 5)
    assert all((BLOCKS[o] == BLOCKS).all() for o in chosen.orders)
    fitted = residuals.residuals(Y, DESIGN)
    r = fitted.unit.T @ fitted.unit
    p = freedman_lane_p(fitted.unit[:, :1], fitted.unit[:, 1:2], fitted, chosen, r[:1, 1:2])[0, 0]
    reduced = sm.OLS(Y[:, 0], DESIGN).fit()
    full = np.column_stack([DESIGN, Y[:, 1]])
    observed = abs(sm.OLS(Y[:, 0], full).fit().tvalues[-1])
    t = [
        abs(sm.OLS(reduced.fittedvalues + reduced.resid[o], full).fit().tvalues[-1])
        for o in chosen.orders
    ]
    assert p == pytest.approx((1 + np.sum(np.array(t) >= observed - 1e-9)) / 200)


def test_exact_says_how_small(gbm):
    m = model(gbm, subset={"condition": "ctrl"})
    r = m.fit(permutations=1000, target="FTL")
    assert r.dataset.attrs["uncertainty"] == "exact permutation, 120 arrangements"
    assert r.dataset.attrs["smallest_p_value"] == pytest.approx(1 / 120)
    assert float(r.dataset["p_value"].min()) >= 1 / 120


def test_monte_carlo_is_repeatable_and_near_t(eight):
    m = pseudobulk(eight[0], formula="~ batch")
    one, two = (m.fit(permutations=2000, seed=3).matrix("p_value") for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    off = ~np.eye(12, dtype=bool)
    assert np.nanmin(one.values[off]) >= 1 / 2001
    assert np.abs(one.values - m.fit().matrix("p_value").values)[off].mean() < 0.05
    np.testing.assert_array_equal(one.values, one.values.T)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"permutations": 5}, "at least 19"),
        ({"permutations": 99, "method": "corrected"}, "permutations= requires"),
    ],
)
def test_bad(eight, options, match):
    with pytest.raises(hc.InputError, match=match):
        pseudobulk(eight[0]).fit(**options)
