"""Differences of the correlation of modules with each other between groups of samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.gene_groups import Sets, named_sets
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.errors import DataWarning, InputError, between_0_and_1
from hiercorr.results import CorrelationResult, tiling
from hiercorr.runtime import blas
from hiercorr.runtime.log import logged
from hiercorr.runtime.resources import threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset
from hiercorr.within import differential_tests, fitting
from hiercorr.within.condition import condition_asked, condition_design
from hiercorr.within.differential import (
    PairTest,
    attributes_of,
    note_of,
    question_of,
    warn_of_missing,
)
from hiercorr.within.module_pairs import (
    NOTHING_LEFT,
    Module,
    Overlaps,
    Weights,
    apart,
    check_modules,
    cross_sums,
    module_units,
    module_variables,
)
from hiercorr.within.options import Plan


def differential_correlation(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    condition: str,
    sets: Sets,
    formula: str | None = None,
    block: str | None = None,
    *,
    weights: Weights = "equal",
    contrast: str | Sequence[str] | None = None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | Mapping[str, Any] | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    confidence: float = 0.95,
    n_jobs: int | None = None,
) -> CorrelationResult:
    r"""Test differences of the correlation of modules with each other between groups of samples.

    The modules are those of :meth:`hiercorr.CSCore.module_correlation`, the test is that of
    :func:`hiercorr.differential` with ``uncertainty="HC2"``: to first order, a sample contributes
    :math:`L_c = \rho_{AB} + x_c / b_c`, with the influence x_c and the share b_c of the sample on
    the noise-corrected correlation of the weighted sums; L is regressed on the design, samples
    weighted by b_c. Two groups of equal samples are compared by Welch's test, pairs of samples in
    blocks by the paired t test. A heterogeneity learnt from pairs of genes is not used, because
    what the genes of a module share does not average out in their sum.

    Parameters
    ----------
    data, sample, condition, formula, block, contrast
        As for :func:`hiercorr.differential`: several groups, trends, curves and covariates
        likewise.
    sets, weights
        As for :meth:`hiercorr.CSCore.module_correlation`; at least 2 modules. Weights from these
        data are those of all samples together, whatever their group.
    genes, layer, depth, subset, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`; the genes of the modules are always read.
    confidence : float
        Confidence level of the intervals.
    n_jobs : int, optional
        Number of threads, as for :meth:`hiercorr.CSCore.fit`.

    Returns
    -------
    CorrelationResult
        All pairs of modules, with the variables of :func:`hiercorr.differential`.

    Raises
    ------
    InputError
        If the modules or the condition are not valid; see both functions.

    Warns
    -----
    DataWarning
        If modules share genes, which are left out of both modules of the pair.

    References
    ----------
    Bell & McCaffrey 2002, Survey Methodology 28:169.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> sets = {"ferritin": ["FTL", "FTH1"], "ribosome": ["RPS2", "RPLP0", "RPS18"]}
    >>> options = {"depth": "total_counts", "genes": 60, "block": "patient_id"}
    >>> r = hc.modules.differential_correlation(adata, "sample_id", "condition", sets, **options)
    >>> r.pairs()[["gene_a", "gene_b"]].to_numpy().tolist()
    [['ferritin', 'ribosome']]
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
        gene_names=gene_names,
    )
    always: list[str] = []
    if not isinstance(sets, str | Path):  # genes of a file that are not in the data are left out
        always = list(dict.fromkeys(itertools.chain(*named_sets(sets).values())))
    try:
        reader = CountReader(data, selection, always=always)
    except InputError as error:
        raise InputError(str(error).replace("target gene", "gene of the modules")) from None
    counts = reader.counts
    named, given = check_modules(sets, weights, reader.names)
    if len(named) < 2:
        raise InputError(
            f"there is one module, {next(iter(named))!r}, and none to correlate it with: name "
            "another; connectivity within modules is compared by differential_connectivity()"
        )
    found = condition_design(counts, asked)
    test = PairTest(question_of(found, asked.column), None, None, confidence)
    plan = Plan("within", "none", "double", confidence, None, None, False, [], found.cells)
    modules = [counts.genes.get_indexer(of).astype(np.int64) for of in named.values()]
    work = "differential_correlation(%r): %d modules, %d cells of %d samples"
    with (
        threads(n_jobs),
        blas.at_most(1),
        logged(work, asked.column, len(named), counts.n_cells, counts.n_samples),
    ):
        problem = fitting.prepare(counts, plan)
        units = module_units(counts, problem, modules, given)
        pair, overlaps = _pairs(counts, problem, units, test)
    overlap = overlaps.note()
    if overlap is not None:
        warn(overlap, DataWarning)
    question = test.question
    tested = "p_value" if question.rows is not None else "difference_unclipped"
    other = (pair["flag"] & int(Flag.SELF)) == 0
    if tested in pair:
        tiling.add_q_values(pair, None)
        warn_of_missing(pair[tested][other], question)
    return CorrelationResult(
        build_dataset(
            genes=pd.Index(list(named), dtype=object),
            samples=counts.samples,
            pair=pair,
            gene=module_variables(units),
            sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
            groups=question.labels if question.groups is not None else None,
            contrasts=list(question.pairs) or None,
            attrs={
                **attributes_of(asked, found, test, "regression"),
                "title": "difference of correlation of modules within samples",
                "n_modules": len(named),
                "weights": weights if isinstance(weights, str) else "given",
                "confidence": confidence,
                "precision": "double",
                "n_cells": counts.n_cells,
                "sample_column": asked.sample,
                "theta": problem.fit.theta,
                "note": note_of(question),
                **counts.attributes,
            },
        )
    )


def _pairs(
    counts: Counts, problem: fitting.WithinProblem, units: Sequence[Module], test: PairTest
) -> tuple[dict[str, NDArray], Overlaps]:
    """Return the variables of all pairs, and which pairs share genes."""
    n, overlaps = len(units), Overlaps()
    double = ("p_value", "contrast_p_value", "contrast_adjusted_p_value")
    flag = np.zeros((n, n), np.uint16)
    flag[np.arange(n), np.arange(n)] = [unit.flag for unit in units]
    arrays: dict[str, NDArray] = {}
    for i, j in itertools.combinations(range(n), 2):
        found = apart(counts, problem, units[i], units[j])
        if found is None:
            overlaps.emptied += 1
            flag[i, j] = flag[j, i] = NOTHING_LEFT
            continue
        a, b, shared = found
        overlaps.reduced += shared
        sums = _sums(counts, problem, a, b)
        tile = {"correlation_unclipped": _correlation(sums)}
        flag[i, j] = flag[j, i] = (test.of_sums(sums, np.float64, tile) | a.flag | b.flag).item()
        for name, values in tile.items():
            array = arrays.setdefault(name, np.full((*values.shape[:-2], n, n), np.nan))
            array[..., i, j] = array[..., j, i] = values[..., 0, 0]
    output = tiling.PairOutput(n, None, np.float64, double=double)
    arrays.setdefault("correlation_unclipped", np.full((n, n), np.nan))
    output.write(slice(0, n), slice(0, n), arrays, flag)
    return output.finish(), overlaps


def _sums(
    counts: Counts, problem: fitting.WithinProblem, a: Module, b: Module
) -> differential_tests.TileSums:
    """Return the sums of the samples on the correlation of two modules, one pair."""
    cross, _ = cross_sums(counts, problem, a, b)
    num, den = (part[:, None, None] for part in cross.sums())
    sides = [unit.total.sums() for unit in (a, b)]
    (num_a, den_a), (num_b, den_b) = sides
    noise = tuple(np.atleast_1d(unit.total.noise) for unit in (a, b))
    return differential_tests.TileSums(
        np.ascontiguousarray(num),
        np.ascontiguousarray(den),
        (num_a[None], num_b[None]),
        (den_a[None], den_b[None]),
        (noise[0], noise[1]),
    )


def _correlation(sums: differential_tests.TileSums) -> NDArray[np.float64]:
    """Return the correlation over all samples, (1, 1); NaN without variance beyond noise."""
    parts = zip(sums.gene_num, sums.gene_den, strict=True)
    variance = np.prod([num.sum() / den.sum() for num, den in parts])
    positive = all(num.sum() > 0 for num in sums.gene_num)
    value = sums.num.sum() / sums.den.sum() / np.sqrt(variance) if positive else np.nan
    return np.full((1, 1), value)
