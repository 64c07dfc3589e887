"""q-values of a result by other procedures and over other families of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.errors import InputError, between_0_and_1, one_of
from hiercorr.inference.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    bonferroni,
    hierarchical,
    holm,
    storey,
)
from hiercorr.results.layout import (
    distinct,
    has_all_pairs,
    is_list,
    mirror_targets,
    scope,
    target_positions,
)
from hiercorr.results.pairs import p_values

Array = NDArray[np.float64]

ADJUSTMENT_METHODS = ("bh", "by", "storey", "hierarchical", "bonferroni", "holm")
ADJUSTMENT_FAMILIES = ("all", "gene")
ADJUSTMENT_NAMES = {
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "storey": "Storey",
    "hierarchical": "Benjamini-Bogomolov",
    "bonferroni": "Bonferroni",
    "holm": "Holm",
}
_PROCEDURES: dict[str, Callable[[Array], Array]] = {
    "bh": benjamini_hochberg,
    "by": benjamini_yekutieli,
    "storey": storey,
    "bonferroni": bonferroni,
    "holm": holm,
}


def family_of(dataset: xr.Dataset) -> str:
    """Return the name of the family of all pairs of a result."""
    if "pairs_across" in dataset.attrs:
        return str(dataset.attrs["pairs_across"])
    if has_all_pairs(dataset):
        return "all distinct pairs"
    if is_list(dataset):
        return "listed pairs"
    return "pairs of the target" if dataset.sizes["target"] == 1 else "pairs of the targets"


def mirrored(values: Array, dataset: xr.Dataset) -> Array:
    """Copy the value of each distinct pair to the pair's second entry, in place."""
    if has_all_pairs(dataset):
        upper = np.triu_indices(len(values), 1)
        values.T[upper] = values[upper]
    elif not is_list(dataset):
        mirror_targets(values, target_positions(dataset))
    return values


def with_q_values(dataset: xr.Dataset, method: str, family: str, level: float) -> xr.Dataset:
    """Replace the q-values of a result.

    Parameters
    ----------
    dataset : xarray.Dataset
    method, family, level
        As for :meth:`hiercorr.CorrelationResult.adjust`.

    Returns
    -------
    xarray.Dataset
    """
    one_of("method", method, ADJUSTMENT_METHODS)
    one_of("family", family, ADJUSTMENT_FAMILIES)
    between_0_and_1("level", level)
    if "p_value" not in dataset or not bool(dataset["p_value"].notnull().any()):
        raise InputError(
            "this result has no p-values to adjust: fit with an uncertainty and at least 3 samples"
        )
    p = p_values(dataset).astype(float)
    if method == "hierarchical":
        if not has_all_pairs(dataset):
            raise InputError(
                "method='hierarchical' selects genes first: it needs the pairs of all genes, "
                f"and this result has {scope(dataset)}"
            )
        q, tested = hierarchical(p, level), f"pairs of each of the genes chosen at {level:g}"
    elif family == "gene":
        if is_list(dataset):
            raise InputError("family='gene' needs the pairs of genes, and this result has a list")
        q, tested = np.stack([_PROCEDURES[method](row) for row in p]), "pairs of each gene"
        if len(p) == 1:
            tested = "pairs of the target"
    else:
        once = distinct(dataset)
        q, tested = np.full(p.shape, np.nan), str(family_of(dataset))
        q[once] = _PROCEDURES[method](p[once])
        q = mirrored(q, dataset)
    name = ADJUSTMENT_NAMES[method]
    adjusted = dataset["q_value"].copy(data=q.astype(dataset["q_value"].dtype))
    adjusted.attrs["long_name"] = f"{name} adjusted p_value over {tested}"
    recorded: dict[str, Any] = {"q_method": name, "q_family": tested}
    if method == "hierarchical":
        recorded["q_level"] = level
    return dataset.assign(q_value=adjusted).assign_attrs(recorded)
