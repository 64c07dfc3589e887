"""Credible intervals and summaries from draws of a posterior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def highest_density(draws: Array, share: float) -> tuple[Array, Array]:
    """Compute highest-density intervals: the shortest that contain a share of the draws.

    Parameters
    ----------
    draws : ndarray, shape (n_draws, ...)
    share : float
        Proportion of the draws that the interval contains.

    Returns
    -------
    lower, upper : ndarray
    """
    ordered = np.sort(draws, axis=0)
    n = len(ordered)
    inside = min(max(int(np.ceil(share * n)), 1), n - 1)
    width = ordered[inside:] - ordered[: n - inside]
    first = width.argmin(0)[None]
    low = np.take_along_axis(ordered, first, 0)[0]
    return low, np.take_along_axis(ordered, first + inside, 0)[0]


def coefficient_summary(draws: Array, share: float) -> dict[str, Array]:
    """Summarise regression coefficients.

    Parameters
    ----------
    draws : ndarray, shape (n_draws, ...)
    share : float
        Proportion of the draws that the interval contains.

    Returns
    -------
    dict
        Mean, standard deviation, limits of the interval and probability of the more likely sign,
        as ``beta``, ``beta_se``, ``beta_lower``, ``beta_upper``, ``beta_probability_of_direction``.
    """
    low, high = highest_density(draws, share)
    positive = (draws > 0).mean(0)
    return {
        "beta": draws.mean(0),
        "beta_se": draws.std(0, ddof=1),
        "beta_lower": low,
        "beta_upper": high,
        "beta_probability_of_direction": np.maximum(positive, 1 - positive),
    }
