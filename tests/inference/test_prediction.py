"""Prediction intervals against Monte-Carlo draws of the published algorithm, and by simulation."""

import numpy as np
import pytest

from hiercorr.inference.meta import meta_analysis
from hiercorr.inference.prediction import predict_new_donor, predict_new_sample


def drawn(z, v, rng, n=40_000, level=0.95):
    """Nagashima, Noma & Furukawa 2019 with Q simulated: tau^2 by inversion, then its draws."""
    k = len(z)
    w = 1 / v
    a = np.diag(w) - np.outer(w, w) / w.sum()
    q = z @ a @ z
    grid = np.concatenate([[0], np.geomspace(1e-4, 1e4, 120) * v.mean()])
    normal = rng.standard_normal((60_000, k))
    exceeds = []
    for tau2 in grid:
        x = normal * np.sqrt(v + tau2)
        exceeds.append(np.mean(np.einsum("ni,ij,nj->n", x, a, x) >= q))
    tau2 = np.interp(rng.random(n), np.maximum.accumulate(exceeds), grid, left=0.0)
    spread = 1 / (v[:, None] + tau2)
    mean = (spread * z[:, None]).sum(0) / spread.sum(0)
    se = np.sqrt((spread * (z[:, None] - mean) ** 2).sum(0) / (k - 1) / spread.sum(0))
    new = mean + np.sqrt(tau2) * rng.standard_normal(n) - se * rng.standard_t(k - 1, n)
    return np.quantile(new, [(1 - level) / 2, (1 + level) / 2])


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("k", "tau"), [(3, 0.2), (6, 0.0), (6, 0.3), (12, 0.15)])
def test_limits_are_those_of_the_published_algorithm(k, tau):
    rng = np.random.default_rng(k)
    v = 0.1**2 * np.exp(rng.normal(0, 0.6, k))
    z = 0.4 + np.sqrt(v + tau**2) * rng.standard_normal(k)
    lower, upper = predict_new_sample(z[:, None], v[:, None])
    wanted = drawn(z, v, rng)
    width = wanted[1] - wanted[0]
    np.testing.assert_allclose([lower[0], upper[0]], wanted, atol=0.1 * width)
    assert upper[0] - lower[0] > 0.97 * width  # two moments of Q: rather too wide


def test_coverage_where_the_plain_interval_fails():
    rng = np.random.default_rng(1)
    for k in (4, 8):
        v = 0.1**2 * np.exp(rng.normal(0, 0.6, (k, 3000)))
        z = 0.4 + np.sqrt(v + 0.1**2) * rng.standard_normal((k, 3000))
        new = 0.4 + 0.1 * rng.standard_normal(3000)
        lower, upper = predict_new_sample(z, v)
        plain = meta_analysis(z, v)
        inside = np.mean((plain.prediction_lower < new) & (new < plain.prediction_upper))
        assert inside < 0.9
        assert 0.92 < np.mean((lower < new) & (new < upper)) < 0.98


def test_shift_scale_and_sign():
    rng = np.random.default_rng(2)
    v = rng.uniform(0.005, 0.02, (5, 50))
    z = rng.normal(0.2, 0.2, (5, 50))
    lower, upper = predict_new_sample(z, v)
    for shifted, low, high in (
        (predict_new_sample(z + 0.5, v), lower + 0.5, upper + 0.5),
        (predict_new_sample(-z, v), -upper, -lower),
        (predict_new_sample(2 * z, 4 * v), 2 * lower, 2 * upper),
    ):
        np.testing.assert_allclose(shifted, (low, high), atol=2e-4)


def test_limits_stay_in_range_or_are_none():
    r, sd = np.array([0.2, 3.2, -1.4, 1.05]), np.array([0.1, 0.5, 0.05, 0.2])
    lower, upper = predict_new_donor(r, sd, np.full(4, 0.1))
    np.testing.assert_array_equal(np.isnan(lower), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(upper), np.isnan(lower))
    assert lower[0] < r[0] < upper[0]
    assert -1 < lower[3] < upper[3] == 1
