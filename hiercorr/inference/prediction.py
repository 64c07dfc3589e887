r"""Prediction intervals for the correlation in a new sample that allow for what is unknown of tau.

With few samples the estimate of :math:`\tau^2` is often 0 although it is not. Its confidence
distribution :math:`H(\tau^2) = \Pr(Q \ge Q_{obs} \mid \tau^2)`, from the distribution of Cochran's
Q (here a multiple of chi-squared with its first two moments), says what else it may be; the
prediction averages over it (Nagashima et al. 2019):

.. math:: \zeta_{new} \sim \hat\zeta(\tau^2) + \tau Z - t_{k-1} SE(\tau^2), \quad \tau^2 \sim H
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from hiercorr.inference.pairs import within_range

Array = NDArray[np.float64]

# tau^2 in units of the typical sampling variance, and probabilities between points of the t
# distribution: close where limits of 95% and 99% lie
_RATIO = np.array([0, 0.05, 0.2, 0.5, 1, 1.7, 2.8, 4.5, 8, 14, 25, 50, 150, 600])
_EDGES = np.array([0, 0.001, 0.004, 0.01, 0.02, 0.035, 0.06, 0.12, 0.25, 0.5])
_LIMIT = 8.0  # of Fisher's z: the correlation is 1 to 7 digits
_STEPS = 18  # to 3e-5
_CHUNK = 512  # pairs at a time


def predict_new_sample(z: Array, v: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Predict the estimand of a new sample from estimates of k samples.

    Parameters
    ----------
    z, v : ndarray, shape (k, n_pairs)
        Estimates, such as Fisher's z, and their sampling variances.
    confidence : float
        Probability that the value of a new sample lies inside.

    Returns
    -------
    lower, upper : ndarray, shape (n_pairs,)

    References
    ----------
    Nagashima, Noma & Furukawa 2019, Statistical Methods in Medical Research 28:1689.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> z = rng.normal(0.4, np.sqrt(0.1**2 + 0.2**2), (6, 1000))
    >>> lower, upper = predict_new_sample(z, np.full((6, 1000), 0.1**2))
    >>> new = rng.normal(0.4, 0.2, 1000)
    >>> bool(0.93 < np.mean((lower < new) & (new < upper)) < 0.98)
    True
    """
    out = np.empty((2, z.shape[1]))
    for start in range(0, z.shape[1], _CHUNK):
        at = slice(start, start + _CHUNK)
        out[:, at] = _predict(z[:, at], v[:, at], (1 - confidence) / 2)
    return out[0], out[1]


def _predict(z: Array, v: Array, tail: float) -> Array:
    k = len(z)
    w = 1 / v
    total = w.sum(0)
    q = (w * (z - (w * z).sum(0) / total) ** 2).sum(0)
    tau2 = _RATIO[:, None] * (k - 1) / (total - (w**2).sum(0) / total)
    between = np.concatenate([np.zeros((1, z.shape[1])), 0.5 * (tau2[1:] + tau2[:-1])])
    weight = np.diff(_exceeds(q, w, v, between), axis=0, append=1.0)
    weight[0] += _exceeds(q, w, v, between[:1])[0]
    spread = 1 / (v + tau2[:, None])  # (n_tau, k, n_pairs)
    sums = spread.sum(1)
    mean = (spread * z).sum(1) / sums
    se = np.sqrt((spread * (z - mean[:, None]) ** 2).sum(1) / (k - 1) / sums)
    edges = np.concatenate([_EDGES, 1 - _EDGES[-2::-1]])
    mass, points = np.diff(edges), stats.t.ppf(0.5 * (edges[1:] + edges[:-1]), k - 1)
    centre = mean[:, None] - se[:, None] * points[:, None]  # (n_tau, n_points, n_pairs)
    share = weight[:, None] * mass[:, None]
    scale = np.sqrt(tau2)[:, None] + 1e-6

    def quantile(level: float) -> Array:
        low, high = np.full(z.shape[1], -_LIMIT), np.full(z.shape[1], _LIMIT)
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            below = (share * special.ndtr((middle - centre) / scale)).sum((0, 1)) < level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)

    return np.array([quantile(tail), quantile(1 - tail)])


def _exceeds(q: Array, w: Array, v: Array, tau2: Array) -> Array:
    """Compute Pr(Q >= q) at each tau^2, (n_tau, n_pairs), from the mean and variance of Q.

    Q is a quadratic form of normal variables, close to a multiple of chi-squared, and exactly
    chi-squared at tau^2 = 0.
    """
    total = w.sum(0)
    d = 1 + w * tau2[:, None]  # (n_tau, k, n_pairs)
    first, second = ((w * d**p).sum(1) / total for p in (1, 2))
    mean = d.sum(1) - first
    variance = 2 * ((d**2).sum(1) - 2 * second + first**2)
    return special.chdtrc(2 * mean**2 / variance, 2 * mean / variance * q)


def predict_new_donor(
    r: NDArray, sd: NDArray, tau: NDArray, confidence: float = 0.95
) -> tuple[NDArray, NDArray]:
    r"""Predict the correlation of a new donor by the hierarchical model.

    .. math:: \hat\rho \pm z \sqrt{\operatorname{Var}(\rho) + \operatorname{E}\tau^2}

    Parameters
    ----------
    r, sd, tau : ndarray
        Mean over donors, its posterior standard deviation, and the root of the posterior mean of
        tau^2.
    confidence : float

    Returns
    -------
    lower, upper : ndarray
        Truncated at -1 and 1; NaN where nothing is left between them.
    """
    half = special.ndtri(0.5 + confidence / 2) * np.sqrt(sd**2 + tau**2)
    return within_range(r - half, r + half)
