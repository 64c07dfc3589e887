"""Loops of the hierarchical model: tails and scores."""

import numpy as np
from numba import njit
from scipy import stats

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
        found = transform(z, 2 / np.sqrt(shape))
        np.testing.assert_allclose(found, stats.norm.ppf(q), atol=0.25 if shape == 4 else 0.03)
    np.testing.assert_allclose(transform(np.array([-3.0, 2.0]), 0.0), [-3, 2], atol=1e-3)
