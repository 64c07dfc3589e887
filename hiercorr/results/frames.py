"""Results in the terms of statsmodels: estimates, p-values and intervals by pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.errors import InputError
from hiercorr.results import pairs
from hiercorr.results.feature_types import with_types
from hiercorr.results.layout import distinct, ends, has_all_pairs, scope, target_of, targets_of
from hiercorr.schema import FEATURE_TYPE, describe_flag


def to_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Tabulate all pairs in the order of the genes, by gene or by ``gene_a`` and ``gene_b``."""
    values = {c: _column(dataset, v) for c, v in pairs.pair_columns(*_asked(dataset))}
    flags = _column(dataset, dataset["flag"].values)
    table = pd.DataFrame(values, _index(dataset))
    return with_types(table.assign(flag=[describe_flag(f) for f in flags]), dataset)


def column(dataset: xr.Dataset, name: str) -> pd.Series:
    """Return one variable of all pairs, in the order of :func:`to_frame`."""
    if name not in dataset or not pairs.has_values(dataset, name):
        raise InputError(f"this result has no {name}: it was fitted without uncertainty")
    known = pairs.p_values(dataset) if name == "p_value" else dataset[name].values
    return pd.Series(_column(dataset, known), _index(dataset), name=name)


def conf_int(dataset: xr.Dataset) -> pd.DataFrame:
    """Return the confidence limits of what was tested, columns ``lower`` and ``upper``."""
    if pairs.OVERALL in dataset:
        raise InputError(
            "an overall test has no interval; contrasts() of differential(..., "
            "contrast='pairwise') has the interval of each difference between groups"
        )
    names = pairs.limit_names(pairs.effect_name(dataset.data_vars))
    return pd.DataFrame(
        {end: column(dataset, name) for end, name in zip(("lower", "upper"), names, strict=True)}
    )


def n_pairs(dataset: xr.Dataset) -> int:
    """Count the pairs."""
    n = dataset.sizes["gene"]
    if has_all_pairs(dataset):
        return n * (n - 1) // 2
    return int(distinct(dataset).sum())


def one_pair(dataset: xr.Dataset, gene_a: str, gene_b: str) -> pd.Series:
    """Return all variables of one pair."""
    targets, genes = targets_of(dataset), pairs.genes_of(dataset)
    gene_a, gene_b = (pairs.known_gene(dataset, gene) for gene in (gene_a, gene_b))
    if gene_a == gene_b:
        raise InputError(f"{gene_a!r} and {gene_b!r} are not a pair: name two genes")
    if targets is not None and not targets.isin([gene_a, gene_b]).any():
        raise InputError(
            f"this result has pairs of {_only(dataset)} only, not {gene_a!r} and {gene_b!r}"
        )
    swapped = targets is not None and gene_a not in targets
    row, other = (gene_b, gene_a) if swapped else (gene_a, gene_b)
    _, values = pairs.row_of(dataset, row)
    if other not in values["gene"].values:
        raise InputError(f"{gene_a!r} and {gene_b!r} are not among the listed pairs")
    at = pd.Index(values["gene"].values).get_loc(other)
    found: dict[str, object] = {}
    if FEATURE_TYPE in dataset:
        kinds = dataset[FEATURE_TYPE].values[genes.get_indexer([gene_a, gene_b])]
        found = {f"{FEATURE_TYPE}_{end}": kind for end, kind in zip("ab", kinds, strict=True)}
    found |= {c: v[at] for c, v in pairs.pair_columns(values, pairs.table_columns(dataset))}
    found["flag"] = describe_flag(values["flag"].values[at])
    return pd.Series(found, name=(gene_a, gene_b), dtype=object).infer_objects()


def _only(dataset: xr.Dataset) -> str:
    target = target_of(dataset)
    return scope(dataset) if target is None else repr(target)


def _asked(dataset: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    if target_of(dataset) is not None:
        _, dataset = pairs.row_of(dataset, None)
    return dataset, [c for c in pairs.table_columns(dataset) if c in dataset]


def _entries(dataset: xr.Dataset) -> tuple[np.ndarray, ...]:
    """Return the positions of the distinct pairs in the pair variables."""
    return np.nonzero(distinct(dataset))


def _column(dataset: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Return the values of the pairs of a target, or of the distinct pairs."""
    target = target_of(dataset)
    if target is None:
        return values[_entries(dataset)]
    others = pairs.genes_of(dataset) != target
    return np.reshape(values, -1)[others]


def _index(dataset: xr.Dataset) -> pd.Index:
    target, genes = target_of(dataset), pairs.genes_of(dataset)
    if target is not None:
        return pd.Index(genes[genes != target], name="gene")
    return pd.MultiIndex.from_arrays(ends(dataset, _entries(dataset)), names=["gene_a", "gene_b"])
