"""Local false sign rates and shrunken estimates of screens with 3 to 10 donors."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.inference.shrinkage import learn_effects, shrink
from validation.figures import dots
from validation.pages import span
from validation.populations import Draw, draw
from validation.screens import OPTIONS, adjusted
from validation.studies.screens import CELLS, GENES, WORLDS

CLAIM = (
    "Of the pairs that result.shrink() gives a local false sign rate below 0.05, at most 5% have the wrong sign or no correlation, in "
    "every world with 3 to 10 donors, and panels without related pairs have hardly any. Shrunken estimates are nearer to the truth "
    "than those of the fit: their root mean square error is at most half as large. Taken over cells, as adaptive shrinkage of plain "
    "correlations is, most such pairs are false where correlations change from donor to donor."
)
MODELS = ["within"]
SEED = 20261219
REPLICATES = 12
QUICK_REPLICATES = 2
DONORS = (3, 4, 6, 10)
CHOSEN = (
    "homogeneous",
    "normal heterogeneity",
    "40% change, weak",
    "40% change, strong",
    "sparse and rich",
    "gamma, donors alike",
    "an outlying donor",
    "null",
    "null, 40% change, strong",
)
METHODS = ("donors, all pairs", "jackknife", "cells")
ERRORS = ("false", "found", "list_false")


def grid(quick: bool) -> pd.DataFrame:
    """Worlds of the study of screens by donors."""
    rows = [("homogeneous", 4)] if quick else [(w, d) for w in CHOSEN for d in DONORS]
    return pd.DataFrame(rows, columns=["world", "donors"])


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Score the pairs with a local false sign rate below 0.05, and the estimates of all pairs."""
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        data = draw(WORLDS[row["world"]], np.full(row["donors"], CELLS), GENES, rng)
        for method, values in _methods(data).items():
            found.setdefault(method, []).append(_score(*values, data))
    rows = []
    for method, scores in found.items():
        t = pd.DataFrame(scores)
        errors = {f"mc_error_{k}": t[k].sem() for k in ERRORS}
        rows.append({"method": method, "panels": len(t)} | t.mean().to_dict() | errors | row)
    return pd.DataFrame(rows)


def _methods(data: Draw) -> dict[str, tuple[np.ndarray, ...]]:
    """p-values, estimates, local false sign rates and shrunken estimates of the pairs."""
    out = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.CSCore(data.adata, **OPTIONS)
        for method, uncertainty in zip(METHODS, ("hierarchical", "jackknife"), strict=False):
            d = model.fit(uncertainty=uncertainty).shrink().dataset
            names = ("p_value", "correlation_unclipped", "lfsr", "shrunken_correlation")
            out[method] = tuple(d[k].values[data.pairs].astype(float) for k in names)
    x = np.log1p(data.adata.X.toarray() / data.adata.obs["depth"].to_numpy()[:, None] * 1e4)
    r = np.corrcoef(x.T)[data.pairs]
    z = np.arctanh(r) * np.sqrt(len(x) - 3)
    lfsr, factor = shrink(z, learn_effects(z))
    out["cells"] = np.full(len(r), np.nan), r, lfsr, factor * r
    return out


def _score(
    p: np.ndarray, r: np.ndarray, lfsr: np.ndarray, shrunken: np.ndarray, data: Draw
) -> dict:
    truth = np.where(data.related, data.truth, 0.0)
    wrong = ~data.related | (np.sign(r) != np.sign(truth))
    call, listed = lfsr < 0.05, adjusted(p) < 0.05
    known = np.isfinite(lfsr)
    return {
        "calls": call.sum(),
        "false": (call & wrong).sum() / max(call.sum(), 1),
        "expected": np.nanmean(lfsr[call]) if call.any() else 0.0,
        "found": call[data.related].mean() if data.related.any() else np.nan,
        "list_false": (listed & wrong).sum() / max(listed.sum(), 1),
        "list_found": listed[data.related].mean() if data.related.any() else np.nan,
        "rmse": np.sqrt(np.mean((shrunken - truth)[known] ** 2)),
        "rmse_raw": np.sqrt(np.mean((r - truth)[known] ** 2)),
    }


