"""Coverage of fit_many, the empirical-Bayes fit of one gene against many, with the truth fixed."""

from __future__ import annotations

import itertools

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from hiercorr.bayes import many
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.tables import pair_summary
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from validation.pages import span
from validation.scores import Tally

CLAIM = (
    "With the truth fixed (zeta 0 or 0.55, tau 0.15, z between samples 0.4), 95% intervals of fit_many cover the correlation within "
    "samples in 92-99% and that between samples in at least 92%; without the errors of the standard deviations the first would be lower."
)
MODELS = ["bayesian"]
SEED = 20261127
REPLICATES = 100
MEANS, ZETAS, EACH = (0.2, 1.0, 4.0), (0.0, 0.55), 2
TAU, Z_BETWEEN, SD_WITHIN, SD_BETWEEN, TARGET_MEAN = 0.15, 0.4, 0.7, 0.4, 1.5
KEYS = ["method", "level", "mean", "zeta"]


def grid(quick: bool) -> pd.DataFrame:
    rows = itertools.product([6] if quick else [4, 6, 9, 20], [200] if quick else [100, 400])
    return pd.DataFrame(rows, columns=["samples", "cells"])


def draw(row: dict, rng: np.random.Generator) -> tuple[ad.AnnData, list[tuple[float, float]]]:
    """A target and its partners, which are independent given the target."""
    partners = list(itertools.product(MEANS, ZETAS)) * EACH
    mean = np.log([TARGET_MEAN, *(m for m, _ in partners)]) - SD_WITHIN**2 / 2
    n, k = row["samples"], len(partners)
    cells = np.maximum(20, np.round(row["cells"] * np.exp(0.4 * rng.standard_normal(n)))).astype(
        int
    )
    sample = np.repeat(np.arange(n), cells)

    def star(z: np.ndarray, size: int) -> np.ndarray:
        e = rng.standard_normal((size, k + 1))
        e[:, 1:] = np.tanh(z) * e[:, :1] + e[:, 1:] / np.cosh(z)
        return e

    b = mean + SD_BETWEEN * star(np.full(k, Z_BETWEEN), n)
    z = np.array([zeta for _, zeta in partners]) + TAU * rng.standard_normal((n, k))
    s = np.exp(0.4 * rng.standard_normal(len(sample)))
    x = rng.poisson(s[:, None] * np.exp(b[sample] + SD_WITHIN * star(z[sample], len(sample))))
    obs = pd.DataFrame(
        {"sample": np.char.mod("s%02d", sample), "depth": s * 1e4},
        index=np.char.mod("cell%d", np.arange(len(s))),
    )
    var = pd.DataFrame(index=["target", *(f"gene{j}" for j in range(k))])
    return ad.AnnData(sparse.csr_matrix(x.astype(np.int32)), obs, var), partners


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    tally, priors = Tally(), read_priors()
    prior = {
        "within": many.log_prior(priors, 2, many.FINE),
        "between": many.log_prior(priors, 3, many.FINE),
    }
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata, partners = draw(row, rng)
        adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()
        if "target" not in adata.var_names:
            continue
        counts = read_counts(adata, Selection(sample="sample", depth="depth", min_cells=5))
        columns = many.Columns(counts, priors)
        x = columns.dense(int(counts.genes.get_loc("target")))
        own = columns.margin(x)
        design = np.ones((counts.n_samples, 1))
        for j, (mean, zeta) in enumerate(partners):
            if f"gene{j}" not in counts.genes:
                continue
            y = columns.dense(int(counts.genes.get_loc(f"gene{j}")))
            both = (own, columns.margin(y))
            for method, errors in (("fit_many", True), ("plug-in sd", False)):
                c = many.pair_curves(
                    columns.rows(x, y), both, counts.cells_per_sample, design, priors, True, errors
                )
                for level, curve, truth in (
                    ("within", c.zeta, zeta),
                    ("between", c.between, Z_BETWEEN),
                ):
                    if level == "between" and method != "fit_many":
                        continue
                    z = many.grid_draws((curve + prior[level])[None], 1000, rng)
                    found = pair_summary(z, 0.95, 0.1)
                    tally.add(
                        (method, level, mean, zeta),
                        np.tanh(truth),
                        estimate=found["correlation"],
                        interval=(found["ci_lower"], found["ci_upper"]),
                    )
    return tally.table(KEYS).assign(**row)


