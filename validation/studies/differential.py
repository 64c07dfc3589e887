"""Differences of correlation between two groups of samples: size, power, coverage, beside tests that take cells as units."""

from __future__ import annotations

import itertools
import warnings
from math import comb

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats

import hiercorr as hc
from validation import worlds
from validation.pages import span
from validation.scores import Tally, outside

CLAIM = (
    "Over samples as units, the t test of a difference rejects 3-6.5% of true nulls at 5%, its 95% interval covers in "
    "93.5-97.5%, in two groups and in pairs of 3 to 10 samples a group, also where the groups differ in means and cells; "
    "Fisher's test of two correlations over cells does not."
)
MODELS = ["differential"]
SEED = 20261131
REPLICATES = 100
QUICK_REPLICATES = 2
PERMUTATIONS = 499
KINDS = {
    "none, 0": (0.0, 0.0),
    "none, 0.5": (0.5, 0.5),
    "0 to 0.3": (0.0, 0.3),
    "0.2 to 0.7": (0.2, 0.7),
}
TAU = 0.15


def grid(quick: bool) -> pd.DataFrame:
    sizes, pairing, means = (
        ([4], [False, True], [1.0]) if quick else ([10, 5, 3], [False, True], [0.3, 2.0])
    )
    return pd.DataFrame(
        itertools.product(sizes, pairing, means), columns=["per_group", "paired", "mean"]
    )


def blocks(row: dict, arm: int) -> list[worlds.Block]:
    """Of each kind a chain of genes whose neighbours have correlations that vary over samples; arm b has other means."""
    return [
        worlds.Block(row["mean"] * (1.0, 1.4)[arm], 0.0, pair[arm], TAU) for pair in KINDS.values()
    ]


def panel(row: dict, rng: np.random.Generator) -> ad.AnnData:
    """Samples of arm a, and of arm b with higher means and fewer cells."""
    parts = []
    for arm in range(2):
        cells = worlds.cell_numbers(row["per_group"], (300, 200)[arm], True, rng)
        part = worlds.draw(blocks(row, arm), cells, rng)
        part.obs["arm"], part.obs["donor"] = "ab"[arm], part.obs["sample"].astype(str)
        part.obs["sample"] = "ab"[arm] + part.obs["donor"]
        part.obs_names = "ab"[arm] + part.obs_names
        parts.append(part)
    out = ad.concat(parts)
    if not row["paired"]:
        out.obs["donor"] = out.obs["sample"]
    return out


