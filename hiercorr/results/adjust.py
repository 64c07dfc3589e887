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
from hiercorr.results.pairs import are_all_pairs, p_values, target_of

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
    target = target_of(dataset)
    p = p_values(dataset).astype(float)
    if method == "hierarchical":
        if target is not None:
            raise InputError(
                "method='hierarchical' selects genes first: it needs the pairs of several genes, "
                "not of one target"
            )
        q, tested = hierarchical(p, level), f"pairs of each of the genes chosen at {level:g}"
    elif family == "gene" or target is not None:
        q = np.stack([_PROCEDURES[method](row) for row in p])
        each = "gene" if are_all_pairs(dataset) else "target"
        tested = f"pairs of each {each}" if target is None else "pairs of the target"
    elif not are_all_pairs(dataset):
        q = _PROCEDURES[method](p.ravel()).reshape(p.shape)
        tested = "all distinct pairs"
    else:
        q, tested = np.full(p.shape, np.nan), "all distinct pairs"
        upper = np.triu_indices(len(p), 1)
        q[upper] = _PROCEDURES[method](p[upper])
        q.T[upper] = q[upper]
    if "cell_type_a" in dataset.attrs and tested in ("all distinct pairs", "pairs of the target"):
        tested = dataset.attrs["pairs_across"]
    name = ADJUSTMENT_NAMES[method]
    adjusted = dataset["q_value"].copy(data=q.astype(dataset["q_value"].dtype))
    adjusted.attrs["long_name"] = f"{name} adjusted p_value over {tested}"
    recorded: dict[str, Any] = {"q_method": name, "q_family": tested}
    if method == "hierarchical":
        recorded["q_level"] = level
    return dataset.assign(q_value=adjusted).assign_attrs(recorded)
