r"""Correlation between samples, corrected for the sampling noise of their means.

The log expression of a pseudobulk, :math:`y_{cj} = \log\big((T_{cj} + 1/2)/L_c\big)`, is the
sample's own level plus the noise of a finite number of cells and counts. Both parts of the noise,
Poisson and cell to cell, are in the residuals :math:`r_{ij} = x_{ij} - s_i T_{cj}/\sum s` of the
sample's n cells:

.. math:: N_{c,jk} = \frac{n}{n-1}\,
          \frac{\sum_i r_{ij} r_{ik}}{(T_{cj} + 1/2)(T_{ck} + 1/2)}, \qquad
          \bar N = \frac{1}{S - k}\sum_c (1 - h_c) N_c

(h: leverages of the design with k coefficients), and the correlation of the levels is

.. math:: \rho = \frac{r - r_N}{\sqrt{R_j R_k}}, \qquad
          r_N = \frac{\bar N_{jk}}{\sqrt{V_j V_k}}, \qquad R_j = 1 - \frac{\bar N_{jj}}{V_j}

with V the residual variances of y. Interval: quantiles of the generalised pivotal quantity
(Weerahandi 1993): the residual covariance is Wishart, so :math:`\Sigma^* = L_A T^{-1} T^{-\top}
L_A^\top` with Bartlett's T is a draw of what it estimates; :math:`\bar N` is subtracted from each
draw and draws without variance above it are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import stats

from hiercorr import kernels, moments
from hiercorr.counts.counts import Counts
from hiercorr.moments.products import cross_products

Array = NDArray[np.float64]
DRAWS = 512
MIN_RELIABILITY = 0.2  # minimum proportion of the variance that is not noise


@dataclass(frozen=True)
class Noise:
    """Cells and weights from which the noise of each pair of genes is computed.

    Attributes
    ----------
    own : ndarray, shape (n_genes,)
        Noise variance of y.
    """

    counts: Counts
    sums: moments.DepthSums
    mean: Array
    total: Array
    weight: Array
    own: Array

    def shared(self, left: slice, right: slice, dtype: DTypeLike) -> Array:
        """Return the noise covariance of the pairs of two slices of genes."""
        flat = np.zeros(self.counts.n_genes)
        out = np.zeros((left.stop - left.start, right.stop - right.start))
        for c in np.flatnonzero(self.weight):
            products = cross_products(
                self.counts, self.sums, self.mean[:, c], flat, left, right, int(c), dtype
            )
            scale = self.weight[c] / (self.total[left, c][:, None] * self.total[right, c])
            out += scale * products
        return out


def measure_noise(counts: Counts, weight: Array, tolerance: float) -> Noise:
    """Estimate the noise variances from the cells.

    Parameters
    ----------
    counts : Counts
    weight : ndarray, shape (n_samples,)
        (1 - h) / (S - k) of each sample; 0 for one that is not used.
    """
    sums = moments.depth_sums(counts, tolerance)
    n = counts.cells_per_sample
    weight = np.where(n > 1, weight * n / np.maximum(n - 1, 1), 0.0)
    total = sums.first.sum(2)  # (genes, samples)
    depth = sums.power[1].sum(1)
    mean = total / depth
    cross = (sums.first * sums.nodes).sum(2)
    squares = sums.second.sum(2) - 2 * mean * cross + mean**2 * sums.power[2].sum(1)
    return Noise(counts, sums, mean, total + 0.5, weight, (squares / (total + 0.5) ** 2) @ weight)


def pivotal_draws(df: int, seed: int | np.random.Generator | None) -> tuple[Array, Array, Array]:
    """Draw quasi-random values of Bartlett's decomposition for the pivotal quantity."""
    u = stats.qmc.Sobol(
        3, scramble=True, rng=np.random.default_rng(0 if seed is None else seed)
    ).random(DRAWS)
    t11, t22 = np.sqrt(stats.chi2.ppf(u[:, 0], df)), np.sqrt(stats.chi2.ppf(u[:, 1], df - 1))
    return np.sqrt(df) / t11, stats.norm.ppf(u[:, 2]) / t22, np.sqrt(df) / t22


def corrected(
    r: Array,
    noise: Array,
    reliable: tuple[Array, Array],
    draws: tuple[Array, Array, Array],
    confidence: float,
    above: bool = False,
) -> tuple[Array, Array, Array]:
    """Correct correlations for noise, with intervals; arrays (left, right).

    Parameters
    ----------
    r, noise : ndarray, shape (left, right)
        Observed correlation, and the part of it due to noise, r_N.
    reliable : pair of ndarray
        Reliability of the genes of both sides; NaN below the minimum.
    above : bool
        Whether the interval is needed above the diagonal only.
    """
    lower, upper = np.full(r.shape, np.nan), np.full(r.shape, np.nan)
    low = (1 - confidence) / 2
    kernels.pairs.noise_interval(r, noise, *reliable, *draws, low, 1 - low, above, lower, upper)
    return (r - noise) / np.sqrt(np.outer(*reliable)), lower, upper
