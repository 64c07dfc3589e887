"""Variability of genes: size, power and coverage over donors that differ, beside tests over cells."""

from __future__ import annotations

import importlib.util
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from validation import peers
from validation.figures import dots
from validation.pages import span
from validation.scores import averages

CLAIM = (
    "differential_variability rejects at most 7% of the genes without a difference at 5% with 3, 5 and 10 donors per group, where the log "
    "relative variance of donors has a standard deviation of 0.4 or 0.8, donors are paired or one group is less deep, and at most 7.5% of "
    "the genes with a mean count above 4. It finds at least as many doubled variances as Welch's test of the donors' log "
    "estimates. Intervals of the overdispersion cover in at least 90% with 10 donors where they differ by 0.4. "
    "Tests with cells as units reject more than 15% of the nulls."
)
MODELS = ["differential"]
SEED = 20261204
REPLICATES = 15
QUICK_REPLICATES = 2
GENES, CELLS, RICH = 120, 200, 4.0
MEMENTO_PANELS = 2
OURS, WELCH, CELLS_TEST, MEMENTO = (
    "differential_variability",
    "Welch, log of donors",
    "Brown-Forsythe, cells",
    "memento",
)
OVER_DONORS = (OURS, WELCH)
CASES = {
    "no difference, sd 0.4": {"tau": 0.4},
    "no difference, sd 0.8": {"tau": 0.8},
    "no difference, pairs": {"tau": 0.8, "paired": True},
    "no difference, depth x 0.4": {"tau": 0.4, "depth": 0.4},
    "doubled, sd 0.4": {"tau": 0.4, "fold": 2.0},
}


def grid(quick: bool) -> pd.DataFrame:
    donors = [4] if quick else [3, 5, 10]
    cases = ["no difference, sd 0.8", "doubled, sd 0.4"] if quick else list(CASES)
    return pd.DataFrame([{"donors": d, "case": c} for d in donors for c in cases])


def simulate(
    donors: int,
    rng: np.random.Generator,
    tau: float = 0.4,
    paired: bool = False,
    depth: float = 1.0,
    fold: float = 1.0,
) -> tuple[ad.AnnData, np.ndarray, np.ndarray]:
    """Draw two groups of donors; return the counts, and the mean and average relative variance of genes.

    Expression is gamma over cells. Paired donors share half of the variance of their log relative
    variances. Group 1 has `depth` times the depth and `fold` times the relative variance in every
    second gene.
    """
    mean = np.exp(rng.uniform(np.log(0.2), np.log(20), GENES))
    typical = np.exp(rng.normal(np.log(0.6), 0.4, GENES))
    changed = np.arange(GENES) % 2 == 0
    common = tau * np.sqrt(0.5) * rng.normal(size=(donors, GENES)) if paired else None
    own = tau * np.sqrt(0.5) if paired else tau
    counts, tables = [], []
    for arm in (0, 1):
        for d in range(donors):
            shift = own * rng.normal(size=GENES) + (0 if common is None else common[d])
            phi = typical * np.exp(shift - tau**2 / 2) * np.where(changed & (arm == 1), fold, 1.0)
            n = max(30, round(CELLS * np.exp(rng.normal(0, 0.5))))
            s = np.exp(rng.normal(0, 0.4, n)) * (depth if arm else 1.0)
            level = mean * np.exp(rng.normal(0, 0.3, GENES))
            z = rng.gamma(1 / phi, phi, (n, GENES))
            counts.append(sparse.csr_matrix(rng.poisson(s[:, None] * level * z).astype(np.float32)))
            name = f"d{d:02d}"
            about = {"sample": f"{'ab'[arm]}{name}", "group": "ab"[arm], "arm": arm}
            about["donor"] = name if paired else about["sample"]
            tables.append(pd.DataFrame({**about, "depth": 1e4 * s}))
    obs = pd.concat(tables, ignore_index=True).rename(index=str)
    var = pd.DataFrame(index=[f"gene{j}" for j in range(GENES)])
    return ad.AnnData(sparse.vstack(counts, format="csr"), obs=obs, var=var), mean, typical


