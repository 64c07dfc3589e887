"""Sums over the cells of one sample of products of two genes' weighted residuals: the only work that grows with pairs x cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.kernels.vectors import STRIP
from hiercorr.moments.strips import Dense, Strips

if TYPE_CHECKING:
    from hiercorr.moments.depth import DepthSums
from hiercorr.moments.entries import Entries
from hiercorr.moments.residuals import CELL_BLOCK, ExpectedCounts, residual_blocks

Array = NDArray[np.float64]


DENSE = 0.14  # from this detection on, a dense product beats visiting the cells that hold a count


SPARSE = (
    0.1  # of two genes below this detection only the cells that hold a count of both are visited
)


NARROW = 7  # genes of a side, at most, with which all of the other side are visited


SPARSE_BLOCK = 32_768  # cells whose entries are sorted by cell at one time


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
) -> NDArray:
    r"""Sum over the cells of one sample of f_j r_j f_k r_k for the genes of two slices, into `out` if it is given.

    A gene with counts in few cells is visited only there:

    .. math:: \sum_i f_j r_j f_k r_k = \sum_{i: x_{ij} > 0} f_j x_{ij} f_k r_k - \mu_j \sum_i f_j s_i f_k r_k

    where the last sum is a quadrature over the nodes. Of two genes with counts in very few the first sum is taken apart in
    the same way, so that only cells with counts of both are visited. The other pairs are a dense product.

    With `upper` and the same slice twice, what is below the diagonal is left as it is.
    """
    total = (
        np.empty((left.stop - left.start, right.stop - right.start), dtype) if out is None else out
    )
    if counts.starts[sample] == counts.starts[sample + 1]:
        total[...] = 0
        return total
    own = left == right  # symmetric: half the work
    work = _Sample(counts, sums, mu, slope, sample)
    if min(total.shape) <= NARROW and not own:
        turned = total.shape[0] <= total.shape[1]
        work.few_with_all(*((right, left, total.T) if turned else (left, right, total)))
        return total
    sides = _Side(left, counts.detection[left]), _Side(right, counts.detection[right])
    work.with_dense(*sides, own, total)
    work.both_sparse(*sides, own, total)
    if own and not upper:
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
    """As :func:`cross_products`, of residuals from `fitted`: no cell is left out, so every gene is a dense one."""
    own = left == right
    none = np.zeros_like(slope)
    sides = [
        Strips(genes.stop - genes.start, out.dtype) for genes in ((left,) if own else (left, right))
    ]
    dense = Dense(sides[0].n, sides[-1].n, own, out.dtype)
    blocks = [
        residual_blocks(counts, depth, none, slope, genes, sample, out.dtype, fitted)
        for genes in (left, right)[: len(sides)]
    ]
    for parts in zip(*blocks, strict=True):
        xs = [side.turn(block) for side, (_, block) in zip(sides, parts, strict=True)]
        dense.add(xs[0], xs[-1])
    dense.put(np.arange(left.stop - left.start), np.arange(right.stop - right.start), out)
    if own:
        kernels.squares.mirror(out)
    return out


class _Side:
    """Genes of one side of a tile by how many cells hold them: where each stands in the tile and among all."""

    def __init__(self, genes: slice, detection: NDArray[np.float64]) -> None:
        kind = np.digitize(detection, (SPARSE, DENSE))
        # Without a sign: compiled loops look at no index from the end.
        self.sparse, middle, self.dense = (
            np.flatnonzero(kind == k).astype(np.uint64) for k in range(3)
        )
        self.visited = np.concatenate([self.sparse, middle])
        self.blocks = np.concatenate(
            [middle, self.dense]
        )  # whose residuals the others' counts meet
        self.n_middle, self.start = len(middle), genes.start

    def skip(self, n: int | None = None) -> NDArray[np.int64]:
        """How many of the blocks' first genes each visited gene is not to meet: the middle ones' `n`, or those before."""
        own = np.arange(self.n_middle) if n is None else np.full(self.n_middle, n)
        return np.concatenate([np.zeros(len(self.sparse), np.int64), own])


class _Sample:
    """The cells of one sample and what weighs them."""

    def __init__(
        self, counts: Counts, sums: DepthSums, mu: Array, slope: Array, sample: int
    ) -> None:
        self.counts, self.sums, self.mu, self.slope, self.sample = counts, sums, mu, slope, sample
        self.begin, self.end = int(counts.starts[sample]), int(counts.starts[sample + 1])
        self.threads = numba.get_num_threads()

    def few_with_all(self, genes: slice, few: slice, total: NDArray) -> None:
        """Products of all of one side, which are visited where they have counts, with the few of the other."""
        counts, all_genes, others = (
            self.counts,
            np.arange(genes.start, genes.stop),
            np.arange(few.start, few.stop),
        )
        entries = Entries(counts, all_genes, self.sample)
        depth, out = (
            self.sums.depth.astype(total.dtype, copy=False),
            np.empty(total.shape, total.dtype),
        )
        for cells, block in residual_blocks(
            counts, self.sums.depth, self.mu, self.slope, few, self.sample, total.dtype
        ):
            kernels.sums.narrow_products(
                counts.rows,
                counts.values,
                *entries.until(cells.stop),
                depth,
                cells.start,
                self.slope[genes],
                block,
                cells.start > self.begin,
                out,
            )
        total[...] = out - self.node_sums(all_genes)[1] @ self.node_sums(others)[2].T

    def with_dense(self, left: _Side, right: _Side, own: bool, total: NDArray) -> None:
        """Products of two dense genes, and of one that is visited with the residuals of the other.

        Where both sides are the same, the upper triangle.
        """
        visits = [_Visits(self, left, right, left.skip(None if own else 0), (False, own), total)]
        if not own:
            visits.append(
                _Visits(self, right, left, right.skip(left.n_middle), (True, False), total)
            )
        dense = (
            _DenseGenes(left, right, own, total.dtype)
            if len(left.dense) and len(right.dense)
            else None
        )
        ys = self._strips(right, total.dtype, dense is not None or visits[0].wanted)
        xs = ys if own else self._strips(left, total.dtype, dense is not None or visits[1].wanted)
        for cell in range(self.begin, self.end, CELL_BLOCK):
            cells = slice(cell, min(cell + CELL_BLOCK, self.end))
            y = next(ys)
            x = y if own else next(xs)
            if dense is not None and x is not None and y is not None:
                dense.add(x, y)
            for visit, strips in zip(visits, (y, x), strict=False):
                if strips is not None:
                    visit.add(cells, strips)
        if dense is not None:
            dense.put(total)

    def _strips(self, side: _Side, dtype: DTypeLike, wanted: bool) -> Iterator[NDArray | None]:
        """The residuals of a side's blocks, a few thousand cells at a time; each is overwritten by the next."""
        if not (wanted and len(side.blocks)):
            yield from itertools.repeat(None)
        genes = side.start + side.blocks
        depth = self.sums.depth.astype(dtype, copy=False)
        room, entries = Strips(len(genes), dtype), Entries(self.counts, genes, self.sample)
        for cell in range(self.begin, self.end, CELL_BLOCK):
            stop = min(cell + CELL_BLOCK, self.end)
            out = room.array(stop - cell)
            kernels.strips.fill(
                self.counts.rows,
                self.counts.values,
                *entries.until(stop),
                depth,
                cell,
                self.mu[genes],
                self.slope[genes],
                out,
                self.threads,
            )
            yield out

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
            numbers = pairs.view(
                f"u{total.itemsize}"
            )  # an index without a sign is not looked at from the end
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
                *less,
                own,
                left.sparse,
                right.sparse,
                cell > self.begin,
                pairs,
                numbers,
                total,
                self.threads,
            )

    def node_sums(self, genes: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """At each node (genes, nodes): what adds up to sum x f f_k s, mu f at the node, what adds up to sum r f f_k s."""
        sums = self.sums
        f = 1 / (1 + np.outer(self.slope[genes], sums.nodes))
        weight = sums.nodes * f * sums.first[genes, self.sample]
        mu = self.mu[genes, None]
        return weight, mu * f, weight - mu * (f @ sums.gram[0, self.sample])


class _DenseGenes:
    """Products of the dense genes of two sides, from the strips of their blocks, where middle genes come first."""

    def __init__(self, left: _Side, right: _Side, own: bool, dtype: DTypeLike) -> None:
        self._places = left.dense, right.dense
        self._first = [
            side.n_middle // STRIP for side in (left, right)
        ]  # strips of middle genes alone are left out
        self._before = [side.n_middle % STRIP for side in (left, right)]
        n, m = (
            len(side.dense) + before
            for side, before in zip((left, right), self._before, strict=True)
        )
        self._sums = Dense(n, m, own, dtype)

    def add(self, x: NDArray, y: NDArray) -> None:
        self._sums.add(*(strips[first:] for strips, first in zip((x, y), self._first, strict=True)))

    def put(self, total: NDArray) -> None:
        self._sums.put(*self._places, total, *self._before)


class _Visits:
    """Products of the counts of one side's visited genes with the residuals of the other side's blocks, put into `total`.

    Parameters
    ----------
    skip : ndarray
        How many of the blocks' first genes are not wanted of each visited gene.
    place : (bool, bool)
        The visited side is the right one; both are the same and the upper triangle is wanted.
    """

    def __init__(
        self,
        work: _Sample,
        visited: _Side,
        other: _Side,
        skip: NDArray[np.int64],
        place: tuple[bool, bool],
        total: NDArray,
    ) -> None:
        self._work, self._skip, self._genes = work, skip, visited.start + visited.visited
        self._place = (*place, visited.visited, other.blocks)
        self._entries, self._total = Entries(work.counts, self._genes, work.sample), total
        self.wanted = len(self._genes) > 0 and len(other.blocks) > 0
        if self.wanted:
            rest = work.node_sums(other.start + other.blocks)[2].astype(total.dtype)
            self._mean = work.node_sums(self._genes)[1].astype(total.dtype)
            self._rest = Strips(len(rest), total.dtype).turn(rest)

    def add(self, cells: slice, residuals: NDArray) -> None:
        """Some cells, with the others' residuals in strips."""
        if self.wanted:
            work = self._work
            kernels.strips.visit(
                work.counts.rows,
                work.counts.values,
                *self._entries.until(cells.stop),
                work.sums.depth.astype(self._total.dtype, copy=False),
                cells.start,
                work.slope[self._genes],
                self._skip,
                residuals,
                self._mean,
                self._rest,
                *self._place,
                cells.start > work.begin,
                self._total,
                work.threads,
            )
