"""Which correction of the ratio's bias to take: none, debiased denominators, or the jackknife's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiercorr.simulate import simulate_counts
from validation import plain
from validation.pages import span

CLAIM = (
    "Debiased denominators bring the estimate nearer the truth than the plain ratio, and the jackknife correction is undefined "
    "for more pairs than either."
)
MODELS = ["within"]
SEED = 20261125
REPLICATES = 60
GENES = 80
RHO = 0.4


def grid(quick: bool) -> pd.DataFrame:
    designs = [(20, 50)] if quick else [(3, 300), (8, 300), (20, 50), (20, 200)]
    rows = [(s, n, m) for s, n in designs for m in ([0.5] if quick else [0.1, 0.5, 1.0, 3.0])]
    return pd.DataFrame(rows, columns=["samples", "cells", "mean"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Estimates of the pairs (0, 1), (2, 3), ..., from the plain-numpy statement of the sums."""
    first = np.arange(0, GENES, 2)
    pairs = (first, first + 1)
    found: dict[str, list] = {
        "plain ratio": [],
        "debiased denominators": [],
        "jackknife correction": [],
    }
    for child in seed.spawn(replicates):
        adata, _ = simulate_counts(
            row["samples"],
            row["cells"],
            GENES,
            mean=row["mean"],
            within=RHO,
            between=0.8 + 0.2 * np.eye(GENES),
            cell_imbalance=0.3,
            seed=np.random.default_rng(child),
        )
        code = adata.obs["sample"].cat.codes.to_numpy()
        x, s = adata.X.toarray(), adata.obs["depth"].to_numpy()
        sums = plain.within([(x[code == c], s[code == c]) for c in np.unique(code)])
        debiased = (sums["num"], sums["den"], sums["own"], sums["own_den"])
        with np.errstate(all="ignore"):
            raw = plain.correlation(sums["num"], sums["raw"], sums["own"], sums["own_raw"])[pairs]
            ours = plain.correlation(*debiased)[pairs]
            n = len(sums["num"])
            left = plain.leave_one_out(*debiased)[:, pairs[0], pairs[1]]
            inside = lambda r: np.where(np.abs(r) < 1, r, np.nan)  # noqa: E731
            corrected = np.tanh(
                n * np.arctanh(inside(ours)) - (n - 1) * np.arctanh(inside(left)).mean(0)
            )
        for name, r in zip(found, (raw, ours, corrected), strict=True):
            found[name].append(r - RHO)
    rows = []
    for name, off in found.items():
        values = np.array(off)
        known = np.isfinite(values)
        share = {
            "pairs": values.size,
            "undefined": 1 - known.mean(),
            "median_bias": np.nanmedian(values),
        }
        panel = np.array(
            [np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in values]
        )
        error = np.nanstd(panel, ddof=1) / np.sqrt(np.isfinite(panel).sum())
        rows.append({"method": name, **share, "mc_error_median_bias": error, **row})
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    at = table.set_index(["samples", "cells", "mean", "method"]).sort_index()
    out = []
    for where in at.index.droplevel("method").unique():
        raw, ours, jack = (
            at.loc[(*where, m)]
            for m in ("plain ratio", "debiased denominators", "jackknife correction")
        )
        if (
            abs(ours["median_bias"])
            > abs(raw["median_bias"]) + 3 * ours["mc_error_median_bias"] + 0.005
        ):
            out.append(f"the plain ratio is nearer the truth at {where}")
        if jack["undefined"] < min(ours["undefined"], raw["undefined"]) - 1e-9:
            out.append(f"the jackknife correction is undefined for fewer pairs at {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for method, g in table.groupby("method", sort=False):
        sparse = g[g["mean"] <= 0.5]
        out.append(
            f"{method}, mean counts 0.1 and 0.5: median bias {sparse['median_bias'].min():+.3f} to "
            f"{sparse['median_bias'].max():+.3f}, undefined {span(sparse['undefined'], 0)}."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    """Median bias and the share of undefined pairs."""
    import matplotlib.pyplot as plt

    designs = list(dict.fromkeys(zip(table["samples"], table["cells"], strict=True)))
    fig, axes = plt.subplots(
        2,
        len(designs),
        figsize=(3 * len(designs) + 2, 5),
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    style = {
        "plain ratio": ("#D55E00", "x"),
        "debiased denominators": ("#0072B2", "o"),
        "jackknife correction": ("#CC79A7", "+"),
    }
    for column, (s, n) in enumerate(designs):
        for method, (colour, marker) in style.items():
            part = table[
                (table["samples"] == s) & (table["cells"] == n) & (table["method"] == method)
            ].sort_values("mean")
            for ax, value in zip(axes[:, column], ("median_bias", "undefined"), strict=True):
                ax.plot(part["mean"], part[value], marker=marker, color=colour, label=method)
                ax.set_xscale("log")
                ax.spines[["top", "right"]].set_visible(False)
        axes[0, column].axhline(0, color="#888888", lw=0.8)
        axes[0, column].set_ylim(-0.25, 0.25)
        axes[0, column].set_title(f"{s} samples x {n} cells", fontsize=11)
    axes[0, 0].set_ylabel("median bias")
    axes[1, 0].set_ylabel("undefined")
    axes[0, -1].legend(frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    fig.supxlabel("mean count (true correlation 0.4)", fontsize=11)
    return {"": fig}
