"""Multiple testing: adjusted p-values of vectors and matrices of tests, NaN where there is no test."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels

Array = NDArray[np.float64]


def benjamini_hochberg(p: NDArray) -> NDArray:
    """BH-adjusted p-values of a vector in its own precision; NaN stays NaN and is not counted.

    As scipy.stats.false_discovery_control, which needs five float64 copies: too many for tens of millions of pairs.
    """
    ordered, place = _in_order(p)
    q = np.full(p.shape, np.nan, p.dtype)
    m = int(np.isfinite(p).sum())
    kernels.pairs.step_up(ordered[:m], place[:m], q)
    return q


def _in_order(p: NDArray) -> tuple[NDArray, NDArray]:
    """Numbers of at least 0 in order, NaN last, and where each stood.

    numpy sorts whole numbers, here value and place in one, much faster than it finds the order of others.
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
    """BH times the harmonic sum: valid under any dependence."""
    m = int(np.isfinite(p).sum())
    return np.minimum(benjamini_hochberg(p) * (1 / np.arange(1, m + 1)).sum(), 1)


def storey(p: Array) -> Array:
    r"""BH times the share of true nulls, :math:`\hat\pi_0 = (\#\{p > 1/2\} + 1) / (m / 2)`, at most 1 (Storey et al. 2004)."""
    known = p[np.isfinite(p)]
    share = min(1.0, ((known > 0.5).sum() + 1) / max(0.5 * len(known), 1))
    return benjamini_hochberg(p) * share


def simes(p: Array) -> Array:
    """p-value of no relation at all in each row: min of m p_(k) / k; NaN where a row has none."""
    m = np.isfinite(p).sum(1)
    ranked = np.sort(np.where(np.isfinite(p), p, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        out = (ranked / np.arange(1, p.shape[1] + 1)).min(1) * m
    return np.where(m > 0, np.minimum(out, 1), np.nan)


def hierarchical(p: Array, level: float) -> Array:
    """Rows first, then pairs within the rows that are left (Benjamini & Bogomolov 2014).

    Rows are chosen by BH of their Simes p-values at `level`; in R of G rows that stay, BH of the pairs is multiplied by G / R.
    Pairs of other rows get 1.
    """
    rows = benjamini_hochberg(simes(p))
    chosen = rows <= level
    total, kept = int(np.isfinite(rows).sum()), int(chosen.sum())
    q = np.where(np.isfinite(p), 1.0, np.nan)
    for k in np.flatnonzero(chosen):
        q[k] = np.minimum(benjamini_hochberg(p[k]) * total / kept, 1)
    return q
