"""Plots of gene pairs: heatmap, volcano plot, ranked partners, p-values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from hiercorr.errors import InputError, true_or_false, unknown_name
from hiercorr.plotting import style
from hiercorr.results.layout import (
    distinct,
    has_all_pairs,
    need_all_pairs,
    scope,
    spans_types,
)
from hiercorr.results.pairs import (
    OVERALL,
    effect_name,
    estimates,
    has_values,
    in_tables,
    limit_names,
    p_values,
)
from hiercorr.results.result import CorrelationResult

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_MAX_PAIRS = 100_000  # maximum number of points of a volcano plot
_MAX_GENE_NAMES = 60  # more names cannot be read on a heatmap


@style.verbatim
def heatmap(
    result: CorrelationResult,
    genes: Sequence[str] | None = None,
    variable: str | None = None,
    max_genes: int = 3000,
    ax: Axes | None = None,
) -> Axes:
    """Plot a clustered heatmap with its dendrogram (average linkage of 1 - r).

    Genes of which fewer than half of the pairs could be estimated are left out; the title gives
    their number. For a result across two cell types, rows are the genes of the first type and
    columns those of the second, each ordered by average linkage on distances between their
    correlations.

    Parameters
    ----------
    result : CorrelationResult
        Result for all pairs, or across two cell types.
    genes : sequence of str, optional
        Genes to show; None: all.
    variable : str, optional
        Pair variable with values between -1 and 1. None: the correlation, or the difference where
        differences were tested.
    max_genes : int
        Maximum number of genes: those with the largest sums of squared correlations.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    variable = variable or effect_name(result.dataset.data_vars)
    if result.target is None and spans_types(result.dataset):
        return _rectangle(result, genes, variable, max_genes, ax)
    r, names, total, missing = _chosen(result, genes, variable, max_genes)
    tree = _linkage(r)
    order = hierarchy.leaves_list(tree)
    now = style.look()
    ax = style.axes(ax, 6.4, 6.0)
    cmap = style.pyplot().get_cmap("RdBu_r").with_extremes(bad="#eeeeee")
    limit = min(1.0, max(0.2, float(np.nanquantile(np.abs(r[~np.eye(len(r), dtype=bool)]), 0.99))))
    image = ax.imshow(
        r[np.ix_(order, order)],
        cmap=cmap,
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    if len(r) <= _MAX_GENE_NAMES:
        side = 72 * min(ax.figure.bbox.size) / ax.figure.dpi  # points
        size = min(0.9 * now.text, max(0.6 * side / len(r), 3.0))
        ax.set_xticks(range(len(r)), names[order], rotation=90, fontsize=size)
        ax.set_yticks(range(len(r)), names[order], fontsize=size)
    else:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{len(r):,} genes", fontsize=now.text)
    tree_ax = ax.inset_axes((0, 1.01, 1, 0.14))
    _dendrogram(tree_ax, tree, len(r))
    text = variable.replace("_", " ")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.5, pad=0.02, aspect=15)
    bar.set_label(text, fontsize=now.text)
    bar.ax.tick_params(labelsize=now.small)
    bar.outline.set_visible(False)
    some = style.shown(len(r), total, "genes", "strongest ")
    left_out = f", {missing:,} not estimable" if missing else ""
    style.finish(tree_ax, result, f"{text}{some}{left_out}")
    for each in (ax, tree_ax):
        each.spines[:].set_visible(False)
    return ax


