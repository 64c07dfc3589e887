"""Estimates between samples as a dataset in the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hiercorr.between.methods import BetweenProblem
from hiercorr.between.options import REGRESSIONS, BetweenOptions
from hiercorr.between.pair_tests import BetweenEstimates, PairOptions
from hiercorr.between.residuals import is_exact
from hiercorr.counts.aggregate import depth_column
from hiercorr.counts.modalities import FEATURE_TYPES
from hiercorr.errors import EstimationWarning
from hiercorr.results.missing import count_missing
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import AGREES, FEATURE_TYPE, GENE_ID, build_dataset

if TYPE_CHECKING:
    import anndata as ad
    import pandas as pd
    from numpy.typing import NDArray

SEPARATOR = " + "  # of the names of two groupings
_NOTES = {
    "negative_binomial": "correlation is t / sqrt(t^2 + df) of the target's coefficient.",
    "voom": "correlation is the weighted partial correlation, t / sqrt(t^2 + df).",
    "corrected": "Correlations beyond 1 are withheld (see correlation_unclipped), their interval "
    "is not.",
}


def between_dataset(
    samples: ad.AnnData,
    problem: BetweenProblem,
    fitted: BetweenEstimates,
    asked: BetweenOptions,
    options: PairOptions,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Build the dataset of a fit.

    Parameters
    ----------
    samples : AnnData
        Sums of the samples.
    problem : BetweenProblem
    fitted : BetweenEstimates
    asked : BetweenOptions
        Options of the fit.
    options : PairOptions
    attrs : dict
        Attributes of the model.

    Returns
    -------
    xarray.Dataset

    Warns
    -----
    EstimationWarning
        If pairs could not be estimated.
    """
    warning = count_missing(fitted.pair, fitted.pair["flag"]).warning()
    if warning is not None:
        warn(warning, EstimationWarning)
    obs, target = samples.obs, asked.target
    depth = obs["depth"].to_numpy(float)
    products = [f"{target}:{problem.design.names[k]}" for k in problem.interaction]
    regressed = [str(target)] if asked.method in REGRESSIONS else []
    dataset = build_dataset(
        genes=problem.genes,
        samples=samples.obs_names,
        pair=fitted.pair,
        gene={
            "mean": problem.counts.sum(0) / _total_depth(samples, problem.genes),
            "detection": samples.var["detection"].loc[problem.genes].to_numpy(),
            **fitted.gene,
            **_gene_id(samples, problem.genes),
            **_feature_type(samples, problem.genes),
            "gene_flag": options.gene_flag,
        },
        sample={
            "n_cells": obs["n_cells"].to_numpy(),
            "total_depth": depth,
            "library_size": problem.libraries,
        },
        target=target,
        coefficient=fitted.coefficient,
        coefficient_names=[*problem.design.names, *products, *regressed, *problem.contrasts],
        beta_units="natural log" if asked.method == "negative_binomial" else "log2",
        attrs={
            "title": "correlation between samples",
            "model": "Pseudobulk",
            **fit_attributes(problem, fitted, asked, options, attrs["block"]),
            "formula": problem.design.formula + "".join(f" + {p}" for p in products),
            "interaction": asked.interaction,
            "contrasts": _contrasts(asked) or None,
            "n_cells": int(obs["n_cells"].sum()),
            **attrs,
        },
    )
    expression = {"long_name": "expression of the sample", "units": "log2 counts per million"}
    values = (("sample", "gene"), problem.expression, expression)
    return with_design(dataset.assign(expression=values), problem)


def with_design(dataset: xr.Dataset, problem: BetweenProblem) -> xr.Dataset:
    """Add the design matrix of the formula."""
    described = {"long_name": "design matrix of the formula", "units": "1"}
    names = np.array(problem.design.names, object)
    values = (("sample", "design_column"), problem.design.matrix, described)
    return dataset.assign(design=values).assign_coords(design_column=names)


def fit_attributes(
    problem: BetweenProblem,
    fitted: BetweenEstimates,
    asked: BetweenOptions,
    options: PairOptions,
    block: str | None,
) -> dict[str, Any]:
    """Return the attributes that state how the pairs were estimated and tested."""
    orders, prior = options.orders, fitted.prior
    return {
        "estimator": asked.method,
        "level": "between",
        "formula": problem.design.formula,
        "uncertainty": _uncertainty(problem, asked, options, fitted),
        "moderated": None if prior is None else prior.kind,
        "prior_df": None if prior is None else prior.df,
        "prior_variance": None if prior is None else prior.variance,
        "permutations": None if orders is None else len(orders.orders),
        "smallest_p_value": None if orders is None else orders.smallest_p,
        "confidence": options.confidence,
        "interval": _interval(asked, options),
        "block_correlation": _block_correlation(problem, block),
        "seed": asked.seed if isinstance(asked.seed, int) else None,
        "note": " ".join(_notes(asked, fitted)) or None,
    }