def donor_logs(data: ad.AnnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of each sample's relative variance beyond Poisson noise; NaN where it is not positive."""
    s = data.obs["depth"].to_numpy() / 1e4
    x, sample = data.X.toarray(), data.obs["sample"].to_numpy()
    names = np.unique(sample)
    out = []
    for name in names:
        at = sample == name
        mu = x[at].sum(0) / s[at].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = ((x[at] - s[at, None] * mu) ** 2).sum(0) - mu * s[at].sum()
            phi = excess / (mu**2 * (s[at] ** 2).sum())
            out.append(np.where(phi > 0, np.log(phi), np.nan))
    arm = np.array([int(n[0] == "b") for n in names])
    donor = np.array([n[1:] for n in names])
    return np.array(out), arm, donor


def welch(data: ad.AnnData, paired: bool) -> np.ndarray:
    logs, arm, donor = donor_logs(data)
    first, second = (logs[arm == a][np.argsort(donor[arm == a])] for a in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if paired:
            return stats.ttest_rel(second, first, nan_policy="propagate").pvalue
        return stats.ttest_ind(second, first, equal_var=False, nan_policy="propagate").pvalue


def brown_forsythe(data: ad.AnnData) -> np.ndarray:
    """Test of equal variances of lognormalised cells, with the cells of a group as its units."""
    depth, arm = data.obs["depth"].to_numpy(), data.obs["arm"].to_numpy()
    log = np.log1p(data.X.toarray() / depth[:, None] * np.median(depth))
    return np.array([stats.levene(y[arm == 0], y[arm == 1], center="median")[1] for y in log.T])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    options = CASES[row["case"]]
    paired = options.get("paired", False)
    found: dict[tuple, list[dict]] = {}
    for k, child in enumerate(seed.spawn(replicates)):
        data, mean, typical = simulate(row["donors"], np.random.default_rng(child), **options)
        changed = (np.arange(GENES) % 2 == 0) & ("fold" in options)
        design = {"block": "donor"} if paired else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = hc.differential_variability(data, "sample", "group", depth="depth", **design)
            p = {
                OURS: table["p_value"].reindex(data.var_names).to_numpy(),
                WELCH: welch(data, paired),
                CELLS_TEST: brown_forsythe(data),
            }
            if k < MEMENTO_PANELS and not paired and importlib.util.find_spec("memento"):
                p[MEMENTO] = peers.memento_variability(data, "arm")
            covered = intervals_cover(data, typical)
        for method, values in p.items():
            kinds = {"all": ~changed, "rich": ~changed & (mean > RICH), "changed": changed}
            for kind, at in kinds.items():
                if at.any():
                    score = {
                        "rejected": np.mean(values[at] < 0.05),
                        "undefined": np.mean(np.isnan(values[at])),
                        "covered": np.nanmean(covered[at]) if method == OURS else np.nan,
                    }
                    found.setdefault((method, kind), []).append(score)
    return averages(found, ["method", "kind"], row)


def intervals_cover(data: ad.AnnData, typical: np.ndarray) -> np.ndarray:
    """Whether the intervals of the overdispersion in the donors of group a hold its mean; NaN: none."""
    own = data[data.obs["arm"] == 0].copy()
    fit = hc.CSCore(own, "sample", depth="depth").fit(target="gene0", uncertainty="jackknife")
    table = fit.gene_table().reindex(data.var_names)
    low, high = (table[f"overdispersion_{k}"].to_numpy(float) for k in ("lower", "upper"))
    return np.where(np.isfinite(low), (low <= typical) & (typical <= high), np.nan)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    null = table[table["kind"].isin(["all", "rich"])]
    for r in null[null["method"] == OURS].to_dict("records"):
        limit = 0.07 if r["kind"] == "all" else 0.075
        if r["rejected"] > limit + 3 * r["mc_error_rejected"]:
            out.append(f"{r['rejected']:.3f} rejected, {r['kind']}, {r['donors']}, {r['case']}")
        alike = r["kind"] == "all" and "0.4" in r["case"] and r["donors"] >= 10
        if alike and r["covered"] < 0.9 - 3 * r["mc_error_covered"]:
            out.append(f"intervals cover in {r['covered']:.3f}, {r['donors']}, {r['case']}")
    power = table[table["kind"] == "changed"].set_index(["method", "donors"])
    for donors in table["donors"].unique():
        ours, theirs = (power.loc[(m, donors)] for m in OVER_DONORS)
        if ours["rejected"] < theirs["rejected"] - 3 * ours["mc_error_rejected"]:
            out.append(f"power {ours['rejected']:.2f} and {theirs['rejected']:.2f} of {WELCH}")
    units = null[(null["method"] == CELLS_TEST) & (null["kind"] == "all")]
    if units["rejected"].min() < 0.15:
        out.append("cells as units reject few nulls: nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    """Size, power and coverage."""
    out = []
    null, changed = table[table["kind"] == "all"], table[table["kind"] == "changed"]
    rich = table[table["kind"] == "rich"]
    for method in table["method"].unique():
        a, b, c = (t[t["method"] == method] for t in (null, rich, changed))
        power = ", ".join(f"{100 * v:.0f}%" for v in c.sort_values("donors")["rejected"])
        out.append(
            f"{method}: {span(a['rejected'])} of the genes without a difference below 0.05, {span(b['rejected'])} of those with a mean "
            f"count above {RICH:g}; a doubled relative variance found in {power} with "
            f"{', '.join(map(str, sorted(c['donors'].unique())))} donors per group; no p-value for {span(a['undefined'])}."
        )
    own = null[null["method"] == OURS]
    steady = own[own["case"].str.contains("0.4")]
    out.append(
        "95% intervals of the overdispersion in one group cover its mean over the population of donors in "
        + ", ".join(f"{span(g['covered'])} with {d} donors" for d, g in steady.groupby("donors"))
        + " where the log differs by 0.4, and in "
        + ", ".join(
            f"{span(g['covered'])} with {d}" for d, g in own.drop(steady.index).groupby("donors")
        )
        + " where it differs by 0.8: a mean of skewed values, of which few donors have the large ones."
    )
    out.append(
        "memento (memento-de 0.1.3) tests the variance beyond its trend over the means, by 300 bootstraps of cells with samples as replicates; "
        f"it has no pairs, and was run on {MEMENTO_PANELS} panels a cell of the grid. Where it was not installed it is left out."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    style = {
        OURS: ("#0072B2", "o"),
        WELCH: ("#009E73", "^"),
        MEMENTO: ("#56B4E9", "D"),
        CELLS_TEST: ("#D55E00", "x"),
    }
    kind = table["kind"]
    columns = [
        ("rejected", kind == "all", "true nulls, p < 0.05"),
        ("rejected", kind == "rich", f"nulls with a mean above {RICH:g}"),
        ("rejected", kind == "changed", "doubled variances, p < 0.05"),
    ]
    rows = [f"{c}, {d} donors" for c, d in zip(table["case"], table["donors"], strict=True)]
    return {"": dots(table, rows, columns, style, {0: (0.0, 0.07), 1: (0.0, 0.075)})}
