"""Differences of the correlation within samples between two groups: the Bayesian model beside `differential`."""

from __future__ import annotations

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.inference.credible import highest_density
from hiercorr.simulate import natural_correlation

CLAIM = (
    "Where two groups of donors have the same correlation within samples, the 95% interval of the Bayesian difference of z excludes 0 in no "
    "more than 5% of the data sets, beyond chance, with 6 and with 10 donors; where z differs by 0.6, it does so as often as the t "
    "test of `differential` rejects, beyond chance, which rejects more of the true nulls."
)
MODELS = ["bayesian", "differential"]
SEED = 20261202
REPLICATES = 100
QUICK_REPLICATES = 2
MEAN, SD_WITHIN, SD_BETWEEN, Z, TAU = 2.0, 0.7, 0.35, 0.3, 0.2
SETTINGS = Settings(draws=200, tune=200, chains=2)


def grid(quick: bool) -> pd.DataFrame:
    rows = list(itertools.product([6, 10], [0.0, 0.6]))
    return pd.DataFrame(rows[:1] if quick else rows, columns=["donors", "difference"]).assign(
        cells=60
    )


def draw(row: dict, rng: np.random.Generator) -> ad.AnnData:
    """Two genes in donors of two groups."""
    n, cells = row["donors"], row["cells"]
    group = np.arange(n) % 2
    z = Z + row["difference"] * (group - 0.5) + TAU * rng.standard_normal(n)
    mean = np.log(MEAN) - SD_WITHIN**2 / 2 + SD_BETWEEN * rng.standard_normal((n, 2))
    sample = np.repeat(np.arange(n), cells)
    e = rng.standard_normal((len(sample), 2))
    rho = np.tanh(z)[sample]
    e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
    s = np.exp(0.3 * rng.standard_normal(len(sample)))
    s /= s.mean()
    x = rng.poisson(s[:, None] * np.exp(mean[sample] + SD_WITHIN * e))
    obs = pd.DataFrame(
        {
            "donor": np.char.mod("d%02d", sample),
            "group": np.array(["a", "b"], object)[group[sample]],
            "depth": s * 1e4,
        },
        index=np.char.mod("cell%d", np.arange(len(s))),
    )
    return ad.AnnData(sparse.csr_matrix(x.astype(np.int32)), obs, pd.DataFrame(index=["a", "b"]))


def natural_difference(difference: float) -> float:
    """Difference of the groups' mean correlations of expression, which `differential` estimates."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    z = Z + difference * np.array([[-0.5], [0.5]]) + TAU * nodes
    means = natural_correlation(np.tanh(z), SD_WITHIN, SD_WITHIN) @ (weights / weights.sum())
    return float(means[1] - means[0])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    for k, child in enumerate(seed.spawn(replicates)):
        adata = draw(row, np.random.default_rng(child))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.BayesianCorrelation(
                adata, "donor", ["a", "b"], depth="depth", correlation_formula="~ group"
            )
            drawn = sample_pair(model.pair("a", "b"), SETTINGS, k)
            moments = hc.differential(
                adata, "donor", "group", contrast=("group", "b", "a"), depth="depth", progress=False
            ).dataset.isel(gene=0, partner=1)
        slopes = drawn.slopes.ravel()
        low, high = highest_density(slopes, 0.95)
        positive = float((slopes > 0).mean())
        out.append(
            {
                "replicate": k,
                "method": "Bayesian",
                "estimate": slopes.mean(),
                "low": float(low),
                "high": float(high),
                "truth": row["difference"],
                "direction": max(positive, 1 - positive),
            }
        )
        out.append(
            {
                "replicate": k,
                "method": "differential",
                "estimate": float(moments["difference"]),
                "low": float(moments["difference_lower"]),
                "high": float(moments["difference_upper"]),
                "truth": natural_difference(row["difference"]),
                "direction": np.nan,
            }
        )
    table = pd.DataFrame(out)
    table["rejected"] = (table["low"] > 0) | (table["high"] < 0)
    table["covered"] = (table["low"] <= table["truth"]) & (table["truth"] <= table["high"])
    return table.assign(**row)


def _groups(table: pd.DataFrame):
    return table.groupby(["method", "donors", "difference"], sort=False)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    for (method, donors, difference), g in _groups(table):
        k, n = int(g["rejected"].sum()), len(g)
        if method == "Bayesian" and difference == 0:
            if stats.binomtest(k, n, 0.05, "greater").pvalue < 0.005:
                out.append(f"{100 * k / n:.0f}% of true nulls excluded with {donors} donors")
        elif method == "Bayesian":
            other = table[(table["method"] == "differential") & (table["donors"] == donors)]
            other = other[other["difference"] == difference]["rejected"].to_numpy(bool)
            mine = g["rejected"].to_numpy(bool)
            lost, won = int((other & ~mine).sum()), int((mine & ~other).sum())
            if lost and stats.binomtest(lost, lost + won, 0.5, "greater").pvalue < 0.005:
                out.append(f"differential finds more with {donors} donors: {lost} against {won}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = [
        f"{table['cells'].iloc[0]:.0f} cells per donor, mean count {MEAN:g}, sd of log expression {SD_WITHIN:g}, z within {Z:g} with "
        f"heterogeneity tau {TAU:g}. `differential` uses HC2 standard errors for a single pair; its estimand is the difference of the "
        "correlations of expression."
    ]
    for (method, donors, difference), g in _groups(table):
        what = (
            "true nulls rejected" if difference == 0 else f"power at a difference of {difference:g}"
        )
        out.append(
            f"{method}, {donors} donors: {what} {100 * g['rejected'].mean():.0f}%, 95% intervals cover in {100 * g['covered'].mean():.0f}% of "
            f"{len(g)}, median width {(g['high'] - g['low']).median():.2f}."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained", sharey=True)
    for ax, difference in zip(axes, sorted(table["difference"].unique()), strict=False):
        for method, colour, marker in (
            ("Bayesian", "#0072B2", "o"),
            ("differential", "#D55E00", "s"),
        ):
            g = table[(table["difference"] == difference) & (table["method"] == method)]
            by = g.groupby("donors")["rejected"]
            p, n = by.mean(), by.size()
            ax.errorbar(
                p.index,
                100 * p,
                100 * 1.96 * np.sqrt(p * (1 - p) / n),
                color=colour,
                marker=marker,
                label=method,
                capsize=3,
            )
        ax.axhline(5, color="#888888", lw=0.8)
        ax.set_title(f"difference of z {difference:g}", fontsize=10)
        ax.set_xlabel("donors")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("intervals without 0 (%)")
    axes[0].legend(frameon=False, fontsize=8)
    return {"": fig}
