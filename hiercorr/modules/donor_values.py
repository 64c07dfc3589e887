"""Connectivity of modules and centrality of genes by sample, and their comparison over donors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from hiercorr.between.regression import least_squares
from hiercorr.counts.gene_groups import LEAST, Sets, named_sets
from hiercorr.counts.names import name_of
from hiercorr.design.formulas import random_blocks
from hiercorr.errors import (
    DataWarning,
    EstimationWarning,
    InputError,
    between_0_and_1,
    instance_of,
    text,
    true_or_false,
    unknown_name,
)
from hiercorr.inference.moderation import squeeze_variances
from hiercorr.inference.multiplicity import benjamini_hochberg, holm_layers
from hiercorr.results.layout import need_all_pairs
from hiercorr.results.pairs import ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.condition import Condition, ConditionDesign, Contrast, design_of_samples
from hiercorr.within.differential import question_of
from hiercorr.within.differential_tests import (
    Question,
    TileSums,
    overall_difference,
    tile_difference,
)

Array = NDArray[np.float64]


def connectivity(modules: Sets, result: CorrelationResult) -> pd.DataFrame:
    """Compute the connectivity of modules in each sample.

    The connectivity of a module is the mean correlation within the sample of its pairs of genes,
    over the pairs that could be estimated in every sample.

    Parameters
    ----------
    modules : mapping, Modules or path
        Genes by name of the module, the modules of :func:`hiercorr.modules.find_modules`, or a GMT
        file, whose genes that are not in the result are left out.
    result : CorrelationResult
        All pairs, fitted with ``per_sample=True``.

    Returns
    -------
    DataFrame
        Samples x modules; NaN for modules without a pair that could be estimated in every sample.

    Raises
    ------
    InputError
        If the result has no estimates of samples, or a gene is unknown.

    Warns
    -----
    DataWarning
        If fewer than half of the pairs of a module could be estimated in every sample.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "sample_id", depth="total_counts", genes=40).fit(per_sample=True)
    >>> hc.modules.connectivity({"ferritin": ["FTL", "FTH1"]}, r).shape
    (10, 1)
    """
    r = sample_correlations(result)
    found = positions_of(modules, result)
    means = {name: mean_of_pairs(r, at) for name, at in found.items()}
    incomplete = {n: found[n] for n, (_, used, all_) in means.items() if few_pairs(used, all_)}
    warn_of_incomplete(incomplete, r, _samples(result))
    values = np.column_stack([mean for mean, _, _ in means.values()])
    return _of(pd.DataFrame(values, _samples(result), list(found)), "connectivity of modules")


def centrality(result: CorrelationResult, modules: Sets | None = None) -> pd.DataFrame:
    """Compute the centrality of genes in each sample.

    The centrality of a gene is its mean correlation within the sample with the other genes of its
    module (kIM of WGCNA, unweighted), or with all genes, over the pairs that could be estimated in
    every sample.

    Parameters
    ----------
    result : CorrelationResult
        All pairs, fitted with ``per_sample=True``.
    modules : mapping, Modules or path, optional
        As for :func:`hiercorr.modules.connectivity`. None: all genes of the result together.

    Returns
    -------
    DataFrame
        Samples x genes; with `modules`, the columns have the levels ``module`` and ``gene``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "sample_id", depth="total_counts", genes=40).fit(per_sample=True)
    >>> hc.modules.centrality(r).shape
    (10, 40)
    """
    r = sample_correlations(result)
    if modules is None:
        values = _centralities(r, np.arange(r.shape[1]))
        return _of(pd.DataFrame(values, _samples(result), result.genes), "centrality of genes")
    parts = {}
    for name, at in positions_of(modules, result).items():
        columns = pd.Index(result.genes[at])
        parts[name] = pd.DataFrame(_centralities(r, at), _samples(result), columns)
    joined = pd.concat(parts, axis=1, names=["module", "gene"])
    return _of(joined, "centrality of genes in their modules")


def compare_donors(
    values: pd.DataFrame,
    samples: pd.DataFrame,
    condition: str,
    formula: str | None = None,
    block: str | None = None,
    *,
    contrast: Contrast = None,
    moderated: bool | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    r"""Compare values of donors between groups, or test their slope along a covariate.

    The values are those of :func:`hiercorr.modules.connectivity`,
    :func:`hiercorr.modules.centrality`, :meth:`hiercorr.Pseudobulk.module_expression`, or any other
    table with one row per sample. Donors are the units and have equal weight. Each column is
    regressed on the condition and the formula. Groups without covariates are compared by Welch's
    test. Otherwise, standard errors are HC2 with Satterthwaite degrees of freedom from the design
    (the paired t test in blocks), or those of limma's moderated t test.

    Parameters
    ----------
    values : DataFrame
        Samples x units (modules, genes).
    samples : DataFrame
        One row per sample, indexed by its name, with the columns named below, e.g.
        ``adata.obs.drop_duplicates("sample").set_index("sample")``. Samples that are not among its
        rows are left out.
    condition, formula, contrast
        As for :func:`hiercorr.differential`; covariates have one value per sample.
    block : str, optional
        Column with the donor of each sample. If the condition varies within donors, it is compared
        within them. Otherwise, the values of the samples of a donor are averaged.
    moderated : bool, optional
        Whether residual variances are moderated over the columns as in limma, which assumes that
        they are equal in the groups. None: False. With 6 to 10 donors that differ in their
        correlations, moderated tests of true null hypotheses had p-values below 0.01 in 2 to 3% of
        simulations, HC2 tests in 1%.
    confidence : float
        Confidence level of the intervals.

    Returns
    -------
    DataFrame
        By unit: ``donors`` or, compared within donors, ``samples`` with a value; the mean of each
        group; ``difference`` (or slope) with ``difference_se``, ``difference_lower``,
        ``difference_upper``, ``statistic`` and ``df``, or ``largest_difference``, ``f_statistic``
        and ``df_denominator`` of an overall test, with the differences of pairs of groups and their
        p-values by Holm's method for ``contrast="pairwise"``; ``p_value`` and ``q_value`` (over
        units). NaN where a unit has too few values.

    Raises
    ------
    InputError
        If a column is unknown, a group has one donor, or a covariate varies within the donors over
        whose samples the values are averaged.

    References
    ----------
    Welch 1947, Biometrika 34:28; Bell & McCaffrey 2002, Survey Methodology 28:169; Smyth 2004,
    Statistical Applications in Genetics and Molecular Biology 3:3.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "sample_id", depth="total_counts", genes=40).fit(per_sample=True)
    >>> values = hc.modules.connectivity({"ferritin": ["FTL", "FTH1"]}, r)
    >>> samples = adata.obs.drop_duplicates("sample_id").set_index("sample_id")
    >>> found = hc.modules.compare_donors(values, samples, "condition", block="patient_id")
    >>> found["samples"].item(), found.attrs["test"]
    (10, 'HC2')
    """
    y = _checked_values(values)
    for name, value in (("condition", condition), ("formula", formula), ("block", block)):
        text(name, value, optional=name != "condition")
    true_or_false("moderated", moderated, optional=True)
    between_0_and_1("confidence", confidence)
    formula, columns = random_blocks(formula, block)
    block = columns[0] if columns else block
    y, table = _aligned(y, samples)
    named = str(values.index.name or samples.index.name or "sample")
    rows_of = "by dropping rows of samples="
    asked = Condition(condition, named, formula, block, contrast, rows_of)
    noun = "samples"
    if block is None:
        noun = "donors"
    elif _one_value_each(table, block, asked.column):
        y, table = _averaged(y, table, block, asked)
        asked, noun = replace(asked, block=None), "donors"
    found = design_of_samples(table, asked)
    question = question_of(found, asked.column)
    if moderated and question.rows is not None:
        raise InputError(
            "moderated=True tests one contrast, and several are tested together here: choose two "
            "groups with contrast=, or leave it out"
        )
    rows = [
        _compared(y.iloc[:, k].to_numpy(float), question, confidence) for k in range(y.shape[1])
    ]
    out = pd.DataFrame(rows, index=values.columns)
    out = out.rename(columns={"n": noun})
    if moderated:
        out = _moderated(out, y, found, confidence)
    expected = "difference" if question.rows is None else "largest_difference"
    for name in (expected, "p_value"):
        out[name] = out.get(name, np.nan)
    out["q_value"] = benjamini_hochberg(out["p_value"].to_numpy(float))
    _warn_of_missing(y, out, noun)
    out.attrs = {
        "model": "compare_donors",
        "condition": asked.column,
        "contrast": found.describe_contrast(),
        "formula": found.design.formula,
        "block": block,
        "test": "moderated t" if moderated else "Welch" if _is_simple(question) else "HC2",
        "within_donors": int(noun == "samples"),
        "n_donors": int(table[str(block)].nunique()) if noun == "samples" else len(table),
        "units": len(out),
        "confidence": confidence,
        "of": values.attrs.get("of"),
    }
    return out


def _warn_of_missing(y: pd.DataFrame, out: pd.DataFrame, noun: str) -> None:
    """Warn of units without a test because of missing values."""
    missing = y.isna().to_numpy()
    lost = np.flatnonzero(missing.any(0) & out["p_value"].isna().to_numpy())
    if len(lost):
        k = int(lost[0])
        warn(
            f"{len(lost)} of {len(out)} units have too few values for a test, e.g. "
            f"{out.index[k]!r}, which has a value in {int((~missing[:, k]).sum())} of {len(y)} "
            f"{noun} and none in {y.index[int(missing[:, k].argmax())]!r}",
            EstimationWarning,
        )


def _is_simple(question: Question) -> bool:
    """Return whether two groups, or pairs of groups, are compared without covariates."""
    return question.groups is not None and question.design.shape[1] == len(question.labels)


def _compared(y: Array, question: Question, confidence: float) -> dict[str, Any]:
    """Compare one column of values, those that are known."""
    known = np.isfinite(y)
    out: dict[str, Any] = {"n": int(known.sum())}
    part = _of_rows(question, known)
    if part is None:
        return out
    y = y[known]
    sums = _as_sums(y)
    if part.rows is not None:
        found = {k: v[..., 0, 0] for k, v in overall_difference(part, sums).items()}
        out |= _means(found, part)
        out |= {
            name: float(found[name])
            for name in ("largest_difference", "f_statistic", "df_denominator", "p_value")
        }
        return out | _of_pairs(part, y, sums)
    found = {k: v[..., 0, 0] for k, v in tile_difference(part, sums, None).items()}
    out |= _means(found, part)
    difference, se, df = (float(found[k]) for k in ("difference", "se", "df"))
    return out | _tested(difference, se, _welch(part, y, df), confidence)


def _welch(question: Question, y: Array, df: float) -> float:
    """Return Welch's degrees of freedom of a contrast of groups without covariates, else `df`."""
    weights = question.group_weights
    if weights is None or question.groups is None or not _is_simple(question):
        return df
    parts = [y[question.groups == g] for g in range(len(weights))]
    v = np.array([w**2 * p.var(ddof=1) / len(p) for w, p in zip(weights, parts, strict=True)])
    each = np.array([len(p) - 1 for p in parts])
    return float(v.sum() ** 2 / (v**2 / each).sum()) if v.sum() > 0 else df


