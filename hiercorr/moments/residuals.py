"""Dense blocks of the weighted residuals of one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.moments.entries import Entries

Array = NDArray[np.float64]
ExpectedCounts = Callable[["slice | NDArray", slice], NDArray]  # (genes, cells) -> expected counts
CELL_BLOCK = 4096  # cells per dense block of residuals


def residual_blocks(
    counts: Counts,
    depth: Array,
    mu: Array,
    slope: Array,
    genes: slice | NDArray,
    sample: int,
    dtype: DTypeLike,
    fitted: ExpectedCounts | None = None,
) -> Iterator[tuple[slice, NDArray]]:
    """Yield dense blocks of the residuals (x - s mu) / (1 + a s) of one sample.

    Parameters
    ----------
    counts : Counts
    depth : ndarray, shape (n_cells,)
        Depth s, in units of mean depth.
    mu, slope : ndarray, shape (n_genes,)
        Mean per unit of depth, and a of the weights 1 / (1 + a s).
    genes : slice or ndarray of int
        Genes of the blocks.
    sample : int
        Position of the sample.
    dtype : dtype
        Precision of the residuals.
    fitted : callable, optional
        Expected counts of (genes, cells), used instead of s mu.

    Yields
    ------
    cells : slice
    residuals : ndarray, shape (genes, cells)
        Overwritten by the next block.
    """
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    m, a = np.ascontiguousarray(mu[genes]), np.ascontiguousarray(slope[genes])
    entries = Entries(counts, genes, sample)
    if fitted is not None:
        m = np.zeros_like(m)
    buffer = np.empty(len(m) * min(CELL_BLOCK, end - begin), dtype)
    for cell in range(begin, end, CELL_BLOCK):
        stop = min(cell + CELL_BLOCK, end)
        out = buffer[: len(m) * (stop - cell)].reshape(len(m), stop - cell)
        kernels.sums.weighted_residuals(
            counts.rows, counts.values, *entries.until(stop), depth, cell, m, a, out
        )
        if fitted is not None:
            cells = slice(cell, stop)
            s = depth[cells].astype(dtype, copy=False)
            kernels.sums.take_off_weighted(out, fitted(genes, cells), s, a.astype(dtype))
        yield slice(cell, stop), out
