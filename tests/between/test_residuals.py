"""Partial and Spearman correlations against statsmodels and scipy."""

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from hiercorr.between import residuals
from tests.between.support import DESIGN, Y, spearman_over_all_orders

RNG = np.random.default_rng(3)


def test_partial_correlation_and_its_table():
    fitted = residuals.residuals(Y, DESIGN)
    r = fitted.unit.T @ fitted.unit
    found = residuals.t_table(r, fitted.df - 1, 0.9, np.float64)
    for j, k in itertools.combinations(range(5), 2):
        expected = sm.OLS(Y[:, j], np.column_stack([DESIGN, Y[:, k]])).fit()
        assert found["statistic"][j, k] == pytest.approx(expected.tvalues[-1], rel=1e-9)
        assert found["p_value"][j, k] == pytest.approx(expected.pvalues[-1], rel=1e-6)
    spread = 1 / np.sqrt(fitted.df - 2)
    np.testing.assert_allclose(found["se"], (1 - r**2) * found["fisher_z_se"])
    off = ~np.eye(len(r), dtype=bool)
    np.testing.assert_allclose(found["fisher_z_se"][off], spread)
    one = stats.pearsonr(Y[:, 0], Y[:, 1])
    plain = residuals.residuals(Y, np.ones((12, 1)))
    found = residuals.t_table(plain.unit.T @ plain.unit, 10, 0.95, np.float64)
    assert found["p_value"][0, 1] == pytest.approx(one.pvalue, rel=1e-6)
    interval = one.confidence_interval(0.95)  # Fisher's, with a normal quantile
    assert (found["ci_lower"][0, 1], found["ci_upper"][0, 1]) == pytest.approx(interval, abs=0.01)
    tiny = residuals.t_table(np.array([[1 - 1e-9]]), 98, 0.95, np.float64)["p_value"]
    assert 0 < tiny[0, 0] < 1e-300


@pytest.mark.parametrize("n", [3, 5, 7, 9, 14])
def test_spearman(n):
    y = RNG.normal(size=(n, 3))
    fitted = residuals.residuals(stats.rankdata(y, axis=0), np.ones((n, 1)))
    r = fitted.unit.T @ fitted.unit
    found = residuals.spearman_table(r, n - 2, False, 0.95, np.float64)
    for j, k in ((0, 1), (0, 2), (1, 2)):
        expected = stats.spearmanr(y[:, j], y[:, k])
        assert r[j, k] == pytest.approx(expected.statistic)
        if n <= 7:  # all orders, by scipy
            shown = spearman_over_all_orders(y[:, j], y[:, k])
            assert found["p_value"][j, k] == pytest.approx(shown)
        elif n == 9:
            assert found["p_value"][j, k] == pytest.approx(expected.pvalue, abs=0.02)
        else:
            assert found["p_value"][j, k] == pytest.approx(expected.pvalue, rel=1e-6)
    assert np.nanmin(found["p_value"]) >= 2 / np.prod(np.arange(1.0, n + 1)) - 1e-12


def test_constant_gene_has_no_residuals():
    y = np.column_stack([np.full(12, 1e6), Y[:, 0]])
    assert residuals.residuals(y, DESIGN).constant.tolist() == [True, False]
    z = np.column_stack([DESIGN @ [3, 2, 1], Y[:, 0]])
    assert residuals.residuals(z, DESIGN).constant.tolist() == [True, False]


@pytest.mark.parametrize("n", [3, 4, 6, 12])
def test_interval_covers(n):
    rng = np.random.default_rng(n)
    for rho in (0.0, 0.8):
        x = rng.normal(size=(n, 20000))
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
        x, y = (v - v.mean(0) for v in (x, y))
        r = (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))
        found = residuals.t_table(r[None], n - 2, 0.95, np.float64)
        covered = np.mean((found["ci_lower"] < rho) & (rho < found["ci_upper"]))
        assert covered == pytest.approx(0.951, abs=0.007)
