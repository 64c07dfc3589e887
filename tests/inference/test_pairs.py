"""Tests and intervals of pairs against scipy's t distribution; bootstrap draws."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from hiercorr import inference
from hiercorr.inference import pairs


@pytest.mark.parametrize("most", [1.0, 2.0, 19.0, 499.0])
def test_pair_table_equals_scipy_for_any_df(most):
    rng = np.random.default_rng(2)
    shape = (300, 200)
    df = np.exp(rng.uniform(np.log(pairs.LEAST_DF), np.log(most), shape))
    df[0], df[1, 0], df[1, 1] = most, pairs.LEAST_DF, pairs.LEAST_DF * 0.99
    rho, se = rng.normal(0, 0.6, shape), np.exp(rng.normal(-2, 1.5, shape))
    rho[2, :3], se[2, 3] = (1.2, -1.0, np.nan), np.nan
    zeros = np.zeros(shape, np.int32)
    out = inference.pair_table(inference.PairEstimate(rho, se, df, zeros, zeros, zeros), 0.9)
    inside = np.where(np.abs(rho) < 1, rho, np.nan)
    np.testing.assert_allclose(out["fisher_z"], np.arctanh(inside), rtol=1e-12)
    nothing = np.isnan(rho) | np.isnan(se) | (df < pairs.LEAST_DF)
    np.testing.assert_allclose(
        out["fisher_z_se"], np.where(nothing, np.nan, se / (1 - inside**2)), rtol=1e-9
    )
    np.testing.assert_array_equal(out["se"], np.where(nothing, np.nan, se))
    np.testing.assert_allclose(out["statistic"], rho / out["se"], rtol=1e-12)
    t = np.where(nothing, np.nan, rho / se)
    np.testing.assert_allclose(out["p_value"], 2 * stats.t.sf(np.abs(t), df), rtol=2e-6, atol=1e-60)
    margin = stats.t.ppf(0.95, df) * se
    low, high = np.maximum(rho - margin, -1), np.minimum(rho + margin, 1)
    assert (low > high).any()  # an estimate far beyond 1 leaves nothing of the interval
    for name, value in (("ci_lower", low), ("ci_upper", high)):
        np.testing.assert_allclose(
            out[name], np.where(nothing | (low >= high), np.nan, value), rtol=1e-5, atol=2e-6
        )
    for name, value in (("statistic", t), ("df", df)):
        np.testing.assert_allclose(out[name], np.where(nothing, np.nan, value), rtol=1e-12)


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster"])
def test_standard_errors_of_many_pairs_are_the_stated_sums(uncertainty):
    """Against the documented equations, with more columns than the loops take at once."""
    rng = np.random.default_rng(3)
    k, n, m = 6, 3, 600
    den = rng.uniform(5, 200, (k, n, m))
    num = 0.3 * den + rng.normal(0, 1, den.shape) * np.sqrt(den)
    gene_den = rng.uniform(50, 200, (n, k)), rng.uniform(50, 200, (m, k))
    gene_num = tuple(d * rng.uniform(0.5, 1.5, d.shape) for d in gene_den)
    noise = np.full(n, 2.0), np.full(m, 2.0)
    found = pairs.pair_estimate(num, den, gene_num, gene_den, uncertainty, noise)
    phi = [a.sum(1) / d.sum(1) for a, d in zip(gene_num, gene_den, strict=True)]
    scale = 1 / np.sqrt(np.outer(*phi))
    rho = num.sum(0) / den.sum(0) * scale
    influence = [
        ((a - p[:, None] * d) / (p * d.sum(1))[:, None]).T
        for a, d, p in zip(gene_num, gene_den, phi, strict=True)
    ]
    x = (num - num.sum(0) / den.sum(0) * den) * scale / den.sum(0)
    x -= rho / 2 * (influence[0][:, :, None] + influence[1][:, None])
    share = [
        pairs.variance_shares(a, d, v) for a, d, v in zip(gene_num, gene_den, noise, strict=True)
    ]
    b = (share[0][:, :, None] + share[1][:, None]) / 2
    if uncertainty == "jackknife":
        variance = (k - 1) / k * ((x / (1 - b) - (x / (1 - b)).mean(0)) ** 2).sum(0)
    else:
        variance = (x**2 / (1 - b)).sum(0)
    np.testing.assert_allclose(found.correlation, rho, rtol=1e-12)
    np.testing.assert_allclose(found.se, np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(found.df, 1 / (b**2).sum(0) - 1, rtol=1e-9)
    np.testing.assert_allclose(found.largest_share, den.max(0) / den.sum(0), rtol=1e-6)
    assert (found.carrying == k).all()
    assert not found.weights_matter.any()  # not asked for


def test_bootstrap_draws():
    draws = inference.bootstrap_draws(3, 500, 1)
    assert (draws.sum(1) == 3).all()
    assert draws.max() < 3
    np.testing.assert_array_equal(
        draws, inference.bootstrap_draws(3, 500, np.random.default_rng(1))
    )


def test_weights_matter_is_the_weighted_regression_on_inverse_information():
    rng = np.random.default_rng(5)
    k, pairs_of = 7, 400
    den = rng.uniform(5, 200, (k, 1, pairs_of))
    den[2, 0, :50] = 0.0  # a donor without the pair
    num = (0.3 + 0.4 * (den < 60)) * den + rng.normal(0, 1, den.shape) * np.sqrt(den)
    num[den == 0] = 0.0
    gene = np.ones((1, k)), np.ones((pairs_of, k))
    noise = np.ones(1), np.ones(pairs_of)
    found = pairs.pair_estimate(
        num, den, gene, gene, "jackknife", noise, None, True
    ).weights_matter[0]
    p = np.ones(pairs_of)
    for j in range(pairs_of):
        n, d = num[:, 0, j], den[:, 0, j]
        at = d > 0
        x = sm.add_constant(1 / d[at])
        p[j] = sm.WLS(n[at] / d[at], x, weights=d[at]).fit().pvalues[1]
    assert 20 < found.sum() < pairs_of
    np.testing.assert_array_equal(found, p < 0.01)


def test_equal_information_leaves_no_question_of_weights():
    rng = np.random.default_rng(6)
    den = np.full((5, 20, 30), 40.0)
    den *= 1 + 1e-7 * rng.normal(size=den.shape)
    num = rng.normal(0, 3, den.shape)
    gene = np.ones((20, 5)), np.ones((30, 5))
    noise = np.ones(20), np.ones(30)
    assert not pairs.pair_estimate(
        num, den, gene, gene, "jackknife", noise, None, True
    ).weights_matter.any()
