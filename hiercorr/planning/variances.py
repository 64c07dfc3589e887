"""The sampling variance of one cell's contribution to a correlation, true and as expected."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_CELLS = 200_000  # simulated once per set of parameters
_NODES = 40  # of the quadrature over sequencing depth


@lru_cache(maxsize=4096)
def cell_variance(
    mean: tuple[float, float], within_sd: tuple[float, float], rho: float, depth_sd: float
) -> float:
    r"""Compute the variance of one cell's influence on the correlation within samples.

    .. math:: u = \rho\Big[\frac{y_1 y_2}{E\,y_1 y_2} - \frac{q_1}{2 E q_1}
              - \frac{q_2}{2 E q_2}\Big], \quad y = w (x - s\mu), \quad q = y^2 - w^2 s \mu,
              \quad w = \frac{1}{1 + s\mu/\theta}

    from one large sample of cells of the Poisson-lognormal model, with theta the genes'
    mean^2 / variance.

    Parameters
    ----------
    mean, within_sd : pair of float
        Mean count in a cell of average depth, and standard deviation of log expression.
    rho : float
        Correlation of expression.
    depth_sd : float
        Standard deviation of log depth.

    Returns
    -------
    float
    """
    rng = np.random.default_rng(20_261_126)
    phi = np.expm1(np.square(within_sd))
    bound = math.sqrt(phi[0] * phi[1])
    latent = np.clip(
        np.log1p(np.clip(rho * bound, -0.999, None)) / (within_sd[0] * within_sd[1]), -0.999, 0.999
    )
    g = rng.standard_normal((2, _CELLS))
    g[1] = latent * g[0] + math.sqrt(1 - latent**2) * g[1]
    s = np.exp(depth_sd * rng.standard_normal(_CELLS) - depth_sd**2 / 2)
    y, q, weights = [], [], []
    for k in range(2):
        e = np.exp(within_sd[k] * g[k] - within_sd[k] ** 2 / 2)
        x = rng.poisson(s * mean[k] * e)
        w = 1 / (1 + s * mean[k] * bound)
        y.append(w * (x - s * mean[k]))
        q.append(y[k] ** 2 - w**2 * s * mean[k])
        weights.append((w, (w * s * mean[k]) ** 2))
    covariance = float(np.mean(weights[0][0] * weights[1][0] * s**2) * mean[0] * mean[1]) * bound
    u = y[0] * y[1] / covariance
    for k in range(2):
        u -= rho / 2 * q[k] / float(np.mean(weights[k][1]) * phi[k])
    return float(u.var())


@lru_cache(maxsize=4096)
def expected_variance(
    mean: tuple[float, float], within_sd: tuple[float, float], rho: float, depth_sd: float
) -> tuple[float, float]:
    r"""Compute the sampling variance and skewness that the hierarchical model expects.

    .. math:: v = \frac{\operatorname{E} e_1 e_2}{(\operatorname{E} d)^2 \phi_1 \phi_2}
              (1 + \rho^2 h_1 h_2), \quad e_j = w_j^2 (s\mu_j + s^2\mu_j^2\phi_j), \quad
              d = w_1 w_2 s^2 \mu_1 \mu_2

    with h the proportion of e that is not counting noise, see
    :func:`hiercorr.inference.random_effects.donor_effects`.

    Parameters
    ----------
    mean, within_sd : pair of float
        Mean count in a cell of average depth, and standard deviation of log expression.
    rho : float
        Correlation of expression.
    depth_sd : float
        Standard deviation of log depth.

    Returns
    -------
    variance, skewness : float
        Of one cell; the skewness is that without correlation.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    weight = weight / weight.sum()
    s = np.exp(depth_sd * node - depth_sd**2 / 2)
    phi = np.expm1(np.square(within_sd))
    bound = math.sqrt(phi[0] * phi[1])
    squares, share, skewness, w = [], 1.0, 1.0, []
    for k in range(2):
        m = s * mean[k]
        w.append(1 / (1 + m * bound))
        biology = w[k] ** 2 * m**2 * phi[k]
        squares.append(biology + w[k] ** 2 * m)
        third = w[k] ** 3 * (m + 3 * phi[k] * m**2 + 2 * phi[k] ** 2 * m**3)
        share *= float(weight @ biology / (weight @ squares[k]))
        skewness *= float(weight @ third / (weight @ squares[k]) ** 1.5)
    information = float(weight @ (w[0] * w[1] * s**2)) * mean[0] * mean[1] * bound
    variance = float(weight @ (squares[0] * squares[1])) / information**2
    return variance * (1 + rho**2 * share), skewness
