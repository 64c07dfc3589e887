"""Simulation-based calibration of the joint Bayesian model: two to five genes, two and three levels, with and without heterogeneity."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import hiercorr as hc
from hiercorr.bayes.joint.model import make_model
from hiercorr.bayes.joint.sampler import SWEEPS, new_matrices, sample_joint
from hiercorr.bayes.joint.tables import partial
from hiercorr.bayes.population import cells_of
from hiercorr.bayes.priors import read_priors
from validation.studies import bayesian_sbc

CLAIM = (
    "Where covariance matrices at every level are drawn from the prior, data from them and the joint model is fitted to the data, the "
    "truth's rank among posterior draws is uniform and 95% intervals hold the truth in 95% - for single correlations and standard "
    "deviations, and for functions of whole matrices: partial correlations, smallest eigenvalues, differences of two correlations. With "
    "heterogeneity between donors this includes tau, the correlations of a sample and those predicted for a new donor. Where the stated "
    "prior of tau is a third as wide as that of the simulation, the ranks of tau show it."
)
MODELS = ["bayesian_joint"]
SEED = 20261130
REPLICATES = 300
QUICK_REPLICATES = 2
# Draws, steps of warm-up, chains, thinning, thinning of the ranks (99 of 100 draws): a fit of the
# package goes on until all parameters have converged, which takes ten times as long here.
DRAWS, TUNE, CHAINS, EVERY, THIN = 100, 100, 2, 4, 2
MEAN = bayesian_sbc.MEAN
PARAMETERS = {
    "correlation": "correlation",
    "partial": "partial correlation",
    "difference": "difference of two correlations",
    "eigenvalue": "smallest eigenvalue",
    "sd": "standard deviation",
    "mean": "mean of a sample",
    "tau": "tau",
    "own": "correlation in a sample",
    "new": "correlation in a new donor",
}
WRONG = {"tau": {"distribution": "halfnormal", "sigma": 0.1}}


def grid(quick: bool) -> pd.DataFrame:
    rows = [
        (3, 6, 1, 25, "none"),
        (5, 6, 1, 25, "none"),
        (3, 8, 2, 20, "none"),
        (2, 6, 1, 40, "tau"),
        (2, 6, 1, 40, "wrong prior"),
        (5, 6, 1, 25, "tau"),
        (3, 8, 2, 20, "tau"),
    ]
    columns = ["genes", "samples", "per_donor", "cells", "heterogeneity"]
    return pd.DataFrame(rows[3:4] if quick else rows, columns=columns)


def correlations(genes: int, eta: float, rng: np.random.Generator) -> np.ndarray:
    """A correlation matrix from the prior: that of an inverse Wishart matrix."""
    x = rng.standard_normal((int(2 * eta) + genes - 1, genes))
    q = np.linalg.inv(x.T @ x)
    scale = np.sqrt(np.diag(q))
    return q / np.outer(scale, scale)


def draw(row: dict, rng: np.random.Generator) -> tuple[ad.AnnData, dict[str, dict]]:
    """Parameters from the prior, counts from them."""
    priors, g, n = read_priors(), row["genes"], row["samples"]
    names = ("within", "between") if row["per_donor"] == 1 else ("within", "between", "samples")
    truth, root = {}, {}
    for level in names:
        which = "within" if level == "within" else "between"
        r = correlations(g, priors.table[f"z_{which}"]["eta"], rng)
        sd = priors.draw(f"sd_{which}", g, rng)
        truth[level] = {"matrix": r, "sd": sd}
        root[level] = sd[:, None] * np.linalg.cholesky(r)
    donor = np.arange(n) // row["per_donor"]
    mean = (
        rng.normal(*MEAN, g)
        + (rng.standard_normal((donor.max() + 1, g)) @ root["between"].T)[donor]
    )
    if "samples" in root:
        mean += rng.standard_normal((n, g)) @ root["samples"].T
    truth["within"]["mean"] = mean
    own = np.repeat(truth["within"]["matrix"][None], n, 0)
    if row["heterogeneity"] != "none":
        tau = priors.draw("tau", 1, rng)
        units = np.repeat(truth["within"]["matrix"][None], donor.max() + 2, 0)
        of_unit = new_matrices(units, np.repeat(tau, len(units)), rng).astype(float)
        own = of_unit[donor]
        truth["within"] |= {"tau": tau[0], "own": own, "new": of_unit[-1]}
    sample = np.repeat(np.arange(n), row["cells"])
    s = np.exp(0.4 * rng.standard_normal(len(sample)))
    s /= s.mean()
    roots = truth["within"]["sd"][:, None] * np.linalg.cholesky(own)
    e = np.einsum("cij,cj->ci", roots[sample], rng.standard_normal((len(sample), g)))
    x = rng.poisson(s[:, None] * np.exp(np.minimum(mean[sample] + e, 12)))
    obs = pd.DataFrame(
        {
            "sample": np.char.mod("s%02d", sample),
            "block": np.char.mod("d%02d", donor[sample]),
            "depth": s * 1e4,
        },
        index=np.char.mod("cell%d", np.arange(len(s))),
    )
    var = pd.DataFrame(index=np.char.mod("gene%d", np.arange(g)))
    return ad.AnnData(sparse.csr_matrix(x.astype(np.int32)), obs, var), truth


def functions(level: dict) -> dict[str, np.ndarray]:
    """What is ranked of one level: arrays over draws, or numbers of the truth."""
    matrix = level["matrix"]
    out = {
        "correlation": matrix[..., 0, 1],
        "partial": partial(matrix)[..., 0, 1],
        "difference": matrix[..., 0, 1] - matrix[..., 0, -1],
        "eigenvalue": np.linalg.eigvalsh(matrix)[..., 0],
        "sd": level["sd"][..., 0],
    }
    if matrix.shape[-1] == 2:  # the other functions are those of the correlation
        out = {k: out[k] for k in ("correlation", "sd")}
    at = {"mean": (0, 0), "tau": (), "own": (0, 0, 1), "new": (0, 1)}
    return out | {k: np.asarray(level[k])[(..., *i)] for k, i in at.items() if k in level}


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    if row["heterogeneity"] == "wrong prior":
        replicates = -(-replicates // 3)  # enough to be noticed
    for k, child in enumerate(seed.spawn(replicates)):
        adata, truth = draw(row, np.random.default_rng(child))
        if (np.asarray(adata.X.sum(0)).ravel() == 0).any():
            continue  # a choice that rests on the data alone leaves the other ranks uniform
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.BayesianCorrelation(
                adata,
                "sample",
                depth="depth",
                block="block" if row["per_donor"] > 1 else None,
                priors={"intercept": {"distribution": "normal", "mu": MEAN[0], "sigma": MEAN[1]}}
                | (WRONG if row["heterogeneity"] == "wrong prior" else {}),
                heterogeneity=row["heterogeneity"] != "none",
            )
            drawn = sample_joint(
                make_model(cells_of(model.counts, model._setup), model._setup),
                DRAWS,
                TUNE,
                CHAINS,
                np.random.SeedSequence(k),
                first=EVERY,
                most=EVERY,
            )
        for level, values in truth.items():
            of_level = {"matrix": drawn.correlation[level], "sd": drawn.sd[level]}
            if level == "within":
                of_level |= {"mean": drawn.mean}
                of_level |= {} if drawn.varying is None else vars(drawn.varying)
            true, found = functions(values), functions(of_level)
            for name, draws in found.items():
                kept = draws.ravel()[::THIN][1:]
                low, high = np.quantile(draws, [0.025, 0.975])
                out.append(
                    {
                        **row,
                        "replicate": k,
                        "level": level,
                        "parameter": name,
                        "truth": float(true[name]),
                        "rank": int((kept < true[name]).sum()),
                        "ranks": len(kept),
                        "mean": draws.mean(),
                        "low": low,
                        "high": high,
                        "r_hat": drawn.r_hat,
                        "ess": drawn.ess,
                    }
                )
    return pd.DataFrame(out)


def _groups(table: pd.DataFrame):
    by = ["genes", "per_donor", "heterogeneity", "level", "parameter"]
    return table.groupby(by, sort=False)


def _right(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["heterogeneity"] != "wrong prior"]


def verdict(table: pd.DataFrame) -> list[str]:
    from scipy import stats

    out, right = [], _groups(_right(table))
    n_tests = len(right) * 2
    wrong = table[(table["heterogeneity"] == "wrong prior") & (table["parameter"] == "tau")]
    if len(wrong) >= 60 and bayesian_sbc.uniformity(wrong) > 1e-4:
        out.append("ranks of tau under the wrong prior are uniform: this study detects nothing")
    for key, g in right:
        where = f"{key[4]} {key[3]} with {key[0]} genes, {key[1]} samples of a donor, heterogeneity {key[2]}"
        p = bayesian_sbc.uniformity(g)
        if p < 0.01 / n_tests:
            out.append(f"ranks of {where} are not uniform (p {p:.1e})")
        covered = int(((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).sum())
        if stats.binomtest(covered, len(g), 0.95).pvalue < 0.01 / n_tests:
            out.append(f"intervals of {where} cover {covered} of {len(g)}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    wrong = table[table["heterogeneity"] == "wrong prior"]
    table = _right(table)
    p = np.array([bayesian_sbc.uniformity(g) for _, g in _groups(table)])
    fits = table.drop_duplicates(["genes", "per_donor", "heterogeneity", "replicate"])
    out = [
        f"{len(fits)} fits of {table['cells'].min() * table['samples'].min()} to "
        f"{table['cells'].max() * table['samples'].max()} cells; p-values of uniform ranks (Kolmogorov-Smirnov) over {len(p)} quantities "
        f"and designs: smallest {p.min():.3f}, median {np.median(p):.2f}.",
        f"A fit has {CHAINS * DRAWS} draws of {SWEEPS * EVERY} sweeps; the median over fits of the largest R-hat of all parameters is "
        f"{fits['r_hat'].median():.3f}, of the smallest effective sample size {fits['ess'].median():.0f}: limits from n independent draws of the right posterior hold "
        "95% (n - 1) / (n + 1), which is 93% for 90 and 94% for 200.",
    ]
    for name, g in table.groupby("parameter", sort=False):
        inside = ((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).mean()
        r = np.corrcoef(g["truth"], g["mean"])[0, 1]
        out.append(
            f"{PARAMETERS[name]}: 95% intervals hold {100 * inside:.1f}% of {len(g)} truths; posterior mean and truth correlate {r:.2f}."
        )
    if len(wrong):
        of = wrong[wrong["parameter"] == "tau"]
        inside = ((of["low"] <= of["truth"]) & (of["truth"] <= of["high"])).mean()
        out.append(
            f"With a prior of tau that is a third as wide as the simulation's, p is {bayesian_sbc.uniformity(of):.0e} for the ranks of tau, and "
            f"95% intervals hold {100 * inside:.0f}%."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt
    from scipy import stats

    table = _right(table)
    levels = list(dict.fromkeys(table["level"]))
    names = list(PARAMETERS)
    fig, axes = plt.subplots(
        len(levels),
        len(names),
        figsize=(2.6 * len(names), 2.3 * len(levels)),
        squeeze=False,
        layout="constrained",
    )
    for i, level in enumerate(levels):
        for k, name in enumerate(names):
            ax = axes[i][k]
            g = table[(table["parameter"] == name) & (table["level"] == level)]
            for spine in ax.spines.values():
                spine.set_visible(False)
            if g.empty:
                ax.axis("off")
                continue
            u = (g["rank"] + 0.5) / (g["ranks"] + 1)
            low, mid, high = stats.binom.ppf([0.025, 0.5, 0.975], len(g), 0.1)
            ax.axhspan(low, high, color="#dddddd", zorder=0)
            ax.axhline(mid, color="#888888", lw=0.8)
            ax.hist(u, 10, (0, 1), color="#0072B2", rwidth=0.9)
            ax.set_title(f"{PARAMETERS[name]}, {level}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("rank of the truth")
    axes[0][0].set_ylabel("fits (grey: 95% if uniform)")
    return {"": fig}
