"""From validated counts to the inputs of the posterior: cells, population of samples, pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.bayes.cell_effects import centred_within, fit_effects
from hiercorr.bayes.cost import minutes, predicted_seconds
from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.models import Coordinates
from hiercorr.bayes.pair import Pair, make_pair, margin_of, slope_sd
from hiercorr.bayes.setup import CellCovariates, Population, Setup, ZRegression
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.design.formulas import formula_text, random_intercepts
from hiercorr.design.levels import in_order
from hiercorr.design.matrix import DesignMatrix, make_design, sample_design
from hiercorr.design.samples import (
    check_block,
    refuse_swapped,
    sample_table,
    warn_of_repeated_donors,
)
from hiercorr.design.terms import split_terms
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

MAX_CELLS = 20_000


def population_of(
    counts: Counts,
    sample: str,
    formula: str | None,
    block: str | None,
    correlation_formula: str | None = None,
) -> tuple[DesignMatrix, Population]:
    """Build the design matrix over samples and find the blocks of dependent samples.

    Parameters
    ----------
    counts : Counts
    sample : str
        Column with the samples.
    formula : str, optional
        Formula of the samples' means.
    block : str, optional
        Column with the blocks.
    correlation_formula : str, optional
        Formula of the samples' correlations.

    Returns
    -------
    design : DesignMatrix
    population : Population

    Raises
    ------
    InputError
        If there are too few samples or donors for a formula, or the blocks are not usable.
    """
    table, varying = sample_table(counts.obs, counts.starts, counts.samples)
    with nullcontext() if correlation_formula is None else _errors_of("formula"):
        design = sample_design(formula, table, varying, None)
    n, k = design.matrix.shape
    if n < k + 2:
        raise InputError(
            f"formula {design.formula!r} has {k} coefficients and there are {n} samples: "
            f"at least {k + 2} are needed; drop terms"
        )
    if block is None:
        warn_of_repeated_donors(
            {c: table[c] for c in table},
            sample,
            n,
            "intervals are too narrow",
            "block={column}",
        )
        codes = np.arange(n)
    else:
        if block in varying:
            refuse_swapped(block, sample, counts.obs)
        check_block(block, table, varying, counts.obs.columns)
        codes = _block_codes(block, table[block])
    z = _z_regression(correlation_formula, table, varying, codes, block)
    matrix, centre, scale = _scaled(design.matrix)
    names = tuple(design.names)
    return design, Population(
        matrix, codes, design.formula, names, z, tuple(centre.tolist()), tuple(scale.tolist())
    )


def _scaled(matrix: Array) -> tuple[Array, Array, Array]:
    """Centre the columns after the first and divide them by their range; return both, too."""
    rest = matrix[:, 1:]
    centre, scale = rest.mean(0), np.ptp(rest, 0)
    return np.concatenate([matrix[:, :1], (rest - centre) / scale], 1), centre, scale


@contextmanager
def _errors_of(option: str) -> Iterator[None]:
    """Put the name of the option before the message of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{option}: {error}") from error


def _refuse_random_intercepts(option: str, formula: str) -> None:
    random = random_intercepts(formula)[1]
    if random:
        raise InputError(
            f"{option}={formula!r} has the random intercept (1 | {random[0]}): name the donor with "
            f"block={random[0]!r} instead"
        )


def _z_regression(
    formula: str | None,
    table: pd.DataFrame,
    varying: list[str],
    codes: NDArray[np.int64],
    block: str | None,
) -> ZRegression | None:
    """Build the design of the samples' correlations; None without covariates."""
    if formula is None or "".join(formula.split()) in ("~1", "1"):
        return None
    _refuse_random_intercepts("correlation_formula", formula)
    with _errors_of("correlation_formula"):
        design = sample_design(formula, table, varying, None)
    n_units, k = int(codes.max()) + 1, design.matrix.shape[1]
    if n_units < k + 1:
        of = "samples" if block is None else f"values of {block!r}"
        raise InputError(
            f"correlation_formula={formula!r} has {k} coefficients and there are {n_units} {of}: "
            f"at least {k + 1} are needed; drop terms"
        )
    factors = [c for c in design.table if _is_factor(c, design)]
    names: list[str] = []
    rows = [np.zeros((0, k))]
    for column in factors:
        levels = in_order(design.table[column])
        names += [f"{column}={v}" if len(factors) > 1 else str(v) for v in levels]
        rows.append(design.level_rows(column, levels))
    matrix, centre, scale = _scaled(design.matrix)
    return ZRegression(
        design.formula,
        tuple(design.names[1:]),
        matrix[:, 1:],
        centre,
        scale,
        tuple(names),
        (np.concatenate(rows)[:, 1:] - centre) / scale,
    )


def _is_factor(column: str, design: DesignMatrix) -> bool:
    """Return whether a column of the formula has levels instead of numbers."""
    dtype = design.table[column].dtype
    stated = f"C({column}" in design.formula or f"C(`{column}`" in design.formula
    return stated or not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)