def _rectangle(
    result: CorrelationResult,
    genes: Sequence[str] | None,
    variable: str,
    max_genes: int,
    ax: Axes | None,
) -> Axes:
    """Plot targets as rows and genes as columns, ordered by their correlations."""
    table = result.matrix(variable)
    if variable == effect_name(result.dataset.data_vars):
        table[:] = estimates(result.dataset)
    known = table.notna().to_numpy()
    rows_known, columns_known = (known.mean(k) >= 0.5 for k in (1, 0))
    table = table.loc[rows_known, columns_known]
    if genes is not None:
        every = table.index.union(table.columns)
        for g in genes:
            if g not in every:
                raise unknown_name("gene", g, every)
        rows, columns = (names[names.isin(list(genes))] for names in (table.index, table.columns))
        table = table.loc[
            rows if len(rows) else table.index, columns if len(columns) else table.columns
        ]
    if 0 in table.shape:
        raise InputError("no pair could be estimated: there is nothing to show")
    some = table.shape
    for axis in (0, 1):
        if table.shape[axis] > max_genes:
            size = np.nansum(table.to_numpy() ** 2, axis=1 - axis)
            keep = np.sort(np.argsort(-size, kind="stable")[:max_genes])
            table = table.take(keep, axis=axis)
    r = np.nan_to_num(table.to_numpy(float))
    table = table.iloc[_order(r), _order(r.T)]
    now = style.look()
    ax = style.axes(ax, 6.4, 6.0)
    cmap = style.pyplot().get_cmap("RdBu_r").with_extremes(bad="#eeeeee")
    limit = min(1.0, max(0.2, float(np.nanquantile(np.abs(table), 0.99))))
    image = ax.imshow(
        table, cmap=cmap, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    sides = zip((ax.yaxis, ax.xaxis), (table.index, table.columns), "ab", strict=True)
    for along, names, side in sides:
        cells = result.dataset.attrs.get(f"cell_type_{side}")
        noun = f"genes of {cells}" if cells else "targets" if side == "a" else "genes"
        along.set_ticks([])
        if len(names) <= _MAX_GENE_NAMES:
            rotation = 0 if side == "a" else 90
            points = max(min(0.9 * now.text, 250 / len(names)), 3.0)
            along.set_ticks(range(len(names)), names, fontsize=points, rotation=rotation)
            along.set_label_text(noun if cells else "", fontsize=now.text)
        else:
            along.set_label_text(f"{len(names):,} {noun}", fontsize=now.text)
    text = variable.replace("_", " ")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.5, pad=0.02, aspect=15)
    bar.set_label(text, fontsize=now.text)
    bar.ax.tick_params(labelsize=now.small)
    bar.outline.set_visible(False)
    sizes = " x ".join(f"{n:,}" for n in table.shape)
    shown = "" if some == table.shape else f", strongest {sizes}"
    lost = sum(known.shape) - int(rows_known.sum() + columns_known.sum())
    left_out = f", {lost:,} genes not estimable" if lost else ""
    style.finish(ax, result, f"{text}{shown}{left_out}")
    ax.spines[:].set_visible(False)
    return ax


_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
_WITH_INTERVALS = 10  # columns, up to which intervals can be read
_DARK = 0.6  # proportion of the scale of colours from which letters are white


