r"""CS-CORE's moment regressions with cell covariates (R package 1.1.0), a block of cells at a time.

Mean, variance and covariance may each depend on the covariates C, either of expression ("cell"
level)

.. math:: E x_{ij} = s_i C_i\beta_j,\quad E (x_{ij}-m_{ij})^2 - m_{ij} = s_i^2 C_i\gamma_j,\quad
          E (x_{ij}-m_{ij})(x_{ik}-m_{ik}) = s_i^2 C_i\delta_{jk}

or of the counts ("count" level: the covariate columns are not multiplied by the depth). Weights
depend on the cell through the covariates, so the depth quadrature of :mod:`hiercorr.moments` does
not apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError, one_of
from hiercorr.moments.residuals import residual_blocks

Array = NDArray[np.float64]
LEVELS = ("cell", "count")
PARTS = ("mean", "variance", "covariance")


@dataclass(frozen=True)
class CovariateFit:
    """Coefficients of the mean and variance regressions, and what the covariance regression needs.

    Attributes
    ----------
    mean, variance : ndarray, shape (n_coefficients, n_genes)
        Intercept first; depth in units of its mean.
    theta : float
        Median of mean^2 / variance over genes.
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
        """Share of cells in which the fitted mean of each gene is not positive, shape (n_genes,)."""
        count = np.zeros(self.counts.n_genes)
        for start in range(0, len(self.depth), 4096):
            count += (self.designs[0][start : start + 4096] @ self.mean <= 0).sum(0)
        return count / len(self.depth)

    def products(self, left: slice, right: slice, tested: bool) -> tuple[Array, Array]:
        """Intercept of the covariance regression and its z for the pairs of two slices of genes.

        `tested`: weights from each gene's own variance (the test) instead of the median one (the
        estimate).
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
        m = (self.designs[0][cells] @ self.mean[:, genes]).T
        s2 = self.depth[cells] ** 2
        variance = self.variance[0, genes] if tested else self.mean[0, genes] ** 2 / self.theta
        w = m + np.outer(variance, s2)
        if not tested:
            w = _positive(w)
        return x - m, 1 / w


def _dense(counts: Counts, genes: slice) -> Iterator[tuple[slice, Array]]:
    """Counts as (genes, cells) blocks: residuals of mean 0 and weight 1."""
    zero = np.zeros(counts.n_genes)
    for cells, x in residual_blocks(
        counts, np.ones(counts.n_cells), zero, zero, genes, 0, np.float64
    ):
        yield cells, x.copy()  # the block is used again


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
    """Iteratively reweighted mean and variance regressions.

    Parameters
    ----------
    counts : Counts
        All cells in one group.
    depth : ndarray, shape (n_cells,)
    covariates : ndarray, shape (n_cells, n_coefficients)
        Design matrix, intercept first.
    level : {"cell", "count"}
    adjust : tuple
        Which of ``"mean"``, ``"variance"``, ``"covariance"`` depend on the covariates.
    """
    one_of("covariate_level", level, LEVELS)
    unknown = set(adjust) - set(PARTS)
    if unknown:
        raise InputError(f"adjust takes any of {PARTS}, not {sorted(unknown)}")

    def design(s: Array, part: str) -> Array:
        if part not in adjust:
            return s[:, None]
        return (
            s[:, None] * covariates if level == "cell" else np.column_stack([s, covariates[:, 1:]])
        )

    d_mean, d_var, d_cov = (
        design(depth, "mean"),
        design(depth**2, "variance"),
        design(depth**2, "covariance"),
    )
    everything = slice(0, counts.n_genes)

    def regress(d: Array, response: str, mean: Array | None, median: float | None) -> Array:
        """One weighted least-squares fit for every gene; no `median`: unweighted."""
        k = d.shape[1]
        gram, rhs = np.zeros((counts.n_genes, k, k)), np.zeros((counts.n_genes, k))
        for cells, x in _dense(counts, everything):
            m = (d_mean[cells] @ mean).T if mean is not None else np.zeros_like(x)
            y = x if response == "x" else (x - m) ** 2 - m
            if median is None or mean is None:
                w = np.ones_like(x)
            elif response == "x":
                w = 1 / _positive(m + np.outer(mean[0] ** 2 / median, depth[cells] ** 2))
            else:
                h = (m**2 / median + m) ** 2
                w = 1 / np.where(h > 0, h, 1.0)
            for a in range(k):
                rhs[:, a] += (w * y) @ d[cells, a]
                for b in range(a, k):
                    gram[:, a, b] += w @ (d[cells, a] * d[cells, b])
        for a in range(k):
            for b in range(a):
                gram[:, a, b] = gram[:, b, a]
        return np.asarray(np.linalg.solve(gram, rhs[:, :, None])[:, :, 0].T, np.float64)

    mean = regress(d_mean, "x", None, None)
    variance = regress(d_var, "residual", mean, None)
    theta = mean[0] ** 2 / variance[0]
    iterations, delta = 0, np.inf
    while delta > tolerance and iterations < max_iterations:
        previous, median = theta, float(np.median(theta[theta > 0]))
        mean = regress(d_mean, "x", mean, median)
        variance = regress(d_var, "residual", mean, median)
        theta = mean[0] ** 2 / variance[0]
        both = (theta > 0) & (previous > 0)
        delta = (
            float(np.quantile(np.abs(np.log(theta[both] / previous[both])), 0.95))
            if both.any()
            else 0.0
        )
        iterations += 1
    median = float(np.median(theta[theta > 0])) if (theta > 0).any() else np.inf
    return CovariateFit(
        counts,
        depth,
        (d_mean, d_var, d_cov),
        mean,
        variance,
        median,
        iterations,
        delta <= tolerance,
    )
