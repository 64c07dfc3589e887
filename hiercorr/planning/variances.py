"""The sampling variance of one cell's contribution to a correlation."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_CELLS = 200_000  # simulated once per set of parameters


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
        w = 1 / (1 + s * mean[k] * math.sqrt(bound))
        y.append(w * (x - s * mean[k]))
        q.append(y[k] ** 2 - w**2 * s * mean[k])
        weights.append((w, (w * s * mean[k]) ** 2))
    covariance = float(np.mean(weights[0][0] * weights[1][0] * s**2) * mean[0] * mean[1]) * bound
    u = y[0] * y[1] / covariance
    for k in range(2):
        u -= rho / 2 * q[k] / float(np.mean(weights[k][1]) * phi[k])
    return float(u.var())
