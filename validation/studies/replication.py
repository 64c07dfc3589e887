"""Real data: whether pairs called in some patients come back in the others."""

from __future__ import annotations

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd

import hiercorr as hc
from validation.pages import span

CLAIM = (
    "On glioblastoma, lists of pairs with q < 0.05 from three of five patients hold thousands of pairs where the jackknife's are "
    "empty; at least 85% of them have the same sign in the other two patients, in every split. With the cells of every gene "
    "shuffled within samples the lists are empty."
)
MODELS = ["within"]
SEED = 20261211
REPLICATES = 10  # splits
QUICK_REPLICATES = 2
METHODS = ("hierarchical", "jackknife")
LEAST = 3  # patients in the first part; the other two cannot be tested


def grid(quick: bool) -> pd.DataFrame:
    """Vehicle slices only, or both slices of a patient with the patient as the unit."""
    rows = (
        [("vehicle", False)]
        if quick
        else [(d, shuffled) for d in ("vehicle", "both slices") for shuffled in (False, True)]
    )
    return pd.DataFrame(rows, columns=["data", "shuffled"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Splits of five patients into 3 and 2, of which there are ten."""
    adata = hc.datasets.glioblastoma()
    options = {"depth": "total_counts"}
    if row["data"] == "vehicle":
        adata = adata[adata.obs["condition"] == "ctrl"].copy()
    else:
        options["block"] = "patient_id"
    adata = adata[:, _expressed(adata)].copy()
    if row["shuffled"]:
        adata = _shuffled(adata, np.random.default_rng(seed))
    patients = np.unique(adata.obs["patient_id"])
    rows = []
    for first in list(itertools.combinations(patients, LEAST))[:replicates]:
        here = adata.obs["patient_id"].isin(first).to_numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = hc.CSCore(adata[~here].copy(), "sample_id", depth="total_counts")
            other = there.fit(uncertainty="none").matrix("correlation_unclipped")
            model = hc.CSCore(adata[here].copy(), "sample_id", **options)
            for method in METHODS:
                d = model.fit(uncertainty=method).dataset
                names = d["gene"].values
                second = other.reindex(index=names, columns=names).to_numpy()
                i, j = np.triu_indices(len(names), 1)
                q, r, second = (
                    d["q_value"].values[i, j],
                    d["correlation_unclipped"].values[i, j],
                    second[i, j],
                )
                known = np.isfinite(q) & np.isfinite(second)
                call = known & (q < 0.05)
                same = np.sign(r) == np.sign(second)
                rows.append(
                    {
                        "method": method,
                        "split": "+".join(first),
                        "pairs": known.sum(),
                        "called": call.sum(),
                        "negative": (call & (r < 0)).sum(),
                        "same_sign": same[call].mean() if call.any() else np.nan,
                        "same_sign_all": same[known].mean(),
                        "median_here": np.median(np.abs(r[call])) if call.any() else np.nan,
                        "median_there": np.median((second * np.sign(r))[call])
                        if call.any()
                        else np.nan,
                    }
                )
    return pd.DataFrame(rows).assign(**row)


def _expressed(adata: ad.AnnData) -> np.ndarray:
    """Genes with at least ten counts in every patient."""
    patients = adata.obs.groupby("patient_id", observed=True).indices.values()
    return np.min([np.asarray(adata.X[cells].sum(0)).ravel() for cells in patients], axis=0) >= 10


def _shuffled(adata: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """Give every gene the expression of other cells of its sample, drawn for each gene on its own.

    A cell keeps its depth: the share of a gene is drawn from another cell, and counted anew.
    """
    x = adata.X.toarray().astype(float)
    depth = adata.obs["total_counts"].to_numpy(float)[:, None]
    share = x / depth
    for cells in adata.obs.groupby("sample_id", observed=True).indices.values():
        order = rng.permuted(np.tile(cells[:, None], x.shape[1]), axis=0)
        share[cells] = np.take_along_axis(share, order, axis=0)
    return ad.AnnData(rng.poisson(share * depth).astype(np.float32), obs=adata.obs, var=adata.var)


def verdict(table: pd.DataFrame) -> list[str]:
    """Splits that refute the claim."""
    out = []
    for r in table.to_dict("records"):
        where = f"{r['method']}, {r['data']}, {r['split']}"
        if r["shuffled"]:
            if r["called"] > 5:
                out.append(f"{r['called']} pairs called after shuffling: {where}")
        elif r["method"] == "hierarchical":
            if r["called"] < 1000:
                out.append(f"only {r['called']} pairs called: {where}")
            elif r["same_sign"] < 0.85:
                out.append(f"{r['same_sign']:.2f} of the called pairs have the same sign: {where}")
        elif r["called"] > 100:
            out.append(f"{r['called']} pairs called: {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for (data, shuffled, method), g in table.groupby(["data", "shuffled", "method"], sort=False):
        low, high = g["called"].min(), g["called"].max()
        line = (
            f"{data}{', shuffled' if shuffled else ''}, {method}: {f'{low:,.0f}-{high:,.0f}' if high else 'none'} of some "
            f"{g['pairs'].mean():,.0f} pairs called"
        )
        if g["called"].max() > 100:
            line += (
                f" ({span(g['negative'] / g['called'], 0)} negative), {span(g['same_sign'], 0)} of them (mean {100 * g['same_sign'].mean():.0f}%) "
                f"with the same sign in the other two patients, where their median correlation in this direction is "
                f"{g['median_there'].min():.2f}-{g['median_there'].max():.2f} ({g['median_here'].min():.2f}-{g['median_here'].max():.2f} "
                "where they were called)"
            )
        out.append(f"{line}; same sign over all pairs: {span(g['same_sign_all'], 0)}.")
    out += [
        "The data sets that the package ships have at most five donors, so the second part has two, and no p-values: what is "
        "compared is the sign and the size of the estimates.",
        "The depth of these cells is the sum over the same 300 genes, as the source has no other: a gene that takes many counts pushes "
        "all others down in all patients. Some of the pairs that come back may be this, negative ones above all.",
        "'Both slices': vehicle and panobinostat of each patient, block= the patient; centred in each slice.",
        "Shuffled: each gene's share of a cell's counts is that of another cell of the slice, drawn for each gene on its own.",
        "Where we are worse: where two patients are unlike the other three, up to 11% of a list has another sign there, which is more "
        "than 5%: the average over three patients is not that of the other two.",
    ]
    return out


def figures(table: pd.DataFrame) -> dict:
    """Pairs called, and those with the same sign in the other patients; a dot for each split."""
    import matplotlib.pyplot as plt

    settings = list(dict.fromkeys(zip(table["data"], table["shuffled"], strict=True)))
    labels = [f"{d}{', shuffled' if s else ''}" for d, s in settings]
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    style = {"hierarchical": ("#0072B2", "o"), "jackknife": ("#000000", "x")}
    for k, (data, shuffled) in enumerate(settings):
        part = table[(table["data"] == data) & (table["shuffled"] == shuffled)]
        for shift, (method, (colour, marker)) in zip((-0.15, 0.15), style.items(), strict=True):
            g = part[part["method"] == method]
            x = k + shift + np.linspace(-0.1, 0.1, len(g))
            axes[0].plot(x, g["called"], marker, color=colour, label=None if k else method, ms=5)
        g = part[part["method"] == "hierarchical"]
        x = k + np.linspace(-0.1, 0.1, len(g))
        axes[1].plot(x - 0.15, g["same_sign"], "o", color="#0072B2", ms=5)
        axes[1].plot(x + 0.15, g["same_sign_all"], "o", color="#999999", ms=5)
    axes[0].set_yscale("symlog")
    axes[0].set_ylim(-0.5, None)
    axes[0].set_title("pairs with q < 0.05 in three patients", fontsize=10)
    axes[1].axhline(0.5, color="#888888", lw=0.8, ls="--")
    axes[1].set_title("same sign in the other two: called (blue), all pairs (grey)", fontsize=10)
    axes[0].legend(frameon=False)
    for ax in axes:
        ax.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
        ax.spines[["top", "right"]].set_visible(False)
    return {"": fig}
