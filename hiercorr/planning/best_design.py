"""The cheapest design that reaches a power, or the most powerful one within a budget."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from hiercorr.errors import InputError
from hiercorr.planning.designs import Design, least_samples, solved, with_power


def best_design(
    design: Design,
    donor_cost: float,
    cell_cost: float,
    *,
    goal: float = 0.8,
    budget: float | None = None,
) -> pd.DataFrame:
    """The cheapest design that reaches a power, or the most powerful one that a budget buys.

    Parameters
    ----------
    design : Design
        The question; its samples and cells are set free.
    donor_cost, cell_cost : float
        Of one more sample, and of one cell.
    goal : float
        Wanted power, without a budget.
    budget : float, optional
        What may be spent: samples x (donor_cost + cells x cell_cost).

    Returns
    -------
    DataFrame
        One row a number of samples, best first: samples, cells, cost, power.
    """
    if not (donor_cost >= 0 and cell_cost > 0):
        raise InputError(f"costs must be positive, not {donor_cost!r} and {cell_cost!r}")
    rows = []
    step = 2 if design.question == "differential" else 1
    for s in range(least_samples(design), 201, step):
        if budget is None:
            try:
                found = solved(replace(design, samples=float(s), power=goal), "cells")
            except InputError:
                continue
        else:
            cells = math.floor((budget / s - donor_cost) / cell_cost)
            if cells < 2:
                break
            found = with_power(replace(design, samples=float(s), cells=float(cells)))
        cost = s * (donor_cost + found.cells * cell_cost)
        rows.append({"samples": s, "cells": int(found.cells), "cost": cost, "power": found.power})
    if not rows:
        raise InputError(
            f"no design of up to 200 samples reaches power {goal:g}"
            if budget is None
            else "the budget buys no design"
        )
    by, ascending = (["cost"], [True]) if budget is None else (["power", "cost"], [False, True])
    return pd.DataFrame(rows).sort_values(by, ascending=ascending, kind="stable", ignore_index=True)
