"""Doublets and cells of another type: what they do to a screen, whether it is seen, and the advice."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from validation import worlds
from validation.pages import span
from validation.populations import Population, draw
from validation.screens import adjusted

CLAIM = (
    "2% of foreign cells or 8% of doublets with another type more than double the rate of false positives; the share of the leading component in 5% "
    "of the cells, which hiercorr.traps reports, is above 0.5 with them and below it without in at least 90% of the panels each; without the "
    "10% of the cells that carry most of it at most 7% of independent pairs are below 0.05, with foreign cells or without."
)
MODELS = ["within"]
SEED = 20261211
REPLICATES = 12
QUICK_REPLICATES = 2
GENES = 80
CELLS, DONORS = 400, 6
CELL_TYPES = {
    "independent genes": Population(related=0.0),
    "related genes": Population(rho=0.6),
    "related, sparse": Population(means=(0.2,), rho=0.5),
    "related, gamma": Population(distribution="gamma", rho=0.5),
}
FOREIGN = {"none": (0.0, False), "2% foreign": (0.02, False), "8% doublets": (0.08, True)}
ERRORS = ("null_05", "seen")


def grid(quick: bool) -> pd.DataFrame:
    types = list(CELL_TYPES)[: 2 if quick else None]
    rows = [(t, f) for t in types for f in (list(FOREIGN)[::2] if quick else FOREIGN)]
    return pd.DataFrame(rows, columns=["cells_are", "foreign"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        data = draw(CELL_TYPES[row["cells_are"]], np.full(DONORS, CELLS), GENES, rng)
        share, doublets = FOREIGN[row["foreign"]]
        adata = worlds.add_foreign(data.adata, share, doublets, rng) if share else data.adata
        options = {"sample": "sample", "depth": "depth", "min_cells": 5}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traps = hc.traps(adata, target="gene0", permutations=19, **options)
            keep = traps.without_leading_cells(adata.obs_names)
            for cells, subset in (("all cells", None), ("without the leading 10%", keep)):
                d = hc.CSCore(adata, subset=subset, **options).fit().dataset
                p, r = (
                    d[k].values[data.pairs].astype(float)
                    for k in ("p_value", "correlation_unclipped")
                )
                call, null = adjusted(p) < 0.05, ~data.related & np.isfinite(p)
                found.setdefault(cells, []).append(
                    {
                        "null_05": (p[null] < 0.05).mean(),
                        "fdp": (call & ~data.related).sum() / max(call.sum(), 1),
                        "power": call[data.related].mean() if data.related.any() else np.nan,
                        "bias": np.nanmean((r - data.truth)[data.related])
                        if data.related.any()
                        else np.nan,
                        "share": traps.summary["foreign_share"],
                        "seen": float(traps.summary["foreign_share"] >= 0.5),
                    }
                )
    rows = []
    for cells, scores in found.items():
        t = pd.DataFrame(scores)
        mc = {f"mc_error_{k}": t[k].sem() for k in ERRORS}
        rows.append({"cells": cells, "panels": len(t), **t.mean().to_dict(), **mc, **row})
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    for r in table.to_dict("records"):
        where = f"{r['cells_are']}, {r['foreign']}, {r['cells']}"
        alien = r["foreign"] != "none"
        if r["cells"] != "all cells":
            if r["null_05"] > 0.07 + 3 * r["mc_error_null_05"]:
                out.append(f"{r['null_05']:.3f} of independent pairs below 0.05, {where}")
            continue
        if alien and r["null_05"] < 0.1 - 3 * r["mc_error_null_05"]:
            out.append(f"foreign cells do no harm: {r['null_05']:.3f}, {where}")
        right = r["seen"] if alien else 1 - r["seen"]
        if right < 0.9 - 3 * max(r["mc_error_seen"], 0.05):
            out.append(f"right about foreign cells in {right:.2f} of the panels, {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for (foreign, cells), g in table.groupby(["foreign", "cells"], sort=False):
        related = g[g["cells_are"] != "independent genes"]
        out.append(
            f"{foreign}, {cells}: {span(g['null_05'])} of independent pairs below 0.05; of the calls {span(related['fdp'])} are false; "
            f"related pairs are biased by {related['bias'].min():+.2f} to {related['bias'].max():+.2f}."
        )
    for foreign, g in table[table["cells"] == "all cells"].groupby("foreign", sort=False):
        out.append(
            f"{foreign}: 5% of the cells carry {span(g['share'], 0)} of the leading component; above 50% in {span(g['seen'], 0)} of the panels."
        )
    out.append(
        "Leaving out cells by what they do to the correlations is a check, not a cure: doublet calls and annotation come first. It costs "
        "related pairs some hundredths where all cells are of one type."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    colours = dict(zip(FOREIGN, ("#000000", "#0072B2", "#D55E00"), strict=True))
    kinds = list(dict.fromkeys(table["cells_are"]))
    for k, (foreign, colour) in enumerate(colours.items()):
        for cells, fill in (("all cells", colour), ("without the leading 10%", "w")):
            g = table[(table["foreign"] == foreign) & (table["cells"] == cells)]
            at = np.array([kinds.index(c) for c in g["cells_are"]]) + 0.2 * (k - 1)
            label = f"{foreign}, {cells}"
            axes[0].plot(at, g["null_05"], "o", color=colour, mfc=fill, label=label)
            if cells == "all cells":
                axes[1].plot(at, g["share"], "o", color=colour, label=foreign)
    axes[0].axhspan(0.0, 0.07, color="#e4e4e4", zorder=0)
    axes[1].axhline(0.5, color="#888888", lw=0.8, ls="--")
    axes[0].set_ylabel("independent pairs with p < 0.05")
    axes[1].set_ylabel("share of the leading component\nin 5% of the cells")
    axes[1].set_ylim(0, 1)
    for ax in axes:
        ax.set_xticks(range(len(kinds)), kinds, rotation=20)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    return {"": fig}