def _as_sums(y: Array) -> TileSums:
    """Return sums whose first-order contributions L_c are the values, with equal weights."""
    ones = np.ones((1, len(y)))
    each = np.ascontiguousarray(y[:, None, None])
    noise = np.zeros(1)
    return TileSums(each, np.ones_like(each), (ones, ones), (ones, ones), (noise, noise))


def _of_rows(question: Question, known: NDArray[np.bool_]) -> Question | None:
    """Restrict a question to rows of its design; None if they cannot answer it."""
    if known.all():
        return question
    design = question.design[known]
    if len(design) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    groups = None if question.groups is None else question.groups[known]
    if groups is not None and np.bincount(groups, minlength=len(question.labels)).min() < 2:
        return None
    return replace(question, design=design, groups=groups)


def _means(found: dict[str, NDArray], question: Question) -> dict[str, float]:
    if question.groups is None:
        return {}
    means = found["group_correlation"]
    return {f"mean[{name}]": float(v) for name, v in zip(question.labels, means, strict=True)}


def _of_pairs(question: Question, y: Array, sums: TileSums) -> dict[str, float]:
    """Test the difference of each pair of groups, with Holm's adjustment over them."""
    out, p = {}, []
    for name, weights in question.pairs.items():
        one = replace(question, contrast=weights, groups=None, rows=None, pairs={})
        found = {k: float(v[0, 0]) for k, v in tile_difference(one, sums, None).items()}
        out[f"difference[{name}]"] = found["difference"]
        df = _welch(replace(question, contrast=weights), y, found["df"])
        p.append(_tested(found["difference"], found["se"], df, 0.95)["p_value"])
    adjusted = holm_layers(np.array(p)[:, None])[:, 0] if p else np.empty(0)
    return out | {
        f"adjusted_p_value[{n}]": float(v) for n, v in zip(question.pairs, adjusted, strict=True)
    }


