"""q-values of a result over another family of pairs, or by another procedure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hiercorr.errors import InputError, between_0_and_1, one_of
from hiercorr.inference.multiplicity import benjamini_hochberg

if TYPE_CHECKING:
    from hiercorr.results.result import CorrelationResult
from hiercorr.inference.multiplicity import benjamini_yekutieli, hierarchical, storey

Array = NDArray[np.float64]


ADJUSTMENT_METHODS = ("bh", "by", "storey", "hierarchical")


ADJUSTMENT_FAMILIES = ("all", "gene")


ADJUSTMENT_NAMES = {
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "storey": "Storey",
    "hierarchical": "Benjamini-Bogomolov",
}


_VECTOR: dict[str, Callable[[Array], Array]] = {
    "bh": benjamini_hochberg,
    "by": benjamini_yekutieli,
    "storey": storey,
}


def adjust(result: CorrelationResult, method: str, family: str, level: float) -> CorrelationResult:
    """See :meth:`hiercorr.CorrelationResult.adjust`."""
    from hiercorr.results.result import CorrelationResult

    one_of("method", method, ADJUSTMENT_METHODS)
    one_of("family", family, ADJUSTMENT_FAMILIES)
    between_0_and_1("level", level)
    ds = result.dataset
    if "p_value" not in ds or not bool(ds["p_value"].notnull().any()):
        raise InputError(
            "this result has no p-values to adjust: fit with an uncertainty and at least 3 samples"
        )
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
    changed.attrs["long_name"] = f"{ADJUSTMENT_NAMES[method]} adjusted p_value over {said}"
    return CorrelationResult(
        ds.assign(q_value=changed).assign_attrs(q_method=ADJUSTMENT_NAMES[method], q_family=said)
    )
