"""The likelihood of cells with jointly normal log rates, against independent integration."""

import itertools

import numpy as np
import pytest
from scipy import optimize, special, stats

from hiercorr.kernels.likelihood import fill_log_likelihood


def computed(x, covariance, mean, depth=None, sample=None, of_sample=None):
    x = np.atleast_2d(np.asarray(x, float))
    n, g = x.shape
    depth = np.ones(n) if depth is None else depth
    sample = np.zeros(n, np.int64) if sample is None else sample
    covariance = np.broadcast_to(covariance, (1, *np.shape(covariance)[-3:]))
    covariance = np.ascontiguousarray(covariance.reshape(1, -1, g, g), float)
    mean = np.ascontiguousarray(np.reshape(mean, (1, -1, g)), float)
    of_sample = np.zeros(mean.shape[1], np.int64) if of_sample is None else of_sample
    out = np.empty((1, n))
    fill_log_likelihood(0, n, x, depth, sample, mean, covariance, of_sample, out)
    return out[0] - special.gammaln(x + 1).sum(1)


def mode(x, rate, omega):
    def value(w):
        return rate @ np.exp(w) - x @ w + 0.5 * w @ omega @ w

    def slope(w):
        return rate * np.exp(w) - x + omega @ w

    start = np.linalg.solve(omega + np.diag(x + 1), x - rate)
    found = optimize.minimize(value, start, jac=slope, method="BFGS", options={"gtol": 1e-6}).x
    return found, np.linalg.inv(omega + np.diag(rate * np.exp(found)))


def by_points(x, rate, covariance):
    """The integral over two log rates, by points 0.1 sd apart around the mode."""
    omega = np.linalg.inv(covariance)
    at, of_mode = mode(x, rate, omega)
    root, t = np.linalg.cholesky(of_mode), np.arange(-16, 16, 0.1)
    w = at[:, None, None] + np.einsum("ij,jab->iab", root, np.stack(np.meshgrid(t, t)))
    value = -0.5 * np.einsum("iab,ij,jab->ab", w, omega, w)
    value += sum(stats.poisson.logpmf(x[j], rate[j] * np.exp(w[j])) for j in (0, 1))
    inside = special.logsumexp(value) + 2 * np.log(0.1) + np.log(np.diag(root)).sum()
    return inside - np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(covariance)[1]


CASES = list(itertools.product([0.05, 1, 20, 2000], [0.3, 0.8, 1.6], [0.0, 0.6, -0.9, 0.99]))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("size", "sd", "rho"), CASES)
def test_two_genes_by_quadrature(size, sd, rho):
    rng = np.random.default_rng(int(1000 * size + 100 * sd + 10 * abs(rho)))
    covariance = sd**2 * np.array([[1, rho], [rho, 1]])
    for ratio in (0.1, 5.0):
        rate = size * np.array([1, ratio])
        w = np.linalg.cholesky(covariance) @ rng.standard_normal(2)
        x = rng.poisson(rate * np.exp(w)).astype(float)
        found = computed(x, covariance, np.log(rate))[0]
        assert found == pytest.approx(by_points(x, rate, covariance), abs=2e-3)


@pytest.mark.parametrize(("size", "sd"), [(0.3, 0.8), (0.3, 1.5), (5.0, 1.0)])
def test_five_genes_by_importance_sampling(size, sd):
    rng = np.random.default_rng(3)
    loading = rng.standard_normal((5, 2))
    covariance = loading @ loading.T + 0.3 * np.eye(5)
    scale = sd / np.sqrt(np.diag(covariance))
    covariance = covariance * scale * scale[:, None]
    rate = size * np.exp(rng.standard_normal(5))
    x = rng.poisson(rate * np.exp(np.linalg.cholesky(covariance) @ rng.standard_normal(5)))
    omega = np.linalg.inv(covariance)
    at, of_mode = mode(x.astype(float), rate, omega)
    proposal = stats.multivariate_t(at, 1.4 * of_mode, df=8, seed=0)
    w = proposal.rvs(200_000)
    log_weight = stats.multivariate_normal(cov=covariance).logpdf(w) - proposal.logpdf(w)
    log_weight += stats.poisson.logpmf(x, rate * np.exp(w)).sum(1)
    wanted = special.logsumexp(log_weight) - np.log(len(w))
    weight = np.exp(log_weight - wanted)
    error = weight.std() / np.sqrt(len(w))
    assert error < 5e-3
    assert computed(x, covariance, np.log(rate))[0] == pytest.approx(wanted, abs=4 * error)


