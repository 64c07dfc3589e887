"""Listed pairs, and several targets, from results of single targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.counts.targets import PairList, Targets
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results.layout import distinct, mirror_targets, target_positions
from hiercorr.results.pairs import p_values
from hiercorr.schema import LAYERS


def lefts(pairs: PairList) -> Targets:
    """Choose the genes that are targets if pairs are estimated as parts of targets' pairs.

    Those with most of the pairs first, so that a few regulators remain a few targets.
    """
    number = pd.Series(np.concatenate([pairs.a, pairs.b])).value_counts(sort=False)
    first = np.where(
        number.loc[pairs.a].to_numpy() >= number.loc[pairs.b].to_numpy(), pairs.a, pairs.b
    )
    return tuple(dict.fromkeys(map(str, first)))


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
    p = p_values(dataset) if "p_value" in dataset else None
    out = dataset.drop_vars("target").copy()
    for name in list(out.data_vars):
        if "target" in out[name].dims:
            part = dataset[name].drop_vars(["target", "gene"])
            out[name] = part.isel(target=rows, gene=columns)
    out = out.assign_coords(gene_a=("pair", pairs.a), gene_b=("pair", pairs.b))
    if p is None:
        return out
    out["p_value"].values = p[rows.values, columns.values].astype(out["p_value"].dtype)
    q = benjamini_hochberg(p[rows.values, columns.values].astype(float))
    out["q_value"].values = q.astype(out["q_value"].dtype)
    return out.assign_attrs(q_family="listed pairs")


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
    if "p_value" in out:
        p, once = p_values(out), distinct(out)
        q: NDArray = np.full(p.shape, np.nan)
        q[once] = benjamini_hochberg(p[once].astype(float))
        mirror_targets(q, target_positions(out))
        out["q_value"] = out["q_value"].copy(data=q.astype(out["q_value"].dtype))
        out.attrs["q_family"] = "pairs of the targets"
    return out


def _equal(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.dims == b.dims and a.shape == b.shape and a.equals(b)
