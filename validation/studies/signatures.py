"""A group of genes as target: size and coverage of its correlation with single genes, beside a module score over cells."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
from scipy import stats

import hiercorr as hc
from validation import worlds
from validation.figures import size_and_coverage
from validation.pages import span
from validation.scores import Tally, outside

CLAIM = (
    "For a group of three genes the jackknife rejects a true null at 5% in 3-6.5% and its 95% interval covers in 93.5-97.5% where the "
    "method flags at most one pair in five, with equal weights and with weights by expression; the Pearson test of a module score over "
    "cells does not."
)
MODELS = ["within"]
SEED = 20261133
REPLICATES = 300
MEANS = [0.2, 1.0, 5.0]
RHO = 0.3
MEMBERS = 3
INSUFFICIENT = hc.Flag.LOW_INFORMATION | hc.Flag.DOMINATED | hc.Flag.TOO_FEW_SAMPLES
FLAGGED = 0.2


def grid(quick: bool) -> pd.DataFrame:
    designs = [(8, 300)] if quick else list(itertools.product([20, 8, 5, 3], [300, 60]))
    return pd.DataFrame(designs, columns=["samples", "cells"])


def truth() -> float:
    """Of the sum of three genes that correlate equally with each other and with the partner."""
    return MEMBERS * RHO / np.sqrt(MEMBERS + MEMBERS * (MEMBERS - 1) * RHO)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    # of each mean two groups of five genes: the first three of one are the signature, its other two are true partners, and
    # those of the other group are nulls whose means go along with the signature's over samples
    panel = [b for mean in MEANS for b in [worlds.Block(mean, 0.8, RHO, 0.0)] * 2]
    tally = Tally()
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata = worlds.draw(
            panel, worlds.cell_numbers(row["samples"], row["cells"], True, rng), rng
        )
        empty = np.asarray(adata.X.sum(0)).ravel() == 0
        names = adata.var_names[~empty]
        logs = np.log1p(adata.X.toarray() / adata.obs["depth"].to_numpy()[:, None] * 1e4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.CSCore(adata[:, ~empty].copy(), "sample", depth="depth", min_cells=5)
            for k, mean in enumerate(MEANS):
                own = [f"gene{10 * k + j}" for j in range(10)]
                members, partners = own[:MEMBERS], [g for g in own[MEMBERS:] if g in names]
                target = np.array([truth() if g in own[:5] else 0.0 for g in partners])
                answers = {}
                for weights in ("equal", "expression"):
                    try:
                        ds = (
                            model.signature(members, weights=weights, uncertainty="jackknife")
                            .dataset.sel(gene=partners)
                            .isel(target=0)
                        )
                    except hc.InputError:  # a gene without enough counts
                        continue
                    values = [
                        ds[v].values
                        for v in (
                            "p_value",
                            "correlation_unclipped",
                            "ci_lower",
                            "ci_upper",
                            "flag",
                        )
                    ]
                    answers[f"{weights} weights"] = values
                score = logs[:, 10 * k : 10 * k + MEMBERS].mean(1)
                r = np.array([stats.pearsonr(score, logs[:, int(g[4:])]) for g in partners])
                nothing = np.full(len(partners), np.nan)
                answers["module score over cells"] = [
                    r[:, 1],
                    r[:, 0],
                    nothing,
                    nothing,
                    np.zeros(len(partners), int),
                ]
                for method, (p, estimate, low, high, flag) in answers.items():
                    bad = (flag.astype(int) & int(INSUFFICIENT)) > 0
                    for value in np.unique(target):
                        at = target == value
                        interval = (low[at], high[at]) if "weights" in method else None
                        tally.add(
                            (method, mean, value > 0),
                            value,
                            p=p[at] if value == 0 else None,
                            estimate=estimate[at],
                            interval=interval,
                            insufficient=bad[at],
                        )
    return tally.table(["method", "mean", "related"]).assign(**row)


def _standing(table: pd.DataFrame, method: str) -> pd.DataFrame:
    return table[(table["method"] == method) & (table["flagged"] <= FLAGGED)]


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    ours = pd.concat([_standing(table, f"{w} weights") for w in ("equal", "expression")])
    for value, low, high in (("type_1", 0.03, 0.065), ("coverage", 0.935, 0.975)):
        for r in outside(ours, value, low, high):
            out.append(
                f"{value} {r[value]:.3f} at {r['samples']} x {r['cells']}, mean {r['mean']:g}, {r['method']}"
            )
    cells = table[(table["method"] == "module score over cells") & ~table["related"]]
    if cells["type_1"].max() < 0.2:
        out.append("cells as units do no harm: nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for method in ("equal weights", "expression weights"):
        g = _standing(table, method)
        null, rest = g[~g["related"]], g[g["related"]]
        out.append(
            f"{method}: rejects {span(null['type_1'])} of true nulls (mean {100 * null['type_1'].mean():.1f}%), covers "
            f"{span(g['coverage'])} (mean {100 * g['coverage'].mean():.1f}%), bias of the true correlation of {truth():.2f} "
            f"{rest['bias'].min():+.3f} to {rest['bias'].max():+.3f}, over the {len(g)} cells of the grid with at most one "
            "pair in five flagged."
        )
    cells = table[table["method"] == "module score over cells"]
    out.append(
        f"Module score over cells: rejects {span(cells.loc[~cells['related'], 'type_1'])} of true nulls; bias "
        f"{cells.loc[cells['related'], 'bias'].min():+.2f} to {cells.loc[cells['related'], 'bias'].max():+.2f}."
    )
    out.append(
        f"Each cell of the grid has {table.loc[~table['related'], 'pairs'].min():,} null pairs or more."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    style = {
        "equal weights": ("#0072B2", "o"),
        "expression weights": ("#009E73", "^"),
        "module score over cells": ("#D55E00", "x"),
    }
    return {
        "": size_and_coverage(
            table, ~table["related"], style, loc="lower right", bbox_to_anchor=(1, 0.12)
        )
    }
