"""Tests and intervals of pairs, which follow from the estimate, its standard error and its df.

Arrays of all pairs are large. A fit needs to keep only what cannot be computed again from other
variables; the rest comes from :class:`Derivation`, at once or when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special, stats

from hiercorr import kernels
from hiercorr.inference.pairs import (
    LEAST_DF,
    PairEstimate,
    fisher_z,
    fisher_z_se,
    largest_df,
    p_value_table,
    quantile_table,
    within_range,
)

_OF_TEST = {
    "none": ("fisher_z",),
    "t": ("fisher_z", "fisher_z_se", "ci_lower", "ci_upper", "statistic", "p_value"),
    "normal": ("fisher_z", "fisher_z_se", "ci_lower", "ci_upper", "df"),
}
_LEAST_SE = 1e-12  # below it, an interval may be too short for its limits to differ


@dataclass(frozen=True)
class Derivation:
    """How the variables of pairs follow from others.

    Attributes
    ----------
    test : {"none", "t", "normal"}
        ``"t"``: from ``correlation_unclipped``, ``se`` and ``df``, which are NaN where there is no
        test. ``"normal"``: interval from ``correlation_unclipped`` and ``se``, with infinite df.
        ``"none"``: only the transform of the correlation.
    confidence : float
        Confidence level of the intervals.
    largest_df : float
        Upper limit of ``df``.
    cells : bool
        Whether ``cell_p_value`` follows from ``cell_statistic``.
    """

    test: str = "none"
    confidence: float = 0.95
    largest_df: float = 1.0
    cells: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables that follow from others."""
        return _OF_TEST[self.test] + (("cell_p_value",) if self.cells else ())

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the variables that they follow from."""
        of_test = {"none": (), "t": ("se", "df"), "normal": ("se",)}[self.test]
        return ("correlation_unclipped", *of_test, *(("cell_statistic",) if self.cells else ()))

    def dtype(self, name: str, base: DTypeLike) -> np.dtype:
        """Return the type of a variable; p-values could underflow in float32."""
        return np.dtype(np.float64 if name.endswith("p_value") else base)

    def __call__(self, base: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Compute the variables.

        Parameters
        ----------
        base : mapping
            Arrays (rows, columns) of the variables named in `needs`.

        Returns
        -------
        dict of ndarray, shape (rows, columns)
            The variables named in `names`.
        """
        given = {name: np.ascontiguousarray(base[name]) for name in self.needs}
        r = given["correlation_unclipped"]
        if self.test == "t":
            out = self._student(r, given["se"], given["df"])
        elif self.test == "normal":
            out = self._normal(r, given["se"])
        else:
            out = {"fisher_z": fisher_z(r)}
        if self.cells:
            out["cell_p_value"] = normal_p_values(given["cell_statistic"])
        return out

    def _student(self, r: NDArray, se: NDArray, df: NDArray) -> dict[str, NDArray]:
        largest = power_of_2(self.largest_df)
        out = {name: np.empty_like(r) for name in _OF_TEST["t"]}
        p = out.pop("p_value")
        table = quantile_table(largest, self.confidence)
        kernels.pairs.t_interval(r, se, df, *table, *out.values())
        kernels.pairs.t_p_value(r, se, df, *p_value_table(largest), p)
        return {**out, "p_value": in_double(p, out["statistic"], df)}

    def _normal(self, r: NDArray, se: NDArray) -> dict[str, NDArray]:
        half = float(stats.norm.ppf(0.5 + self.confidence / 2)) * se.astype(float)
        lower, upper = within_range(r - half, r + half)
        return {
            "fisher_z": fisher_z(r),
            "fisher_z_se": fisher_z_se(r, se),
            "ci_lower": lower.astype(r.dtype),
            "ci_upper": upper.astype(r.dtype),
            "df": np.where(np.isnan(se), se, np.asarray(np.inf, r.dtype)),
        }

    def without_limits(self, base: Mapping[str, NDArray]) -> NDArray[np.bool_]:
        """Return which pairs have no interval, without computing the others' intervals."""
        se = base["se"]
        none = np.isnan(se)
        doubtful = ~none & ((np.abs(base["correlation_unclipped"]) >= 1) | (se < _LEAST_SE))
        if doubtful.any():
            some = {name: base[name][doubtful][None] for name in self.needs if name in base}
            limits = Derivation(self.test, self.confidence, self.largest_df)(some)
            none[doubtful] = np.isnan(limits["ci_lower"][0])
        return none


def in_double(p: NDArray, statistic: NDArray, df: NDArray) -> NDArray[np.float64]:
    """Return p-values in double precision; those too small for float32 are computed again.

    Parameters
    ----------
    p, statistic, df : ndarray
        Two-sided p-values of t statistics (normal statistics where `df` is infinite).

    Returns
    -------
    ndarray of float64
        `p` itself if it is in double precision.
    """
    if p.dtype == np.float64:
        return p
    out = p.astype(np.float64)
    tiny = p < np.finfo(np.float32).tiny
    if tiny.any():
        t, d = (values[tiny].astype(np.float64) for values in (-np.abs(statistic), df))
        out[tiny] = 2 * np.where(np.isinf(d), special.ndtr(t), special.stdtr(d, t))
    return out


def power_of_2(df: float) -> float:
    """Round degrees of freedom up to a power of 2, so that fits share tables."""
    return float(2.0 ** np.ceil(np.log2(max(df, 1.0))))


def errors_and_df(estimate: PairEstimate, dtype: DTypeLike = np.float64) -> dict[str, NDArray]:
    """Return the standard error and df of the pairs that can be tested, NaN for the others.

    Parameters
    ----------
    estimate : PairEstimate
    dtype : dtype
        Precision of the result.

    Returns
    -------
    dict of ndarray, shape (left, right)
        ``se`` and ``df``.
    """
    se, df = (np.array(x, dtype, order="C") for x in (estimate.se, estimate.df))
    with np.errstate(invalid="ignore"):
        known = (se > 0) & (df >= LEAST_DF) & ~np.isnan(estimate.correlation)
    se[~known], df[~known] = np.nan, np.nan
    return {"se": se, "df": df}


def pair_table(
    estimate: PairEstimate, confidence: float, dtype: DTypeLike = np.float64
) -> dict[str, NDArray]:
    """Test every correlation and compute its confidence interval.

    The statistic is t = rho / se and the limits are rho -+ t se, truncated at -1 and 1, also for an
    estimate beyond 1. The scale is that of rho, not of atanh(rho): unlike the error that Fisher's z
    assumes, the noise of counts does not vanish as rho approaches 1.

    Parameters
    ----------
    estimate : PairEstimate
    confidence : float
        Confidence level of the intervals.
    dtype : dtype
        Precision of the result.

    Returns
    -------
    dict of ndarray, shape (left, right)
        ``fisher_z``, ``fisher_z_se`` (se / (1 - rho^2)), ``ci_lower``, ``ci_upper``,
        ``statistic``, ``df``, ``p_value``, ``se`` (of the correlation).
    """
    base = errors_and_df(estimate, dtype)
    follow = Derivation("t", confidence, largest_df(estimate))
    return base | follow({**base, "correlation_unclipped": estimate.correlation.astype(dtype)})


def normal_p_values(statistic: NDArray) -> NDArray[np.float64]:
    """Return the two-sided normal p-value of every statistic, erfc(|T| / sqrt(2))."""
    p = np.abs(statistic, dtype=np.float64)
    p /= math.sqrt(2)
    return special.erfc(p, out=p)
