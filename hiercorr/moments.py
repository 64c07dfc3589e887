r"""Moment regressions: sums over cells that every estimator is made of.

With depth :math:`s_i`, every weight used here is :math:`f_j(s_i) = 1 / (1 + a_j s_i)`, a function of depth and one number
a gene. So sums over cells of such functions are a small quadrature: with :math:`L` the (cells x nodes) interpolation
matrix in log depth, :math:`\sum_i x_{ij} f_j(s_i) = \sum_k f_j(s_k) (L^T x_j)_k` and
:math:`\sum_i f_j(s_i) g_k(s_i) = f_j(nodes)^T (L^T L) g_k(nodes)`. One pass over the counts, then no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import _kernels
from hiercorr._products import Entries, adjusted_products, cross_products
from hiercorr.data import Counts

if TYPE_CHECKING:
    from hiercorr._cellwise import CellAdjustment

Array = NDArray[np.float64]
Kept = Callable[[str, Callable[[], NDArray]], NDArray]  # a named array, computed only where it is not kept already
_BASIS_BLOCK = 65_536  # cells whose interpolation matrix exists at one time


@dataclass(frozen=True)
class DepthSums:
    """What the moment regressions need of the counts, from one pass.

    Attributes
    ----------
    depth : ndarray, shape (n_cells,)
        Depth divided by its mean, so that numbers are near 1.
    unit : float
        That mean, in counts.
    nodes : ndarray, shape (m,)
        Depths of the interpolation nodes.
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

    def one_group(self) -> DepthSums:
        """The sums over all samples, as one group."""
        return DepthSums(
            self.depth, self.unit, self.nodes, self.first.sum(1, keepdims=True), self.second.sum(1, keepdims=True),
            self.power.sum(1, keepdims=True), self.gram.sum(1, keepdims=True),
        )  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Chebyshev nodes in log depth; the same for all blocks of cells whose sums are to be added.

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
        """Nodes for these cells; `tolerance` is the interpolation error of a weight.

        1 / (1 + e^(u + log a)) has its nearest poles at distance pi from the real line, which fixes the convergence rate.
        """
        unit = float(depth.mean())
        low, high = math.log(depth.min() / unit), math.log(depth.max() / unit)
        half = max((high - low) / 2, 1e-6)
        rate = math.pi / half + math.hypot(1, math.pi / half)
        size = int(np.clip(math.ceil(math.log(100 / tolerance) / math.log(rate)), 4, 160))
        return cls(unit, (high + low) / 2, half, size)

    @property
    def _x(self) -> Array:
        return np.cos((2 * np.arange(self.size) + 1) * np.pi / (2 * self.size))

    @property
    def nodes(self) -> Array:
        return np.exp(self.centre + self.half * self._x)

    def basis(self, depth: Array) -> Array:
        """The matrix (cells, nodes) that interpolates from the nodes to cells of these depths (in units)."""
        angle = (2 * np.arange(self.size) + 1) * np.pi / (2 * self.size)
        difference = ((np.log(depth) - self.centre) / self.half)[:, None] - self._x
        exact = difference == 0
        difference[exact] = 1
        basis = (-1.0) ** np.arange(self.size) * np.sin(angle) / difference
        basis /= basis.sum(1, keepdims=True)
        hit = exact.any(1)
        basis[hit] = exact[hit]
        return basis


def depth_sums(counts: Counts, tolerance: float, grid: Grid | None = None) -> DepthSums:
    """Pass once over the counts, a block of cells of one sample at a time; `grid` None: that of these cells."""
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
            _kernels.sums.nodal_sums(
                counts.rows, counts.values, *entries.until(stop), cell, b, first[:, c], second[:, c]
            )
            for r in range(5):
                power[r, c] += d**r @ b
            for r in range(2):
                gram[r, c] += (b * d[:, None] ** (2 + r)).T @ b
    return DepthSums(depth, grid.unit, grid.nodes, first, second, power, gram)


@dataclass(frozen=True)
class GeneMoments:
    """Mean and variance of each gene, in units of mean depth, with each sample's share in the variance.

    Attributes
    ----------
    mu, slope : ndarray, shape (n_genes, n_samples) or (n_genes, 1)
        Mean expression and the a of the weight 1 / (1 + a s) used for covariances.
    num, den : ndarray, shape (n_genes, n_samples)
        Sums whose ratio is the variance: ``num.sum(1) / den.sum(1)``.
    theta : float
        Median of mean^2 / variance over genes.
    iterations : int
        Rounds of reweighting.
    centred : bool
        True if every sample has its own mean.
    adjustment : CellAdjustment, optional
        Covariates of cells that are taken out.
    """

    mu: Array
    slope: Array
    num: Array
    den: Array
    theta: float
    iterations: int
    converged: bool
    centred: bool
    adjustment: CellAdjustment | None = None

    @property
    def variance(self) -> Array:
        """Ratio of the sums over samples, shape (n_genes,)."""
        den = self.den.sum(1)
        return np.divide(self.num.sum(1), den, out=np.full(len(den), np.nan), where=den > 0)


