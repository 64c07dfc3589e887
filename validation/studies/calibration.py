"""Type-I error of every method and coverage, bias and width of every interval, over the whole grid."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from validation import worlds
from validation.methods import METHODS, answers
from validation.scores import Tally

CLAIM = (
    "Of the pairs that it does not flag as insufficient, the default (within samples, jackknife) rejects a true null at 5% in "
    "3.5-6% and its 95% interval covers in 93.5-97.5%, in every cell of the grid; tests that take cells as units do not."
)
MODELS = ["within", "pooled_cscore", "pseudobulk", "pseudobulk_adjusted"]
SEED = 20261130
REPLICATES = 200
MEANS = [0.05, 0.2, 1.0, 5.0]
BETWEEN = [0.0, 0.8]
SETTINGS = [(rho, tau) for rho in (0.0, 0.3, 0.6, 0.9) for tau in (0.0, 0.2)]
KEYS = ["method", "mean", "between", "rho", "heterogeneity"]
OTHERS = 10  # every tenth panel scores every method: their errors are larger


def _methods(k: int, cells: int) -> list[str]:
    """Methods for panel k. The alternative that is close to the default is given as many panels, where it costs little."""
    if k % OTHERS == 0:
        return list(METHODS)
    return ["within, jackknife", "within, cluster"] if cells < 1000 else ["within, jackknife"]


def grid(quick: bool) -> pd.DataFrame:
    """Designs, largest first; each panel holds every mean, correlation within and between samples, and heterogeneity."""
    samples, cells, unequal = ([3, 8], [300], [True]) if quick else ([20, 12, 8, 5, 3], [2000, 300, 50], [False, True])
    rows = itertools.product(samples, cells, unequal)
    table = pd.DataFrame(rows, columns=["samples", "cells", "unequal"])
    return table.assign(total=table["samples"] * table["cells"]).sort_values("total", ascending=False).drop(columns="total")


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    panel = worlds.blocks(MEANS, BETWEEN, SETTINGS)
    pairs = worlds.pairs_of(panel)
    truth = {b.key: b.truth() for b in panel}
    tally = Tally()
    for k, child in enumerate(seed.spawn(replicates)):
        rng = np.random.default_rng(child)
        cells = worlds.cell_numbers(row["samples"], row["cells"], row["unequal"], rng)
        adata = worlds.draw(panel, cells, rng)
        for method, answer in answers(adata, _methods(k, row["cells"]), seed=k):
            for key, at in pairs.items():
                # between samples the interval is for the correlation of the log means
                target = key[1] if answer.level == "between" else truth.get(key, 0.0)
                found = answer.at(at)
                if target != 0:
                    found["p"] = None
                tally.add((method, *key), target, **found)
    return tally.table(KEYS).assign(**row)


def figures(table: pd.DataFrame) -> dict:
    return {}


def verdict(table: pd.DataFrame) -> list[str]:
    """Cells of the grid that refute the claim by more than three Monte-Carlo errors; not those mostly flagged."""
    out = []
    ours = table[(table["method"] == "within, jackknife") & (table["flagged"] < 0.5)]
    pairs = ours["pairs"] * (1 - ours["flagged"])
    for value, low, high in (("type_1", 0.035, 0.06), ("coverage", 0.935, 0.975)):
        bound = np.where(ours[value] < low, low, high)
        error = np.maximum(ours[f"mc_error_{value}"], np.sqrt(bound * (1 - bound) / pairs))
        off = np.maximum(low - ours[value], ours[value] - high) > 3 * error
        for r in ours[off].to_dict("records"):
            where = ", ".join(f"{k} {r[k]}" for k in ("samples", "cells", "unequal", *KEYS[1:]))
            out.append(f"{value} {r[value]:.3f} at {where}")
    naive = table[(table["method"] == "published CS-CORE test") & (table["rho"] == 0)]
    if naive["type_1"].max() < 0.2:
        out.append("cells as units do no harm: nothing is shown")
    return out
