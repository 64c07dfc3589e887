"""Power of t tests by quadrature: scipy's non-central t is NaN for many ordinary designs."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
_NODES, _WEIGHTS = leggauss(256)
_FAR = 9.0  # standard deviations beyond which a normal density is 0
_MANY_DF = 200.0  # from here on a chi distribution is nearly normal


def t_test_power(levels: Array, df: float, shift: float) -> Array:
    r"""Compute the power of two-sided t tests whose statistic has a fixed non-centrality.

    With :math:`t = (Z + \delta) / \sqrt{V / df}`, the power is the mean over
    :math:`x = Z + \delta` of :math:`\Pr(V < df\, x^2 / c^2)`, or over V of
    :math:`\Phi(\pm\delta - c \sqrt{V / df})`; the latter is smoother for many degrees of freedom.

    Parameters
    ----------
    levels : ndarray
        Two-sided levels, each with its critical value c.
    df : float
        Degrees of freedom.
    shift : float
        Non-centrality delta.

    Returns
    -------
    ndarray
    """
    c = stats.t.isf(np.asarray(levels, float) / 2, df)[..., None]
    if df < _MANY_DF:
        x, weight = _scaled(max(abs(shift) - _FAR, 0.0), abs(shift) + _FAR)  # both signs of x
        both = np.exp(-((x - shift) ** 2) / 2) + np.exp(-((x + shift) ** 2) / 2)
        density = weight * both / np.sqrt(2 * np.pi)
        return np.asarray((special.gammainc(df / 2, df / 2 * (x / c) ** 2) * density).sum(-1))
    spread = _FAR / np.sqrt(2 * df)
    b, weight = _scaled(1 - spread, 1 + spread)  # sqrt(V / df)
    density = weight * 2 * df * b * stats.chi2.pdf(df * b**2, df)
    reached = special.ndtr(shift - c * b) + special.ndtr(-shift - c * b)
    return np.asarray((reached * density).sum(-1))


def correlation_test_power(levels: Array, df: float, rho: float) -> Array:
    r"""Compute the power of two-sided t tests of the correlation of two normal variables.

    Both variables are random: the density of the estimate r on df = n - 2 degrees of freedom is

    .. math:: f(r) = \frac{(n - 2)\,\Gamma(n - 1)\,(1 - \rho^2)^{(n - 1)/2}
              (1 - r^2)^{(n - 4)/2}}{\sqrt{2\pi}\,\Gamma(n - 1/2)\,(1 - \rho r)^{n - 3/2}}
              \;{}_2F_1\Big(\tfrac12, \tfrac12; n - \tfrac12; \tfrac{1 + \rho r}{2}\Big)

    (Hotelling 1953), integrated over atanh r. A regressor that is taken as fixed gives a
    non-central t and too much power.

    Parameters
    ----------
    levels : ndarray
        Two-sided levels.
    df : float
        Degrees of freedom: samples - 2 - covariates.
    rho : float
        Correlation, between -1 and 1.

    Returns
    -------
    ndarray

    References
    ----------
    Hotelling 1953, Journal of the Royal Statistical Society B 15:193.
    """
    c = np.arcsinh(stats.t.isf(np.asarray(levels, float) / 2, df) / np.sqrt(df))[..., None]
    return np.asarray(_beyond(c, df, abs(rho)) + _beyond(c, df, -abs(rho)))


def _beyond(limit: Array, df: float, rho: float) -> Array:
    """Integrate the density of atanh r from `limit` upwards."""
    centre, reach = np.arctanh(rho), 40 / df + 12 / np.sqrt(df)
    start = np.maximum(limit, centre - reach)
    z, weight = _scaled(start, np.maximum(start, centre) + reach)
    r, n = np.tanh(z), df + 2
    log_density = (
        np.log(df)
        + special.gammaln(n - 1)
        - special.gammaln(n - 0.5)
        - 0.5 * np.log(2 * np.pi)
        + (n - 1) / 2 * np.log1p(-(rho**2))
        - (n - 2) * np.log(np.cosh(z))
        - (n - 1.5) * np.log1p(-rho * r)
    )
    series = special.hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2)
    return np.asarray((weight * np.exp(log_density) * series).sum(-1))


def _scaled(low: float | Array, high: float | Array) -> tuple[Array, Array]:
    """Scale the nodes and weights of Gauss-Legendre quadrature to an interval."""
    half = (np.asarray(high) - low) / 2
    return half * _NODES + (np.asarray(high) + low) / 2, half * _WEIGHTS
