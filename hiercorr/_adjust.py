"""q-values of a result over another family of pairs, or by another procedure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hiercorr.errors import InputError, between_0_and_1, one_of
from hiercorr.inference import benjamini_hochberg

if TYPE_CHECKING:
    from hiercorr.results import CorrelationResult

Array = NDArray[np.float64]
METHODS = ("bh", "by", "storey", "hierarchical")
FAMILIES = ("all", "gene")
NAMES = {
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "storey": "Storey",
    "hierarchical": "Benjamini-Bogomolov",
}


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


_VECTOR: dict[str, Callable[[Array], Array]] = {"bh": benjamini_hochberg, "by": benjamini_yekutieli, "storey": storey}


def adjust(result: CorrelationResult, method: str, family: str, level: float) -> CorrelationResult:
    """See :meth:`hiercorr.CorrelationResult.adjust`."""
    from hiercorr.results import CorrelationResult

    one_of("method", method, METHODS)
    one_of("family", family, FAMILIES)
    between_0_and_1("level", level)
    ds = result.dataset
    if "p_value" not in ds or not bool(ds["p_value"].notnull().any()):
        raise InputError("this result has no p-values to adjust: fit with an uncertainty and at least 3 samples")
    p = ds["p_value"].values.astype(float)
    if method == "hierarchical":
        if result.target is not None:
            raise InputError(
                "method='hierarchical' chooses genes first: it needs the pairs of all genes, not of one target"
            )
        q, said = hierarchical(p, level), f"pairs of each of the genes chosen at {level:g}"
    elif family == "gene" or result.target is not None:
        q = np.stack([_VECTOR[method](row) for row in p])
        said = "pairs of each gene" if result.target is None else "pairs of the target"
    else:
        q, said = np.full(p.shape, np.nan), "all distinct pairs"
        upper = np.triu_indices(len(p), 1)
        q[upper] = _VECTOR[method](p[upper])
        q.T[upper] = q[upper]
    changed = ds["q_value"].copy(data=q.astype(ds["q_value"].dtype))
    changed.attrs["long_name"] = f"{NAMES[method]} adjusted p_value over {said}"
    return CorrelationResult(ds.assign(q_value=changed).assign_attrs(q_method=NAMES[method], q_family=said))
