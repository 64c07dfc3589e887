"""Shared elements of all plots: axes, colours, labels, titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from hiercorr.errors import InputError
from hiercorr.results.pairs import effect_name, effects, row_of, shrunken_name
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe & Ito, safe for colour-blind readers.
BLUE, RED, GREEN, ORANGE, PURPLE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#8a8a8a",
)
PALETTE = [BLUE, RED, GREEN, ORANGE, PURPLE, SKY, "#F0E442", "#000000"]
MARKERS = "osD^v<>Ph*"
ZERO_LINE: dict[str, Any] = {"color": "#bbbbbb", "lw": 0.8, "zorder": 0}
MANY_POINTS = 3000  # more points than this are rasterised in vector files


P = ParamSpec("P")
R = TypeVar("R")


def verbatim(plot: Callable[P, R]) -> Callable[P, R]:
    """Show names as they are written: a dollar sign in the name of a gene begins no formula."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with optional("matplotlib", "plots").rc_context({"text.parse_math": False}):
            out = plot(*args, **kwargs)
        for ax in np.ravel(np.asarray(getattr(out, "axes", out), object)):
            texts = [ax.title, ax.xaxis.label, ax.yaxis.label]
            for axis in (ax.xaxis, ax.yaxis):  # powers of ten are formulas of matplotlib itself
                for text in axis.get_ticklabels(which="both"):
                    text.set_parse_math(axis.get_scale() in ("log", "symlog"))
            for text in texts:
                text.set_parse_math(False)
        return out

    return draw


def pyplot() -> Any:
    """Import matplotlib.pyplot."""
    return optional("matplotlib.pyplot", "plots")


def axes(ax: Axes | None, width: float = 5.0, height: float = 4.0) -> Axes:
    """Return the given axes, or create a figure of this size in inches."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    return ax


def save(figure: Any, file: Any, kind: str, dpi: int = 300) -> None:
    """Write a figure with text that can be edited (PDF, SVG), or as PNG.

    Parameters
    ----------
    figure : Figure
    file : path or binary file
    kind : {"pdf", "svg", "png"}
    dpi : int
        Resolution of PNG and of rasterised parts.
    """
    fonts = ["Arial", "Helvetica", "DejaVu Sans"]
    fixed = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "hiercorr"}
    # A layout engine keeps everything inside of the figure, and drawing it once more takes as long.
    box = None if figure.get_layout_engine() is not None else "tight"
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    with optional("matplotlib", "figures").rc_context({**fixed, "font.sans-serif": fonts}):
        figure.savefig(file, format=kind, dpi=dpi, bbox_inches=box, metadata=dates[kind])


def finish(ax: Axes, result: CorrelationResult | None, title: str) -> Axes:
    """Set the title, marked as exploratory where the result is, and remove spines."""
    exploratory = result is not None and bool(result.dataset.attrs.get("exploratory"))
    ax.set_title(f"{title} (exploratory)" if exploratory else title, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend_below(ax: Axes, x: float, y: float, ncols: int, fontsize: int = 8) -> None:
    """Place the legend below the axes, with its upper left corner at (x, y)."""
    ax.legend(
        fontsize=fontsize,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=ncols,
        handletextpad=0.1,
    )


def label(ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> None:
    """Label points, moving the labels so that they do not overlap."""
    if not len(names):
        return
    texts = [ax.text(a, b, n, fontsize=8) for a, b, n in zip(x, y, names, strict=True)]
    adjust_text = optional("adjustText", "labels").adjust_text
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.06 * (high - low), high + 0.12 * (high - low))  # room for moved labels
    ax.figure.canvas.draw()
    adjust_text(
        texts,
        x=list(x),
        y=list(y),
        ax=ax,
        expand=(1.15, 1.5),
        force_text=(0.4, 0.6),
        force_explode=(0.4, 0.8),
        iter_lim=400,
        arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
    )


def partners(
    result: CorrelationResult, gene: str | None, shrunken: bool = False
) -> tuple[str, pd.DataFrame]:
    """Tabulate the partners of a gene that could be estimated, strongest evidence first.

    The column ``position`` is the correlation, at -1 or 1 for estimates beyond, or the difference
    where differences were tested; or the shrunken estimate, by whose size the partners are sorted
    then.
    """
    name, _ = row_of(result.dataset, gene)
    sort_by = "shrunken" if shrunken else "p_value"
    table = result.top(name, n=len(result.genes), sort_by=sort_by)
    table = table.assign(position=positions(result, table, shrunken))
    table = table[table["position"].notna()]
    if not len(table):
        raise InputError(f"no partner of {name!r} could be estimated: there is nothing to show")
    return name, table


def positions(result: CorrelationResult, table: pd.DataFrame, shrunken: bool) -> pd.Series:
    """Return the correlations of a table of pairs, at -1 or 1 beyond; or shrunken estimates."""
    return table[shrunken_name(result.dataset)] if shrunken else effects(table)


def mark_beyond(ax: Axes, x: pd.Series, y: Any, correlation: pd.Series) -> None:
    """Mark the points whose estimate lies beyond -1 or 1: they are drawn at the boundary."""
    beyond = correlation.isna().to_numpy() & x.notna().to_numpy()
    if beyond.any():
        text = f"estimate beyond -1 or 1 ({int(beyond.sum()):,})"
        ax.scatter(
            x[beyond], np.asarray(y)[beyond], s=90, marker="|", c="#222222", lw=1.2, label=text
        )


def effect_text(result: CorrelationResult, shrunken: bool = False) -> str:
    """Describe the quantity that was tested, or its shrunken estimate, as the label of an axis."""
    if shrunken:
        return shrunken_name(result.dataset).replace("_", " ")
    if effect_name(result.dataset.data_vars) == "correlation":
        return "correlation"
    a = result.dataset.attrs
    kind = "slope" if a.get("contrast") == a.get("condition") else "difference"
    return f"{kind} of the correlation ({a.get('contrast')})"


def shown(number: int, total: int, noun: str = "", order: str = "top ") -> str:
    """Return how many items are shown, as part of a title; an empty string if all are."""
    return "" if number >= total else f", {order}{number:,} of {total:,} {noun}".rstrip()


def shown_partners(table: pd.DataFrame, total: int, shrunken: bool = False) -> str:
    """Return how many partners are shown and by what they were chosen, as part of a title."""
    has_p = "p_value" in table and bool(table["p_value"].notna().any())
    order = "largest: " if shrunken else "smallest p: " if has_p else "largest |r|: "
    return shown(len(table), total, "genes", order)


def minus_log10(p: pd.Series) -> pd.Series:
    """Return -log10 of p-values, with 0 replaced by the smallest positive float."""
    return -np.log10(p.clip(lower=np.nextafter(0, 1)))
