"""Plots of per-sample estimates (forest, strip) and diagnostics of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.layout import ends, is_list, spans_types
from hiercorr.results.pairs import estimates, known_gene, row_of
from hiercorr.results.result import CorrelationResult
from hiercorr.schema import Flag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


@style.verbatim
def forest(
    result: CorrelationResult, gene_a: str, gene_b: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the correlation of a pair per sample and overall, with the prediction interval.

    The areas of the squares are proportional to the precision of the samples, the inverse squared
    standard errors of Fisher's z; without standard errors, to their numbers of cells.

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
    first, second = (known_gene(result.dataset, g) for g in (first, second))
    pair = row_of(result.dataset, first)[1].sel(gene=second)
    known = table[table["correlation"].notna()].iloc[::-1]
    if not len(known):
        raise InputError(
            f"the correlation of {first!r} and {second!r} is not estimable in any sample"
        )
    now = style.look()
    ax = style.axes(ax, 5.2, 1.4 + 0.28 * len(known), of_lines=True)
    y = np.arange(len(known)) + 2
    z, se = np.arctanh(known["correlation"].clip(-0.9999, 0.9999)), known["fisher_z_se"]
    has_se = se.notna().to_numpy()
    lower, upper = np.tanh(z - 1.96 * se), np.tanh(z + 1.96 * se)
    ax.hlines(y[has_se], lower[has_se], upper[has_se], color=style.GREY, lw=now.lw(1.4))
    weight, meaning = _weights(known)
    size = now.area(130) * weight / weight.max()
    ax.scatter(known["correlation"], y, s=size, marker="s", color=style.BLUE, lw=0, zorder=3)
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
        ax.plot(value["correlation"], 1, "D", color=style.RED, ms=now.ms(8))
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
            lw=now.lw(2),
            ls=":",
        )
        ticks, labels = [0, *ticks], ["new sample (95%)", *labels]
    ax.axvline(0, **style.ZERO_LINE)
    ax.set_yticks(ticks, labels, fontsize=now.small)
    ax.set_ylim(-0.6, len(known) + 1.6)
    missing = len(table) - len(known)
    ax.set_xlabel("correlation (95% interval)")
    notes = [f"area of squares: {meaning}"]
    notes += [f"not estimable in {missing:,} of {len(table):,} samples"] if missing else []
    _note(ax, notes)
    return style.finish(ax, result, f"{first} and {second}")


def _weights(known: pd.DataFrame) -> tuple[pd.Series, str]:
    """Return the weights of samples, for the areas of their squares, and what they are."""
    if known["fisher_z_se"].notna().all():
        return known["fisher_z_se"] ** -2.0, "1 / SE\u00b2"
    return known["n_cells"].astype(float), "number of cells"


def _note(ax: Axes, lines: list[str]) -> None:
    """Write small lines below the name of the horizontal axis."""
    text = "\n".join(lines)
    ax.annotate(
        text,
        (0.5, 0),
        (0, -2),
        xycoords=ax.xaxis.label,
        textcoords="offset points",
        fontsize=style.look().small,
        color="#555555",
        ha="center",
        va="top",
        annotation_clip=False,
    )


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
    table = table.head(n)
    values = row_of(result.dataset, name)[1]["sample_correlation"].sel(gene=list(table.index))
    samples = values["sample"].values
    now = style.look()
    ax = style.axes(ax, 1.6 + 0.3 * len(table), 4.0, of_lines=True)
    x = np.arange(len(table))
    offset = np.linspace(-0.25, 0.25, len(samples)) if len(samples) > 1 else np.zeros(1)
    few = len(samples) <= len(style.PALETTE)
    for k, sample in enumerate(samples):
        ax.plot(
            x + offset[k],
            values.sel(sample=sample),
            style.MARKERS[k % len(style.MARKERS)] if few else "o",
            ms=now.ms(4),
            alpha=0.8,
            mew=0,
            color=style.PALETTE[k] if few else style.GREY,
            label=str(sample) if few else None,
            ls="",
        )
    ax.hlines(table["position"], x - 0.38, x + 0.38, color="#222222", lw=now.lw(1.6), zorder=3)
    ax.plot([], [], color="#222222", lw=now.lw(1.6), label="all samples")
    ax.axhline(0, **style.ZERO_LINE)
    ax.set_xticks(x, table.index, rotation=90, fontsize=now.small)
    ax.set_xlim(-0.6, len(table) - 0.4)
    ax.set_ylabel(f"correlation with {name}")
    if not few:
        ax.plot([], [], "o", color=style.GREY, ms=now.ms(4), mew=0, label="samples")
    style.legend(ax)
    return style.finish(ax, result, f"partners of {name}{style.shown_partners(table, total)}")


def _median_size(result: CorrelationResult) -> NDArray:
    """Return the median absolute correlation of each gene; NaN without an estimate."""
    r = result.dataset["correlation"].values
    at = np.nonzero(np.isfinite(r) & ((result.dataset["flag"].values & int(Flag.SELF)) == 0))
    size, genes = np.abs(r[at]).astype(float), at[-1]
    if is_list(result.dataset):  # every pair is one of both genes
        names = np.concatenate(ends(result.dataset, at))
        genes, size = result.genes.astype(str).get_indexer(names), np.tile(size, 2)
    out = pd.Series(size).groupby(genes).median().reindex(range(len(result.genes)))
    if not spans_types(result.dataset):
        return out.to_numpy()
    rows = pd.Series(size).groupby(at[0]).median().reindex(range(len(r)))
    return np.concatenate([rows, out])  # in the order of the table of genes


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
    if "detection" not in table:
        raise InputError("this result has no detection of genes to plot")
    size = _median_size(result)
    missing = np.isnan(size)
    if result.target in result.genes:
        table, size, missing = (v[result.genes != result.target] for v in (table, size, missing))
    now = style.look()
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
            s=now.area(16),
            c=colour,
            marker=marker,
            alpha=0.7,
            lw=now.lw(1) if marker == "x" else 0,
            label=f"{text} ({int(mask.sum()):,})" if mask.any() else None,
            rasterized=len(table) > style.MANY_POINTS,
        )
    if missing.any():
        ax.plot([], [], " ", label=f"not estimable ({int(missing.sum()):,})")
    ax.set_xlabel("proportion of cells with a count")
    ax.set_ylabel(
        "median |correlation|" if result.target is None else f"|correlation with {result.target}|"
    )
    style.legend(ax)
    return style.finish(ax, result, "genes: detection and correlation")


@style.verbatim
def sample_scatter(
    result: CorrelationResult, gene_a: str, gene_b: str, ax: Axes | None = None
) -> Axes:
    """Plot the expression of two genes over samples, given the covariates of the formula.

    Points are samples. With a formula, both axes show the residuals given the formula plus the mean
    (partial regression plot), whose correlation is that of Pearson's method.

    Parameters
    ----------
    result : CorrelationResult
        Of :class:`hiercorr.AcrossCellTypes` or :class:`hiercorr.Pseudobulk`.
    gene_a, gene_b : str
        The pair.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    dataset = result.dataset
    if "expression" not in dataset or "design" not in dataset:
        raise InputError(
            "this result has no expression of samples: fit AcrossCellTypes or Pseudobulk"
        )
    estimate = result[gene_a, gene_b]
    names = tuple(map(str, estimate.name))
    design = dataset["design"].values.astype(float)
    x, y = (_given_design(_expression_of(result, name), design) for name in names)
    now = style.look()
    ax = style.axes(ax)
    ax.scatter(x, y, s=now.area(24), c=style.BLUE, lw=0, alpha=0.8, zorder=3)
    adjusted = ", adjusted" if design.shape[1] > 1 else ""
    types = [dataset.attrs.get(f"cell_type_{side}") for side in "ab"]
    if types[0] and str(_cell_type_of(result, names[0])) != types[0]:
        types.reverse()
    for axis, name, cells in zip((ax.xaxis, ax.yaxis), names, types, strict=True):
        of = f" in {cells}" if cells and not name.endswith(f"({cells})") else ""
        axis.set_label_text(f"{name}{of} (log2 CPM{adjusted})")
    r, p = (float(estimate.get(v, np.nan)) for v in ("correlation", "p_value"))
    every = float(estimate.get("correlation_unclipped", np.nan))
    size = "r beyond -1 or 1" if np.isnan(r) and np.isfinite(every) else f"r = {r:.2f}"
    tested = f", p = {p:.2g}" if np.isfinite(p) else ""
    return style.finish(ax, result, f"{len(x)} samples: {size}{tested}")


def _cell_type_of(result: CorrelationResult, gene: str) -> object:
    """Return the cell type of a gene of either side."""
    return result.gene_table()["cell_type"][gene]


def _expression_of(result: CorrelationResult, gene: str) -> NDArray:
    """Return the log expression of a gene of either side in each sample."""
    if gene in result.genes:
        return result.dataset["expression"].sel(gene=gene).values
    return result.dataset["target_expression"].sel(target=gene).values


def _given_design(y: NDArray, design: NDArray) -> NDArray:
    """Return residuals given the design, plus the mean."""
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0] + y.mean()
