"""Sums over the cells of one sample of products of two genes' weighted residuals: the only work that grows with pairs x cells."""

from __future__ import annotations

from collections.abc import Iterator
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


def residual_blocks(
    counts: Counts, depth: Array, mu: Array, slope: Array, genes: slice, sample: int, dtype: DTypeLike
) -> Iterator[tuple[slice, NDArray]]:
    """Dense (cells, genes) blocks of (x - s mu) / (1 + a s) for one sample, a few thousand cells at a time.

    A block is overwritten by the next.
    """
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    start, last = counts.offsets[genes, sample], counts.offsets[genes, sample + 1]
    s = depth.astype(dtype, copy=False)
    buffer = np.empty((min(CELL_BLOCK, end - begin), len(start)), dtype)
    for cell in range(begin, end, CELL_BLOCK):
        stop = min(cell + CELL_BLOCK, end)
        upto = last if stop == end else _kernels.entries_before(counts.rows, start, last, stop)
        out = buffer[: stop - cell]
        _kernels.weighted_residuals(counts.rows, counts.values, start, upto, s, cell, mu[genes], slope[genes], out)
        start = upto
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

    In each slice genes come in order of detection; the first of them, with counts in few cells, are visited only there:

    .. math:: \sum_i f_j r_j f_k r_k = \sum_{i: x_{ij} > 0} f_j x_{ij} f_k r_k - \mu_j \sum_i f_j s_i f_k r_k

    where the last sum is a quadrature over the nodes; of two such genes the first sum is taken apart in the same way, so
    that only cells with counts of both are visited. The other pairs are a dense product.
    """
    own = left == right  # symmetric: the upper triangle is enough
    total = np.zeros((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    assert total.flags.c_contiguous
    few = lambda genes: int((counts.detection[genes] < SPARSE).sum())  # noqa: E731
    fl, fr = few(left), few(right)
    total[:fl], total[fl:, :fr] = 0, 0
    if fl < len(total) or fr < total.shape[1]:
        _with_dense(counts, sums, mu, slope, (left, right), (fl, fr), sample, total, own)
    if fl and fr:
        _both_sparse(counts, sums.depth, slope, (left, right), (fl, fr), sample, total[:fl, :fr], own)
    if fl or fr:
        _take_off_means(sums, mu, slope, (left, right), (fl, fr), sample, total)
    if own:
        _kernels.mirror(total)
    return total


def _with_dense(
    counts: Counts, sums: DepthSums, mu: Array, slope: Array, sides: tuple[slice, slice], few: tuple[int, int], sample: int,
    total: NDArray, own: bool,
) -> None:  # fmt: skip
    """Pairs of which at least one gene is dense."""
    (left, right), (fl, fr), dtype = sides, few, total.dtype
    dense_l, dense_r = slice(left.start + fl, left.stop), slice(right.start + fr, right.stop)
    sparse_l, sparse_r = slice(left.start, left.start + fl), slice(right.start, right.start + fr)
    residuals = lambda genes: residual_blocks(counts, sums.depth, mu, slope, genes, sample, dtype)  # noqa: E731
    ys = residuals(dense_r) if fr < total.shape[1] else None
    xs = residuals(dense_l) if fl < len(total) and not own else None
    entries_l, entries_r = _Entries(counts, sparse_l, sample), _Entries(counts, sparse_r, sample)
    corner = total[fl:, fr:]
    product = corner if corner.flags.c_contiguous else np.empty(corner.shape, dtype)
    product[...] = 0
    depth = sums.depth.astype(dtype, copy=False)
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    for cell in range(begin, end, CELL_BLOCK):
        stop = min(cell + CELL_BLOCK, end)
        y = None if ys is None else next(ys)[1]
        x = y if own else None if xs is None else next(xs)[1]
        if x is not None and y is not None:
            _add_product(x, y, product, own)
        if fl and y is not None:
            _kernels.sparse_products(
                counts.rows, counts.values, *entries_l.until(stop), depth, cell, slope[sparse_l], y, total[:fl, fr:]
            )
        if fr and x is not None and not own:
            _kernels.sparse_products(
                counts.rows, counts.values, *entries_r.until(stop), depth, cell, slope[sparse_r], x, total[fl:, :fr].T
            )
    if product is not corner:
        corner[...] = product


def _add_product(x: NDArray, y: NDArray, out: NDArray, own: bool) -> None:
    """out += x' y in place; where both are one array only the upper triangle, at half the work."""
    syrk, gemm = get_blas_funcs(("syrk", "gemm"), (x,))
    if own:  # BLAS counts by columns: its lower triangle of the transposed is our upper one
        done = syrk(1.0, x.T, beta=1.0, c=out.T, lower=1, overwrite_c=1)
    else:
        done = gemm(1.0, y.T, x.T, beta=1.0, c=out.T, trans_b=1, overwrite_c=1)
    if not np.shares_memory(done, out):
        out[...] = done.T


def _both_sparse(
    counts: Counts, depth: Array, slope: Array, sides: tuple[slice, slice], few: tuple[int, int], sample: int, out: NDArray,
    own: bool,
) -> None:  # fmt: skip
    """The part of both genes' counts, of pairs of two sparse genes."""
    genes = [slice(side.start, side.start + n) for side, n in zip(sides, few, strict=True)]
    entries = [_Entries(counts, g, sample) for g in genes]
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    for cell in range(begin, end, SPARSE_BLOCK):
        stop = min(cell + SPARSE_BLOCK, end)
        (start1, stop1), (start2, stop2) = (e.until(stop) for e in entries)
        _kernels.shared_products(
            counts.rows, counts.values, start1, stop1, start2, stop2, depth, cell, stop - cell, slope[genes[0]],
            slope[genes[1]], out, own, numba.get_num_threads(),
        )  # fmt: skip


def _take_off_means(
    sums: DepthSums,
    mu: Array,
    slope: Array,
    sides: tuple[slice, slice],
    few: tuple[int, int],
    sample: int,
    total: NDArray,
) -> None:
    """What cells without a count of a sparse gene hold: a product of sums over the nodes, taken off in place."""
    weight, mean, rest = [], [], []
    for genes in sides:
        g = 1 / (1 + np.outer(slope[genes], sums.nodes))
        weight.append(sums.nodes * g * sums.first[genes, sample])  # of sum x f
        mean.append(mu[genes, None] * g)
        rest.append(weight[-1] - mu[genes, None] * (g @ sums.gram[0, sample]))  # of sum r f
    fl, fr = few
    mean[0][fl:], mean[1][fr:] = 0, 0
    a = np.hstack([mean[0], np.vstack([weight[0][:fl], rest[0][fl:]])]).astype(total.dtype)
    b = np.hstack([rest[1], mean[1]]).astype(total.dtype, order="F")
    (gemm,) = get_blas_funcs(("gemm",), (b,))
    done = gemm(-1.0, b, a, beta=1.0, c=total.T, trans_b=1, overwrite_c=1)
    if not np.shares_memory(done, total):
        total[...] = done.T


class _Entries:
    """The entries of some genes in one sample, up to one cell after the other."""

    def __init__(self, counts: Counts, genes: slice, sample: int) -> None:
        self._rows = counts.rows
        self._start, self._last = counts.offsets[genes, sample], counts.offsets[genes, sample + 1]

    def until(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last entry of each gene between the cell of the call before and this one."""
        start = self._start
        self._start = _kernels.entries_before(self._rows, start, self._last, cell)
        return start, self._start
