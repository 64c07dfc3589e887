r"""Uncertainty over donors of the relative variance of genes, and its regression on a design.

The relative variance of a gene is a ratio of sums over samples,

.. math:: \phi = \frac{\sum_c N_c}{\sum_c D_c}, \qquad E N_c = \phi_c\, E D_c,

see :func:`hiercorr.moments.within_moments`. Inference is on the scale of :math:`\log\phi`, but
never by the logarithm of a single sample's estimate, which is biased where counts are few and
undefined where it is negative: only sums over samples are divided.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hiercorr.inference.pairs import LEAST_DF, sample_effects, variance_shares

Array = NDArray[np.float64]


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
