"""Posterior of the heterogeneity by array operations: effects of donors, tails and scores."""

import numpy as np
from scipy import stats

from hiercorr.inference import posterior
from hiercorr.inference.random_effects import DonorGenes, donor_effects


def test_effects_without_correlation_are_ratios():
    rng = np.random.default_rng(0)
    den = rng.uniform(1, 2, (4, 2, 300))
    num = 1e-9 * rng.standard_normal(den.shape)  # nothing to correct for
    noise = rng.uniform(1, 2, den.shape)
    den[1, 0, 7] = 0.0
    left, right = (
        DonorGenes(
            np.full(n, phi), np.ones((4, n)), np.zeros((4, n)), np.zeros((4, n)), np.zeros(n)
        )
        for n, phi in ((2, 2.0), (300, 0.5))
    )
    effect, variance = donor_effects(num, den, noise, left, right)
    assert (effect[1, 0, 7], variance[1, 0, 7]) == (0.0, 1e30)
    den[1, 0, 7] = np.nan
    known = np.isfinite(den)
    np.testing.assert_allclose(effect[known], (num / den)[known])
    np.testing.assert_allclose(variance[known], (noise / den**2)[known])


def test_tails_and_scores_of_the_normal():
    z = np.concatenate([[0.0], np.geomspace(1e-3, 36, 400)])
    p = posterior.two_sided(z.copy())
    np.testing.assert_allclose(p, 2 * stats.norm.sf(z), rtol=3e-7)
    np.testing.assert_allclose(posterior.normal_score(p), z, rtol=1e-4, atol=3e-4)


def test_scores_of_gamma_means_are_normal():
    shape = 40.0
    q = np.linspace(0.001, 0.999, 99)
    z = (stats.gamma.ppf(q, shape) - shape) / np.sqrt(shape)
    score = posterior.symmetric(z, np.full(99, 2 / np.sqrt(shape)))
    np.testing.assert_allclose(score, stats.norm.ppf(q), atol=0.01)
    np.testing.assert_allclose(posterior.symmetric(z, np.zeros(99)), z)