def _block_codes(block: str, values: pd.Series) -> NDArray[np.int64]:
    codes = np.asarray(pd.factorize(values)[0], np.int64)
    n_blocks = codes.max() + 1
    if codes.min() < 0 or n_blocks < 3:
        raise InputError(
            f"block {block!r} has {n_blocks} values (and {(codes < 0).sum()} samples without one): "
            "at least 3 donors are needed, and every sample must have one"
        )
    if n_blocks == len(codes):
        raise InputError(
            f"block={block!r} has no effect: it has a different value in each sample; leave it out"
        )
    return codes


def cells_of(counts: Counts, setup: Setup, genes: Sequence[int] | None = None) -> Cells:
    """Return dense counts of a few genes, log sequencing depths and effects of covariates.

    Effects of genes that are not among `genes` are NaN. None: all are fitted.
    """
    x, log_s = counts.toarray().astype(np.int64), np.log(counts.depth / counts.depth.mean())
    of = setup.covariates
    if of is None:
        return Cells(x, log_s, counts.starts)
    wide = slope_sd(of.design, setup.priors.coefficient[1])
    effect = np.full(x.shape, np.nan)
    which = list(range(counts.n_genes) if genes is None else genes)
    slopes = fit_effects(x[:, which], log_s, counts.starts, of.design, wide)
    effect[:, which] = of.design @ slopes
    return Cells(x, log_s, counts.starts, effect)


def cell_covariates(counts: Counts, formula: str | Sequence[str] | None) -> CellCovariates | None:
    """Build the design of the covariates of cells, centred in each sample.

    Parameters
    ----------
    counts : Counts
    formula : str or sequence of str, optional
        Formula, or columns of obs.

    Raises
    ------
    InputError
        If a term has one value in each sample, or the formula cannot be used.
    """
    if formula is None:
        return None
    with _errors_of("covariates"):
        formula = formula_text(formula)
    _refuse_random_intercepts("covariates", formula)
    with _errors_of("covariates"):
        design = make_design(formula, counts.obs)
    constant, _ = sample_table(counts.obs, counts.starts, counts.samples)
    known = [str(c) for c in counts.obs.columns]
    terms, of_samples = split_terms(formula, constant.columns, known)
    if of_samples:
        raise InputError(
            f"covariates={formula!r}: {', '.join(of_samples)} has one value in each sample, so "
            f"that it is no covariate of cells; use formula='~ {' + '.join(of_samples)}'"
        )
    if not terms:
        raise InputError(f"covariates={formula!r} has no terms: leave it out")
    values = centred_within(design.matrix[:, 1:], counts.starts)
    return CellCovariates(design.formula, values)


def cell_names(counts: Counts) -> NDArray[np.object_]:
    """Return the names of the cells."""
    return np.asarray(counts.obs.index.astype(str), object)


def coordinates_of(counts: Counts, population: Population) -> Coordinates:
    """Return the names along the dimensions of a model in PyMC."""
    return Coordinates(
        list(counts.genes), list(counts.samples), population.coefficients, list(cell_names(counts))
    )


def gene_position(counts: Counts, gene: str) -> int:
    """Return the column of a gene; raise an error if it is unknown."""
    gene = counts.named(gene)
    if not isinstance(gene, str) or gene not in counts.genes:
        raise unknown_name("gene", gene, counts.genes)
    return int(counts.genes.get_loc(gene))


def named_pair(counts: Counts, setup: Setup, gene_a: str, gene_b: str) -> Pair:
    """Build the posterior of the pair of two named genes."""
    a, b = gene_position(counts, gene_a), gene_position(counts, gene_b)
    if a == b:
        raise InputError(f"gene_a and gene_b are both {gene_a!r}: name two genes")
    cells = cells_of(counts, setup, (a, b))
    margin_a, margin_b = (margin_of(cells, j, setup) for j in (a, b))
    return make_pair(cells, (a, b), (margin_a, margin_b), setup)


def chosen_cells(
    counts: Counts, many_cells: str, seed: int | np.random.Generator | None
) -> NDArray[np.bool_] | None:
    """Choose the cells to use if there are too many.

    Parameters
    ----------
    counts : Counts
    many_cells : {"refuse", "subsample", "all"}
    seed : int or Generator, optional

    Returns
    -------
    ndarray of bool, shape (n_cells,), or None
        None: all cells.

    Raises
    ------
    InputError
        If there are too many cells and ``many_cells="refuse"``.
    """
    n = counts.n_cells
    if n <= MAX_CELLS or many_cells == "all":
        return None
    if many_cells == "refuse":
        raise InputError(
            f"{n:,} cells: with more than {MAX_CELLS:,}, a gene pair can take about "
            f"{minutes(predicted_seconds(n, 1, 1400))}; use many_cells='subsample' (the same "
            "proportion of each sample) or many_cells='all'"
        )
    rng = np.random.default_rng(seed)
    keep = np.zeros(n, bool)
    for a, b in itertools.pairwise(counts.starts):
        size = max(min(MIN_CELLS, b - a), int((b - a) * MAX_CELLS / n))
        keep[a + rng.choice(b - a, size, replace=False)] = True
    warn(f"{int(keep.sum()):,} of {n:,} cells are used (many_cells='subsample')", DataWarning)
    return keep