def _median_positive(theta: Array) -> float:
    good = theta[np.isfinite(theta) & (theta > 0)]
    return float(np.median(good)) if len(good) else np.inf


def pooled_moments(sums: DepthSums, max_iterations: int = 11, tolerance: float = 0.05) -> GeneMoments:
    r"""Published CS-CORE: iteratively reweighted regressions of x on s and of (x - s mu)^2 - s mu on s^2.

    .. math:: \mu_j = \frac{\sum_i f_{ij} x_{ij}}{\sum_i f_{ij} s_i},\quad
              \sigma_{jj} = \frac{\sum_i f_{ij}^2 [(x_{ij} - s_i\mu_j)^2 - s_i\mu_j]}{\sum_i f_{ij}^2 s_i^2},\quad
              f_{ij} = \frac{1}{1 + s_i\mu_j/\theta}

    with theta the median of :math:`\mu^2/\sigma` over genes where it is positive (Su et al. 2023).
    """
    s = sums.nodes
    first, second = sums.first.sum(1), sums.second.sum(1)  # (genes, nodes): all samples together
    b = sums.power
    total = b.sum(1)

    def variance_sums(mu: Array, f2: Array) -> tuple[Array, Array]:
        m = mu[:, None]
        num = (
            np.einsum("jk,jck->jc", f2, sums.second)
            - 2 * m * np.einsum("jk,jck->jc", f2 * s, sums.first)
            + m**2 * (f2 @ b[2].T)
            - m * (f2 @ b[1].T)
        )
        return num, f2 @ b[2].T

    mu = first @ s / total[2].sum()
    start = (second @ s**2 - 2 * mu * (first @ s**3) + mu**2 * total[4].sum() - mu * total[3].sum()) / total[4].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        theta = mu**2 / start
        iterations, delta = 0, np.inf
        while delta > tolerance and iterations < max_iterations:
            previous, median = theta, _median_positive(theta)
            f = 1 / (1 + np.outer(mu / median, s))
            mu = (f * first).sum(1) / (f @ total[1])
            f2 = 1 / (1 + np.outer(mu / median, s)) ** 2
            num, den = variance_sums(mu, f2)
            variance = num.sum(1) / den.sum(1)
            theta = mu**2 / variance
            both = (theta > 0) & (previous > 0)
            delta = float(np.abs(np.log(theta[both] / previous[both])).max()) if both.any() else 0.0
            iterations += 1
    median = _median_positive(theta)
    slope = (mu / median)[:, None]
    return GeneMoments(mu[:, None], slope, num, den, median, iterations, delta <= tolerance, False)