@pytest.mark.parametrize(
    ("n_genes", "rho", "error"), [(5, 0.97, 2e-3), (20, 0.6, 2e-3), (20, 0.97, 8e-3)]
)
@pytest.mark.parametrize("size", [0.05, 2.0])
def test_equal_correlations_by_quadrature(n_genes, rho, error, size):
    """One factor that all genes share, and one of each gene."""
    rng, sd = np.random.default_rng(n_genes), 1.6
    rate, t = size * np.exp(0.3 * rng.standard_normal(n_genes)), np.arange(-7, 7, 0.05)
    own = sd * (
        np.sqrt(rho) * rng.standard_normal() + np.sqrt(1 - rho) * rng.standard_normal(n_genes)
    )
    density = 0.05 * stats.norm.pdf(t)
    w = sd * (np.sqrt(rho) * t[:, None] + np.sqrt(1 - rho) * t)
    for x in (np.zeros(n_genes, int), rng.poisson(rate * np.exp(own))):
        each = [stats.poisson.pmf(k, r * np.exp(w)) @ density for k, r in zip(x, rate, strict=True)]
        wanted = np.log(np.prod(each, axis=0) @ density)
        covariance = sd**2 * ((1 - rho) * np.eye(n_genes) + rho)
        assert computed(x, covariance, np.log(rate))[0] == pytest.approx(wanted, abs=error)


def test_uncorrelated_genes_are_a_product():
    """Each factor by quadrature; depths, samples and their matrices are those of the cell."""
    rng = np.random.default_rng(0)
    x, depth = rng.poisson(2.0, (6, 4)), np.array([0.3, 1, 2, 0.5, 1.5, 3])
    sample, of_sample = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 0, 1])
    mean, sd = rng.normal(0.5, 0.5, (3, 4)), np.array([[0.3, 0.6, 1.0, 1.4], [1.2, 0.2, 0.7, 0.5]])
    covariance = np.stack([np.diag(v**2) for v in sd])
    found = computed(x, covariance, mean, depth, sample, of_sample)
    t = np.arange(-9, 9, 0.01)
    for i in range(6):
        k, total = sample[i], 0.0
        for j in range(4):
            of_cell = sd[of_sample[k], j] * t
            rate = depth[i] * np.exp(mean[k, j] + of_cell)
            density = stats.poisson.pmf(x[i, j], rate) * stats.norm.pdf(t)
            total += np.log(density.sum() * 0.01)
        assert found[i] == pytest.approx(total, abs=1e-5)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("n_genes", [2, 20])
@pytest.mark.parametrize("sd", [1e-3, 0.5, 4.0])
@pytest.mark.parametrize("rho", [0.0, 0.9999])
def test_extreme_counts_converge(n_genes, sd, rho):
    covariance = sd**2 * ((1 - rho) * np.eye(n_genes) + rho)
    for size, x in ((1e-6, 0), (1e-3, 3), (1.0, 0), (1.0, 200), (1e6, 1_000_000), (1e6, 2_000_000)):
        counts = np.full(n_genes, x)
        found = computed(counts, covariance, np.full(n_genes, np.log(size)))[0]
        assert np.isfinite(found)
        assert found < 0.01  # the correction to second order is not a bound
