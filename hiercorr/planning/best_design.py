"""The cheapest design that reaches a power, or the most powerful one within a budget."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from hiercorr.errors import InputError, between_0_and_1, number
from hiercorr.planning.designs import Design, check_design_type, minimum_samples, solve, with_power

_GOAL = 0.8
_MAX_SAMPLES = 200


def best_design(
    design: Design,
    donor_cost: float,
    cell_cost: float,
    *,
    goal: float = _GOAL,
    budget: float | None = None,
) -> pd.DataFrame:
    """Find the cheapest design that reaches a power, or the most powerful one within a budget.

    Parameters
    ----------
    design : Design
        The question; its numbers of samples (of donors, with ``samples_per_donor``) and cells are
        varied.
    donor_cost, cell_cost : float
        Cost of one more sample and of one more cell.
    goal : float
        Required power, if there is no budget.
    budget : float, optional
        Maximum of samples x (donor_cost + samples_per_donor x cells x cell_cost).

    Returns
    -------
    DataFrame
        One row per number of samples, best first: samples, cells, cost, power.

    Raises
    ------
    InputError
        If no design of up to 200 samples reaches the power, or the budget is too small.
    """
    _check(design, donor_cost, cell_cost, goal, budget)
    rows: list[dict[str, float]] = []
    step = 2 if design.question == "differential" else 1
    for s in range(minimum_samples(design), _MAX_SAMPLES + 1, step):
        if budget is None:
            try:
                fewer = rows[-1]["cells"] if rows else None  # more samples need fewer cells
                found = solve(replace(design, samples=float(s), power=goal), "cells", fewer)
            except InputError:
                continue
        else:
            cells = math.floor((budget / s - donor_cost) / cell_cost / design.samples_per_donor)
            if cells < 2:
                break
            found = with_power(replace(design, samples=float(s), cells=float(cells)))
        each = int(float(np.mean(found.cells)))  # one number: cells were solved for or set
        cost = s * (donor_cost + each * design.samples_per_donor * cell_cost)
        rows.append({"samples": s, "cells": each, "cost": cost, "power": found.power})
    if not rows:
        raise InputError(
            f"no design of up to {_MAX_SAMPLES} samples reaches power {goal:g}"
            if budget is None
            else f"the budget buys no design: {budget:g} is less than "
            f"{minimum_samples(design)} samples of 2 cells cost"
        )
    by, ascending = (["cost"], [True]) if budget is None else (["power", "cost"], [False, True])
    return pd.DataFrame(rows).sort_values(by, ascending=ascending, kind="stable", ignore_index=True)


def _check(
    design: Design, donor_cost: float, cell_cost: float, goal: float, budget: float | None
) -> None:
    check_design_type(design)
    number("donor_cost", donor_cost, 0)
    number("cell_cost", cell_cost)
    number("budget", budget, 0, optional=True)
    if cell_cost <= 0:
        raise InputError(f"cell_cost must be positive, not {cell_cost!r}")
    between_0_and_1("goal", goal)
    if budget is not None and goal != _GOAL:
        raise InputError(
            f"goal={goal!r} has no effect with budget=, which looks for the most powerful design: "
            "leave one of them out"
        )
