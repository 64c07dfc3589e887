"""Cells behind the sums: read again, matched to the sums, refused if they have changed."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.between.summed_cells import SummedCells
from hiercorr.counts.aggregate import sum_over_cells
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.simulate import simulate_counts


@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 5, 60, 30]])
def test_cells_are_those_that_were_summed(sizes, quiet):
    adata, _ = simulate_counts(len(sizes), sizes, 6, mean=2.0, seed=1)
    source = DataSource(adata, None)
    selection = Selection("sample", depth="depth", min_cells=10)
    summed = sum_over_cells(source, selection, 0)
    samples = summed.samples
    every = Selection("sample", depth="depth", min_cells=1)
    cells, at = SummedCells(source, every, summed.digest).of(samples, samples.var_names[[4, 1]])
    assert set(cells.genes) == {"gene1", "gene4"}
    assert (at >= 0).tolist() == [n >= 10 for n in sizes]
    x = cells.toarray()
    for c in np.flatnonzero(at >= 0):
        found = x[cells.starts[c] : cells.starts[c + 1]].sum(0)
        np.testing.assert_array_equal(found, samples[at[c], list(cells.genes)].X[0])


def test_changed_counts_are_refused_by_name(quiet):
    adata, _ = simulate_counts(4, 40, 5, mean=2.0, seed=1)
    m = hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm")
    adata.X.data[7] += 1
    gene = adata.var_names[adata.X.indices[7]]
    with pytest.raises(
        hc.InputError, match=rf"counts of 1 genes are not the same, e\.g\. '{gene}'"
    ):
        m.fit("corrected")
