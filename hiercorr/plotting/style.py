"""Shared elements of all plots: axes, colours, labels, titles."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hiercorr.errors import InputError
from hiercorr.plotting.arguments import check_arguments
from hiercorr.plotting.labels import place_labels
from hiercorr.plotting.look import EDITABLE, FONTS, look, settings
from hiercorr.results.pairs import OVERALL, effect_name, effects, row_of, shrunken_name
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
ZERO_LINE: dict[str, Any] = {"color": "#bbbbbb", "lw": 0.6, "zorder": 0}
MANY_POINTS = 3000  # more points than this are rasterised in vector files


P = ParamSpec("P")
R = TypeVar("R")


def verbatim(plot: Callable[P, R]) -> Callable[P, R]:
    """Check arguments, and show names as they are written: a dollar sign begins no formula."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(plot, signature(plot).bind(*args, **kwargs).arguments)
        with settings({"text.parse_math": False}):
            out = plot(*args, **kwargs)
        for ax in np.ravel(np.asarray(getattr(out, "axes", out), object)):
            without_formulas(ax)
        return out

    return draw


def without_formulas(ax: Axes) -> None:
    """Show the title and the labels of axes as they are written, also those made before."""
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_parse_math(False)
    for axis in (ax.xaxis, ax.yaxis):  # powers of ten are formulas of matplotlib itself
        for text in axis.get_ticklabels(which="both"):
            text.set_parse_math(axis.get_scale() in ("log", "symlog"))


def pyplot() -> Any:
    """Import matplotlib.pyplot."""
    return optional("matplotlib.pyplot", "plots")


def axes(
    ax: Axes | None, width: float = 5.0, height: float = 4.0, *, of_lines: bool = False
) -> Axes:
    """Return the given axes, or create a figure of this size in inches on a screen.

    Parameters
    ----------
    ax : Axes or None
    width, height : float
    of_lines : bool
        Whether the height is that of lines of text, and not in proportion to the width.
    """
    if ax is None:
        size = figure_size(width, height, of_lines)
        _, ax = pyplot().subplots(figsize=size, layout="constrained")
    return ax


def figure_size(width: float, height: float, of_lines: bool) -> tuple[float, float]:
    """Return the size of a figure in the style in use, from its size in inches on a screen."""
    now = look()
    if now.width is None:
        return (width, height)
    return (now.width, now.height * height if of_lines else min(now.width * height / width, 4.5))


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
    fixed = {**EDITABLE, "svg.hashsalt": "hiercorr", "font.sans-serif": FONTS}
    fixed |= {"figure.autolayout": False, "figure.constrained_layout.use": False}
    # A layout engine keeps everything inside of the figure, and drawing it once more takes as long.
    engine = figure.get_layout_engine()
    box = None if engine is not None else "tight"
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    placeholder = optional("matplotlib.layout_engine", "figures").PlaceHolderLayoutEngine
    with optional("matplotlib", "figures").rc_context(fixed):
        if isinstance(engine, placeholder):  # frozen; matplotlib would draw twice for any engine
            figure.set_layout_engine(None)
        try:
            figure.savefig(file, format=kind, dpi=dpi, bbox_inches=box, metadata=dates[kind])
        finally:
            figure.set_layout_engine(engine)


