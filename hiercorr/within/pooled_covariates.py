r"""CS-CORE's moment regressions with cell covariates (R package 1.1.0), by blocks of cells.

Mean, variance and covariance may each depend on the covariates C, either of expression (level
"cell")

.. math:: E x_{ij} = s_i C_i\beta_j,\quad E (x_{ij}-m_{ij})^2 - m_{ij} = s_i^2 C_i\gamma_j,\quad
          E (x_{ij}-m_{ij})(x_{ik}-m_{ik}) = s_i^2 C_i\delta_{jk}

or of the counts (level "count": the covariate columns are not multiplied by the depth). Weights
depend on the cell through the covariates, so that the depth quadrature of :mod:`hiercorr.moments`
does not apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.moments.residuals import residual_blocks

Array = NDArray[np.float64]
LEVELS = ("cell", "count")
PARTS = ("mean", "variance", "covariance")


@dataclass(frozen=True)
class CovariateFit:
    """Fitted mean and variance regressions, and the input of the covariance regression.

    Attributes
    ----------
    counts : Counts
        All cells in one group.
    depth : ndarray, shape (n_cells,)
        Depth in units of its mean.
    designs : tuple of ndarray
        Design matrices of the mean, variance and covariance regressions.
    mean, variance : ndarray, shape (n_coefficients, n_genes)
        Coefficients, intercept first.
    theta : float
        Median of mean^2 / variance over genes.
    iterations : int
    converged : bool
    """

    counts: Counts
    depth: Array
    designs: tuple[Array, Array, Array]
    mean: Array
    variance: Array
    theta: float
    iterations: int
    converged: bool

    def negative_means(self) -> Array:
        """Return the proportion of cells with a fitted mean that is not positive, by gene."""
        count = np.zeros(self.counts.n_genes)
        for start in range(0, len(self.depth), 4096):
            count += (self.designs[0][start : start + 4096] @ self.mean <= 0).sum(0)
        return count / len(self.depth)

    def products(self, left: slice, right: slice, tested: bool) -> tuple[Array, Array]:
        """Estimate the intercept of the covariance regression and its z for pairs of genes.

        Parameters
        ----------
        left, right : slice
            Genes of the two sides.
        tested : bool
            Whether weights use the variance of each gene (for the test) or the median one (for the
            estimate).

        Returns
        -------
        estimate, z : ndarray, shape (left, right)
        """
        d = self.designs[2]
        k = d.shape[1]
        shape = (left.stop - left.start, right.stop - right.start)
        gram, rhs = np.zeros((k, k, *shape)), np.zeros((k, *shape))
        sides = zip(_dense(self.counts, left), _dense(self.counts, right), strict=True)
        for (cells, x), (_, y) in sides:
            r, w = self._weighted(x, cells, left, tested)
            r2, w2 = self._weighted(y, cells, right, tested)
            for a in range(k):
                rhs[a] += (r * w * d[cells, a]) @ (r2 * w2).T
                for b in range(a, k):
                    gram[a, b] += (w * (d[cells, a] * d[cells, b])) @ w2.T
        for a in range(k):
            for b in range(a):
                gram[a, b] = gram[b, a]
        inverse = np.linalg.inv(np.moveaxis(gram, (0, 1), (2, 3)))
        first = np.einsum("jka,ajk->jk", inverse[:, :, 0, :], rhs)
        return first, first / np.sqrt(inverse[:, :, 0, 0])

    def _weighted(self, x: Array, cells: slice, genes: slice, tested: bool) -> tuple[Array, Array]:
        """Return residuals and weights."""
        m = (self.designs[0][cells] @ self.mean[:, genes]).T
        s2 = self.depth[cells] ** 2
        variance = self.variance[0, genes] if tested else self.mean[0, genes] ** 2 / self.theta
        w = m + np.outer(variance, s2)
        if not tested:
            w = _positive(w)
        return x - m, 1 / w


def _dense(counts: Counts, genes: slice) -> Iterator[tuple[slice, Array]]:
    """Yield blocks of counts, shape (genes, cells): residuals from 0 with weight 1."""
    zero = np.zeros(counts.n_genes)
    for cells, x in residual_blocks(
        counts, np.ones(counts.n_cells), zero, zero, genes, 0, np.float64
    ):
        yield cells, x.copy()  # the memory of the block is reused


def _positive(w: Array) -> Array:
    return np.where(np.isfinite(w) & (w > 0), w, 1.0)


def fit_covariates(
    counts: Counts,
    depth: Array,
    covariates: Array,
    level: str = "cell",
    adjust: tuple[str, ...] = PARTS,
    max_iterations: int = 11,
    tolerance: float = 0.05,
) -> CovariateFit:
    """Fit the mean and variance regressions by iteratively reweighted least squares.

    Parameters
    ----------
    counts : Counts
        All cells in one group.
    depth : ndarray, shape (n_cells,)
    covariates : ndarray, shape (n_cells, n_coefficients)
        Design matrix, intercept first.
    level : {"cell", "count"}
        Whether covariates act on expression or on the counts.
    adjust : tuple of {"mean", "variance", "covariance"}
        Regressions that include the covariates.
    max_iterations : int
    tolerance : float
        Change of log theta, as its 95% quantile over genes, below which the fit has converged.

    Returns
    -------
    CovariateFit
    """

    def design(s: Array, part: str) -> Array:
        if part not in adjust:
            return s[:, None]
        if level == "cell":
            return s[:, None] * covariates
        return np.column_stack([s, covariates[:, 1:]])

    designs = design(depth, "mean"), design(depth**2, "variance"), design(depth**2, "covariance")
    regressions = _Regressions(counts, depth, designs[0], designs[1])
    mean = regressions.mean()
    variance = regressions.variance(mean)
    theta = mean[0] ** 2 / variance[0]
    iterations, delta = 0, np.inf
    while delta > tolerance and iterations < max_iterations:
        previous, median = theta, float(np.median(theta[theta > 0]))
        mean = regressions.reweighted_mean(mean, median)
        variance = regressions.variance(mean, median)
        theta = mean[0] ** 2 / variance[0]
        both = (theta > 0) & (previous > 0)
        change = np.abs(np.log(theta[both] / previous[both]))
        delta = float(np.quantile(change, 0.95)) if both.any() else 0.0
        iterations += 1
    median = float(np.median(theta[theta > 0])) if (theta > 0).any() else np.inf
    converged = delta <= tolerance
    return CovariateFit(counts, depth, designs, mean, variance, median, iterations, converged)


@dataclass(frozen=True)
class _Regressions:
    """Weighted least-squares regressions of the counts and of their squared residuals.

    Attributes
    ----------
    counts : Counts
    depth : ndarray, shape (n_cells,)
    mean_design, variance_design : ndarray, shape (n_cells, k)
    """

    counts: Counts
    depth: Array
    mean_design: Array
    variance_design: Array

    def mean(self) -> Array:
        """Regress the counts on the covariates, without weights."""
        blocks = ((cells, x, np.ones_like(x)) for cells, x in self._blocks())
        return _least_squares(self.mean_design, blocks, self.counts.n_genes)

    def reweighted_mean(self, mean: Array, theta: float) -> Array:
        """Regress the counts on the covariates, with weights from an earlier fit."""

        def blocks() -> Iterator[tuple[slice, Array, Array]]:
            for cells, x in self._blocks():
                m = (self.mean_design[cells] @ mean).T
                w = m + np.outer(mean[0] ** 2 / theta, self.depth[cells] ** 2)
                yield cells, x, 1 / _positive(w)

        return _least_squares(self.mean_design, blocks(), self.counts.n_genes)

    def variance(self, mean: Array, theta: float | None = None) -> Array:
        """Regress squared residuals less the Poisson variance; without `theta`, unweighted."""

        def blocks() -> Iterator[tuple[slice, Array, Array]]:
            for cells, x in self._blocks():
                m = (self.mean_design[cells] @ mean).T
                w = np.ones_like(x)
                if theta is not None:
                    h = (m**2 / theta + m) ** 2
                    w = 1 / np.where(h > 0, h, 1.0)
                yield cells, (x - m) ** 2 - m, w

        return _least_squares(self.variance_design, blocks(), self.counts.n_genes)

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        return _dense(self.counts, slice(0, self.counts.n_genes))


def _least_squares(
    design: Array, blocks: Iterable[tuple[slice, Array, Array]], n_genes: int
) -> Array:
    """Fit one regression per gene.

    Parameters
    ----------
    design : ndarray, shape (n_cells, k)
    blocks : iterable of (slice, ndarray, ndarray)
        Cells, and responses and weights of all genes in them, shape (n_genes, cells).
    n_genes : int

    Returns
    -------
    ndarray, shape (k, n_genes)
    """
    k = design.shape[1]
    gram, rhs = np.zeros((n_genes, k, k)), np.zeros((n_genes, k))
    for cells, y, w in blocks:
        for a in range(k):
            rhs[:, a] += (w * y) @ design[cells, a]
            for b in range(a, k):
                gram[:, a, b] += w @ (design[cells, a] * design[cells, b])
    for a in range(k):
        for b in range(a):
            gram[:, a, b] = gram[:, b, a]
    return np.asarray(np.linalg.solve(gram, rhs[:, :, None])[:, :, 0].T, np.float64)
