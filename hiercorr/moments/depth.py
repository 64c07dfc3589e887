r"""Sums over cells of functions of sequencing depth, by quadrature.

Every weight is a function of sequencing depth :math:`s_i` with one parameter per gene,
:math:`f_j(s_i) = 1 / (1 + a_j s_i)`. Sums over cells of such functions therefore reduce to a small
quadrature: with :math:`L` the (cells x nodes) interpolation matrix in log depth,
:math:`\sum_i x_{ij} f_j(s_i) = \sum_k f_j(s_k) (L^T x_j)_k` and
:math:`\sum_i f_j(s_i) g_k(s_i) = f_j(nodes)^T (L^T L) g_k(nodes)`. This takes one pass over
the counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.moments.entries import Entries

Array = NDArray[np.float64]
_BASIS_BLOCK = 65_536  # cells per block of the interpolation matrix
_WIDE = 500  # ratio of depths above which the weights of the deepest cells need more digits


@dataclass(frozen=True)
class DepthSums:
    """Sums over cells that the moment regressions need, from one pass over the counts.

    Attributes
    ----------
    depth : ndarray, shape (n_cells,)
        Depth divided by the mean depth.
    unit : float
        Mean depth, in counts.
    nodes : ndarray, shape (m,)
        Depths of the interpolation nodes, in units of mean depth.
    first, second : ndarray, shape (n_genes, n_samples, m)
        Sums over the cells of a sample of x L and x^2 L.
    power : ndarray, shape (5, n_samples, m)
        Sums of s^r L, r = 0..4.
    gram : ndarray, shape (2, n_samples, m, m)
        Sums of s^2 L L^T and s^3 L L^T.
    """

    depth: Array
    unit: float
    nodes: Array
    first: Array
    second: Array
    power: Array
    gram: Array

    def precise(self, dtype: DTypeLike) -> DTypeLike:
        """Return the precision in which sums over nodes keep the digits of `dtype`.

        Depths that differ by orders of magnitude make large terms of opposite signs.
        """
        return np.float64 if self.nodes.max() > _WIDE * self.nodes.min() else dtype

    def depth_in(self, dtype: DTypeLike) -> NDArray:
        """Return `depth` in a precision; samples may be so many that each cannot convert it."""
        return self._single_depth if np.dtype(dtype) == np.float32 else self.depth

    @cached_property
    def _single_depth(self) -> NDArray[np.float32]:
        return self.depth.astype(np.float32)

    def take(self, genes: NDArray[np.int64]) -> DepthSums:
        """Return the sums of these genes, in this order."""
        return replace(self, first=self.first[genes], second=self.second[genes])

    def one_group(self) -> DepthSums:
        """Add the sums over all samples, as one group."""
        return DepthSums(
            self.depth,
            self.unit,
            self.nodes,
            self.first.sum(1, keepdims=True),
            self.second.sum(1, keepdims=True),
            self.power.sum(1, keepdims=True),
            self.gram.sum(1, keepdims=True),
        )

    def over_cells(self, values: Array, power: int) -> Array:
        """Sum s^power times a function of depth over the cells of each sample.

        Parameters
        ----------
        values : ndarray, shape (n_genes, n_samples, m)
            The function of each gene at the nodes.
        power : int

        Returns
        -------
        ndarray, shape (n_genes, n_samples)
        """
        return np.einsum("jck,ck->jc", values, self.power[power])

    def squared_over_cells(self, values: Array) -> Array:
        """Sum s^2 times the square of a function of depth, shape (n_samples, n_genes)."""
        return np.einsum("jck,ckl,jcl->cj", values, self.gram[0], values, optimize=True)


@dataclass(frozen=True)
class Grid:
    """Chebyshev nodes in log depth, common to all blocks of cells whose sums are added.

    Attributes
    ----------
    unit : float
        Mean depth, in counts; depths are divided by it.
    centre, half : float
        Middle and half width of the range of log depth.
    size : int
        Number of nodes.
    """

    unit: float
    centre: float
    half: float
    size: int

    @classmethod
    def over(cls, depth: Array, tolerance: float) -> Grid:
        """Choose nodes that cover the depths of all cells.

        The weight 1 / (1 + e^(u + log a)) has its nearest poles at distance pi from the real line,
        which determines the convergence rate. Where depths differ by orders of magnitude, the
        weight of the deepest cells is far below 1, while the factor s^2 makes them dominate the
        sums: the tolerance then decreases with the square of the ratio.

        Parameters
        ----------
        depth : ndarray, shape (n_cells,)
            Sequencing depth, in counts.
        tolerance : float
            Maximum interpolation error of a weight, for ordinary ranges of depth.

        Returns
        -------
        Grid
        """
        unit = float(depth.mean())
        low, high = math.log(depth.min() / unit), math.log(depth.max() / unit)
        half = max((high - low) / 2, 1e-6)
        rate = math.pi / half + math.hypot(1, math.pi / half)
        digits = math.log(100 / tolerance) + 2 * max(high - low - math.log(_WIDE), 0)
        size = int(np.clip(math.ceil(digits / math.log(rate)), 4, 240))
        return cls(unit, (high + low) / 2, half, size)

    @property
    def _x(self) -> Array:
        return np.cos((2 * np.arange(self.size) + 1) * np.pi / (2 * self.size))

    @property
    def nodes(self) -> Array:
        """Depths of the nodes, in units of mean depth, shape (size,)."""
        return np.exp(self.centre + self.half * self._x)

    def basis(self, depth: Array) -> Array:
        """Build the matrix that interpolates from the nodes to cells.

        Parameters
        ----------
        depth : ndarray, shape (n_cells,)
            Sequencing depth, in units of mean depth.

        Returns
        -------
        ndarray, shape (n_cells, size)
        """
        angle = (2 * np.arange(self.size) + 1) * np.pi / (2 * self.size)
        difference = ((np.log(depth) - self.centre) / self.half)[:, None] - self._x
        exact = difference == 0
        difference[exact] = 1
        basis = (-1.0) ** np.arange(self.size) * np.sin(angle) / difference
        basis /= basis.sum(1, keepdims=True)
        on_node = exact.any(1)
        basis[on_node] = exact[on_node]
        return basis


def depth_sums(counts: Counts, tolerance: float, grid: Grid | None = None) -> DepthSums:
    """Sum over the cells of each sample in one pass over the counts, in blocks of cells.

    Parameters
    ----------
    counts : Counts
    tolerance : float
        Maximum interpolation error of a weight.
    grid : Grid, optional
        Nodes; None: nodes for the depths of these cells.

    Returns
    -------
    DepthSums
    """
    grid = grid or Grid.over(counts.depth, tolerance)
    depth = counts.depth / grid.unit
    s, m = counts.n_samples, grid.size
    first, second = np.zeros((counts.n_genes, s, m)), np.zeros((counts.n_genes, s, m))
    power, gram = np.zeros((5, s, m)), np.zeros((2, s, m, m))
    for c in range(s):
        entries = Entries(counts, slice(None), c)
        begin, end = int(counts.starts[c]), int(counts.starts[c + 1])
        for cell in range(begin, end, _BASIS_BLOCK):
            stop = min(cell + _BASIS_BLOCK, end)
            d = depth[cell:stop]
            b = grid.basis(d)
            kernels.sums.nodal_sums(
                counts.rows, counts.values, *entries.until(stop), cell, b, c, first, second
            )
            for r in range(5):
                power[r, c] += d**r @ b
            for r in range(2):
                gram[r, c] += (b * d[:, None] ** (2 + r)).T @ b
    return DepthSums(depth, grid.unit, grid.nodes, first, second, power, gram)
