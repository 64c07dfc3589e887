"""Layout of the stored entries: selected genes and cells, ordered by sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiercorr import kernels
from hiercorr.runtime.workers import allowed


@dataclass(frozen=True)
class EntryLayout:
    """Selected cells and genes, and the order in which their entries are stored.

    Attributes
    ----------
    codes : ndarray of int64, shape (n_obs,)
        Sample of each cell of the source, -1 for cells that are not used.
    order : ndarray of int64, shape (n_cells,)
        Used cells, sample by sample.
    count : ndarray of int64, shape (n_vars, n_samples)
        Non-zeros of each gene in each sample.
    chosen : ndarray of int64, shape (n_genes,)
        Selected genes.
    depth : ndarray, shape (n_obs,)
        Sequencing depth.
    """

    codes: NDArray[np.int64]
    order: NDArray[np.int64]
    count: NDArray[np.int64]
    chosen: NDArray[np.int64]
    depth: NDArray[np.float64]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Offsets of :class:`hiercorr.counts.counts.Counts`."""
        flat = np.append(0, np.cumsum(self.count[self.chosen].ravel())).astype(np.int64)
        s = self.count.shape[1]
        return np.column_stack([flat[:-1].reshape(-1, s), flat[s::s]])

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.count[self.chosen].sum())

    def scatter(
        self,
        blocks: Blocks,
        shape: tuple[int, int],
        rows: NDArray[np.int32],
        values: NDArray[np.int32],
    ) -> None:
        """Write the entries of a matrix of this shape to `rows` and `values`."""
        cursor = self.offsets[:, :-1].copy()
        column, position = positions(self.chosen, shape[1]), positions(self.order, shape[0])
        # Give each thread genes with about the same number of entries.
        limits = np.linspace(0, self.size, allowed() + 1)
        edges = np.searchsorted(self.offsets[:, 0], limits)
        edges[0], edges[-1] = 0, len(self.offsets)
        for i, j, block in blocks:
            kernels.counts.fill_block(
                block.indptr,
                block.indices,
                block.data,
                self.codes,
                position,
                column,
                i,
                j,
                edges,
                cursor,
                rows,
                values,
            )


@dataclass(frozen=True)
class Scan:
    """Totals from the first pass over the matrix.

    Attributes
    ----------
    count : ndarray of int64, shape (n_vars, n_samples)
        Non-zeros of each gene in each sample.
    total : ndarray, shape (n_vars,)
        Counts of each gene in the used cells.
    row_sum : ndarray, shape (n_obs,)
        Counts of each cell.
    digest : ndarray of uint64, shape (n_vars,)
        Checksum of the counts of each gene in the used cells.
    """

    count: NDArray[np.int64]
    total: NDArray[np.float64]
    row_sum: NDArray[np.float64]
    digest: NDArray[np.uint64]


Blocks = Iterable[tuple[int, int, sparse.csr_matrix]]  # first cell, first gene, entries


def scanned(
    blocks: Blocks, codes: NDArray[np.int64], n_genes: int, n_samples: int, first_cell: int = 0
) -> Scan:
    """Add up the totals of blocks of counts.

    Parameters
    ----------
    blocks : iterable of (int, int, csr_matrix)
        First cell, first gene and entries of each block.
    codes : ndarray of int64, shape (n_obs,)
        Sample of each cell, -1 for cells that are not used.
    n_genes, n_samples : int
    first_cell : int
        Position in the source of the first cell of `codes`.

    Returns
    -------
    Scan
    """
    count, total = np.zeros((n_genes, n_samples), np.int64), np.zeros(n_genes)
    row_sum = np.zeros(len(codes))
    digest = np.zeros(n_genes, np.uint64)
    for i, j, block in blocks:
        kernels.counts.scan_block(
            block.indptr,
            block.indices,
            block.data,
            codes,
            i,
            j,
            count,
            total,
            row_sum,
            digest,
            first_cell,
        )
    return Scan(count, total, row_sum, digest)


def by_sample(
    codes: NDArray[np.int64], n_samples: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the used cells, sample by sample, and the start of each sample in this order."""
    order = np.flatnonzero(codes >= 0)
    order = order[np.argsort(codes[order], kind="stable")]
    size = np.bincount(codes[order], minlength=n_samples)
    return order, np.append(0, np.cumsum(size)).astype(np.int64)


def positions(chosen: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the position of 0, ..., n - 1 in `chosen`, -1 for those not in it."""
    out = np.full(n, -1, np.int64)
    out[chosen] = np.arange(len(chosen))
    return out
