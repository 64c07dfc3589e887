r"""Sums over cells of features of several types, each with its own depth.

With depth s of the type of feature j and t of the type of k, :math:`E x_j = s\mu_j`,
:math:`Var\, x_j = s\mu_j + s^2\sigma_{jj}` and :math:`Cov(x_j, x_k) = s t\,\sigma_{jk}`.
Sums of one feature are those of its type alone; of the sums of pairs, those over functions of both
depths are quadratures over the nodes of both, which the types share, in units of their mean depth.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.moments.depth import Array, DepthSums, Grid, depth_sums

_BASIS_BLOCK = 65_536  # cells per block of the interpolation matrices


@dataclass(frozen=True)
class PairBlock:
    """Part of a tile in which the features of each side are of one type.

    Attributes
    ----------
    types : (int, int)
        Type of the left and of the right features.
    rows, columns : slice
        The part of the tile.
    left, right : slice
        Its features among all.
    own_left, own_right : slice
        Its features among those of their type.
    """

    types: tuple[int, int]
    rows: slice
    columns: slice
    left: slice
    right: slice
    own_left: slice
    own_right: slice


@dataclass(frozen=True)
class ModalitySums:
    """Sums over cells of the features of every type, and of functions of two depths.

    Attributes
    ----------
    parts : tuple of DepthSums
        Sums of the features of each type, with the same nodes.
    edges : ndarray of int64, shape (n_types + 1,)
        First feature of each type, and the number of features.
    cross : dict of (int, int) to ndarray, shape (3, n_samples, m, m)
        For types a < b with depths s and t, sums of s t, s t^2 and s^2 t times L_a L_b^T.
    """

    parts: tuple[DepthSums, ...]
    edges: NDArray[np.int64]
    cross: dict[tuple[int, int], Array]

    @property
    def nodes(self) -> Array:
        """Depths of the interpolation nodes, in units of the mean depth of a type."""
        return self.parts[0].nodes

    @property
    def unit(self) -> Array:
        """Mean depth of the type of each feature, in counts."""
        return np.repeat([part.unit for part in self.parts], np.diff(self.edges))

    def take(self, genes: NDArray[np.int64]) -> ModalitySums:
        """Return the sums of these features, in this order; those of a type must stay together."""
        at = np.searchsorted(genes, self.edges)
        own = [genes[a:b] - e for a, b, e in zip(at[:-1], at[1:], self.edges, strict=False)]
        parts = tuple(part.take(g) for part, g in zip(self.parts, own, strict=True))
        return replace(self, parts=parts, edges=at.astype(np.int64))

    def one_group(self) -> ModalitySums:
        """Add the sums over all samples, as one group."""
        cross = {types: sums.sum(1, keepdims=True) for types, sums in self.cross.items()}
        return replace(self, parts=tuple(part.one_group() for part in self.parts), cross=cross)

    def over_cells(self, values: Array, power: int) -> Array:
        """As :meth:`hiercorr.moments.depth.DepthSums.over_cells`."""
        return np.concatenate(
            [p.over_cells(v, power) for p, v in zip(self.parts, self.split(values), strict=True)]
        )

    def squared_over_cells(self, values: Array) -> Array:
        """As :meth:`hiercorr.moments.depth.DepthSums.squared_over_cells`."""
        return np.concatenate(
            [p.squared_over_cells(v) for p, v in zip(self.parts, self.split(values), strict=True)],
            axis=1,
        )

    def split(self, values: Any) -> list[Any]:
        """Split an array by its first dimension, the features, into those of each type."""
        return [values[a:b] for a, b in itertools.pairwise(self.edges)]

    def blocks(self, left: slice, right: slice) -> Iterator[PairBlock]:
        """Split a tile into parts of one type on each side."""
        sides = (list(self._pieces(side)) for side in (left, right))
        for (a, rows, one, own_one), (b, columns, two, own_two) in itertools.product(*sides):
            yield PairBlock((a, b), rows, columns, one, two, own_one, own_two)

    def grams(self, a: int, b: int) -> NDArray:
        """Return the sums of s t, s t^2 and s^2 t times L_a L_b^T, shape (3, n_samples, m, m)."""
        if a == b:
            return self.parts[a].gram[[0, 1, 1]]
        if a < b:
            return self.cross[a, b]
        return self.cross[b, a][[0, 2, 1]].swapaxes(2, 3)

    def pair_gram(self, block: PairBlock) -> Array:
        """Return the sums of s t L_a L_b^T for the types of a block, (n_samples, m, m)."""
        return self.grams(*block.types)[0]

    def _pieces(self, side: slice) -> Iterator[tuple[int, slice, slice, slice]]:
        for a, (begin, end) in enumerate(itertools.pairwise(self.edges.tolist())):
            first, last = max(side.start, begin), min(side.stop, end)
            if first < last:
                yield (
                    a,
                    slice(first - side.start, last - side.start),
                    slice(first, last),
                    slice(first - begin, last - begin),
                )


Sums = DepthSums | ModalitySums


def sums_of(counts: Counts, tolerance: float) -> Sums:
    """Sum over the cells of each sample, with the depth of each type if there are several.

    Parameters
    ----------
    counts : Counts
    tolerance : float
        Maximum interpolation error of a weight.
    """
    if counts.modalities is None:
        return depth_sums(counts, tolerance)
    return _sums_of_types(counts, tolerance)


def _sums_of_types(counts: Counts, tolerance: float) -> ModalitySums:
    assert counts.modalities is not None
    shared = shared_grid(counts, tolerance)
    parts = tuple(
        depth_sums(of_type, tolerance, replace(shared, unit=float(of_type.depth.mean())))
        for of_type in counts.by_type()
    )
    cross = {
        (a, b): cross_grams(counts, shared, parts[a].depth, parts[b].depth)
        for a, b in itertools.combinations(range(len(parts)), 2)
    }
    return ModalitySums(parts, counts.modalities.edges, cross)


def shared_grid(counts: Counts, tolerance: float) -> Grid:
    """Return nodes for the depths of all types, each in units of its mean."""
    relative = [of_type.depth / of_type.depth.mean() for of_type in counts.by_type()]
    return Grid.over(np.concatenate(relative), tolerance)


def pair_blocks(sums: Sums, left: slice, right: slice) -> Iterator[tuple[PairBlock, Array]]:
    """Yield the parts of a tile by type, and the sums of s t L_a L_b^T, (n_samples, m, m)."""
    if isinstance(sums, ModalitySums):
        for block in sums.blocks(left, right):
            yield block, sums.pair_gram(block)
        return
    rows, columns = (slice(0, side.stop - side.start) for side in (left, right))
    yield PairBlock((0, 0), rows, columns, left, right, left, right), sums.gram[0]


def cross_grams(counts: Counts, grid: Grid, first: Array, second: Array) -> Array:
    """Sum s t, s t^2 and s^2 t times L(s) L(t)^T over the cells of each sample.

    Parameters
    ----------
    counts : Counts
    grid : Grid
    first, second : ndarray, shape (n_cells,)
        Depths s and t, in units of their means.

    Returns
    -------
    ndarray, shape (3, n_samples, m, m)
    """
    out = np.zeros((3, counts.n_samples, grid.size, grid.size))
    for c, (begin, end) in enumerate(itertools.pairwise(counts.starts.tolist())):
        for cell in range(begin, end, _BASIS_BLOCK):
            part = slice(cell, min(cell + _BASIS_BLOCK, end))
            s, t = first[part], second[part]
            left, right = grid.basis(s), grid.basis(t)
            for r, weight in enumerate((s * t, s * t**2, s**2 * t)):
                out[r, c] += (left * weight[:, None]).T @ right
    return out
