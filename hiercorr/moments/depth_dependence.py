r"""Expression that changes with depth: the slope of log expression on log depth of every gene.

Correlations within samples take counts as Poisson with mean :math:`s_i z_{ij}`, z independent of
the depth s. Where :math:`E z_{ij} = \mu_{cj} s_i^{b_j}` instead (large cells have more of one gene
and less of another), two genes correlate through depth: their covariance relative to the means
contains :math:`b_j b_k V`, V the variance of log depth within samples.

In each sample, b solves the quasi-likelihood equations of a regression on log depth with the
weights of the moments,

.. math:: \sum_i w_{ij} (x_{ij} - m_{ij}) (1, \log s_i)' = 0, \quad
          m_{ij} = \mu_{cj} s_i^{1 + b_{cj}},

whose sums over cells are quadratures over depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.moments.depth import Array, DepthSums
from hiercorr.moments.genes import GeneMoments
from hiercorr.moments.modalities import ModalitySums, Sums

SHARE, P_VALUE = 0.05, 0.05  # of genes that follow depth: part of the variance, and p of the slope
_STEPS = 4  # of Newton's method, from b = 0
_LARGEST_STEP, _LARGEST = 1.0, 3.0
_BLOCK = 2_000_000  # entries (genes x samples x nodes) at a time
_LEAST_SPREAD = 1e-4  # variance of log depth, below which there is no slope


@dataclass(frozen=True)
class DepthDependence:
    """Slope of log expression on log depth of each gene, arrays (n_genes,).

    Attributes
    ----------
    slope, se, p_value : ndarray
        Average over donors with its standard error between donors and the p-value of its t test;
        NaN with too little information, the last two also with fewer than 3 donors.
    spread : ndarray
        Variance of log depth within samples, of the type of each gene.
    """

    slope: Array
    se: Array
    p_value: Array
    spread: Array

    def share(self, variance: Array) -> Array:
        """Return the proportion of a gene's relative variance that follows depth.

        The square of the slope is without its sampling variance, so that it is 0 on average for
        genes that do not depend on depth.

        Parameters
        ----------
        variance : ndarray, shape (n_genes,)
            Relative variance beyond noise.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(variance > 0, self.beyond_noise() ** 2 * self.spread / variance, np.nan)

    def follows(self, variance: Array) -> NDArray[np.bool_]:
        """Return the genes of whose variance a part that matters follows depth, significantly."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.share(variance) > SHARE) & (self.p_value < P_VALUE))

    def beyond_noise(self) -> Array:
        """Return the slopes shrunken by their sampling variance; 0 where it is unknown."""
        square = np.nan_to_num(self.slope**2 - self.se**2)
        return np.sign(np.nan_to_num(self.slope)) * np.sqrt(np.maximum(square, 0))


def depth_dependence(
    sums: Sums, fit: GeneMoments, units: NDArray[np.int64] | None = None
) -> DepthDependence:
    """Estimate the slope of log expression on log depth of every gene.

    Parameters
    ----------
    sums : DepthSums or ModalitySums
    fit : GeneMoments
        Moments within samples.
    units : ndarray of int64, shape (n_samples,), optional
        Donor of each sample. None: every sample is a donor.

    Returns
    -------
    DepthDependence
    """
    if isinstance(sums, ModalitySums):
        edges = zip(sums.edges[:-1], sums.edges[1:], strict=True)
        parts = [
            depth_dependence(part, fit.take(np.arange(a, b)), units)
            for part, (a, b) in zip(sums.parts, edges, strict=True)
        ]
        joined = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("slope", "se", "p_value", "spread")
        )
        return DepthDependence(*joined)
    n, s, m = sums.first.shape
    slope, information = np.empty((n, s)), np.empty((n, s))
    step = max(1, _BLOCK // (s * m))
    for a in range(0, n, step):
        part = slice(a, a + step)
        slope[part], information[part] = _by_sample(sums, fit.mu[part], fit.slope[part], part)
    if units is not None:
        slope, information = _of_donors(slope, information, units)
    spread = np.full(n, _spread(sums, fit))
    return DepthDependence(*_average(slope, information), spread)


def _by_sample(sums: DepthSums, mu: Array, a: Array, genes: slice) -> tuple[Array, Array]:
    """Fit the slope in each sample; return it and its information, (genes, n_samples)."""
    log, first = np.log(sums.nodes), sums.first[genes]
    f = 1 / (1 + a[:, :, None] * sums.nodes)
    x0, x1 = np.einsum("jck,jck->jc", f, first), np.einsum("jck,jck,k->jc", f, first, log)
    b, alpha = np.zeros_like(mu), np.log(np.maximum(mu, 1e-300))
    powers, weight = np.column_stack([np.ones_like(log), log, log**2]), f * sums.power[1]
    for step in range(_STEPS + 1):
        mean = weight if step == 0 else weight * np.exp(b[:, :, None] * log)
        j0, j1, j2 = np.moveaxis(np.exp(alpha)[:, :, None] * (mean @ powers), 2, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            information = j2 - j1**2 / j0
            u0, u1 = x0 - j0, x1 - j1
            db = (u1 - j1 / j0 * u0) / information
            known = (information > _LEAST_SPREAD * j0) & np.isfinite(db)
            db = np.where(known, np.clip(db, -_LARGEST_STEP, _LARGEST_STEP), 0.0)
            if step == _STEPS:
                break
            b = np.clip(b + db, -_LARGEST, _LARGEST)
            alpha = alpha + np.where(known, np.nan_to_num((u0 - j1 * db) / j0), 0.0)
    return b, np.where(known, information, 0.0)


def _of_donors(slope: Array, information: Array, units: NDArray[np.int64]) -> tuple[Array, Array]:
    """Average the slopes of the samples of each donor."""
    member = (units[:, None] == np.arange(units.max() + 1)).astype(float)
    total = information @ member
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num((slope * information) @ member / total), total


def _average(slope: Array, information: Array) -> tuple[Array, Array, Array]:
    """Return average, standard error between donors (cluster-robust) and p-value of each gene."""
    n = (information > 0).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = information / information.sum(1, keepdims=True)
        mean = (share * slope).sum(1)
        influence = share * (slope - mean[:, None])
        square = (influence**2).sum(1) / np.maximum(1 - (share**2).sum(1), 1e-12)
        se = np.where(n >= 3, np.sqrt(square), np.nan)
        p = np.where(n >= 3, 2 * special.stdtr(n - 1.0, -np.abs(mean / se)), np.nan)
    return np.where(n > 0, mean, np.nan), se, p


def _spread(sums: DepthSums, fit: GeneMoments) -> float:
    """Return the variance of log depth within samples, with the weights of a typical gene."""
    log = np.log(sums.nodes)
    f2 = (1 + np.median(fit.slope, 0)[:, None] * sums.nodes) ** -2.0  # (samples, nodes)
    weight = f2 * sums.power[2]
    total, first, second = weight.sum(1), (weight * log).sum(1), (weight * log**2).sum(1)
    return float(max((second - first**2 / total).sum() / total.sum(), 0.0))
