"""Worlds that are not the model: what the interval still covers, and where it does not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from validation import worlds
from validation.methods import answers
from validation.pages import span
from validation.scores import Tally, outside

CLAIM = (
    "With gamma cells, samples of unequal variances, batch-dependent capture or ambient RNA the within-sample jackknife keeps 3-7% "
    "false positives and 93-98% coverage. A depth that is off makes all genes correlate, and it calls that; so do 2% of cells of another "
    "type and 8% of doublets with one. Zero inflation leaves the false positives as they are and draws true correlations towards 0."
)
MODELS = ["within", "pooled_cscore"]
SEED = 20261207
REPLICATES = 200
MEANS = [0.2, 1.0, 5.0]
SETTINGS = [(0.0, 0.0), (0.0, 0.2), (0.3, 0.0), (0.6, 0.2)]
FOREIGN = {"2% foreign cells": (0.02, False), "8% doublets": (0.08, True)}
MISLEADING = ("wrong depth", *FOREIGN)
METHODS = [
    "within, jackknife",
    "within, cluster",
    "pooled CS-CORE, jackknife",
    "published CS-CORE test",
]


def grid(quick: bool) -> pd.DataFrame:
    kinds = [(w, "lognormal") for w in worlds.WORLDS] + [("model", "gamma")]
    designs = [(8, 300)] if quick else [(12, 300), (5, 300)]
    if quick:
        kinds = [("unequal variances", "lognormal"), ("wrong depth", "lognormal")]
    rows = [(w, d, s, n) for s, n in designs for w, d in kinds]
    if not quick:
        rows += [(w, "lognormal", s, n) for s, n in designs for w in FOREIGN]
    return pd.DataFrame(rows, columns=["world", "cells_are", "samples", "cells"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    panel = worlds.blocks(MEANS, [0.8], SETTINGS)
    pairs = worlds.pairs_of(panel)
    truth = {b.key: b.truth() for b in panel}
    tally = Tally()
    for k, child in enumerate(seed.spawn(replicates)):
        rng = np.random.default_rng(child)
        cells = worlds.cell_numbers(row["samples"], row["cells"], True, rng)
        share, doublets = FOREIGN.get(row["world"], (0.0, False))
        world = "model" if share else row["world"]
        adata = worlds.draw(panel, cells, rng, distribution=row["cells_are"], world=world)
        if share:
            adata = worlds.add_foreign(adata, share, doublets, rng)
        for method, answer in answers(adata, METHODS if k % 5 == 0 else METHODS[:1], seed=k):
            for key, at in pairs.items():
                found = answer.at(at)
                if key[2] != 0:
                    found["p"] = None
                tally.add((method, *key), truth.get(key, 0.0), **found)
    return tally.table(["method", "mean", "between", "rho", "heterogeneity"]).assign(**row)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    ours = table[(table["method"] == "within, jackknife") & (table["flagged"] <= 0.2)]
    for value, low, high, spared in (
        ("type_1", 0.03, 0.07, MISLEADING),
        ("coverage", 0.93, 0.98, (*MISLEADING, "zero inflation")),
    ):
        for r in outside(ours[~ours["world"].isin(spared)], value, low, high):
            where = f"{r['world']}, {r['cells_are']}, mean {r['mean']}, rho {r['rho']}, S={r['samples']}"
            out.append(f"{value} {r[value]:.3f} in {where}")
    for world in MISLEADING:
        if world in set(table["world"]) and not ours[ours["world"] == world]["type_1"].max() > 0.1:
            out.append(f"{world}: no harm, nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    ours = table[(table["method"] == "within, jackknife") & (table["mean"] >= 1)]
    out = []
    for (world, kind), g in ours.groupby(["world", "cells_are"], sort=False):
        null, true = g[g["rho"] == 0], g[g["rho"] > 0]
        out.append(
            f"{world}, {kind} cells, mean counts 1 and 5: rejects {span(null['type_1'])} of true nulls, covers "
            f"{span(true['coverage'])}, bias {true['bias'].min():+.3f} to {true['bias'].max():+.3f}."
        )
    out.append(
        "The figure counts flagged pairs too; most of those with mean count 0.2 in 5 samples are, and their p-values are too large."
    )
    out.append(
        "A wrong depth multiplies all genes of a cell by one factor: correlation that no counts of those genes can tell from biology. "
        "Give the depth of the whole transcriptome. Where we are worse: methods that estimate the factor from many stable genes need "
        "not be told."
    )
    out.append(
        "Cells of another type, and doublets with one: genes that differ between the types correlate. See foreign_cells for what traps() "
        "sees of it, and what leaving out cells does."
    )
    out.append(
        "Zero inflation and a true correlation: zeros that have nothing to do with expression add variance, so the estimate "
        "is nearer 0 than that of the expression behind them."
    )
    out.append(
        "The claim was reworded after the first run: ambient RNA had been expected to mislead, zero inflation not to."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    """Type-I error and coverage of the default in each world."""
    import matplotlib.pyplot as plt

    ours = table[table["method"] == "within, jackknife"]
    kinds = list(dict.fromkeys(zip(ours["world"], ours["cells_are"], strict=True)))
    labels = [w if d == "lognormal" else f"{w}, {d} cells" for w, d in kinds]
    means = sorted(ours["mean"].unique())
    samples = sorted(ours["samples"].unique())
    fig, axes = plt.subplots(
        2,
        len(samples),
        figsize=(4.6 * len(samples) + 2, 6.2),
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    colours, markers = ["#56B4E9", "#0072B2", "#D55E00"], ["v", "o", "D"]
    panels = [
        ("type_1", 0.0, 0.0, (0.035, 0.06), "true nulls rejected"),
        ("coverage", 0.6, 0.2, (0.935, 0.975), "coverage"),
    ]
    for row, (line, (value, rho, tau, band, title)) in enumerate(zip(axes, panels, strict=True)):
        for ax, s in zip(line, samples, strict=True):
            ax.axhspan(*band, color="#dddddd", zorder=0)
            for m, (mean, colour, marker) in enumerate(zip(means, colours, markers, strict=True)):
                part = ours[(ours["samples"] == s) & (ours["mean"] == mean) & (ours["rho"] == rho)]
                part = (
                    part[part["heterogeneity"] == tau]
                    .set_index(["world", "cells_are"])
                    .reindex(kinds)
                )
                ax.errorbar(
                    np.arange(len(kinds)) + 0.16 * (m - 1),
                    part[f"{value}_all"],
                    2 * part[f"mc_error_{value}_all"],
                    fmt=marker,
                    color=colour,
                    ms=5,
                    capsize=2,
                    label=f"mean count {mean:g}",
                )
            ax.set_xticks(
                range(len(kinds)), labels if row else [""] * len(kinds), rotation=40, ha="right"
            )
            ax.spines[["top", "right"]].set_visible(False)
            if value == "type_1":
                ax.set_title(f"{s} samples x 300 cells", fontsize=11)
                ax.set_yscale("log")
                ax.set_yticks(
                    [0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["2%", "5%", "10%", "20%", "50%", "100%"]
                )
                ax.minorticks_off()
        line[0].set_ylabel(f"{title}\n(true correlation {rho:g})")
    axes[0][-1].legend(frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    return {"": fig}
