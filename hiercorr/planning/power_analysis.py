"""Power and sample size: how many donors and cells a question needs, and the cheapest design that answers it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.errors import InputError, one_of
from hiercorr.planning.designs import Design, least_samples, solved, with_power

QUESTIONS = ("within", "between", "differential")


_SOLVABLE = ("samples", "cells", "mean", "rho", "heterogeneity", "power")


def power(
    question: str = "within",
    *,
    samples: float | None = None,
    cells: float | None = None,
    mean: float | tuple[float, float] | None = 1.0,
    rho: float | None = 0.3,
    heterogeneity: float | None = 0.1,
    power: float | None = None,
    alpha: float = 0.05,
    tests: int = 1,
    within_sd: float | tuple[float, float] = 0.8,
    between_sd: float = 0.4,
    depth_sd: float = 0.4,
    baseline: float = 0.0,
    paired: bool = False,
    covariates: int = 0,
) -> Design:
    r"""Power of a design, or the one quantity that is None solved for the others.

    Within samples the estimate has variance :math:`(\tau^2 + v / n) / S`, v what one cell tells (the variance of its
    influence under the Poisson-lognormal model, by one large draw), n cells in each of S samples, and a t test on S - 1
    degrees of freedom: a non-central t. A difference has :math:`4(\tau^2 + v / n) / S` on S - 2 (in pairs
    :math:`2(\tau^2 + v/n) / (S/2)` on S/2 - 1). Between samples the correlation is weakened by the noise of the means,
    :math:`r = \rho\sqrt{R_1 R_2}` with reliability :math:`R = b^2 / (b^2 + e/n)`, and the t test on S - 2 - q degrees of
    freedom has non-centrality :math:`r\sqrt{(S - 1 - q) / (1 - r^2)}`; the standard error given is Fisher's.

    Parameters
    ----------
    question : {"within", "between", "differential"}
    samples : float
        Number of samples (both groups together).
    cells : float
        Cells per sample.
    mean : float or pair of float
        Mean count of the genes in a cell of average depth.
    rho : float
        The correlation (of expression within samples; of log means between samples), or the difference of two.
    heterogeneity : float
        Standard deviation of the correlation within samples over samples.
    power : float
        Wanted power. Exactly one of samples, cells, mean, rho, heterogeneity and power is None.
    alpha : float
        Two-sided level; with `tests` it is divided by their number (Bonferroni).
    tests : int
        Number of pairs that are tested.
    within_sd : float or pair of float
        Standard deviation of log expression over cells.
    between_sd : float
        Standard deviation of the log means over samples.
    depth_sd : float
        Standard deviation of log depth over cells.
    baseline : float
        Correlation in the first group, for a difference.
    paired : bool
        Both conditions in each donor.
    covariates : int
        Coefficients beside the intercept that take degrees of freedom, between samples.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If not exactly one quantity is None, a value cannot be, or no value reaches the power.

    Examples
    --------
    >>> import hiercorr as hc
    >>> round(hc.power(samples=8, cells=300, mean=0.5, rho=0.3).power, 1)
    0.7
    >>> hc.power(cells=300, mean=0.5, rho=0.3, power=0.9).samples
    12
    """
    given = {
        "samples": samples,
        "cells": cells,
        "mean": mean,
        "rho": rho,
        "heterogeneity": heterogeneity,
        "power": power,
    }
    one_of("question", question, QUESTIONS)
    if question == "between" and heterogeneity is None:
        raise InputError(
            "heterogeneity is of the correlation within samples: it plays no part between them"
        )
    wanted = [k for k, v in given.items() if v is None]
    if len(wanted) != 1:
        raise InputError(
            f"exactly one of {', '.join(_SOLVABLE)} must be None to be solved for; {wanted or 'none'} is"
        )
    _check(given, alpha, tests, within_sd, between_sd, depth_sd, baseline, question)
    filled: dict[str, Any] = {k: (math.nan if v is None else v) for k, v in given.items()}
    base = Design(
        question,
        float(filled["samples"]),
        float(filled["cells"]),
        _two(filled["mean"]),
        float(filled["rho"]),
        float(filled["heterogeneity"]),
        float(filled["power"]),
        alpha,
        tests,
        _two(within_sd),
        between_sd,
        depth_sd,
        baseline,
        paired,
        covariates,
    )
    return with_power(base) if wanted[0] == "power" else solved(base, wanted[0])


def _two(value: Any) -> tuple[float, float]:
    return (
        (float(value[0]), float(value[1]))
        if isinstance(value, tuple | list)
        else (float(value), float(value))
    )


def _check(
    given: dict[str, Any],
    alpha: float,
    tests: int,
    within_sd: Any,
    between_sd: float,
    depth_sd: float,
    baseline: float,
    question: str,
) -> None:
    for name, value, low, high in (
        ("samples", given["samples"], 3, math.inf),
        ("cells", given["cells"], 2, math.inf),
        ("rho", given["rho"], -1, 1),
        ("heterogeneity", given["heterogeneity"], 0, 1),
        ("power", given["power"], 0, 1),
        ("alpha", alpha, 0, 1),
        ("tests", tests, 1, math.inf),
        ("between_sd", between_sd, 0, 10),
        ("depth_sd", depth_sd, 0, 3),
        ("baseline", baseline, -1, 1),
    ):
        open_ends = name in ("rho", "power", "alpha", "baseline")
        if value is not None and not (low < value < high if open_ends else low <= value <= high):
            raise InputError(f"{name}={value!r} must lie between {low:g} and {high:g}")
    for name, value in (("mean", given["mean"]), ("within_sd", within_sd)):
        if value is not None and not min(_two(value)) > 0:
            raise InputError(f"{name}={value!r} must be positive")
    if (
        question == "differential"
        and given["rho"] is not None
        and not abs(given["rho"] + baseline) < 1
    ):
        raise InputError(f"baseline + rho = {given['rho'] + baseline:g} is no correlation")


def power_curve(design: Design, over: str, values: Iterable[float]) -> pd.DataFrame:
    """Power over values of one quantity.

    Parameters
    ----------
    design : Design
        As :func:`power` gives it.
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
    values : iterable of float

    Returns
    -------
    DataFrame
        Indexed by the quantity: power, standard_error, df.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning.power_analysis import power_curve
    >>> curve = power_curve(hc.power(samples=8, cells=300), "samples", [5, 10, 20])
    >>> bool(curve["power"].is_monotonic_increasing)
    True
    """
    if over not in ("samples", "cells", "mean", "rho", "heterogeneity"):
        raise InputError(f"over must be samples, cells, mean, rho or heterogeneity, not {over!r}")
    rows = []
    for value in values:
        moved: dict[str, Any] = {over: _two(value) if over == "mean" else float(value)}
        found = with_power(replace(design, **moved))
        rows.append(
            {
                over: value,
                "power": found.power,
                "standard_error": found.standard_error,
                "df": found.df,
            }
        )
    return pd.DataFrame(rows).set_index(over)


def around(design: Design, over: str) -> list[float]:
    """Values of a quantity to draw a curve over: from little to several times that of the design.

    Parameters
    ----------
    design : Design
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
    """
    if over == "samples":
        step = 2 if design.paired else 1
        return [float(s) for s in range(least_samples(design), int(3 * design.samples) + 2, step)][
            :200
        ]
    if over == "cells":
        return [
            float(c) for c in np.unique(np.geomspace(10, max(20 * design.cells, 100), 40).round())
        ]
    if over == "mean":
        return list(np.geomspace(0.01, 20, 30))
    if over == "rho":
        return list(np.linspace(0.02, 0.95 - max(design.baseline, 0), 30))
    if over == "heterogeneity":
        return list(np.linspace(0, 0.5, 26))
    raise InputError(f"over must be samples, cells, mean, rho or heterogeneity, not {over!r}")
