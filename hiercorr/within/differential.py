"""differential: is the correlation of a pair within samples different between groups of samples, or along a covariate?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hiercorr import inference
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.design import formulas
from hiercorr.design.matrix import DesignMatrix, make_design, own_coefficients, sample_design
from hiercorr.design.samples import check_block, sample_table, warn_of_repeated_donors
from hiercorr.design.terms import split_terms
from hiercorr.errors import EstimationWarning, InputError, between_0_and_1, one_of, unknown_name
from hiercorr.results import tiling
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.resources import available_memory, threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset
from hiercorr.within import differential_tests, fitting
from hiercorr.within.options import Plan


def differential(
    data: ad.AnnData | str | Path,
    sample: str,
    condition: str,
    formula: str | None = None,
    block: str | None = None,
    target: str | None = None,
    *,
    contrast: str | Sequence[str] | None = None,
    method: str = "regression",
    uncertainty: str = "jackknife",
    permutations: int | None = None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    precision: str = "single",
    confidence: float = 0.95,
    seed: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> CorrelationResult:
    r"""Difference of the correlation within samples between groups of samples, or its slope on a covariate.

    Samples are the units. To first order a sample's part in a pair's correlation is :math:`L_c = \rho + x_c / b_c` (share
    b_c, influence x_c, as in :func:`hiercorr.inference.pairs.pair_estimate`), free of the noise of a ratio; L is regressed on the
    design with weights b. Errors are HC2 with Satterthwaite degrees of freedom (:func:`hiercorr.within.differential_tests.tile_difference`):
    Welch's test for two groups, the paired t test for pairs in blocks.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of ONE cell type, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell.
    condition : str
        Column with one value a sample: two groups (or more, with `contrast`), or a number, whose slope per unit is
        estimated. With ``block=sample`` it may vary within samples (a cell type, a state, a stimulus given to part of the
        cells): the units are then sample x condition, compared within samples.
    formula : str, optional
        Covariates to adjust for, e.g. ``"~ gender + age + percent_mito"``; `condition` joins it. Terms with one value a sample
        are covariates of the correlation; those that vary between cells of a sample are regressed out of its counts, as by
        :class:`hiercorr.CSCore`.
    block : str, optional
        Column whose values hold several samples each (the donor): an effect for each, so that conditions are compared
        within donors.
    target : str, optional
        One gene against all others.
    contrast : str or (column, level, baseline), optional
        Which combination of coefficients; needed where `condition` has more than two groups.
    method : {"regression", "pooled"}
        ``"regression"``: as above. ``"pooled"``: each group's correlation from its own sums, with its own error, and their
        difference on Fisher's scale (:func:`hiercorr.within.differential_tests.pooled_difference`); two groups of at least 3 samples, without
        covariates or blocks.
    uncertainty : {"jackknife", "cluster"}
        Of each group's correlation, with ``"pooled"``.
    permutations : int, optional
        p-values by permutation of the condition over samples (within blocks) in the place of the t test: all distinct
        arrangements where there are at most so many, else so many at random. The studentised difference is compared. Not
        with other covariates.
    genes, layer, depth, subset, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    precision : {"single", "double"}
    confidence : float
    seed : int or Generator, optional
        For the permutations.
    n_jobs : int, optional
    progress : bool, optional

    Returns
    -------
    CorrelationResult
        ``difference`` with ``difference_se`` and limits ``difference_lower``, ``difference_upper``; ``statistic``, ``df``,
        ``p_value``, ``q_value`` are of no difference; ``correlation`` is that of all samples together, and
        ``group_correlation`` that of each group by itself.

    Raises
    ------
    InputError
        If the condition varies within samples, has one sample in a group, is confounded with a covariate or with blocks.

    References
    ----------
    Bell & McCaffrey 2002, Survey Methodology 28:169; Pustejovsky & Tipton 2018, J. Business & Economic Statistics 36:672;
    Janssen 1997, Statistics & Probability Letters 36:9 (studentised permutation).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30}
    >>> r = hc.differential(adata, "sample_id", "condition", block="patient_id", target="FTL", **options)
    >>> r.top(n=1).columns[:2].tolist()
    ['correlation', 'difference']
    """
    one_of("precision", precision, tiling.DTYPE)
    between_0_and_1("confidence", confidence)
    one_of("method", method, DIFFERENTIAL_METHODS)
    if uncertainty not in ("jackknife", "cluster"):
        raise InputError(f"uncertainty must be 'jackknife' or 'cluster', not {uncertainty!r}")
    # Cells of one sample in both conditions: the units are sample x condition, compared within the sample.
    units: str | tuple[str, str] = (
        (sample, condition) if block == sample and condition != sample else sample
    )
    counts = read_counts(
        data,
        Selection(
            sample=units,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
        ),
        always=() if target is None else (target,),
    )
    table, varying = sample_table(counts.obs, counts.starts, counts.samples)
    of_cells, of_samples = split_terms(
        formula or "~ 1", table.columns, [str(c) for c in counts.obs.columns]
    )
    formula = "~ " + " + ".join(of_samples) if of_samples else None
    design, weights, levels = _design(
        counts, table, varying, sample, condition, formula, block, contrast
    )
    cells = make_design("~ " + " + ".join(of_cells), counts.obs).matrix if of_cells else None
    found = None
    if permutations is not None:
        found = _shuffles(table, condition, formula, block, levels, permutations, seed)
    groups = (
        None
        if levels is None
        else np.asarray(pd.Index(levels).get_indexer(table[condition].astype(str)), np.int64)
    )
    if method == "pooled":
        _check_pooled(design, groups, block, permutations, condition)
    question = differential_tests.Question(
        design.matrix, weights, groups, [] if levels is None else levels
    )
    rows = tiling.rows_of(target, counts.genes)
    dtype = tiling.DTYPE[precision]
    tiling.check_memory(counts.n_genes, 0, target is not None, False, dtype, available_memory())
    tiles = tiling.tiles(counts.n_genes, counts.n_samples, rows, dtype, tiling.WIDE)
    plan = Plan("within", "none", precision, confidence, rows, None, progress, tiles, cells)
    output = tiling.PairOutput(counts.n_genes, rows, dtype)

    def compared(
        problem: fitting.WithinProblem,
        left: slice,
        right: slice,
        num: NDArray,
        den: NDArray,
        tile: dict,
    ) -> NDArray:
        given = problem.variance_sums(left, right)
        noise = (problem.noise[left], problem.noise[right])
        above = left == right and rows is None
        if method == "pooled":
            differences = differential_tests.pooled_difference(
                question, num, den, *given, noise, uncertainty
            )
        else:
            differences = differential_tests.tile_difference(
                question, num, den, *given, noise, found, above
            )
        tile |= _table(differences, confidence, dtype)
        return np.where(np.isnan(tile["p_value"]), Flag.NO_INTERVAL.bit, 0).astype(np.uint16)

    with threads(n_jobs):
        problem = fitting.fit_here(counts, plan, output, None, [compared])
    pair = output.finish()
    tiling.add_q_values(pair, rows)
    missing = float(np.mean(np.isnan(pair["difference"])))
    dataset = build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=pair,
        gene=problem.gene,
        sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
        target=target,
        groups=question.labels if levels is not None else None,
        attrs={
            "title": "difference of correlation within samples",
            "model": "differential",
            "estimator": "within",
            "level": "within",
            "formula": design.formula,
            "cell_terms": " + ".join(of_cells) or None,
            "condition": condition,
            "contrast": _said(design, weights),
            "block": block,
            "method": method,
            "uncertainty": uncertainty
            if method == "pooled"
            else "HC2"
            if found is None
            else "permutation" + (", exact" if found.exact else ""),
            "permutations": None if found is None else len(found.values),
            "smallest_p": None if found is None else found.smallest_p,
            "confidence": confidence,
            "precision": precision,
            "n_cells": counts.n_cells,
            "sample_column": sample,
            "theta": problem.fit.theta,
            "seed": seed if isinstance(seed, int) else None,
            "note": "statistic, df, p_value and q_value are of no difference; correlation is that of all samples together.",
            **{k: v for k, v in counts.notes.items() if v},
        },
    )
    if missing > 1 / counts.n_genes:  # more than the diagonal
        warn(
            f"{missing:.1%} of the pairs have no difference (no variance beyond noise); they are NaN and flagged",
            EstimationWarning,
        )
    return CorrelationResult(dataset)


DIFFERENTIAL_METHODS = ("regression", "pooled")


def _check_pooled(
    design: DesignMatrix,
    groups: NDArray[np.int64] | None,
    block: str | None,
    permutations: int | None,
    condition: str,
) -> None:
    """Refuse what a comparison of two groups by themselves cannot answer."""
    for unfit, what in (
        (block is not None, "block="),
        (permutations is not None, "permutations="),
        (design.matrix.shape[1] != 2, "covariates, contrasts or more than two groups"),
        (groups is None, "a number"),
    ):
        if unfit:
            raise InputError(
                f"method='pooled' compares two groups by themselves and does not go with {what}: use 'regression'"
            )
    assert groups is not None
    least = np.bincount(groups).min()
    if least < 3:
        raise InputError(
            f"method='pooled' needs at least 3 samples in each group of {condition!r}, one has {least}"
        )


def _design(
    counts: Counts,
    table: pd.DataFrame,
    varying: Sequence[str],
    sample: str,
    condition: str,
    formula: str | None,
    block: str | None,
    contrast: Any,
) -> tuple[DesignMatrix, NDArray[np.float64], list[str] | None]:
    """DesignMatrix with the condition in it, the combination that is asked for, and the condition's levels (None: a number)."""
    if condition in varying:
        raise InputError(
            f"condition {condition!r} varies within samples: a sample must have one value of it; or compare the conditions "
            f"within samples, with block={sample!r}"
        )
    if condition not in table:
        raise unknown_name("condition column", condition, counts.obs.columns)
    values = table[condition]
    if values.isna().any():
        raise InputError(
            f"condition {condition!r} is missing for sample {values.index[values.isna()][0]!r}; leave it out with subset="
        )
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    levels = None if numeric else sorted(values.astype(str).unique())
    if levels is not None:
        size = values.astype(str).value_counts()
        if len(levels) < 2:
            raise InputError(
                f"condition {condition!r} has one value, {levels[0]!r}, in all samples: nothing to compare"
            )
        if (size < 2).any():
            raise InputError(
                f"condition {condition!r} has one sample in group {size.index[size < 2][0]!r}: a difference needs at least 2 "
                "samples in each group"
            )
    if block is not None:
        check_block(block, table, varying, counts.obs.columns)
        _check_blocks(table, condition, block)
    base = (formula or "~ 1") if "~" in (formula or "~ 1") else f"~ {formula}"
    text = base if condition in formulas.columns(base) else f"{base} + `{condition}`"
    design = sample_design(text, table, varying, block)
    n, k = design.matrix.shape
    if n - k < 1:
        raise InputError(
            f"formula {design.formula!r} has {k} coefficients for {n} samples: nothing is left for an error; drop terms"
        )
    if block is None:
        warn_of_repeated_donors(table, sample, n, "p-values are too small", "block={column}")
    if contrast is not None:
        return design, design.contrasts({"contrast": contrast})[0], levels
    own = own_coefficients(design.names, condition)
    if len(own) != 1:
        said = ", ".join(design.names[k] for k in own)
        other, baseline = (levels or ["a", "b"])[1::-1]
        raise InputError(
            f"condition {condition!r} has {len(own)} coefficients ({said}): say which difference with contrast=, e.g. "
            f"contrast=({condition!r}, {other!r}, {baseline!r})"
        )
    return design, np.eye(k)[own[0]], levels


