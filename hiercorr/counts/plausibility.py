"""Whether integers are counts of molecules: what their values say, in a sample of the cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CELLS = 2_000  # examined, evenly spaced
_LEAST_ENTRIES = 20  # non-zeros below which a cell is not informative
_TIES = 0.3  # proportion of them that have the smallest value
_SCALED = 0.1  # proportion of the cells
_DISPERSION = 0.5  # variance of the row sums over their mean
_DISPERSION_CELLS = 100
_DISPERSION_MEAN = 20  # of row sums; cells without counts, which are not used, matter below
_READS = 3.0  # mean of the non-zeros of genes that are rarely detected,
_ONES = 0.25  # and the proportion of them that are 1
_RARE = (0.01, 0.2)  # their detection
_RARE_GENES = 100


@dataclass
class CellSample:
    """Summaries of the values in a sample of the cells.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Positions of the examined cells, in ascending order.
    least : ndarray, shape (n,)
        Smallest non-zero value of each cell, inf for a cell without counts.
    ties : ndarray of int64, shape (n,)
        Number of its entries that have this value.
    nonzero : ndarray of int64, shape (n,)
        Number of its non-zero entries.
    row_sum : ndarray, shape (n,)
    total : ndarray, shape (n_genes,)
        Counts of each gene.
    detected, ones : ndarray of int64, shape (n_genes,)
        Number of cells with a count of each gene, and with exactly one.
    """

    cells: NDArray[np.int64]
    least: NDArray[np.float64]
    ties: NDArray[np.int64]
    nonzero: NDArray[np.int64]
    row_sum: NDArray[np.float64]
    total: NDArray[np.float64]
    detected: NDArray[np.int64]
    ones: NDArray[np.int64]

    @classmethod
    def over(cls, n_cells: int, n_genes: int) -> CellSample:
        """Choose the cells."""
        cells = np.unique(np.linspace(0, n_cells - 1, min(n_cells, CELLS)).astype(np.int64))
        n = len(cells)
        return cls(
            cells,
            np.full(n, np.inf),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros(n),
            np.zeros(n_genes),
            np.zeros(n_genes, np.int64),
            np.zeros(n_genes, np.int64),
        )

    def examine(self, first_cell: int, first_gene: int, block: sparse.csr_matrix) -> None:
        """Add the examined cells of a block of counts."""
        low, high = np.searchsorted(self.cells, [first_cell, first_cell + block.shape[0]])
        if low == high:
            return
        part = block[self.cells[low:high] - first_cell]
        part.eliminate_zeros()
        genes = slice(first_gene, first_gene + part.shape[1])
        self.total[genes] += np.asarray(part.sum(0, dtype=np.float64)).ravel()
        self.detected[genes] += np.bincount(part.indices, minlength=part.shape[1])
        ones = part.indices[part.data == 1]
        self.ones[genes] += np.bincount(ones, minlength=part.shape[1])
        entries = np.diff(part.indptr)
        some = np.flatnonzero(entries)
        if not len(some):
            return
        values = part.data.astype(np.float64)
        starts = part.indptr[:-1][some]
        least = np.full(high - low, np.inf)
        least[some] = np.minimum.reduceat(values, starts)
        same = values == np.repeat(least, entries)
        ties, row_sum = np.zeros(high - low, np.int64), np.zeros(high - low)
        ties[some] = np.add.reduceat(same.astype(np.int64), starts)
        row_sum[some] = np.add.reduceat(values, starts)
        self._merge(slice(low, high), least, ties, entries, row_sum)

    def add(self, other: CellSample) -> None:
        """Add what was found in other blocks of the same matrix."""
        self.total += other.total
        self.detected += other.detected
        self.ones += other.ones
        self._merge(slice(None), other.least, other.ties, other.nonzero, other.row_sum)

    def _merge(
        self, part: slice, least: NDArray, ties: NDArray, nonzero: NDArray, row_sum: NDArray
    ) -> None:
        before, number = self.least[part].copy(), self.ties[part].copy()
        self.least[part] = np.minimum(before, least)
        self.ties[part] = np.where(before <= least, number, 0) + np.where(least <= before, ties, 0)
        self.nonzero[part] += nonzero
        self.row_sum[part] += row_sum


def why_scaled(examined: CellSample) -> str | None:
    """Say why integers cannot be counts: they were scaled and rounded.

    A count of 1 becomes the same value in all genes of a cell, so that its smallest value is at the
    same time a frequent one, but not 1.

    Returns
    -------
    str or None
        None: they may be counts.
    """
    telling = examined.nonzero >= _LEAST_ENTRIES
    scaled = telling & (examined.least > 1) & (examined.ties >= _TIES * examined.nonzero)
    if scaled.sum() > _SCALED * telling.sum():
        k = int(np.flatnonzero(scaled)[0])
        return (
            f"in {scaled.sum() / telling.sum():.0%} of the cells the smallest value is a frequent "
            f"one, and is not 1 (in one of them, {examined.ties[k]} of {examined.nonzero[k]} "
            f"non-zeros are {examined.least[k]:.0f})"
        )
    return None


def why_equal_sums(examined: CellSample) -> str | None:
    """Say why the sums of the cells are not those of counts: they vary too little.

    Sums of independent counts have a variance of at least their mean; values scaled to a common
    depth and rounded have not. Neither have counts that were sampled down to a common depth and
    then lost some genes, which nothing tells apart from them. Sums that are equal exactly are those
    of counts that were sampled down, and pass, as do values that are all 1.

    Returns
    -------
    str or None
        None: they vary enough, or there are too few cells or counts.
    """
    sums = examined.row_sum[examined.row_sum > 0]
    binary = np.array_equal(examined.total, examined.detected)
    if len(sums) < _DISPERSION_CELLS or sums.mean() < _DISPERSION_MEAN or binary:
        return None
    _, equal = np.unique(sums, return_counts=True)
    mean, variance = float(sums.mean()), float(sums.var(ddof=1))
    if variance < _DISPERSION * mean and equal.max() < 0.5 * len(sums):
        return (
            f"the cells' sums are {mean:,.0f} +- {math.sqrt(variance):.2g}, where sums of counts "
            f"vary by at least +- {math.sqrt(mean):.2g}"
        )
    return None


def reads_per_molecule(examined: CellSample) -> float | None:
    """Return the mean value of rarely detected genes where they are detected, if it is not near 1.

    Molecules (UMIs) of such genes are counted once or twice; reads of one molecule are many.
    Markers of few cells, guides and sums of cells have a large mean beside many ones.

    Returns
    -------
    float or None
        Median over genes. None: they may be molecules, or there are too few such genes.
    """
    detection = examined.detected / len(examined.cells)
    rare = (detection > _RARE[0]) & (detection < _RARE[1]) & (examined.detected >= 5)
    if rare.sum() < _RARE_GENES:
        return None
    value = float(np.median(examined.total[rare] / examined.detected[rare]))
    ones = float(np.median(examined.ones[rare] / examined.detected[rare]))
    return value if value > _READS and ones < _ONES else None