def _gene_id(samples: ad.AnnData, genes: pd.Index) -> dict[str, NDArray]:
    """Return the ids of the genes, if a column of the data names them."""
    if GENE_ID not in samples.var:
        return {}
    return {GENE_ID: samples.var.loc[genes, GENE_ID].astype(str).to_numpy(object)}


def _feature_type(samples: ad.AnnData, genes: pd.Index) -> dict[str, NDArray]:
    """Return the type of each feature, if there are several types."""
    if FEATURE_TYPES not in samples.var:
        return {}
    return {FEATURE_TYPE: samples.var.loc[genes, FEATURE_TYPES].astype(str).to_numpy(object)}


def _total_depth(samples: ad.AnnData, genes: pd.Index) -> NDArray | float:
    """Return the depth of all samples, in the type of each feature if there are several."""
    total = float(samples.obs["depth"].sum())
    kinds = _feature_type(samples, genes)
    if not kinds:
        return total
    return np.array(
        [
            float(samples.obs[depth_column(kind)].sum())
            if depth_column(kind) in samples.obs
            else total
            for kind in kinds[FEATURE_TYPE]
        ]
    )


def _notes(asked: BetweenOptions, fitted: BetweenEstimates) -> list[str]:
    """Return sentences on the correlation and on moderation."""
    notes = [_NOTES[asked.method]] if asked.method in _NOTES else []
    if asked.method == "corrected":
        points = int((fitted.pair["ci_lower"] == fitted.pair["ci_upper"]).sum())
        points //= 1 if asked.target is not None else 2
        if points:
            notes.append(
                f"{points:,} intervals are a point, [1, 1] or [-1, -1]: both limits lie beyond -1 "
                "or 1 and were cut off, which is no certainty."
            )
    if fitted.prior is not None:
        towards = "a trend in mean expression" if "trend" in fitted.prior.kind else "a common value"
        robust = ", robustly estimated," if "robust" in fitted.prior.kind else ""
        notes.append(
            f"Moderated t: residual variances were shrunk towards {towards}{robust} with "
            f"{fitted.prior.df:.3g} prior degrees of freedom (ordinary_p_value: without)."
        )
    return notes


def _uncertainty(
    problem: BetweenProblem,
    asked: BetweenOptions,
    options: PairOptions,
    fitted: BetweenEstimates,
) -> str:
    """Describe the source of the p-values."""
    orders = options.orders
    if orders is not None:
        kind = "exact" if orders.exact else "Monte-Carlo"
        return f"{kind} permutation, {len(orders.orders):,} arrangements"
    if problem.clustered:
        return "t, CR2 errors by block"
    if fitted.prior is not None:
        return "moderated t"
    n, k = problem.design.matrix.shape
    if asked.method == "spearman" and is_exact(n, k > 1 or problem.correlation is not None):
        return "exact distribution of ranks"
    return {"corrected": "generalised pivotal quantity", "hc3": "t, HC3 errors"}.get(
        asked.method, "t"
    )


def _interval(asked: BetweenOptions, options: PairOptions) -> str:
    """State whether interval and p-value agree."""
    if asked.method == "corrected":
        return "generalised pivotal quantity: need not agree with p_value, a t test"
    if asked.method == "spearman":
        return "normal on Fisher's z scale: need not agree with p_value"
    if options.orders is not None:
        return "of the t test: need not agree with p_value, from permutations"
    return AGREES


def _block_correlation(problem: BetweenProblem, block: str | None) -> float | str | None:
    """Return the consensus correlation, or those of two groupings as text."""
    if problem.correlation is None:
        return None
    if len(problem.correlation) == 1:
        return problem.correlation[0]
    names = str(block).split(SEPARATOR)
    return "; ".join(f"{n}: {rho:.4f}" for n, rho in zip(names, problem.correlation, strict=True))


def _contrasts(asked: BetweenOptions) -> str:
    """Describe the contrasts, e.g. ``"drug: condition, b, a"``."""
    stated = {k: v if isinstance(v, str) else ", ".join(v) for k, v in asked.contrasts.items()}
    return "; ".join(f"{name}: {text}" for name, text in stated.items())
