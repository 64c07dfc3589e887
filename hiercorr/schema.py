"""One result schema for every model: names, flags and attributes of an xarray Dataset."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr._version import __version__

SCHEMA_VERSION = "1.0"


class Flag(enum.IntFlag):
    """Why an entry is missing or weak; the bits of ``flag`` and ``gene_flag``."""

    NONPOSITIVE_VARIANCE = 1  # no variance beyond noise: correlation undefined
    OUT_OF_RANGE = 2  # |estimate| >= 1: see correlation_unclipped
    TOO_FEW_SAMPLES = 4  # fewer than 3 samples carry the pair: no interval
    NO_INTERVAL = 8  # standard error undefined although there are samples enough
    LOW_INFORMATION = 16  # counts too few for a variance of typical size to stand out
    DOMINATED = 32  # one sample holds more than half of the information: intervals too narrow, use "cluster"
    ABSENT_IN_SAMPLE = 64  # no information on it in at least one sample
    NO_HETEROGENEITY = 128  # some sample cannot estimate the pair: no tau2, I2, prediction interval
    SELF = 256  # a gene with itself

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
    "statistic": "fisher_z / se",
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
    "sample_correlation": "correlation within one sample",
    "sample_se": "standard error of atanh(sample_correlation), cells as units",
}
GENE_VARIABLES = {
    "mean": ("mean expression", "counts per count of depth"),
    "overdispersion": ("variance of expression / mean^2", "1"),
    "detection": ("share of cells with a count", "1"),
    "information": ("variance of typical size / its standard error under Poisson counts", "1"),
    "effective_samples": ("1 / sum of squared shares of the samples in the gene's information", "samples"),
    "gene_flag": ("why the gene is weak", None),
}
SAMPLE_VARIABLES = {"n_cells": ("cells", "cells"), "depth": ("median sequencing depth of a cell", "counts")}
_FLAG_ATTRS = {
    "flag_masks": np.array([int(f) for f in Flag], np.uint16),
    "flag_meanings": " ".join(f.name.lower() for f in Flag if f.name),
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

    Returns
    -------
    xarray.Dataset
    """
    dims = ("gene", "partner") if target is None else ("target", "gene")
    coords: dict[str, Any] = {"gene": genes.to_numpy(object), "sample": samples.to_numpy(object)}
    coords |= {"partner": coords["gene"]} if target is None else {"target": np.array([target], object)}
    variables: dict[str, Any] = {}
    for name, values in pair.items():
        d = ("sample", *dims) if name.startswith("sample_") else dims
        extra = dict(_FLAG_ATTRS) if name == "flag" else {"units": "1"}
        variables[name] = (d, values, {"long_name": PAIR_VARIABLES[name], **extra})
    for table, values_of, dim in ((GENE_VARIABLES, gene, "gene"), (SAMPLE_VARIABLES, sample, "sample")):
        for name, values in values_of.items():
            long_name, units = table[name]
            extra = {"units": units} if units else dict(_FLAG_ATTRS)
            variables[name] = (dim, values, {"long_name": long_name, **extra})
    stamp = {
        "hiercorr_version": __version__,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_samples": len(samples),
    }
    return xr.Dataset(variables, coords, {k: v for k, v in {**stamp, **attrs}.items() if v is not None})


def describe_flag(value: int) -> str:
    """Names of the bits that are set, e.g. ``"low_information,dominated"``; empty if none is."""
    return ",".join(f.name.lower() for f in Flag if f.name and int(value) & f)