def verdict(table: pd.DataFrame) -> list[str]:
    """Cells of the grid that refute the claim, allowing three Monte-Carlo errors."""
    out = []
    for r in table[table["method"] == METHODS[0]].to_dict("records"):
        where = f"{r['world']}, {r['donors']} donors"
        if not r["world"].startswith("null"):
            if r["false"] > 0.05 + 3 * r["mc_error_false"]:
                out.append(f"{r['false']:.3f} of the pairs are false, {where}")
        elif r["calls"] > 0.5:
            out.append(f"{r['calls']:.2f} pairs a panel, {where}")
        if r["rmse"] > 0.5 * r["rmse_raw"]:
            out.append(f"errors {r['rmse']:.3f} and {r['rmse_raw']:.3f}, {where}")
    cells = table[(table["method"] == "cells") & table["world"].str.contains("change")]
    if len(cells) and not (cells["false"] > 0.5).any():
        out.append("cells as units do no harm: nothing is shown")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    real = table[~table["world"].str.startswith("null")]
    out = []
    for method, g in real.groupby("method", sort=False):
        out.append(
            f"{method}: {span(g['false'])} of the pairs with a local false sign rate below 0.05 are false, {span(g['found'], 0)} of the "
            f"related pairs are among them; root mean square error {g['rmse'].min():.3f}-{g['rmse'].max():.3f}, of the estimates as they "
            f"are {g['rmse_raw'].min():.3f}-{g['rmse_raw'].max():.3f}."
        )
    ours = real[real["method"] == METHODS[0]]
    out.append(
        f"The same p-values in a list at q < 0.05: {span(ours['list_false'])} false, {span(ours['list_found'], 0)} of the related pairs "
        "found. A list may hold 5% of false pairs on average, which the last of them makes up for by being less certain; the local rate "
        "asks it of each pair."
    )
    out.append(_margin(ours))
    null = table[table["world"].str.startswith("null") & (table["method"] == METHODS[0])]
    if len(null):
        out.append(f"Panels without related pairs: at most {null['calls'].max():.2f} pairs each.")
    out.append(
        "Where we are worse: fewer pairs are found than by q-values, and shrinkage towards zero biases the estimates of related pairs, by "
        "design; intervals are not shrunk."
    )
    return out


def _margin(ours: pd.DataFrame) -> str:
    """Say which settings read more than 5%, on how many pairs that rests, and the overall rate."""
    above = ours[ours["false"] > 0.05]
    settings = "; ".join(
        f"{r['world']}, {r['donors']} donors: {100 * r['false']:.1f}% (Monte-Carlo error {100 * r['mc_error_false']:.1f}; "
        f"pairs called in all {r['panels']} panels: {r['calls'] * r['panels']:.0f})"
        for r in above.to_dict("records")
    )
    overall = (
        f"All settings together, weighted by the number of pairs: {np.average(ours['false'], weights=ours['calls']):.1%} are false, "
        f"where their local false sign rates average {np.average(ours['expected'], weights=ours['calls']):.1%}"
    )
    if not len(above):
        return f"{overall}. No setting reads more than 5%."
    return (
        f"The percentages are averages over panels of the false proportion, 0 where a panel has no such pair; the claim allows three "
        f"Monte-Carlo errors of them. {len(above)} of {len(ours)} settings read more than 5%: {settings}. {overall}."
    )


def figures(table: pd.DataFrame) -> dict:
    """False pairs, pairs found and errors, a line for each setting."""
    style = {
        METHODS[0]: ("#0072B2", "o"),
        METHODS[1]: ("#000000", "s"),
        METHODS[2]: ("#D55E00", "x"),
    }
    table = table[~table["world"].str.startswith("null")]
    table = table.assign(gain=table["rmse"] / table["rmse_raw"])
    every = pd.Series(True, table.index)
    columns = [
        ("false", every, "false among lfsr < 0.05"),
        ("found", every, "related pairs with lfsr < 0.05"),
        ("gain", every, "error of shrunken / raw estimates"),
    ]
    rows = [f"{w}, {d} donors" for w, d in zip(table["world"], table["donors"], strict=True)]
    return {"": dots(table, rows, columns, style, {0: (0.0, 0.05)})}
