"""Power of the hierarchical inference over donors, and levels of screens of many pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.inference.posterior import symmetric

Array = NDArray[np.float64]

_DIFFER = 0.02  # proportion of the pairs of a panel that differ between donors
_NOISE = 1.25  # their smallest tau, in standard errors of the median donor
_QUANTILES = 24
_STEPS = 16
_LEVELS = 25


def hierarchical_power(
    rho: float,
    tau: float,
    variance: Array,
    expected: Array,
    skewness: Array,
) -> tuple[Callable[[Array], Array], float]:
    r"""Compute the power of the hierarchical test of one pair of a panel.

    The test averages over what the residuals of S donors leave open of :math:`\tau`,

    .. math:: p = \sum_\tau \Pr(\tau \mid Q)\; 2\Phi(-|\hat\rho| / \sqrt{V_\tau}), \quad
              Q \sim (\tau^2 + v) \chi^2_{S - 1}

    The panel's distribution of tau is taken as 98% at 0 and 2% at the pair's tau or, if that is
    larger, at 1.25 standard errors of the median donor: what panels of 80 genes learn. For each of
    24 quantiles of Q the smallest significant estimate is found by bisection.

    Parameters
    ----------
    rho, tau : float
        Mean and standard deviation over donors of the correlation.
    variance : ndarray, shape (n_donors,)
        Sampling variance of each donor's correlation.
    expected : ndarray, shape (n_donors,)
        Sampling variance that the test expects.
    skewness : ndarray, shape (n_donors,)
        Skewness of each donor's correlation if it is 0.

    Returns
    -------
    power : callable
        From two-sided levels, shape (n_levels,), to the power at each of them.
    standard_error : float
        Standard deviation of the estimate.
    """
    s = len(variance)
    smallest = _NOISE * math.sqrt(float(np.median(expected)))
    taus = np.array([0.0, max(tau, smallest)])
    w = 1 / (taus[:, None] ** 2 + expected)
    v = 1 / w.sum(1)
    skew = (w**3 * skewness * expected**1.5).sum(1) * v**1.5
    weight = 1 / (tau**2 + expected)
    error = math.sqrt(float((weight**2 * (tau**2 + variance)).sum())) / float(weight.sum())
    # A gene's variance scales estimate and standard error alike: where the correlation is lost in
    # noise, noise of that scale rejects nothing.
    signal = rho**2 * float((1 / expected).sum())
    tested = expected + (variance - expected) * signal / (1 + signal)
    spread_of_tests = math.sqrt(float((weight**2 * (tau**2 + tested)).sum())) / float(weight.sum())
    residual = tau**2 + s / float((1 / tested).sum())
    middle = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    q = residual * 2 * special.gammaincinv((s - 1) / 2, middle)
    spread = s * v[:, None]
    likelihood = -(s - 1) / 2 * np.log(spread) - q / (2 * spread)
    likelihood += np.log([[1 - _DIFFER], [_DIFFER]])
    posterior = np.exp(likelihood - likelihood.max(0))
    posterior /= posterior.sum(0)
    # dimensions: tau, sign of the estimate, quantile of Q, level
    posterior = 2 * posterior[:, None, :, None]
    sign = np.array([1.0, -1.0])[:, None, None]
    root = sign / np.sqrt(v)[:, None, None, None]
    skew = skew[:, None, None, None]
    largest = 12 * math.sqrt(float(v.max()))

    def power(levels: Array) -> Array:
        low = np.zeros((2, _QUANTILES, len(levels)))
        high = np.full_like(low, largest)
        for _ in range(_STEPS):
            estimate = (low + high) / 2
            z = np.abs(symmetric(root * estimate, skew))
            beyond = (posterior * special.ndtr(-z)).sum(0) > levels
            low = np.where(beyond, estimate, low)
            high = np.where(beyond, high, estimate)
        reached = special.ndtr((sign * rho - (low + high) / 2) / spread_of_tests)
        return reached.mean(1).sum(0)

    return power, error


def screened(
    reached: Callable[[Array], Array], alpha: float, tests: float, correlated: float
) -> float:
    r"""Compute the power of each pair in a screen.

    With one correlated pair the level is :math:`\alpha / M` (Bonferroni). With K, it is the largest
    :math:`t \le \alpha (K \cdot power(t) + (M - K) t) / M`, which Benjamini-Hochberg approaches.

    Parameters
    ----------
    reached : callable
        Power at each of several levels.
    alpha : float
        Level, or false discovery rate.
    tests, correlated : float
        Numbers M of pairs and K of correlated pairs.

    Returns
    -------
    float
    """
    if correlated <= 1 or tests <= 1:
        return float(min(reached(np.array([alpha / tests]))[0], 1.0))
    levels = np.geomspace(alpha / tests, alpha, _LEVELS)
    power = np.minimum(reached(levels), 1.0)
    allowed = alpha * (correlated * power + (tests - correlated) * levels) / tests
    beyond = np.log(levels / allowed)
    kept = np.flatnonzero(beyond <= 0)
    if not len(kept):
        return float(power[0])
    k = int(kept[-1])
    if k == len(levels) - 1:
        return float(power[-1])
    part = beyond[k] / (beyond[k] - beyond[k + 1])
    return float(power[k] + part * (power[k + 1] - power[k]))
