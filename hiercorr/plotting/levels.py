"""Plots that set levels or tests against each other: within and between, the traps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiercorr.errors import InputError
from hiercorr.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hiercorr.exploratory.traps import Traps
    from hiercorr.interpretation.compare import Comparison
    from hiercorr.interpretation.evidence import Evidence

_CLASS = {
    "insufficient": (style.GREY, "o"),
    "cell-state only": (style.BLUE, "s"),
    "between-sample only": (style.GREEN, "D"),
    "both levels": (style.RED, "^"),
    "discordant": (style.PURPLE, "X"),
}


def levels(evidence: Evidence, n_labels: int = 10, ax: Axes | None = None) -> Axes:
    """Correlation between samples against that within, by class of evidence.

    Parameters
    ----------
    evidence : Evidence
    n_labels : int
        Names of the first genes of the table.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    table = evidence.table.dropna(subset=["within_correlation", "between_correlation"])
    if not len(table):
        raise InputError("no gene has an estimate at both levels: there is nothing to show")
    ax = style.axes(ax, 5.4, 5.0)
    for name, (colour, marker) in _CLASS.items():
        part = table[table["evidence"] == name]
        if len(part):
            ax.scatter(
                part["within_correlation"],
                part["between_correlation"],
                s=22,
                c=colour,
                marker=marker,
                alpha=0.75,
                lw=0,
                label=f"{name} ({len(part):,})",
                rasterized=len(table) > 3000,
            )
    ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.axvline(0, color="#bbbbbb", lw=0.8, zorder=0)
    first = table.head(n_labels)
    style.label(
        ax,
        first["within_correlation"].to_numpy(),
        first["between_correlation"].to_numpy(),
        list(first.index),
    )
    ax.set_xlabel(f"correlation with {evidence.target} within samples")
    ax.set_ylabel("between samples")
    ax.legend(
        fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(0, -0.12),
        ncols=3,
        handletextpad=0.1,
    )
    return style.finish(ax, None, f"{evidence.target}: two levels (q < {evidence.q:g})")


def traps(found: Traps, axes: Sequence[Any] | None = None) -> Figure:
    """One panel a trap: dropout, depth, pseudo-replication.

    Parameters
    ----------
    found : Traps
    axes : sequence of three Axes, optional

    Returns
    -------
    Figure
    """
    if axes is None:
        _, axes = style.pyplot().subplots(1, 3, figsize=(12.5, 3.9), layout="constrained")
    if len(axes) != 3:
        raise InputError(f"traps draws on 3 axes, not {len(axes)}")
    t = found.genes
    a, b, c = axes
    a.scatter(t["within"], t["naive"], s=14, c=t["detection"], cmap="viridis", lw=0)
    low, high = np.nanmin(t[["within", "naive"]]), np.nanmax(t[["within", "naive"]])
    a.plot([low, high], [low, high], color=style.GREY, lw=1)
    a.set_xlabel("CS-CORE within samples")
    a.set_ylabel("log-Pearson over cells")
    a.figure.colorbar(a.collections[0], ax=a, label="detection", shrink=0.7)
    style.finish(a, None, f"dropout: correlation with {found.target}")
    bins = np.linspace(-1, 1, 41)
    for name, colour, text in (
        ("depth_raw", style.ORANGE, "raw"),
        ("depth_normalised", style.BLUE, "normalised"),
    ):
        b.hist(t[name].dropna(), bins, color=colour, alpha=0.6, label=text)
    b.axvline(0, color="#444444", lw=0.8)
    b.set_xlabel("correlation of a gene with depth")
    b.set_ylabel("genes")
    b.legend(frameon=False, fontsize=8)
    style.finish(b, None, "depth")
    expected = -np.log10((np.arange(len(t)) + 0.5) / len(t))
    for name, colour, marker, text in (
        ("p_cells", style.RED, "x", "cells as units"),
        ("p_shuffled", style.ORANGE, "+", "cells, target shuffled in samples"),
        ("p_within", style.BLUE, "o", "samples, within"),
        ("p_between", style.GREEN, "s", "samples, between"),
    ):
        p = np.sort(t[name].dropna().clip(lower=1e-50))
        c.plot(expected[: len(p)], -np.log10(p), marker, color=colour, ms=4, ls="", label=text)
    c.plot(expected, expected, color=style.GREY, lw=1)
    c.set_yscale("symlog", linthresh=5)
    c.set_xlabel("-log10 p, uniform")
    c.set_ylabel("-log10 p (cut at 50)")
    c.legend(
        frameon=False,
        fontsize=7,
        loc="upper left",
        bbox_to_anchor=(-0.1, -0.16),
        ncols=2,
        handletextpad=0.1,
    )
    style.finish(c, None, "pseudo-replication")
    return a.figure


def comparison(compared: Comparison, ax: Axes | None = None) -> Axes:
    """Estimates and intervals of several results for the same pairs, level by level.

    Parameters
    ----------
    compared : Comparison
        From :func:`hiercorr.compare`.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    table = compared.table
    groups = list(dict.fromkeys(zip(table["gene_a"], table["gene_b"], table["level"], strict=True)))
    names = list(dict.fromkeys(table["result"]))
    ax = style.axes(ax, 6.0, 1.2 + 0.42 * len(groups))
    for k, name in enumerate(names):
        part = table[table["result"] == name]
        at = [
            groups.index(g) for g in zip(part["gene_a"], part["gene_b"], part["level"], strict=True)
        ]
        y = np.array(at) + (k - (len(names) - 1) / 2) * 0.6 / max(len(names), 2)
        x, low, high = (part[c].to_numpy() for c in ("correlation", "ci_lower", "ci_upper"))
        colour = style.PALETTE[k % len(style.PALETTE)]
        ax.hlines(y, low, high, color=colour, lw=1.3)
        ax.plot(x, y, style.MARKERS[k % len(style.MARKERS)], color=colour, ms=5, ls="", label=name)
    ax.axvline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.set_yticks(range(len(groups)), [f"{a} - {b}, {level}" for a, b, level in groups])
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.set_xlim(-1.02, 1.02)
    ax.set_xlabel("correlation (within: of expression; between: of log expression)")
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return style.finish(ax, None, "the same pairs by several models")