def _ours(table: pd.DataFrame, level: str) -> pd.DataFrame:
    return table[(table["method"] == "fit_many") & (table["level"] == level)]


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    for level, low, high in (("within", 0.92, 0.99), ("between", 0.92, 1.0)):
        part = _ours(table, level)
        for r in part.to_dict("records"):
            bound = low if r["coverage"] < low else high
            error = max(r["mc_error_coverage"], np.sqrt(bound * (1 - bound) / r["pairs"]))
            if max(low - r["coverage"], r["coverage"] - high) > 3 * error:
                where = ", ".join(f"{k} {r[k]:g}" for k in ("samples", "cells", "mean", "zeta"))
                out.append(f"coverage {r['coverage']:.3f} {level} samples at {where}")
    plug = table[table["method"] == "plug-in sd"]
    gain = _ours(table, "within")["coverage"].mean() - plug["coverage"].mean()
    if gain < -3 * np.sqrt(0.05 * 0.95 / plug["pairs"].sum()):
        out.append("the errors of the standard deviations do not matter: nothing is corrected")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for level in ("within", "between"):
        part = _ours(table, level)
        out.append(
            f"{level.capitalize()} samples: 95% intervals cover in {span(part['coverage'])} (mean {100 * part['coverage'].mean():.1f}%) over {len(part)} "
            f"cells of the grid; bias of the posterior mean {part['bias'].min():+.3f} to {part['bias'].max():+.3f}."
        )
        by = part.groupby("samples")["coverage"].mean()
        out.append(
            f"{level.capitalize()}, by samples: "
            + ", ".join(f"{s}: {100 * c:.1f}%" for s, c in by.items())
            + "."
        )
    plug = table[table["method"] == "plug-in sd"]
    out.append(
        f"Without the errors of the standard deviations the intervals within samples cover in {span(plug['coverage'])} (mean "
        f"{100 * plug['coverage'].mean():.1f}%)."
    )
    out.append(
        "The bias is that of a prior: estimates from little data are drawn towards 0 at both levels, and with a true z of 0.4 between "
        "samples an interval that is mostly its prior covers nearly always."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    designs = sorted(set(zip(table["samples"], table["cells"], strict=True)))
    fig, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    panels = [("within", 0.0), ("within", 0.55), ("between", None)]
    for ax, (level, zeta) in zip(axes, panels, strict=True):
        ax.axhspan(0.92, 0.99, color="#dddddd", zorder=0)
        ax.axhline(0.95, color="#888888", lw=0.8)
        for method, filled in (("fit_many", True), ("plug-in sd", False)):
            for k, (mean, colour, marker) in enumerate(
                zip(MEANS, ("#D55E00", "#009E73", "#0072B2"), "o^s", strict=True)
            ):
                part = table[
                    (table["method"] == method)
                    & (table["level"] == level)
                    & (table["mean"] == mean)
                ]
                part = part if zeta is None else part[part["zeta"] == zeta]
                if not len(part):
                    continue
                y = part.groupby(["samples", "cells"])["coverage"].mean().reindex(designs)
                x = np.arange(len(designs)) + (k - 1) * 0.18 + (0.06 if filled else 0)
                ax.plot(
                    x,
                    y,
                    marker,
                    color=colour,
                    mfc=colour if filled else "none",
                    ls="",
                    ms=6,
                    label=f"mean {mean:g}, {method}",
                )
        ax.set_xticks(range(len(designs)), [f"{s} x {n}" for s, n in designs], rotation=60)
        ax.set_title(
            f"{level} samples" + ("" if zeta is None else f", true zeta {zeta:g}"), fontsize=11
        )
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("coverage of 95% intervals")
    handles, labels = axes[1].get_legend_handles_labels()
    axes[2].legend(
        handles, labels, frameon=False, fontsize=8, bbox_to_anchor=(1.02, 1), loc="upper left"
    )
    fig.supxlabel("samples x cells")
    return {"": fig}