@style.verbatim
def module_heatmap(
    result: CorrelationResult,
    variable: str | None = None,
    ax: Axes | None = None,
    *,
    intervals: bool | None = None,
) -> Axes:
    """Plot a heatmap with the estimate, the q-value as stars and the interval in every cell.

    For results of few rows and columns: modules with each other, with traits of samples or with a
    score of cells, or few genes.

    Parameters
    ----------
    result : CorrelationResult
        Of all pairs, or of targets; at most 60 rows and columns.
    variable : str, optional
        Pair variable with values between -1 and 1. None: the correlation, or the difference where
        differences were tested.
    ax : Axes, optional
    intervals : bool, optional
        Whether to write the intervals. None: where there are at most 10 columns.

    Returns
    -------
    Axes
    """
    true_or_false("intervals", intervals, optional=True)
    effect = effect_name(result.dataset.data_vars)
    variable = variable or effect
    table = result.matrix(variable)
    if variable == effect:
        table[:] = estimates(result.dataset)
    square = has_all_pairs(result.dataset)
    r = table.to_numpy(float).copy()
    if square:
        np.fill_diagonal(r, np.nan)
    if max(r.shape) > _MAX_GENE_NAMES:
        raise InputError(
            f"this result has {r.shape[0]:,} x {r.shape[1]:,} pairs, which cannot be read as "
            "numbers: use heatmap()"
        )
    if not np.isfinite(r).any():
        raise InputError("no pair could be estimated: there is nothing to show")
    rows, columns = _order(np.nan_to_num(r)), _order(np.nan_to_num(r.T))
    if square:
        columns = rows
    now = style.look()
    ax = style.axes(ax, 2.2 + 0.85 * r.shape[1], 1.6 + 0.6 * r.shape[0])
    cmap = style.pyplot().get_cmap("RdBu_r").with_extremes(bad="#eeeeee")
    limit = min(1.0, max(0.2, float(np.nanmax(np.abs(r)))))
    image = ax.imshow(r[np.ix_(rows, columns)], cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
    if intervals is None:
        intervals = r.shape[1] <= _WITH_INTERVALS
    _write_cells(ax, _cell_texts(result, r, variable, intervals), rows, columns, r / limit)
    ax.set_xticks(range(len(columns)), table.columns[columns], fontsize=now.small)
    ax.set_yticks(range(len(rows)), table.index[rows], fontsize=now.small)
    for label in ax.get_xticklabels():
        label.set(rotation=30, ha="right", rotation_mode="anchor")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, pad=0.02, aspect=15)
    text = style.effect_text(result) if variable == effect else variable.replace("_", " ")
    bar.set_label(text.replace(" (", "\n(", 1), fontsize=now.text)
    bar.ax.tick_params(labelsize=now.small)
    bar.outline.set_visible(False)
    ax.tick_params(length=0)
    starred = has_values(result.dataset, "q_value") if "q_value" in result.dataset else False
    note = "q: * < 0.05, ** < 0.01, *** < 0.001" if starred else ""
    style.finish(ax, result, note)
    ax.spines[:].set_visible(False)
    return ax


def _cell_texts(
    result: CorrelationResult, r: NDArray, variable: str, intervals: bool
) -> NDArray[np.object_]:
    """Return the text of each cell: estimate, stars, and the interval in a second line."""
    effect = effect_name(result.dataset.data_vars)
    out = np.full(r.shape, "", object)
    names = limit_names(effect)
    has = {n: n in result.dataset and has_values(result.dataset, n) for n in (*names, "q_value")}
    nan = np.full(r.shape, np.nan)
    low, high = (result.dataset[n].values if has[n] else nan for n in names)
    q = result.dataset["q_value"].values if has["q_value"] else nan
    for at in zip(*np.nonzero(np.isfinite(r)), strict=True):
        stars = next((text for limit, text in _STARS if q[at] < limit), "")
        out[at] = f"{r[at]:.2f}{stars}"
        if intervals and variable == effect and np.isfinite(low[at]):
            out[at] += f"\n{low[at]:.2f}, {high[at]:.2f}"
    return out


def _write_cells(
    ax: Axes, texts: NDArray[np.object_], rows: NDArray, columns: NDArray, strength: NDArray
) -> None:
    """Write texts into the cells of a heatmap, in letters that fit, white on dark cells."""
    box = ax.get_window_extent()
    points = 72 / ax.figure.dpi
    width, height = box.width * points / len(columns), box.height * points / len(rows)
    longest = max(max(map(len, text.split("\n"))) for text in texts.ravel())
    lines = max(1 + text.count("\n") for text in texts.ravel())
    size = min(style.look().small, 0.9 * width / (0.56 * max(longest, 1)), 0.8 * height / lines)
    for y, i in enumerate(rows):
        for x, j in enumerate(columns):
            colour = "white" if abs(np.nan_to_num(strength[i, j])) > _DARK else "#222222"
            ax.text(x, y, texts[i, j], ha="center", va="center", fontsize=size, color=colour)


def _order(r: NDArray) -> NDArray[np.int64]:
    """Order rows by average linkage of their distances."""
    if len(r) < 3:
        return np.arange(len(r))
    tree = hierarchy.linkage(r, "average", optimal_ordering=len(r) <= 500)
    return np.asarray(hierarchy.leaves_list(tree), np.int64)


