"""Random-effects meta-analysis over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hiercorr.errors import InputError, one_of
from hiercorr.inference.pairs import Array


@dataclass(frozen=True)
class MetaAnalysis:
    """Random-effects summary of k estimates, one entry per pair.

    Attributes
    ----------
    estimate, se : ndarray
        Weighted mean and its standard error (Knapp-Hartung if requested).
    lower, upper, prediction_lower, prediction_upper : ndarray
        Confidence interval of the mean and prediction interval for a new sample.
    tau2, i2, q, p_q : ndarray
        Between-sample variance, its proportion of the total (0..1), Cochran's Q and its p-value.
    """

    estimate: Array
    se: Array
    lower: Array
    upper: Array
    prediction_lower: Array
    prediction_upper: Array
    tau2: Array
    i2: Array
    q: Array
    p_q: Array


def meta_analysis(
    estimates: Array,
    variances: Array,
    method: str = "PM",
    knapp_hartung: bool = True,
    confidence: float = 0.95,
) -> MetaAnalysis:
    r"""Fit random-effects meta-analyses of many pairs at once.

    .. math:: \hat z_c \sim N(\zeta, v_c + \tau^2), \quad w_c = 1/(v_c + \tau^2), \quad
              \hat\zeta = \frac{\sum w_c \hat z_c}{\sum w_c}

    Parameters
    ----------
    estimates, variances : ndarray, shape (k, ...)
        Estimates of the k samples and their sampling variances; a NaN in any sample gives NaN for
        the pair.
    method : {"PM", "DL", "REML"}
        Paule-Mandel, DerSimonian-Laird or restricted maximum likelihood estimate of tau^2.
    knapp_hartung : bool
        Standard error from the weighted residuals, not truncated, with t(k - 1); otherwise
        1 / sqrt(sum w) with the normal distribution.
    confidence : float
        Confidence level of the intervals.

    Returns
    -------
    MetaAnalysis

    References
    ----------
    DerSimonian & Laird 1986; Paule & Mandel 1982; Knapp & Hartung 2003; Viechtbauer 2010 (metafor).
    """
    z, v = np.broadcast_arrays(np.asarray(estimates, float), np.asarray(variances, float))
    k = z.shape[0]
    if k < 2:
        raise InputError(f"a meta-analysis needs at least 2 samples; {k} given")
    one_of("method", method, sorted(_TAU2))
    with np.errstate(divide="ignore", invalid="ignore"):
        w = 1 / v
        fixed = (w * z).sum(0) / w.sum(0)
        q = (w * (z - fixed) ** 2).sum(0)
        spread = w.sum(0) - (w**2).sum(0) / w.sum(0)
        tau2 = _TAU2[method](z, v, q, spread)
        w = 1 / (v + tau2)
        mean = (w * z).sum(0) / w.sum(0)
        var = 1 / w.sum(0)
        crit = stats.norm.ppf(0.5 + confidence / 2)
        if knapp_hartung:
            var = (w * (z - mean) ** 2).sum(0) / (k - 1) * var
            crit = stats.t.ppf(0.5 + confidence / 2, k - 1)
        se, wide = np.sqrt(var), np.sqrt(var + tau2)
        typical = (k - 1) / spread  # Higgins & Thompson's typical sampling variance
        i2 = tau2 / (tau2 + typical)
    return MetaAnalysis(
        mean,
        se,
        mean - crit * se,
        mean + crit * se,
        mean - crit * wide,
        mean + crit * wide,
        tau2,
        i2,
        q,
        stats.chi2.sf(q, k - 1),
    )


def _dersimonian_laird(z: Array, v: Array, q: Array, spread: Array) -> Array:
    return np.maximum(0.0, (q - (len(z) - 1)) / spread)


def _paule_mandel(z: Array, v: Array, q: Array, spread: Array) -> Array:
    """Solve Q(tau^2) = k - 1 by Newton's method, monotone from 0 as Q is convex and decreasing."""
    tau2 = np.where(np.isfinite(q), 0.0, np.nan)
    for _ in range(200):
        w = 1 / (v + tau2)
        r = z - (w * z).sum(0) / w.sum(0)
        excess = (w * r**2).sum(0) - (len(z) - 1)
        step = np.where(excess > 0, excess / (w**2 * r**2).sum(0), 0.0)
        tau2 = tau2 + step
        if not np.nanmax(step / (tau2 + 1e-12), initial=0.0) > 1e-12:
            break
    return tau2


def _reml(z: Array, v: Array, q: Array, spread: Array) -> Array:
    """Estimate tau^2 by Fisher scoring of the restricted likelihood, truncated at 0."""
    tau2 = _dersimonian_laird(z, v, q, spread)
    for _ in range(1000):
        w = 1 / (v + tau2)
        total, squares, cubes = w.sum(0), (w**2).sum(0), (w**3).sum(0)
        r = z - (w * z).sum(0) / total
        score = (w**2 * r**2).sum(0) - total + squares / total
        information = squares - 2 * cubes / total + (squares / total) ** 2
        new = np.maximum(0.0, tau2 + score / information)
        change = np.nanmax(np.abs(new - tau2), initial=0.0)
        tau2 = new
        if change < 1e-12:
            break
    return tau2


_TAU2 = {"DL": _dersimonian_laird, "PM": _paule_mandel, "REML": _reml}