def _check_blocks(table: pd.DataFrame, condition: str, block: str) -> None:
    both = table.groupby(block, observed=True)[condition].nunique() > 1
    if both.sum() < 2:
        raise InputError(
            f"{int(both.sum())} values of block {block!r} have samples of more than one {condition!r}: nothing can be compared "
            "within blocks; leave out block="
        )


def _shuffles(
    table: pd.DataFrame,
    condition: str,
    formula: str | None,
    block: str | None,
    levels: list[str] | None,
    n: int,
    seed: Any,
) -> differential_tests.Shuffles:
    if n < 19:
        raise InputError(f"permutations={n}: at least 19 are needed for a p-value of 0.05")
    if formula is not None and set(formulas.columns(formula)) - {condition}:
        raise InputError(
            "permutations hold for the condition and blocks alone: name a covariate with levels as block=, or leave out "
            "permutations= (the t test adjusts for covariates)"
        )
    if levels is not None and len(levels) > 2:
        raise InputError(
            f"permutations go with two groups or a number; choose two of {levels} with subset="
        )
    values = (
        table[condition].to_numpy(float)
        if levels is None
        else (table[condition].astype(str) == levels[1]).to_numpy(float)
    )
    strata = (
        np.zeros(len(table), np.int64)
        if block is None
        else pd.factorize(table[block])[0].astype(np.int64)
    )
    found = differential_tests.shuffles(values, strata, n, seed)
    differential_tests.check_reach(found, condition)
    if found.smallest_p > 0.05:
        warn(
            f"{len(found.values)} arrangements of {condition!r} can give no p-value below {found.smallest_p:.2g}",
            EstimationWarning,
        )
    return found


