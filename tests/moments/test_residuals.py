"""Blocks of weighted residuals against dense arrays."""

import numpy as np
import pytest

from hiercorr.moments import residuals
from tests.moments.support import dense_residuals


@pytest.mark.parametrize("genes", [slice(1, 6), np.array([7, 2, 4])])
@pytest.mark.parametrize("block", [7, 4096])
def test_blocks_are_the_dense_residuals(counts, sums, weights, genes, block, monkeypatch):
    monkeypatch.setattr(residuals, "CELL_BLOCK", block)
    for sample in range(counts.n_samples):
        found, at = [], int(counts.starts[sample])
        for cells, part in residuals.residual_blocks(
            counts, sums.depth, *weights, genes, sample, np.float64
        ):
            assert cells.start == at
            at = cells.stop
            found.append(part.copy())
        assert at == counts.starts[sample + 1]
        wanted = dense_residuals(counts, sums.depth, *weights, sample)[:, genes]
        np.testing.assert_allclose(np.hstack(found).T, wanted, rtol=1e-12, atol=1e-13)


def test_expected_counts_replace_the_mean(counts, sums, weights):
    rng = np.random.default_rng(0)
    expected = rng.uniform(0, 2, (counts.n_genes, counts.n_cells))
    blocks = residuals.residual_blocks(
        counts, sums.depth, *weights, slice(0, 9), 1, np.float64, lambda g, c: expected[g, c]
    )
    found = np.hstack([part.copy() for _, part in blocks])
    cells = slice(counts.starts[1], counts.starts[2])
    x, s = counts.toarray()[cells].T, sums.depth[cells]
    wanted = (x - expected[:, cells]) / (1 + np.outer(weights[1], s))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
