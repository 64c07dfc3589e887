"""Differential expression between samples by DESeq2's model, through pydeseq2."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hiercorr._version import __version__
from hiercorr.between.pseudobulk import Pseudobulk
from hiercorr.counts.aggregate import MIN_COUNTS
from hiercorr.counts.counts import MIN_CELLS
from hiercorr.design.formulas import fixed_terms
from hiercorr.errors import InputError, text
from hiercorr.runtime.optional import optional
from hiercorr.schema import GENE_ID


def differential_expression(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    formula: str,
    contrast: str | Sequence[str],
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    *,
    gene_names: str | None = None,
    block: str | None = None,
    min_cells: int = MIN_CELLS,
    min_counts: int = MIN_COUNTS,
    small_samples: str = "exclude",
) -> pd.DataFrame:
    """Test each gene for differential expression between samples.

    The sums of :func:`hiercorr.aggregate` and the design of :class:`hiercorr.Pseudobulk`, fitted by
    negative-binomial regression with shrunken dispersions. Library sizes are medians of ratios;
    Cook's distances and independent filtering are pydeseq2's.

    Parameters
    ----------
    data, sample, layer, depth, subset, gene_names, min_cells, min_counts, small_samples
        As for :class:`hiercorr.Pseudobulk`.
    formula : str
        Covariates and the condition, e.g. ``"~ gender + condition"``.
    contrast : str or sequence of str
        Linear combination of coefficients, or ``(column, level, baseline)``.
    block : str, optional
        Column with the donor of each sample: a fixed effect for each donor is added to the formula.

    Returns
    -------
    DataFrame
        Indexed by gene, smallest p first: base_mean (counts), log2_fold_change, se, statistic,
        p_value, q_value, flag (``outlier``: no p-value because one count dominates; ``filtered``:
        too low for the adjustment), and with `gene_names` gene_id, the name in the data.

    References
    ----------
    Love, Huber & Anders 2014, Genome Biology 15:550; Muzellec et al. 2023, Bioinformatics
    39:btad547 (pydeseq2).

    Examples
    --------
    >>> import hiercorr as hc
    >>> contrast = ("condition", "panobinostat", "ctrl")
    >>> table = hc.differential_expression(
    ...     hc.datasets.glioblastoma(), "sample_id", "~ condition", contrast,
    ...     depth="total_counts", block="patient_id",
    ... )  # doctest: +SKIP
    """
    purpose = "tests of differential expression"
    dds, ds = (optional(f"pydeseq2.{m}", purpose) for m in ("dds", "ds"))
    text("formula", formula)
    _, random = fixed_terms(formula)
    if random:
        raise InputError(
            f"formula {formula!r} has the random intercept (1 | {random[0]}), which DESeq2 cannot "
            f"estimate: use block={random[0]!r} instead, a fixed effect for each of its values"
        )
    model = Pseudobulk(
        data,
        sample,
        formula=formula,
        normalization="median_of_ratios",
        layer=layer,
        depth=depth,
        subset=subset,
        gene_names=gene_names,
        block=block,
        min_cells=min_cells,
        min_counts=min_counts,
        small_samples=small_samples,
    )
    if model.several_types:
        raise InputError(
            "DESeq2 takes one size factor of each sample, and these sums have features of several "
            "types: keep one, e.g. samples[:, samples.var['feature_types'] == 'Gene Expression']"
        )
    weights = model.design.difference(contrast)
    names, at = model.expression.columns, model.samples.obs_names
    counts = pd.DataFrame(np.asarray(model.samples[:, names].X, np.int64), at, names)
    design = pd.DataFrame(model.design.matrix, at, model.design.names)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        fitted = dds.DeseqDataSet(
            counts=counts, metadata=model.samples.obs, design=design, quiet=True, n_cpus=1
        )
        fitted.deseq2()
        tests = ds.DeseqStats(fitted, contrast=weights, quiet=True, n_cpus=1)
        tests.summary()
    found = tests.results_df
    table = pd.DataFrame(
        {
            "base_mean": found["baseMean"],
            "log2_fold_change": found["log2FoldChange"],
            "se": found["lfcSE"],
            "statistic": found["stat"],
            "p_value": found["pvalue"],
            "q_value": found["padj"],
        }
    )
    table["flag"] = np.select(
        [table["p_value"].isna(), table["q_value"].isna()], ["outlier", "filtered"], ""
    )
    table.index.name = "gene"
    if GENE_ID in model.samples.var:
        table[GENE_ID] = model.samples.var[GENE_ID].reindex(table.index)
    table.attrs = {
        **model.attributes,
        "model": "differential_expression",
        "hiercorr_version": __version__,
        "n_cells": int(model.samples.obs["n_cells"].sum()),
        "formula": model.design.formula,
        "contrast": str(contrast),
        "n_samples": len(at),
        "method": "pydeseq2",
    }
    return table.sort_values("p_value", kind="stable")