def _chosen(
    result: CorrelationResult, genes: Sequence[str] | None, variable: str, max_genes: int
) -> tuple[NDArray, NDArray, int, int]:
    """Return matrix and names of the genes to show, how many could be, and how many could not."""
    need_all_pairs(result.dataset, "a heatmap needs")
    table = result.matrix(variable)
    if variable == effect_name(result.dataset.data_vars):
        table[:] = estimates(result.dataset)
    if genes is not None:
        for g in genes:
            if g not in table.index:
                raise unknown_name("gene", g, table.index)
        table = table.loc[list(genes), list(genes)]
    r, names = np.array(table, float), table.index.to_numpy()
    np.fill_diagonal(r, 0.0 if variable in ("difference", OVERALL) else 1.0)
    known = _estimable(r)
    r, names, missing = r[np.ix_(known, known)], names[known], int((~known).sum())
    total = len(r)
    if len(r) > max_genes:
        keep = np.sort(np.argsort(-np.nansum(r**2, 1), kind="stable")[:max_genes])
        r, names = r[np.ix_(keep, keep)], names[keep]
    if len(r) < 2:
        left_out = f": {missing} could not be estimated" if missing else ""
        raise InputError(f"a heatmap needs at least 2 genes, not {len(r)}{left_out}")
    return r, names, total, missing


def _estimable(r: NDArray) -> NDArray:
    """Find the genes that were estimated with at least half of each other."""
    off = np.isfinite(r) & ~np.eye(len(r), dtype=bool)
    known = off.any(1)
    while known.any():
        share = off[:, known].sum(1) / max(known.sum() - 1, 1)
        fewer = known & (share >= 0.5)
        if fewer.sum() == known.sum():
            break
        known = fewer
    return known


def _linkage(r: NDArray) -> NDArray:
    """Cluster genes by average linkage of 1 - r."""
    distance = 1 - np.nan_to_num((r + r.T) / 2)
    np.fill_diagonal(distance, 0.0)
    return hierarchy.linkage(
        squareform(distance, checks=False), "average", optimal_ordering=len(r) <= 500
    )


def _dendrogram(ax: Axes, tree: NDArray, n: int) -> None:
    """Draw a dendrogram; SciPy's own function exceeds the recursion limit for large trees."""
    from matplotlib.collections import LineCollection

    x = np.empty(2 * n - 1)
    height = np.zeros(2 * n - 1)
    x[hierarchy.leaves_list(tree)] = np.arange(n)
    lines = []
    for k, (a, b, h, _) in enumerate(tree):
        a, b = int(a), int(b)
        x[n + k], height[n + k] = (x[a] + x[b]) / 2, h
        lines.append([(x[a], height[a]), (x[a], h), (x[b], h), (x[b], height[b])])
    width = style.look().lw(0.7 if n < 200 else 0.3)
    ax.add_collection(LineCollection(lines, colors="#444444", linewidths=width))
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(0, tree[:, 2].max() * 1.02)
    ax.set_xticks([])
    ax.set_yticks([])


