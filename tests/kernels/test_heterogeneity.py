"""Loops of the hierarchical model: tails and scores."""

import numpy as np
from numba import njit
from scipy import stats

from hiercorr.inference import posterior
from hiercorr.kernels import heterogeneity


def test_tails_and_scores_of_the_normal():
    @njit
    def both(z):
        p = np.array([heterogeneity._tail(x) for x in z])
        return p, np.array([heterogeneity._normal_score(x) for x in p])

    z = np.concatenate([[0.0], np.geomspace(1e-3, 36, 400)])
    p, score = both(z)
    np.testing.assert_allclose(p, 2 * stats.norm.sf(z), rtol=3e-7)
    np.testing.assert_allclose(score, z, rtol=1e-4, atol=3e-4)


def test_skewness_is_taken_out():
    """The mean of gamma variables has the right size in both tails."""

    @njit
    def transform(z, skew):
        return np.array([heterogeneity._symmetric(x, skew) for x in z])

    for shape in (4, 25, 400):
        q = np.array([1e-4, 0.01, 0.3, 0.9, 0.999])
        z = (stats.gamma.ppf(q, shape) - shape) / np.sqrt(shape)
        skew = 2 / np.sqrt(shape)
        found, wanted = transform(z, skew), stats.norm.ppf(q)
        limited = z * skew < -1  # as skewed as no Poisson count
        assert limited.sum() == {4: 2, 25: 1, 400: 0}[shape]
        atol = 0.25 if shape == 4 else 0.03
        np.testing.assert_allclose(found[~limited], wanted[~limited], atol=atol)
        assert (np.abs(found) < np.abs(wanted))[limited].all()
    np.testing.assert_allclose(transform(np.array([-3.0, 2.0]), 0.0), [-3, 2], atol=1e-3)


def test_short_tails_are_not_shorter_than_those_of_poisson_counts():
    """The probability of no event; a larger skewness has no effect, nor in the other direction."""

    @njit
    def transform(z, skew):
        return np.array([heterogeneity._symmetric(z[k], skew[k]) for k in range(len(z))])

    expected = np.array([4.0, 9.0, 16.0])
    z, skew = -np.sqrt(expected), 1 / np.sqrt(expected)
    for route in (transform, posterior.symmetric):
        found = route(z, skew)
        np.testing.assert_allclose(found, stats.norm.ppf(np.exp(-expected)), atol=0.35)
        np.testing.assert_allclose(route(z, np.full(3, 3.0)), found)
        np.testing.assert_allclose(route(-z, np.full(3, -3.0)), -found)
