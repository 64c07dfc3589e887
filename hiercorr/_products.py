"""Sums over the cells of one sample of products of two genes' weighted residuals: the only work that grows with pairs x cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import get_blas_funcs

from hiercorr import _kernels
from hiercorr.data import Counts

if TYPE_CHECKING:
    from hiercorr.moments import DepthSums

Array = NDArray[np.float64]
SPARSE = 0.1  # below this detection, visiting the cells that hold a count beats a dense product
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
        self._start = _kernels.entries_before(self._rows, start, self._last, cell)
        return start, self._start


Fitted = Callable[[slice, "slice | NDArray"], NDArray]  # expected counts of (cells, genes)


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
    """Dense (cells, genes) blocks of (x - s mu) / (1 + a s) for one sample, a few thousand cells at a time.

    With `fitted` its expected counts stand in the place of s mu. A block is overwritten by the next.
    """
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    m, a, entries = mu[genes], slope[genes], Entries(counts, genes, sample)
    if fitted is not None:
        m = np.zeros_like(m)
    s = depth.astype(dtype, copy=False)
    buffer = np.empty((min(CELL_BLOCK, end - begin), len(m)), dtype)
    for cell in range(begin, end, CELL_BLOCK):
        stop = min(cell + CELL_BLOCK, end)
        out = buffer[: stop - cell]
        _kernels.weighted_residuals(counts.rows, counts.values, *entries.until(stop), s, cell, m, a, out)
        if fitted is not None:
            cells = slice(cell, stop)
            _kernels.take_off_weighted(out, fitted(cells, genes), s[cells], a.astype(dtype))
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
    own = left == right  # symmetric: half the work
    total = np.empty((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    low = counts.detection < SPARSE
    few = [side.start + np.flatnonzero(low[side]) for side in (left, right)]
    many = [side.start + np.flatnonzero(~low[side]) for side in (left, right)]
    at_few, at_many = ([g - side.start for g, side in zip(genes, (left, right), strict=True)] for genes in (few, many))
    work = _Sample(counts, sums.depth, mu, slope, sample, total.dtype)
    dense, first, second = work.with_dense(few, many, own)
    if dense.shape == total.shape:
        total[...] = dense
    else:
        _kernels.place(dense, at_many[0], at_many[1], total, False)
        _kernels.place(first, at_few[0], at_many[1], total, own)
        _kernels.place(work.both_sparse(few, own), at_few[0], at_few[1], total, False)
        if not own:
            _kernels.place(np.ascontiguousarray(second.T), at_many[0], at_few[1], total, False)
        _take_off_means(sums, mu, slope, (left, right), (low[left], low[right]), sample, total)
    if own:
        _kernels.mirror(total)
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
    out[...] = 0
    none = np.zeros_like(slope)
    ys = residual_blocks(counts, depth, none, slope, right, sample, out.dtype, fitted)
    if own:
        for _, y in ys:
            _add_product(y, y, out, True)
        _kernels.mirror(out)
    else:
        xs = residual_blocks(counts, depth, none, slope, left, sample, out.dtype, fitted)
        for (_, x), (_, y) in zip(xs, ys, strict=True):
            _add_product(x, y, out, False)
    return out


Genes = list[NDArray[np.int64]]  # of the left and of the right side


class _Sample:
    """The cells of one sample and what weighs them."""

    def __init__(self, counts: Counts, depth: Array, mu: Array, slope: Array, sample: int, dtype: DTypeLike) -> None:
        self.counts, self.depth, self.mu, self.slope, self.sample = counts, depth, mu, slope, sample
        self.dtype = np.dtype(dtype)
        self.begin, self.end = int(counts.starts[sample]), int(counts.starts[sample + 1])

    def _blocks(self, genes: NDArray[np.int64], wanted: bool) -> Iterator[NDArray | None]:
        if wanted and len(genes):
            c = self.counts
            for _, block in residual_blocks(c, self.depth, self.mu, self.slope, genes, self.sample, self.dtype):
                yield block
        else:
            yield from itertools.repeat(None)

    def with_dense(self, few: Genes, many: Genes, own: bool) -> tuple[NDArray, NDArray, NDArray]:
        """Products of dense with dense genes, of left sparse with right dense, of right sparse with left dense ones.

        Where both sides are the same, the upper triangle of the first, and nothing of the last.
        """
        counts, slope = self.counts, self.slope
        dense = np.zeros((len(many[0]), len(many[1])), self.dtype)
        first = np.zeros((len(few[0]), len(many[1])), self.dtype)
        second = np.zeros((0 if own else len(few[1]), len(many[0])), self.dtype)
        entries = [Entries(counts, genes, self.sample) for genes in few]
        depth = self.depth.astype(self.dtype, copy=False)
        xs, ys = self._blocks(many[0], not own), self._blocks(many[1], True)
        for cell in range(self.begin, self.end, CELL_BLOCK) if len(many[0]) + len(many[1]) else ():
            stop = min(cell + CELL_BLOCK, self.end)
            y = next(ys)
            x = y if own else next(xs)
            if x is not None and y is not None:
                _add_product(x, y, dense, own)
            for k, (block, out) in enumerate(((y, first), (x, second))):
                if block is not None and len(out):
                    _kernels.sparse_products(
                        counts.rows, counts.values, *entries[k].until(stop), depth, cell, slope[few[k]], block, out
                    )
        return dense, first, second

    def both_sparse(self, few: Genes, own: bool) -> NDArray:
        """The part of both genes' counts, of pairs of two sparse genes."""
        counts = self.counts
        out = np.zeros((len(few[0]), len(few[1])), self.dtype)
        entries = [Entries(counts, genes, self.sample) for genes in few]
        for cell in range(self.begin, self.end, SPARSE_BLOCK) if out.size else ():
            stop = min(cell + SPARSE_BLOCK, self.end)
            (start1, stop1), (start2, stop2) = (e.until(stop) for e in entries)
            _kernels.shared_products(
                counts.rows, counts.values, start1, stop1, start2, stop2, self.depth, cell, stop - cell,
                self.slope[few[0]], self.slope[few[1]], out, own, numba.get_num_threads(),
            )  # fmt: skip
        return out


def _add_product(x: NDArray, y: NDArray, out: NDArray, own: bool) -> None:
    """out += x' y in place; where both are one array only the upper triangle, at half the work."""
    syrk, gemm = get_blas_funcs(("syrk", "gemm"), (x,))
    if own:  # BLAS counts by columns: its lower triangle of the transposed is our upper one
        done = syrk(1.0, x.T, beta=1.0, c=out.T, lower=1, overwrite_c=1)
    else:
        done = gemm(1.0, y.T, x.T, beta=1.0, c=out.T, trans_b=1, overwrite_c=1)
    if not np.shares_memory(done, out):
        out[...] = done.T


def _take_off_means(
    sums: DepthSums, mu: Array, slope: Array, sides: tuple[slice, slice], low: tuple[NDArray, NDArray], sample: int,
    total: NDArray,
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
    b = np.hstack([rest[1], mean[1]]).astype(total.dtype, order="F")
    (gemm,) = get_blas_funcs(("gemm",), (b,))
    done = gemm(-1.0, b, a, beta=1.0, c=total.T, trans_b=1, overwrite_c=1)
    if not np.shares_memory(done, total):
        total[...] = done.T
