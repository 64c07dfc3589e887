r"""Uncertainty over donors of the relative variance of genes, and its regression on a design.

The relative variance of a gene is a ratio of sums over samples,

.. math:: \phi = \frac{\sum_c N_c}{\sum_c D_c}, \qquad E N_c = \phi_c\, E D_c,

see :func:`hiercorr.moments.within_moments`. Inference is on the scale of :math:`\log\phi`, but
never by the logarithm of a single sample's estimate where counts are few: it is biased there, and
undefined where the estimate is negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from hiercorr.inference.moderation import squeeze_variances
from hiercorr.inference.pairs import LEAST_DF, sample_effects, variance_shares

Array = NDArray[np.float64]

_LARGEST_TAU2 = 25.0
_STEPS, _TOLERANCE, _LARGEST_STEP = 100, 1e-7, 1.0  # of Fisher scoring, on the scale of log phi
_FURTHEST = 12.0  # from log phi over all samples: a group has no variance beyond noise
_LEAST_D, _LEAST_RATIO, _LEAST_LEFT = 0.2, 1e-3, 1e-2
_NOISE_OF_LINEAR = 2.0  # residuals are linear where noise is at least half of the heterogeneity


def variance_interval(num: Array, den: Array, noise: Array, confidence: float) -> dict[str, Array]:
    r"""Compute standard errors and confidence intervals of the relative variance over donors.

    First-order jackknife of :math:`\log\phi` over the k donors with information on the gene:

    .. math:: x_c = \frac{N_c - \phi D_c}{\phi D}, \quad d_c = \frac{x_c}{1 - b_c}, \quad
              s^2 = \frac{k-1}{k}\sum_c (d_c - \bar d)^2, \quad
              \phi\,e^{\pm t s}, \quad df = \frac{1}{\sum_c b_c^2} - 1

    with the donor's share b_c of :func:`hiercorr.inference.pairs.variance_shares`; the standard
    error of :math:`\phi` is :math:`\phi s`. Positive limits follow from the logarithm.

    Parameters
    ----------
    num, den : ndarray, shape (n_genes, n_donors)
        Sums N and D.
    noise : ndarray, shape (n_genes,)
        As for :func:`hiercorr.inference.pairs.variance_shares`.
    confidence : float
        Confidence level.

    Returns
    -------
    dict of ndarray, shape (n_genes,)
        ``se``, ``lower`` and ``upper``; NaN without a positive variance or with fewer than 3 donors
        with information.
    """
    carrying = den > 0
    k = carrying.sum(1)
    num, den = (np.where(carrying, part, 0.0) for part in (num, den))
    effect, share = sample_effects(num, den).T, variance_shares(num, den, noise).T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        phi = num.sum(1) / den.sum(1)
        d = np.where(carrying, effect / (1 - share), 0.0)
        mean = d.sum(1) / k
        squares = np.where(carrying, (d - mean[:, None]) ** 2, 0.0).sum(1)
        s = np.sqrt((k - 1) / k * squares)
        df = 1 / (share**2).sum(1) - 1
        known = (phi > 0) & (k >= 3) & (df >= LEAST_DF) & np.isfinite(s)
        half = stats.t.ppf(0.5 + confidence / 2, np.where(known, df, 1.0)) * s
        lower, upper = phi * np.exp(-half), phi * np.exp(half)
        nan = np.where(known & np.isfinite(upper), 0.0, np.nan)
    return {"se": phi * s + nan, "lower": lower + nan, "upper": upper + nan}


@dataclass(frozen=True)
class VarianceSums:
    """Sums whose ratio is the relative variance of genes, by sample; (n_genes, n_samples).

    Attributes
    ----------
    num, den : ndarray
        Sums N and D.
    typical : ndarray
        D with the sample's mean replaced by one that is shrunk towards the mean over samples by its
        reliability: positive, and almost free of the noise of D where counts are few.
    parts : ndarray, shape (3, n_genes, n_samples)
        Coefficients of 1, phi and phi^2 in the sampling variance of N.
    """

    num: Array
    den: Array
    typical: Array
    parts: Array

    def take(self, genes: NDArray) -> VarianceSums:
        """Return the sums of these genes."""
        num, den, typical = (a[genes] for a in (self.num, self.den, self.typical))
        return VarianceSums(num, den, typical, self.parts[:, genes])

    def sampling_variance(self, phi: Array) -> Array:
        """Return the sampling variance of N / D relative to phi^2, (n_genes, n_samples)."""
        a, b, c = self.parts
        return (a / phi**2 + b / phi + c) / self.typical**2

    def noise_of_nothing(self, phi: Array) -> Array:
        """Return the variance, relative to phi^2, of N / D of a sample without variance."""
        return self.parts[0] / phi[:, None] ** 2 / self.typical**2


@dataclass(frozen=True)
class VarianceRegression:
    """Contrast of the log relative variance of genes.

    Attributes
    ----------
    estimate, se, df : ndarray, shape (n_genes,)
        Contrast on the scale of the natural logarithm, its standard error and the degrees of
        freedom of the t distribution; NaN where the relative variance is not positive over all
        samples, or the estimate does not exist because it is not positive in one group.
    tau : float
        Standard deviation between samples of the relative variance, relative to its mean.
    """

    estimate: Array
    se: Array
    df: Array
    tau: float


def variance_regression(sums: VarianceSums, design: Array, contrast: Array) -> VarianceRegression:
    r"""Regress the log of the relative variance of each gene on a design, samples as units.

    Quasi-likelihood with a log link, solved by Fisher scoring:

    .. math:: \log\phi_c = x_c'\beta, \quad \sum_c w_c x_c r_c = 0, \quad
              w_c = \frac{1}{\tau^2 + v_c(\sqrt{\phi\phi_c})}, \quad
              s^2 = \frac{1}{n}\sum_c \frac{w_c r_c^2}{1 - h_c}, \\
              r_c = \lambda \frac{N_c / \phi_c - D_c}{\tilde D_c} + (1 - \lambda)
              \Big(g(N_c / D_c) - \log\phi_c + \tfrac12 v_c\Big), \quad
              \lambda = \min\Big(1, \frac{2 \bar v}{\tau^2}\Big)

    with the sampling variance :math:`v_c` from the cells and :math:`\tau^2`, common to all genes,
    such that the median over genes of :math:`(n - k) s^2` is that of :math:`\chi^2_{n-k}`.
    :math:`v_c` is taken between the fitted value :math:`\phi_c` and the :math:`\phi` of all
    samples: at the fitted value, weights would follow the noise of few counts, above all where each
    block has a level of its own.
    Sampling noise adds to N_c, so that residuals are linear in it where noise matters
    (:math:`\lambda = 1`), and negative N_c need no special treatment. Where samples differ by much
    more than noise, their ratios are skewed and their logarithms are not: residuals are then those
    of :math:`g(u) = \log\tfrac12(u + \sqrt{u^2 + 4 a_c})`, the logarithm down to the noise
    :math:`a_c` that a sample without biological variance would have. :math:`\lambda` depends on
    the gene's average noise :math:`\bar v` only. In the linear part, a sample with a large variance
    draws the fitted value towards itself and would look less deviant than it is: its leverage h_c
    is therefore computed from the observed information where samples differ beyond noise. The s^2
    are moderated over genes, with a trend in the sampling variance
    (:func:`hiercorr.inference.squeeze_variances`).

    Parameters
    ----------
    sums : VarianceSums
    design : ndarray, shape (n_samples, k)
    contrast : ndarray, shape (k,)

    Returns
    -------
    VarianceRegression

    References
    ----------
    McCullagh 1983, Annals of Statistics 11:59 (quasi-likelihood); Durbin et al. 2002,
    Bioinformatics 18:S105 (g); Smyth 2004.
    """
    n, k = design.shape
    nan = np.full(len(sums.num), np.nan)
    out = VarianceRegression(nan, nan.copy(), nan.copy(), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = sums.num.sum(1) / sums.den.sum(1)
    usable = np.flatnonzero((phi > 0) & np.isfinite(phi) & (sums.typical > 0).all(1))
    if not len(usable):
        return out
    own, phi = sums.take(usable), phi[usable]
    beta = np.zeros((len(usable), k))
    middle = stats.chi2.median(n - k)

    def excess(tau2: float) -> float:
        nonlocal beta
        beta, _, squares = _quasi_likelihood(own, phi, design, tau2, beta)
        return float(np.nanmedian(squares) - middle)

    tau2 = 0.0
    if excess(0.0) > 0:
        tau2 = _LARGEST_TAU2
        if excess(tau2) < 0:
            root = optimize.brentq(lambda u: excess(np.expm1(u)), 0.0, np.log1p(tau2), xtol=1e-3)
            tau2 = float(np.expm1(root))
    beta, information, squares = _quasi_likelihood(own, phi, design, tau2, beta)
    known = np.isfinite(squares)
    usable, beta, information = usable[known], beta[known], information[known]
    typical = np.log(own.sampling_variance(phi[:, None])[known]).mean(1)
    squeezed = squeeze_variances(squares[known] / (n - k), n - k, typical)
    unscaled = contrast @ np.linalg.inv(information) @ contrast
    out.estimate[usable] = beta @ contrast
    out.se[usable] = np.sqrt(squeezed.posterior * unscaled)
    out.df[usable] = squeezed.total_df
    return replace(out, tau=tau2**0.5)


def _quasi_likelihood(
    sums: VarianceSums, phi: Array, design: Array, tau2: float, start: Array
) -> tuple[Array, Array, Array]:
    """Return coefficients relative to phi, information and weighted squares; NaN if none exist."""
    beta = np.where(np.isfinite(start), start, 0.0)
    active: NDArray[np.bool_] = np.ones(len(beta), bool)
    num, d = sums.num / (phi[:, None] * sums.typical), sums.den / sums.typical
    linear = _linear_part(sums, phi, tau2)
    log_ratio = _generalised_log(num / np.maximum(d, _LEAST_D), sums.noise_of_nothing(phi))

    def residuals(at: NDArray[np.bool_], b: Array) -> tuple[Array, Array]:
        eta = np.clip(b @ design.T, -_FURTHEST, _FURTHEST)
        level = np.exp(eta)
        v = sums.take(at).sampling_variance(phi[at, None] * np.sqrt(level))
        part = linear[at]
        r = part * (num[at] / level - d[at]) + (1 - part) * (log_ratio[at] - eta + v / 2)
        return 1 / (tau2 + v), r

    for _ in range(_STEPS):
        w, r = residuals(active, beta[active])
        slope = linear[active] * np.maximum(d[active], _LEAST_D) + 1 - linear[active]
        information = np.einsum("gn,ni,nj->gij", w * slope, design, design)
        step = np.linalg.solve(information, ((w * r) @ design)[..., None])[..., 0]
        change = np.abs(step @ design.T).max(1)
        step *= np.minimum(1, _LARGEST_STEP / np.maximum(change, 1e-300))[:, None]
        beta[active] += step
        gone = np.abs(beta[active] @ design.T).max(1) > _FURTHEST
        beta[np.flatnonzero(active)[gone]] = np.nan
        active[active] = (change > _TOLERANCE) & ~gone
        if not active.any():
            break
    beta[active] = np.nan  # no convergence
    known = np.asarray(np.isfinite(beta).all(1))
    w, r = residuals(np.ones(len(beta), bool), np.where(known[:, None], beta, 0.0))
    information = np.einsum("gn,ni,nj->gij", w, design, design)
    level = np.exp(np.clip(np.where(known[:, None], beta, 0.0) @ design.T, -_FURTHEST, _FURTHEST))
    share = linear * (tau2 * w).mean(1, keepdims=True)
    h = _leverage(w, num / level, design, information, share)
    n, k = design.shape
    squares = (w * r**2 / np.maximum(1 - h, _LEAST_LEFT)).sum(1) * (n - k) / n
    return beta, information, np.where(known, squares, np.nan)


def _linear_part(sums: VarianceSums, phi: Array, tau2: float) -> Array:
    """Return the part lambda of the residuals that is linear, (n_genes, 1)."""
    noise = sums.sampling_variance(phi[:, None]).mean(1, keepdims=True)
    small = _NOISE_OF_LINEAR * noise < tau2
    return np.where(small, _NOISE_OF_LINEAR * noise / max(tau2, 1e-9), 1.0)


def _generalised_log(u: Array, noise: Array) -> Array:
    """Return the logarithm of u, which flattens where u is no larger than the noise."""
    root = np.sqrt(u**2 + 4 * noise)
    with np.errstate(divide="ignore"):
        return np.log(np.where(u > 0, (u + root) / 2, 2 * noise / (root - np.minimum(u, 0.0))))


def _leverage(w: Array, ratio: Array, design: Array, information: Array, share: Array) -> Array:
    """Return the leverage of each sample, (n_genes, n_samples).

    That of the expected information, moved by `share` towards that of the observed information, in
    which a sample has a weight proportional to its estimate.
    """
    x = design

    def leverage(weights: Array, total: Array) -> Array:
        return weights * np.einsum("ni,gij,nj->gn", x, np.linalg.inv(total), x, optimize=True)

    observed = w * np.maximum(ratio, _LEAST_RATIO)
    seen = leverage(observed, np.einsum("gn,ni,nj->gij", observed, x, x))
    return (1 - share) * leverage(w, information) + share * seen
