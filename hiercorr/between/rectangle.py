"""Estimates of a rectangle of pairs between samples: each gene of one list with each of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr.between import methods, noise_correction, pair_tests, residuals
from hiercorr.between.options import REGRESSIONS, BetweenOptions
from hiercorr.between.pair_tests import BetweenEstimates, PairOptions, VariancePrior
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError
from hiercorr.inference.derived import in_double
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results import tiling
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import gib
from hiercorr.schema import Flag

Array = NDArray[np.float64]
_LAYERS = 32  # arrays of one tile that exist at the same time
_KEPT = 14  # pair variables in the result


@dataclass(frozen=True)
class CellsOfType:
    """Cells of one type, for the noise of its sums.

    Attributes
    ----------
    counts : Counts
    at : ndarray of int64
        Row of the problem for each sample of `counts`, or -1.
    libraries : ndarray, shape (n_samples,)
        Effective library sizes of the sums of this type.
    """

    counts: Counts
    at: NDArray[np.int64]
    libraries: Array


def check_rectangle(n_left: int, n_right: int, dtype: object, limit: int | None) -> None:
    """Raise an error if the estimates of all pairs would not fit in memory."""
    need = n_left * n_right * (_KEPT * np.dtype(dtype).itemsize + 10)  # type: ignore[call-overload]
    if limit is not None and need > limit:
        raise InputError(
            f"the result for {n_left:,} x {n_right:,} genes would take {gib(need)} of memory and "
            f"only {gib(limit)} may be used; choose fewer genes (genes_a=, genes_b=)"
        )


def estimate_rectangle(
    problem: methods.BetweenProblem,
    n_left: int,
    asked: BetweenOptions,
    options: PairOptions,
    cells: tuple[CellsOfType, CellsOfType] | None = None,
    listed: NDArray[np.bool_] | None = None,
) -> BetweenEstimates:
    """Estimate the pairs of the first `n_left` genes of a problem with the others.

    Parameters
    ----------
    problem : BetweenProblem
    n_left : int
    asked : BetweenOptions
    options : PairOptions
    cells : pair of CellsOfType, optional
        For ``"corrected"``: the cells of the first genes, and those of the others.
    listed : ndarray of bool, shape (n_left, n_genes - n_left), optional
        Pairs that were asked for.

    Returns
    -------
    BetweenEstimates
        Pair variables of shape (n_left, n_genes - n_left), or those of the listed pairs, one
        after the other; with q-values over these pairs.
    """
    if cells is not None:
        found = _without_noise(problem, n_left, options, cells, asked.seed)
    elif asked.method in REGRESSIONS:
        found = _regressions(problem, n_left, asked.method, options)
    else:
        ranks = asked.method == "spearman"
        fitted, covariates = methods.sample_residuals(problem, ranks, options)
        found = BetweenEstimates(
            _tile_by_tile(
                lambda a, b: pair_tests.correlation_tile(fitted, a, b, options, ranks, covariates),
                n_left,
                problem.expression.shape[1],
                options,
                ranks,
            )
        )
    pair = found.pair
    if {"statistic", "df"} <= pair.keys() and options.orders is None:
        pair["p_value"] = in_double(pair["p_value"], pair["statistic"], pair["df"])
    if listed is not None:
        found.pair = pair = {name: values[listed] for name, values in pair.items()}
    q = benjamini_hochberg(pair["p_value"].ravel()).reshape(pair["p_value"].shape)
    few = q.size < tiling.COMPUTED_FROM
    pair["q_value"] = q if few else q.astype(options.dtype)
    return found


def _tile_by_tile(
    tile_of: Callable[[slice, slice], pair_tests.Tile],
    n_left: int,
    n_genes: int,
    options: PairOptions,
    closed: bool = False,
) -> dict[str, NDArray]:
    """Fill the pair variables tile by tile."""
    shape = (n_left, n_genes - n_left)
    out: dict[str, NDArray] = {"flag": np.zeros(shape, np.uint16)}
    work = list(tiling.parts(slice(0, n_left), slice(n_left, n_genes), 2 * _LAYERS, np.float64))
    for left, right in with_progress(work, options.progress):
        tile, bits = tile_of(left, right)
        out_bits = tiling.settle(left, right, tile, bits, closed)
        place = (left, slice(right.start - n_left, right.stop - n_left))
        for name, values in tile.items():
            if name not in out:
                dtype = np.float64 if name == "p_value" else options.dtype
                out[name] = np.empty(shape, dtype)
            out[name][place] = values
        out["flag"][place] = out_bits
    return out


def _regressions(
    problem: methods.BetweenProblem, n_left: int, method: str, options: PairOptions
) -> BetweenEstimates:
    """Regress every other gene on each of the first genes and the formula."""
    n_genes = problem.expression.shape[1]
    others = np.arange(n_left, n_genes)
    constant = residuals.residuals(problem.expression, problem.design.matrix).constant
    rows: list[dict[str, NDArray]] = []
    priors: list[VariancePrior] = []
    for k in with_progress(range(n_left), options.progress):
        if constant[k]:
            rows.append({})
            continue
        with_target = np.append(k, others)
        part = replace(
            problem,
            genes=problem.genes[with_target],
            counts=problem.counts[:, with_target],
            expression=problem.expression[:, with_target],
        )
        of_part = replace(options, rows=slice(0, 1), gene_flag=options.gene_flag[with_target])
        fitted = methods.regress_on_target(part, method, 0, of_part)
        rows.append({name: v[0, 1:] for name, v in fitted.pair.items()})
        priors += [fitted.prior] if fitted.prior is not None else []
    estimated = next((row for row in rows if row), None)
    if estimated is None:
        raise InputError(
            f"none of the genes of genes_a= varies between samples given {problem.design.formula!r}"
        )
    pair = {}
    for name, values in estimated.items():
        if name != "flag":
            nothing = np.full(len(others), np.nan, values.dtype)
            pair[name] = np.array([row.get(name, nothing) for row in rows])
    lost = options.gene_flag | Flag.NONPOSITIVE_VARIANCE.bit
    pair["flag"] = np.array(
        [row.get("flag", lost[others] | lost[k]) for k, row in enumerate(rows)], np.uint16
    )
    prior = None
    if priors:
        prior = VariancePrior(
            priors[0].kind,
            float(np.median([p.df for p in priors])),
            float(np.median([p.variance for p in priors])),
        )
    return BetweenEstimates(pair, prior=prior)


def _without_noise(
    problem: methods.BetweenProblem,
    n_left: int,
    options: PairOptions,
    cells: tuple[CellsOfType, CellsOfType],
    seed: int | np.random.Generator | None,
) -> BetweenEstimates:
    r"""Correct the correlations for the sampling noise of the sums of both sides.

    The cells of the two sides are different cells of a sample, so that the noise of their sums is
    independent: of :mod:`hiercorr.between.noise_correction` only the reliabilities remain,
    :math:`\rho = r / \sqrt{R_j R_k}`.
    """
    sides = (slice(0, n_left), slice(n_left, problem.counts.shape[1]))
    y = np.empty_like(problem.counts, dtype=float)
    for side, of in zip(sides, cells, strict=True):
        y[:, side] = np.log((problem.counts[:, side] + 0.5) / of.libraries[:, None])
    fitted = residuals.residuals(y, problem.design.matrix)
    leverage = (fitted.basis**2).sum(1)
    own = []
    for of in cells:
        weight = np.zeros(of.counts.n_samples)
        used = of.at >= 0
        weight[used] = ((1 - leverage) / fitted.df)[of.at[used]]
        tolerance = 1e-8 if options.dtype == np.float32 else 1e-13
        own.append(noise_correction.measure_noise(of.counts, weight, tolerance).own)
    found = pair_tests.without_own_noise(fitted, np.concatenate(own), options, seed)
    pair = _tile_by_tile(
        lambda a, b: found.tile(a, b, np.zeros((a.stop - a.start, b.stop - b.start))),
        n_left,
        y.shape[1],
        options,
    )
    for name in ("se", "fisher_z_se"):
        pair[name] = np.broadcast_to(np.array(np.nan, options.dtype), pair["flag"].shape)
    return BetweenEstimates(pair, gene={"reliability": found.reliability})
