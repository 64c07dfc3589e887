"""Differential correlation: differences of the correlation within samples between groups."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hiercorr import inference
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.counts.targets import Pairs, Target, Targets, pairs_asked, targets_first
from hiercorr.errors import (
    MAX_REPEATS,
    EstimationWarning,
    InputError,
    between_0_and_1,
    one_of,
    text,
    true_or_false,
    valid_seed,
    whole_number,
)
from hiercorr.inference.meta_regression import LEAST_RESIDUAL_DF, RegressionDesign
from hiercorr.results import CorrelationResult, tiling
from hiercorr.results.listed import selected_pairs
from hiercorr.results.missing import proportion
from hiercorr.runtime.log import logged, pairs_of
from hiercorr.runtime.resources import available_memory, threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import AGREES, CALIBRATED, Flag, build_dataset
from hiercorr.within import differential_tests, fitting
from hiercorr.within.condition import (
    Condition,
    ConditionDesign,
    check_pooled,
    condition_asked,
    condition_design,
    condition_shuffles,
)
from hiercorr.within.dataset import distribution, modality_depth
from hiercorr.within.heterogeneity import LEAST_GENES, LEAST_PAIRS, without_tau
from hiercorr.within.hierarchical_difference import RandomRegression, learn_regression
from hiercorr.within.options import Plan
from hiercorr.within.overall_test import (
    DOUBLE,
    contrast_variables,
    overall_table,
    withhold_impossible,
)

DIFFERENTIAL_METHODS = ("regression", "pooled")
_MOST_SIGNED = 6  # groups whose patterns of signs are all considered
_LAYERS = 8  # arrays of each contrast of groups
_UNCERTAINTIES = {"regression": ("hierarchical", "HC2"), "pooled": ("jackknife", "cluster")}


def differential(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    condition: str,
    formula: str | None = None,
    block: str | None = None,
    target: Target = None,
    pairs: Pairs = None,
    *,
    contrast: str | Sequence[str] | None = None,
    method: str = "regression",
    uncertainty: str | None = None,
    permutations: int | None = None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | Mapping[str, Any] | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    modalities: str | Sequence[str] | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    precision: str = "single",
    confidence: float = 0.95,
    seed: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> CorrelationResult:
    r"""Test differences of the correlation within samples between groups, or its slope or curve.

    Samples are the units. To first order, the contribution of a sample to the correlation of a pair
    is :math:`L_c = \rho + x_c / b_c` (share b_c, influence x_c, as in
    :func:`hiercorr.inference.pairs.pair_estimate`), which avoids the noise of a ratio; L is
    regressed on the design. For screens, weights and standard errors follow from a hierarchical
    model: the sampling variance of a sample's correlation from its cells, the distribution of what
    samples of a group differ in beyond it from all pairs
    (:mod:`hiercorr.inference.meta_regression`). For few genes, weights are b and standard errors
    HC2 with Satterthwaite degrees of freedom
    (:func:`hiercorr.within.differential_tests.tile_difference`): Welch's test for two groups, the
    paired t test for pairs in blocks.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of ONE cell type, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    condition : str
        Column with one value per sample: two groups, whose difference is estimated; several, which
        are tested together; an ordered categorical with several levels, whose trend is; or a
        number, whose slope per unit is. ``"bs(age, df=3)"`` (B-splines), ``"cr(age, df=2)"``
        (natural splines) and ``"poly(age, 2)"`` test the change along a smooth curve. With
        ``block=sample`` it may vary within samples (a cell type,
        a state, a stimulus applied to some of the cells): the units are then sample x condition,
        compared within samples.
    formula : str, optional
        Covariates to adjust for, e.g. ``"~ gender + age + percent_mito"``; `condition` is added.
        Terms with one value per sample are covariates of the correlation; terms that vary between
        the cells of a sample are regressed out of its counts, as in :class:`hiercorr.CSCore`.
        ``(1 | donor)`` is the same as ``block="donor"``.
    block : str, optional
        Column with the donor of each sample: an effect of each donor, estimated as a fixed effect,
        so that conditions are compared within donors. For a condition with one value per donor,
        compare donors: ``sample="donor", formula="~ sample"`` centres each of their samples.
    target : str or sequence of str, optional
        Estimate this gene, or each of these, against all others only; several targets come first
        among the genes of the result.
    pairs : DataFrame, sequence of (str, str) or mapping, optional
        Estimate these pairs only, as for :meth:`hiercorr.CSCore.fit`; they are the family of tests.
    contrast : str or (column, level, baseline), optional
        ``(column, level, baseline)``: difference between two levels (or two numbers, of a curve),
        averaged over the other columns of the formula. ``"overall"``: the null hypothesis that all
        groups have the same correlation, or that all coefficients of the condition are 0; None for
        several groups or a curve. ``"pairwise"``: also the difference between each pair of groups,
        with Holm's adjustment within each pair of genes (:meth:`CorrelationResult.contrasts`).
        ``"trend"``: slope per level over the scores 0, 1, 2, ... of an ordered categorical, the
        least-squares line through its levels with equal weights; None for such a condition.
        Otherwise a sum of coefficients as they are printed, e.g. ``"arm[T.b]:sex[T.m]"``.
    method : {"regression", "pooled"}
        ``"regression"``: as above. ``"pooled"``: the correlation of each group from its own sums,
        with its own standard error, compared on Fisher's scale; rejects fewer true nulls than the
        regression in equal groups, more in unbalanced ones
        (:func:`hiercorr.within.differential_tests.pooled_difference`); for two groups of at least 3
        samples and a `contrast` of the two, without covariates or blocks.
    uncertainty : {"hierarchical", "HC2", "jackknife", "cluster"}, optional
        For ``"regression"``: ``"hierarchical"`` (random effects: sampling variances from the cells,
        and the distribution of the heterogeneity of each group learnt from all pairs, see
        :mod:`hiercorr.inference.meta_regression`) or ``"HC2"`` (from the samples of the pair
        alone). None takes ``"hierarchical"`` where the panel has at least 12 genes and 60 pairs and
        the design leaves 2 residual degrees of freedom, and ``"HC2"`` otherwise or with
        `permutations`. For ``"pooled"``, the standard error of the correlation of each group:
        ``"jackknife"`` (None) or ``"cluster"``.
    permutations : int, optional
        Test by permutation of the condition over samples (within blocks) instead of the t test: all
        distinct arrangements if there are no more than this number, otherwise this number at
        random. The statistic is the studentised difference. The test is exact if the samples are
        exchangeable under the null hypothesis; in unbalanced groups whose correlations differ in
        variance it rejects too often, and the t test (``"HC2"``) is recommended. Not available with
        covariates of samples.
    genes, layer, depth, subset, modalities, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    precision : {"single", "double"}
        Precision of the large sums and of the output.
    confidence : float
        Confidence level of the intervals.
    seed : int or Generator, optional
        Seed of the permutations.
    n_jobs : int, optional
        Number of threads, as for :meth:`hiercorr.CSCore.fit`.
    progress : bool, optional
        Whether to show a progress bar. None: in a terminal, for long work.

    Returns
    -------
    CorrelationResult
        ``difference`` with ``difference_se`` and limits ``difference_lower`` and
        ``difference_upper``; ``statistic``, ``df``, ``p_value`` and ``q_value`` test the null
        hypothesis of no difference; ``correlation`` is the correlation over all samples, and
        ``group_correlation`` that of each group. The hierarchical model adds ``group_tau`` (or
        ``tau``, where groups are more than two or blocks are compared within) and the p-value from
        the pair alone, ``hc2_p_value``; its ``statistic`` is the normal score of the p-value.

        An overall test has ``f_statistic`` with ``df_denominator`` and the attribute
        ``df_numerator``, and ``largest_difference``, that between the largest and the smallest
        fitted correlation (not corrected for their selection), instead of ``difference`` and its
        test. With HC2, F is that of the approximate Hotelling test
        (:func:`hiercorr.within.differential_tests.overall_difference`); in the hierarchical model,
        p-values average chi-squared tests over the posterior distribution of the heterogeneity
        (:func:`hiercorr.inference.meta_regression.overall_estimate`), and F has infinite
        denominator degrees of freedom. ``"pairwise"`` adds ``contrast_difference`` with its limits,
        ``contrast_p_value`` and ``contrast_adjusted_p_value``.

    Raises
    ------
    InputError
        If an option is not valid, or if the condition varies within samples, has one sample in a
        group, or is confounded with a covariate or with blocks.

    References
    ----------
    Bell & McCaffrey 2002, Survey Methodology 28:169; Pustejovsky & Tipton 2018, J. Business &
    Economic Statistics 36:672; Janssen 1997, Statistics & Probability Letters 36:9 (studentised
    permutation).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "block": "patient_id", "target": "FTL"}
    >>> r = hc.differential(adata, "sample_id", "condition", **options)
    >>> r.top(n=1).columns[:2].tolist()
    ['correlation', 'difference']
    """
    asked = condition_asked(condition, sample, formula, block, contrast)
    one_of("precision", precision, tiling.DTYPE)
    between_0_and_1("confidence", confidence)
    one_of("method", method, DIFFERENTIAL_METHODS)
    if uncertainty is not None:
        _check_uncertainty(uncertainty, method, permutations)
    whole_number("permutations", permutations, optional=True, maximum=MAX_REPEATS)
    valid_seed(seed)
    true_or_false("progress", progress, optional=True)
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
    wanted = pairs_asked(target, pairs)
    counts = read_counts(data, selection, always=wanted.genes)
    wanted = wanted.named(counts.named)
    targets, listed = wanted.targets, wanted.listed
    counts = targets_first(counts, targets)
    found = condition_design(counts, asked)
    condition = asked.column
    shuffles = None
    if permutations is not None:
        shuffles = condition_shuffles(found, asked, permutations, seed)
    question = question_of(found, condition)
    if method == "pooled":
        check_pooled(question, asked, permutations)
    plan = _plan(counts, targets, precision, confidence, found, progress)
    double = DOUBLE if question.rows is not None else ()
    output = tiling.PairOutput(
        counts.n_genes, plan.rows, plan.dtype, double=("cell_p_value", *double)
    )
    work = "differential(%r): %s of %d genes, %d cells of %d samples"
    with (
        threads(n_jobs),
        logged(
            work, condition, pairs_of(targets), counts.n_genes, counts.n_cells, counts.n_samples
        ),
    ):
        problem = fitting.prepare(counts, plan)
        regressions = None
        if method == "regression" and permutations is None and uncertainty != "HC2":
            regressions = _regressions(
                counts,
                problem,
                question,
                found.table[condition],
                asked.block is not None,
                uncertainty is not None,
            )
        pooled = (uncertainty or "jackknife") if method == "pooled" else None
        test = PairTest(question, pooled, shuffles, confidence, regressions or [])
        fitting.fit_tiles(counts, problem, output, None, [test])
    pair = output.finish()
    pair |= problem.follow(pair)
    tiling.add_q_values(pair, plan.rows)
    other = (pair["flag"] & int(Flag.SELF)) == 0
    tested = "p_value" if question.rows is not None else "difference_unclipped"
    warn_of_missing(pair[tested][other], question)
    attrs = {
        **attributes_of(asked, found, test, method),
        "confidence": confidence,
        "precision": precision,
        "n_cells": counts.n_cells,
        "sample_column": asked.sample,
        "theta": problem.fit.theta,
        "seed": seed if isinstance(seed, int) else None,
        "note": note_of(question),
        **counts.attributes,
    }
    dataset = _dataset(counts, pair, problem, targets, test, attrs)
    return CorrelationResult(dataset if listed is None else selected_pairs(dataset, listed))


def warn_of_missing(tested: NDArray, question: differential_tests.Question) -> None:
    """Warn of pairs without a test."""
    missing = int(np.isnan(tested).sum())
    if missing:
        what = "test" if question.rows is not None else "difference"
        warn(
            f"{proportion(missing, tested.size)} of the pairs have no {what} (no variance beyond "
            "noise); they are NaN and flagged",
            EstimationWarning,
        )


def _check_uncertainty(uncertainty: str, method: str, permutations: int | None) -> None:
    """Raise an error unless the method has this uncertainty."""
    known = _UNCERTAINTIES[method]
    text("uncertainty", uncertainty)
    if uncertainty not in known:
        one_of("uncertainty", uncertainty, itertools.chain(*_UNCERTAINTIES.values()))
        raise InputError(
            f"uncertainty={uncertainty!r} is not available with method={method!r}: choose one of "
            + ", ".join(map(repr, known))
        )
    if uncertainty == "hierarchical" and permutations is not None:
        raise InputError(
            "permutations= is a test of its own, with the samples of one pair: leave out "
            "uncertainty='hierarchical'"
        )


def note_of(question: differential_tests.Question) -> str:
    """Explain the tests of the result in a sentence or two."""
    overall = "correlation is that of all samples together."
    if question.rows is None:
        tests = "statistic, df, p_value and q_value test the null hypothesis of no difference"
        return f"{tests}; {overall}"
    groups = "all groups have the same correlation"
    same = groups if question.groups is not None else "the correlation is constant"
    text = f"f_statistic, p_value and q_value test the null hypothesis that {same}; {overall}"
    if question.pairs:
        text += " adjusted_p_value: Holm over the differences of one pair of genes."
    return text


def _regressions(
    counts: Counts,
    problem: fitting.WithinProblem,
    question: differential_tests.Question,
    condition: pd.Series,
    blocked: bool,
    asked: bool,
) -> list[RandomRegression] | None:
    """Learn the random-effects regressions; None, with a warning if asked for, if it cannot be."""
    group, signs = np.zeros(counts.n_samples, np.int64), None
    values = condition if question.groups is None else condition.astype(str)
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) == 2 or (question.groups is not None and len(distinct) <= _MOST_SIGNED):
        signs = np.array([np.array((1.0, *rest))[codes] for rest in _signs(len(distinct) - 1)])
    if len(distinct) == 2:
        group = group if blocked else codes
    design = RegressionDesign(
        question.design, question.contrast, group, signs, question.rows, question.fitted
    )
    found = learn_regression(counts, problem, design, list(question.pairs.values()))
    if found is None and asked:
        warn(
            f"{counts.n_genes} genes and {counts.n_samples} samples are too few to learn how "
            f"samples differ (at least {LEAST_GENES} genes with variance beyond counting noise, "
            f"{LEAST_PAIRS} pairs and {LEAST_RESIDUAL_DF} residual degrees of freedom are needed): "
            "uncertainty='HC2' is used",
            EstimationWarning,
        )
    return found


def _signs(n: int) -> list[tuple[float, ...]]:
    """List the sign patterns of n groups relative to one more, except for all-positive."""
    return list(itertools.product((1.0, -1.0), repeat=n))[1:]


def _plan(
    counts: Counts,
    target: Targets | None,
    precision: str,
    confidence: float,
    found: ConditionDesign,
    progress: bool | None,
) -> Plan:
    rows, dtype = tiling.rows_of(target, counts.genes), tiling.DTYPE[precision]
    layers, limit = _LAYERS * len(found.pairs), available_memory()
    tiling.check_memory(counts.n_genes, 0, tiling.n_rows(rows), False, dtype, limit, layers=layers)
    tiles = tiling.tiles(counts.n_genes, counts.n_samples, rows, dtype, tiling.WIDE)
    return Plan("within", "none", precision, confidence, rows, None, progress, tiles, found.cells)


class PairTest:
    """Test of the difference for every pair of a tile, added to the estimates of a fit.

    Parameters
    ----------
    question : Question
        Design, contrast and groups.
    pooled : str or None
        Uncertainty of the separate groups; None: the regression of samples.
    shuffles : Shuffles, optional
        Permutations.
    confidence : float
        Confidence level of the intervals.
    regressions : list of RandomRegression
        Random-effects regressions of the question and of each pair of groups; the HC2 p-value is
        kept beside theirs. Empty: HC2 alone.
    """

    def __init__(
        self,
        question: differential_tests.Question,
        pooled: str | None,
        shuffles: differential_tests.Shuffles | None,
        confidence: float,
        regressions: Sequence[RandomRegression] = (),
    ) -> None:
        self.question, self.pooled, self.shuffles = question, pooled, shuffles
        self.confidence, self.regressions = confidence, list(regressions)

    @property
    def regression(self) -> RandomRegression | None:
        """Random-effects regression of the question."""
        return self.regressions[0] if self.regressions else None

    def __call__(
        self,
        problem: fitting.WithinProblem,
        left: slice,
        right: slice,
        num: NDArray,
        den: NDArray,
        tile: dict[str, NDArray],
    ) -> NDArray[np.uint16]:
        """Add the variables of the test to a tile, and return its flags."""
        sums = differential_tests.TileSums(
            num,
            den,
            *problem.variance_sums(left, right),
            (problem.noise[left], problem.noise[right]),
        )
        learnt = [r.tile(problem, left, right, num, den) for r in self.regressions]
        upper = left == right and problem.plan.rows is None
        return self.of_sums(sums, problem.plan.dtype, tile, learnt, upper)

    def of_sums(
        self,
        sums: differential_tests.TileSums,
        dtype: Any,
        tile: dict[str, NDArray],
        learnt: Sequence[dict[str, NDArray]] = (),
        upper: bool = False,
    ) -> NDArray[np.uint16]:
        """Add the variables of the test to a tile of any sums, and return its flags.

        Parameters
        ----------
        sums : TileSums
        dtype : dtype
        tile : dict
        learnt : sequence of dict
            Estimates of the random-effects regressions, where there are any.
        upper : bool
            Whether the tile is symmetric.
        """
        if self.question.rows is not None:
            return self._overall(sums, dtype, tile, learnt)
        if self.pooled is not None:
            found = differential_tests.pooled_difference(self.question, sums, self.pooled)
        else:
            found = differential_tests.tile_difference(self.question, sums, self.shuffles, upper)
        largest = self.question.largest
        tile |= _table(found, self.confidence, dtype, largest)
        if learnt:
            tile["hc2_p_value"] = tile["p_value"]
            tile |= _normal_table(found | learnt[0], self.confidence, dtype, largest)
        difference = tile["difference_unclipped"] = tile["difference"]
        beyond = np.abs(difference) >= largest
        tile["difference"] = np.where(beyond, np.nan, difference)
        flag = np.isnan(tile["difference_lower"]) * Flag.NO_INTERVAL.bit
        if learnt:
            flag |= without_tau(tile)
        return (flag | beyond * Flag.OUT_OF_RANGE.bit).astype(np.uint16)

    def _overall(
        self,
        sums: differential_tests.TileSums,
        dtype: Any,
        tile: dict[str, NDArray],
        learnt: Sequence[dict[str, NDArray]],
    ) -> NDArray[np.uint16]:
        """Add the variables of an overall test, and of the contrasts of groups, to a tile."""
        question = self.question
        assert question.rows is not None
        hc2 = differential_tests.overall_difference(question, sums)
        tile |= overall_table(hc2, learnt[0] if learnt else None, len(question.rows), dtype)
        tables = []
        for k, contrast in enumerate(question.pairs.values()):
            one = replace(question, contrast=contrast, groups=None, rows=None, pairs={})
            found = differential_tests.tile_difference(one, sums, None)
            table = _table(found, self.confidence, dtype, 2.0)
            if learnt:
                table = _normal_table(found | learnt[k + 1], self.confidence, dtype, 2.0)
            tables.append(table)
        if tables:
            tile |= contrast_variables(tables)
        flag = withhold_impossible(tile, question.groups is not None)
        return flag | without_tau(tile) if learnt else flag


def question_of(found: ConditionDesign, condition: str) -> differential_tests.Question:
    """Return design, contrast and groups of a condition."""
    return differential_tests.Question(
        found.design.matrix,
        found.contrast,
        found.groups(condition),
        found.levels or [],
        found.rows,
        found.fitted,
        found.pairs,
    )


def attributes_of(
    asked: Condition, found: ConditionDesign, test: PairTest, method: str
) -> dict[str, Any]:
    """Return the attributes that describe the test."""
    shuffles = test.shuffles
    exact = shuffles is not None and shuffles.exact
    by_permutation = "permutation" + (", exact under exchangeability" if exact else "")
    return {
        "title": "difference of correlation within samples",
        "model": "differential",
        "estimator": "within",
        "level": "within",
        "formula": found.design.formula,
        "cell_terms": " + ".join(found.cell_terms) or None,
        "condition": asked.column,
        "contrast": found.describe_contrast(),
        "test": found.test,
        "df_numerator": None if found.rows is None else len(found.rows),
        "method": method,
        "uncertainty": test.pooled or ("HC2" if shuffles is None else by_permutation),
        "interval": AGREES
        if shuffles is None
        else "of the t test: need not agree with p_value, from permutations",
        **_learnt(test),
        "permutations": None if shuffles is None else len(shuffles.values),
        "smallest_p": None if shuffles is None else shuffles.smallest_p,
    }


def _learnt(test: PairTest) -> dict[str, Any]:
    """Return the attributes of what was learnt from the panel."""
    if test.regression is None:
        return {}
    prior, labels = test.regression.prior, test.question.labels
    weight = prior.joint[0].sum(1)
    each = [distribution(*_margin(tau, weight)) for tau in prior.tau.T]
    if len(each) > 1 and labels:
        each = [f"{label}: {text}" for label, text in zip(labels, each, strict=True)]
    return {
        "uncertainty": "hierarchical",
        "interval": CALIBRATED,
        "tau_distribution": "; ".join(each),
        "heterogeneous_share": prior.heterogeneous,
        "variance_growth": prior.growth,
        "prior_pairs": prior.n_pairs,
    }


def _margin(tau: NDArray, weight: NDArray) -> tuple[NDArray, NDArray]:
    """Add up the weights of points with the same tau."""
    values, at = np.unique(tau, return_inverse=True)
    return values, np.bincount(at, weight)


def _dataset(
    counts: Counts,
    pair: dict[str, NDArray],
    problem: fitting.WithinProblem,
    target: Targets | None,
    test: PairTest,
    attrs: dict[str, Any],
) -> xr.Dataset:
    question = test.question
    sample = {"n_cells": counts.cells_per_sample, "depth": counts.median_depth}
    if test.regression is not None:
        sample["inflation"] = test.regression.prior.inflation
    return build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=pair,
        gene=problem.gene,
        sample=sample,
        modality=modality_depth(counts),
        target=target,
        groups=question.labels if question.groups is not None else None,
        contrasts=list(question.pairs) or None,
        attrs=attrs,
    )


def _normal_table(
    found: dict[str, NDArray], confidence: float, dtype: Any, largest: float
) -> dict[str, NDArray]:
    """Variables of the random-effects regression; the statistic is the normal score of p."""
    difference, se, p = (found[name] for name in ("difference", "se", "p_value"))
    half = special.ndtri(0.5 + confidence / 2) * se
    lower, upper = inference.within_range(difference - half, difference + half, largest)
    out = {
        "difference": difference,
        "difference_se": se,
        "difference_lower": lower,
        "difference_upper": upper,
        "statistic": np.sign(difference) * -special.ndtri(np.maximum(p, 1e-300) / 2),
        "df": np.where(np.isnan(p), p, np.inf),
        "p_value": p,
    }
    tau = found["tau"]
    if "group_correlation" in found and len(tau) > 1:
        out["group_tau"] = tau
    else:
        out["tau"] = np.sqrt(np.mean(tau**2, 0))
    return {name: values.astype(dtype) for name, values in out.items()}


def _table(
    found: dict[str, NDArray], confidence: float, dtype: Any, largest: float
) -> dict[str, NDArray]:
    """Variables of the test and the interval, within the `largest` possible difference."""
    unit = largest if np.isfinite(largest) else 1e9  # a slope has no bound
    relative = inference.PairEstimate(
        found["difference"] / unit,
        found["se"] / unit,
        found["df"],
        np.empty(0, np.int32),
        np.empty(0, np.float32),
        np.empty(0, bool),
    )
    tested = inference.pair_table(relative, confidence, dtype)
    out = {
        "difference": found["difference"].astype(dtype),
        "difference_se": found["se"].astype(dtype),
        "difference_lower": unit * tested["ci_lower"],
        "difference_upper": unit * tested["ci_upper"],
        "statistic": tested["statistic"],
        "df": tested["df"],
        "p_value": found["permutation_p"].astype(dtype)
        if "permutation_p" in found
        else tested["p_value"],
    }
    if "group_correlation" in found:
        r = found["group_correlation"].astype(dtype)
        out |= {
            "group_correlation": np.where(np.abs(r) < 1, r, np.nan),
            "group_correlation_unclipped": r,
        }
    return out
