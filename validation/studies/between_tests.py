"""Size and power of the tests between samples, and a batch that drives both genes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation.pages import span

CLAIM = (
    "Between samples, every test of the adjusted correlation rejects a true null at 5% in at most 7% of pairs with 5, 10 and "
    "20 samples, also where a batch drives both genes; unadjusted tests then reject far more, and power grows with samples."
)
MODELS = ["pseudobulk", "pseudobulk_adjusted"]
SEED = 20261201
REPLICATES = 120
GENES = 40
CELLS = 150


def grid(quick: bool) -> pd.DataFrame:
    """Samples x (no relation, relation of 0.8, no relation but a batch that moves all genes)."""
    samples = [10] if quick else [5, 10, 20]
    cases = [("null", 0.0, 0.0), ("related", 0.8, 0.0), ("batch", 0.0, 1.0)]
    return pd.DataFrame(
        [{"samples": s, "case": c, "rho": r, "effect": e} for s in samples for c, r, e in cases]
    )


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Rejections of the pairs (0, 1), (2, 3), ... by each method; regressions take gene 0 as the target of gene 1."""
    s = row["samples"]
    first = np.arange(0, GENES, 2)
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        batch = rng.permutation(np.where(np.arange(s) < (s + 1) // 2, "a", "b"))
        adata, _ = simulate_counts(
            s,
            CELLS,
            GENES,
            mean=2.0,
            within=0.3,
            between=row["rho"],
            cell_imbalance=0.3,
            covariates={"batch": (batch, row["effect"])},
            seed=rng,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Depths are known here; TMM would take a batch that moves all genes for a difference of depth.
            sums = hc.aggregate(adata, "sample", depth="depth")
            options = {"normalization": "cpm"}
            plain = hc.Pseudobulk(sums, "sample", **options)
            model = hc.Pseudobulk(sums, "sample", formula="~ batch", **options)
            fits = {
                "pearson, unadjusted": plain.fit(),
                "spearman, unadjusted": plain.fit("spearman"),
                "pearson": model.fit(),
                "permutation": model.fit(permutations=199, seed=rng),
            }
            for name, fit in fits.items():
                found.setdefault(name, []).append(
                    np.mean(fit.dataset["p_value"].values[first, first + 1] < 0.05)
                )
            targets = first[:4]
            for method in ("hc3", "voom"):
                p = [
                    model.fit(method, target=f"gene{j}", moderated=False)
                    .dataset["p_value"]
                    .values[0, j + 1]
                    for j in targets
                ]
                found.setdefault(method, []).append(np.mean(np.array(p) < 0.05))
            p = []
            for j in targets:  # one gene at a time is slow: only the pair
                pair = hc.Pseudobulk(
                    sums, "sample", formula="~ batch", genes=[f"gene{j}", f"gene{j + 1}"], **options
                )
                p.append(
                    pair.fit("negative_binomial", target=f"gene{j}").dataset["p_value"].values[0, 1]
                )
            found.setdefault("negative_binomial", []).append(np.mean(np.array(p) < 0.05))
    rows = []
    for name, panels in found.items():
        # Genes of a panel share its samples, so the panel is the unit of the Monte-Carlo error.
        error = np.std(panels, ddof=1) / np.sqrt(replicates)
        rows.append(
            {
                "method": name,
                "panels": replicates,
                "rejected": np.mean(panels),
                "mc_error": error,
                **row,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    null = table[(table["rho"] == 0)]
    for r in null.to_dict("records"):
        adjusted = "unadjusted" not in r["method"]
        if (adjusted or r["effect"] == 0) and r["rejected"] > 0.07 + 3 * r["mc_error"]:
            out.append(
                f"{r['method']} rejects {r['rejected']:.3f} at S={r['samples']} ({r['case']})"
            )
    largest = table["samples"].max()
    raw = table[(table["case"] == "batch") & (table["method"] == "pearson, unadjusted")]
    if not (raw.loc[raw["samples"] == largest, "rejected"] > 0.3).all():
        out.append("the batch does not mislead the unadjusted test: nothing is shown")
    power = table[(table["case"] == "related") & (table["method"] == "pearson")].sort_values(
        "samples"
    )["rejected"]
    if not power.is_monotonic_increasing:
        out.append("power does not grow with samples")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    at = table.groupby(["case", "method"], sort=False)["rejected"]
    names = {
        "null": "no relation",
        "batch": "a batch moves all genes",
        "related": "true correlation 0.8",
    }
    out = []
    for case, label in names.items():
        parts = ", ".join(f"{m} {span(g, 0)}" for (c, m), g in at if c == case)
        out.append(
            f"{label}, rejected with {'-'.join(str(s) for s in sorted({*table['samples']}))} samples: {parts}."
        )
    out.append(
        "Where we are worse: the unadjusted test has more power where there is no batch, as it spends no degree of freedom."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    """Rejections by method, a panel each case."""
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(table["method"]))
    colours = ["#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000"]
    markers = ["x", "+", "o", "s", "^", "D", "v"]
    titles = {
        "null": "no relation (false positives)",
        "batch": "batch drives both genes (false positives)",
        "related": "true correlation 0.8 (power)",
    }
    samples = sorted(table["samples"].unique())
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
    for ax, (case, title) in zip(axes, titles.items(), strict=True):
        if case != "related":
            ax.axhspan(0, 0.07, color="#e8e8e8", zorder=0)
        for k, (method, colour, marker) in enumerate(zip(methods, colours, markers, strict=False)):
            part = (
                table[(table["case"] == case) & (table["method"] == method)]
                .set_index("samples")
                .reindex(samples)
            )
            x = np.arange(len(samples)) + (k - 3) * 0.08
            ax.errorbar(
                x,
                part["rejected"],
                2 * part["mc_error"],
                fmt=marker,
                color=colour,
                label=method,
                capsize=2,
                ms=6,
            )
        ax.set_xticks(range(len(samples)), samples)
        ax.set_title(title, fontsize=11)
        ax.set_ylim(0, 1 if case == "related" else None)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("pairs rejected at 5%")
    fig.supxlabel("samples")
    axes[-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return {"": fig}
