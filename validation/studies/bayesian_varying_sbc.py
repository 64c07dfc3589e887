"""Simulation-based calibration of what varies between samples: the correlation with a covariate, the standard deviation."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from hiercorr.bayes.collected import variables
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.simulate import natural_correlation
from validation.studies import bayesian_sbc

CLAIM = (
    "Where the correlation within samples differs between two groups of samples, or the standard deviation of log expression differs "
    "from sample to sample, and parameters are drawn from the prior, the truth's rank among posterior draws is uniform and 95% "
    "intervals hold the truth in 95% - for the difference of z, the correlation of each group, the standard deviations and the "
    "correlation of expression within a sample. Two wrong models fail the same test: one whose prior of the difference is five times "
    "too narrow, and one with a single standard deviation for all samples."
)
MODELS = ["bayesian"]
SEED = 20261201
REPLICATES = 300
QUICK_REPLICATES = 2
DRAWS, TUNE, CHAINS, THIN = 150, 200, 2, 3  # 99 of 100 thinned draws make the ranks
SHARE_OF_WRONG = 3  # one in so many replicates of the wrong models, which fail by far
MEAN = bayesian_sbc.MEAN
# Narrower than those of models/bayesian.toml: correlations near 1 of few cells take minutes to fit.
PRIORS = {
    "intercept": {"distribution": "normal", "mu": MEAN[0], "sigma": 0.5},
    "sd_within": {"distribution": "lognormal", "median": 0.6, "sigma": 0.3},
    "sd_between": {"distribution": "lognormal", "median": 0.35, "sigma": 0.4},
    "z_within": {"distribution": "normal", "mu": 0.0, "sigma": 0.4},
    "z_between": {"distribution": "lkj", "eta": 2.0},
}
PARAMETERS = {
    "difference": "difference of z",
    "group": "z of group b",
    "zeta": "z of the average sample",
    "tau": "heterogeneity tau",
    "sd_within": "typical sd within",
    "omega": "heterogeneity omega of sd",
    "sd_sample": "sd of one sample",
    "natural_sample": "correlation of expression, one sample",
    "z_between": "correlation between (z)",
    "log_mean": "log mean of one sample",
}
BINS = 10
NARROW, EQUAL, ONE_SD = "narrow prior", "no heterogeneity of z", "one sd"
MUST_FAIL = (NARROW, ONE_SD)


def grid(quick: bool) -> pd.DataFrame:
    rows = [  # what varies, samples, cells, what is wrong with the fit
        ("correlation", 6, 30, ""),
        ("sd", 6, 30, ""),
        ("correlation", 6, 60, NARROW),
        ("correlation", 6, 100, EQUAL),
        ("sd", 6, 100, ONE_SD),
    ]
    rows = rows[:2] if quick else rows
    return pd.DataFrame(rows, columns=["varies", "samples", "cells", "wrong"])


def draw(row: dict, rng: np.random.Generator) -> tuple[ad.AnnData, dict[str, float]]:
    """Parameters from the prior, two genes' counts from them."""
    priors, n = read_priors(PRIORS), row["samples"]
    one = {k: float(priors.draw(k, 1, rng)[0]) for k in ("z_within", "z_between", "tau", "share")}
    sd_w, sd_b = (priors.draw(k, 2, rng) for k in ("sd_within", "sd_between"))
    group = np.arange(n) % 2

    def correlated(z: float | np.ndarray, size: int) -> np.ndarray:
        e = rng.standard_normal((size, 2))
        e[:, 1] = np.tanh(z) * e[:, 0] + e[:, 1] / np.cosh(z)
        return e

    rng.standard_normal((n, 2))  # not used; the committed results were drawn with it
    level = correlated(one["z_between"], n)
    mean = rng.normal(MEAN[0], PRIORS["intercept"]["sigma"], 2) + sd_b * level
    z = one["z_within"] + one["tau"] * rng.standard_normal(n)
    truth = {"zeta": one["z_within"], "tau": one["tau"], "sd_within": sd_w[0]}
    truth["z_between"] = one["z_between"]
    sd = np.tile(sd_w, (n, 1))
    if row["varies"] == "correlation":
        difference = float(rng.normal(0, priors.z_coefficient))
        z = z + difference * (group - group.mean())
        truth |= {"difference": difference, "group": one["z_within"] + difference / 2}
    else:
        omega = priors.draw("omega", 2, rng)
        sd = sd * np.exp(omega * rng.standard_normal((n, 2)))
        natural = float(natural_correlation(np.tanh(z[0]), sd[0, 0], sd[0, 1]))
        truth |= {"omega": omega[0], "sd_sample": sd[0, 0], "natural_sample": natural}
        truth["log_mean"] = mean[0, 0]
        mean = mean - sd**2 / 2
    sample = np.repeat(np.arange(n), row["cells"])
    s = np.exp(0.4 * rng.standard_normal(len(sample)))
    s /= s.mean()
    log_rate = mean[sample] + sd[sample] * correlated(z[sample], len(sample))
    x = rng.poisson(s[:, None] * np.exp(np.minimum(log_rate, 12)))
    obs = pd.DataFrame(
        {
            "sample": np.char.mod("s%02d", sample),
            "group": np.array(["a", "b"], object)[group[sample]],
            "depth": s * 1e4,
        },
        index=np.char.mod("cell%d", np.arange(len(s))),
    )
    return ad.AnnData(
        sparse.csr_matrix(x.astype(np.int32)), obs, pd.DataFrame(index=["a", "b"])
    ), truth


