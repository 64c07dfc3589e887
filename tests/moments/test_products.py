"""Products of weighted residuals of gene pairs against dense matrices."""

import numpy as np
import pytest

from hiercorr.moments import products
from tests.moments.support import dense_residuals

SIDES = [
    (slice(0, 9), slice(0, 9)),
    (slice(0, 5), slice(5, 9)),
    (slice(2, 3), slice(0, 9)),
    (slice(0, 4), slice(0, 9)),
]


@pytest.mark.parametrize(("left", "right"), SIDES)
@pytest.mark.parametrize("limits", [(0.0, 0.0), (0.0, 1.1), (1.1, 1.1), (0.1, 0.5)])
@pytest.mark.parametrize("narrow", [0, 7])
def test_products_are_those_of_dense_residuals(
    counts, sums, weights, left, right, limits, narrow, monkeypatch
):
    """All genes dense, visited for one side, visited for both sides, or a mixture of these."""
    monkeypatch.setattr(products, "SPARSE", limits[0])
    monkeypatch.setattr(products, "DENSE", limits[1])
    monkeypatch.setattr(products, "NARROW", narrow)
    for sample in range(counts.n_samples):
        found = products.cross_products(counts, sums, *weights, left, right, sample, np.float64)
        r = dense_residuals(counts, sums.depth, *weights, sample)
        np.testing.assert_allclose(found, r[:, left].T @ r[:, right], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("left", "right"), SIDES)
def test_products_around_expected_counts(counts, sums, weights, left, right):
    rng = np.random.default_rng(0)
    expected, slope = rng.uniform(0, 2, (counts.n_genes, counts.n_cells)), weights[1]
    out = np.empty((left.stop - left.start, right.stop - right.start))
    products.adjusted_products(
        counts, sums.depth, slope, left, right, 2, lambda g, c: expected[g, c], out
    )
    cells = slice(counts.starts[2], counts.starts[3])
    r = counts.toarray()[cells] - expected[:, cells].T
    r /= 1 + np.outer(sums.depth[cells], slope)
    np.testing.assert_allclose(out, r[:, left].T @ r[:, right], rtol=1e-10, atol=1e-10)
