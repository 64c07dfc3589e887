"""Sums over the cells of one sample of products of two genes' weighted residuals.

This is the only computation whose cost grows with pairs x cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.kernels.vectors import STRIP
from hiercorr.moments.depth import DepthSums
from hiercorr.moments.entries import Entries
from hiercorr.moments.residuals import CELL_BLOCK, ExpectedCounts, residual_blocks
from hiercorr.moments.strips import Dense, Strips

Array = NDArray[np.float64]

DENSE = 0.14  # detection above which a dense product is faster than visiting cells with counts
SPARSE = 0.1  # detection below which two genes are visited only in cells with counts of both
NARROW = 7  # number of genes of a side up to which all genes of the other side are visited
SPARSE_BLOCK = 32_768  # cells per block of entries sorted by cell


def cross_products(
    counts: Counts,
    sums: DepthSums,
    mu: Array,
    slope: Array,
    left: slice,
    right: slice,
    sample: int,
    dtype: DTypeLike,
    out: NDArray | None = None,
    upper: bool = False,
    sides: tuple[Side, Side] | None = None,
) -> NDArray:
    r"""Sum f_j r_j f_k r_k over the cells of one sample for all pairs of two slices of genes.

    A gene with counts in few cells is visited only there:

    .. math:: \sum_i f_j r_j f_k r_k
              = \sum_{i: x_{ij} > 0} f_j x_{ij} f_k r_k - \mu_j \sum_i f_j s_i f_k r_k

    where the last sum is a quadrature over the nodes. For two genes with counts in very few cells,
    the first sum is split in the same way, so that only cells with counts of both are visited. The
    other pairs are a dense product.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums
    mu, slope : ndarray, shape (n_genes,)
        Mean per unit of depth, and a of the weights f = 1 / (1 + a s).
    left, right : slice
        Genes of the two sides.
    sample : int
        Position of the sample.
    dtype : dtype
        Precision of the sums.
    out : ndarray, shape (left, right), optional
        Array for the result.
    upper : bool
        Leave the entries below the diagonal undefined if both slices are equal.
    sides : (Side, Side), optional
        See :func:`sides_of`: the same for every sample of a tile; None: found here.

    Returns
    -------
    ndarray, shape (left, right)
    """
    total = (
        np.empty((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    )
    if counts.starts[sample] == counts.starts[sample + 1]:
        total[...] = 0
        return total
    symmetric = left == right  # half the work
    work = _Sample(counts, sums, mu, slope, sample)
    if min(total.shape) <= NARROW and not symmetric:
        narrow_left = total.shape[0] <= total.shape[1]
        work.narrow_pairs(*((right, left, total.T) if narrow_left else (left, right, total)))
        return total
    sides = sides or sides_of(counts, left, right)
    work.expanded_pairs(*sides, symmetric, total)
    work.sparse_pairs(*sides, symmetric, total)
    if symmetric and not upper:
        kernels.squares.mirror(total)
    return total


def adjusted_products(
    counts: Counts,
    depth: Array,
    slope: Array,
    left: slice,
    right: slice,
    sample: int,
    fitted: ExpectedCounts,
    out: NDArray,
) -> NDArray:
    """Sum products as :func:`cross_products` does, for residuals from given expected counts.

    These need all cells of every gene, so that all pairs are a dense product.

    Parameters
    ----------
    counts, slope, left, right, sample
        As for :func:`cross_products`.
    depth : ndarray, shape (n_cells,)
        Depth, in units of mean depth.
    fitted : callable
        Expected counts of (genes, cells).
    out : ndarray, shape (left, right)
        Array for the result.

    Returns
    -------
    ndarray
        `out`.
    """
    symmetric = left == right
    zero = np.zeros_like(slope)
    sides = (left,) if symmetric else (left, right)
    strips = [Strips(genes.stop - genes.start, out.dtype) for genes in sides]
    dense = Dense(strips[0].n, strips[-1].n, symmetric, out.dtype)
    blocks = [
        residual_blocks(counts, depth, zero, slope, genes, sample, out.dtype, fitted)
        for genes in sides
    ]
    for parts in zip(*blocks, strict=True):
        xs = [side.turn(block) for side, (_, block) in zip(strips, parts, strict=True)]
        dense.add(xs[0], xs[-1])
    dense.put(np.arange(left.stop - left.start), np.arange(right.stop - right.start), out)
    if symmetric:
        kernels.squares.mirror(out)
    return out


@dataclass(frozen=True)
class TypedSide:
    """Genes of one side of a tile, all of one type.

    Attributes
    ----------
    counts : Counts
        Counts of the features of this type.
    depth : ndarray, shape (n_cells,)
        Depth of each cell in this type, relative to the mean.
    mu, slope : ndarray
        Of all genes of the type, as for :func:`cross_products`.
    genes : slice
        The genes among those of the type.
    fitted : callable, optional
        Expected counts of (genes, cells) instead of s mu.
    """

    counts: Counts
    depth: Array
    mu: Array
    slope: Array
    genes: slice
    fitted: ExpectedCounts | None = None

    def residuals(self, sample: int, dtype: DTypeLike) -> Iterator[tuple[slice, NDArray]]:
        """Yield dense blocks of the weighted residuals of one sample."""
        given = self.counts, self.depth, self.mu, self.slope, self.genes
        return residual_blocks(*given, sample, dtype, self.fitted)

    def noise(self, cells: slice, dtype: DTypeLike) -> NDArray:
        """Return the Poisson variance of the weighted residuals, shape (genes, cells)."""
        s = self.depth[cells].astype(dtype)
        if self.fitted is None:
            mean = self.mu[self.genes, None] * s
        else:
            mean = self.fitted(self.genes, cells)
        return (mean / (1 + self.slope[self.genes, None] * s) ** 2).astype(dtype)


def products_of_types(left: TypedSide, right: TypedSide, sample: int, dtype: DTypeLike) -> NDArray:
    """Sum products of weighted residuals over the cells of one sample; each side has its depth.

    Every pair is a dense product: sparse genes with the genes of another type would need a
    quadrature over two depths for every gene.

    Parameters
    ----------
    left, right : TypedSide
    sample : int
        Position of the sample.
    dtype : dtype
        Precision of the sums.

    Returns
    -------
    ndarray, shape (left, right)
    """
    n, m = (side.genes.stop - side.genes.start for side in (left, right))
    out = np.zeros((n, m), dtype)
    if left.counts.starts[sample] == left.counts.starts[sample + 1]:
        return out
    strips, dense = [Strips(n, dtype), Strips(m, dtype)], Dense(n, m, False, dtype)
    blocks = (side.residuals(sample, dtype) for side in (left, right))
    for parts in zip(*blocks, strict=True):
        dense.add(*(side.turn(block) for side, (_, block) in zip(strips, parts, strict=True)))
    dense.put(np.arange(n), np.arange(m), out)
    return out


def sides_of(counts: Counts, left: slice, right: slice) -> tuple[Side, Side]:
    """Sort the genes of both sides of a tile by how often they have counts."""
    one = Side(left, counts.detection[left])
    return one, one if left == right else Side(right, counts.detection[right])


class Side:
    """Positions of the sparse, medium and dense genes of one side of a tile.

    Attributes
    ----------
    genes : slice
        All genes of the side.
    n_medium : int
        Number of medium genes.
    sparse, dense : ndarray of uint64
        Genes with a detection below SPARSE, and of at least DENSE; the others are medium.
    visited : ndarray of uint64
        Sparse, then medium genes: loops visit their counts.
    expanded : ndarray of uint64
        Medium, then dense genes: their residuals are computed for all cells.
    """

    def __init__(self, genes: slice, detection: NDArray[np.float64]) -> None:
        kind = np.digitize(detection, (SPARSE, DENSE))
        # Unsigned: compiled loops then need no check for negative indices.
        self.sparse, medium, self.dense = (
            np.flatnonzero(kind == k).astype(np.uint64) for k in range(3)
        )
        self.visited = np.concatenate([self.sparse, medium])
        self.expanded = np.concatenate([medium, self.dense])
        self.genes, self.n_medium = genes, len(medium)

    def skip(self, n: int | None = None) -> NDArray[np.int64]:
        """Count the first expanded genes of the other side that each visited gene leaves out.

        0 for sparse genes; for medium genes `n`, or None: the genes before it on the same side.
        """
        medium = np.arange(self.n_medium) if n is None else np.full(self.n_medium, n)
        return np.concatenate([np.zeros(len(self.sparse), np.int64), medium])


class _Sample:
    """Sums over the cells of one sample."""

    def __init__(
        self, counts: Counts, sums: DepthSums, mu: Array, slope: Array, sample: int
    ) -> None:
        self.counts, self.sums, self.sample = counts, sums, sample
        self.mu, self.slope = np.ascontiguousarray(mu), np.ascontiguousarray(slope)
        self.begin, self.end = int(counts.starts[sample]), int(counts.starts[sample + 1])
        self._node_sums: dict[tuple[int, int], tuple[Array, Array, Array]] = {}

    def narrow_pairs(self, wide: slice, narrow: slice, total: NDArray) -> None:
        """Visit the counts of all genes of one side, with the residuals of the few of the other."""
        counts = self.counts
        entries = Entries(counts, wide, self.sample)
        depth = self.sums.depth_in(total.dtype)
        out = np.empty(total.shape, total.dtype)
        for cells, block in residual_blocks(
            counts, self.sums.depth, self.mu, self.slope, narrow, self.sample, total.dtype
        ):
            kernels.sums.narrow_products(
                counts.rows,
                counts.values,
                *entries.until(cells.stop),
                depth,
                cells.start,
                self.slope[wide],
                block,
                cells.start > self.begin,
                out,
            )
        total[...] = out - self.node_sums(wide)[1] @ self.node_sums(narrow)[2].T

    def expanded_pairs(self, left: Side, right: Side, symmetric: bool, total: NDArray) -> None:
        """Sum products of two dense genes, and of a visited gene with an expanded one.

        If both sides are the same genes, only the upper triangle is filled.
        """
        visits = [
            _Visits(
                self, left, right, left.skip(None if symmetric else 0), (False, symmetric), total
            )
        ]
        if not symmetric:
            visits.append(
                _Visits(self, right, left, right.skip(left.n_medium), (True, False), total)
            )
        dense = (
            _DensePairs(left, right, symmetric, total.dtype)
            if len(left.dense) and len(right.dense)
            else None
        )
        ys = self._strips(right, total.dtype, dense is not None or visits[0].needed)
        xs = (
            ys
            if symmetric
            else self._strips(left, total.dtype, dense is not None or visits[1].needed)
        )
        for cell in range(self.begin, self.end, CELL_BLOCK):
            cells = slice(cell, min(cell + CELL_BLOCK, self.end))
            y = next(ys)
            x = y if symmetric else next(xs)
            if dense is not None and x is not None and y is not None:
                dense.add(x, y)
            for visit, strips in zip(visits, (y, x), strict=False):
                if strips is not None:
                    visit.add(cells, strips)
        if dense is not None:
            dense.put(total)

    def _strips(self, side: Side, dtype: DTypeLike, needed: bool) -> Iterator[NDArray | None]:
        """Yield the residuals of a side's expanded genes by block of cells, in reused memory."""
        if not (needed and len(side.expanded)):
            yield from itertools.repeat(None)
        genes = side.genes.start + side.expanded
        depth = self.sums.depth_in(dtype)
        memory, entries = Strips(len(genes), dtype), Entries(self.counts, genes, self.sample)
        for cell in range(self.begin, self.end, CELL_BLOCK):
            stop = min(cell + CELL_BLOCK, self.end)
            out = memory.array(stop - cell)
            kernels.strips.fill(
                self.counts.rows,
                self.counts.values,
                *entries.until(stop),
                depth,
                cell,
                self.mu[genes],
                self.slope[genes],
                out,
            )
            yield out

    def sparse_pairs(self, left: Side, right: Side, symmetric: bool, total: NDArray) -> None:
        """Sum products of two sparse genes."""
        if not (len(left.sparse) and len(right.sparse)):
            return
        counts, genes = self.counts, [side.genes.start + side.sparse for side in (left, right)]
        left_count, left_mean, _ = self.node_sums(left.genes)
        _, right_mean, right_residual = self.node_sums(right.genes)
        precise = self.sums.precise(total.dtype)
        less1 = np.hstack((left_mean, left_count))[left.sparse].astype(precise)
        less2 = np.hstack((right_residual, right_mean))[right.sparse].astype(precise)
        entries = [Entries(counts, g, self.sample) for g in genes]
        for cell in range(self.begin, self.end, SPARSE_BLOCK):
            stop = min(cell + SPARSE_BLOCK, self.end)
            (start1, stop1), (start2, stop2) = (e.until(stop) for e in entries)
            kernels.sums.shared_products(
                counts.rows,
                counts.values,
                start1,
                stop1,
                start2,
                stop2,
                self.sums.depth,
                cell,
                stop - cell,
                self.slope[genes[0]],
                self.slope[genes[1]],
                less1,
                less2,
                symmetric,
                left.sparse,
                right.sparse,
                cell > self.begin,
                total,
            )

    def node_sums(self, genes: slice) -> tuple[Array, Array, Array]:
        """Return factors at the nodes of the genes of a side, each (genes, nodes).

        Multiplied by another gene's f_k and summed over nodes, the first gives sum x f f_k s and
        the third sum r f f_k s; the second is mu f.
        """
        key = genes.start, genes.stop
        if key not in self._node_sums:
            sums = self.sums
            f = 1 / (1 + self.slope[genes, None] * sums.nodes)
            count = sums.nodes * f * sums.first[genes, self.sample]
            mu = self.mu[genes, None]
            rest = count - mu * (f @ sums.gram[0, self.sample])
            self._node_sums[key] = count, mu * f, rest
        return self._node_sums[key]


