"""The schema of all results: variables, flags and attributes of an xarray Dataset."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr._version import __version__
from hiercorr.estimands import estimand

SCHEMA_VERSION = "2.0"
GENE_ID, FEATURE_TYPE, CELL_TYPE = "gene_id", "feature_type", "cell_type"  # texts of genes
OF_TARGET = "target_"  # prefix of gene variables of targets that are no genes of the result


class Flag(enum.IntFlag):
    """Reasons why an entry is missing or unreliable; the bits of ``flag`` and ``gene_flag``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
    >>> alone = (r.dataset["flag"] & hc.Flag.SELF.bit) > 0
    >>> int(alone.sum())
    1
    """

    NONPOSITIVE_VARIANCE = 1  # no variance beyond counting noise: correlation undefined
    OUT_OF_RANGE = 2  # impossible estimate: see ..._unclipped; test and interval are kept
    TOO_FEW_SAMPLES = 4  # fewer than 3 samples inform the pair: no interval
    NO_INTERVAL = 8  # no interval, although there are enough samples
    LOW_INFORMATION = 16  # too few counts to detect a typical amount of biological variance
    DOMINATED = 32  # one sample contributes more than half of the information
    ABSENT_IN_SAMPLE = 64  # no information in at least one sample
    NO_HETEROGENEITY = 128  # counts too few for tau, or no tau2, I2, Q: not in every sample
    SELF = 256  # a gene with itself
    SIGN_REVERSAL = 512  # the total and the within-sample correlation have opposite signs
    LOW_RELIABILITY = 1024  # most of the between-sample variance is sampling noise
    NOT_CONVERGED = 2048  # R-hat, effective sample size, divergences or energy: unreliable draws
    PRIOR_DOMINATED = 4096  # the data reduced the prior variance by less than half
    WEIGHTS_MATTER = 16384  # equal weights give another average over donors: see weights=
    DEPTH_DEPENDENT = 32768  # gene follows depth; pair: no larger than depth alone makes it
    COARSE_GRID = 8192  # correlation too close to 1, or counts too large, for the grid over cells

    @property
    def bit(self) -> np.uint16:
        """The flag in the dtype of the flag arrays (NumPy would widen an IntFlag)."""
        return np.uint16(int(self))


# attribute `interval` of a result, unless interval and test come from two procedures
AGREES = "excludes 0 where p_value < 1 - confidence, and only there"
CALIBRATED = (
    "posterior given all donors: need not agree with p_value, which is calibrated over the null "
    "pairs"
)
PAIR_VARIABLES = {
    "correlation": "correlation",
    "correlation_unclipped": "correlation, including estimates outside (-1, 1)",
    "fisher_z": "Fisher z-transform (atanh) of the correlation",
    "fisher_z_se": "standard error of fisher_z",
    "se": "standard error of the correlation",
    "ci_lower": "lower confidence limit of the correlation",
    "ci_upper": "upper confidence limit of the correlation",
    "statistic": "t statistic for the null hypothesis of no correlation, or of no difference",
    "df": "degrees of freedom of the t distribution",
    "p_value": "two-sided p-value, samples as units",
    "q_value": "Benjamini-Hochberg adjusted p_value over distinct pairs",
    "local_fdr": "local false discovery rate: posterior probability that the pair is uncorrelated",
    "bayesian_fdr": "expected false discovery rate of the list, by local_fdr, that ends here",
    "lfsr": "local false sign rate: probability that the sign is wrong or the effect is 0",
    "shrunken_correlation": "posterior mean of the correlation given all pairs",
    "shrunken_difference": "posterior mean of the difference given all pairs",
    "ordinary_p_value": "two-sided p-value without moderation of the residual variance",
    "flag": "reasons why the entry is missing or unreliable",
    "cell_statistic": "published CS-CORE test statistic, which treats cells as independent",
    "cell_p_value": "p-value of cell_statistic, not valid when cells are nested in samples",
    "jackknife_p_value": "two-sided p-value of the jackknife over donors, from this pair alone",
    "hc2_p_value": "two-sided p-value with HC2 standard errors, from this pair alone",
    "tau": "standard deviation of the correlation between donors",
    "tau_within_donors": "standard deviation of the correlation between samples of one donor",
    "group_tau": "standard deviation of the correlation between the samples of one group",
    "tau2": "between-sample variance of fisher_z",
    "i2": "proportion of the variation of fisher_z that lies between samples",
    "cochran_q": "Cochran's Q of fisher_z over samples",
    "cochran_p_value": "p-value of equal correlations in all samples, from cochran_q",
    "prediction_lower": "lower 95% prediction limit for the correlation in a new donor",
    "prediction_upper": "upper 95% prediction limit for the correlation in a new donor",
    "difference": "difference in correlation between conditions, or slope of the correlation",
    "difference_unclipped": "difference, including estimates outside (-2, 2)",
    "difference_se": "standard error of difference",
    "difference_lower": "lower confidence limit of difference",
    "difference_upper": "upper confidence limit of difference",
    "largest_difference": "difference between the largest and smallest fitted correlation",
    "f_statistic": "F statistic for the null hypothesis of equal correlations",
    "df_denominator": "denominator degrees of freedom of f_statistic",
    "contrast_difference": "difference in correlation between two groups",
    "contrast_difference_se": "standard error of contrast_difference",
    "contrast_difference_lower": "lower confidence limit of contrast_difference",
    "contrast_difference_upper": "upper confidence limit of contrast_difference",
    "contrast_p_value": "two-sided p-value of contrast_difference",
    "contrast_adjusted_p_value": "contrast_p_value adjusted by Holm over the contrasts of a pair",
    "group_correlation": "correlation within the samples of one group",
    "group_correlation_unclipped": "group_correlation, including estimates outside (-1, 1)",
    "group_ci_lower": "lower confidence limit of group_correlation",
    "group_ci_upper": "upper confidence limit of group_correlation",
    "observed_correlation": "correlation between samples, not corrected for sampling noise",
    "within_correlation": "correlation within samples",
    "between_correlation": "correlation between samples, corrected for sampling noise",
    "within_part": "within-sample part of the total correlation",
    "between_part": "between-sample part of the total correlation",
    "between_share": "between_part / correlation",
    "sd": "posterior standard deviation of the correlation",
    "probability_of_direction": "posterior probability of the more probable sign",
    "rope_share": "posterior probability of the region of practical equivalence",
    "contraction": "1 - posterior variance of fisher_z / prior variance of fisher_z",
    "natural_correlation": "posterior mean correlation of unlogged expression, as in CSCore",
    "natural_lower": "lower credible limit of natural_correlation",
    "natural_upper": "upper credible limit of natural_correlation",
    "partial_correlation": "posterior mean correlation given all other genes of the panel",
    "partial_lower": "lower credible limit of partial_correlation",
    "partial_upper": "upper credible limit of partial_correlation",
    "correlation_projected": "entry of the correlation matrix nearest to all pairs' estimates",
    "ess_bulk": "smallest bulk effective sample size of the reported parameters",
    "ess_tail": "smallest tail effective sample size of the reported parameters",
    "r_hat": "largest rank-normalised split R-hat of the reported parameters",
    "marginal_correlation": "correlation without regard to other genes",
    "stability": "proportion of resamples of donors with this edge",
    "sample_correlation": "correlation within one sample",
    "sample_se": "standard error of atanh(sample_correlation), cells as units",
    "sample_natural_correlation": "posterior mean correlation of unlogged expression in one sample",
    "sample_natural_lower": "lower credible limit of sample_natural_correlation",
    "sample_natural_upper": "upper credible limit of sample_natural_correlation",
    "term_beta": "coefficient of fisher_z within samples",
    "term_beta_se": "posterior standard deviation of term_beta",
    "term_beta_lower": "lower credible limit of term_beta",
    "term_beta_upper": "upper credible limit of term_beta",
    "term_beta_probability_of_direction": "posterior probability of the more probable sign",
}
LAYERS = ("sample", "group", "contrast", "term")  # first dimensions of variables named after them
LAYERED = tuple(f"{name}_" for name in LAYERS)
_TOGETHER = (
    ("ci_lower", "ci_upper"),
    ("difference_lower", "difference_upper"),
    ("prediction_lower", "prediction_upper"),
    ("sample_correlation", "sample_se"),
    ("p_value", "q_value"),
)
GENE_VARIABLES = {
    GENE_ID: ("name of the gene in the data, where a column of var names it", None),
    "mean": ("mean expression", "counts per count of depth"),
    "mean_log": ("mean log-normalised expression", "natural log"),
    "overdispersion": ("variance of expression / mean^2", "1"),
    "overdispersion_se": ("standard error of overdispersion over donors", "1"),
    "overdispersion_lower": ("lower confidence limit of overdispersion", "1"),
    "overdispersion_upper": ("upper confidence limit of overdispersion", "1"),
    "detection": ("proportion of cells with a count", "1"),
    "information": ("typical variance / its standard error under Poisson counts", "1"),
    "dispersion": ("negative-binomial dispersion of the pseudobulk counts", "1"),
    "prior_variance": ("prior value of the residual variance", "(log2 counts per million)^2"),
    "prior_df": ("degrees of freedom of prior_variance", "1"),
    "reliability": ("proportion of between-sample variance that is not sampling noise", "1"),
    "within_variance": ("within-sample variance of expression / mean^2", "1"),
    "between_variance": ("variance of the sample means / mean^2", "1"),
    "variance_share": ("proportion of the variance of expression between samples", "1"),
    "effective_samples": ("1 / sum over samples of (share of the information)^2", "samples"),
    "within_sd": ("standard deviation of log expression within samples", "natural log"),
    "within_sd_lower": ("lower credible limit of within_sd", "natural log"),
    "within_sd_upper": ("upper credible limit of within_sd", "natural log"),
    "between_sd": ("standard deviation of log expression between donors", "natural log"),
    "between_sd_lower": ("lower credible limit of between_sd", "natural log"),
    "between_sd_upper": ("upper credible limit of between_sd", "natural log"),
    "samples_sd": ("standard deviation between the samples of a donor", "natural log"),
    "samples_sd_lower": ("lower credible limit of samples_sd", "natural log"),
    "samples_sd_upper": ("upper credible limit of samples_sd", "natural log"),
    "signature_weight": ("weight of the gene's relative expression in the signature", "1"),
    "depth_slope": ("slope of log expression on log depth within samples", "1"),
    "depth_slope_p_value": ("two-sided p-value of depth_slope, donors as units", "1"),
    "depth_share": ("proportion of the variance of expression that follows depth", "1"),
    FEATURE_TYPE: ("type of the feature: gene, antibody, peak", None),
    CELL_TYPE: ("cell type in which the gene was counted", None),
    "gene_flag": ("reasons why the gene is unreliable", None),
}
GENE_TEXTS = (GENE_ID, FEATURE_TYPE, CELL_TYPE)
SAMPLE_VARIABLES = {
    "n_cells": ("number of cells", "cells"),
    "depth": ("median sequencing depth of the cells", "counts"),
    "total_depth": ("total sequencing depth of the cells", "counts"),
    "inflation": ("factor of the variance of the sample's donor", "1"),
    "library_size": ("effective library size after normalisation", "counts"),
    "n_cells_a": ("number of cells of the first cell type", "cells"),
    "n_cells_b": ("number of cells of the second cell type", "cells"),
    "library_size_a": ("library_size of the first cell type", "counts"),
    "library_size_b": ("library_size of the second cell type", "counts"),
}
COEFFICIENT_VARIABLES = {  # (coefficient, gene)
    "beta": "regression coefficient or contrast",
    "beta_se": "standard error of beta",
    "beta_lower": "lower credible limit of beta",
    "beta_upper": "upper credible limit of beta",
    "beta_probability_of_direction": "posterior probability of the more probable sign",
    "beta_statistic": "beta / beta_se",
    "beta_df": "degrees of freedom of beta_statistic",
    "beta_p_value": "two-sided p-value of beta, samples as units",
    "beta_q_value": "Benjamini-Hochberg adjusted beta_p_value over genes",
}
_OF_BETA = ("beta", "beta_se", "beta_lower", "beta_upper")  # in the units of beta
_FLAG_ATTRS = {
    "flag_masks": np.array([int(f) for f in Flag], np.uint16),
    "flag_meanings": " ".join(f.name.lower() for f in Flag if f.name),
}


def pair_attributes(name: str) -> dict[str, Any]:
    """Return the attributes of a pair variable."""
    units = _FLAG_ATTRS if name == "flag" else {"units": "1"}
    return {"long_name": PAIR_VARIABLES[name], **units}


def build_dataset(
    *,
    genes: pd.Index,
    samples: pd.Index,
    pair: Mapping[str, NDArray],
    gene: Mapping[str, NDArray],
    sample: Mapping[str, NDArray],
    attrs: Mapping[str, Any],
    target: str | Sequence[str] | None = None,
    listed: tuple[NDArray, NDArray] | None = None,
    of_target: Mapping[str, NDArray] | None = None,
    tested: bool = False,
    groups: Sequence[str] | None = None,
    contrasts: Sequence[str] | None = None,
    terms: Sequence[str] | None = None,
    coefficient: Mapping[str, NDArray] | None = None,
    coefficient_names: Sequence[str] = (),
    beta_units: str = "",
    modality: Mapping[str, NDArray] | None = None,
) -> xr.Dataset:
    """Assemble a result's Dataset from arrays.

    Parameters
    ----------
    genes, samples : Index
    pair : mapping
        Arrays (gene, partner), or (target, gene) with targets, or (pair,) with listed pairs;
        ``sample_``, ``group_``, ``contrast_`` and ``term_`` variables have the sample, group,
        contrast or term as first dimension.
    gene, sample : mapping
        Arrays (gene,) and (sample,).
    attrs : mapping
        Attributes of the Dataset; those that are None are omitted.
    target : str or sequence of str, optional
    listed : (ndarray, ndarray), optional
        Names of the genes of both sides of the listed pairs.
    of_target : mapping, optional
        Arrays (target,) of gene variables, where the targets are no genes of the result.
    tested : bool
        Whether p-values are written elsewhere, as when results are streamed to disk.
    groups : sequence of str, optional
        Names of the groups of the ``group_`` variables.
    contrasts : sequence of str, optional
        Names of the contrasts of the ``contrast_`` variables.
    terms : sequence of str, optional
        Names of the coefficients of the ``term_`` variables.
    coefficient : mapping, optional
        Arrays (coefficient, gene).
    coefficient_names : sequence of str
    beta_units : str
        Units of `beta`.
    modality : mapping, optional
        Median depth of the cells of each sample by type of features, if there are several types.

    Returns
    -------
    xarray.Dataset
    """
    targets = [target] if isinstance(target, str) else target
    coords: dict[str, Any] = {"gene": genes.to_numpy(object), "sample": samples.to_numpy(object)}
    dims: tuple[str, ...] = ("gene", "partner")
    if listed is not None:
        dims, ends = ("pair",), zip(("gene_a", "gene_b"), listed, strict=True)
        coords |= {name: ("pair", names.astype(object)) for name, names in ends}
    elif targets is not None:
        dims, coords["target"] = ("target", "gene"), np.array(list(targets), object)
    else:
        coords["partner"] = coords["gene"]
    coords |= {} if groups is None else {"group": np.array(list(groups), object)}
    coords |= {} if contrasts is None else {"contrast": np.array(list(contrasts), object)}
    coords |= {} if terms is None else {"term": np.array(list(terms), object)}
    variables: dict[str, Any] = {}
    for name, values in pair.items():
        first = next((d for d in LAYERS if name.startswith(f"{d}_")), None)
        d = dims if first is None else (first, *dims)
        variables[name] = (d, values, pair_attributes(name))
    for table, arrays, dim, prefix in (
        (GENE_VARIABLES, gene, "gene", ""),
        (GENE_VARIABLES, of_target or {}, "target", OF_TARGET),
        (SAMPLE_VARIABLES, sample, "sample", ""),
    ):
        for name, values in arrays.items():
            long_name, units = table[name]
            extra: dict[str, Any] = {"units": units} if units else {}
            extra |= _FLAG_ATTRS if name == "gene_flag" else {}
            variables[prefix + name] = (dim, values, {"long_name": long_name, **extra})
    if modality:
        coords["modality"] = np.array(list(modality), object)
        variables["modality_depth"] = (
            ("modality", "sample"),
            np.array(list(modality.values())),
            {
                "long_name": "median sequencing depth of the cells by feature type",
                "units": "counts",
            },
        )
    if coefficient:
        coords["coefficient"] = np.array(list(coefficient_names), object)
        for name, values in coefficient.items():
            units = beta_units if name in _OF_BETA else "1"
            described = {"long_name": COEFFICIENT_VARIABLES[name], "units": units}
            variables[name] = (("coefficient", "gene"), values, described)
    family = "listed pairs" if listed is not None else _family(targets)
    stamp = _stamp(len(samples), family, "p_value" in pair or tested)
    stamp["estimand"] = estimand(attrs)
    given = {k: v for k, v in {**stamp, **attrs}.items() if v is not None}
    if "sample_column" in given:
        given["sample_column"] = str(given["sample_column"])
    return xr.Dataset(variables, coords, given)


def _family(targets: Sequence[str] | None) -> str:
    """Return the name of the family of tests."""
    if targets is None:
        return "all distinct pairs"
    return "pairs of the target" if len(targets) == 1 else "pairs of the targets"


def _stamp(n_samples: int, family: str, tested: bool) -> dict[str, Any]:
    """Return the attributes that every result has: versions, date, family of the q-values."""
    stamp = {
        "hiercorr_version": __version__,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_samples": n_samples,
    }
    if tested:
        stamp |= {
            "interval": AGREES,
            "q_method": "Benjamini-Hochberg",
            "q_family": family,
        }
    return stamp


def why_incomplete(dataset: xr.Dataset) -> str | None:
    """Return why a dataset cannot be a result, e.g. after it was edited; None if it can.

    Only names and types are examined, no values.
    """
    missing = {"correlation", "flag"} - set(dataset.data_vars)
    if missing:
        return f"has no {sorted(missing)}"
    for group in _TOGETHER:
        there = [name in dataset for name in group]
        if any(there) and not all(there):
            return f"has {group[there.index(True)]!r} without {group[there.index(False)]!r}"
    for dim in ("gene", "partner", "target", "sample"):
        if dim in dataset.dims and dim not in dataset.coords:
            return f"has no names of {dim!r}"
        if dim in dataset.dims and not dataset.indexes[dim].is_unique:
            return f"has names of {dim!r} that occur more than once"
    kinds = {"correlation": "fiu", "flag": "iu"}
    wrong = next((n for n, kind in kinds.items() if dataset[n].dtype.kind not in kind), None)
    return None if wrong is None else f"has {wrong!r} of the type {dataset[wrong].dtype}"


def describe_flag(value: int) -> str:
    """Return the names of the bits that are set, e.g. ``"low_information,dominated"``."""
    return _describe_flag(int(value))


def is_flagged(names: str, flag: Flag) -> bool:
    """Return whether a flag is among names as :func:`describe_flag` writes them."""
    return describe_flag(flag) in names.split(",")


@functools.cache
def _describe_flag(value: int) -> str:
    return ",".join(f.name.lower() for f in Flag if f.name and value & f)
