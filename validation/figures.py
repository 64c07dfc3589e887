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