PLACES = {  # variable of the posterior, and which of its entries
    "zeta": ("zeta", (0,)),
    "tau": ("tau", (0,)),
    "z_between": ("z_between", (0,)),
    "sd_within": ("sd_within", (0, 0)),
    "difference": ("z_beta", (1, 0)),
    "group": ("within_group", (1, 0)),
    "omega": ("omega", (0, 0)),
    "sd_sample": ("sd_sample", (0, 0, 0)),
    "natural_sample": ("natural_sample", (0, 0)),
    "log_mean": ("log_mean", (0, 0, 0)),
}


def fitted_draws(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws of the parameters that the fit has, chains in one dimension."""
    out = {}
    for name, (variable, at) in PLACES.items():
        if variable in found:
            values = found[variable][:, :, *at].ravel()
            out[name] = np.arctanh(values) if name == "group" else values
    return out


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    wrong, priors = row["wrong"], dict(PRIORS)
    of_model = (
        {"correlation_formula": "~ group", "heterogeneity": wrong != EQUAL}
        if row["varies"] == "correlation"
        else {"sd_per_sample": wrong != ONE_SD}
    )
    if wrong == NARROW:
        priors["z_coefficient"] = {"distribution": "normal", "sigma": 0.1}
    few = max(replicates // SHARE_OF_WRONG, 1) if wrong else replicates
    for k, child in enumerate(seed.spawn(few)):
        adata, truth = draw(row, np.random.default_rng(child))
        if (np.asarray(adata.X.sum(0)).ravel() == 0).any():
            continue  # a choice that rests on the data alone leaves the other ranks uniform
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.BayesianCorrelation(
                adata,
                "sample",
                ["a", "b"],
                depth="depth",
                priors=priors,
                **of_model,
            )
            drawn = sample_pair(model.pair("a", "b"), Settings(DRAWS, TUNE, CHAINS), k)
        found = fitted_draws(variables([drawn], model._setup))
        for name in set(truth) & set(found):
            kept = found[name][::THIN][1:]
            low, high = np.quantile(found[name], [0.025, 0.975])
            out.append(
                {
                    **row,
                    "replicate": k,
                    "parameter": name,
                    "truth": float(truth[name]),
                    "rank": int((kept < truth[name]).sum()),
                    "ranks": len(kept),
                    "mean": found[name].mean(),
                    "low": low,
                    "high": high,
                    "divergences": int(drawn.diverging.sum()),
                }
            )
    return pd.DataFrame(out)


def _groups(table: pd.DataFrame):
    return table.groupby(["varies", "wrong", "parameter"], sort=False)


def _p_of_coverage(g: pd.DataFrame) -> tuple[float, float]:
    """Proportion of intervals that hold the truth, and the p-value of 95%."""
    covered = int(((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).sum())
    return covered / len(g), stats.binomtest(covered, len(g), 0.95).pvalue


def _failures(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What is wrong with the fit, and how it shows: nothing ("") must not show anything."""
    out, n_tests = [], 2 * len(_groups(table[table["wrong"] == ""]))
    for (varies, wrong, name), g in _groups(table):
        what = f"{PARAMETERS[name]} where the {varies} varies"
        p = bayesian_sbc.uniformity(g)
        if p < 0.01 / n_tests:
            out.append((wrong, f"ranks of {what} are not uniform (p {p:.1e})"))
        share, p = _p_of_coverage(g)
        if p < 0.01 / n_tests:
            out.append((wrong, f"intervals of {what} cover {100 * share:.1f}% (p {p:.1e})"))
    return out


def verdict(table: pd.DataFrame) -> list[str]:
    failures = _failures(table)
    out = [text for wrong, text in failures if not wrong]
    passed = set(table["wrong"]) & set(MUST_FAIL) - {wrong for wrong, _ in failures}
    return out + [f"the wrong model ({wrong}) passes" for wrong in sorted(passed)]


def remarks(table: pd.DataFrame) -> list[str]:
    right = table[table["wrong"] == ""]
    p = np.array([bayesian_sbc.uniformity(g) for _, g in _groups(right)])
    fits = right.drop_duplicates(["varies", "replicate"])
    out = [
        f"{len(fits)} fits of the right models, {CHAINS} chains of {DRAWS} draws; p-values of uniform ranks (Kolmogorov-Smirnov) over "
        f"{len(p)} parameters and designs: smallest {p.min():.3f}, median {np.median(p):.2f}. {int((fits['divergences'] > 0).sum())} fits "
        "had divergences. Priors narrower than the default keep correlations away from 1 (PRIORS in the study).",
    ]
    for name in PARAMETERS:
        g = right[right["parameter"] == name]
        if len(g):
            share, _ = _p_of_coverage(g)
            r = np.corrcoef(g["truth"], g["mean"])[0, 1]
            out.append(
                f"{PARAMETERS[name]}: 95% intervals hold {100 * share:.1f}% of {len(g)} truths; posterior mean and truth correlate {r:.2f}."
            )
    for wrong, g in table[table["wrong"] != ""].groupby("wrong", sort=False):
        failed = [text for other, text in _failures(table) if other == wrong]
        covered = {PARAMETERS[n]: 100 * _p_of_coverage(h)[0] for n, h in g.groupby("parameter")}
        worst = min(covered, key=covered.__getitem__)
        out.append(
            f"Wrong model, {wrong} ({g['replicate'].nunique()} fits): {'; '.join(failed) or 'no failure beyond chance'}; lowest coverage "
            f"{covered[worst]:.0f}%, of the {worst}."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    rows = list(dict.fromkeys(zip(table["varies"], table["wrong"], strict=True)))
    names = [n for n in PARAMETERS if n in set(table["parameter"])]
    fig, axes = plt.subplots(
        len(rows),
        len(names),
        figsize=(2.3 * len(names), 2.3 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for i, (varies, wrong) in enumerate(rows):
        for k, name in enumerate(names):
            ax = axes[i][k]
            ax.spines[["top", "right"]].set_visible(False)
            here = (table["varies"] == varies) & (table["wrong"] == wrong)
            g = table[here & (table["parameter"] == name)]
            if g.empty:
                ax.axis("off")
                continue
            u = (g["rank"] + 0.5) / (g["ranks"] + 1)
            low, mid, high = stats.binom.ppf([0.025, 0.5, 0.975], len(g), 1 / BINS)
            ax.axhspan(low, high, color="#dddddd", zorder=0)
            ax.axhline(mid, color="#888888", lw=0.8)
            ax.hist(u, BINS, (0, 1), color="#D55E00" if wrong else "#0072B2", rwidth=0.9)
            ax.set_title(PARAMETERS[name], fontsize=8)
            ax.set_xlabel(f"{varies} varies{f'{chr(10)}fit: {wrong}' if wrong else ''}", fontsize=7)
    axes[0][0].set_ylabel("fits (grey: 95% if uniform)")
    return {"": fig}
