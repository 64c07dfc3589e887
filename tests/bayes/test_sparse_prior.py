"""Correlations of many pairs of which most are 0: the prior that is learnt from all."""

import itertools

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes import sparse_prior
from hiercorr.bayes.many import FINE
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")

SE = 0.1


def curves(truth, rng):
    """Normal likelihoods at one tau."""
    estimate = truth + SE * rng.standard_normal(len(truth))
    return (-0.5 * ((FINE - estimate[:, None]) / SE) ** 2)[:, None]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("kind", ["one size", "normal"])
def test_local_fdr_is_the_proportion_of_pairs_without_a_correlation(share, kind):
    rng = np.random.default_rng(7)
    n = 4000
    size = np.full(n, 0.4) if kind == "one size" else 0.4 * rng.standard_normal(n)
    truth = np.where(rng.random(n) < share, size, 0.0)
    log_likelihood = curves(truth, rng)
    prior = sparse_prior.learn(log_likelihood, FINE)
    found = sparse_prior.posterior(log_likelihood, prior)
    assert prior.null_share == pytest.approx(1 - share, abs=0.03 if kind == "one size" else 0.08)
    edges = [0, 0.2, 0.5, 0.8, 1.001]
    for low, high in itertools.pairwise(edges):
        some = (found.null >= low) & (found.null < high)
        if some.sum() >= 40:  # normal effects near 0 are none
            none = np.abs(truth[some]) < (1e-9 if kind == "one size" else 0.08)
            assert none.mean() == pytest.approx(found.null[some].mean(), abs=0.15)
    call = sparse_prior.averaged(found.null) < 0.05
    assert (truth[call] == 0).mean() < 0.07 if call.any() else share == 0
    np.testing.assert_allclose(found.tau, 1)


def test_heterogeneity_is_learnt_with_the_correlations():
    """Curves at two taus: estimates that differ between samples are no correlations."""
    rng = np.random.default_rng(3)
    n, taus = 1000, np.array([0.0, 0.3])
    truth = np.where(rng.random(n) < 0.1, 0.8, 0.0)
    z = truth + 0.3 / np.sqrt(6) * rng.standard_normal(n) + SE * rng.standard_normal(n)
    variance = SE**2 + taus**2 / 6
    both = -0.5 * (FINE - z[:, None, None]) ** 2 / variance[:, None] - 0.5 * np.log(
        variance[:, None]
    )
    prior = sparse_prior.learn(both, FINE)
    assert prior.weight[1].sum() > 0.7
    call = sparse_prior.averaged(sparse_prior.posterior(both, prior).null) < 0.05
    assert (truth[call] == 0).mean() < 0.08
    assert (truth[call] > 0).sum() > 0.8 * (truth > 0).sum()


@pytest.fixture(scope="module")
def star():
    adata, _ = simulate_counts(5, 150, 66, mean=2.0, within=0.0, seed=8)
    other, _ = simulate_counts(5, 150, 66, mean=2.0, within=0.6, seed=8)
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    y = other.X.toarray() if hasattr(other.X, "toarray") else np.asarray(other.X)
    x[:, :5] = y[:, :5]
    adata.X = x
    return hc.BayesianCorrelation(adata, "sample", depth="depth")


def test_fit_many_finds_the_correlated_partners(star):
    r = star.fit_many("gene0", shrink="sparse", seed=1, progress=False)
    d = r.dataset.isel(target=0)
    q = d["bayesian_fdr"].values
    called = set(np.flatnonzero(q < 0.05))
    assert called <= {1, 2, 3, 4}
    assert len(called) >= 3
    assert np.isnan(q[0])
    assert (d["local_fdr"].values[5:] > 0.5).mean() > 0.95
    assert np.abs(d["correlation"].values[5:]).max() < 0.2
    assert np.median(d["probability_of_direction"].values[5:]) < 0.5  # mostly neither
    assert r.dataset.attrs["shrinkage"] == "sparse"
    assert r.dataset.attrs["null_share"] == pytest.approx(61 / 65, abs=0.1)
    assert "of the pairs" in r.dataset.attrs["prior_z_within"]
    assert "local_fdr" in r.to_frame().columns


def test_results_are_kept_on_disk(star, tmp_path):
    r = star.fit_many("gene0", shrink="sparse", seed=1, progress=False)
    r.save(tmp_path / "r.nc")
    again = hc.load(tmp_path / "r.nc")
    np.testing.assert_array_equal(again.dataset["local_fdr"].values, r.dataset["local_fdr"].values)


def test_too_few_partners_and_unknown_options(star):
    with pytest.raises(hc.InputError, match="4 partners: too few to learn from"):
        star.fit_many("gene0", ["gene1", "gene2", "gene3", "gene4"], shrink="sparse")
    with pytest.raises(hc.InputError, match="shrink"):
        star.fit_many("gene0", shrink="horseshoe")
