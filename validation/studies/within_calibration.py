"""Type-I error, coverage and bias of the within-sample correlation, and which bias correction wins."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import special

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation import plain

CLAIM = (
    "Where no gene is flagged low_information, the jackknife rejects a true null at 5% in 3.5-6% of pairs and its 95% "
    "interval covers in 93.5-97.5%; tests that take cells as units do not."
)
SEED = 20261123
GENES = 80


def grid(quick: bool) -> pd.DataFrame:
    """Cells of the grid: samples, cells per sample, mean count, true correlation, correlation between samples."""
    designs = [(3, 600), (8, 300), (20, 200)]
    if not quick:
        designs = [(3, 300), (3, 2000), (5, 300), (8, 300), (20, 50), (20, 200)]
    means = [1.0] if quick else [0.1, 0.5, 1.0, 3.0]
    rows = [
        {"samples": s, "cells": n, "mean": m, "rho": rho, "between": b, "heterogeneity": t}
        for s, n in designs
        for m in means
        for rho, b, t in (
            [(0.4, 0.8, 0.0)] if quick else [(0.4, 0.0, 0.0), (0.4, 0.8, 0.0), (0.7, 0.8, 0.0), (0.4, 0.8, 0.2)]
        )
    ]
    return pd.DataFrame(rows)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Simulate panels in which genes (0, 1), (2, 3), ... correlate, and score every method on pairs of both kinds."""
    scores = []
    between = np.full((GENES, GENES), row["between"]) + (1 - row["between"]) * np.eye(GENES)
    first = np.arange(0, GENES, 2)
    true_pairs, null_pairs = (first, first + 1), (first, (first + 3) % GENES)
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata, truth = simulate_counts(
            row["samples"], row["cells"], GENES, mean=row["mean"], within=row["rho"], between=between,
            heterogeneity=row["heterogeneity"], cell_imbalance=0.3, seed=rng,
        )  # fmt: skip
        rho = truth["within"].values[true_pairs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.CSCore(adata, sample="sample", depth="depth", min_cells=5)
            fits = {u: model.fit(uncertainty=u, seed=rng).dataset for u in ("jackknife", "cluster", "bootstrap")}
            cell = model.fit(estimator="pooled", uncertainty="none").dataset
        # Genes without a count in this draw are not in the result: NaN for their pairs.
        full = [d.reindex(gene=truth["gene"].values, partner=truth["partner"].values) for d in (*fits.values(), cell)]
        for name, ds in zip((*fits, "published test"), full, strict=True):
            if name == "published test":
                scores.append(
                    _score(
                        name, None, None, None, rho, ds["cell_p_value"].values[null_pairs], None, full[0], null_pairs
                    )
                )
            else:
                scores.append(
                    _score(
                        name, ds["correlation"].values[true_pairs], ds["ci_lower"].values[true_pairs],
                        ds["ci_upper"].values[true_pairs], rho, ds["p_value"].values[null_pairs],
                        ds["flag"].values[true_pairs], full[0], null_pairs,
                    )
                )  # fmt: skip
        scores.append(
            _score(
                "log-Pearson, cells", None, None, None, rho, _log_pearson(adata)[null_pairs], None, full[0], null_pairs
            )
        )
        scores += _bias_variants(adata, rho, true_pairs)
    table = pd.concat(scores, ignore_index=True)
    out = table.groupby("method", sort=False).agg(
        pairs=("pairs", "sum"), rejected=("rejected", "sum"), tested=("tested", "sum"), covered=("covered", "sum"),
        intervals=("intervals", "sum"), bias=("bias", "mean"), median_bias=("median_bias", "mean"),
        undefined=("undefined", "mean"), low_information=("low_information", "mean"), width=("width", "mean"),
    )  # fmt: skip
    out["type_1"] = out["rejected"] / out["tested"]
    out["coverage"] = out["covered"] / out["intervals"]
    out["mc_error_type_1"] = np.sqrt(out["type_1"] * (1 - out["type_1"]) / out["tested"])
    out["mc_error_coverage"] = np.sqrt(out["coverage"] * (1 - out["coverage"]) / out["intervals"])
    return out.drop(columns=["rejected", "covered"]).reset_index().assign(**row)


def _score(method, estimate, lower, upper, rho, p_null, flag, reference, null_pairs) -> pd.DataFrame:
    known = np.isfinite(p_null)
    row = {
        "method": method,
        "pairs": len(rho),
        "rejected": int((p_null[known] < 0.05).sum()),
        "tested": int(known.sum()),
    }
    if estimate is not None:
        has = np.isfinite(lower)
        row |= {
            "covered": int(((lower <= rho) & (rho <= upper))[has].sum()),
            "intervals": int(has.sum()),
            "bias": float(np.nanmean(estimate - rho)) if np.isfinite(estimate).any() else np.nan,
            "median_bias": float(np.nanmedian(estimate - rho)) if np.isfinite(estimate).any() else np.nan,
            "undefined": float(1 - has.mean()),
            "width": float(np.nanmean(upper - lower)) if has.any() else np.nan,
            "low_information": float(
                np.mean((np.nan_to_num(flag, nan=16).astype(int) & int(hc.Flag.LOW_INFORMATION)) > 0)
            ),
        }
    return pd.DataFrame([row])


def _log_pearson(adata) -> np.ndarray:
    x = np.log1p(adata.X.toarray() / adata.obs["depth"].to_numpy()[:, None] * 1e4)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(x.T)
        t = r * np.sqrt((len(x) - 2) / (1 - r**2))
    return 2 * special.stdtr(len(x) - 2, -np.abs(t))


def _bias_variants(adata, rho, pairs) -> list[pd.DataFrame]:
    """Point estimates: ratio of sums as it is, with variance-debiased denominators, jackknife bias-corrected."""
    code = adata.obs["sample"].cat.codes.to_numpy()
    x, s = adata.X.toarray(), adata.obs["depth"].to_numpy()
    sums = plain.within([(x[code == c], s[code == c]) for c in np.unique(code)])
    debiased = (sums["num"], sums["den"], sums["own"], sums["own_den"])
    out = []
    with np.errstate(all="ignore"):
        raw = plain.correlation(sums["num"], sums["raw"], sums["own"], sums["own_raw"])[pairs]
        ours = plain.correlation(*debiased)[pairs]
        n = len(sums["num"])
        left = plain.leave_one_out(*debiased)[:, pairs[0], pairs[1]]
        inside = lambda r: np.where(np.abs(r) < 1, r, np.nan)  # noqa: E731
        corrected = np.tanh(n * np.arctanh(inside(ours)) - (n - 1) * np.arctanh(inside(left)).mean(0))
    for name, r in (
        ("estimate: raw ratio", raw),
        ("estimate: debiased", ours),
        ("estimate: jackknife-corrected", corrected),
    ):
        r = inside(r)
        known = np.isfinite(r)
        row = {"method": name, "pairs": len(rho), "undefined": 1 - known.mean()}
        if known.any():
            row |= {"bias": np.mean((r - rho)[known]), "median_bias": np.median((r - rho)[known])}
        out.append(pd.DataFrame([row]))
    return out


def figure(table: pd.DataFrame):
    """Type-I error and coverage by method, a panel each, one column of points a design."""
    import matplotlib.pyplot as plt

    methods = ["jackknife", "cluster", "bootstrap", "published test", "log-Pearson, cells"]
    colours = ["#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7"]
    markers = ["o", "s", "^", "x", "+"]
    usual = table[(table["rho"] == 0.4) & (table["between"] == 0.8) & (table["heterogeneity"] == 0)]
    designs = list(dict.fromkeys(zip(usual["samples"], usual["cells"], strict=True)))
    means = sorted(usual["mean"].unique())
    fig, axes = plt.subplots(
        2, len(means), figsize=(2.2 + 3.2 * len(means), 6.4), squeeze=False, sharex=True, sharey="row"
    )
    for column, mean in enumerate(means):
        part = usual[usual["mean"] == mean]
        for row, value in enumerate(("type_1", "coverage")):
            ax = axes[row][column]
            ax.axhspan(*((0.035, 0.06) if row == 0 else (0.935, 0.975)), color="#dddddd", zorder=0)
            for k, (method, colour, marker) in enumerate(zip(methods, colours, markers, strict=True)):
                points = part[part["method"] == method].set_index(["samples", "cells"]).reindex(designs)
                x = np.arange(len(designs)) + (k - 2) * 0.12
                ax.plot(x, points[value], marker, color=colour, label=method, ms=6, mew=1.6, ls="")
            low = (
                part[part["method"] == "jackknife"].set_index(["samples", "cells"]).reindex(designs)["low_information"]
            )
            for x in np.flatnonzero(low.to_numpy() > 0.5):
                ax.axvspan(x - 0.45, x + 0.45, color="#f3e5c8", zorder=-1)
            ax.set_xticks(range(len(designs)), [f"{s} x {n}" for s, n in designs], rotation=60)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0][column].set_title(f"mean count {mean:g}")
        axes[0][column].set_yscale("log")
        axes[0][column].set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["2%", "5%", "10%", "20%", "50%", "100%"])
        axes[0][column].minorticks_off()
        axes[1][column].set_ylim(0.8, 1.0)
    axes[0][0].set_ylabel("true nulls rejected at 5%")
    axes[1][0].set_ylabel("coverage of 95% interval")
    fig.supxlabel("samples x cells per sample (shaded: most pairs flagged low_information)")
    axes[0][-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    fig.tight_layout()
    return fig


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    ours = table[(table["method"] == "jackknife") & (table["low_information"] < 0.5)]
    out = []
    for r in ours.to_dict("records"):
        where = f"S={r['samples']} n={r['cells']} mean={r['mean']} rho={r['rho']} between={r['between']} tau={r['heterogeneity']}"
        if not 0.035 - 3 * r["mc_error_type_1"] <= r["type_1"] <= 0.06 + 3 * r["mc_error_type_1"]:
            out.append(f"type-I error {r['type_1']:.3f} at {where}")
        if not 0.935 - 3 * r["mc_error_coverage"] <= r["coverage"] <= 0.975 + 3 * r["mc_error_coverage"]:
            out.append(f"coverage {r['coverage']:.3f} at {where}")
    return out
