"""Multiple testing: adjusted p-values of vectors and matrices of tests; NaN marks no test."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, stats

from hiercorr import kernels

Array = NDArray[np.float64]
_EXACT_RANGES = 400  # tails of studentised ranges that are integrated, at a millisecond each


def benjamini_hochberg(p: NDArray) -> NDArray:
    """Adjust the p-values of a vector for the false discovery rate, in its own precision.

    NaN stays NaN and is not counted. Equals scipy.stats.false_discovery_control, whose five float64
    copies are too many for tens of millions of pairs.
    """
    ordered, position = _sorted(p)
    q = np.full(p.shape, np.nan, p.dtype)
    m = int(np.isfinite(p).sum())
    kernels.pairs.step_up(ordered[:m], position[:m], q)
    return q


def _sorted(p: NDArray) -> tuple[NDArray, NDArray]:
    """Sort non-negative numbers, NaN last; return them with their original positions.

    Sorting integers that combine value and position is much faster in numpy than argsort of floats.
    """
    if p.dtype != np.float32 or len(p) >= 1 << 32:
        order = np.argsort(np.where(np.isnan(p), np.inf, p))
        return p[order], order
    key = np.abs(p).view(np.uint32).astype(np.uint64)
    key <<= np.uint64(32)
    key |= np.arange(len(p), dtype=np.uint64)
    key.sort()
    high = int(sys.byteorder == "little")
    return key.view(np.float32)[high::2], key.view(np.uint32)[1 - high :: 2]


def benjamini_yekutieli(p: Array) -> Array:
    """Multiply BH-adjusted p-values by the harmonic sum: valid under any dependence."""
    m = int(np.isfinite(p).sum())
    return np.minimum(benjamini_hochberg(p) * (1 / np.arange(1, m + 1)).sum(), 1)


def bonferroni(p: Array) -> Array:
    """Multiply p-values by the number of tests, for the family-wise error rate."""
    return np.minimum(p * np.isfinite(p).sum(), 1)


def holm(p: Array) -> Array:
    """Adjust p-values for the family-wise error rate, step down; never larger than Bonferroni's.

    References
    ----------
    Holm 1979.
    """
    ordered, position = _sorted(p)
    q = np.full(p.shape, np.nan, p.dtype)
    m = int(np.isfinite(p).sum())
    steps = ordered[:m] * np.arange(m, 0, -1)
    q[position[:m]] = np.minimum(np.maximum.accumulate(steps), 1)
    return q


def holm_layers(p: Array) -> Array:
    """Adjust the p-values of several hypotheses of each pair by Holm's procedure, within the pair.

    Parameters
    ----------
    p : ndarray, shape (n_hypotheses, ...)

    Returns
    -------
    ndarray, shape (n_hypotheses, ...)
    """
    order = np.argsort(p, 0)  # NaN last
    steps = np.isfinite(p).sum(0) - np.arange(len(p)).reshape(-1, *[1] * (p.ndim - 1))
    adjusted = np.maximum.accumulate(np.take_along_axis(p, order, 0) * steps, 0)
    out = np.empty_like(p)
    np.put_along_axis(out, order, np.minimum(adjusted, 1), 0)
    return out


def tukey_kramer(statistic: Array, n_groups: int, df: Array) -> Array:
    r"""Adjust the t tests of all pairs of groups for their number, by the studentised range.

    .. math:: P\big(Q_{k, df} \ge \sqrt 2 |t|\big)

    with the range Q of k independent standard normal values over an independent root mean square on
    df degrees of freedom. Exact if the estimates of the groups are independent with equal standard
    errors; with unequal ones conservative (Kramer 1956; Hayter 1984).

    Parameters
    ----------
    statistic : ndarray
        t of two groups, with a common residual variance of all groups.
    n_groups : int
        Number k of groups.
    df : ndarray
        Degrees of freedom, of the shape of `statistic`.

    Returns
    -------
    ndarray
        NaN where the statistic is.

    References
    ----------
    Tukey 1953; Kramer 1956, Biometrics 12:307; Hayter 1984, Annals of Statistics 12:61.
    """
    out = np.full(statistic.shape, np.nan)
    for each in np.unique(df[np.isfinite(statistic)]):
        at = np.isfinite(statistic) & (df == each)
        q = np.sqrt(2) * np.abs(statistic[at])
        if len(q) > _EXACT_RANGES:
            nodes = np.linspace(0, q.max(), _EXACT_RANGES)
            tail = stats.studentized_range.sf(nodes, n_groups, each)
            curve = interpolate.PchipInterpolator(nodes, np.log(np.maximum(tail, 1e-300)))
            out[at] = np.exp(curve(q))
        else:
            out[at] = stats.studentized_range.sf(q, n_groups, each)
    return np.clip(out, 0, 1)


def storey(p: Array) -> Array:
    r"""Multiply BH-adjusted p-values by the estimated proportion of true null hypotheses.

    .. math:: \hat\pi_0 = \min\Big(1, \frac{\#\{p > 1/2\} + 1}{m / 2}\Big)

    References
    ----------
    Storey, Taylor & Siegmund 2004.
    """
    known = p[np.isfinite(p)]
    pi0 = min(1.0, ((known > 0.5).sum() + 1) / max(0.5 * len(known), 1))
    return benjamini_hochberg(p) * pi0


def simes(p: Array) -> Array:
    """Test each row's global null hypothesis by Simes: min of m p_(k) / k; NaN without p-values."""
    m = np.isfinite(p).sum(1)
    ranked = np.sort(np.where(np.isfinite(p), p, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        out = (ranked / np.arange(1, p.shape[1] + 1)).min(1) * m
    return np.where(m > 0, np.minimum(out, 1), np.nan)


def hierarchical(p: Array, level: float) -> Array:
    """Adjust p-values of a matrix by row first, then within the selected rows.

    Rows are selected by BH of their Simes p-values at `level`. If R of G rows are selected, the
    BH-adjusted p-values within them are multiplied by G / R; pairs of all other rows get 1.

    References
    ----------
    Benjamini & Bogomolov 2014.
    """
    rows = benjamini_hochberg(simes(p))
    selected = rows <= level
    n_rows, n_selected = int(np.isfinite(rows).sum()), int(selected.sum())
    q = np.where(np.isfinite(p), 1.0, np.nan)
    for k in np.flatnonzero(selected):
        q[k] = np.minimum(benjamini_hochberg(p[k]) * n_rows / n_selected, 1)
    return q