def _tested(difference: float, se: float, df: float, confidence: float) -> dict[str, float]:
    """Return the t test and the interval of a difference."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / np.float64(se)
    half = special.stdtrit(df, 0.5 + confidence / 2) * se
    return {
        "difference": difference,
        "difference_se": se,
        "difference_lower": difference - half,
        "difference_upper": difference + half,
        "statistic": float(t),
        "df": df,
        "p_value": float(2 * special.stdtr(df, -np.abs(t))),
    }


def _moderated(
    out: pd.DataFrame, y: pd.DataFrame, found: ConditionDesign, confidence: float
) -> pd.DataFrame:
    """Replace the tests of columns without missing values by moderated t tests."""
    complete = np.flatnonzero(np.isfinite(y.to_numpy(float)).all(0))
    if len(complete) < 3:
        raise InputError(
            f"moderated=True takes information from the variances of other columns of values=, and "
            f"{len(complete)} have a value in every sample: at least 3 are needed; leave it out"
        )
    fit = least_squares(y.to_numpy(float)[:, complete], found.design.matrix)
    squeezed = squeeze_variances(fit.variance, np.full(len(complete), float(fit.df)))
    tested = fit.moderated(squeezed).test(found.contrast[None])
    each = zip(*(tested[k][0] for k in ("beta", "beta_se", "beta_df")), strict=True)
    rows = [_tested(float(b), float(se), float(df), confidence) for b, se, df in each]
    table = pd.DataFrame(rows, index=out.index[complete])
    others = out.index.difference(table.index)
    out = out.copy()
    out.loc[others, list(table.columns)] = np.nan
    out.loc[table.index, list(table.columns)] = table
    return out


def _checked_values(values: object) -> pd.DataFrame:
    if not isinstance(values, pd.DataFrame) or 0 in values.shape:
        raise InputError(
            "values must be a table with one row per sample and one column per module or gene, "
            "e.g. from hiercorr.modules.connectivity()"
        )
    if not all(pd.api.types.is_numeric_dtype(t) for t in values.dtypes):
        raise InputError("values must be numbers, one column per module or gene")
    for name, axis in (("row", values.index), ("column", values.columns)):
        if not axis.is_unique:
            raise InputError(f"values has {name} {axis[axis.duplicated()][0]!r} more than once")
    if np.isinf(values.to_numpy(float)).any():
        raise InputError("values has infinite values: they must be finite, or NaN where unknown")
    return values.set_axis(values.index.astype(str))


def _aligned(values: pd.DataFrame, samples: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return values and columns of the samples that both have."""
    instance_of("samples", samples, pd.DataFrame, "a table with one row per sample")
    assert isinstance(samples, pd.DataFrame)
    table = samples.set_axis(samples.index.astype(str))
    table.columns = table.columns.astype(str)
    shared = values.index[values.index.isin(table.index)]
    if not len(shared):
        raise InputError(
            f"samples has no row of sample {values.index[0]!r}, but e.g. of {table.index[0]!r}: "
            "index it by the names of the samples, "
            "adata.obs.drop_duplicates('sample').set_index('sample')"
            if len(table)
            else "samples has no rows"
        )
    twice = table.index[table.index.isin(shared) & table.index.duplicated()]
    if len(twice):
        raise InputError(
            f"samples has {twice[0]!r} more than once: it needs one row per sample, "
            "adata.obs.drop_duplicates('sample').set_index('sample')"
        )
    if len(shared) < len(values):
        lost = values.index.difference(shared)
        warn(
            f"{len(lost)} of {len(values)} samples have no row in samples= and are left out, e.g. "
            f"{lost[0]!r}",
            DataWarning,
        )
    return values.loc[shared], table.loc[shared]


