"""Covariates of cells within samples: a state that moves all genes makes correlation; taking it out leaves what was there."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.schema import Flag
from validation import worlds
from validation.figures import size_and_coverage
from validation.pages import span
from validation.scores import Tally, outside

CLAIM = (
    "With a continuous and a categorical state taken out in each sample, the default rejects a true null at 5% in 3-6.5% and its "
    "95% interval covers in 93.5-97.5%, from 3 samples of 300 cells to 20 of 60, where the method flags at most one pair in "
    "five; without the covariates it calls the shared state a correlation."
)
MODELS = ["within", "within_adjusted"]
SEED = 20261132
REPLICATES = 200
MEANS = [0.2, 1.0, 5.0]
SETTINGS = [(0.0, 0.2), (0.3, 0.0), (0.6, 0.0)]
INSUFFICIENT = hc.Flag.LOW_INFORMATION | hc.Flag.DOMINATED | hc.Flag.TOO_FEW_SAMPLES
FLAGGED = 0.2


def grid(quick: bool) -> pd.DataFrame:
    designs = [(8, 300)] if quick else list(itertools.product([20, 8, 5, 3], [300, 60]))
    return pd.DataFrame(designs, columns=["samples", "cells"])


def state(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """A stress that is higher in some samples, and a phase whose frequencies differ over samples; both move all genes."""
    stress = np.tanh(0.7 * rng.standard_normal(n) + rng.normal(0, 0.5))
    phase = rng.choice(3, n, p=rng.dirichlet([6, 3, 2]))
    table = pd.DataFrame({"stress": stress, "phase": np.array(["G1", "S", "G2M"])[phase]})
    return table, (1 + 0.5 * stress + np.array([0.0, 0.3, 0.8])[phase])[:, None]


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    panel = worlds.blocks(MEANS, [0.0], SETTINGS)
    pairs = worlds.pairs_of(panel)
    truth = {b.key: b.truth() for b in panel}
    tally = Tally()
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata = worlds.draw(
            panel, worlds.cell_numbers(row["samples"], row["cells"], True, rng), rng, state=state
        )
        names = adata.var_names
        adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()
        for method, covariates in (("state taken out", "~ stress + phase"), ("as it is", None)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = (
                    hc.CSCore(adata, "sample", depth="depth", covariates=covariates, min_cells=5)
                    .fit(uncertainty="jackknife")
                    .dataset
                )
            if len(names) > ds.sizes["gene"]:
                ds = ds.reindex(
                    gene=names, partner=names, fill_value={"flag": int(Flag.TOO_FEW_SAMPLES)}
                )
            for key, at in pairs.items():
                low, high, p, estimate, flag = (
                    ds[v].values[at]
                    for v in ("ci_lower", "ci_upper", "p_value", "correlation_unclipped", "flag")
                )
                bad = (flag.astype(int) & int(INSUFFICIENT)) > 0
                target = truth.get(key, 0.0)
                tally.add(
                    (method, *key),
                    target,
                    p=p if target == 0 else None,
                    estimate=estimate,
                    interval=(low, high),
                    insufficient=bad,
                )
    return tally.table(["method", "mean", "between", "rho", "heterogeneity"]).assign(**row)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    ours = table[(table["method"] == "state taken out") & (table["flagged"] <= FLAGGED)]
    for value, low, high in (("type_1", 0.03, 0.065), ("coverage", 0.935, 0.975)):
        for r in outside(ours, value, low, high):
            where = f"{r['samples']} x {r['cells']}, mean {r['mean']:g}, rho {r['rho']:g}"
            out.append(f"{value} {r[value]:.3f} at {where}")
    bare = table[(table["method"] == "as it is") & (table["rho"] == 0)]
    if bare["type_1"].max() < 0.2:
        out.append("the state makes no correlation: nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for method, g in table.groupby("method", sort=False):
        g = g[g["flagged"] <= FLAGGED]
        null, rest = g[g["rho"] == 0], g[g["rho"] > 0]
        out.append(
            f"{method}: rejects {span(null['type_1'])} of true nulls (mean {100 * null['type_1'].mean():.1f}%), covers "
            f"{span(g['coverage'])} (mean {100 * g['coverage'].mean():.1f}%), bias of true correlations "
            f"{rest['bias'].min():+.3f} to {rest['bias'].max():+.3f}, over the {len(g)} cells of the grid with at most one "
            "pair in five flagged."
        )
    out.append(f"Each cell of the grid has {table['pairs'].min():,} pairs or more.")
    return out


def figures(table: pd.DataFrame) -> dict:
    style = {"state taken out": ("#0072B2", "o"), "as it is": ("#D55E00", "x")}
    return {"": size_and_coverage(table, table["rho"] == 0, style)}
