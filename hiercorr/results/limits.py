"""Limits of what a result contains: a file may have been edited by hand or by another program."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.schema import (
    COEFFICIENT_VARIABLES,
    GENE_TEXTS,
    GENE_VARIABLES,
    LAYERS,
    PAIR_VARIABLES,
    SAMPLE_VARIABLES,
    Flag,
)

_REQUIRED = (
    *("model", "title", "level", "estimator", "formula", "uncertainty", "hiercorr_version"),
    *("n_samples", "n_cells"),
)
_TOGETHER = {  # variables and attributes, and the attributes that are reported with them
    "q_value": ("q_method", "q_family"),
    "lfsr": ("null_share", "shrunken_pairs"),
    "shrunken_pairs": ("null_share",),
    "heterogeneous_share": ("prior_pairs",),
}
_LEVELS = ("within", "between", "pooled", "total")
_WHOLE = {  # attributes that are whole numbers, and the smallest
    "n_samples": 1,
    "n_cells": 0,
    "n_cells_input": 0,
    "n_donors": 1,
    "empty_cells": 0,
    "min_cells": 0,
    "min_counts": 0,
    "n_bootstrap": 1,
    "permutations": 1,
    "iterations": 0,
    "prior_pairs": 0,
    "shrunken_pairs": 0,
    "signature_size": 1,
    "n_modules": 1,
    "draws": 1,
    "tune": 0,
    "chains": 1,
    "df_numerator": 1,
    "divergences": 0,
    "thinning": 1,
}
_NUMBERS = {  # attributes that are numbers, and their range
    "confidence": (0, 1),
    "theta": (0, math.inf),
    "composition": (-1, 1),
    "block_correlation": (-1, 1),
    "heterogeneous_share": (0, 1),
    "null_share": (0, 1),
    "smallest_p": (0, 1),
    "smallest_p_value": (0, 1),
    "prior_df": (0, math.inf),
    "prior_variance": (0, math.inf),
    "target_accept": (0, 1),
    "rope": (0, 1),
    "seconds": (0, math.inf),
    "grid_error": (0, math.inf),
    "largest_r_hat": (0, math.inf),
    "smallest_ess": (0, math.inf),
    "tau": (0, math.inf),
    "tau_lower": (0, math.inf),
    "tau_upper": (0, math.inf),
}
_SWITCHES = (
    *("converged", "depth_adjust", "exploratory", "heterogeneity", "standardized", "shrink"),
    "joint_draws",
)
_TEXTS = (
    *("model", "title", "level", "estimator", "formula", "uncertainty", "hiercorr_version"),
    *("block", "block_method", "cell_terms", "cell_type_column", "condition", "contrast", "test"),
    *("created", "donor_weights", "estimand", "interval", "layer", "method", "normalization"),
    *("note", "precision", "q_family", "q_method", "sample_column", "sample_terms", "signature"),
    *("score", "score_level", "score_source", "traits", "trait_levels"),
    *("small_samples", "structure", "subset", "tau_distribution", "tau_within_donors_distribution"),
    *("varying", "weights", "moderated", "interaction"),
)
_CORRELATIONS = (
    *("correlation", "ci_lower", "ci_upper", "prediction_lower", "prediction_upper"),
    *("group_correlation", "observed_correlation", "within_correlation", "between_correlation"),
    *("shrunken_correlation", "natural_correlation", "natural_lower", "natural_upper"),
    *("correlation_projected", "sample_correlation", "marginal_correlation"),
    *("group_ci_lower", "group_ci_upper", "sample_natural_correlation"),
    *("sample_natural_lower", "sample_natural_upper"),
    *("partial_correlation", "partial_lower", "partial_upper"),
)
_SHARES = (
    *("p_value", "q_value", "lfsr", "ordinary_p_value", "cell_p_value", "jackknife_p_value"),
    *("hc2_p_value", "cochran_p_value", "probability_of_direction", "rope_share", "i2"),
    *("detection", "depth_share", "depth_slope_p_value", "variance_share"),
    *("beta_p_value", "beta_q_value", "contrast_p_value", "contrast_adjusted_p_value"),
    *("beta_probability_of_direction", "term_beta_probability_of_direction"),
    *("stability", "local_fdr", "bayesian_fdr"),
)
_POSITIVE = (
    *("se", "fisher_z_se", "difference_se", "beta_se", "sample_se", "sd", "df", "beta_df"),
    *("tau", "tau_within_donors", "group_tau", "tau2", "cochran_q", "ess_bulk", "ess_tail"),
    *("r_hat", "mean", "n_cells", "depth", "total_depth", "inflation", "library_size"),
    *("f_statistic", "df_denominator", "largest_difference", "contrast_difference_se"),
    *("effective_samples", "dispersion", "prior_variance", "prior_df"),
    *("overdispersion_se", "overdispersion_lower", "overdispersion_upper"),
    *("within_sd", "within_sd_lower", "within_sd_upper"),
    *("between_sd", "between_sd_lower", "between_sd_upper"),
    *("samples_sd", "samples_sd_lower", "samples_sd_upper"),
)
_RANGES = {
    **dict.fromkeys(_CORRELATIONS, (-1.0, 1.0)),
    **dict.fromkeys(_SHARES, (0.0, 1.0)),
    **dict.fromkeys(_POSITIVE, (0.0, math.inf)),
}
_ORDERED = (
    "ci",
    "difference",
    "contrast_difference",
    "prediction",
    "natural",
    "overdispersion",
    "partial",
    "beta",
    *("within_sd", "between_sd", "samples_sd"),
)  # ..._lower and ..._upper
_ROUNDING = 1e-5  # of single precision
_OF = {
    **dict.fromkeys(PAIR_VARIABLES, "pair"),
    **dict.fromkeys(GENE_VARIABLES, ("gene",)),
    **dict.fromkeys(SAMPLE_VARIABLES, ("sample",)),
    **dict.fromkeys(COEFFICIENT_VARIABLES, ("coefficient", "gene")),
}
_FLAGS = ("flag", "gene_flag")
_ALL_FLAGS = sum(int(f) for f in Flag)


def impossible_attribute(dataset: xr.Dataset) -> str | None:
    """Return which attribute of a result is missing or cannot be; None if all can be.

    Attributes of other names are not examined.
    """
    attrs = dataset.attrs
    also = [a for name, with_it in _TOGETHER.items() for a in with_it if _has(dataset, name)]
    missing = [name for name in (*_REQUIRED, *also) if name not in attrs]
    if missing:
        return f"has no attribute {missing[0]!r}"
    wrong = next((found for k in attrs if (found := _wrong(str(k), attrs[k]))), None)
    n = dataset.sizes.get("sample", attrs["n_samples"])
    if wrong is None and attrs["n_samples"] != n:
        return f"has the attribute 'n_samples' = {attrs['n_samples']}, and {n} samples"
    return wrong


def _has(dataset: xr.Dataset, name: str) -> bool:
    return name in dataset.data_vars or name in dataset.attrs


def _wrong(name: str, value: Any) -> str | None:
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    expected = None
    if name in _TEXTS and not (isinstance(value, str) and (value or name != "title")):
        expected = "a text"
    elif name == "shrinkage":  # a prior by name, or the weight of the identity
        if not (value if isinstance(value, str) else is_number and 0 <= value <= 1):
            expected = "a text or a number from 0 to 1"
    elif name == "level" and value not in _LEVELS:
        expected = f"one of {', '.join(_LEVELS)}"
    elif name in _WHOLE and not (is_whole and value >= _WHOLE[name]):
        expected = f"a whole number of at least {_WHOLE[name]}"
    elif name in _NUMBERS:
        low, high = _NUMBERS[name]
        if not (is_number and low <= value <= high):
            expected = f"a number from {low:g} to {high:g}"
    elif name in _SWITCHES and not (isinstance(value, bool | Integral) and value in (0, 1)):
        expected = "0 or 1"
    return None if expected is None else f"has the attribute {name!r} = {value!r}, not {expected}"


def impossible_shape(dataset: xr.Dataset) -> str | None:
    """Return which variable of a result has other dimensions or another type; None if none has."""
    pair = dataset["correlation"].dims
    if pair not in (("gene", "partner"), ("target", "gene"), ("pair",)):
        return f"has 'correlation' with the dimensions {pair}"
    if pair == ("pair",):
        for name in ("gene_a", "gene_b"):
            if name not in dataset.coords or dataset[name].dims != pair:
                return f"has listed pairs without the names {name!r}"
            names = pd.Index(dataset[name].values.tolist())
            if not names.isin(dataset["gene"].values.tolist()).all():
                return f"has names of {name!r} that are no genes of it"
    for dim in ("gene", "partner", "target", *LAYERS, "coefficient"):
        if dim in dataset.coords and not all(isinstance(n, str) for n in dataset[dim].values):
            return f"has names of {dim!r} that are not texts"
    if "partner" in pair and not np.array_equal(dataset["gene"].values, dataset["partner"].values):
        return "has other names of 'partner' than of 'gene'"
    for name, dims, variable in _known(dataset):
        if variable.dims != (pair if dims == "pair" else dims):
            return f"has {name!r} with the dimensions {variable.dims}"
        if variable.dtype.kind not in ("iu" if name in _FLAGS else "fiu"):
            return f"has {name!r} of the type {variable.dtype}"
    return None


def _known(dataset: xr.Dataset) -> Iterator[tuple[str, Any, xr.Variable]]:
    """Yield the variables with numbers that the schema knows, with their dimensions."""
    for name, dims in _OF.items():
        if name not in dataset.data_vars or name in GENE_TEXTS:
            continue
        variable = dataset[name].variable
        first = next((d for d in LAYERS if name.startswith(f"{d}_")), None)
        if first is not None and variable.dims[:1] == (first,):
            variable = variable.isel({first: 0}) if variable.shape[0] else variable
        yield name, dims, variable


def impossible_value(dataset: xr.Dataset) -> str | None:
    """Return which variable of a result contains impossible values; None if none does.

    Only variables in memory are examined: those left on disk (``lazy=True``) are not.
    """
    for name, variable in dataset.data_vars.items():
        values = variable.variable
        if not values._in_memory or not values.size:
            continue
        known = str(name).removesuffix("_between")
        if known in _FLAGS and values.dtype.kind in "iu":
            unknown = int(np.bitwise_or.reduce(values.values, axis=None)) & ~_ALL_FLAGS
            if unknown:
                return f"has {name!r} with bits that are no flag ({unknown})"
        elif known in _RANGES and values.dtype.kind in "fiu":
            low, high = _RANGES[known]
            least, most = _extremes(values.values)
            if least < low - _ROUNDING or most > high + _ROUNDING:
                odd = least if least < low - _ROUNDING else most
                return f"has {name!r} = {odd:g}, which must lie from {low:g} to {high:g}"
    return next((found for name in _ORDERED if (found := _disordered(dataset, name))), None)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest value, NaN where all are missing."""
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max())
    flat = values.reshape(-1)
    return float(np.fmin.reduce(flat)), float(np.fmax.reduce(flat))


def _disordered(dataset: xr.Dataset, name: str) -> str | None:
    lower, upper = (dataset.get(f"{name}_{side}") for side in ("lower", "upper"))
    if lower is None or upper is None or not (lower._in_memory and upper._in_memory):
        return None
    rows = zip(lower.values, upper.values, strict=True)
    if any(bool((low > high + _ROUNDING).any()) for low, high in rows):
        return f"has values of '{name}_lower' above '{name}_upper'"
    return None
