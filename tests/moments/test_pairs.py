"""Numerators and denominators of covariances against whole matrices in plain numpy."""

import numpy as np
import pytest

from hiercorr.moments.genes import pooled_moments, within_moments
from hiercorr.moments.pairs import denominators, numerators, weight_products
from validation import plain

SIDES = [(slice(0, 9), slice(0, 9)), (slice(1, 4), slice(4, 9))]


@pytest.mark.parametrize(("left", "right"), SIDES)
def test_sums_within_samples_equal_plain_numpy(counts, sums, left, right):
    fit = within_moments(sums)
    shape = (counts.n_samples, left.stop - left.start, right.stop - right.start)
    num = numerators(counts, sums, fit, left, right, np.empty(shape))
    den = denominators(sums, fit, left, right, num, np.empty(shape))
    for c in range(counts.n_samples):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        wanted = plain.sample_sums(counts.toarray()[cells], sums.depth[cells], fit.theta)
        np.testing.assert_allclose(num[c], wanted[0][left, right], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(den[c], wanted[1][left, right], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("left", "right"), SIDES)
def test_pooled_denominators_are_sums_of_weights(counts, sums, left, right):
    fit = pooled_moments(sums)
    shape = (counts.n_samples, left.stop - left.start, right.stop - right.start)
    den = denominators(sums, fit, left, right, np.empty(shape), np.empty(shape))
    for c in range(counts.n_samples):
        s = sums.depth[counts.starts[c] : counts.starts[c + 1], None]
        f = s / (1 + s * fit.slope[:, 0])
        wanted = f[:, left].T @ f[:, right]
        np.testing.assert_allclose(den[c], wanted, rtol=1e-9)
        found = weight_products(sums, fit.slope[:, 0], left, right, c, np.float64)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_stored_numerators_are_not_computed_again(counts, sums):
    fit, stored, computed = within_moments(sums), {}, []

    def cache(name, compute):
        if name not in stored:
            computed.append(name)
            stored[name] = compute().copy()
        return stored[name]

    every = slice(0, 9)
    first, second = (
        numerators(counts, sums, fit, every, every, np.empty((4, 9, 9)), cache) for _ in range(2)
    )
    assert len(computed) == counts.n_samples
    np.testing.assert_array_equal(first, second)
