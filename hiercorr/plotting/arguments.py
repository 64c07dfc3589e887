"""Checks of the arguments of plots, by name: what a name means is the same in every plot."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import xarray as xr

from hiercorr.errors import InputError, instance_of, listed, number, text, whole_number
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

Check = Callable[[str, Any, bool], None]
_LARGEST_SEED = 2**32 - 1  # that all libraries accept


def _whole(minimum: int, maximum: int | None = None) -> Check:
    return lambda name, value, may_be_none: whole_number(
        name, value, minimum, may_be_none, maximum=maximum
    )


def _between(low: float, high: float) -> Check:
    return lambda name, value, may_be_none: number(name, value, low, high, may_be_none)


def _result(name: str, value: Any, may_be_none: bool) -> None:
    instance_of(name, value, CorrelationResult, "a CorrelationResult", may_be_none)


def _axes(name: str, value: Any, may_be_none: bool) -> None:
    kind = optional("matplotlib.axes", "plots").Axes
    instance_of(name, value, kind, "Axes of matplotlib", may_be_none)


def _several_axes(name: str, value: Any, may_be_none: bool) -> None:
    if not (value is None and may_be_none):
        for ax in listed(name, value, "a sequence of Axes of matplotlib"):
            _axes(name, ax, False)


def _names(name: str, value: Any, may_be_none: bool) -> None:
    if value is None and may_be_none:
        return
    values = listed(name, value, "a list of genes")
    if not all(isinstance(v, str) for v in values):
        raise InputError(f"{name} must be a list of genes, not {value!r}")


def _has(attribute: str, expected: str) -> Check:
    def check(name: str, value: Any, may_be_none: bool) -> None:
        if not (value is None and may_be_none) and not hasattr(value, attribute):
            raise InputError(f"{name} must be {expected}, not {type(value).__name__}")

    return check


def _dataset(variable: str, expected: str) -> Check:
    def check(name: str, value: Any, _: bool) -> None:
        if not isinstance(value, xr.Dataset) or variable not in value:
            raise InputError(f"{name} must be {expected}, not {type(value).__name__}")

    return check


def _table(columns: set[str], source: str, several: bool = False) -> Check:
    def check(name: str, value: Any, _: bool) -> None:
        tables = value.values() if several and isinstance(value, Mapping) else [value]
        for table in tables:
            if not isinstance(table, pd.DataFrame) or not columns <= set(table.columns):
                raise InputError(f"{name} must be of {source}, not {type(table).__name__}")

    return check


CHECKS: dict[str, Check] = {
    "result": _result,
    "ax": _axes,
    "axes": _several_axes,
    "gene": text,
    "gene_a": text,
    "gene_b": text,
    "variable": text,
    "genes": _names,
    "n": _whole(1),
    "n_labels": _whole(0),
    "max_genes": _whole(2),
    "max_edges": _whole(1),
    "max_cells": _whole(1),
    "bins": _whole(1, 100_000),
    "seed": _whole(0, _LARGEST_SEED),
    "q": _between(0, 1),
    "goal": _between(0, 1),
    "min_correlation": _between(0, 1),
    "modules": _has("genes", "modules from hiercorr.modules.find_modules"),
    "evidence": _has("table", "a table from hiercorr.evidence"),
    "compared": _has("table", "a comparison from hiercorr.compare"),
    "calibration": _dataset("rank", "the ranks from hiercorr.BayesianCorrelation.sbc"),
    "found": _has("genes", "traps from hiercorr.traps"),
    "curves": _table({"power"}, "hiercorr.planning.power_curve", several=True),
    "table": _table({"samples", "cells", "cost", "power"}, "hiercorr.planning.best_design"),
}


def check_arguments(plot: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise an error for the first argument that a plot cannot draw.

    Parameters
    ----------
    plot : callable
    given : mapping
        Its arguments by name; those whose annotation includes None may be None.
    """
    parameters = inspect.signature(plot).parameters
    for name, value in given.items():
        if name in CHECKS:
            CHECKS[name](name, value, "None" in str(parameters[name].annotation))