@style.verbatim
def volcano(
    result: CorrelationResult,
    gene: str | None = None,
    q: float = 0.05,
    n_labels: int = 10,
    ax: Axes | None = None,
    *,
    shrunken: bool = False,
) -> Axes:
    """Plot -log10 p-values against correlations, or their differences (volcano plot).

    Parameters
    ----------
    result : CorrelationResult
    gene : str, optional
        Show the partners of this gene; None: of the target, or all pairs.
    q : float
        Pairs with a smaller q-value are coloured by sign.
    n_labels : int
        Number of pairs to label, strongest evidence first.
    ax : Axes, optional
    shrunken : bool
        Plot the shrunken estimates of :meth:`hiercorr.CorrelationResult.shrink`, and label the
        largest.

    Returns
    -------
    Axes
    """
    true_or_false("shrunken", shrunken)
    if gene is None and result.target is None:
        total = int((in_tables(result.dataset) & distinct(result.dataset)).sum())
        table = result.pairs(n=_MAX_PAIRS, sort_by="shrunken" if shrunken else "p_value")
        table = table.assign(position=style.positions(result, table, shrunken))
        title = f"{scope(result.dataset)}{style.shown(len(table), total)}"
        names = table["gene_a"] + "-" + table["gene_b"]
    else:
        gene, table = style.partners(result, gene, shrunken)
        title, names = f"partners of {gene}", table.index.to_series()
    if "p_value" not in table:
        raise InputError(
            "a volcano plot needs p-values, and this result has no uncertainty: use ranked()"
        )
    table, names = table[table["p_value"].notna()], names[table["p_value"].notna().to_numpy()]
    now = style.look()
    ax = style.axes(ax)
    y = style.minus_log10(table["p_value"])
    passed = table["q_value"] < q
    many = len(table) > style.MANY_POINTS
    for mask, colour, marker, text in (
        (~passed, style.GREY, "o", f"q \u2265 {q:g}"),
        (passed & (table["position"] > 0), style.RED, "^", "positive"),
        (passed & (table["position"] < 0), style.BLUE, "v", "negative"),
    ):
        ax.scatter(
            table.loc[mask, "position"],
            y[mask],
            s=now.area(8 if many else 18),
            c=colour,
            marker=marker,
            alpha=0.6,
            lw=0,
            label=f"{text} ({int(mask.sum()):,})" if mask.any() else None,
            rasterized=many,
        )
    effect = effect_name(table.columns)
    if not shrunken:
        style.mark_beyond(ax, table["position"], y, table[effect])
    if effect == "correlation":
        ax.set_xlim(-1.05, 1.05)
    ax.axvline(0, **style.ZERO_LINE)
    ax.set_xlabel(style.effect_text(result, shrunken))
    ax.set_ylabel("-log10 p-value")
    of = "" if effect == "correlation" else "differences: "
    style.legend(ax)
    style.finish(ax, result, f"{of}{title}")
    points = (table["position"].to_numpy(), y.to_numpy())
    x, up = (v[:n_labels] for v in points)
    style.label(ax, x, up, names.to_numpy()[:n_labels], points)
    return ax


@style.verbatim
def ranked(
    result: CorrelationResult,
    gene: str | None = None,
    n: int = 30,
    q: float = 0.05,
    ax: Axes | None = None,
    *,
    shrunken: bool = False,
) -> Axes:
    """Plot the partners with the smallest p-values and their intervals, in this order.

    The order is that of :meth:`CorrelationResult.top`, from the top; without p-values, it is that
    of the absolute correlations. Of a result of :func:`hiercorr.differential`, differences are
    shown.

    Parameters
    ----------
    result : CorrelationResult
    gene : str, optional
        May be omitted if the result has a target.
    n : int
        Number of partners.
    q : float
        Partners with a smaller q-value are shown as filled points.
    ax : Axes, optional
    shrunken : bool
        Plot the partners with the largest shrunken estimates of
        :meth:`hiercorr.CorrelationResult.shrink`, without intervals; `q` is then the limit of the
        local false sign rate.

    Returns
    -------
    Axes
    """
    true_or_false("shrunken", shrunken)
    name, table = style.partners(result, gene, shrunken)
    total = len(table)
    table = table.head(n).iloc[::-1]
    now = style.look()
    ax = style.axes(ax, 5.0, 1.3 + 0.19 * len(table), of_lines=True)
    y = np.arange(len(table))
    rate = "lfsr" if shrunken else "q_value"
    passed = (table[rate] < q).to_numpy() if rate in table else np.zeros(len(table), bool)
    colour = np.where(table["position"] > 0, style.RED, style.BLUE)
    effect = effect_name(table.columns)
    limits = limit_names(effect)
    if limits[0] in table and not shrunken:
        ax.hlines(y, *(table[name] for name in limits), color=colour, lw=now.lw(1.2), alpha=0.7)
    ax.scatter(
        table["position"],
        y,
        s=now.area(26),
        linewidths=now.lw(1.2),
        facecolors=np.where(passed, colour, "white"),
        edgecolors=list(colour),
        zorder=3,
    )
    if not shrunken:
        style.mark_beyond(ax, table["position"], y, table[effect])
    ax.axvline(0, **style.ZERO_LINE)
    ax.set_yticks(y, table.index, fontsize=now.small)
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel(style.effect_text(result, shrunken))
    name_of_rate = "local false sign rate" if shrunken else "q"
    style.legend(ax, entries=_ranked_legend(passed, q, ax, name_of_rate))
    chosen = style.shown_partners(table, total, shrunken)
    return style.finish(ax, result, f"partners of {name}{chosen}")


