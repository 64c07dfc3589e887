"""Plots of designs: power over samples or cells, designs by their cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from hiercorr.errors import InputError
from hiercorr.plotting.style import GREY, MARKERS, PALETTE, axes, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "samples": "samples",
    "cells": "cells per sample",
    "mean": "mean count in a cell",
    "rho": "correlation",
    "heterogeneity": "standard deviation of the correlation over samples",
}


def power_curve(
    curves: pd.DataFrame | Mapping[str, pd.DataFrame],
    goal: float | None = 0.8,
    ax: Axes | None = None,
) -> Axes:
    """Power over one quantity, one line a design.

    Parameters
    ----------
    curves : DataFrame or mapping
        Of :func:`hiercorr.planning.power_curve`, by the name each line gets.
    goal : float, optional
        A line at this power.
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning.power_analysis import power_curve
    >>> few, many = (power_curve(hc.power(samples=8, cells=n), "samples", range(3, 30)) for n in (100, 1000))
    >>> ax = hc.plotting.power_curve({"100 cells": few, "1,000 cells": many})
    """
    named = {"": curves} if isinstance(curves, pd.DataFrame) else dict(curves)
    if not named:
        raise InputError("no curve is given: make one with hiercorr.planning.power_curve")
    ax = axes(ax)
    over = str(next(iter(named.values())).index.name)
    for k, (name, table) in enumerate(named.items()):
        ax.plot(
            table.index,
            table["power"],
            color=PALETTE[k % len(PALETTE)],
            marker=MARKERS[k % len(MARKERS)],
            ms=3,
            label=name,
        )
    if goal is not None:
        ax.axhline(goal, color=GREY, lw=0.8, ls="--")
    if over in ("cells", "mean"):
        ax.set_xscale("log")
    ax.set_xlabel(_LABELS.get(over, over))
    ax.set_ylabel("power")
    ax.set_ylim(0, 1.02)
    if any(named):
        ax.legend(frameon=False, fontsize=9)
    return finish(ax, None, f"power over {over}")


def designs(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Donors or cells: designs of :func:`hiercorr.planning.best_design` by samples and cost, the best one marked.

    Parameters
    ----------
    table : DataFrame
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning.best_design import best_design
    >>> ax = hc.plotting.designs(best_design(hc.power(samples=8, cells=300), donor_cost=1500, cell_cost=0.15))
    """
    ax = axes(ax)
    best, shown = table.iloc[0], table.sort_values("samples")
    budget = shown["power"].nunique() > 1 and shown["cost"].max() <= 1.05 * shown["cost"].min()
    value, label = ("power", "power") if budget else ("cost", "cost")
    near = (
        shown[shown[value] >= 0.2 * best[value]]
        if budget
        else shown[shown[value] <= 4 * best[value]]
    )
    ax.plot(near["samples"], near[value], color=PALETTE[0], marker="o", ms=3)
    ax.plot([best["samples"]], [best[value]], marker="*", ms=13, color=PALETTE[1], ls="")
    said = f"best: {best['samples']:.0f} samples x {best['cells']:,.0f} cells"
    said += f"\ncost {best['cost']:,.0f}, power {best['power']:.2f}"
    x, y, side, level = (0.97, 0.04, "right", "bottom") if budget else (0.03, 0.96, "left", "top")
    ax.text(x, y, said, transform=ax.transAxes, fontsize=9, ha=side, va=level)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("samples")
    ax.set_ylabel(label)
    return finish(
        ax, None, "designs that reach the power" if not budget else "designs that the budget buys"
    )