def naive(adata: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Fisher's z test of two cell-level Pearson correlations of log-normalised counts."""
    z, n = [], []
    for arm in "ab":
        part = adata[adata.obs["arm"] == arm]
        x = np.log1p(part.X.toarray() / part.obs["depth"].to_numpy()[:, None] * 1e4)
        with np.errstate(invalid="ignore", divide="ignore"):
            z.append(np.arctanh(np.clip(np.corrcoef(x, rowvar=False), -0.999999, 0.999999)))
        n.append(part.n_obs)
    with np.errstate(invalid="ignore"):
        t = (z[1] - z[0]) / np.sqrt(1 / (n[0] - 3) + 1 / (n[1] - 3))
    return 2 * stats.norm.sf(np.abs(t)), np.tanh(z[1]) - np.tanh(z[0])


def permuted_pooled(
    adata: ad.AnnData, i: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """CS-CORE over the cells of each arm, with the arms of samples permuted as R's diff_CSCORE does, of genes i and i + 1.

    Twice the smaller tail, among splits of the samples without repetition, whatever the pairing. Other than there, weights
    are those of all cells, so that each split is a sum over samples.
    """
    fitted = hc.CSCore(adata, "sample", depth="depth", min_cells=5).fit("pooled", "none").dataset
    depth = adata.obs["depth"].to_numpy()
    s, mean = (depth / depth.mean())[:, None], fitted["mean"].values * depth.mean()
    w = 1 / (1 + s * mean / fitted.attrs["theta"])
    x = adata.X.toarray().astype(float)
    codes, samples = pd.factorize(adata.obs["sample"])
    one = np.zeros((len(samples), len(codes)))
    one[codes, np.arange(len(codes))] = 1
    x1, x2, w1, w2 = x[:, i], x[:, i + 1], w[:, i], w[:, i + 1]
    ww = w1 * w2
    sums = {
        k: one @ v
        for k, v in {
            "f1": w1 * x1,
            "f2": w2 * x2,
            "g1": w1 * s,
            "g2": w2 * s,
            "xx": ww * x1 * x2,
            "xs": ww * x1 * s,
            "sx": ww * x2 * s,
            "ss": ww * s**2,
            **{
                f"{k}{n}": v
                for n, (a, b) in enumerate(((w1, x1), (w2, x2)), 1)
                for k, v in {
                    "q": a**2 * b**2,
                    "p": a**2 * b * s,
                    "t": a**2 * s**2,
                    "n": a**2 * s,
                }.items()
            },
        }.items()
    }

    def correlation(members: np.ndarray) -> np.ndarray:
        t = {k: members @ v for k, v in sums.items()}
        m1, m2 = t["f1"] / t["g1"], t["f2"] / t["g2"]
        covariance = (t["xx"] - m2 * t["xs"] - m1 * t["sx"] + m1 * m2 * t["ss"]) / t["ss"]
        v1, v2 = (
            (t[f"q{n}"] - 2 * m * t[f"p{n}"] + m**2 * t[f"t{n}"] - m * t[f"n{n}"]) / t[f"t{n}"]
            for n, m in ((1, m1), (2, m2))
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(np.where((v1 > 0) & (v2 > 0), covariance / np.sqrt(v1 * v2), 0), -1, 1)

    arm = pd.Series(adata.obs["arm"].to_numpy()).groupby(codes).first().to_numpy() == "b"
    observed = correlation(arm * 1.0) - correlation(~arm * 1.0)
    n, k = len(samples), int(arm.sum())
    if comb(n, k) <= PERMUTATIONS:
        splits = [np.isin(np.arange(n), c) for c in itertools.combinations(range(n), k)]
    else:
        splits = [rng.permutation(arm) for _ in range(PERMUTATIONS)]
    null = np.array([correlation(b * 1.0) - correlation(~b * 1.0) for b in splits])
    return np.minimum(
        1, 2 * np.minimum((null > observed).mean(0), (null < observed).mean(0))
    ), observed


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    tally = Tally()
    kinds = np.array([k for k in KINDS for _ in range(worlds.PAIRS)])
    start = np.cumsum([0, *(b.size for b in blocks(row, 0)[:-1])])
    i = np.concatenate([a + np.arange(worlds.PAIRS) for a in start])  # each with its neighbour
    truth = {
        k: b.truth() - a.truth()
        for k, a, b in zip(KINDS, blocks(row, 0), blocks(row, 1), strict=True)
    }
    block = "donor" if row["paired"] else None
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        adata = panel(row, rng)
        options = {
            "sample": "sample",
            "condition": "arm",
            "block": block,
            "depth": "depth",
            "min_cells": 5,
        }
        answers = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ways = [
                ("t test", {"uncertainty": "HC2"}),
                ("permutation", {"permutations": PERMUTATIONS, "seed": rng}),
            ]
            ways += [] if row["paired"] else [("two groups, z", {"method": "pooled"})]
            for name, more in ways:
                ds = hc.differential(adata, **options, **more).dataset
                answers[name] = [
                    ds[v].values[i, i + 1]
                    for v in ("p_value", "difference", "difference_lower", "difference_upper")
                ]
            answers["permuted pooled CS-CORE"] = [*permuted_pooled(adata, i, rng), None, None]
        p, estimate = naive(adata)
        answers["Fisher over cells"] = [p[i, i + 1], estimate[i, i + 1], None, None]
        for method, (p_value, difference, low, high) in answers.items():
            for kind in KINDS:
                at = kinds == kind
                interval = (
                    None
                    if low is None or method in ("permutation", "two groups, z")
                    else (low[at], high[at])
                )
                tally.add(
                    (method, kind),
                    truth[kind],
                    p=p_value[at],
                    estimate=difference[at],
                    interval=interval,
                )
    return tally.table(["method", "kind"]).assign(**row)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    ours = table[table["method"] == "t test"]
    null = ours["kind"].str.startswith("none")
    for value, low, high, part in (
        ("type_1", 0.03, 0.065, ours[null]),
        ("coverage", 0.935, 0.975, ours),
    ):
        for r in outside(part, value, low, high):
            where = (
                f"{r['per_group']} a group, paired {r['paired']}, mean {r['mean']:g}, {r['kind']}"
            )
            out.append(f"{value} {r[value]:.3f} at {where}")
    cells = table[(table["method"] == "Fisher over cells") & table["kind"].str.startswith("none")]
    if cells["type_1"].max() < 0.1:
        out.append("cells as units do no harm: nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    null = table[table["kind"].str.startswith("none")]
    for method, g in null.groupby("method", sort=False):
        out.append(
            f"{method}: rejects {span(g['type_1'])} of true nulls (mean {100 * g['type_1'].mean():.1f}%)."
        )
    for kind in ("0 to 0.3", "0.2 to 0.7"):
        ours = table[(table["method"] == "t test") & (table["kind"] == kind)]
        power = ours.groupby(["per_group", "mean"])["type_1"].mean()
        text = ", ".join(
            f"{s} a group, mean count {m:g}: {100 * p:.0f}%" for (s, m), p in power.items()
        )
        out.append(f"Power of the t test at a difference of {kind}: {text}.")
    ours = table[table["method"] == "t test"]
    out.append(
        f"Its 95% interval covers in {span(ours['coverage'])} (mean {100 * ours['coverage'].mean():.1f}%); bias "
        f"{ours['bias'].min():+.3f} to {ours['bias'].max():+.3f}."
    )
    out.append(
        "Permuted pooled CS-CORE is R's diff_CSCORE: a difference that is not studentised, of correlations that hold the "
        "samples' means, with the smaller tail doubled and no observed split counted, so that p can be 0."
    )
    for kind in ("0 to 0.3", "0.2 to 0.7"):
        other = table[
            (table["method"] == "permuted pooled CS-CORE")
            & (table["kind"] == kind)
            & (table["per_group"] == 10)
        ]
        out.append(f"Its power at 10 a group and a difference of {kind}: {span(other['type_1'])}.")
    out.append(
        "3 against 3 have 20 arrangements: a permutation cannot reject there at 5%, and the t test has little power."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    style = {
        "t test": ("#0072B2", "o"),
        "permutation": ("#009E73", "^"),
        "two groups, z": ("#56B4E9", "v"),
        "permuted pooled CS-CORE": ("#E69F00", "s"),
        "Fisher over cells": ("#D55E00", "x"),
    }
    fig, axes = plt.subplots(1, len(KINDS), figsize=(15, 4), sharey=True, layout="constrained")
    for ax, kind in zip(axes, KINDS, strict=True):
        part = table[table["kind"] == kind]
        designs = list(
            dict.fromkeys(zip(part["per_group"], part["paired"], part["mean"], strict=True))
        )
        for method, (colour, marker) in style.items():
            g = (
                part[part["method"] == method]
                .set_index(["per_group", "paired", "mean"])["type_1"]
                .reindex(designs)
            )
            ax.plot(range(len(designs)), g, marker, color=colour, label=method, ls="", ms=6)
        if kind.startswith("none"):
            ax.axhspan(0.03, 0.065, color="#dddddd", zorder=0)
        ax.set_title(f"difference: {kind}", fontsize=11)
        ax.set_xticks(
            range(len(designs)),
            [f"{s}{' pairs' if p else '+' + str(s)}, {m:g}" for s, p, m in designs],
            rotation=80,
            fontsize=8,
        )
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share rejected at 5%")
    axes[0].legend(frameon=False, loc="upper right")
    fig.supxlabel("samples, mean count")
    return {"": fig}
