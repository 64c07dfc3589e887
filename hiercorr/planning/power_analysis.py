"""Power and sample size: how many donors and cells a question needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.errors import (
    InputError,
    between_0_and_1,
    listed,
    number,
    one_of,
    true_or_false,
    whole_number,
    without_effect,
)
from hiercorr.planning.designs import Design, check_design_type, minimum_samples, solve, with_power

QUESTIONS = ("within", "between", "differential")
QUANTITIES = ("samples", "cells", "mean", "rho", "heterogeneity")
_SOLVABLE = (*QUANTITIES, "power")
_HETEROGENEITY, _BETWEEN_SD = 0.1, 0.4  # defaults
_MOST = 10_000_000  # samples, cells per sample and counts


def power(
    question: str = "within",
    *,
    samples: float | None = None,
    cells: float | Sequence[float] | None = None,
    mean: float | tuple[float, float] | None = 1.0,
    rho: float | None = 0.3,
    heterogeneity: float | None = _HETEROGENEITY,
    power: float | None = None,
    alpha: float = 0.05,
    tests: int = 1,
    within_sd: float | tuple[float, float] = 0.8,
    between_sd: float = _BETWEEN_SD,
    depth_sd: float = 0.4,
    baseline: float = 0.0,
    paired: bool = False,
    covariates: int = 0,
    uncertainty: str = "hierarchical",
    correlated: float = 1,
    samples_per_donor: int = 1,
) -> Design:
    r"""Compute the power of a design, or solve for the one quantity that is None.

    Within samples the estimate has variance :math:`(\tau^2 + v / n) / S`, with n cells in each of
    S samples and v the variance of one cell's influence under the Poisson-lognormal model
    (estimated from one large simulated sample). The hierarchical test knows the sampling variance
    of every donor and learns from all pairs how donors differ; its power is averaged over what the
    residuals leave open of :math:`\tau` (:func:`hiercorr.planning.screens.hierarchical_power`).
    The jackknife's t test on S - 1 degrees of freedom has a non-central t distribution. A
    difference has variance :math:`4(\tau^2 + v / n) / S` on S - 2 degrees of
    freedom (in pairs :math:`2(\tau^2 + v/n) / (S/2)` on S/2 - 1). Between samples the correlation
    is attenuated by the sampling noise of the means, :math:`r = \rho\sqrt{R_1 R_2}` with
    reliability :math:`R = b^2 / (b^2 + e/n)`; the power of the t test on S - 2 - q degrees of
    freedom is that for two random variables
    (:func:`hiercorr.planning.exact.correlation_test_power`), smaller than if one of them were
    fixed. The reported standard error is that of r by the delta method.

    Parameters
    ----------
    question : {"within", "between", "differential"}
        Correlation within samples, between samples, or its difference between two groups.
    samples : float
        Number of samples (both groups together); of donors, if they have several samples.
    cells : float or sequence of float
        Cells per sample. ``"within"``: a sequence has one number per donor.
    mean : float or pair of float
        Mean count of the genes in a cell of average sequencing depth.
    rho : float
        Correlation (of expression within samples; of log means between samples), or the
        difference of two correlations.
    heterogeneity : float
        Standard deviation over samples of the correlation within samples; not for ``"between"``.
    power : float
        Required power. Exactly one of samples, cells, mean, rho, heterogeneity and power is None.
    alpha : float
        Two-sided level, divided by `tests` (Bonferroni); the false discovery rate, if `correlated`
        is larger than 1.
    tests : int
        Number of pairs tested.
    within_sd : float or pair of float
        Standard deviation of log expression over cells.
    between_sd : float
        Standard deviation of log means over samples; for ``"between"``.
    depth_sd : float
        Standard deviation of log depth over cells.
    baseline : float
        Correlation in the first group; for ``"differential"``.
    paired : bool
        Whether every donor has both conditions; for ``"differential"``.
    covariates : int
        Coefficients besides the intercept that use degrees of freedom; for ``"between"``.
    uncertainty : {"hierarchical", "jackknife"}
        Inference over donors, as in :meth:`hiercorr.CSCore.fit`; for ``"within"``.
    correlated : float
        Number of the tested pairs that have this correlation: the level is that of
        Benjamini-Hochberg.
    samples_per_donor : int
        Samples per donor (``block=`` of the models), each of `cells` cells; for ``"within"``.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If not exactly one quantity is None, a value is invalid or has no effect on the question,
        or no value reaches the power.

    Examples
    --------
    >>> import hiercorr as hc
    >>> round(hc.power(samples=8, cells=300, mean=0.5, rho=0.3).power, 1)
    0.9
    >>> hc.power(cells=300, mean=0.5, rho=0.3, power=0.9).samples
    7
    >>> screen = {"mean": 1.5, "tests": 3160, "correlated": 40}
    >>> round(hc.power(cells=[1500, 300, 150, 150], **screen).power, 1)
    0.7
    """
    given = {
        "samples": samples,
        "cells": cells,
        "mean": mean,
        "rho": rho,
        "heterogeneity": heterogeneity,
        "power": power,
    }
    others = {
        "alpha": alpha,
        "tests": tests,
        "within_sd": within_sd,
        "between_sd": between_sd,
        "depth_sd": depth_sd,
        "baseline": baseline,
        "paired": paired,
        "covariates": covariates,
        "uncertainty": uncertainty,
        "correlated": correlated,
        "samples_per_donor": samples_per_donor,
    }
    one_of("question", question, QUESTIONS)
    if isinstance(cells, Sequence | np.ndarray) and not isinstance(cells, str):
        given["cells"], given["samples"] = _cells_of_donors(question, cells, samples)
    _check_values(given | others)
    _check_effects(question, given | others)
    missing = [k for k, v in given.items() if v is None]
    if len(missing) != 1:
        raise InputError(
            f"exactly one of {', '.join(_SOLVABLE)} must be None to be solved for, "
            f"not {', '.join(missing) or 'none'}"
        )
    if question == "differential" and rho is not None and not abs(rho + baseline) < 1:
        raise InputError(f"baseline + rho = {rho + baseline:g} is no correlation")
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in given.items()} | others
    for name in ("mean", "within_sd"):
        values[name] = _two(values[name])
    for name in ("samples", "rho", "heterogeneity", "power"):
        values[name] = float(values[name])
    if not isinstance(values["cells"], tuple):
        values["cells"] = float(values["cells"])
    design = Design(question=question, **values)
    return with_power(design) if missing[0] == "power" else solve(design, missing[0])


def _cells_of_donors(
    question: str, cells: Any, samples: float | None
) -> tuple[tuple[float, ...], float]:
    """Check the numbers of cells of unequal donors; return them and the number of donors."""
    each = tuple(listed("cells", cells, "a number, or one per donor"))
    if question != "within":
        raise InputError("cells must be one number, except for question='within'")
    if len(each) < 3 or samples not in (None, len(each)):
        raise InputError(
            f"cells has {len(each)} numbers, one per donor: at least 3 are needed, as many as "
            f"samples={samples!r}"
        )
    for n in each:
        number("cells", n, 2)
    return tuple(float(n) for n in each), float(len(each))


def _two(value: Any) -> tuple[float, float]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return float(first), float(second)


def _check_values(values: Mapping[str, Any]) -> None:
    """Check the type and range of every number; None is a quantity to solve for."""
    number("samples", values["samples"], 3, _MOST, optional=True)
    if not isinstance(values["cells"], tuple):
        number("cells", values["cells"], 2, _MOST, optional=True)
    number("heterogeneity", values["heterogeneity"], 0, 1, optional=True)
    number("tests", values["tests"], 1)
    number("between_sd", values["between_sd"], 0, 10)
    number("depth_sd", values["depth_sd"], 0, 3)
    between_0_and_1("alpha", values["alpha"])
    if values["power"] is not None:
        between_0_and_1("power", values["power"])
    for name in ("rho", "baseline"):
        number(name, values[name], -1, 1, optional=name == "rho")
        if values[name] is not None and abs(values[name]) == 1:
            raise InputError(f"{name} must lie between -1 and 1, not {values[name]!r}")
    for name in ("mean", "within_sd"):
        _check_pair(name, values[name], optional=name == "mean")
    true_or_false("paired", values["paired"])
    whole_number("covariates", values["covariates"], 0)
    one_of("uncertainty", values["uncertainty"], ("hierarchical", "jackknife"))
    number("correlated", values["correlated"], 1)
    if values["correlated"] > values["tests"]:
        raise InputError(
            f"correlated={values['correlated']!r} is more than tests={values['tests']!r}: it is "
            "the number of the tested pairs that have this correlation"
        )
    whole_number("samples_per_donor", values["samples_per_donor"])


def _check_pair(name: str, value: Any, optional: bool = False) -> None:
    if value is None and optional:
        return
    both = list(value) if isinstance(value, tuple | list) else [value, value]
    numbers = [isinstance(v, Real) and not isinstance(v, bool) for v in both]
    if len(both) != 2 or not all(numbers):
        raise InputError(f"{name} must be a number or a pair of numbers, not {value!r}")
    if not all(0 < v <= _MOST for v in both):
        raise InputError(f"{name} must be positive and no more than {_MOST:,}, not {value!r}")


def _check_effects(question: str, values: Mapping[str, Any]) -> None:
    """Raise an error for values that play no part in the question."""
    if question == "between" and values["heterogeneity"] != _HETEROGENEITY:
        raise InputError(
            f"heterogeneity={values['heterogeneity']!r} is a property of the correlation within "
            "samples: it plays no part between samples, leave it out"
        )
    if question != "between":
        without_effect(
            between_sd=(float(values["between_sd"]), _BETWEEN_SD, "question='between'"),
            covariates=(int(values["covariates"]), 0, "question='between'"),
        )
    if question != "within":
        without_effect(
            uncertainty=(values["uncertainty"], "hierarchical", "question='within'"),
            samples_per_donor=(int(values["samples_per_donor"]), 1, "question='within'"),
        )
    if question != "differential":
        without_effect(
            baseline=(float(values["baseline"]), 0.0, "question='differential'"),
            paired=(bool(values["paired"]), False, "question='differential'"),
        )


def power_curve(design: Design, over: str, values: Iterable[float]) -> pd.DataFrame:
    """Compute the power of a design for several values of one quantity.

    Parameters
    ----------
    design : Design
        From :func:`power`.
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
        Quantity to vary.
    values : iterable of float
        Its values.

    Returns
    -------
    DataFrame
        Indexed by the quantity: power, standard_error, df.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning import power_curve
    >>> curve = power_curve(hc.power(samples=8, cells=300), "samples", [5, 10, 20])
    >>> bool(curve["power"].is_monotonic_increasing)
    True
    """
    _check_quantity(design, over)
    rows = []
    for value in listed("values", values, "several numbers"):
        if value is None:
            raise InputError("values must be several numbers, not None")
        try:
            _check_values(_values_of(design) | {over: value})
        except InputError as error:
            raise InputError(f"values: {error}") from error
        changed: dict[str, Any] = {over: _two(value) if over == "mean" else float(value)}
        found = with_power(replace(design, **changed))
        rows.append(
            {
                over: value,
                "power": found.power,
                "standard_error": found.standard_error,
                "df": found.df,
            }
        )
    if not rows:
        raise InputError("values must contain at least one number")
    return pd.DataFrame(rows).set_index(over)


def _values_of(design: Design) -> dict[str, Any]:
    """Return the values of a design, without its power, which may round to 1."""
    others = (f.name for f in fields(design) if f.name not in ("question", "standard_error", "df"))
    values = {name: getattr(design, name) for name in others}
    return {**values, "power": None}


def around(design: Design, over: str) -> list[float]:
    """Choose values of one quantity for a power curve.

    Parameters
    ----------
    design : Design
        From :func:`power`.
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
        Quantity to vary.

    Returns
    -------
    list of float
        From small values to several times the value of the design.
    """
    _check_quantity(design, over)
    if over == "samples":
        step = 2 if design.paired else 1
        numbers = range(minimum_samples(design), int(3 * design.samples) + 2, step)
        return [float(s) for s in numbers][:200]
    if over == "cells":
        top = max(20 * float(np.mean(design.cells)), 100)
        return [float(c) for c in np.unique(np.geomspace(10, top, 40).round())]
    if over == "mean":
        return list(np.geomspace(0.01, 20, 30))
    if over == "rho":
        return list(np.linspace(0.02, 0.95 - max(design.baseline, 0), 30))
    return list(np.linspace(0, 0.5, 26))


def _check_quantity(design: Design, over: str) -> None:
    check_design_type(design)
    one_of("over", over, QUANTITIES)
    if over == "samples" and isinstance(design.cells, tuple):
        raise InputError(
            "over='samples' needs one number of cells, and the design has one per donor"
        )
    if over == "heterogeneity" and design.question == "between":
        raise InputError("over='heterogeneity' has no effect for a design with question='between'")
