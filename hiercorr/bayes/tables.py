"""From draws to variables: summaries of pairs at both levels, diagnostics, flags and notes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes.collected import PAIR, parameters_of
from hiercorr.bayes.diagnostics import diagnose
from hiercorr.bayes.margin import Array
from hiercorr.bayes.priors import Acting, Priors
from hiercorr.bayes.setup import Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.inference.credible import coefficient_summary, highest_density
from hiercorr.results import posterior
from hiercorr.schema import Flag

MIN_CONTRACTION = 0.5
MIN_INFORMATION = 2.0  # below, correlations of 0.5 are shrunken by more than 0.1 on average
ADVICE = (
    "raise draws= and tune=, or target_accept= (divergences); genes with few counts need stronger "
    "priors or more cells; see r_hat, ess_bulk and result.idata.sample_stats"
)


def pair_summary(z: Array, share: float, rope: float) -> dict[str, Array]:
    """Summarise draws of Fisher z as pair variables.

    Parameters
    ----------
    z : ndarray, shape (n_draws, ...)
    share : float
        Probability of the intervals.
    rope : float
        Largest absolute correlation that counts as practically zero.

    Returns
    -------
    dict
    """
    rho = np.tanh(z)
    low, high = highest_density(rho, share)
    positive, negative = (z > 0).mean(0), (z < 0).mean(0)
    return {
        "correlation": rho.mean(0),
        "fisher_z": z.mean(0),
        "fisher_z_se": z.std(0, ddof=1),
        "sd": rho.std(0, ddof=1),
        "ci_lower": low,
        "ci_upper": high,
        "probability_of_direction": np.maximum(positive, negative),
        "rope_share": (np.abs(rho) <= rope).mean(0),
    }


def prior_note(level: str, confidence: float, limits: tuple[float, float]) -> str:
    """Describe the prior of a correlation in a sentence."""
    low, high = limits
    return (
        f"Prior of the correlation {level} samples: {100 * confidence:g}% in {low:.2f}..{high:.2f}."
    )


def projected(correlation: Array) -> tuple[Array, float]:
    """Find the nearest correlation matrix (Higham 2002); also return the smallest eigenvalue."""
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest > 0:
        return correlation, smallest
    from statsmodels.stats.correlation_tools import corr_nearest

    with warnings.catch_warnings():
        # It may reach the maximum number of iterations just above its threshold.
        warnings.simplefilter("ignore")
        return np.asarray(corr_nearest(correlation, threshold=1e-8, n_fact=500)), smallest


def both_levels(
    drawn: xr.Dataset, setup: Setup, acting: Acting, intervals: Intervals
) -> tuple[dict[str, dict[str, NDArray]], dict[str, Any]]:
    """Summarise draws at both levels.

    Parameters
    ----------
    drawn : xarray.Dataset
        Draws of all pairs.
    setup : Setup
    acting : Acting
        Priors that acted.
    intervals : Intervals

    Returns
    -------
    tables : dict
        Pair variables (pair,) of levels ``"within"`` and ``"between"``, with ``flag``.
    attrs : dict
        Attributes of the result.
    """
    tables: dict[str, dict[str, NDArray]] = {}
    attrs: dict[str, Any] = {}
    values = parameters_of(drawn)
    n_pairs = drawn.sizes[PAIR]
    stats = {}
    for name in ("energy", "diverging"):
        each = drawn[f"{posterior.STATS}{name}"].values
        if each.ndim == 2:  # one chain of all pairs
            each = np.broadcast_to(each[..., None], (*each.shape, n_pairs))
        stats[name] = each
    for level, variable in (("within", "zeta"), ("between", "z_between")):
        z = values[variable].reshape(-1, n_pairs)
        found: dict[str, NDArray] = dict(pair_summary(z, intervals.confidence, intervals.rope))
        used = {name: v for name, v in values.items() if name in _REPORTED[level]}
        diagnostics = diagnose(used, stats)
        variance, limits = acting.of_z(level, intervals.confidence)
        found |= diagnostics.table | {"contraction": 1 - z.var(0, ddof=1) / variance}
        flag = diagnostics.flag
        flag[found["contraction"] < MIN_CONTRACTION] |= Flag.PRIOR_DOMINATED.bit
        if level == "within":
            found |= _natural_and_predicted(values, intervals.confidence)
            found |= _of_covariates(values, intervals.confidence)
            found |= _of_samples(values, intervals.confidence)
        tables[level] = {**found, "flag": flag}
        suffix = "" if level == "within" else f"_{level}"
        attrs[f"worst_parameter{suffix}"] = diagnostics.worst
        prior_text = prior_note(level, intervals.confidence, limits)
        attrs[f"note{suffix}"] = _note(level, prior_text, flag, setup, acting)
        attrs[f"title{suffix}"] = f"Bayesian correlation, {level} samples"
    divergences = drawn[f"{posterior.STATS}diverging"].values
    attrs["divergences"] = int(divergences.sum())
    return tables, attrs


# Parameters on which the results of a level rest: their diagnostics are reported.
_REPORTED = {
    "within": (
        *("zeta", "natural", "tau", "within_sample", "new_sample", "sd_within", "mean"),
        *("z_beta", "within_group", "omega", "sd_sample", "natural_sample"),
    ),
    "between": ("z_between", "sd_between", "share", "beta", "mean", "log_mean"),
}


def arranged(
    levels: Mapping[str, dict[str, NDArray]],
    n: int,
    target: int | None,
    gene_flag: NDArray[np.uint16],
) -> tuple[dict[str, dict[str, NDArray]], dict[str, Any]]:
    """Arrange the variables of pairs as (gene, partner) or (target, gene).

    Parameters
    ----------
    levels : mapping
        Variables (..., pair) of each level; pairs as :func:`numpy.triu_indices` counts them, or of
        the target with the other genes in their order.
    n : int
        Number of genes.
    target : int, optional
        Position of the target.
    gene_flag : ndarray of uint16, shape (n_genes,)
        Flags of the genes, for those with themselves.

    Returns
    -------
    levels : dict
    attrs : dict
        Attributes of the result: whether the correlations form a correlation matrix.
    """
    out: dict[str, dict[str, NDArray]] = {}
    attrs: dict[str, Any] = {}
    i, j = np.triu_indices(n, 1)
    shape, alone = (n, n), (np.arange(n), np.arange(n))
    if target is not None:
        shape, alone = (1, n), (np.zeros(1, int), np.array([target]))
        i, j = np.zeros(n - 1, int), np.delete(np.arange(n), target)
    for level, found in levels.items():
        table: dict[str, NDArray] = {}
        for name, values in found.items():
            empty = np.uint16(0) if name == "flag" else np.nan
            table[name] = np.full((*values.shape[:-1], *shape), empty, values.dtype)
            table[name][..., i, j] = values
            if target is None:
                table[name][..., j, i] = values
        table["correlation"][alone] = 1.0
        table["flag"][alone] = Flag.SELF.bit | gene_flag[alone[1]]
        if target is None and n > 2:
            nearest, smallest = projected(table["correlation"])
            table["correlation_projected"] = nearest
            attrs[f"smallest_eigenvalue_{level}"] = smallest
            attrs[f"positive_definite_{level}"] = int(smallest > 0)
        out[level] = table
    return out, attrs


def _note(
    level: str, prior_text: str, flag: NDArray[np.uint16], setup: Setup, acting: Acting
) -> str:
    notes = [prior_text]
    if setup.structure == "independent" or (level == "between" and setup.structure != "both"):
        notes.append(
            f"structure={setup.structure!r} fixes this correlation at 0: the values shown are "
            "those of its prior."
        )
    if (flag & Flag.PRIOR_DOMINATED.bit).any():
        notes.append("prior_dominated: the data reduced the prior variance by less than half.")
    if (flag & Flag.NOT_CONVERGED.bit).any():
        notes.append(f"not_converged: {ADVICE}.")
    priors = "; ".join(f"{k} {v}" for k, v in acting.describe().items())
    return " ".join([*notes, f"Priors: {priors}."])


NOT_DEFINITE = (
    "The correlations of the pairs do not form a correlation matrix: correlation_projected is the "
    "nearest one."
)


def _natural_and_predicted(values: Mapping[str, Array], confidence: float) -> dict[str, Array]:
    """Summarise the correlation of unlogged expression and predict that of a new sample."""
    n_pairs = values["zeta"].shape[-1]
    natural = values["natural"].reshape(-1, n_pairs)
    low, high = highest_density(natural, confidence)
    found = {"natural_correlation": natural.mean(0), "natural_lower": low, "natural_upper": high}
    if "tau" in values:
        new = values["new_sample"].reshape(-1, n_pairs)
        found |= {"tau2": (values["tau"].reshape(-1, n_pairs) ** 2).mean(0)}
        found["prediction_lower"], found["prediction_upper"] = highest_density(new, confidence)
    return found


def _of_covariates(values: Mapping[str, Array], confidence: float) -> dict[str, Array]:
    """Summarise the coefficients of z, and the correlation of each group, as (..., pair)."""
    found: dict[str, Array] = {}
    if "z_beta" in values:
        of_terms = coefficient_summary(_by_layer(values["z_beta"]), confidence)
        found = {f"term_{name}": summary for name, summary in of_terms.items()}
    if "within_group" in values:
        flat = _by_layer(values["within_group"])
        low, high = highest_density(flat, confidence)
        found |= {"group_correlation": flat.mean(0), "group_ci_lower": low, "group_ci_upper": high}
    return found


def _of_samples(values: Mapping[str, Array], confidence: float) -> dict[str, Array]:
    """Summarise the correlations within each sample, where its standard deviations are its own."""
    if "natural_sample" not in values:
        return {}
    natural = _by_layer(values["natural_sample"])
    low, high = highest_density(natural, confidence)
    found = {
        "sample_natural_correlation": natural.mean(0),
        "sample_natural_lower": low,
        "sample_natural_upper": high,
    }
    z = _by_layer(values.get("within_sample", values["zeta"][..., None]))
    rho, se = np.tanh(z).mean(0), z.std(0, ddof=1)
    found["sample_correlation"], found["sample_se"] = (
        np.broadcast_to(v, low.shape).copy() for v in (rho, se)
    )
    return found


def _by_layer(values: Array) -> Array:
    """Return draws (chain, draw, pair, layer) as (draw, layer, pair)."""
    return np.swapaxes(values.reshape(-1, *values.shape[2:]), 1, 2)


def information(counts: Counts, priors: Priors) -> Array:
    r"""Compute the information of each gene on a typical amount of biological variance.

    .. math:: \frac{1}{\theta} \sqrt{\tfrac12 \sum_i
              \left(\frac{s_i\mu}{1 + s_i\mu/\theta}\right)^2},
              \qquad 1/\theta = e^{\sigma^2} - 1

    the typical overdispersion over its standard error under Poisson counts, as for
    :class:`hiercorr.CSCore`, at the prior median of the standard deviation within samples. It does
    not depend on the estimated variance of the gene, selection on which would bias estimates.

    Parameters
    ----------
    counts : Counts
    priors : Priors

    Returns
    -------
    ndarray, shape (n_genes,)
    """
    typical = np.expm1(np.exp(2 * priors.log_sd[0]))
    mean = _mean_count(counts)[:, None] * counts.depth
    return np.array([typical * np.sqrt(((m / (1 + m * typical)) ** 2).sum() / 2) for m in mean])


def gene_flags(counts: Counts, priors: Priors) -> NDArray[np.uint16]:
    """Flag genes without a count in some sample, or with too few counts."""
    flag = np.zeros(counts.n_genes, np.uint16)
    flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    flag[~(information(counts, priors) >= MIN_INFORMATION)] |= Flag.LOW_INFORMATION.bit
    return flag


def _mean_count(counts: Counts) -> Array:
    """Return the mean count of each gene per count of depth."""
    total = np.array([counts.values[a:b].sum() for a, b in counts.offsets[:, [0, -1]]])
    return np.asarray(total / counts.depth.sum())


def gene_table(counts: Counts, priors: Priors, flag: NDArray[np.uint16]) -> dict[str, NDArray]:
    """Compute the gene variables of a result."""
    return {
        "mean": _mean_count(counts),
        "detection": counts.detection,
        "information": information(counts, priors),
        **counts.gene_ids,
        "gene_flag": flag,
    }


def sample_variables(counts: Counts) -> dict[str, NDArray]:
    """Compute the sample variables of a result."""
    return {"n_cells": counts.cells_per_sample, "depth": counts.median_depth}
