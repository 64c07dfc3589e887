"""Screens for differences of correlation between two groups of 3 to 10 donors, or within pairs."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import hiercorr as hc
from validation.pages import span
from validation.populations import BLOCK, expression, root
from validation.screens import adjusted, summary

CLAIM = (
    "In panels of 80 genes, the p-values of the default are calibrated over pairs that are independent in all donors, of the few pairs "
    "with one correlation in both groups at most 10% are below 0.05, its lists at q < 0.05 hold at most 6% false pairs where correlations differ "
    "between groups, and panels without a difference give a call in at most 10%. With 3 to 5 donors a group it finds more than "
    "five times as many differences as HC2 t tests; its 95% intervals cover in at least 93% of the pairs."
)
MODELS = ["differential"]
SEED = 20261209
REPLICATES = 12
QUICK_REPLICATES = 2
GENES = 80
LOW, HIGH = 0.05, 0.45  # correlation of the pairs that differ between groups
SAME = 0.3
EQUAL, UNEQUAL = {3: 400, 5: 300, 10: 200}, (1500, 300, 150, 100)
DESIGNS = {
    "3 v 3": ((400,) * 3, (400,) * 3),
    "5 v 5": ((300,) * 5, (300,) * 5),
    "10 v 10": ((200,) * 10, (200,) * 10),
    "4 v 4, unequal": (UNEQUAL, UNEQUAL),
    "3 v 10": ((200,) * 3, (500,) * 10),
    "3 pairs": ((400,) * 3, (400,) * 3),
    "6 pairs": ((300,) * 6, (300,) * 6),
}
WORLDS: dict[str, dict] = {
    "homogeneous": {},
    "heterogeneous": {"tau": (0.15, 0.15)},
    "one group heterogeneous": {"tau": (0.0, 0.25)},
    "other means and variances": {"mean_ratio": 1.5, "contrast": 0.7},
    "10% change sign": {"changing": 0.1},
    "30% change sign": {"changing": 0.3},
    "sparse and rich": {"means": (0.15, 1.5, 0.5, 4.0)},
    "null": {"differ": 0.0, "tau": (0.1, 0.1)},
    "null, 30% change sign": {"differ": 0.0, "changing": 0.3},
}
STYLE = {"hierarchical": ("#0072B2", "o"), "HC2": ("#000000", "s"), "two groups": ("#009E73", "^")}
ERRORS = ("fdp", "power", "independent_05", "same_05", "any_false", "coverage")


def grid(quick: bool) -> pd.DataFrame:
    if quick:
        rows = [("homogeneous", "3 v 3"), ("null", "3 pairs")]
    else:
        rows = [(w, d) for w in WORLDS for d in DESIGNS]
    return pd.DataFrame(rows, columns=["world", "design"])


def draw(
    rng: np.random.Generator,
    cells: tuple[tuple[int, ...], tuple[int, ...]],
    paired: bool,
    means: tuple[float, ...] = (1.5,),
    differ: float = 0.4,
    changing: float = 0.0,
    tau: tuple[float, float] = (0.0, 0.0),
    mean_ratio: float = 1.0,
    contrast: float = 1.0,
) -> tuple[ad.AnnData, np.ndarray, np.ndarray]:
    """Draw two groups of samples; also the kind and the true difference of each pair (i < j).

    Half of the blocks of genes are related, of which `differ` differ between the groups; `changing`
    of all have a sign that each sample tosses. `tau` is the standard deviation between samples of a
    related block; the two samples of a pair share their deviation. In the second group means are
    `mean_ratio` times as high, and expression deviates `contrast` times as far from its mean.
    """
    n = GENES // BLOCK
    related, moving = n // 2, round(changing * n)
    kind = np.array(["independent"] * n, object)
    kind[:related] = "same"
    kind[: round(differ * related)] = "differs"
    kind[related : related + moving] = "changing"
    higher = rng.choice([0, 1], n)
    mean = np.resize(means, GENES) * np.exp(rng.normal(0, 0.5, GENES))
    counts, obs = [], []
    own = rng.standard_normal((max(map(len, cells)), n))
    for group, sizes in enumerate(cells):
        deviation = own if paired else rng.standard_normal((len(sizes), n))
        for c, size in enumerate(sizes):
            g = rng.standard_normal((size, GENES))
            for b in np.flatnonzero(kind != "independent"):
                at = slice(b * BLOCK, (b + 1) * BLOCK)
                if kind[b] == "changing":
                    sign = rng.choice([-1, 1], BLOCK)
                    natural = 0.4 * np.outer(sign, sign)
                else:
                    rho = SAME if kind[b] == "same" else (HIGH if group == higher[b] else LOW)
                    rho = np.clip(rho + tau[group] * deviation[c, b], -0.2, 0.9)
                    natural = np.full((BLOCK, BLOCK), rho)
                g[:, at] = g[:, at] @ root(natural, "lognormal").T
            z = 1 + (contrast if group else 1.0) * (expression(g, "lognormal") - 1)
            mu = mean * np.exp(rng.normal(0, 0.3, GENES)) * (mean_ratio if group else 1.0)
            s = np.exp(rng.normal(0, 0.4, size) - 0.08) * np.exp(rng.normal(0, 0.2))
            counts.append(sparse.csr_matrix(rng.poisson(s[:, None] * mu * z).astype(np.float32)))
            sample = {"sample": f"{'ab'[group]}{c}", "arm": "ab"[group], "donor": f"d{c}"}
            obs.append(pd.DataFrame({**sample, "depth": s * 1e4}))
    table = pd.concat(obs, ignore_index=True)
    table.index = "cell" + table.index.astype(str)
    var = pd.DataFrame(index=[f"gene{j}" for j in range(GENES)])
    block = np.arange(GENES) // BLOCK
    i, j = np.triu_indices(GENES, 1)
    of_pair = np.where(block[i] == block[j], kind[block[i]], "independent")
    sign = np.where(higher[block[i]] == 1, 1.0, -1.0)
    truth = np.where(of_pair == "differs", sign * (HIGH - LOW), 0.0)
    return ad.AnnData(sparse.vstack(counts, format="csr"), table, var), of_pair, truth


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    paired = "pairs" in row["design"]
    pairs = np.triu_indices(GENES, 1)
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        data, kind, truth = draw(rng, DESIGNS[row["design"]], paired, **WORLDS[row["world"]])
        ways = {"hierarchical": {}, "HC2": {"uncertainty": "HC2"}}
        ways |= {} if paired else {"two groups": {"method": "pooled"}}
        for method, options in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                d = hc.differential(
                    data,
                    "sample",
                    "arm",
                    block="donor" if paired else None,
                    depth="depth",
                    min_cells=5,
                    **options,
                ).dataset
            found.setdefault(method, []).append(_score(d, pairs, kind, truth))
    return summary(found, row, ERRORS)


def _score(d, pairs: tuple, kind: np.ndarray, truth: np.ndarray) -> dict:
    p, estimate, low, high = (
        d[k].values[pairs].astype(float)
        for k in ("p_value", "difference", "difference_lower", "difference_upper")
    )
    known = np.isfinite(p)
    call, true = adjusted(p) < 0.05, kind == "differs"
    inside = (low <= truth) & (truth <= high)

    def share(values: np.ndarray, of: np.ndarray) -> float:
        return float(values[of & known].mean()) if (of & known).any() else np.nan

    return {
        "calls": call.sum(),
        "fdp": (call & ~true).sum() / max(call.sum(), 1),
        "any_false": float((call & ~true).any()),
        "power": share(call, true),
        "independent_05": share(p < 0.05, kind == "independent"),
        "independent_001": share(p < 1e-3, kind == "independent"),
        "same_05": share(p < 0.05, kind == "same"),
        "changing_05": share(p < 0.05, kind == "changing"),
        "coverage": share(inside, kind != "changing"),
        "coverage_true": share(inside, true),
        "bias": share(np.sign(truth) * (estimate - truth), true),
        "width": float(np.nanmedian(high - low)),
    }


def verdict(table: pd.DataFrame) -> list[str]:
    """Cells of the grid that refute the claim, allowing three Monte-Carlo errors."""
    out = []
    ours = table[table["method"] == "hierarchical"]
    peer = table[table["method"] == "HC2"].set_index(["world", "design"])
    for r in ours.to_dict("records"):
        where = f"{r['world']}, {r['design']}"
        for value, bound in (("independent_05", 0.06), ("same_05", 0.1)):
            if r[value] > bound + 3 * r[f"mc_error_{value}"]:
                out.append(f"{value} {r[value]:.3f}, {where}")
        if r["coverage"] < 0.93 - 3 * r["mc_error_coverage"]:
            out.append(f"coverage {r['coverage']:.3f}, {where}")
        if r["world"].startswith("null"):
            if r["any_false"] > 0.1 + 3 * r["mc_error_any_false"]:
                out.append(f"a call in {r['any_false']:.2f} of the panels, {where}")
            continue
        if r["fdp"] > 0.06 + 3 * r["mc_error_fdp"]:
            out.append(f"{r['fdp']:.3f} of the calls are false, {where}")
        theirs = peer.loc[(r["world"], r["design"]), "power"]
        few = r["design"] in ("3 v 3", "5 v 5", "3 pairs") and "change" not in r["world"]
        if few and r["power"] + 3 * r["mc_error_power"] < 5 * theirs:
            out.append(f"power {r['power']:.2f} and {theirs:.2f}, {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    real = table[~table["world"].str.startswith("null")]
    for method, g in real.groupby("method", sort=False):
        called = g[g["calls"] >= 1]
        listed = f"of its calls {span(called['fdp'])} are false" if len(called) else "no calls"
        out.append(
            f"{method}: power {span(g['power'], 0)} (mean {100 * g['power'].mean():.0f}%); {listed} (where there is one call or "
            f"more in a panel); pairs of one correlation in both groups below 0.05 in {span(g['same_05'])}."
        )
    for design, g in real.groupby("design", sort=False):
        each = ", ".join(
            f"{m} {100 * part['power'].mean():.0f}%" for m, part in g.groupby("method", sort=False)
        )
        out.append(f"{design}: mean power over the worlds: {each}.")
    ours = table[table["method"] == "hierarchical"]
    out.append(
        f"95% intervals of the default cover {span(ours['coverage'])} of the pairs that do not change sign, and "
        f"{span(ours['coverage_true'].dropna())} of those that differ between groups (true differences of +-{HIGH - LOW:g}); they are wide "
        "for 2 to 3 donors a group, as a normal interval from a mixture of variances is."
    )
    moving = ours[ours["world"].str.contains("change")]
    out.append(
        f"Pairs whose sign each donor tosses are below 0.05 in {span(moving['changing_05'], 0)}: as a minority of a panel they are not "
        "calibrated one by one, and their calls count as false here. Where many pairs change sign, 3 donors a group cannot be told from "
        "chance: next to nothing is called."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    worlds = [w for w in WORLDS if not w.startswith("null")]
    n = len(worlds)
    fig, axes = plt.subplots(
        2, n, figsize=(2.4 * n, 6), sharey="row", sharex=True, layout="constrained"
    )
    for ax, world in zip(axes.T, worlds, strict=True):
        for method, (colour, marker) in STYLE.items():
            g = table[(table["method"] == method) & (table["world"] == world)]
            at = [list(DESIGNS).index(d) for d in g["design"]]
            ax[0].errorbar(
                at, g["power"], g["mc_error_power"], fmt=marker, color=colour, label=method
            )
            some = g[g["calls"] >= 1]
            at = [list(DESIGNS).index(d) for d in some["design"]]
            ax[1].errorbar(at, some["fdp"], some["mc_error_fdp"], fmt=marker, color=colour)
        ax[0].set_title(world, fontsize=10)
        ax[1].axhspan(0, 0.06, color="#e4e4e4", zorder=0)
        ax[1].set_xticks(range(len(DESIGNS)), list(DESIGNS), rotation=80, fontsize=8)
        for a in ax:
            a.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("true differences with q < 0.05")
    axes[1, 0].set_ylabel("false among the calls")
    handles = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(*handles, frameon=False, fontsize=9, loc="upper right")
    return {"": fig}
