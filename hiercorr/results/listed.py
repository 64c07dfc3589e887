"""Listed pairs, and several targets, from results of single targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.counts.targets import PairList
from hiercorr.results.adjust import with_q_values
from hiercorr.schema import LAYERS

_MEDIANS = {"prior_df", "prior_variance"}  # attributes of a fit that are summed up over targets


def selected_pairs(dataset: xr.Dataset, pairs: PairList) -> xr.Dataset:
    """Select listed pairs from a result of targets; they become the family of tests.

    Parameters
    ----------
    dataset : xarray.Dataset
        With one of the genes of every pair among its targets.
    pairs : PairList

    Returns
    -------
    xarray.Dataset
        With the dimension ``pair``.
    """
    targets, genes = (pd.Index(dataset[d].values) for d in ("target", "gene"))
    known = targets.get_indexer(pairs.a) >= 0
    left, right = np.where(known, pairs.a, pairs.b), np.where(known, pairs.b, pairs.a)
    rows = xr.DataArray(targets.get_indexer(left), dims="pair")
    columns = xr.DataArray(genes.get_indexer(right), dims="pair")
    out = dataset.drop_vars("target").copy()
    for name in list(out.data_vars):
        if "target" in out[name].dims:
            part = dataset[name].drop_vars(["target", "gene"])
            out[name] = part.isel(target=rows, gene=columns)
    out = out.assign_coords(gene_a=("pair", pairs.a), gene_b=("pair", pairs.b))
    return _one_family(out)


def stacked(results: Sequence[xr.Dataset]) -> xr.Dataset:
    """Stack results of single targets; their distinct pairs become the family of tests.

    Coefficients, and variables of genes that depend on the target, are left out.
    """
    first = results[0]
    if len(results) == 1:
        several = [n for n in first if "coefficient" in first[n].dims]
        return first.drop_vars([*several, "coefficient"], errors="ignore")
    per_target = [n for n in first.data_vars if "target" in first[n].dims]
    others = [
        n for n in first.data_vars if n not in per_target and "coefficient" not in first[n].dims
    ]
    same = [n for n in others if all(n in r and _equal(first[n], r[n]) for r in results[1:])]
    joined = xr.concat(
        [r[per_target] for r in results], "target", coords="minimal", compat="override"
    )
    order = (*LAYERS, "target", "gene")
    out = joined.assign({n: first[n] for n in same}).transpose(
        *(d for d in order if d in joined.dims), ...
    )
    varying = {k for r in results for k in r.attrs if r.attrs.get(k) != first.attrs.get(k)}
    out.attrs = {k: v for k, v in first.attrs.items() if k not in varying or k == "created"}
    typical = {k: [float(r.attrs.get(k, np.nan)) for r in results] for k in _MEDIANS & varying}
    out.attrs |= {k: float(np.nanmedian(values)) for k, values in typical.items()}
    return _one_family(out)


def _one_family(dataset: xr.Dataset) -> xr.Dataset:
    """Adjust the p-values over the pairs of a result, if it has any."""
    tested = "p_value" in dataset and bool(dataset["p_value"].notnull().any())
    return with_q_values(dataset, "bh", "all", 0.05) if tested else dataset


def _equal(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.dims == b.dims and a.shape == b.shape and a.equals(b)