def _ranked_legend(passed: NDArray, q: float, ax: Axes, rate: str) -> list[Artist]:
    """Return entries for filled and open points, and for estimates beyond the boundary."""
    from matplotlib.lines import Line2D

    fills = (
        (passed.any(), "#444444", f"{rate} < {q:g}"),
        (~passed.all(), "white", f"{rate} \u2265 {q:g}"),
    )
    size = style.look().ms(5)
    options: dict[str, Any] = {"marker": "o", "ls": "", "mec": "#444444", "ms": size}
    out: list[Artist] = [
        Line2D([], [], mfc=fill, label=text, **options) for some, fill, text in fills if some
    ]
    return out + ax.get_legend_handles_labels()[0]


def _p_values(result: CorrelationResult, variable: str) -> NDArray:
    """Return the p-values of the distinct pairs."""
    known = variable in result.dataset and has_values(result.dataset, variable)
    p = np.empty(0)
    if known:
        values = p_values(result.dataset) if variable == "p_value" else result.dataset[variable]
        p = np.asarray(values)[distinct(result.dataset)].astype(float)
    p = p[np.isfinite(p)]
    if not len(p):
        raise InputError(f"this result has no {variable}: it was fitted without uncertainty")
    return p


@style.verbatim
def p_histogram(
    result: CorrelationResult, variable: str = "p_value", bins: int = 40, ax: Axes | None = None
) -> Axes:
    """Plot a histogram of p-values; the line marks the uniform distribution.

    Parameters
    ----------
    result : CorrelationResult
    variable : {"p_value", "cell_p_value"}
    bins : int
        Number of bins.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    p = _p_values(result, variable)
    ax = style.axes(ax)
    ax.hist(p, list(np.linspace(0, 1, bins + 1)), color=style.SKY, edgecolor="white", lw=0.4)
    uniform = "uniform distribution"
    ax.axhline(len(p) / bins, color=style.RED, lw=style.look().lw(1), ls="--", label=uniform)
    ax.set_xlim(0, 1)
    ax.set_xlabel(_said(variable))
    ax.set_ylabel("number of pairs")
    style.legend(ax)
    return style.finish(ax, result, f"{_said(variable)}s of {len(p):,} pairs")


def _said(variable: str) -> str:
    """Return the name of a p-value as it is written."""
    return variable.replace("_value", "-value").replace("_", " ")


@style.verbatim
def qq(result: CorrelationResult, variable: str = "p_value", ax: Axes | None = None) -> Axes:
    """Plot observed against expected -log10 p-values, with a pointwise 95% band.

    Expected values and band are those of independent tests under the null hypothesis.

    Parameters
    ----------
    result : CorrelationResult
    variable : {"p_value", "cell_p_value"}
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    from scipy import stats

    p = np.sort(_p_values(result, variable))
    m = len(p)
    now = style.look()
    rank = np.unique(np.round(np.geomspace(1, m, min(m, 2000))).astype(int))
    ax = style.axes(ax)
    expected = -np.log10((rank - 0.5) / m)
    low, high = (stats.beta.ppf(level, rank, m - rank + 1) for level in (0.025, 0.975))
    ax.fill_between(
        expected, -np.log10(high), -np.log10(low), color="#e4e4e4", lw=0, label="95% band"
    )
    ax.plot(expected, expected, color=style.GREY, lw=now.lw(1), label="uniform distribution")
    ax.plot(
        expected,
        -np.log10(np.maximum(p[rank - 1], np.nextafter(0, 1))),
        ".",
        color=style.BLUE,
        ms=now.ms(4),
    )
    ax.set_xlabel("expected -log10 p-value")
    ax.set_ylabel(f"observed -log10 {_said(variable)}")
    style.legend(ax)
    return style.finish(ax, result, f"quantiles of {m:,} {_said(variable)}s")
