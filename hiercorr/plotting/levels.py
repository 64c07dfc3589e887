"""Plots that compare levels, models or units: evidence, comparisons, traps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.pairs import effects

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_OF_THREE = 6.0  # inches: panels stand in a column on narrower figures
_LINEAR = 5.0  # -log10 p-values above are on a logarithmic scale
_LEVELS = ("within", "between")
_CLASS = {
    "insufficient": (style.GREY, "o"),
    "cell-state only": (style.BLUE, "s"),
    "between-sample only": (style.GREEN, "D"),
    "both levels": (style.RED, "^"),
    "discordant": (style.PURPLE, "X"),
}


class EvidenceLike(Protocol):
    """The attributes of :class:`hiercorr.Evidence` that are plotted."""

    @property
    def target(self) -> str | None:
        """The gene whose partners are classified; None for several, or listed pairs."""

    @property
    def scope(self) -> str:
        """The pairs that are classified."""

    @property
    def table(self) -> pd.DataFrame:
        """Estimates at both levels and class of evidence, one row per gene or pair."""

    @property
    def q(self) -> float:
        """Threshold of the classes."""


class TrapsLike(Protocol):
    """The attributes of :class:`hiercorr.Traps` that are plotted."""

    @property
    def target(self) -> str:
        """The gene whose correlations are examined."""

    @property
    def genes(self) -> pd.DataFrame:
        """Effects of the traps, one row per gene."""


class ComparisonLike(Protocol):
    """The attributes of :class:`hiercorr.Comparison` that are plotted."""

    @property
    def table(self) -> pd.DataFrame:
        """Estimates, one row per pair, level and result."""


@style.verbatim
def levels(evidence: EvidenceLike, n_labels: int = 10, ax: Axes | None = None) -> Axes:
    """Plot correlations between samples against those within samples, by class of evidence.

    Parameters
    ----------
    evidence : Evidence
        From :func:`hiercorr.evidence`.
    n_labels : int
        Number of genes or pairs to label, from the top of the table.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    table = evidence.table.assign(
        **{f"{level}_position": effects(evidence.table, f"{level}_") for level in _LEVELS}
    ).dropna(subset=[f"{level}_position" for level in _LEVELS])
    if not len(table):
        noun = "gene" if evidence.target else "pair"
        raise InputError(f"no {noun} has an estimate at both levels: there is nothing to show")
    now = style.look()
    ax = style.axes(ax, 5.4, 5.0)
    for name, (colour, marker) in _CLASS.items():
        part = table[table["evidence"] == name]
        if len(part):
            ax.scatter(
                part["within_position"],
                part["between_position"],
                s=now.area(22),
                c=colour,
                marker=marker,
                alpha=0.75,
                lw=0,
                label=f"{name} ({len(part):,})",
                rasterized=len(table) > style.MANY_POINTS,
            )
    inside = table[[f"{level}_correlation" for level in _LEVELS]].sum(axis=1, skipna=False)
    style.mark_beyond(ax, table["within_position"], table["between_position"], inside)
    ax.axhline(0, **style.ZERO_LINE)
    ax.axvline(0, **style.ZERO_LINE)
    of = f" with {evidence.target}" if evidence.target else ""
    ax.set_xlabel(f"correlation{of} within samples")
    ax.set_ylabel(f"correlation{of} between samples")
    style.legend(ax)
    about = f"{evidence.target}: " if evidence.target else f"{evidence.scope}\n"
    style.finish(ax, None, f"{about}evidence at two levels (q < {evidence.q:g})")
    points = tuple(table[f"{level}_position"].to_numpy() for level in _LEVELS)
    x, y = (v[:n_labels] for v in points)
    names = ["-".join(n) if isinstance(n, tuple) else n for n in table.index[:n_labels]]
    style.label(ax, x, y, names, (points[0], points[1]))
    return ax


@style.verbatim
def traps(found: TrapsLike, axes: Sequence[Any] | None = None) -> Figure:
    """Plot dropout, sequencing depth and pseudoreplication, one panel each.

    Parameters
    ----------
    found : Traps
        From :func:`hiercorr.traps`.
    axes : sequence of three Axes, optional

    Returns
    -------
    Figure
    """
    if axes is None:
        size = style.figure_size(12.5, 4.1, of_lines=False)
        column = size[0] < _ROW_OF_THREE
        if column:
            size = (size[0], 2.4 * size[0])
        shape = (3, 1) if column else (1, 3)
        _, axes = style.pyplot().subplots(*shape, figsize=size, layout="constrained")
    if len(axes) != 3:
        raise InputError(f"traps needs 3 axes, not {len(axes)}")
    dropout, depth, replication = axes
    _dropout(dropout, found.genes, found.target)
    _depth(depth, found.genes)
    _pseudoreplication(replication, found.genes)
    return dropout.figure