def _one_value_each(table: pd.DataFrame, block: str, column: str) -> bool:
    """Return whether a column has one value in each donor."""
    for kind, name in (("block column", block), ("condition column", column)):
        if name not in table:
            raise unknown_name(kind, name, table.columns)
    missing = table.index[table[block].isna()]
    if len(missing):
        raise InputError(f"block {block!r} is missing for sample {missing[0]!r}")
    return bool((table.groupby(block, observed=True)[column].nunique(dropna=False) == 1).all())


def _averaged(
    values: pd.DataFrame, table: pd.DataFrame, block: str, asked: Condition
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the values of the samples of each donor."""
    donor = table[block].astype(str).to_numpy(object)
    grouped = table.groupby(donor, sort=False)
    used = asked.columns
    for name in used:
        if name in table and (grouped[name].nunique(dropna=False) > 1).any():
            raise InputError(
                f"covariate {name!r} varies within values of block {block!r}, and the condition "
                f"does not: the values of a donor are averaged, so that {name!r} cannot be "
                "adjusted for; leave it out"
            )
    kept = [c for c in table if (grouped[c].nunique(dropna=False) == 1).all()]
    return values.groupby(donor, sort=False).mean(), grouped[kept].first()


def sample_correlations(result: object) -> NDArray:
    """Return the correlations of all pairs in each sample, (n_samples, n_genes, n_genes)."""
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be a CorrelationResult, not {type(result).__name__}")
    need_all_pairs(result.dataset, "result: connectivity needs")
    if "sample_correlation" not in result.dataset:
        raise InputError("result has no estimates of samples: fit it with per_sample=True")
    return np.asarray(result.dataset["sample_correlation"].values)


def mean_of_pairs(r: NDArray, at: NDArray[np.int64]) -> tuple[Array, int, int]:
    """Return the mean over the pairs of some genes that every sample has; pairs used, and all."""
    left, right = np.triu_indices(len(at), 1)
    pairs = np.asarray(r[:, at[left], at[right]], float)
    complete = np.isfinite(pairs).all(0)
    used = int(complete.sum())
    values = pairs[:, complete].mean(1) if used else np.full(len(r), np.nan)
    return values, used, pairs.shape[1]


def few_pairs(used: int, pairs: int) -> bool:
    """Return whether fewer than half of the pairs of a module are used, or none."""
    return not used or used < pairs / 2


def warn_of_incomplete(
    modules: Mapping[str, NDArray[np.int64]], r: NDArray, samples: pd.Index
) -> None:
    """Warn of modules with few pairs that every sample has, naming the sample with fewest."""
    if not modules:
        return
    known = sum(np.isfinite(r[:, at][:, :, at]).sum((1, 2)) for at in modules.values())
    warn(
        f"fewer than half of the pairs of {', '.join(modules)} could be estimated in every "
        f"sample; fewest in {samples[int(np.argmin(known))]!r}: leave such samples out",
        DataWarning,
    )


def _centralities(r: NDArray, at: NDArray[np.int64]) -> Array:
    """Return the mean correlation of each gene with the others, over pairs that all samples have.

    One sample at a time, so that no further array of all pairs and samples is needed.
    """
    square = np.ix_(at, at)
    complete = ~np.eye(len(at), dtype=bool)
    for layer in r:
        complete &= np.isfinite(layer[square])
    number = complete.sum(1)
    with np.errstate(invalid="ignore"):
        sums = [np.where(complete, layer[square], 0.0).sum(1, dtype=float) for layer in r]
        return np.array(sums) / np.where(number > 0, number, np.nan)


def positions_of(
    modules: Sets, result: CorrelationResult, strict: bool | None = None
) -> dict[str, NDArray[np.int64]]:
    """Return the positions of the genes of each module in a result.

    Parameters
    ----------
    modules : mapping, Modules or path
    result : CorrelationResult
    strict : bool, optional
        Whether an unknown gene is an error. None: unless the modules are of a file.
    """
    try:
        named = named_sets(modules)
    except InputError as error:
        raise InputError(f"modules: {error}") from None
    strict = not isinstance(modules, str | Path) if strict is None else strict
    known, ids = result.genes, ids_of(result.dataset)
    out = {}
    for name, genes in named.items():
        at = known.get_indexer(pd.Index([name_of(g, known, ids) for g in genes], dtype=object))
        if strict and (at < 0).any():
            raise unknown_name("gene of modules", genes[int(np.flatnonzero(at < 0)[0])], known)
        out[name] = np.unique(at[at >= 0]).astype(np.int64)
    if not any(len(at) >= LEAST for at in out.values()):
        first = next(iter(named.values()))[0]
        raise InputError(
            f"modules: none has 2 genes in the result; {unknown_name('gene', first, known)}"
        )
    return out


def _of(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """State in a table what its values are."""
    table.attrs["of"] = what
    return table


def _samples(result: CorrelationResult) -> pd.Index:
    return pd.Index(result.dataset["sample"].values.astype(str), name="sample")
