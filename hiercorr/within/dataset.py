"""Estimates within samples as a dataset in the schema, with the warnings that go into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results import computed, tiling
from hiercorr.results.missing import Missing, count_missing
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import CALIBRATED, build_dataset
from hiercorr.within.fitting import WithinEstimates
from hiercorr.within.heterogeneity import DonorModel
from hiercorr.within.options import Plan


@dataclass(frozen=True)
class Provenance:
    """What the attributes of a result record of its model and its options.

    Attributes
    ----------
    sample : str or None
        Column with the sample of each cell.
    metacells : bool
        Whether the counts are those of metacells, so that the result is exploratory.
    options : dict
        Further attributes: terms of the covariates, options that were given.
    """

    sample: str | None
    metacells: bool
    options: dict[str, Any] = field(default_factory=dict)


def within_dataset(
    counts: Counts,
    plan: Plan,
    fitted: WithinEstimates,
    target: str | Sequence[str] | None,
    provenance: Provenance,
    missing: Missing | None = None,
    listed: tuple[NDArray, NDArray] | None = None,
    modules: Sequence[str] | None = None,
) -> xr.Dataset:
    """Build the dataset of a fit.

    Parameters
    ----------
    counts : Counts
    plan : Plan
    fitted : WithinEstimates
        Without pair variables where these are streamed.
    target : str, sequence of str or None
    provenance : Provenance
    missing : Missing, optional
        Numbers of entries without a correlation, where pair variables are streamed.
    listed : (ndarray, ndarray), optional
        Names of the genes of both sides of listed pairs.
    modules : sequence of str, optional
        Names of groups of genes, which take the place of the genes.

    Returns
    -------
    xarray.Dataset

    Warns
    -----
    EstimationWarning
        If the regressions did not converge or pairs could not be estimated.
    """
    pair: computed.Values = fitted.pair
    if fitted.follow is not None and pair:
        pair = computed.completed(fitted.pair, fitted.follow, plan.rows)
    elif listed is not None and "p_value" in pair:
        pair = {**pair, "q_value": benjamini_hochberg(pair["p_value"].astype(float))}
    elif "p_value" in pair:
        tiling.add_q_values(fitted.pair, plan.rows)
    if not fitted.converged:
        warn(
            f"the mean and variance regressions still changed after {fitted.iterations} rounds of "
            "reweighting (attribute converged is 0); genes near zero variance cause this: choose "
            "fewer with genes=N",
            EstimationWarning,
        )
    if missing is None:
        missing = count_missing(fitted.pair, fitted.pair["flag"])
    warning = missing.warning("no variance beyond noise" + _beyond(plan, counts.n_samples))
    if warning is not None:
        warn(warning, EstimationWarning)
    within = plan.estimator == "within"
    used = fitted.plan or plan
    over_donors = within and used.uncertainty != "none"
    learnt, sample = _learnt(fitted.donors, plan)
    dataset = build_dataset(
        genes=counts.genes if modules is None else pd.Index(modules, dtype=object),
        samples=counts.samples,
        pair=pair,
        gene=fitted.gene,
        sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth, **sample},
        modality=modality_depth(counts),
        target=target,
        listed=listed,
        tested=not plan.silent(counts.n_samples),
        attrs={
            "title": ("exploratory: metacells, " if provenance.metacells else "")
            + ("CS-CORE, " if modules is None else "CS-CORE of modules, ")
            + ("within samples" if within else "pooled over samples"),
            "model": "CSCore",
            "estimator": plan.estimator,
            "level": "within" if within else "pooled",
            "formula": fitted.formula,
            "uncertainty": used.uncertainty,
            "donor_weights": used.weights if over_donors else None,
            **learnt,
            "confidence": plan.confidence,
            "precision": plan.precision,
            "n_cells": counts.n_cells,
            "sample_column": provenance.sample,
            "theta": fitted.theta,
            "iterations": fitted.iterations,
            "converged": int(fitted.converged),
            "note": fitted.note,
            "composition": fitted.composition or None,
            "exploratory": 1 if provenance.metacells else None,
            **provenance.options,
            **counts.attributes,
        },
    )
    return dataset.assign(fitted.extra)


def modality_depth(counts: Counts) -> dict[str, NDArray]:
    """Return the median depth of the cells by type of features and sample; empty for one type."""
    if counts.modalities is None:
        return {}
    parts = zip(counts.modalities.names, counts.by_type(), strict=True)
    return {name: part.median_depth for name, part in parts}


def _beyond(plan: Plan, n_samples: int) -> str:
    """Return the second reason for missing pairs, where none is tested."""
    return ", or an estimate outside -1..1" if plan.silent(n_samples) else ""


def _learnt(donors: DonorModel | None, plan: Plan) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the attributes and the sample variables of what was learnt from the panel."""
    if donors is None or donors.prior is None:
        return {}, {}
    prior, within = donors.prior, donors.within_donors
    by_sample = prior.inflation if plan.units is None else prior.inflation[plan.units]
    attrs = {
        "interval": CALIBRATED,
        "tau_distribution": distribution(prior.tau, prior.joint.sum(1)),
        "heterogeneous_share": prior.heterogeneous,
        "prior_pairs": prior.n_pairs,
    }
    if within is not None:
        attrs["tau_within_donors_distribution"] = distribution(prior.tau, within)
    return attrs, {"inflation": by_sample}


def distribution(tau: NDArray, weight: NDArray) -> str:
    """State the distribution of tau over pairs, e.g. ``"0: 0.91, 0.2: 0.09"``."""
    found = zip(tau, weight, strict=True)
    return ", ".join(f"{t:g}: {w:.3g}" for t, w in found if w > 0)
