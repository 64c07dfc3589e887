"""Slopes of log expression on log depth, from sums over cells."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse

from hiercorr import moments
from tests.support import read_counts

SAMPLES, CELLS, GENES = 6, 200, 60


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(6)
    return np.where(np.arange(GENES) < 30, 0.0, rng.normal(0, 0.5, GENES))


@pytest.fixture(scope="module")
def counts(truth):
    rng = np.random.default_rng(7)
    n = SAMPLES * CELLS
    depth = np.exp(rng.normal(0, 0.5, n))
    mean = np.exp(rng.normal(0, 1, GENES))
    x = rng.poisson(depth[:, None] ** (1 + truth) * mean * rng.gamma(2, 0.5, (n, GENES)))
    obs = pd.DataFrame(
        {"sample": np.repeat([f"s{k}" for k in range(SAMPLES)], CELLS), "depth": 1000 * depth},
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=[f"g{j}" for j in range(GENES)])
    adata = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var)
    return read_counts(adata, sample="sample", depth="depth")


@pytest.fixture(scope="module")
def fitted(counts):
    sums = moments.sums_of(counts, 1e-12)
    return sums, moments.within_moments(sums)


def test_slopes_solve_the_equations_of_each_sample(counts, fitted):
    sums, fit = fitted
    x = counts.toarray()
    found = moments.depth_dependence(sums.take(np.array([5, 40])), fit.take(np.array([5, 40])))
    for k, j in enumerate((5, 40)):
        slopes, weights = [], []
        for c in range(SAMPLES):
            cells = slice(counts.starts[c], counts.starts[c + 1])
            s, y, log = sums.depth[cells], x[cells, j], np.log(sums.depth[cells])
            w = 1 / (1 + s * fit.slope[j, c])

            def equations(t, s=s, y=y, log=log, w=w):
                rest = w * (y - np.exp(t[0]) * s ** (1 + t[1]))
                return [rest.sum(), (rest * log).sum()]

            a, b = optimize.fsolve(equations, [np.log(fit.mu[j, c]), 0.0], xtol=1e-12)
            m = w * np.exp(a) * s ** (1 + b)
            slopes.append(b)
            weights.append((m * log**2).sum() - (m * log).sum() ** 2 / m.sum())
        assert found.slope[k] == pytest.approx(np.average(slopes, weights=weights), rel=1e-5)


def test_slopes_are_those_of_the_simulation(truth, fitted):
    found = moments.depth_dependence(*fitted)
    error = (found.slope - truth) / found.se
    assert abs(error.mean()) < 0.5
    assert 0.8 < np.median(np.abs(found.slope - truth)) / (0.6745 * np.median(found.se)) < 1.5
    assert (found.p_value[:30] < 0.05).mean() < 0.2
    assert (found.p_value[30:] < 0.05).mean() > 0.5
    assert found.spread[0] == pytest.approx(0.25, rel=0.2)


def test_share_of_the_variance(truth, fitted):
    sums, fit = fitted
    share = moments.depth_dependence(sums, fit).share(fit.variance)
    expected = truth**2 * 0.25 / (0.5 * np.exp(truth**2 * 0.25))
    assert np.median(share[:30]) < 0.02
    strong = np.abs(truth) > 0.5
    assert 0.5 < np.median(share[strong] / expected[strong]) < 1.5


def test_donors_are_the_units(fitted):
    sums, fit = fitted
    units = np.array([0, 0, 1, 1, 2, 2])
    found, alone = moments.depth_dependence(sums, fit, units), moments.depth_dependence(sums, fit)
    np.testing.assert_allclose(found.slope, alone.slope)
    assert not np.allclose(found.se, alone.se)
    two = moments.depth_dependence(sums, fit, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isnan(two.p_value).all()
    assert (two.beyond_noise() == 0).all()


def test_one_depth_has_no_slope():
    rng = np.random.default_rng(8)
    obs = pd.DataFrame(
        {"sample": np.repeat(list("abc"), 50), "depth": 1000.0}, index=[f"c{i}" for i in range(150)]
    )
    x = rng.poisson(2 * rng.gamma(2, 0.5, (150, 4))).astype(np.float32)
    counts = read_counts(ad.AnnData(x, obs=obs), sample="sample", depth="depth")
    sums = moments.sums_of(counts, 1e-12)
    found = moments.depth_dependence(sums, moments.within_moments(sums))
    assert np.isnan(found.slope).all()
    assert np.isnan(found.p_value).all()
