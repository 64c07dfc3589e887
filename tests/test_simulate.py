"""Simulated counts: their moments against the truth that is returned, and refusals."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import natural_correlation, simulate_counts


@pytest.mark.parametrize("distribution", ["lognormal", "gamma"])
def test_simulated_moments_are_the_truth(distribution):
    adata, truth = simulate_counts(
        2,
        40_000,
        4,
        mean=[2, 5, 0.5, 1],
        within=0.5,
        within_sd=0.6,
        distribution=distribution,
        depth_sd=0.2,
        seed=1,
    )
    code = adata.obs["sample"].cat.codes.to_numpy() == 0
    x, s = adata.X.toarray()[code].astype(float), adata.obs["depth"].to_numpy()[code] / 10_000
    mu = (x / s[:, None]).mean(0)
    np.testing.assert_allclose(mu, truth["mu"][0], rtol=0.05)
    r = x - np.outer(s, mu)
    weight = (s**2).sum()
    variance = ((r**2 - x) * 1.0).sum(0) / weight
    np.testing.assert_allclose(variance / mu**2, truth["overdispersion"], rtol=0.15)
    covariance = (r[:, 0] * r[:, 1]).sum() / weight
    assert covariance / np.sqrt(variance[0] * variance[1]) == pytest.approx(
        float(truth["within"][0, 1]), abs=0.06
    )
    assert float(truth["within"][0, 1]) == pytest.approx(0.5, abs=1e-3)
    assert float(truth["within"][0, 2]) == 0


def test_simulated_between_heterogeneity_covariates():
    matrix = 0.3 * np.ones((4, 4)) + 0.7 * np.eye(4)
    adata, truth = simulate_counts(
        400,
        2,
        4,
        mean=3,
        within=matrix,
        between=0.8,
        heterogeneity=0.2,
        cell_imbalance=0.5,
        covariates={
            "arm": (np.tile(["a", "b"], 200), [1.0, 0, 0, 0]),
            "age": (np.arange(400.0), 0.0),
        },
        seed=2,
    )
    log_mu = np.log(truth["mu"].values)
    arm = np.tile([0, 1], 200)
    assert log_mu[arm == 1, 0].mean() - log_mu[arm == 0, 0].mean() == pytest.approx(1, abs=0.15)
    assert np.corrcoef(log_mu[:, 2], log_mu[:, 3])[0, 1] == pytest.approx(0.8, abs=0.06)
    assert truth["sample_within"].values[:, 0, 1].std() > 0.1
    assert {"arm", "age"} <= set(adata.obs)
    again, _ = simulate_counts(3, 20, 4, seed=9)
    same, _ = simulate_counts(3, 20, 4, seed=np.random.default_rng(9))
    assert (again.X != same.X).nnz == 0


def test_natural_correlation():
    rng = np.random.default_rng(0)
    g = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 400_000)
    assert np.corrcoef(np.exp(0.5 * g).T)[0, 1] == pytest.approx(
        float(natural_correlation(0.5, 0.5, 0.5)), abs=0.01
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"within": 1.0}, "between -1 and 1"),
        ({"within": -0.9}, "out of reach"),
        ({"distribution": "normal"}, "distribution must be one of"),
        ({"n_genes": 1}, "n_genes must be a whole number of at least 2"),
        ({"mean": [1, 2]}, "mean needs one number or 40"),
        ({"mean": 0.0}, "positive"),
        ({"n_cells": [5, 5]}, "8 positive numbers"),
        ({"between": np.ones((2, 2))}, "symmetric 40 x 40"),
        (
            {"n_genes": 3, "within": np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])},
            "positive semi-definite",
        ),
        ({"covariates": {"age": ([1, 2], 0.1)}}, "8 values"),
    ],
)
def test_simulation_refuses(options, text):
    with pytest.raises(hc.InputError, match=text):
        simulate_counts(**options)


def test_simulated_donors_share_their_level():
    adata, truth = simulate_counts(
        200, 2, 4, donor=np.repeat(np.arange(100), 2), donor_share=0.8, seed=1
    )
    level = np.log(truth["mu"].values)
    assert np.corrcoef(level[::2, 0], level[1::2, 0])[0, 1] == pytest.approx(0.8, abs=0.1)
    assert adata.obs["donor"].nunique() == 100
    with pytest.raises(hc.InputError, match="donor needs 3 names"):
        simulate_counts(3, 5, 2, donor=["a"])


@pytest.mark.parametrize("mean", [10**30, 1e12])
def test_counts_that_do_not_exist_are_refused(mean):
    with pytest.raises(hc.InputError, match="expected counts of up to"):
        hc.simulate.simulate_counts(3, 20, 2, mean=mean, seed=0)
