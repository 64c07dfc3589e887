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
DENSE = 0.18  # from this detection on, a dense product beats visiting the cells that hold a count
SPARSE = 0.1  # of two genes below this detection only the cells that hold a count of both are visited
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

    A gene with counts in few cells is visited only there:

    .. math:: \sum_i f_j r_j f_k r_k = \sum_{i: x_{ij} > 0} f_j x_{ij} f_k r_k - \mu_j \sum_i f_j s_i f_k r_k

    where the last sum is a quadrature over the nodes. Of two genes with counts in very few the first sum is taken apart in
    the same way, so that only cells with counts of both are visited. The other pairs are a dense product.
    """
    total = np.empty((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    if counts.starts[sample] == counts.starts[sample + 1]:
        total[...] = 0
        return total
    own = left == right  # symmetric: half the work
    if min(total.shape) <= NARROW and not own:  # one gene against all: the others are visited where they have counts
        sparse, dense = (0.0, 2.0), (0.0, 0.0)
        kinds = (dense, sparse) if total.shape[0] <= total.shape[1] else (sparse, dense)
    else:
        kinds = ((SPARSE, DENSE),) * 2
    work = _Sample(counts, sums, mu, slope, sample)
    sides = [_Side(genes, counts.detection[genes], *k) for genes, k in zip((left, right), kinds, strict=True)]
    work.with_dense(*sides, own, total)
    work.both_sparse(*sides, own, total)
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
    """Genes of one side of a tile by how many cells hold them: where each stands in the tile and among all."""

    def __init__(self, genes: slice, detection: NDArray[np.float64], sparse: float, dense: float) -> None:
        kind = np.digitize(detection, (sparse, dense))
        self.sparse, middle, self.dense = (np.flatnonzero(kind == k) for k in range(3))
        self.visited = np.concatenate([self.sparse, middle])
        self.blocks = np.concatenate([middle, self.dense])  # whose residuals the others' counts meet
        self.n_middle, self.start = len(middle), genes.start

    def skip(self, n: int | None = None) -> NDArray[np.int64]:
        """How many of the blocks' first genes each visited gene is not to meet: the middle ones' `n`, or those before."""
        own = np.arange(self.n_middle) if n is None else np.full(self.n_middle, n)
        return np.concatenate([np.zeros(len(self.sparse), np.int64), own])


class _Sample:
    """The cells of one sample and what weighs them."""

    def __init__(self, counts: Counts, sums: DepthSums, mu: Array, slope: Array, sample: int) -> None:
        self.counts, self.sums, self.mu, self.slope, self.sample = counts, sums, mu, slope, sample
        self.begin, self.end = int(counts.starts[sample]), int(counts.starts[sample + 1])
        self.threads = numba.get_num_threads()

    def _blocks(self, side: _Side, dtype: DTypeLike, wanted: bool) -> Iterator[NDArray | None]:
        if wanted and len(side.blocks):
            c, genes = self.counts, side.start + side.blocks
            for _, block in residual_blocks(c, self.sums.depth, self.mu, self.slope, genes, self.sample, dtype):
                yield block
        else:
            yield from itertools.repeat(None)

    def with_dense(self, left: _Side, right: _Side, own: bool, total: NDArray) -> None:
        """Products of two dense genes, and of one that is visited with the residuals of the other.

        Where both sides are the same, the upper triangle.
        """
        both = len(left.dense) > 0 and len(right.dense) > 0
        xs = self._blocks(left, total.dtype, not own and (both or len(right.visited) > 0))
        ys = self._blocks(right, total.dtype, both or len(left.visited) > 0)
        visits = [_Visits(self, left, right, left.skip(None if own else 0), total.dtype)]
        if not own:
            visits.append(_Visits(self, right, left, right.skip(left.n_middle), total.dtype))
        for cell in range(self.begin, self.end, CELL_BLOCK) if len(left.blocks) + len(right.blocks) else ():
            stop, add = min(cell + CELL_BLOCK, self.end), cell > self.begin
            y = next(ys)
            x = y if own else next(xs)
            if both and x is not None and y is not None:
                _kernels.sums.dense_products(
                    x[left.n_middle :], y[right.n_middle :], own, left.dense, right.dense, add, total, self.threads
                )
            for visit, block in zip(visits, (y, x), strict=False):
                if block is not None:
                    visit.add(cell, stop, block, add)
        for visit, turned in zip(visits, (False, True), strict=False):
            visit.finish(turned, own, total)

    def both_sparse(self, left: _Side, right: _Side, own: bool, total: NDArray) -> None:
        """Products of two sparse genes."""
        if not (len(left.sparse) and len(right.sparse)):
            return
        counts, genes = self.counts, [side.start + side.sparse for side in (left, right)]
        (weight, mean, _), (_, mean2, rest) = (self.node_sums(g) for g in genes)
        less = [np.hstack(x).astype(total.dtype) for x in ((mean, weight), (rest, mean2))]
        entries = [Entries(counts, g, self.sample) for g in genes]
        for cell in range(self.begin, self.end, SPARSE_BLOCK):
            stop = min(cell + SPARSE_BLOCK, self.end)
            (start1, stop1), (start2, stop2) = (e.until(stop) for e in entries)
            pairs = np.empty((int((stop2 - start2).sum()), 2), total.dtype)
            numbers = pairs.view(f"i{total.itemsize}")
            _kernels.sums.shared_products(
                counts.rows, counts.values, start1, stop1, start2, stop2, self.sums.depth, cell, stop - cell,
                self.slope[genes[0]], self.slope[genes[1]], *less, own, left.sparse, right.sparse, cell > self.begin, pairs,
                numbers, total, self.threads,
            )  # fmt: skip

    def node_sums(self, genes: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """At each node (genes, nodes): what adds up to sum x f f_k s, mu f at the node, what adds up to sum r f f_k s."""
        sums = self.sums
        f = 1 / (1 + np.outer(self.slope[genes], sums.nodes))
        weight = sums.nodes * f * sums.first[genes, self.sample]
        mu = self.mu[genes, None]
        return weight, mu * f, weight - mu * (f @ sums.gram[0, self.sample])


class _Visits:
    """Products of the counts of one side's visited genes with the residuals of the other side's blocks."""

    def __init__(self, work: _Sample, visited: _Side, other: _Side, skip: NDArray[np.int64], dtype: DTypeLike) -> None:
        self._work, self._at, self._other, self._skip = work, visited.visited, other, skip
        self._genes = visited.start + self._at
        self._entries = Entries(work.counts, self._genes, work.sample)
        self._total = np.empty((len(self._genes), len(other.blocks)), dtype)

    def add(self, cell: int, stop: int, block: NDArray, add: bool) -> None:
        """The cells from `cell` to `stop`, whose residuals are in `block` (genes, cells)."""
        if not self._total.size:
            return
        work, dtype = self._work, self._total.dtype
        depth, a = work.sums.depth.astype(dtype, copy=False), work.slope[self._genes]
        given = (work.counts.rows, work.counts.values, *self._entries.until(stop), depth, cell, a)
        if len(block) <= NARROW:
            _kernels.sums.narrow_products(*given, block, add, self._total)
        else:
            _kernels.sums.sparse_products(*given, self._skip, block, add, self._total, work.threads)

    def finish(self, turned: bool, own: bool, total: NDArray) -> None:
        """Take off what cells without a count hold, and put the products where they belong."""
        if not self._total.size:
            return
        work, other = self._work, self._other
        mean = work.node_sums(self._genes)[1].astype(total.dtype)
        rest = work.node_sums(other.start + other.blocks)[2].astype(total.dtype)
        _kernels.sums.row_products(mean, rest, False, total.dtype.type(-1), True, self._total, work.threads)
        _kernels.squares.scatter(self._total, self._skip, self._at, other.blocks, turned, own, total)
