"""Differential variability: differences of the relative variance of genes between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from hiercorr import moments
from hiercorr._version import __version__
from hiercorr.counts.counts import MIN_CELLS
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.errors import EstimationWarning, InputError, between_0_and_1
from hiercorr.inference import benjamini_hochberg
from hiercorr.inference.variability import variance_regression
from hiercorr.results.missing import proportion
from hiercorr.runtime import blas
from hiercorr.runtime.log import logged
from hiercorr.runtime.resources import threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import GENE_ID, Flag, describe_flag
from hiercorr.within import fitting
from hiercorr.within.condition import Condition, ConditionDesign, condition_asked, condition_design
from hiercorr.within.options import Plan
from hiercorr.within.variance_sums import variance_sums


def differential_variability(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    condition: str,
    formula: str | None = None,
    block: str | None = None,
    *,
    contrast: str | Sequence[str] | None = None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | Mapping[str, Any] | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    modalities: str | Sequence[str] | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    confidence: float = 0.95,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Test each gene for a difference of its variability between cells, samples as units.

    The estimand is the fold change of the relative variance of expression between the cells of a
    sample, :math:`\phi = \operatorname{Var}(z) / \mu^2`, without Poisson noise: neither sequencing
    depth nor a change of the mean alone is a difference. The log of :math:`\phi` is regressed on
    the design by quasi-likelihood; samples are weighted by their sampling variance from the cells
    and the variance between samples, and residual variances are moderated over genes
    (:func:`hiercorr.inference.variability.variance_regression`).

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of ONE cell type, as for :class:`hiercorr.CSCore`.
    sample, condition, formula, block, contrast
        As for :func:`hiercorr.differential`: two groups of samples, an ordered categorical whose
        trend is estimated, or a number whose slope is; covariates of samples enter the regression,
        covariates of cells are regressed out of the counts; `block` is a fixed effect of each
        donor. One contrast is tested: state it where `condition` has more than two groups.
    genes, layer, depth, subset, modalities, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`. Moderation needs many genes; few are tested alone.
    confidence : float
        Confidence level of the intervals.
    n_jobs : int, optional
        Number of threads, as for :meth:`hiercorr.CSCore.fit`.

    Returns
    -------
    DataFrame
        Indexed by gene, smallest p first: overdispersion (:math:`\phi` over all samples),
        log2_fold_change (per unit of a numeric condition), se, ci_lower, ci_upper, statistic, df,
        p_value, q_value (Benjamini-Hochberg over genes), flag (names of :class:`hiercorr.Flag`),
        and with `gene_names` gene_id, the name in the data. Genes whose variance is not beyond
        counting noise, over all samples or in one group, are NaN with the flag
        ``nonpositive_variance``.

    Raises
    ------
    InputError
        If an option is not valid, or if the condition varies within samples, has one sample in a
        group, or is confounded with a covariate or with blocks.

    References
    ----------
    McCullagh 1983, Annals of Statistics 11:59; Smyth 2004, Statistical Applications in Genetics and
    Molecular Biology 3:3.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 100, "block": "patient_id"}
    >>> table = hc.differential_variability(adata, "sample_id", "condition", **options)
    >>> table.columns[:3].tolist()
    ['overdispersion', 'log2_fold_change', 'se']
    """
    asked = condition_asked(condition, sample, formula, block, contrast)
    between_0_and_1("confidence", confidence)
    selection = Selection(
        asked.units,
        genes=genes,
        layer=layer,
        depth=depth,
        subset=subset,
        min_cells=min_cells,
        small_samples=small_samples,
        block=asked.block,
        modalities=modalities,
        gene_names=gene_names,
    )
    counts = read_counts(data, selection)
    found = condition_design(counts, asked)
    if found.rows is not None:
        raise InputError(_one_contrast(asked, found))
    plan = Plan("within", "none", "double", confidence, None, None, None, [], found.cells)
    work = "differential_variability(%r): %d genes, %d cells of %d samples"
    told = condition, counts.n_genes, counts.n_cells, counts.n_samples
    with threads(n_jobs), logged(work, *told), blas.at_most(1):
        sums = moments.sums_of(counts, plan.tolerance)
        problem = fitting.within_problem(counts, sums, plan)
        own = variance_sums(counts, sums, problem.fit)
        fitted = variance_regression(own, found.design.matrix, found.contrast)
    estimate, se, df = fitted.estimate / np.log(2), fitted.se / np.log(2), fitted.df
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf(0.5 + confidence / 2, df) * se
        p = 2 * stats.t.sf(np.abs(estimate / se), df)
    missing = np.isnan(p)
    flag = problem.gene["gene_flag"] | np.uint16(missing * Flag.NONPOSITIVE_VARIANCE.bit)
    if missing.any():
        warn(
            f"{proportion(int(missing.sum()), len(p))} of the genes have no difference (no variance"
            " beyond noise, over all samples or in one group); they are NaN and flagged",
            EstimationWarning,
        )
    table = pd.DataFrame(
        {
            "overdispersion": problem.gene["overdispersion"],
            "log2_fold_change": estimate,
            "se": se,
            "ci_lower": estimate - half,
            "ci_upper": estimate + half,
            "statistic": estimate / se,
            "df": df,
            "p_value": p,
            "q_value": benjamini_hochberg(p),
            "flag": [describe_flag(f) for f in flag],
        },
        pd.Index(counts.genes, name="gene"),
    )
    if GENE_ID in problem.gene:
        table[GENE_ID] = problem.gene[GENE_ID]
    table.attrs = {
        **counts.attributes,
        "model": "differential_variability",
        "hiercorr_version": __version__,
        "n_cells": counts.n_cells,
        "n_samples": counts.n_samples,
        "sample_column": str(asked.sample),
        "condition": condition,
        "formula": found.design.formula,
        "cell_terms": " + ".join(found.cell_terms) or None,
        "contrast": found.describe_contrast(),
        "confidence": confidence,
        "tau": fitted.tau,
        "groups": found.levels is not None,
    }
    return table.sort_values("p_value", kind="stable")


def _one_contrast(asked: Condition, found: ConditionDesign) -> str:
    """Return the message for a condition, or a contrast, with several degrees of freedom."""
    text = f"one contrast is tested for each gene, and {found.describe_contrast()!r} is several"
    if found.levels is None:
        return f"{text}: use condition={asked.column!r}, whose slope is estimated"
    baseline, level = found.levels[:2]
    return f"{text}: state one, e.g. contrast=({asked.column!r}, {level!r}, {baseline!r})"
