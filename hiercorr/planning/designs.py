"""The power of a design, and the value of one quantity that reaches a required power."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from scipy import optimize, stats

from hiercorr.errors import InputError
from hiercorr.planning.variances import cell_variance

_MOST = {"samples": 10_000, "cells": 10_000_000, "mean": 1e4}


@dataclass(frozen=True)
class Design:
    """A design and what it can see; see :func:`power` for the fields."""

    question: str
    samples: float
    cells: float
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
    standard_error: float = math.nan
    df: float = math.nan

    def __str__(self) -> str:
        what = {
            "within": f"correlation {self.rho:.3g} within samples",
            "between": f"correlation {self.rho:.3g} between samples",
            "differential": f"a difference of {self.rho:g} from {self.baseline:g} within samples"
            + (", in pairs" if self.paired else ", two groups"),
        }[self.question]
        return (
            f"{what}: power {self.power:.2f} with {self.samples:g} samples of {self.cells:,.0f} cells, mean counts "
            f"{self.mean[0]:.3g} and {self.mean[1]:.3g}, heterogeneity {self.heterogeneity:.3g}, alpha {self.alpha:g} over "
            f"{self.tests:,} tests (standard error {self.standard_error:.3f}, {self.df:.3g} degrees of freedom)"
        )


def with_power(design: Design) -> Design:
    s, n = design.samples, design.cells
    level = design.alpha / design.tests
    if design.question == "between":
        shares = [
            reliability(m, w, design, n) for m, w in zip(design.mean, design.within_sd, strict=True)
        ]
        shown = design.rho * math.sqrt(shares[0] * shares[1])
        df = s - 2 - design.covariates
        if df < 2:
            raise InputError(
                f"{s:g} samples with {design.covariates} covariates leave {df:g} degrees of freedom: 2 are needed"
            )
        shift = abs(shown) / math.sqrt(1 - shown**2) * math.sqrt(df + 1)
        critical = stats.t.isf(level / 2, df)
        reached = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
        return replace(
            design,
            power=float(min(reached, 1.0)),
            standard_error=1 / math.sqrt(df - 1),
            df=float(df),
        )
    if design.question == "within":
        variance = (design.heterogeneity**2 + _information(design, design.rho) / n) / s
        df = s - 1
    else:
        one, other = (
            _information(design, r) / n for r in (design.baseline, design.baseline + design.rho)
        )
        variance = 2 * (2 * design.heterogeneity**2 + one + other) / s
        df = s / 2 - 1 if design.paired else s - 2
    if df < 1:
        raise InputError(f"{s:g} samples leave {df:g} degrees of freedom; more are needed")
    error = math.sqrt(variance)
    critical = stats.t.isf(level / 2, df)
    shift = abs(design.rho) / error
    reached = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    if not math.isfinite(reached):
        reached = stats.norm.sf(critical - shift)
    return replace(design, power=float(min(reached, 1.0)), standard_error=error, df=float(df))


def solved(design: Design, name: str) -> Design:
    """The design with the one quantity that reaches the wanted power."""
    goal = design.power

    def at(value: float) -> Design:
        key: Any = (value, value) if name == "mean" else value
        return with_power(replace(design, **{name: key}))

    if name in ("samples", "cells"):
        low = least_samples(design) if name == "samples" else 2
        if at(low).power >= goal:
            return at(low)
        high = int(_MOST[name])
        if at(high).power < goal:
            raise InputError(
                f"no number of {name} up to {high:,} gives power {goal:g} (at most {at(high).power:.2f}): "
                + ("more samples are needed" if name == "cells" else "the effect is too small")
            )
        step = 2 if name == "samples" and design.paired and design.question == "differential" else 1
        while high - low > step:
            middle = low + (high - low) // (2 * step) * step
            low, high = (middle, high) if at(middle).power < goal else (low, middle)
        return at(high)
    bottom, top = {
        "mean": (1e-4, _MOST["mean"]),
        "rho": (1e-4, 0.99 - max(design.baseline, 0)),
        "heterogeneity": (0.0, 1.0),
    }[name]
    ends = at(bottom).power - goal, at(top).power - goal
    if ends[0] * ends[1] > 0:
        raise InputError(
            f"no {name} between {bottom:g} and {top:g} gives power {goal:g}: it is {at(bottom).power:.2f} to "
            f"{at(top).power:.2f}"
        )
    return at(float(optimize.brentq(lambda v: at(v).power - goal, bottom, top, xtol=1e-5)))


def least_samples(design: Design) -> int:
    if design.question == "between":
        return 4 + design.covariates
    return 3 if design.question == "within" else 4


def _information(design: Design, rho: float) -> float:
    return cell_variance(design.mean, design.within_sd, rho, design.depth_sd)


def reliability(mean: float, within_sd: float, design: Design, cells: float) -> float:
    """Share of the variance of a sample's log mean that is not the noise of its cells."""
    noise = (1 / mean + math.expm1(within_sd**2) * math.exp(design.depth_sd**2)) / cells
    return design.between_sd**2 / (design.between_sd**2 + noise) if design.between_sd > 0 else 0.0
