"""Power and ranking of true partners against samples and cells at equal cost."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation.pages import span
from validation.scores import auroc, average_precision

CLAIM = (
    "At equal cost the within-sample jackknife gains power with samples up to some 12 to 24 and loses it where cells per sample "
    "run out; where samples differ in their means it ranks true partners above the cell-level methods at every design, and a list "
    "of pairs with q < 0.05 holds at most 5% false ones."
)
MODELS = ["within", "pooled_cscore"]
SEED = 20261204
REPLICATES = 70
GENES = 60
BUDGET = 3600
DESIGNS = (3, 4, 6, 8, 12, 24, 36)


def grid(quick: bool) -> pd.DataFrame:
    """Samples at 3,600 cells in all, and at the same cost where a sample costs as much as 60 cells."""
    samples = (4, 12) if quick else DESIGNS
    rows = []
    for cost in (0,) if quick else (0, 60):
        for s in samples:
            cells = BUDGET // s - cost
            if cells >= 30:
                rows.append(
                    {
                        "samples": s,
                        "cells": cells,
                        "sample_cost": cost,
                        "mean": 0.5,
                        "rho": 0.25,
                        "heterogeneity": 0.15,
                    }
                )
    return pd.DataFrame(rows)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Pairs (0, 1), (2, 3), ... are related within samples; the means of all genes go together between samples."""
    between = np.full((GENES, GENES), 0.8) + 0.2 * np.eye(GENES)
    first = np.arange(0, GENES, 2)
    upper = np.triu_indices(GENES, 1)
    true = np.zeros((GENES, GENES), bool)
    true[first, first + 1] = True
    related = true[upper]
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata, truth = simulate_counts(
            row["samples"],
            row["cells"],
            GENES,
            mean=row["mean"],
            within=row["rho"],
            between=between,
            heterogeneity=row["heterogeneity"],
            cell_imbalance=0.3,
            seed=rng,
        )
        names = truth["gene"].values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.CSCore(adata, "sample", depth="depth", min_cells=5)
            cells = hc.CellCorrelation(adata, "sample", depth="depth", min_cells=5)
            fits = {
                "within, jackknife": (model.fit(uncertainty="jackknife").dataset, "p_value"),
                "within, cluster": (model.fit(uncertainty="cluster").dataset, "p_value"),
                "published test": (model.fit("pooled", "none").dataset, "cell_p_value"),
                "log-Pearson, pooled": (
                    cells.fit(level="pooled", uncertainty="none").dataset,
                    "cell_p_value",
                ),
                "log-Pearson, within": (cells.fit().dataset, "p_value"),
            }
        for method, (d, variable) in fits.items():
            d = d.reindex(gene=names, partner=names)
            p = d[variable].values[upper].astype(float)
            score = np.nan_to_num(
                np.abs(d["correlation"].values[upper]), nan=0.0
            )  # not estimable: ranked last
            by_q = np.nan_to_num(_adjusted(p), nan=1.0) < 0.05
            found.setdefault(method, []).append(
                {
                    "auroc": auroc(score, related),
                    "auprc": average_precision(score, related),
                    "power": np.mean(p[related] < 0.05),
                    "power_q": by_q[related].mean(),
                    "fdr": (by_q & ~related).sum() / max(by_q.sum(), 1),
                    "undefined": np.isnan(p[related]).mean(),
                }
            )
    rows = []
    for method, scores in found.items():
        table = pd.DataFrame(scores)
        error = {
            f"mc_error_{k}": table[k].sem() for k in ("auroc", "auprc", "power", "power_q", "fdr")
        }
        rows.append(
            {"method": method, "panels": replicates, **table.mean().to_dict(), **error, **row}
        )
    return pd.DataFrame(rows)


def _adjusted(p: np.ndarray) -> np.ndarray:
    out = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known])
    return out


def verdict(table: pd.DataFrame) -> list[str]:
    """Designs that refute the claim."""
    out = []
    ours = table[table["method"] == "within, jackknife"].set_index(["sample_cost", "samples"])
    for at, r in ours.iterrows():
        if r["fdr"] > 0.05 + 3 * max(r["mc_error_fdr"], 0.01):
            out.append(
                f"{r['fdr']:.3f} false among q < 0.05 with {at[1]} samples (a sample costs {at[0]} cells)"
            )
    for method in ("published test", "log-Pearson, pooled"):
        peer = table[table["method"] == method].set_index(["sample_cost", "samples"])
        for at in ours.index:
            if ours.loc[at, "auprc"] < peer.loc[at, "auprc"] - 3 * ours.loc[at, "mc_error_auprc"]:
                out.append(
                    f"{method} ranks better with {at[1]} samples (a sample costs {at[0]} cells)"
                )
    for cost, part in ours.reset_index().groupby("sample_cost"):
        part = part.sort_values("samples")
        few, best = part.iloc[0], part.loc[part["power"].idxmax()]
        if best["samples"] <= few["samples"]:
            out.append(
                f"power is largest with {few['samples']:.0f} samples (a sample costs {cost} cells)"
            )
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for method, g in table.groupby("method", sort=False):
        out.append(
            f"{method}: power at p < 0.05 {span(g['power'], 0)}, average precision {g['auprc'].min():.2f}-"
            f"{g['auprc'].max():.2f}, false among q < 0.05 {span(g['fdr'])} (mean {100 * g['fdr'].mean():.1f}%)."
        )
    ours = table[table["method"] == "within, jackknife"]
    for cost, g in ours.groupby("sample_cost"):
        best = g.loc[g["power"].idxmax()]
        out.append(
            f"Where a sample costs as much as {cost} cells, power is largest with {best['samples']:.0f} samples of "
            f"{best['cells']:.0f} cells."
        )
    out.append(
        "Where we are worse: tests that take cells as units call more true pairs; their lists are mostly false."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    """Power, average precision and realised FDR against samples at equal cost."""
    import matplotlib.pyplot as plt

    costs = sorted(table["sample_cost"].unique())
    fig, axes = plt.subplots(
        len(costs), 3, figsize=(12, 3.4 * len(costs) + 0.4), squeeze=False, layout="constrained"
    )
    style = {
        "within, jackknife": ("#0072B2", "o"),
        "within, cluster": ("#009E73", "^"),
        "log-Pearson, within": ("#56B4E9", "s"),
        "published test": ("#D55E00", "x"),
        "log-Pearson, pooled": ("#CC79A7", "+"),
    }
    for line, cost in zip(axes, costs, strict=True):
        part = table[table["sample_cost"] == cost]
        for ax, value, title in zip(
            line,
            ("power", "auprc", "fdr"),
            ("power at p < 0.05", "average precision of |r|", "false among q < 0.05"),
            strict=True,
        ):
            for method, (colour, marker) in style.items():
                p = part[part["method"] == method].sort_values("samples")
                ax.plot(
                    p["samples"], p[value], marker=marker, color=colour, label=method, lw=1.2, ms=6
                )
            if value == "fdr":
                ax.axhline(0.05, color="#888888", lw=0.8, ls="--")
            ax.set_xscale("log")
            ticks = sorted(part["samples"].unique())
            ax.set_xticks(
                ticks,
                [
                    f"{s}\n{c}"
                    for s, c in part.drop_duplicates("samples")
                    .set_index("samples")["cells"]
                    .loc[ticks]
                    .items()
                ],
            )
            ax.minorticks_off()
            ax.set_title(title, fontsize=11)
            ax.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"a sample costs {cost} cells" if cost else "a sample costs nothing")
    axes[0][-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    fig.supxlabel("samples, and cells of each")
    return {"": fig}
