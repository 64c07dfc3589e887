"""Means and variances of genes against plain numpy and against the simulated truth."""

import numpy as np
import pytest

from hiercorr.moments.depth import depth_sums
from hiercorr.moments.genes import GeneMoments, pooled_moments, within_moments
from hiercorr.simulate import simulate_counts
from tests.support import read_counts
from validation import plain


def test_moments_within_samples_equal_plain_numpy(counts, sums):
    fit = within_moments(sums)
    x = counts.toarray()
    samples = [
        (x[a:b], counts.depth[a:b])
        for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True)
    ]
    wanted = plain.within(samples, fit.theta)
    assert fit.converged
    assert fit.theta == pytest.approx(plain.within(samples)["theta"], rel=1e-3)
    np.testing.assert_allclose(fit.num.T, wanted["own"], rtol=1e-6)
    np.testing.assert_allclose(fit.den.T, wanted["own_den"], rtol=1e-6)
    np.testing.assert_allclose(
        fit.variance, wanted["own"].sum(0) / wanted["own_den"].sum(0), rtol=1e-6
    )


def test_pooled_moments_are_those_of_the_simulated_model():
    """Without differences between samples, mean and variance are those of all cells."""
    adata, truth = simulate_counts(
        4, 4000, 6, mean=[0.5, 1, 2, 4, 1, 3], within=0.3, between_sd=1e-6, seed=2
    )
    counts = read_counts(adata, sample="sample", depth="depth")
    fit = pooled_moments(depth_sums(counts, 1e-8))
    assert fit.converged
    assert not fit.centred
    mean = truth["mu"].values[0] * counts.depth.mean() / 1e4
    np.testing.assert_allclose(fit.mu[:, 0], mean, rtol=0.05)
    np.testing.assert_allclose(fit.variance, truth["overdispersion"].values * mean**2, rtol=0.2)


def test_variance_is_a_ratio_of_sums_and_missing_where_nothing_is_known():
    num, den = np.array([[1.0, 3], [1, 1], [-1, 0]]), np.array([[2.0, 2], [1, -1], [1, 1]])
    fit = GeneMoments(np.ones((3, 2)), np.ones((3, 2)), num, den, 1.0, 1, True, True)
    np.testing.assert_array_equal(fit.variance, [1.0, np.nan, -0.5])