def within_moments(sums: DepthSums, max_iterations: int = 30, tolerance: float = 1e-4) -> GeneMoments:
    r"""Each sample's mean, and the variance within samples on the squared-CV scale.

    With :math:`w = 1/(1 + s\mu_c/\theta)`, :math:`W = \sum w s`, :math:`\mu_c = \sum w x / W`, r = x - s mu_c:

    .. math:: N_c = \sum_i w_i^2 (r_i^2 - s_i\mu_c) + \text{(noise that fitting } \mu_c \text{ removed)}, \quad
              D_c = B_c\,(\mu_c^2 - \widehat{\operatorname{Var}}\,\hat\mu_c)

    where :math:`E N_c = \sigma B_c` exactly for given weights. Squaring an estimated mean adds its variance, which for
    a sparse gene in a small sample is most of it; without the subtraction the variance is too small and every
    correlation too large.
    """
    shape = sums.first.shape[:2]
    mu, num, den = sums.first.sum(2) / sums.power[1].sum(1), np.empty(shape), np.empty(shape)
    theta, iterations, change = 1.0, 0, np.inf

    def refit() -> None:
        _kernels.sums.sample_moments(sums.first, sums.second, sums.power, sums.nodes, theta, mu, num, den)

    while change > tolerance and iterations < max_iterations:
        refit()
        total = den.sum(1)
        phi = np.divide(num.sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
        with np.errstate(divide="ignore"):
            new = float(np.clip(_median_positive(1 / phi), 1e-3, 1e6))
        change, theta = abs(math.log(new / theta)), new
        iterations += 1
    refit()
    return GeneMoments(mu, mu / theta, num, den, theta, iterations, change <= tolerance, True)


def weight_products(
    sums: DepthSums, slope: Array, left: slice, right: slice, sample: int, dtype: DTypeLike, out: NDArray | None = None
) -> NDArray:
    """Sum over the cells of one sample of s^2 f_j f_k for the genes of two slices, into `out` if it is given."""
    f = lambda g: 1 / (1 + np.outer(slope[g], sums.nodes))  # noqa: E731
    a, b = (f(left) @ sums.gram[0, sample]).astype(dtype), f(right).astype(dtype)
    if out is None:
        out = np.empty((len(a), len(b)), dtype)
    _kernels.sums.row_products(a, b, left == right, out.dtype.type(1), False, out, numba.get_num_threads())
    if left == right:
        _kernels.squares.mirror(out)
    return out


def numerators(
    counts: Counts, sums: DepthSums, fit: GeneMoments, left: slice, right: slice, out: NDArray, kept: Kept | None = None,
    upper: bool = False,
) -> NDArray:  # fmt: skip
    r"""Each sample's sum :math:`N_c` of the pairs of two slices of genes, written into `out` (n_samples, left, right).

    `kept` may know some of them from an interrupted run, and keeps the others. With `upper` and the same slice twice, what is
    below the diagonal may be anything.
    """
    for c in range(counts.n_samples):
        k = c if fit.centred else 0

        def product(c: int = c, k: int = k) -> NDArray:
            if fit.adjustment is not None:
                fitted = fit.adjustment.fitted(c, out.dtype)
                return adjusted_products(counts, sums.depth, fit.slope[:, c], left, right, c, fitted, out[c])
            return cross_products(counts, sums, fit.mu[:, k], fit.slope[:, k], left, right, c, out.dtype, out[c], upper)

        if kept is None:
            product()
        else:
            out[c] = kept(f"{left.start}-{right.start}-{c}", product)
    return out


def denominators(sums: DepthSums, fit: GeneMoments, left: slice, right: slice, num: NDArray, out: NDArray) -> NDArray:
    r"""Each sample's D of the pairs, from the nodes alone; the covariance is the ratio of the sums over samples.

    Centred at each sample's mean, :math:`D_c = \mu_j\mu_k B - N K / (W_j W_k)` with :math:`K = \sum w_j w_k s^2` and
    :math:`B = K - \sum w_j w_k^2 s^3/W_k - \sum w_j^2 w_k s^3/W_j + K^2/(W_j W_k)`, so that
    :math:`E N_c = \sigma_{jk} B`; with covariates of cells :math:`B = \sum w_j w_k v` (:mod:`hiercorr._cellwise`); not centred,
    :math:`D_c = K`. They are written into `out`.
    """
    if not fit.centred:
        for c in range(len(num)):
            weight_products(sums, fit.slope[:, 0], left, right, c, num.dtype, out[c])
        return out
    if fit.adjustment is not None:
        for c in range(len(num)):
            f, g = (1 / (1 + np.outer(fit.slope[genes, c], sums.nodes)) for genes in (left, right))
            k = (f @ sums.gram[0, c] / (f @ sums.power[1, c])[:, None]) @ (g / (g @ sums.power[1, c])[:, None]).T
            b = (fit.mu[left, c, None] * f @ fit.adjustment.gram[c]) @ (fit.mu[right, c, None] * g).T
            out[c] = b - num[c] * k
        return out
    a, k_left, w_left = _centred_side(sums, fit, left, num.dtype, True)
    b, k_right, w_right = _centred_side(sums, fit, right, num.dtype, False)
    _kernels.sums.centred_denominators(a, b, k_left, k_right, w_left, w_right, num, out)
    return out


def _centred_side(
    sums: DepthSums, fit: GeneMoments, genes: slice, dtype: DTypeLike, left: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Factors of one side: B mu mu without its K^2 term, K / (W_j W_k), and W mu; each starts with (n_samples, genes)."""
    f = (1 / (1 + fit.slope[genes].T[:, :, None] * sums.nodes)).astype(dtype)
    power, (g2, g3) = sums.power[1].astype(dtype), sums.gram.astype(dtype)
    mu = fit.mu[genes].T.astype(dtype)[:, :, None]
    w = np.matmul(f, power[:, :, None])
    if left:
        f2 = np.matmul(f, g2)
        parts = [mu * f2, -mu * np.matmul(f, g3), -(mu / w) * np.matmul(f * f, g3)]
        k = f2 / w
    else:
        parts = [mu * f, (mu / w) * f * f, mu * f]
        k = f / w
    return np.concatenate(parts, axis=2), k, (w * mu)[:, :, 0]
