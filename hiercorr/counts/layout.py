"""Where the entries of a matrix go: chosen cells and genes, ordered by sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiercorr import kernels


@dataclass(frozen=True)
class EntryLayout:
    """Where the entries of the matrix go: which cells and genes, in which order.

    Attributes
    ----------
    codes : ndarray of int64, shape (n_obs,)
        Sample of each cell of the source, -1 where it is not used.
    order : ndarray of int64, shape (n_cells,)
        The cells that are used, sample by sample.
    count : ndarray of int64, shape (n_vars, n_samples)
        Non-zeros of each gene in each sample.
    chosen : ndarray of int64, shape (n_genes,)
    depth : ndarray, shape (n_obs,)
    """

    codes: NDArray[np.int64]
    order: NDArray[np.int64]
    count: NDArray[np.int64]
    chosen: NDArray[np.int64]
    depth: NDArray[np.float64]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """As of :class:`hiercorr.counts.counts.Counts`."""
        flat = np.append(0, np.cumsum(self.count[self.chosen].ravel())).astype(np.int64)
        s = self.count.shape[1]
        return np.column_stack([flat[:-1].reshape(-1, s), flat[s::s]])

    @property
    def size(self) -> int:
        """Entries there will be."""
        return int(self.count[self.chosen].sum())

    def scatter(
        self,
        blocks: Blocks,
        shape: tuple[int, int],
        rows: NDArray[np.int32],
        values: NDArray[np.int32],
    ) -> None:
        """Put the entries of a matrix of this shape where they belong."""
        cursor = self.offsets[:, :-1].copy()
        column, position = positions(self.chosen, shape[1]), positions(self.order, shape[0])
        shares = np.linspace(
            0, self.size, numba.get_num_threads() + 1
        )  # of entries, so that threads have equal work
        edges = np.searchsorted(self.offsets[:, 0], shares)
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
    seen : ndarray of bool, shape (n_vars,)
        Whether any cell, used or not, has a count of the gene.
    digest : ndarray of uint64, shape (n_vars,)
        Identifies the counts of each gene in the used cells.
    """

    count: NDArray[np.int64]
    total: NDArray[np.float64]
    row_sum: NDArray[np.float64]
    seen: NDArray[np.bool_]
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
        Position in the source of the first cell of `codes`, for a part of the cells.
    """
    count, total = np.zeros((n_genes, n_samples), np.int64), np.zeros(n_genes)
    row_sum, seen = np.zeros(len(codes)), np.zeros(n_genes, bool)
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
            seen,
            digest,
            first_cell,
        )
    return Scan(count, total, row_sum, seen, digest)


def by_sample(
    codes: NDArray[np.int64], n_samples: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells that are used, sample by sample, and where in this order each sample starts."""
    order = np.flatnonzero(codes >= 0)
    order = order[np.argsort(codes[order], kind="stable")]
    return order, np.append(0, np.cumsum(np.bincount(codes[order], minlength=n_samples))).astype(
        np.int64
    )


def positions(chosen: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Backend of each of `n` things among the chosen ones, -1 if it is not."""
    out = np.full(n, -1, np.int64)
    out[chosen] = np.arange(len(chosen))
    return out
