"""Figures that several studies share."""

from __future__ import annotations

from typing import Any

import pandas as pd


def size_and_coverage(
    table: pd.DataFrame, null: pd.Series, style: dict[str, tuple[str, str]], **legend: Any
) -> Any:
    """Draw type-I error and coverage by design, one column per mean count of the genes.

    Parameters
    ----------
    table : DataFrame
        Of :meth:`validation.scores.Tally.table`, with the columns method, mean, samples and cells.
    null : Series of bool
        Its rows that are true nulls.
    style : dict
        Method -> colour and marker.
    **legend
        For its place.
    """
    import matplotlib.pyplot as plt

    means = sorted(table["mean"].unique())
    fig, axes = plt.subplots(
        2, len(means), figsize=(12, 6), sharex=True, sharey="row", layout="constrained"
    )
    designs = sorted(set(zip(table["samples"], table["cells"], strict=True)))
    for column, mean in zip(axes.T, means, strict=True):
        for ax, value, keep in (
            (column[0], "type_1_all", null),
            (column[1], "coverage_all", ~null),
        ):
            part = table[(table["mean"] == mean) & keep]
            for method, (colour, marker) in style.items():
                g = (
                    part[part["method"] == method]
                    .groupby(["samples", "cells"])[value]
                    .mean()
                    .reindex(designs)
                )
                ax.plot(range(len(designs)), g, marker, color=colour, label=method, ms=6)
        column[0].axhspan(0.03, 0.065, color="#dddddd", zorder=0)
        column[1].axhspan(0.935, 0.975, color="#dddddd", zorder=0)
        column[0].set_title(f"mean count {mean:g}", fontsize=11)
        column[1].set_xticks(
            range(len(designs)), [f"{s} x {n}" for s, n in designs], rotation=70, fontsize=8
        )
    axes[0, 0].set_ylabel("true nulls rejected at 5%")
    axes[1, 0].set_ylabel("coverage of true correlations")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(frameon=False, **legend)
    fig.supxlabel("samples x cells")
    return fig


def dots(
    table: pd.DataFrame,
    rows: list[str],
    columns: list[tuple[str, pd.Series, str]],
    style: dict[str, tuple[str, str]],
    bands: dict[int, tuple[float, float]],
    mark: str = "method",
) -> Any:
    """Draw one line of dots for each setting of a grid, and a column for each value.

    Parameters
    ----------
    table : DataFrame
    rows : list of str
        Label of the setting of each row of the table; equal labels share a line.
    columns : list of (str, Series of bool, str)
        Column of the table, its rows that are drawn, and the title.
    style : dict
        Value of `mark` -> colour and marker.
    bands : dict
        Limits of the claim, drawn as a shaded band, by position of the column.
    mark : str
        Column that tells the dots of a line apart.
    """
    import matplotlib.pyplot as plt

    labels = list(dict.fromkeys(rows))
    place = pd.Series(rows, table.index).map({k: -i for i, k in enumerate(labels)})
    size = (3 + 2.6 * len(columns), 1.4 + 0.3 * len(labels))
    fig, axes = plt.subplots(
        1, len(columns), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for k, (ax, (value, keep, title)) in enumerate(zip(axes[0], columns, strict=True)):
        if k in bands:
            ax.axvspan(*bands[k], color="#e4e4e4", zorder=0)
        for n, (name, (colour, marker)) in enumerate(style.items()):
            shift = 0.12 * ((len(style) - 1) / 2 - n)
            at = keep & (table[mark] == name)
            error = table.get(f"mc_error_{value}")
            ax.errorbar(
                table[value][at],
                place[at] + shift,
                xerr=None if error is None else 2 * error[at],
                fmt=marker,
                color=colour,
                ms=5,
                lw=0.8,
                label=name,
            )
        ax.set_title(title, fontsize=10)
        ax.grid(axis="y", color="#eeeeee")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylim(0.6 - len(labels), 0.6)
    axes[0, 0].set_yticks([-i for i in range(len(labels))], labels, fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncol=len(style), frameon=False)
    return fig
