"""Prediction intervals for single pairs: what the correlation of a new donor will be."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats

import hiercorr as hc
from validation.figures import dots
from validation.pages import span
from validation.populations import Population, draw
from validation.screens import OPTIONS

CLAIM = (
    "Where each pair is judged by its own donors (uncertainty='jackknife', per_sample=True), the 95% prediction interval holds the "
    "correlation of a new donor in 92-99%, with 4 to 12 donors, sparse and rich genes, and a standard deviation between donors "
    "of 0 to 0.3. The common formula, with the estimate of tau^2 as if it were known, holds it in less than 90% somewhere."
)
MODELS = ["within"]
SEED = 20261218
REPLICATES = 20
QUICK_REPLICATES = 3
GENES = 32
CELLS = 400
NEW_DONORS = 40
METHODS = ("over the distribution of tau^2", "tau^2 as if known")


def grid(quick: bool) -> pd.DataFrame:
    """Donors, sparse and rich genes, heterogeneity of related pairs."""
    if quick:
        rows = [(6, 1.5, 0.2)]
    else:
        rows = [(d, m, t) for d in (4, 6, 12) for m in (0.5, 3.0) for t in (0.0, 0.1, 0.2, 0.3)]
    return pd.DataFrame(rows, columns=["donors", "mean", "tau"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Half of the genes are related, in blocks that have a correlation in each donor."""
    world = Population(means=(row["mean"],), spread=row["tau"])
    found: dict[tuple, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        data = draw(world, np.full(row["donors"], CELLS), GENES, rng)
        future = world.related_correlations(np.zeros(NEW_DONORS, bool), rng)[:, None]
        future = np.where(data.related, future, 0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            d = (
                hc.CSCore(data.adata, **OPTIONS)
                .fit(uncertainty="jackknife", per_sample=True)
                .dataset
            )
        limits = {METHODS[0]: [d[f"prediction_{k}"].values[data.pairs] for k in ("lower", "upper")]}
        limits[METHODS[1]] = _plain(d, data.pairs)
        within = [d[f"ci_{k}"].values[data.pairs] for k in ("lower", "upper")]
        for method, (low, high) in limits.items():
            for kind, mask in (("related", data.related), ("independent", data.independent)):
                at = mask & np.isfinite(low)
                inside = (low[at] <= future[:, at]) & (future[:, at] <= high[at])
                narrower = (low > within[0] + 1e-6) | (high < within[1] - 1e-6)
                found.setdefault((method, kind), []).append(
                    {
                        "new_donors": inside.mean() if at.any() else np.nan,
                        "width": np.median((high - low)[at]) if at.any() else np.nan,
                        "inside_interval": narrower[at].mean() if at.any() else np.nan,
                        "undefined": 1 - at.sum() / mask.sum(),
                    }
                )
    rows = []
    for (method, kind), scores in found.items():
        t = pd.DataFrame(scores)
        out = {"method": method, "pairs": kind, "panels": len(t)}
        error = {"mc_error_new_donors": t["new_donors"].sem()}
        rows.append(out | error | t.mean().to_dict() | row)
    return pd.DataFrame(rows)


def _plain(d, pairs) -> list[np.ndarray]:
    """Higgins, Thompson & Spiegelhalter 2009: mean and tau^2 by Paule-Mandel, t with k - 1 df."""
    z = np.arctanh(d["sample_correlation"].values[..., *pairs])
    v = d["sample_se"].values[..., *pairs] ** 2
    tau2 = d["tau2"].values[pairs]
    w = 1 / (v + tau2)
    mean, k = (w * z).sum(0) / w.sum(0), len(z)
    se2 = (w * (z - mean) ** 2).sum(0) / (k - 1) / w.sum(0)
    half = stats.t.ppf(0.975, k - 1) * np.sqrt(tau2 + se2)
    return [np.tanh(mean - half), np.tanh(mean + half)]


def verdict(table: pd.DataFrame) -> list[str]:
    """Cells of the grid that refute the claim, allowing three Monte-Carlo errors."""
    out = []
    ours = table[table["method"] == METHODS[0]]
    for r in ours.to_dict("records"):
        slack = 3 * r["mc_error_new_donors"]
        least, most = (0.92, 0.99) if r["pairs"] == "related" else (0.92, 1.0)
        if not least - slack <= r["new_donors"] <= most + slack:
            out.append(f"{r['new_donors']:.3f} of new donors inside, {_where(r)}")
    plain = table[table["method"] == METHODS[1]]
    if plain["new_donors"].min() >= 0.9:
        out.append("the common formula does as well: nothing is shown")
    return out


def _where(r: dict) -> str:
    return f"{r['pairs']} pairs, {r['donors']} donors, mean {r['mean']:.1f}, tau {r['tau']:.1f}"


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for (method, pairs), g in table.groupby(["method", "pairs"], sort=False):
        listed = ", ".join(f"{span(p['new_donors'])} with {d}" for d, p in g.groupby("donors"))
        out.append(
            f"{method}, {pairs} pairs: correlation of a new donor inside in {listed} donors; median width "
            f"{g['width'].min():.2f}-{g['width'].max():.2f}."
        )
    first, second = (table[table["method"] == m]["inside_interval"] for m in METHODS)
    out += [
        f"The prediction interval does not contain the interval of the mean in {span(first)} of the pairs by ours, {span(second)} by the "
        "common formula.",
        "A new donor's correlation is drawn from the population; that of independent pairs is 0 in every donor. Pairs with a donor whose "
        "counts say nothing of it have no prediction interval.",
        "Where we are worse: the intervals are wider, with 4 donors so wide that they say little.",
    ]
    return out


def figures(table: pd.DataFrame) -> dict:
    """Coverage and width, a line for each setting."""
    style = {METHODS[0]: ("#0072B2", "o"), METHODS[1]: ("#000000", "x")}
    related = table["pairs"] == "related"
    columns = [
        ("new_donors", related, "new donors inside, related pairs"),
        ("new_donors", ~related, "new donors inside, independent pairs"),
        ("width", related, "median width, related pairs"),
    ]
    rows = [
        f"{d} donors, mean {m:.1f}, tau {t:.1f}"
        for d, m, t in zip(table["donors"], table["mean"], table["tau"], strict=True)
    ]
    return {"": dots(table, rows, columns, style, {0: (0.92, 0.99), 1: (0.92, 1.0)})}
