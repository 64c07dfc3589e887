"""Screens of all pairs of a panel: the methods, and what their lists hold."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import hiercorr as hc
from hiercorr.inference.moderation import squeeze_variances

OPTIONS = {"sample": "sample", "depth": "depth"}


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg over the p-values that are known; 1 for the others."""
    out, known = np.ones(p.shape), np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known])
    return out


def moderated_p(
    d: xr.Dataset, mean: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The jackknife with its variances shrunk to a trend, as limma's: the candidate not chosen.

    The trend is over the variance that two independent genes would have, by their mean counts and
    overdispersions.
    """
    i, j = pairs
    r, t, df = (d[k].values[i, j] for k in ("correlation_unclipped", "statistic", "df"))
    phi = d["overdispersion"].values
    noise = 1 + 1 / np.where(phi > 0, mean * phi, np.nan)
    with np.errstate(all="ignore"):
        s2, level = (r / t) ** 2, np.log(noise[i] * noise[j])
    known = np.isfinite(s2) & np.isfinite(level) & (s2 > 0) & (df > 0)
    out = np.full(len(r), np.nan)
    if known.sum() > 10:
        squeezed = squeeze_variances(s2[known], df[known], level[known])
        score = np.abs(r[known]) / np.sqrt(squeezed.posterior)
        out[known] = 2 * stats.t.sf(score, squeezed.total_df)
    return out


def p_values(adata: ad.AnnData, pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """p-values of the pairs by every method; NaN where one has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.CSCore(adata, **OPTIONS)
        jackknife = model.fit(uncertainty="jackknife").dataset
        out = {
            "hierarchical": model.fit().dataset["p_value"].values[pairs],
            "jackknife": jackknife["p_value"].values[pairs],
            "moderated": moderated_p(jackknife, np.asarray(adata.X.mean(0)).ravel(), pairs),
            "published test": model.fit("pooled", "none").dataset["cell_p_value"].values[pairs],
        }
        try:
            sums = hc.aggregate(adata, "sample", depth="depth")
            bulk = hc.Pseudobulk(sums, "sample", normalization="cpm").fit().dataset
            names = adata.var_names.to_numpy()
            out["pseudobulk"] = bulk["p_value"].reindex(gene=names, partner=names).values[pairs]
        except hc.InputError:  # too few samples
            out["pseudobulk"] = np.full(len(pairs[0]), np.nan)
    return {k: v.astype(float) for k, v in out.items()}


def called(
    p: np.ndarray, independent: np.ndarray, changing: np.ndarray, related: np.ndarray
) -> dict:
    """What one screen at q < 0.05 calls, and the p-values of its null pairs."""
    call, known = adjusted(p) < 0.05, np.isfinite(p)
    null, moving = known & independent, known & changing
    false = call & ~related
    return {
        "calls": call.sum(),
        "fdp": false.sum() / max(call.sum(), 1),
        "any_false": float(false.any()),
        "power": call[related].mean() if related.any() else np.nan,
        "null_05": _share(p[null] < 0.05),
        "null_001": _share(p[null] < 1e-3),
        "null_0001": _share(p[null] < 1e-4),
        "changing_05": _share(p[moving] < 0.05),
        "tested": known.mean(),
    }


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def summary(found: dict[str, list[dict]], row: dict, errors: tuple[str, ...]) -> pd.DataFrame:
    """Means over panels by method, with the Monte-Carlo error of some."""
    rows = []
    for method, scores in found.items():
        t = pd.DataFrame(scores)
        mc = {f"mc_error_{k}": t[k].sem() for k in errors}
        rows.append({"method": method, "panels": len(t), **t.mean().to_dict(), **mc, **row})
    return pd.DataFrame(rows)