def _dropout(ax: Axes, genes: pd.DataFrame, target: str) -> None:
    """Plot log-normalised correlations of cells against corrected ones."""
    now = style.look()
    points = ax.scatter(
        genes["within"],
        genes["naive"],
        s=now.area(14),
        c=genes["detection"],
        cmap="viridis",
        lw=0,
        rasterized=len(genes) > style.MANY_POINTS,
    )
    limits = [np.nanmin(genes[["within", "naive"]]), np.nanmax(genes[["within", "naive"]])]
    ax.plot(limits, limits, color=style.GREY, lw=now.lw(1), zorder=0)
    ax.set_xlabel("CS-CORE, within samples")
    ax.set_ylabel("Pearson, log-normalised cells")
    bar = ax.figure.colorbar(points, ax=ax, shrink=0.9)
    bar.set_label("detection (proportion of cells)", fontsize=now.text)
    bar.ax.tick_params(labelsize=now.small)
    bar.outline.set_visible(False)
    style.finish(ax, None, f"dropout: correlation with {target}")


def _depth(ax: Axes, genes: pd.DataFrame) -> None:
    """Plot histograms of the correlation of genes with sequencing depth."""
    bins = list(np.linspace(-1, 1, 41))
    for name, colour, text in (
        ("depth_raw", style.ORANGE, "raw"),
        ("depth_normalised", style.BLUE, "normalised"),
    ):
        ax.hist(genes[name].dropna(), bins, color=colour, alpha=0.6, label=text)
    ax.axvline(0, color="#444444", lw=style.look().lw(0.8))
    ax.set_xlabel("correlation with sequencing depth")
    ax.set_ylabel("number of genes")
    style.legend(ax)
    style.finish(ax, None, "sequencing depth")


def _pseudoreplication(ax: Axes, genes: pd.DataFrame) -> None:
    """Plot quantiles of p-values with cells and with samples as units."""
    now = style.look()
    expected = -np.log10((np.arange(len(genes)) + 0.5) / len(genes))
    for name, colour, marker, text in (
        ("p_cells", style.RED, "x", "cells as units"),
        ("p_shuffled", style.ORANGE, "+", "cells as units, target shuffled"),
        ("p_within", style.BLUE, "o", "samples as units, within"),
        ("p_between", style.GREEN, "s", "samples as units, between"),
    ):
        p = np.sort(genes[name].dropna().clip(lower=1e-50))
        ax.plot(
            expected[: len(p)],
            -np.log10(p),
            marker,
            color=colour,
            ms=now.ms(4),
            mew=now.lw(1),
            ls="",
            label=text,
            rasterized=len(genes) > style.MANY_POINTS,
        )
    ax.plot(expected, expected, color=style.GREY, lw=now.lw(1))
    if ax.get_ylim()[1] > _LINEAR:
        ax.set_yscale("symlog", linthresh=_LINEAR)
        ax.set_yticks([0, 2, 4, 10, 20, 50], ["0", "2", "4", "10", "20", "50"])
        ax.minorticks_off()
    ax.set_xlabel("expected -log10 p-value")
    ax.set_ylabel("observed -log10 p-value (max. 50)")
    style.legend(ax)
    style.finish(ax, None, "pseudoreplication")


@style.verbatim
def comparison(compared: ComparisonLike, ax: Axes | None = None) -> Axes:
    """Plot the estimates and intervals of several results, pair by pair and level by level.

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
    now = style.look()
    ax = style.axes(ax, 6.0, 1.4 + 0.42 * len(groups), of_lines=True)
    for k, name in enumerate(names):
        part = table[table["result"] == name]
        row = [
            groups.index(g) for g in zip(part["gene_a"], part["gene_b"], part["level"], strict=True)
        ]
        y = np.array(row) + (k - (len(names) - 1) / 2) * 0.6 / max(len(names), 2)
        x, low, high = (part[c].to_numpy() for c in ("correlation", "ci_lower", "ci_upper"))
        colour = style.PALETTE[k % len(style.PALETTE)]
        ax.hlines(y, low, high, color=colour, lw=now.lw(1.3))
        marker, size = style.MARKERS[k % len(style.MARKERS)], now.ms(5)
        ax.plot(x, y, marker, color=colour, ms=size, mew=0, ls="", label=name)
    ax.axvline(0, **style.ZERO_LINE)
    rows = [f"{a}\u2013{b}, {level}" for a, b, level in groups]
    ax.set_yticks(range(len(groups)), rows, fontsize=now.small)
    for k in range(1, len(groups), 2):
        ax.axhspan(k - 0.5, k + 0.5, color="#f4f4f4", lw=0, zorder=-1)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.set_xlim(-1.02, 1.02)
    ax.set_xlabel("correlation (within: expression; between: log expression)")
    style.legend(ax)
    return style.finish(ax, None, "estimates of the same pairs by model")
