"""Moment regressions of the mean and variance of each gene, pooled over or within samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.moments.cell_adjustment import Adjustment
from hiercorr.moments.depth import Array, DepthSums
from hiercorr.moments.modalities import ModalitySums


@dataclass(frozen=True)
class GeneMoments:
    """Mean and variance of each gene, per unit of mean depth, with each sample's contribution.

    Attributes
    ----------
    mu, slope : ndarray, shape (n_genes, n_samples) or (n_genes, 1)
        Mean expression, and a in the weight 1 / (1 + a s) of the covariances.
    num, den : ndarray, shape (n_genes, n_samples)
        Sums whose ratio is the variance: ``num.sum(1) / den.sum(1)``.
    theta : float
        Median of mean^2 / variance over genes.
    iterations : int
        Number of reweighting iterations.
    converged : bool
        Whether the iterations converged.
    centred : bool
        Whether each sample is centred at its own mean.
    adjustment : CellAdjustment or ModalityAdjustment, optional
        Covariates of cells removed from the sums.
    thetas : ndarray, shape (n_genes,), optional
        Theta of the type of each feature, if there are several types; `theta` is that of the first.
    """

    mu: Array
    slope: Array
    num: Array
    den: Array
    theta: float
    iterations: int
    converged: bool
    centred: bool
    adjustment: Adjustment | None = None
    thetas: Array | None = None

    @property
    def variance(self) -> Array:
        """Variance of each gene, the ratio of the sums over samples, shape (n_genes,)."""
        den = self.den.sum(1)
        return np.divide(self.num.sum(1), den, out=np.full(len(den), np.nan), where=den > 0)

    def take(self, genes: NDArray[np.int64]) -> GeneMoments:
        """Return the moments of these genes, in this order."""
        adjustment = None if self.adjustment is None else self.adjustment.take(genes)
        return replace(
            self,
            mu=self.mu[genes],
            slope=self.slope[genes],
            num=self.num[genes],
            den=self.den[genes],
            adjustment=adjustment,
            thetas=None if self.thetas is None else self.thetas[genes],
        )


def joined(parts: Sequence[GeneMoments]) -> GeneMoments:
    """Join the moments of features of several types, each fitted with its own depth."""
    mu, slope, num, den = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("mu", "slope", "num", "den")
    )
    return replace(
        parts[0],
        mu=mu,
        slope=slope,
        num=num,
        den=den,
        iterations=max(part.iterations for part in parts),
        converged=all(part.converged for part in parts),
        thetas=np.repeat([part.theta for part in parts], [len(part.mu) for part in parts]),
    )


def _median_positive(theta: Array) -> float:
    good = theta[np.isfinite(theta) & (theta > 0)]
    return float(np.median(good)) if len(good) else np.inf


def pooled_moments(
    sums: DepthSums | ModalitySums, max_iterations: int = 11, tolerance: float = 0.05
) -> GeneMoments:
    r"""Fit the moment regressions of published CS-CORE, pooled over samples.

    Iteratively reweighted regressions of x on s and of (x - s mu)^2 - s mu on s^2:

    .. math:: \mu_j = \frac{\sum_i f_{ij} x_{ij}}{\sum_i f_{ij} s_i},\quad
              \sigma_{jj} = \frac{\sum_i f_{ij}^2 [(x_{ij} - s_i\mu_j)^2 - s_i\mu_j]}
              {\sum_i f_{ij}^2 s_i^2},\quad
              f_{ij} = \frac{1}{1 + s_i\mu_j/\theta}

    with theta the median of :math:`\mu^2/\sigma` over genes where it is positive (Su et al. 2023).

    Parameters
    ----------
    sums : DepthSums or ModalitySums
    max_iterations : int
        Maximum number of reweighting iterations.
    tolerance : float
        Maximum change of log theta over genes at convergence.

    Returns
    -------
    GeneMoments
    """
    if isinstance(sums, ModalitySums):
        return joined([pooled_moments(part, max_iterations, tolerance) for part in sums.parts])
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
    start = (
        second @ s**2 - 2 * mu * (first @ s**3) + mu**2 * total[4].sum() - mu * total[3].sum()
    ) / total[4].sum()
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


def within_moments(
    sums: DepthSums | ModalitySums, max_iterations: int = 30, tolerance: float = 1e-4
) -> GeneMoments:
    r"""Fit each sample's mean, and the variance within samples on the squared-CV scale.

    With :math:`w = 1/(1 + s\mu_c/\theta)`, :math:`W = \sum w s`, :math:`\mu_c = \sum w x / W` and
    r = x - s mu_c:

    .. math:: N_c = \sum_i w_i^2 (r_i^2 - s_i\mu_c)
              + \text{(noise removed by fitting } \mu_c \text{)}, \quad
              D_c = B_c\,(\mu_c^2 - \widehat{\operatorname{Var}}\,\hat\mu_c)

    where :math:`E N_c = \sigma B_c` exactly for given weights. Squaring an estimated mean adds the
    variance of the estimate, which dominates for a sparse gene in a small sample; without the
    subtraction the variance would be too small and every correlation too large.

    Parameters
    ----------
    sums : DepthSums or ModalitySums
    max_iterations : int
        Maximum number of reweighting iterations.
    tolerance : float
        Change of log theta at convergence.

    Returns
    -------
    GeneMoments
    """
    if isinstance(sums, ModalitySums):
        return joined([within_moments(part, max_iterations, tolerance) for part in sums.parts])
    shape = sums.first.shape[:2]
    mu, num, den = sums.first.sum(2) / sums.power[1].sum(1), np.empty(shape), np.empty(shape)
    theta, iterations, change = 1.0, 0, np.inf

    def refit() -> None:
        kernels.sums.sample_moments(
            sums.first, sums.second, sums.power, sums.nodes, theta, mu, num, den
        )

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