def _table(found: dict[str, NDArray], confidence: float, dtype: Any) -> dict[str, NDArray]:
    """Test and interval of the differences; they lie in -2..2."""
    half = inference.PairEstimate(
        found["difference"] / 2,
        found["se"] / 2,
        found["df"],
        np.empty(0, np.int32),
        np.empty(0, np.float32),
    )
    tested = inference.pair_table(half, confidence, dtype)
    if "statistic" in found:  # on another scale than the interval
        tested["statistic"] = found["statistic"].astype(dtype)
        tested["p_value"] = (2 * special.stdtr(found["df"], -np.abs(found["statistic"]))).astype(
            dtype
        )
    out = {
        "difference": found["difference"].astype(dtype),
        "difference_se": found["se"].astype(dtype),
        "difference_lower": 2 * tested["ci_lower"],
        "difference_upper": 2 * tested["ci_upper"],
        "statistic": tested["statistic"],
        "df": tested["df"],
        "p_value": found["permutation_p"].astype(dtype)
        if "permutation_p" in found
        else tested["p_value"],
    }
    if "group_correlation" in found:
        out["group_correlation"] = found["group_correlation"].astype(dtype)
    return out


def _said(design: DesignMatrix, weights: NDArray[np.float64]) -> str:
    parts = [f"{w:+g} {name}" for w, name in zip(weights, design.names, strict=True) if w]
    return (
        " ".join(parts).removeprefix("+").replace("1 ", "", 1)
        if len(parts) == 1
        else " ".join(parts)
    )
