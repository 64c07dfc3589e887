"""One result schema for every model: names, flags and attributes of an xarray Dataset."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr._version import __version__

SCHEMA_VERSION = "1.3"


class Flag(enum.IntFlag):
    """Why an entry is missing or weak; the bits of ``flag`` and ``gene_flag``."""

    NONPOSITIVE_VARIANCE = 1  # no variance beyond noise: correlation undefined
    OUT_OF_RANGE = 2  # |estimate| >= 1: see correlation_unclipped; test and interval are kept
    TOO_FEW_SAMPLES = 4  # fewer than 3 samples carry the pair: no interval
    NO_INTERVAL = 8  # no interval although there are samples enough
    LOW_INFORMATION = 16  # counts too few for a variance of typical size to stand out
    DOMINATED = 32  # one sample holds more than half of the information: the estimate is mostly that sample's
    ABSENT_IN_SAMPLE = 64  # no information on it in at least one sample
    NO_HETEROGENEITY = 128  # some sample cannot estimate the pair: no tau2, I2, prediction interval
    SELF = 256  # a gene with itself
    SIGN_REVERSAL = 512  # the total correlation and that within samples have opposite signs
    LOW_RELIABILITY = (
        1024  # too little of the variance between samples is above the noise of their means
    )
    NOT_CONVERGED = 2048  # R-hat, effective sample size, divergences or energy say that the draws are not to be trusted
    PRIOR_DOMINATED = 4096  # the data took away less than half of the prior's variance
    COARSE_GRID = 8192  # a correlation too close to 1 for the grid that cells are summed out on

    @property
    def bit(self) -> np.uint16:
        """The flag in the dtype of the flag arrays (numpy would widen an IntFlag)."""
        return np.uint16(int(self))


PAIR_VARIABLES = {
    "correlation": "correlation",
    "correlation_unclipped": "correlation before values outside (-1, 1) are withheld",
    "fisher_z": "atanh of the correlation",
    "se": "standard error of fisher_z",
    "ci_lower": "lower confidence limit of the correlation",
    "ci_upper": "upper confidence limit of the correlation",
    "statistic": "t statistic of no correlation",
    "df": "degrees of freedom of the t distribution",
    "p_value": "two-sided p-value, n = samples",
    "q_value": "Benjamini-Hochberg adjusted p_value over distinct pairs",
    "flag": "why the entry is missing or weak",
    "cell_statistic": "published CS-CORE test statistic; takes cells as independent",
    "cell_p_value": "p-value of cell_statistic; takes cells as independent, so not valid when cells nest in samples",
    "tau2": "variance of fisher_z over samples",
    "i2": "share of the variation of fisher_z that lies between samples",
    "prediction_lower": "lower 95% prediction limit of a new sample's correlation",
    "prediction_upper": "upper 95% prediction limit of a new sample's correlation",
    "difference": "difference of the correlation between conditions, or its slope",
    "difference_se": "standard error of difference",
    "difference_lower": "lower confidence limit of difference",
    "difference_upper": "upper confidence limit of difference",
    "group_correlation": "correlation within samples of one group by itself",
    "observed_correlation": "correlation between samples with the noise of their means in it",
    "within_correlation": "correlation within samples",
    "between_correlation": "correlation between samples, noise of their means taken out",
    "within_part": "part of the total correlation that lies within samples",
    "between_part": "part of the total correlation that lies between samples",
    "between_share": "between_part / correlation",
    "sd": "posterior standard deviation of the correlation",
    "probability_of_direction": "posterior probability of the correlation's sign",
    "rope_share": "posterior probability of a correlation within the region of practical equivalence",
    "contraction": "1 - posterior variance of fisher_z / its prior variance",
    "natural_correlation": "posterior mean correlation of expression itself, the estimand of CSCore",
    "natural_lower": "lower limit of natural_correlation",
    "natural_upper": "upper limit of natural_correlation",
    "correlation_projected": "the nearest correlation matrix to all pairs' correlation",
    "ess_bulk": "effective draws in the bulk of the posterior",
    "ess_tail": "effective draws in its tails",
    "r_hat": "rank-normalised split R-hat",
    "sample_correlation": "correlation within one sample",
    "sample_se": "standard error of atanh(sample_correlation), cells as units",
}
GENE_VARIABLES = {
    "mean": ("mean expression", "counts per count of depth"),
    "mean_log": ("mean log-normalised expression", "natural log"),
    "overdispersion": ("variance of expression / mean^2", "1"),
    "detection": ("share of cells with a count", "1"),
    "information": ("variance of typical size / its standard error under Poisson counts", "1"),
    "dispersion": ("negative-binomial dispersion of the sums", "1"),
    "reliability": ("share of the variance between samples that is not noise of their means", "1"),
    "within_variance": ("variance of expression within samples / mean^2", "1"),
    "between_variance": ("variance of the samples' means / mean^2", "1"),
    "variance_share": ("share of the variance of expression that lies between samples", "1"),
    "effective_samples": (
        "1 / sum of squared shares of the samples in the gene's information",
        "samples",
    ),
    "signature_weight": (
        "weight of the gene's relative expression in the signature that is the target",
        "1",
    ),
    "gene_flag": ("why the gene is weak", None),
}
SAMPLE_VARIABLES = {
    "n_cells": ("cells", "cells"),
    "depth": ("median sequencing depth of a cell", "counts"),
    "total_depth": ("sum of the cells' sequencing depths", "counts"),
    "library_size": ("effective library size after normalisation", "counts"),
}
COEFFICIENT_VARIABLES = {  # (coefficient, gene)
    "beta": "regression coefficient or contrast",
    "beta_se": "standard error of beta",
    "beta_statistic": "beta / beta_se",
    "beta_df": "degrees of freedom of beta_statistic",
    "beta_p_value": "two-sided p-value of beta, n = samples",
    "beta_q_value": "Benjamini-Hochberg adjusted beta_p_value over genes",
}
_FLAG_ATTRS = {
    "flag_masks": np.array([int(f) for f in Flag], np.uint16),
    "flag_meanings": " ".join(f.name.lower() for f in Flag if f.name),
}


def pair_attributes(name: str) -> dict[str, Any]:
    """Attributes of a pair variable."""
    return {
        "long_name": PAIR_VARIABLES[name],
        **(_FLAG_ATTRS if name == "flag" else {"units": "1"}),
    }


def build_dataset(
    *,
    genes: pd.Index,
    samples: pd.Index,
    pair: Mapping[str, NDArray],
    gene: Mapping[str, NDArray],
    sample: Mapping[str, NDArray],
    attrs: Mapping[str, Any],
    target: str | None = None,
    tested: bool = False,
    groups: Sequence[str] | None = None,
    coefficient: Mapping[str, NDArray] | None = None,
    coefficient_names: Sequence[str] = (),
    beta_units: str = "",
) -> xr.Dataset:
    """Assemble the schema from arrays.

    Parameters
    ----------
    genes, samples : Index
    pair : mapping
        Arrays (gene, partner), or (target, gene) with a target; those of one sample have the sample first.
    gene, sample : mapping
        Arrays (gene,) and (sample,).
    attrs : mapping
        Attributes; None is left out.
    target : str, optional
    tested : bool
        The pair variables, which are written elsewhere, hold p-values.
    groups : sequence of str, optional
        Names of the groups of pair variables whose name begins with ``group_``; those arrays have the group first.
    coefficient : mapping, optional
        Arrays (coefficient, gene).
    coefficient_names : sequence of str
    beta_units : str
        Units of `beta`.

    Returns
    -------
    xarray.Dataset
    """
    dims = ("gene", "partner") if target is None else ("target", "gene")
    coords: dict[str, Any] = {"gene": genes.to_numpy(object), "sample": samples.to_numpy(object)}
    coords |= (
        {"partner": coords["gene"]} if target is None else {"target": np.array([target], object)}
    )
    coords |= {} if groups is None else {"group": np.array(list(groups), object)}
    variables: dict[str, Any] = {}
    for name, values in pair.items():
        first = next((d for d in ("sample", "group") if name.startswith(f"{d}_")), None)
        d = dims if first is None else (first, *dims)
        variables[name] = (d, values, pair_attributes(name))
    for table, values_of, dim in (
        (GENE_VARIABLES, gene, "gene"),
        (SAMPLE_VARIABLES, sample, "sample"),
    ):
        for name, values in values_of.items():
            long_name, units = table[name]
            extra = {"units": units} if units else dict(_FLAG_ATTRS)
            variables[name] = (dim, values, {"long_name": long_name, **extra})
    if coefficient:
        coords["coefficient"] = np.array(list(coefficient_names), object)
        for name, values in coefficient.items():
            units = beta_units if name in ("beta", "beta_se") else "1"
            attrs_of = {"long_name": COEFFICIENT_VARIABLES[name], "units": units}
            variables[name] = (("coefficient", "gene"), values, attrs_of)
    stamp = {
        "hiercorr_version": __version__,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_samples": len(samples),
    }
    if "p_value" in pair or tested:
        stamp |= {
            "q_method": "Benjamini-Hochberg",
            "q_family": "all distinct pairs" if target is None else "pairs of the target",
        }
    return xr.Dataset(
        variables, coords, {k: v for k, v in {**stamp, **attrs}.items() if v is not None}
    )


def describe_flag(value: int) -> str:
    """Names of the bits that are set, e.g. ``"low_information,dominated"``; empty if none is."""
    return ",".join(f.name.lower() for f in Flag if f.name and int(value) & f)
