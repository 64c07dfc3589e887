"""Entries of genes in consecutive blocks of cells, against a dense array."""

import numpy as np
import pytest

from hiercorr.moments.entries import Entries


@pytest.mark.parametrize("genes", [slice(2, 7), np.array([8, 0, 3])])
def test_blocks_of_cells_hold_the_entries_of_a_dense_array(counts, genes):
    x = counts.toarray()
    for sample in range(counts.n_samples):
        first, last = int(counts.starts[sample]), int(counts.starts[sample + 1])
        entries = Entries(counts, genes, sample)
        for begin, end in ((first, first + 13), (first + 13, first + 14), (first + 14, last)):
            start, stop = entries.until(end)
            for gene, a, b in zip(np.arange(counts.n_genes)[genes], start, stop, strict=True):
                cells = begin + np.flatnonzero(x[begin:end, gene])
                np.testing.assert_array_equal(counts.rows[a:b], cells)
                np.testing.assert_array_equal(counts.values[a:b], x[cells, gene])
