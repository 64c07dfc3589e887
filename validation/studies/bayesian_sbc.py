"""Simulation-based calibration and recovery of the Bayesian model, both levels and all scales."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from hiercorr.bayes.priors import read_priors

CLAIM = (
    "Where parameters are drawn from the prior, data from the parameters and the model is fitted to them, the truth's rank among "
    "posterior draws is uniform - for both correlations, their heterogeneity and all standard deviations, with and without repeated "
    "donors - and 95% intervals hold the truth in 95%."
)
MODELS = ["bayesian"]
SEED = 20261126
REPLICATES = 80
QUICK_REPLICATES = 2
DRAWS, THIN = 250, 5  # of four chains: 199 of 200 thinned draws make the ranks
MEAN = (
    float(np.log(0.8)),
    0.8,
)  # prior of the log mean count: 0.15 to 4 counts a cell in nine of ten genes
PARAMETERS = {
    "zeta": "correlation within (z)",
    "z_between": "correlation between (z)",
    "tau": "heterogeneity tau",
    "sd_within": "sd within",
    "sd_between": "sd between",
    "share": "share of the donor",
}
BINS = 10


def grid(quick: bool) -> pd.DataFrame:
    rows = [(5, 1, 150), (12, 1, 80), (8, 2, 100)]  # samples, samples of a donor, cells a sample
    return pd.DataFrame(rows[:1] if quick else rows, columns=["samples", "per_donor", "cells"])


def draw(row: dict, rng: np.random.Generator) -> tuple[ad.AnnData, dict[str, float]]:
    """Parameters from the prior, two genes' counts from them."""
    priors, n = (
        read_priors({"intercept": {"distribution": "normal", "mu": MEAN[0], "sigma": MEAN[1]}}),
        row["samples"],
    )
    one = {k: float(priors.draw(k, 1, rng)[0]) for k in ("z_within", "z_between", "tau", "share")}
    sd_w, sd_b = (priors.draw(k, 2, rng) for k in ("sd_within", "sd_between"))
    donor = np.arange(n) // row["per_donor"]
    share = one["share"] if row["per_donor"] > 1 else 0.0

    def correlated(z: float | np.ndarray, size: int) -> np.ndarray:
        e = rng.standard_normal((size, 2))
        e[:, 1] = np.tanh(z) * e[:, 0] + e[:, 1] / np.cosh(z)
        return e

    level = np.sqrt(share) * correlated(one["z_between"], donor.max() + 1)[donor]
    level += np.sqrt(1 - share) * correlated(one["z_between"], n)
    mean = rng.normal(*MEAN, 2) + sd_b * level
    z = one["z_within"] + one["tau"] * rng.standard_normal(donor.max() + 1)[donor]
    cells = np.maximum(20, np.round(row["cells"] * np.exp(0.4 * rng.standard_normal(n)))).astype(
        int
    )
    sample = np.repeat(np.arange(n), cells)
    s = np.exp(0.4 * rng.standard_normal(len(sample)))
    s /= s.mean()  # rates are those at the mean depth
    x = rng.poisson(
        s[:, None]
        * np.exp(np.minimum(mean[sample] + sd_w * correlated(z[sample], len(sample)), 12))
    )
    obs = pd.DataFrame(
        {
            "sample": np.char.mod("s%02d", sample),
            "block": np.char.mod("d%02d", donor[sample]),
            "depth": s * 1e4,
        },
        index=np.char.mod("cell%d", np.arange(len(s))),
    )
    truth = {
        "zeta": one["z_within"],
        "z_between": one["z_between"],
        "tau": one["tau"],
        "sd_within": sd_w[0],
        "sd_between": sd_b[0],
    }
    truth |= {"share": share} if row["per_donor"] > 1 else {}
    return ad.AnnData(
        sparse.csr_matrix(x.astype(np.int32)), obs, pd.DataFrame(index=["a", "b"])
    ), truth


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    size, tune, thin = (
        (DRAWS, 300, THIN) if replicates >= 10 else (2 * DRAWS // 5, 150, 2)
    )  # a quick look needs no more
    for k, child in enumerate(seed.spawn(replicates)):
        rng = np.random.default_rng(child)
        adata, truth = draw(row, rng)
        empty = np.asarray(adata.X.sum(0)).ravel() == 0
        if (
            empty.any()
        ):  # nothing to fit; a choice that rests on the data alone leaves the other ranks uniform
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.BayesianCorrelation(
                adata,
                "sample",
                ["a", "b"],
                depth="depth",
                block="block" if row["per_donor"] > 1 else None,
                priors={"intercept": {"distribution": "normal", "mu": MEAN[0], "sigma": MEAN[1]}},
            )
            result = model.fit(draws=size, tune=tune, seed=k)
        flag = int(result.dataset["flag"].values[0, 1])
        for name, value in truth.items():
            values = result.dataset[f"posterior_{name}"].values
            draws = (values[..., 0, 0] if name.startswith("sd") else values[..., 0]).ravel()
            kept = draws[::thin][1:]
            low, high = np.quantile(draws, [0.025, 0.975])
            out.append(
                {
                    **row,
                    "replicate": k,
                    "parameter": name,
                    "truth": value,
                    "rank": int((kept < value).sum()),
                    "ranks": len(kept),
                    "mean": draws.mean(),
                    "sd": draws.std(),
                    "low": low,
                    "high": high,
                    "divergences": result.dataset.attrs["divergences"],
                    "not_converged": float(flag & int(hc.Flag.NOT_CONVERGED) > 0),
                }
            )
    return pd.DataFrame(out)


def _groups(table: pd.DataFrame):
    return table.groupby(["samples", "per_donor", "parameter"], sort=False)


def uniformity(g: pd.DataFrame) -> float:
    """p-value of uniform ranks: Kolmogorov and Smirnov, with ranks spread over their cells."""
    u = (g["rank"] + 0.5) / (g["ranks"] + 1)
    return float(stats.kstest(u, "uniform").pvalue)


def verdict(table: pd.DataFrame) -> list[str]:
    out, n_tests = [], len(_groups(table)) * 2
    for key, g in _groups(table):
        where = f"{key[2]} with {key[0]} samples, {key[1]} a donor"
        if uniformity(g) < 0.01 / n_tests:
            out.append(f"ranks of {where} are not uniform (p {uniformity(g):.1e})")
        covered = int(((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).sum())
        p = stats.binomtest(covered, len(g), 0.95).pvalue
        if p < 0.01 / n_tests:
            out.append(f"intervals of {where} cover {covered} of {len(g)}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    p = np.array([uniformity(g) for _, g in _groups(table)])
    fits = table.drop_duplicates(["samples", "per_donor", "replicate"])
    out = [
        f"{len(fits)} fits; p-values of uniform ranks (Kolmogorov-Smirnov) over {len(p)} parameters and designs: smallest {p.min():.3f}, "
        f"median {np.median(p):.2f}.",
        f"{int((fits['divergences'] > 0).sum())} fits had divergences left after the stricter runs; {int(fits['not_converged'].sum())} pairs are "
        f"flagged not_converged, mostly for fewer than 400 effective draws: the study draws {4 * DRAWS} where the default draws 4,000.",
    ]
    for name, g in table.groupby("parameter", sort=False):
        inside = ((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).mean()
        r = np.corrcoef(g["truth"], g["mean"])[0, 1]
        out.append(
            f"{PARAMETERS[name]}: 95% intervals hold {100 * inside:.1f}% of {len(g)} truths; posterior mean and truth correlate {r:.2f}."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    names = [n for n in PARAMETERS if n in set(table["parameter"])]
    fig, axes = plt.subplots(
        2, len(names), figsize=(2.9 * len(names), 5.4), squeeze=False, layout="constrained"
    )
    for k, name in enumerate(names):
        g = table[table["parameter"] == name]
        u = (g["rank"] + 0.5) / (g["ranks"] + 1)
        ax = axes[0][k]
        low, mid, high = stats.binom.ppf([0.025, 0.5, 0.975], len(g), 1 / BINS)
        ax.axhspan(low, high, color="#dddddd", zorder=0)
        ax.axhline(mid, color="#888888", lw=0.8)
        ax.hist(u, BINS, (0, 1), color="#0072B2", rwidth=0.9)
        ax.set_title(PARAMETERS[name], fontsize=10)
        ax.set_xlabel("rank of the truth")
        ax = axes[1][k]
        ends = (g["truth"].min(), g["truth"].max())
        ax.plot(ends, ends, color="#888888", lw=0.8)
        for samples, colour, marker in zip(
            sorted(g["samples"].unique()), ("#D55E00", "#009E73", "#0072B2"), "o^s", strict=False
        ):
            h = g[g["samples"] == samples]
            ax.plot(
                h["truth"],
                h["mean"],
                marker,
                ms=3,
                color=colour,
                alpha=0.7,
                label=f"{samples} samples",
            )
        ax.set_xlabel("truth")
    axes[0][0].set_ylabel("fits (grey: 95% if uniform)")
    axes[1][0].set_ylabel("posterior mean")
    axes[1][0].legend(frameon=False, fontsize=8)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return {"": fig}
