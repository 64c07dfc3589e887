"""Cells grouped by sample, entries by gene."""

import numpy as np

from tests.counts.support import counts


def test_samples_sort_and_cells_group(adata):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    got = counts(adata[order].copy())
    assert (got.obs["sample"].to_numpy() == np.repeat(got.samples, got.cells_per_sample)).all()
    np.testing.assert_array_equal(got.toarray(), adata.X.toarray()[order][got.cells])
