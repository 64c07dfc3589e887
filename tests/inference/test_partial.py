"""Partial correlations from sums: against plain loops, statsmodels and known precision matrices."""

import numpy as np
import pytest
from statsmodels.stats.correlation_tools import corr_clipped

from hiercorr.inference import partial


@pytest.fixture
def sums():
    """N and D of 5 donors whose covariance has a known sparse precision matrix."""
    rng = np.random.default_rng(1)
    p = 6
    precision = np.eye(p) + 0.4 * (np.eye(p, k=1) + np.eye(p, k=-1))
    covariance = 0.5 * np.linalg.inv(precision)
    den = rng.uniform(50, 200, (5, p, p))
    den = (den + den.transpose(0, 2, 1)) / 2
    noise = rng.normal(0, 0.05, (5, p, p))
    return den * (covariance + (noise + noise.transpose(0, 2, 1)) / 2), den


def test_positive_definite_as_in_statsmodels():
    rng = np.random.default_rng(2)
    r = rng.uniform(-1, 1, (3, 8, 8))
    r = (r + r.transpose(0, 2, 1)) / 2
    r[:, np.arange(8), np.arange(8)] = 1
    r[2] = np.eye(8)  # nothing to do
    found = partial.positive_definite(r)
    assert np.linalg.eigvalsh(r[0])[0] < 0 < np.linalg.eigvalsh(found).min()
    for one, other in zip(found, r, strict=True):
        np.testing.assert_allclose(one, corr_clipped(other, partial.FLOOR), atol=1e-12)


def test_known_precision_is_recovered_up_to_the_square_of_the_shrinkage():
    precision = np.eye(7) + 0.35 * (np.eye(7, k=1) + np.eye(7, k=-1))
    covariance = np.linalg.inv(precision)
    sd = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(sd, sd)
    k = np.linalg.inv(r)
    truth = -k / np.sqrt(np.outer(np.diag(k), np.diag(k)))
    np.fill_diagonal(truth, 1)

    def error(shrinkage):
        return np.abs(partial.partial_correlation(r, shrinkage) - truth).max()

    assert error(0.01) < 2e-3
    assert 3.2 < error(0.02) / error(0.01) < 4.2  # of second order


@pytest.mark.parametrize("scale", ["log", "natural"])
def test_covariance_and_partial_correlation_by_loops(sums, scale):
    num, den = sums
    weight = np.array([1.0, 0, 2, 1, 1])
    found = partial.pooled_covariance(num, den, weight[None], scale)[0]
    expected = np.zeros((6, 6))
    for j in range(6):
        for k in range(6):
            n = sum(w * x[j, k] for w, x in zip(weight, num, strict=True))
            d = sum(w * x[j, k] for w, x in zip(weight, den, strict=True))
            expected[j, k] = np.log(1 + n / d) if scale == "log" else n / d
    np.testing.assert_allclose(found, expected)
    r = partial.correlation_matrix(found, np.diag(found))
    theta = np.linalg.inv(0.8 * corr_clipped(r, partial.FLOOR) + 0.2 * np.eye(6))
    t = 2 * theta - theta @ r @ theta
    np.testing.assert_allclose(
        partial.partial_correlation(r, 0.2)[0, 1:], -t[0, 1:] / np.sqrt(t[0, 0] * np.diag(t)[1:])
    )


def test_loss_of_a_left_out_donor(sums):
    """With equal weights of all pairs, the loss is the Gaussian one of each donor's covariance."""
    phi = sums[0] / sums[1]
    size = np.array([50.0, 80, 100, 120, 150])
    den = np.broadcast_to(size[:, None, None], phi.shape)
    loss = 0.0
    for c in range(5):
        rest = np.arange(5) != c
        others = np.average(phi[rest], axis=0, weights=size[rest])
        sd = np.sqrt(np.diag(others))
        theta = np.linalg.inv(0.7 * others / np.outer(sd, sd) + 0.3 * np.eye(6))
        likelihood = np.linalg.slogdet(theta)[1] - np.trace(theta @ (phi[c] / np.outer(sd, sd)))
        loss -= size[c] / size.sum() * likelihood
    assert partial.left_out_loss(phi * den, den, "natural", 0.3) == pytest.approx(loss)


def test_shrinkage_falls_with_the_number_of_cells():
    rng = np.random.default_rng(3)
    r = 0.5 ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    chosen = []
    for n in (20, 2000):
        x = rng.multivariate_normal(np.zeros(12), r, (6, n))
        den = np.full((6, 12, 12), float(n))
        chosen.append(partial.choose_shrinkage(x.transpose(0, 2, 1) @ x, den, "natural"))
    assert chosen[0] > chosen[1] == partial.SHRINKAGE[0]


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.array([1.0, 4, 2, 8])
    without = np.array([x[np.arange(4) != c].mean() for c in range(4)])
    assert partial.jackknife(without) == pytest.approx(x.std(ddof=1) / 2)
