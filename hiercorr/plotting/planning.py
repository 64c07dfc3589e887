"""Plots of study designs: power curves, and designs by number of samples and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from hiercorr.errors import InputError
from hiercorr.plotting.style import GREY, MARKERS, PALETTE, axes, finish, legend, look, verbatim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "samples": "number of samples",
    "cells": "cells per sample",
    "mean": "mean count per cell",
    "rho": "correlation",
    "heterogeneity": "between-sample standard deviation of the correlation",
}


@verbatim
def power_curve(
    curves: pd.DataFrame | Mapping[str, pd.DataFrame],
    goal: float | None = 0.8,
    ax: Axes | None = None,
) -> Axes:
    """Plot power against one quantity, one line per design.

    Parameters
    ----------
    curves : DataFrame or mapping
        Power curve from :func:`hiercorr.planning.power_curve`, or several by name.
    goal : float, optional
        Power marked by a horizontal line.
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning.power_analysis import power_curve
    >>> curve = power_curve(hc.power(samples=8, cells=100), "samples", range(3, 30))
    >>> more = power_curve(hc.power(samples=8, cells=1000), "samples", range(3, 30))
    >>> ax = hc.plotting.power_curve({"100 cells": curve, "1,000 cells": more})
    """
    named = {"": curves} if isinstance(curves, pd.DataFrame) else dict(curves)
    if not named:
        raise InputError("no curve is given: compute one with hiercorr.planning.power_curve")
    ax = axes(ax)
    over = str(next(iter(named.values())).index.name)
    for k, (name, table) in enumerate(named.items()):
        ax.plot(
            table.index,
            table["power"],
            color=PALETTE[k % len(PALETTE)],
            marker=MARKERS[k % len(MARKERS)],
            ms=look().ms(3),
            lw=look().lw(1.5),
            label=name,
        )
    if goal is not None:
        ax.axhline(goal, color=GREY, lw=look().lw(0.8), ls="--")
    if over in ("cells", "mean"):
        ax.set_xscale("log")
    ax.set_xlabel(_LABELS.get(over, over))
    ax.set_ylabel("power")
    ax.set_ylim(0, 1.02)
    if any(named):
        legend(ax)
    return finish(ax, None, "power curves" if len(named) > 1 else "power curve")


@verbatim
def designs(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Plot designs by number of samples and cost (or power), and mark the best one.

    Parameters
    ----------
    table : DataFrame
        From :func:`hiercorr.planning.best_design`.
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning.best_design import best_design
    >>> table = best_design(hc.power(samples=8, cells=300), donor_cost=1500, cell_cost=0.15)
    >>> ax = hc.plotting.designs(table)
    """
    now = look()
    ax = axes(ax)
    best, shown = table.iloc[0], table.sort_values("samples")
    budget = shown["power"].nunique() > 1 and shown["cost"].max() <= 1.05 * shown["cost"].min()
    value = "power" if budget else "cost"
    near = (
        shown[shown[value] >= 0.2 * best[value]]
        if budget
        else shown[shown[value] <= 4 * best[value]]
    )
    ax.plot(
        near["samples"], near[value], color=PALETTE[0], marker="o", ms=now.ms(3), lw=now.lw(1.5)
    )
    star: dict[str, Any] = {"marker": "*", "ms": now.ms(13), "ls": "", "mew": 0, "zorder": 4}
    ax.plot([best["samples"]], [best[value]], color=PALETTE[1], **star)
    text = f"best: {best['samples']:.0f} samples, {best['cells']:,.0f} cells per sample, "
    text += f"cost {best['cost']:,.0f}, power {best['power']:.2f}"
    ax.lines[-1].set_label(text)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("number of samples")
    ax.set_ylabel(value)
    legend(ax)
    return finish(
        ax, None, "designs within the budget" if budget else "designs with the required power"
    )