def arrange(figure: Any) -> None:
    """Let the layout engine of a figure, if it has one, put its axes in place."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def freeze(figure: Any) -> None:
    """Arrange a figure for the last time: each file that is written of it is then the same."""
    if figure.get_layout_engine() is None:
        return
    dpi = figure.dpi
    figure.dpi = 300  # letters on a screen have widths of whole pixels
    arrange(figure)
    figure.dpi = dpi
    figure.set_layout_engine("none")


def finish(ax: Axes, result: CorrelationResult | None, title: str) -> Axes:
    """Set the title, marked as exploratory where the result is, and remove spines."""
    exploratory = result is not None and bool(result.dataset.attrs.get("exploratory"))
    text = f"{title} (exploratory)" if exploratory else title
    now = look()
    ax.set_title(text, fontsize=now.title, loc="center", x=0, ha="left")
    ax.spines[["top", "right"]].set_visible(False)
    if now.width is not None:  # ticks are made when the figure is drawn, maybe in another style
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set_fontsize(now.text)
        ax.tick_params(width=0.5, length=2, pad=1.5)
    _keep_inside(ax)
    return ax


def _keep_inside(ax: Axes) -> None:
    """Break a title that is too long for the figure, and move it to the left as far as needed."""
    figure, title = ax.figure, ax.title
    without_formulas(ax)
    arrange(figure)
    edge, frame = figure.bbox, ax.get_window_extent()
    columns = _columns(figure)
    room = 0.97 * edge.width / columns
    name = ax.xaxis.label.get_window_extent()
    if columns < 2 and name.x1 > edge.x1 - 2:
        ax.xaxis.label.set(x=1, ha="right")
    width = title.get_window_extent().width
    if width > room:
        letters = max(int(len(title.get_text()) * room / width), 12)
        title.set_text("\n".join(textwrap.wrap(title.get_text(), letters)))
        arrange(figure)
        width, frame = title.get_window_extent().width, ax.get_window_extent()
    beyond = frame.x0 + width - (edge.x1 if columns < 2 else frame.x0 + room) + 2
    if beyond > 0:
        title.set_x(max(-beyond / frame.width, (edge.x0 - frame.x0 + 2) / frame.width))


def _columns(figure: Any) -> int:
    """Return the number of columns of the axes of a figure."""
    specs = [a.get_subplotspec() for a in figure.axes]
    return max([len({s.colspan.start for s in specs if s is not None}), 1])


def legend(ax: Axes, title: str | None = None, entries: Any = None, axis: bool = True) -> None:
    """Place the legend below the axes, in as many columns as there is room for.

    Parameters
    ----------
    ax : Axes
        With its labels.
    title : str, optional
    entries : list of Artist, optional
        None: all artists with a label.
    axis : bool
        Whether there is a horizontal axis above the legend.
    """
    now = look()
    handles = ax.get_legend_handles_labels()[0] if entries is None else entries
    if not handles:
        return
    longest = max(len(str(h.get_label())) for h in handles)
    column = (0.56 * longest + 3.2) * now.small  # points
    without_formulas(ax)
    arrange(ax.figure)
    points = 72 / ax.figure.dpi
    columns, spec = _columns(ax.figure), ax.get_subplotspec()
    room = ax.figure.bbox.width * points / columns
    start = 0.0 if spec is None or columns == 1 else room * spec.colspan.start
    left = (ax.get_window_extent().x0 - ax.figure.bbox.x0) - start / points
    aside = min(left * points, 30.0)  # of long names of ticks, the legend may use the room
    columns = max(1, min(len(handles), int((room - aside) / column)))
    rows = -(-len(handles) // columns)
    columns = -(-len(handles) // rows)
    lines = 1 + ax.get_xlabel().count("\n") if ax.get_xlabel() else 0
    ticks = _tick_height(ax) if axis else 0.0
    below = ticks + lines * 1.25 * now.text + 3
    moved = optional("matplotlib.transforms", "plots").ScaledTranslation(
        -max(left * points - aside, 0) / 72, -below / 72, ax.figure.dpi_scale_trans
    )
    drawn = ax.legend(
        handles=handles,
        fontsize=now.small,
        title=title,
        title_fontsize=now.small,
        alignment="left",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + moved,
        ncols=columns,
        handletextpad=0.3,
        columnspacing=1.2,
        borderaxespad=0,
        borderpad=0.2,
        labelspacing=0.3,
    )
    # The layout makes room for its height only: axes would get narrower with each pass.
    box = partial(_no_wider, drawn.get_tightbbox, ax)
    drawn.get_tightbbox = box  # type: ignore[method-assign]


def _no_wider(box: Callable[..., Any], ax: Axes, renderer: Any = None) -> Any:
    """Return a box cut to the width of the axes."""
    inner, frame = box(renderer), ax.get_window_extent(renderer)
    x = np.clip([inner.x0, inner.x1], frame.x0, frame.x1)
    bbox = optional("matplotlib.transforms", "plots").Bbox
    return bbox.from_extents(x[0], inner.y0, x[1], inner.y1)


def _tick_height(ax: Axes) -> float:
    """Return the height of the ticks of the horizontal axis with their names, in points."""
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    height = max((b.height for b in boxes), default=0.0) * 72 / ax.figure.dpi
    return height + 8


def label(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    points: tuple[ArrayLike, ArrayLike] | None = None,
    radius: float = 1.5,
) -> None:
    """Name points of a plot that is otherwise complete, without overlap.

    Parameters
    ----------
    ax : Axes
    x, y : array_like
        Points with a name.
    names : sequence of str
    points : (array_like, array_like), optional
        All points, which the names should not cover. None: those with a name.
    radius : float
        Radius of the points, in 1/72 inch.
    """
    if not len(names):
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.03 * (high - low), high + 0.08 * (high - low))  # room for names
    arrange(ax.figure)
    every = (x, y) if points is None else points
    place_labels(ax, x, y, names, every, size=look().small, colour=GREY, radius=radius)


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
    table = result.top(name, n=max(result.dataset["correlation"].shape), sort_by=sort_by)
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
        size, width = look().area(90), look().lw(1.2)
        ax.scatter(
            x[beyond], np.asarray(y)[beyond], s=size, marker="|", c="#222222", lw=width, label=text
        )


def effect_text(result: CorrelationResult, shrunken: bool = False) -> str:
    """Describe the quantity that was tested, or its shrunken estimate, as the label of an axis."""
    if shrunken:
        return shrunken_name(result.dataset).replace("_", " ")
    if effect_name(result.dataset.data_vars) == "correlation":
        return "correlation"
    if effect_name(result.dataset.data_vars) == OVERALL:
        return "largest difference of the correlation"
    a = result.dataset.attrs
    contrast, condition = a.get("contrast"), a.get("condition")
    kind = "slope" if contrast == condition else "difference"
    groups = list(result.dataset.indexes.get("group", ()))
    if len(groups) == 2 and contrast == f"{condition}[T.{groups[1]}]":
        contrast = f"{condition}: {groups[1]} minus {groups[0]}"
    return f"{kind} of the correlation ({contrast})"


def shown(number: int, total: int, noun: str = "", order: str = "top ") -> str:
    """Return how many items are shown, as part of a title; an empty string if all are."""
    return "" if number >= total else f", {order}{number:,} of {total:,} {noun}".rstrip()


def shown_partners(table: pd.DataFrame, total: int, shrunken: bool = False) -> str:
    """Return how many partners are shown and how they are ordered, as part of a title."""
    has_p = "p_value" in table and bool(table["p_value"].notna().any())
    some = f"{len(table):,} of {total:,}, " if len(table) < total else ""
    order = "shrunken estimate" if shrunken else "p-value" if has_p else "|r|"
    return f": {some}ordered by {order}"


def minus_log10(p: pd.Series) -> pd.Series:
    """Return -log10 of p-values, with 0 replaced by the smallest positive float."""
    return -np.log10(p.clip(lower=np.nextafter(0, 1)))
