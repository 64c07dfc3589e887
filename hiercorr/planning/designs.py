"""The power of a design, and the value of one quantity that reaches a required power."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from hiercorr.errors import InputError
from hiercorr.planning.exact import correlation_test_power, t_test_power
from hiercorr.planning.screens import hierarchical_power, screened
from hiercorr.planning.variances import cell_variance, expected_variance

Array = NDArray[np.float64]

_MAXIMUM = {"samples": 10_000, "cells": 10_000_000, "mean": 1e4}  # searched for a solution


@dataclass(frozen=True)
class Design:
    """A study design and its power.

    The fields are the parameters of :func:`hiercorr.planning.power`, with ``standard_error`` and
    degrees of freedom ``df`` of the estimated correlation or difference.
    """

    question: str
    samples: float
    cells: float | tuple[float, ...]
    mean: tuple[float, float]
    rho: float
    heterogeneity: float
    power: float
    alpha: float
    tests: int
    within_sd: tuple[float, float]
    between_sd: float
    depth_sd: float
    baseline: float
    paired: bool
    covariates: int
    uncertainty: str = "hierarchical"
    correlated: float = 1
    samples_per_donor: int = 1
    standard_error: float = math.nan
    df: float = math.nan

    def __str__(self) -> str:
        effect = {
            "within": f"correlation {self.rho:.3g} within samples",
            "between": f"correlation {self.rho:.3g} between samples",
            "differential": f"difference of {self.rho:g} from {self.baseline:g} within samples"
            + (", in pairs" if self.paired else ", two groups"),
        }[self.question]
        every = self.cells if isinstance(self.cells, tuple) else (self.cells,)
        cells = ", ".join(f"{n:,.0f}" for n in every)
        units = "samples" if self.samples_per_donor == 1 else "donors"
        each = "" if units == "samples" else f"{self.samples_per_donor} samples of "
        test = f"{self.df:.3g} degrees of freedom"
        if math.isinf(self.df):
            test = "tau learnt from all pairs"
        many = "test" if self.tests == 1 else "tests"
        if self.correlated > 1:
            many += f" of {self.correlated:,g} such pairs"
        if self.question == "between":
            varies = f"SD between samples {self.between_sd:.3g}, {self.covariates} covariates"
        else:
            varies = f"heterogeneity {self.heterogeneity:.3g}"
        return (
            f"{effect}: power {self.power:.2f} with {self.samples:g} {units} of {each}"
            f"{cells} cells, mean counts {self.mean[0]:.3g} and {self.mean[1]:.3g}, "
            f"{varies}, alpha {self.alpha:g}, "
            f"{self.tests:,} {many} (standard error {self.standard_error:.3f}, {test})"
        )


def check_design_type(design: object) -> None:
    """Raise an error if a design is not one from :func:`hiercorr.planning.power`."""
    if not isinstance(design, Design):
        raise InputError(
            f"design must be a Design, as returned by power(), not {type(design).__name__}"
        )


def with_power(design: Design) -> Design:
    """Compute the power, standard error and degrees of freedom of a design.

    Parameters
    ----------
    design : Design
        Its ``power``, ``standard_error`` and ``df`` are replaced.

    Returns
    -------
    Design
    """
    return _between_power(design) if design.question == "between" else _within_power(design)


def _between_power(design: Design) -> Design:
    s, n = design.samples, float(_cells(design)[0])
    reliabilities = [
        reliability(m, w, design, n) for m, w in zip(design.mean, design.within_sd, strict=True)
    ]
    attenuated = design.rho * math.sqrt(reliabilities[0] * reliabilities[1])
    df = s - 2 - design.covariates
    if df < 2:
        raise InputError(
            f"samples={s:g} with covariates={design.covariates} leave {df:g} degrees of freedom; "
            "at least 2 are needed"
        )
    return replace(
        design,
        power=_screened(design, lambda levels: correlation_test_power(levels, df, attenuated)),
        standard_error=(1 - attenuated**2) / math.sqrt(df - 1),
        df=float(df),
    )


def _screened(design: Design, reached: Callable[[Array], Array]) -> float:
    return screened(reached, design.alpha, design.tests, design.correlated)


def _within_power(design: Design) -> Design:
    if design.question == "within":
        return _one_correlation(design)
    s, n = design.samples, _cells(design)[0]
    first, second = (
        _cell_variance(design, r) / n for r in (design.baseline, design.baseline + design.rho)
    )
    variance = 2 * (2 * design.heterogeneity**2 + first + second) / s
    df = s / 2 - 1 if design.paired else s - 2
    if df < 1:
        raise InputError(
            f"samples={design.samples:g} leave {df:g} degrees of freedom; more are needed"
        )
    return _with_t_test(design, variance, df)


def _one_correlation(design: Design) -> Design:
    """Compute the power of the test of one correlation within samples."""
    n = _cells(design)
    variance = _cell_variance(design, design.rho) / n
    if design.uncertainty == "jackknife":
        share = n / n.sum()
        spread = float((share**2 * (design.heterogeneity**2 + variance)).sum())
        return _with_t_test(design, spread, 1 / float((share**2).sum()) - 1)
    expected, skewness = expected_variance(
        design.mean, design.within_sd, design.rho, design.depth_sd
    )

    power_of, error = hierarchical_power(
        abs(design.rho), design.heterogeneity, variance, expected / n, skewness / np.sqrt(n)
    )
    return replace(design, power=_screened(design, power_of), standard_error=error, df=math.inf)


def _cells(design: Design) -> Array:
    """Return the number of cells of each donor; the number of donors need not be whole."""
    if isinstance(design.cells, tuple):
        each = np.array(design.cells, float)
    else:
        each = np.full(max(round(design.samples), 1), float(design.cells))
    return each * design.samples_per_donor


def _with_t_test(design: Design, variance: float, df: float) -> Design:
    error = math.sqrt(variance)
    shift = abs(design.rho) / error
    return replace(
        design,
        power=_screened(design, lambda levels: t_test_power(levels, df, shift)),
        standard_error=error,
        df=float(df),
    )


def solve(design: Design, name: str, expected: float | None = None) -> Design:
    """Find the value of one quantity that reaches the power of a design.

    Parameters
    ----------
    design : Design
        Its ``power`` is the goal.
    name : {"samples", "cells", "mean", "rho", "heterogeneity"}
        Quantity to solve for.
    expected : float, optional
        Number of samples or cells that probably suffices; the search starts below it.

    Returns
    -------
    Design
        With the smallest number of samples or cells, or the value of the other quantities.

    Raises
    ------
    InputError
        If no value reaches the power.
    """
    if name in ("samples", "cells"):
        return _smallest_number(design, name, expected)
    bottom, top = {
        "mean": (1e-4, _MAXIMUM["mean"]),
        "rho": (1e-4, 0.99 - max(design.baseline, 0)),
        "heterogeneity": (0.0, 1.0),
    }[name]
    goal = design.power
    ends = [_with_value(design, name, v).power for v in (bottom, top)]
    if (ends[0] - goal) * (ends[1] - goal) > 0:
        raise InputError(
            f"no {name} between {bottom:g} and {top:g} gives power {goal:g}: "
            f"there it is {ends[0]:.2f} to {ends[1]:.2f}"
        )
    value = optimize.brentq(
        lambda v: _with_value(design, name, v).power - goal, bottom, top, xtol=1e-5
    )
    return _with_value(design, name, float(value))


def _with_value(design: Design, name: str, value: float) -> Design:
    changed: Any = (value, value) if name == "mean" else value
    return with_power(replace(design, **{name: changed}))


def _smallest_number(design: Design, name: str, expected: float | None) -> Design:
    """Find the smallest number of samples or cells by bisection."""
    goal = design.power
    low = minimum_samples(design) if name == "samples" else 2
    smallest = _with_value(design, name, low)
    if smallest.power >= goal:
        return smallest
    high = int(expected or _MAXIMUM[name])
    largest = _with_value(design, name, high)
    if largest.power < goal and expected:
        low, high = high, int(_MAXIMUM[name])
        largest = _with_value(design, name, high)
    if largest.power < goal:
        raise InputError(
            f"no number of {name} up to {high:,} gives power {goal:g} "
            f"(maximum {largest.power:.2f}): "
            + ("more samples are needed" if name == "cells" else "the effect is too small")
        )
    step = 2 if name == "samples" and design.paired and design.question == "differential" else 1
    while high - low > step:
        middle = low + (high - low) // (2 * step) * step
        if _with_value(design, name, middle).power < goal:
            low = middle
        else:
            high = middle
    return _with_value(design, name, high)


def minimum_samples(design: Design) -> int:
    """Return the smallest number of samples that leaves degrees of freedom for a test."""
    if design.question == "between":
        return 4 + design.covariates
    return 3 if design.question == "within" else 4


def _cell_variance(design: Design, rho: float) -> float:
    return cell_variance(design.mean, design.within_sd, rho, design.depth_sd)


def reliability(mean: float, within_sd: float, design: Design, cells: float) -> float:
    """Compute the proportion of the variance of a sample's log mean that is not sampling noise.

    Parameters
    ----------
    mean : float
        Mean count in a cell of average sequencing depth.
    within_sd : float
        Standard deviation of log expression over cells.
    design : Design
    cells : float
        Cells per sample.

    Returns
    -------
    float
    """
    noise = (1 / mean + math.expm1(within_sd**2) * math.exp(design.depth_sd**2)) / cells
    return design.between_sd**2 / (design.between_sd**2 + noise) if design.between_sd > 0 else 0.0
