"""Sums over the cells of one sample of products of two genes' weighted residuals: the only work that grows with pairs x cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import _kernels
from hiercorr.data import Counts

if TYPE_CHECKING:
    from hiercorr.moments import DepthSums

Array = NDArray[np.float64]
SPARSE = 0.1  # below this detection, visiting the cells that hold a count beats a dense product
NARROW = 7  # genes of a side that are dense whatever their detection
SPARSE_BLOCK = 32_768  # cells whose entries are sorted by cell at one time
CELL_BLOCK = 4096  # cells whose residuals are dense at one time


class Entries:
    """The entries of some genes in one sample, up to one cell after the other."""

    def __init__(self, counts: Counts, genes: slice | NDArray, sample: int) -> None:
        self._rows = counts.rows
        self._start, self._last = counts.offsets[genes, sample], counts.offsets[genes, sample + 1]

    def until(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last entry of each gene between the cell of the call before and this one."""
        start = self._start
        self._start = _kernels.counts.entries_before(self._rows, start, self._last, cell)
        return start, self._start


Fitted = Callable[["slice | NDArray", slice], NDArray]  # expected counts of (genes, cells)


def residual_blocks(
    counts: Counts,
    depth: Array,
    mu: Array,
    slope: Array,
    genes: slice | NDArray,
    sample: int,
    dtype: DTypeLike,
    fitted: Fitted | None = None,
) -> Iterator[tuple[slice, NDArray]]:
    """Dense (genes, cells) blocks of (x - s mu) / (1 + a s) for one sample, a few thousand cells at a time.

    With `fitted` its expected counts stand in the place of s mu. A block is overwritten by the next.
    """
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    m, a, entries = mu[genes], slope[genes], Entries(counts, genes, sample)
    if fitted is not None:
        m = np.zeros_like(m)
    s = depth.astype(dtype, copy=False)
    buffer = np.empty(len(m) * min(CELL_BLOCK, end - begin), dtype)
    for cell in range(begin, end, CELL_BLOCK):
        stop = min(cell + CELL_BLOCK, end)
        out = buffer[: len(m) * (stop - cell)].reshape(len(m), stop - cell)
        _kernels.sums.weighted_residuals(counts.rows, counts.values, *entries.until(stop), s, cell, m, a, out)
        if fitted is not None:
            cells = slice(cell, stop)
            _kernels.sums.take_off_weighted(out, fitted(genes, cells), s[cells], a.astype(dtype))
        yield slice(cell, stop), out


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
) -> NDArray:
    r"""Sum over the cells of one sample of f_j r_j f_k r_k for the genes of two slices, into `out` if it is given.

    Genes with counts in few cells are visited only there:

    .. math:: \sum_i f_j r_j f_k r_k = \sum_{i: x_{ij} > 0} f_j x_{ij} f_k r_k - \mu_j \sum_i f_j s_i f_k r_k

    where the last sum is a quadrature over the nodes; of two such genes the first sum is taken apart in the same way, so
    that only cells with counts of both are visited. The other pairs are a dense product.
    """
    total = np.empty((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    if counts.starts[sample] == counts.starts[sample + 1]:
        total[...] = 0
        return total
    own = left == right  # symmetric: half the work
    low = counts.detection < SPARSE
    few_left, few_right = low[left], low[right]
    if min(total.shape) <= NARROW and not own:  # one gene against all: the others are visited where they have counts
        few_left = np.full(total.shape[0], total.shape[0] > total.shape[1])
        few_right = np.full(total.shape[1], not few_left.any())
    sides = _Side(left.start, few_left), _Side(right.start, few_right)
    work = _Sample(counts, sums.depth, mu, slope, sample)
    work.with_dense(*sides, own, total)
    work.both_sparse(*sides, own, total)
    if few_left.any() or few_right.any():
        _take_off_means(sums, mu, slope, (left, right), (few_left, few_right), sample, own, total)
    if own:
        _kernels.squares.mirror(total)
    return total


def adjusted_products(
    counts: Counts,
    depth: Array,
    slope: Array,
    left: slice,
    right: slice,
    sample: int,
    fitted: Fitted,
    out: NDArray,
) -> NDArray:
    """As :func:`cross_products`, of residuals from `fitted`: no cell is left out, so every gene is a dense one."""
    own = left == right
    threads = numba.get_num_threads()
    none = np.zeros_like(slope)
    at_left, at_right = (np.arange(genes.stop - genes.start) for genes in (left, right))

    def blocks(genes: slice) -> Iterator[tuple[slice, NDArray]]:
        return residual_blocks(counts, depth, none, slope, genes, sample, out.dtype, fitted)

    xs = blocks(left)  # nothing is made of it until it is asked for
    for k, (_, y) in enumerate(blocks(right)):
        x = y if own else next(xs)[1]
        _kernels.sums.dense_products(x, y, own, at_left, at_right, k > 0, out, threads)
    if own:
        _kernels.squares.mirror(out)
    return out


class _Side:
    """Genes of one side of a tile: sparse and dense ones, and where each stands in the tile."""

    def __init__(self, start: int, low: NDArray[np.bool_]) -> None:
        self.at_few, self.at_many = np.flatnonzero(low), np.flatnonzero(~low)
        self.few, self.many = start + self.at_few, start + self.at_many


class _Sample:
    """The cells of one sample and what weighs them."""

    def __init__(self, counts: Counts, depth: Array, mu: Array, slope: Array, sample: int) -> None:
        self.counts, self.depth, self.mu, self.slope, self.sample = counts, depth, mu, slope, sample
        self.begin, self.end = int(counts.starts[sample]), int(counts.starts[sample + 1])
        self.threads = numba.get_num_threads()

    def _blocks(self, genes: NDArray[np.int64], dtype: DTypeLike, wanted: bool = True) -> Iterator[NDArray | None]:
        if wanted and len(genes):
            c = self.counts
            for _, block in residual_blocks(c, self.depth, self.mu, self.slope, genes, self.sample, dtype):
                yield block
        else:
            yield from itertools.repeat(None)

    def with_dense(self, left: _Side, right: _Side, own: bool, total: NDArray) -> None:
        """Products of dense with dense genes, of left sparse with right dense, of right sparse with left dense ones.

        Where both sides are the same, the upper triangle.
        """
        first, second = Entries(self.counts, left.few, self.sample), Entries(self.counts, right.few, self.sample)
        xs, ys = self._blocks(left.many, total.dtype, not own), self._blocks(right.many, total.dtype)
        across = np.empty((len(left.few), len(right.many)), total.dtype)
        back = np.empty((0 if own else len(right.few), len(left.many)), total.dtype)
        for cell in range(self.begin, self.end, CELL_BLOCK) if len(left.many) + len(right.many) else ():
            stop, add = min(cell + CELL_BLOCK, self.end), cell > self.begin
            y = next(ys)
            x = y if own else next(xs)
            if x is not None and y is not None:
                _kernels.sums.dense_products(x, y, own, left.at_many, right.at_many, add, total, self.threads)
            if y is not None and across.size:
                self._visit(first.until(stop), cell, left, y, add, across)
            if x is not None and back.size:
                self._visit(second.until(stop), cell, right, x, add, back)
        if across.size:
            _kernels.squares.scatter(across, left.at_few, right.at_many, False, own, total)
        if back.size:
            _kernels.squares.scatter(back, right.at_few, left.at_many, True, False, total)

    def _visit(
        self, entries: tuple[NDArray, NDArray], cell: int, few: _Side, block: NDArray, add: bool, out: NDArray
    ) -> None:
        """The part of the counts of one side's sparse genes in products with the residuals of the other's dense ones."""
        depth = self.depth.astype(out.dtype, copy=False)
        given = (
            self.counts.rows, self.counts.values, *entries, depth, cell, self.slope[few.few], block, add, out
        )  # fmt: skip
        if len(block) <= NARROW:
            _kernels.sums.narrow_products(*given)
        else:
            _kernels.sums.sparse_products(*given, self.threads)

    def both_sparse(self, left: _Side, right: _Side, own: bool, total: NDArray) -> None:
        """The part of both genes' counts, of pairs of two sparse genes."""
        counts = self.counts
        entries = [Entries(counts, side.few, self.sample) for side in (left, right)]
        for cell in range(self.begin, self.end, SPARSE_BLOCK) if len(left.few) and len(right.few) else ():
            stop = min(cell + SPARSE_BLOCK, self.end)
            (start1, stop1), (start2, stop2) = (e.until(stop) for e in entries)
            pairs = np.empty((int((stop2 - start2).sum()), 2), total.dtype)
            genes = pairs.view(f"i{total.itemsize}")
            _kernels.sums.shared_products(
                counts.rows, counts.values, start1, stop1, start2, stop2, self.depth, cell, stop - cell,
                self.slope[left.few], self.slope[right.few], own, left.at_few, right.at_few, cell > self.begin, pairs, genes,
                total, self.threads,
            )  # fmt: skip


def _take_off_means(
    sums: DepthSums, mu: Array, slope: Array, sides: tuple[slice, slice], low: tuple[NDArray, NDArray], sample: int,
    own: bool, total: NDArray,
) -> None:  # fmt: skip
    """What cells without a count of a sparse gene hold: a product of sums over the nodes, taken off in place."""
    weight, mean, rest = [], [], []
    for genes in sides:
        g = 1 / (1 + np.outer(slope[genes], sums.nodes))
        weight.append(sums.nodes * g * sums.first[genes, sample])  # of sum x f
        mean.append(mu[genes, None] * g)
        rest.append(weight[-1] - mu[genes, None] * (g @ sums.gram[0, sample]))  # of sum r f
    for k in range(2):
        mean[k][~low[k]] = 0
    a = np.hstack([mean[0], np.where(low[0][:, None], weight[0], rest[0])]).astype(total.dtype)
    b = np.hstack([rest[1], mean[1]]).astype(total.dtype)
    _kernels.sums.row_products(a, b, own, total.dtype.type(-1), True, total, numba.get_num_threads())
