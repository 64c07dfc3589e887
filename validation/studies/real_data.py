"""Real data: what is found where there is nothing, and what comes back in other patients."""

from __future__ import annotations

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from validation.scores import auroc

CLAIM = (
    "On glioblastoma with the target's relation destroyed, tests that take cells as units call far more than 5% of genes at "
    "p < 0.05, within-sample CS-CORE and pseudobulk do not (log-Pearson does even with samples as units: it follows depth); "
    "CS-CORE within samples comes back in other patients better than pooled log-Pearson, and finds the ribosome."
)
SEED = 20261205
METHODS = ("within, jackknife", "published test", "log-Pearson, pooled", "log-Pearson, within", "pseudobulk")


def grid(quick: bool) -> pd.DataFrame:
    """Nulls (the target's counts drawn anew) and reproducibility over halves of the patients."""
    parts = ["null: cells within samples", "null: samples", "split halves"]
    return pd.DataFrame([{"part": p, "targets": 2 if quick else 20} for p in parts])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    adata = hc.datasets.glioblastoma()
    adata = adata[adata.obs["condition"] == "ctrl"].copy()
    adata.obs["sample_id"] = adata.obs["sample_id"].astype(str)
    if row["part"] == "split halves":
        return _halves(adata, row)
    return _null(adata, row, max(2, replicates // 4), np.random.default_rng(seed))


def _fits(adata: ad.AnnData, target: str | None, between: bool = True) -> dict[str, tuple[hc.CorrelationResult, str]]:
    options = {"sample": "sample_id", "depth": "total_counts"}
    adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, cells = hc.CSCore(adata, **options), hc.CellCorrelation(adata, **options)
        fits = {
            "within, jackknife": (model.fit(target=target), "p_value"),
            "published test": (model.fit("pooled", "none", target=target), "cell_p_value"),
            "log-Pearson, pooled": (cells.fit(level="pooled", uncertainty="none", target=target), "cell_p_value"),
            "log-Pearson, within": (cells.fit(target=target), "p_value"),
        }
        if between:
            pb = hc.Pseudobulk(adata, **options, normalization="cpm")
            fits["pseudobulk"] = (pb.fit(target=target), "p_value")
        return fits


def _null(adata: ad.AnnData, row: dict, replicates: int, rng: np.random.Generator) -> pd.DataFrame:
    """Give each cell the expression of a random cell of its own sample, or of a sample drawn by permutation."""
    depth = adata.obs["total_counts"].to_numpy(float)
    sample = adata.obs["sample_id"].to_numpy()
    names = np.unique(sample)
    mean = np.asarray(adata.X.mean(0)).ravel()
    targets = adata.var_names[np.argsort(-mean)[: row["targets"]]]
    called: dict[str, list] = {m: [] for m in METHODS}
    for _, target in itertools.product(range(replicates), targets):
        x = np.asarray(adata[:, target].X.todense()).ravel()
        source = dict(zip(names, rng.permutation(names) if row["part"] == "null: samples" else names, strict=True))
        drawn = np.empty(len(x))
        for name in names:
            cells, donors = np.flatnonzero(sample == name), np.flatnonzero(sample == source[name])
            pick = rng.choice(donors, len(cells))
            drawn[cells] = rng.poisson(depth[cells] * x[pick] / depth[pick])
        table = adata.X.tolil(copy=True)
        table[:, adata.var_names.get_loc(target)] = drawn[:, None]
        null = ad.AnnData(sparse.csr_matrix(table), obs=adata.obs, var=adata.var)
        for method, (fit, variable) in _fits(null, target).items():
            p = fit.matrix(variable).loc[target].drop(target, errors="ignore")
            called[method].append(np.nanmean(p < 0.05))
    return pd.DataFrame(
        [
            {
                "method": m, "value": np.mean(v), "mc_error": np.std(v, ddof=1) / np.sqrt(len(v)), "runs": len(v),
                "measure": "called at p < 0.05", **row,
            }
            for m, v in called.items()
        ]
    )  # fmt: skip


def _halves(adata: ad.AnnData, row: dict) -> pd.DataFrame:
    """Agreement of 2 with the other 3 patients, for all ten splits: Spearman of the estimates, and the ribosome's AUROC."""
    samples = np.unique(adata.obs["sample_id"])
    scores: dict[tuple[str, str], list] = {}
    for pair in itertools.combinations(samples, 2):
        half = adata.obs["sample_id"].isin(pair).to_numpy()
        fits = [_fits(adata[part].copy(), None, between=False) for part in (half, ~half)]  # 2 samples: no correlation
        for method in fits[0]:
            first, second = (f[method][0].matrix() for f in fits)
            shared = first.index.intersection(second.index)
            a, b = (t.loc[shared, shared].to_numpy()[np.triu_indices(len(shared), 1)] for t in (first, second))
            known = np.isfinite(a) & np.isfinite(b)
            scores.setdefault((method, "Spearman over halves"), []).append(
                stats.spearmanr(a[known], b[known]).statistic
            )
            scores.setdefault((method, "ribosome AUROC"), []).append(_ribosome(second))
    return pd.DataFrame(
        [
            {
                "method": m,
                "measure": measure,
                "value": np.mean(v),
                "mc_error": np.std(v, ddof=1) / np.sqrt(len(v)),
                "runs": len(v),
                **row,
            }
            for (m, measure), v in scores.items()
        ]
    )  # fmt: skip


def _ribosome(table: pd.DataFrame) -> float:
    """Mean over ribosomal proteins of the AUROC of their correlation for the other ribosomal proteins."""
    member = np.asarray(table.index.str.match(r"RP[LS]\d"), bool)
    out = []
    for k in np.flatnonzero(member):
        others = np.arange(len(table)) != k
        score = np.nan_to_num(table.iloc[k].to_numpy(float)[others], nan=-2.0)
        out.append(auroc(score, member[others]))
    return float(np.mean(out))


def verdict(table: pd.DataFrame) -> list[str]:
    """Findings that refute the claim."""
    at = table.sort_values(["part", "measure", "method"]).set_index(["part", "measure", "method"])
    out = []
    for part in ("null: cells within samples", "null: samples"):
        for method in METHODS:
            r = at.loc[(part, "called at p < 0.05", method)]
            over_samples = method in ("within, jackknife", "pseudobulk")
            if part == "null: cells within samples" and method == "pseudobulk":
                continue  # the relation between samples is still there
            if over_samples and r["value"] > 0.1 + 3 * r["mc_error"]:
                out.append(f"{method} calls {r['value']:.2f} under {part}")
    if at.loc[("null: samples", "called at p < 0.05", "log-Pearson, pooled"), "value"] < 0.2:
        out.append("pooled log-Pearson is harmless under permuted samples")
    halves = at.loc[("split halves", "Spearman over halves")]
    if halves.loc["within, jackknife", "value"] < halves.loc["log-Pearson, pooled", "value"] - 0.02:
        out.append("pooled log-Pearson comes back better in other patients")
    if at.loc[("split halves", "ribosome AUROC", "within, jackknife"), "value"] < 0.8:
        out.append("within-sample CS-CORE misses the ribosome")
    return out


def figure(table: pd.DataFrame):
    """Calls under both nulls, agreement over halves, the ribosome."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    panels = [
        ("null: cells within samples", "called at p < 0.05", "nothing within samples"),
        ("null: samples", "called at p < 0.05", "nothing at either level"),
        ("split halves", "Spearman over halves", "agreement, 2 v 3 patients"),
        ("split halves", "ribosome AUROC", "ribosome, AUROC"),
    ]
    colours = dict(zip(METHODS, ["#0072B2", "#D55E00", "#CC79A7", "#56B4E9", "#009E73"], strict=True))
    for ax, (part, measure, title) in zip(axes, panels, strict=True):
        rows = (
            table[(table["part"] == part) & (table["measure"] == measure)]
            .set_index("method")
            .reindex(METHODS)
            .dropna(subset=["value"])
        )
        y = np.arange(len(rows))[::-1]
        ax.barh(y, rows["value"], xerr=2 * rows["mc_error"], color=[colours[m] for m in rows.index], height=0.6)
        ax.set_yticks(y, rows.index if ax in (axes[0], axes[2]) else [""] * len(rows))
        if measure.startswith("called"):
            ax.axvline(0.05, color="#444444", lw=0.8, ls="--")
        if part == "null: cells within samples":
            title += "\n(between is left: pseudobulk may find it)"
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    return fig
