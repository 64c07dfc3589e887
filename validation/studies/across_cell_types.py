"""Genes of one cell type with genes of another: size and power over donors, and cells as units."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats

import hiercorr as hc
from validation.pages import span

CLAIM = (
    "Across two cell types with unequal numbers of cells, every test over donors of the adjusted correlation rejects a true null "
    "at 5% in at most 7% of pairs with 6, 10 and 20 donors, also where a batch moves the genes of both types; power grows with "
    "donors; the noise-corrected estimate is nearer to the truth where cells are few; a test with cells as units rejects most nulls."
)
MODELS = ["across_cell_types"]
SEED = 20261202
REPLICATES = 40
PAIRS = 20
TYPES = ("T", "mac")
NAIVE = "cells as units"


def grid(quick: bool) -> pd.DataFrame:
    """Donors x (no relation, relation of 0.8, the same with few cells, a batch that moves all genes)."""
    donors = [10] if quick else [6, 10, 20]
    cases = [
        ("null", 0.0, 0.0, 60),
        ("related", 0.8, 0.0, 60),
        ("few cells", 0.8, 0.0, 12),
        ("batch", 0.0, 1.0, 60),
    ]
    return pd.DataFrame(
        [
            {"donors": d, "case": c, "rho": r, "effect": e, "cells": n}
            for d in donors
            for c, r, e, n in cases
        ]
    )


def simulate(
    donors: int, rho: float, effect: float, cells: int, rng: np.random.Generator
) -> ad.AnnData:
    """Two types per donor; gene a_k of the first and b_k of the second have correlated log means over donors."""
    batch = rng.permutation(np.arange(donors) % 2)
    first = rng.normal(size=(donors, PAIRS))
    second = rho * first + np.sqrt(1 - rho**2) * rng.normal(size=(donors, PAIRS))
    x, tables = [], []
    for kind, own in zip(TYPES, (first, second), strict=True):
        for d in range(donors):
            n = max(5, round(cells * np.exp(rng.normal(0, 0.8))))
            log_mean = rng.normal(size=2 * PAIRS)  # genes that are not asked for in this type
            log_mean[:PAIRS] = own[d] if kind == TYPES[0] else log_mean[:PAIRS]
            log_mean[PAIRS:] = own[d] if kind == TYPES[1] else log_mean[PAIRS:]
            mean = np.exp(0.5 * log_mean + effect * batch[d])
            size = np.exp(rng.normal(0, 0.4, n))
            x.append(rng.poisson(size[:, None] * mean * rng.gamma(2, 0.5, (n, 2 * PAIRS))))
            obs = {"donor": f"d{d}", "kind": kind, "batch": "ab"[batch[d]], "depth": 1e4 * size}
            tables.append(pd.DataFrame(obs))
    names = [f"{side}{k}" for side in "ab" for k in range(PAIRS)]
    obs = pd.concat(tables, ignore_index=True).rename(index=str)
    return ad.AnnData(np.vstack(x), obs=obs, var=pd.DataFrame(index=names))


def cells_as_units(data: ad.AnnData) -> np.ndarray:
    """p-value of each gene of the cells of the first type with its partner's mean in their donor."""
    cells = data.obs["kind"] == TYPES[0]
    depth = data.obs["depth"].to_numpy()
    log = np.log1p(1e4 * np.asarray(data.X) / depth[:, None])
    table = (
        pd.DataFrame(log[~cells.to_numpy()]).groupby(data.obs["donor"][~cells].to_numpy()).mean()
    )
    partner = table.loc[data.obs["donor"][cells]].to_numpy()
    own = log[cells.to_numpy()]
    return np.array([stats.pearsonr(own[:, k], partner[:, PAIRS + k])[1] for k in range(PAIRS)])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Rejections and estimates of the pairs (a_k, b_k) by each method."""
    rejected: dict[str, list] = {}
    estimate: dict[str, list] = {}
    covered: dict[str, list] = {}
    pairs = [(f"a{k}", f"b{k}") for k in range(PAIRS)]
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        data = simulate(row["donors"], row["rho"], row["effect"], row["cells"], rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Depths are known here; TMM would take a batch that moves all genes for a difference of depth.
            options = {
                "pairs": pairs,
                "depth": "depth",
                "normalization": "cpm",
                "min_cells": 5,
                "min_counts": 0,
            }
            plain = hc.AcrossCellTypes(data, "donor", "kind", TYPES, **options)
            model = hc.AcrossCellTypes(data, "donor", "kind", TYPES, "~ batch", **options)
            fits = {
                "pearson, unadjusted": plain.fit(),
                "pearson": model.fit(),
                "permutation": model.fit(permutations=199, seed=rng),
                "moderated": model.fit("ols"),
                "corrected": model.fit("corrected"),
            }
        for name, fit in fits.items():
            found = fit.to_frame().loc[pairs]
            rejected.setdefault(name, []).append(np.mean(found["p_value"] < 0.05))
            every = found.get("correlation_unclipped", found["correlation"])
            estimate.setdefault(name, []).append(every.median())
            inside = (found["ci_lower"] <= row["rho"]) & (row["rho"] <= found["ci_upper"])
            covered.setdefault(name, []).append(inside[every.notna()].mean())
        rejected.setdefault(NAIVE, []).append(np.mean(cells_as_units(data) < 0.05))
    rows = []
    for name, panels in rejected.items():
        rows.append(
            {
                "method": name,
                "panels": replicates,
                "rejected": np.mean(panels),
                "mc_error": np.std(panels, ddof=1) / np.sqrt(replicates),
                "estimate": np.mean(estimate.get(name, [np.nan])),
                "covered": np.mean(covered.get(name, [np.nan])),
                **row,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    for r in table[table["rho"] == 0].to_dict("records"):
        valid = r["method"] != NAIVE and ("unadjusted" not in r["method"] or r["effect"] == 0)
        if valid and r["rejected"] > 0.07 + 3 * r["mc_error"]:
            out.append(
                f"{r['method']} rejects {r['rejected']:.3f} at {r['donors']} donors ({r['case']})"
            )
    naive = table[(table["method"] == NAIVE) & (table["rho"] == 0)]["rejected"]
    if not (naive > 0.5).all():
        out.append("cells as units reject few nulls: nothing is shown")
    power = table[(table["case"] == "related") & (table["method"] == "pearson")]
    if not power.sort_values("donors")["rejected"].is_monotonic_increasing:
        out.append("power does not grow with donors")
    few = table[table["case"] == "few cells"].set_index(["donors", "method"])["estimate"]
    for donors in table["donors"].unique():
        error = {m: abs(few[donors, m] - 0.8) for m in ("pearson", "corrected")}
        if error["corrected"] > error["pearson"]:
            out.append(f"the corrected estimate is no nearer to 0.8 with {donors} donors")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    names = {
        "null": "no relation",
        "batch": "a batch moves all genes of both types",
        "related": "true correlation 0.8, 60 cells per donor and type",
        "few cells": "true correlation 0.8, 12 cells per donor and type",
    }
    numbers = "-".join(str(d) for d in sorted({*table["donors"]}))
    at = table.groupby(["case", "method"], sort=False)
    out = []
    for case, label in names.items():
        parts = ", ".join(f"{m} {span(g['rejected'], 0)}" for (c, m), g in at if c == case)
        out.append(f"{label}, rejected with {numbers} donors: {parts}.")
    few = table[table["case"] == "few cells"].set_index("method")["estimate"]
    sizes = ", ".join(
        f"{m} {few[m].min():.2f} to {few[m].max():.2f}" for m in ("pearson", "corrected")
    )
    known = table[table["method"] == "corrected"]["covered"]
    out += [
        f"Median estimate of 0.8 with 12 cells on average: {sizes}; "
        f"95% intervals of the corrected estimate cover the truth in {span(known, 0)} over all cases.",
        "Cells as units: each cell of the first type with the mean of the partner gene in the second type of its donor, n = cells.",
        "Where we are worse: with 6 donors and one covariate, a correlation of 0.8 is found in a minority of pairs; moderated variances "
        "cost power here, as a true partner has a smaller residual variance than the other genes, so that they are no default.",
    ]
    return out


def figures(table: pd.DataFrame) -> dict:
    """Rejections by method, a panel each case."""
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(table["method"]))
    colours = ["#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000"]
    markers = ["x", "o", "s", "^", "D", "v"]
    titles = {
        "null": "no relation (false positives)",
        "batch": "batch moves both types (false positives)",
        "related": "true correlation 0.8 (power)",
        "few cells": "the same, 12 cells (power)",
    }
    donors = sorted(table["donors"].unique())
    fig, axes = plt.subplots(1, 4, figsize=(15, 3.9), layout="constrained", sharey=True)
    for ax, (case, title) in zip(axes, titles.items(), strict=True):
        if case in ("null", "batch"):
            ax.axhspan(0, 0.07, color="#e8e8e8", zorder=0)
        for k, (method, colour, marker) in enumerate(zip(methods, colours, markers, strict=True)):
            part = table[(table["case"] == case) & (table["method"] == method)]
            part = part.set_index("donors").reindex(donors)
            x = np.arange(len(donors)) + (k - 2.5) * 0.08
            error = 2 * part["mc_error"]
            ax.errorbar(
                x, part["rejected"], error, fmt=marker, color=colour, label=method, capsize=2, ms=6
            )
        ax.set_xticks(range(len(donors)), donors)
        ax.set_title(title, fontsize=11)
        ax.set_ylim(0, 1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("pairs rejected at 5%")
    fig.supxlabel("donors")
    axes[-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return {"": fig}