class _DensePairs:
    """Products of the dense genes of two sides, from strips in which medium genes come first."""

    def __init__(self, left: Side, right: Side, symmetric: bool, dtype: DTypeLike) -> None:
        sides = left, right
        self._positions = left.dense, right.dense
        self._first = [side.n_medium // STRIP for side in sides]  # skips strips of medium genes
        self._skip = [side.n_medium % STRIP for side in sides]
        n, m = (len(side.dense) + skip for side, skip in zip(sides, self._skip, strict=True))
        self._sums = Dense(n, m, symmetric, dtype)

    def add(self, x: NDArray, y: NDArray) -> None:
        self._sums.add(*(strips[first:] for strips, first in zip((x, y), self._first, strict=True)))

    def put(self, total: NDArray) -> None:
        self._sums.put(*self._positions, total, *self._skip)


class _Visits:
    """Products of the counts of one side's visited genes with the other side's residuals.

    Parameters
    ----------
    work : _Sample
    visited, expanded : Side
        Sides of the counts and of the residuals.
    skip : ndarray
        See :meth:`Side.skip`.
    layout : (bool, bool)
        Whether the visited side is the right one; whether both are the same and the upper triangle
        is filled.
    total : ndarray
        Array for the result.
    """

    def __init__(
        self,
        work: _Sample,
        visited: Side,
        expanded: Side,
        skip: NDArray[np.int64],
        layout: tuple[bool, bool],
        total: NDArray,
    ) -> None:
        self._work, self._skip, self._genes = work, skip, visited.genes.start + visited.visited
        self._layout = (*layout, visited.visited, expanded.expanded)
        self._entries, self._total = Entries(work.counts, self._genes, work.sample), total
        self.needed = len(self._genes) > 0 and len(expanded.expanded) > 0
        if self.needed:
            residual = work.node_sums(expanded.genes)[2][expanded.expanded].astype(total.dtype)
            self._mean = work.node_sums(visited.genes)[1][visited.visited].astype(total.dtype)
            self._residual = Strips(len(residual), total.dtype).turn(residual)

    def add(self, cells: slice, residuals: NDArray) -> None:
        """Add the products over some cells, given the other side's residuals in strips."""
        if self.needed:
            work = self._work
            kernels.strips.visit(
                work.counts.rows,
                work.counts.values,
                *self._entries.until(cells.stop),
                work.sums.depth_in(self._total.dtype),
                cells.start,
                work.slope[self._genes],
                self._skip,
                residuals,
                self._mean,
                self._residual,
                *self._layout,
                cells.start > work.begin,
                self._total,
            )
