"""Validated counts: shares, medians, and choices of genes and cells, against a dense array."""

import numpy as np
import pytest

from tests.counts.support import counts


@pytest.fixture
def read(adata):
    return counts(adata)


def test_shares_and_medians(read):
    x = read.toarray()
    assert (read.n_cells, read.n_genes, read.n_samples) == (120, 8, 4)
    np.testing.assert_array_equal(read.cells_per_sample, 30)
    np.testing.assert_allclose(read.detection, (x > 0).mean(0))
    depth = read.depth.reshape(4, 30)  # cells are grouped by sample
    np.testing.assert_allclose(read.median_depth, np.median(depth, axis=1))


def test_genes_in_another_order(read):
    some = read.take(np.array([5, 0, 2]))
    assert list(some.genes) == ["gene5", "gene0", "gene2"]
    np.testing.assert_array_equal(some.toarray(), read.toarray()[:, [5, 0, 2]])


def test_one_group_of_all_cells(read):
    one = read.one_group()
    assert one.n_samples == 1
    assert one.starts.tolist() == [0, 120]
    np.testing.assert_array_equal(one.toarray(), read.toarray())
    np.testing.assert_allclose(one.detection, read.detection)


def test_some_of_the_cells(read):
    keep = np.random.default_rng(0).random(read.n_cells) < 0.4
    some = read.cells_where(keep)
    np.testing.assert_array_equal(some.toarray(), read.toarray()[keep])
    np.testing.assert_array_equal(some.depth, read.depth[keep])
    np.testing.assert_array_equal(some.cells, read.cells[keep])
    np.testing.assert_array_equal(some.cells_per_sample, keep.reshape(4, 30).sum(1))
    assert some.obs.index.equals(read.obs.index[keep])
