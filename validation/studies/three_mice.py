"""The seed case, 6,000 cells of 3 mice, and 8 donors beside it: what each package says of pairs that are not related."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from validation import worlds
from validation.methods import answers
from validation.pages import span
from validation.peers import installed
from validation.scores import Tally

CLAIM = (
    "With 6,000 cells of 3 mice whose genes' means go together over the mice but not within them, tests that take cells as "
    "units reject far more than 5% of true nulls; the within-sample jackknife does not, and its estimate is no worse."
)
MODELS = ["within", "pooled_cscore"]
SEED = 20261206
REPLICATES = 25
QUICK_REPLICATES = 2
MEANS = [0.2, 1.0, 5.0]
SETTINGS = [(0.0, 0.0), (0.0, 0.2), (0.3, 0.0), (0.6, 0.0)]
OURS = [
    "within, jackknife",
    "within, cluster",
    "per-sample meta-analysis",
    "repeated-measures correlation",
    "metacell Pearson",
    "cell Pearson",
    "cell Spearman",
]
SLOW = {"statsmodels MixedLM", "pingouin rm_corr", "memento, difference"}


def grid(quick: bool) -> pd.DataFrame:
    """Designs, and how many true nulls of a mean each method is given in a panel."""
    rows = [(8, 300, 10)] if quick else [(3, 2000, 80), (8, 300, 80)]
    return pd.DataFrame(rows, columns=["samples", "cells", "nulls"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    panel = worlds.blocks(MEANS, [0.8], SETTINGS)
    pairs = worlds.pairs_of(panel)
    truth = {b.key: b.truth() for b in panel}
    tally, seconds = Tally(), {}
    for k, child in enumerate(seed.spawn(replicates)):
        rng = np.random.default_rng(child)
        adata = worlds.draw(panel, np.full(row["samples"], row["cells"]), rng)
        asked = {}
        for key, (i, j) in pairs.items():
            some = np.sort(
                rng.permutation(len(i))[: row["nulls"] if key[2:] == (0.0, 0.0) else len(i)]
            )
            asked[key] = (i[some], j[some])
        for method, answer in answers(adata, OURS, seed=k):
            for key, at in asked.items():
                found = answer.at(at)
                if key[2] != 0:
                    found["p"] = None
                tally.add((method, *key), truth.get(key, 0.0), **found)
        for name, call in installed().items():
            # up to 0.1 s a pair: nulls of one mean
            of = {
                key: at
                for key, at in asked.items()
                if name not in SLOW or (key[0] == 1.0 and key[2] == 0.0)
            }
            every = tuple(np.concatenate([at[side] for at in of.values()]) for side in (0, 1))
            start = time.perf_counter()
            p, estimate = call(adata, every)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
            edges = np.cumsum([len(at[0]) for at in of.values()])[:-1]
            parts = [None if v is None else np.split(v, edges) for v in (p, estimate)]
            for n, key in enumerate(of):
                values = {
                    k: None if v is None else v[n]
                    for k, v in zip(("p", "estimate"), parts, strict=True)
                }
                if key[2] != 0 and name != "memento, difference":
                    values["p"] = None
                if any(v is not None for v in values.values()):
                    tally.add((name, *key), truth.get(key, 0.0), **values)
    out = tally.table(["method", "mean", "between", "rho", "heterogeneity"]).assign(**row)
    return out.assign(seconds_a_panel=out["method"].map(seconds) / replicates)


def verdict(table: pd.DataFrame) -> list[str]:
    null = table[(table["rho"] == 0) & (table["mean"] >= 1)]
    out = []
    for r in null[null["method"].isin(["within, jackknife"])].to_dict("records"):
        if r["type_1_all"] > 0.06 + 3 * max(
            r["mc_error_type_1_all"], np.sqrt(0.06 * 0.94 / r["pairs"])
        ):
            out.append(
                f"{r['method']} rejects {r['type_1_all']:.3f} of true nulls, {r['samples']} x {r['cells']}"
            )
    cells = null[null["method"].isin(["CS-CORE Python", "cell Pearson", "cell Spearman"])]
    if not (cells.groupby("method")["type_1"].max() > 0.2).all():
        out.append("a test that takes cells as units does no harm: nothing is shown")
    known = table[(table["rho"] > 0) & (table["mean"] >= 1)].set_index(
        ["method", "samples", "mean", "rho"]
    )["rmse"]
    if "CS-CORE Python" in known.index and "within, jackknife" in known.index:
        worse = known["within, jackknife"] > 1.1 * known["CS-CORE Python"] + 0.01
        out += [f"the published estimate is nearer the truth at {at}" for at in worse[worse].index]
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    null = table[(table["rho"] == 0) & (table["samples"] == 3)]
    rich = null[null["mean"] >= 1].groupby("method")
    out = [
        f"Three mice, mean counts 1 and 5, {m}: rejects {span(g['type_1_all'])} of true nulls."
        for m, g in rich
        if g["type_1_all"].notna().any() and m != "memento, difference"
    ]
    related = table[(table["rho"] > 0) & (table["mean"] >= 1)]
    error = related.groupby("method")["rmse"].mean()
    out.append(
        "Root mean squared error of the estimate where genes are related (mean counts 1 and 5): "
        + ", ".join(f"{m} {v:.3f}" for m, v in error.dropna().sort_values().items())
        + "."
    )
    out.append(
        "Log-scale correlations estimate another quantity, attenuated by dropout; their distance from the truth says so."
    )
    half = table[(table["method"] == "memento, difference")]
    if len(half):
        out.append(
            f"memento's test that correlation differs between two halves of the samples, where it does not: {span(half['type_1_all'])}"
            " (highest where the correlation varies over samples). memento takes its size factors from the panel itself."
        )
    ours = table[
        (table["method"] == "within, jackknife") & (table["samples"] == 3) & (table["rho"] == 0.3)
    ]
    out.append(
        f"Where we are worse: with 3 samples the interval is wide (t with at most 2 degrees of freedom; mean width "
        f"{ours['width'].mean():.2f} at correlation 0.3), and per-sample meta-analysis of rich genes is as good."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    """Rejected true nulls by package."""
    import matplotlib.pyplot as plt

    designs = list(dict.fromkeys(zip(table["samples"], table["cells"], strict=True)))
    methods = [
        m
        for m in dict.fromkeys(table["method"])
        if table.loc[table["method"] == m, "type_1_all"].notna().any()
    ]
    taus = sorted(table.loc[table["rho"] == 0, "heterogeneity"].unique())
    size = (5.2 * len(designs) + 1, (0.32 * len(methods) + 1) * len(taus) + 0.6)
    fig, axes = plt.subplots(
        len(taus),
        len(designs),
        figsize=size,
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    style = {0.2: ("#56B4E9", "v"), 1.0: ("#0072B2", "o"), 5.0: ("#D55E00", "D")}
    for line, tau in zip(axes, taus, strict=True):
        for ax, (s, n) in zip(line, designs, strict=True):
            part = table[
                (table["samples"] == s) & (table["rho"] == 0) & (table["heterogeneity"] == tau)
            ]
            for mean, (colour, marker) in style.items():
                row = part[part["mean"] == mean].set_index("method").reindex(methods)
                y = np.arange(len(methods)) + 0.18 * np.log10(mean)
                error = 2 * row["mc_error_type_1_all"]
                ax.errorbar(
                    row["type_1_all"],
                    y,
                    fmt=marker,
                    color=colour,
                    ms=6,
                    xerr=error,
                    label=f"mean count {mean:g}",
                    capsize=2,
                )
            ax.axvspan(0.035, 0.06, color="#dddddd", zorder=0)
            ax.set_yticks(range(len(methods)), methods)
            ax.set_xlim(0, 1)
            varies = (
                f"correlation varies over samples (sd {tau:g})"
                if tau
                else "no correlation in any sample"
            )
            ax.set_title(f"{s} samples x {n:,} cells, {varies}", fontsize=10)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    axes[0][-1].legend(frameon=False, fontsize=9)
    fig.supxlabel("true nulls rejected at 5%", fontsize=11)
    return {"": fig}
