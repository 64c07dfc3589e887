"""Plots of per-sample estimates (forest, strip) and diagnostics of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.pairs import estimates, row_of
from hiercorr.results.result import CorrelationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@style.verbatim
def forest(
    result: CorrelationResult, gene_a: str, gene_b: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the correlation of a pair per sample and overall, with the prediction interval.

    Parameters
    ----------
    result : CorrelationResult
        Fitted with ``per_sample=True``.
    gene_a, gene_b : str
        The pair; one gene suffices if the result has a target.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    table = result.sample_table(gene_a, gene_b)
    first, second = (gene_a, gene_b) if gene_b is not None else (result.target, gene_a)
    pair = row_of(result.dataset, first)[1].sel(gene=second)
    known = table[table["correlation"].notna()].iloc[::-1]
    if not len(known):
        raise InputError(
            f"the correlation of {first!r} and {second!r} is not estimable in any sample"
        )
    ax = style.axes(ax, 5.2, 1.4 + 0.28 * len(known))
    y = np.arange(len(known)) + 2
    z, se = np.arctanh(known["correlation"].clip(-0.9999, 0.9999)), known["fisher_z_se"]
    has_se = se.notna().to_numpy()
    lower, upper = np.tanh(z - 1.96 * se), np.tanh(z + 1.96 * se)
    ax.hlines(y[has_se], lower[has_se], upper[has_se], color=style.GREY, lw=1.4)
    size = 20 + 80 * known["n_cells"] / known["n_cells"].max()
    ax.scatter(known["correlation"], y, s=size, marker="s", color=style.BLUE, zorder=3)
    value = {v: float(pair[v]) for v in ("ci_lower", "ci_upper")}
    value["correlation"] = float(estimates(pair))
    if np.isfinite(value["ci_lower"]):
        ax.fill(
            [value["ci_lower"], value["correlation"], value["ci_upper"], value["correlation"]],
            [1, 1.28, 1, 0.72],
            color=style.RED,
            zorder=3,
        )
    else:
        ax.plot(value["correlation"], 1, "D", color=style.RED, ms=8)
    labels = [
        "all samples",
        *(f"{s} ({n:,})" for s, n in zip(known.index, known["n_cells"], strict=True)),
    ]
    ticks = [1, *y]
    if "prediction_lower" in pair and np.isfinite(float(pair["prediction_lower"])):
        ax.hlines(
            0,
            float(pair["prediction_lower"]),
            float(pair["prediction_upper"]),
            color=style.RED,
            lw=2,
            ls=":",
        )
        ticks, labels = [0, *ticks], ["a new sample (95%)", *labels]
    ax.axvline(0, **style.ZERO_LINE)
    ax.set_yticks(ticks, labels, fontsize=8)
    ax.set_ylim(-0.6, len(known) + 1.6)
    missing = len(table) - len(known)
    ax.set_xlabel(
        "correlation (95% interval)" + (f"; not estimable in {missing} samples" if missing else "")
    )
    return style.finish(ax, result, f"{first} and {second}")


@style.verbatim
def strip(
    result: CorrelationResult, gene: str | None = None, n: int = 20, ax: Axes | None = None
) -> Axes:
    """Plot the per-sample and overall correlations of the partners with the strongest evidence.

    Parameters
    ----------
    result : CorrelationResult
        Fitted with ``per_sample=True``.
    gene : str, optional
    n : int
        Number of partners.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    if "sample_correlation" not in result.dataset:
        raise InputError("per-sample estimates were not kept; fit with per_sample=True")
    name, table = style.partners(result, gene)
    total = len(table)
    table = table.head(n).sort_values("position", ascending=False)
    values = row_of(result.dataset, name)[1]["sample_correlation"].sel(gene=list(table.index))
    samples = values["sample"].values
    ax = style.axes(ax, 1.6 + 0.3 * len(table), 4.0)
    x = np.arange(len(table))
    offset = np.linspace(-0.25, 0.25, len(samples)) if len(samples) > 1 else np.zeros(1)
    few = len(samples) <= len(style.PALETTE)
    for k, sample in enumerate(samples):
        ax.plot(
            x + offset[k],
            values.sel(sample=sample),
            style.MARKERS[k % len(style.MARKERS)] if few else "o",
            ms=4,
            alpha=0.8,
            color=style.PALETTE[k] if few else style.GREY,
            label=str(sample) if few else None,
            ls="",
        )
    ax.hlines(table["position"], x - 0.38, x + 0.38, color="#222222", lw=1.6, zorder=3)
    ax.axhline(0, **style.ZERO_LINE)
    ax.set_xticks(x, table.index, rotation=90, fontsize=8)
    ax.set_xlim(-0.6, len(table) - 0.4)
    ax.set_xlabel("points: samples, lines: all samples")
    ax.set_ylabel(f"correlation with {name}")
    if few:
        ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return style.finish(ax, result, f"partners of {name}{style.shown_partners(table, total)}")


@style.verbatim
def diagnostics(result: CorrelationResult, ax: Axes | None = None) -> Axes:
    """Plot the size of each gene's correlations against its detection, by flag.

    Parameters
    ----------
    result : CorrelationResult
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    table = result.gene_table()
    r = np.array(result.matrix(), float)
    if result.target is None:
        np.fill_diagonal(r, np.nan)
    else:
        r[0, list(result.genes).index(result.target)] = np.nan
    with np.errstate(invalid="ignore"):
        size = np.array(
            [np.median(np.abs(c[np.isfinite(c)])) if np.isfinite(c).any() else np.nan for c in r.T]
        )
    missing = np.isnan(size)
    if result.target is not None:
        table, size, missing = (v[result.genes != result.target] for v in (table, size, missing))
    ax = style.axes(ax)
    flagged = (
        (table["gene_flag"] != "").to_numpy()
        if "gene_flag" in table
        else np.zeros(len(table), bool)
    )
    for mask, colour, marker, text in (
        (~flagged & ~missing, style.BLUE, "o", "not flagged"),
        (flagged & ~missing, style.ORANGE, "x", "flagged"),
    ):
        ax.scatter(
            table["detection"][mask],
            size[mask],
            s=16,
            c=colour,
            marker=marker,
            alpha=0.7,
            lw=1 if marker == "x" else 0,
            label=f"{text} ({int(mask.sum()):,})",
            rasterized=len(table) > style.MANY_POINTS,
        )
    ax.plot([], [], " ", label=f"not estimable ({int(missing.sum()):,})")
    ax.set_xlabel("proportion of cells with a count")
    ax.set_ylabel(
        "median |correlation|" if result.target is None else f"|correlation with {result.target}|"
    )
    ax.legend(fontsize=8, frameon=False)
    return style.finish(ax, result, "genes: detection and correlation")
