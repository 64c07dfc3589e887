"""From counts to the arrays of a result: gene moments, then every pair, a tile at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from hiercorr import inference, kernels, moments
from hiercorr.counts.counts import Counts
from hiercorr.design.matrix import DesignMatrix
from hiercorr.errors import EstimationWarning
from hiercorr.results import tiling
from hiercorr.runtime import blas
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag
from hiercorr.within import cell_covariates, pooled_covariates
from hiercorr.within.checkpoint import Checkpoint
from hiercorr.within.options import Plan
from hiercorr.within.per_sample import per_sample_pairs

LOW_INFORMATION = (
    5.0  # typical variance / its standard error; below it coverage and bias were poor in simulation
)
DOMINANT_SHARE = 0.5


class Output(Protocol):
    """Where tiles go: memory (:class:`hiercorr.results.tiling.PairOutput`) or a folder (:class:`hiercorr.results.stream.ZarrOutput`)."""

    missing: int

    def write(self, left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> None: ...


@dataclass
class WithinEstimates:
    """Arrays of a fit on their way into the schema."""

    pair: dict[str, NDArray]
    gene: dict[str, NDArray]
    theta: float
    iterations: int
    converged: bool
    formula: str = "~ 1"
    note: str | None = None
    extra: Any = None


def _gene_table(
    counts: Counts,
    mean: NDArray,
    overdispersion: NDArray,
    share: NDArray,
    expected: NDArray,
    theta: float,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Gene variables and flags. `share`: each sample's part in the information; `expected`: sum of (s mu w)^2.

    Under Poisson counts the variance of the overdispersion estimate is 2 / sum (s mu w)^2. It is
    held against the typical overdispersion 1 / theta, not against the gene's own estimate:
    selecting on an estimate would bias what is kept.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.sqrt(expected / 2) / theta
        share = np.clip(share, 0, None)
        share = share / share.sum(1, keepdims=True)
        effective = 1 / (share**2).sum(1)
    flag = np.zeros(counts.n_genes, np.uint16)
    flag[~(overdispersion > 0)] |= Flag.NONPOSITIVE_VARIANCE.bit
    flag[~(information >= LOW_INFORMATION)] |= Flag.LOW_INFORMATION.bit
    if counts.n_samples > 1:
        flag[share.max(1) > DOMINANT_SHARE] |= Flag.DOMINATED.bit
        flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    table = {
        "mean": mean,
        "overdispersion": overdispersion,
        "detection": counts.detection,
        "information": information,
        "effective_samples": effective,
        "gene_flag": flag,
    }
    return table, flag


@dataclass(frozen=True)
class WithinProblem:
    """All that a tile of pairs needs beside the sums over its cells: small, so that it can be sent to a worker.

    Attributes
    ----------
    sums : DepthSums
    fit : GeneMoments
    gene_flag : ndarray of uint16, shape (n_genes,)
    noise : ndarray, shape (n_genes,)
        See :func:`hiercorr.inference.pairs.variance_shares`.
    test : GeneMoments or None
        Of the published cell-level test.
    n_samples : int
    plan : Plan
    gene : dict
        Gene variables of the result.
    note : str or None
    """

    sums: moments.DepthSums
    fit: moments.GeneMoments
    gene_flag: NDArray[np.uint16]
    noise: NDArray
    test: moments.GeneMoments | None
    n_samples: int
    plan: Plan
    gene: dict[str, NDArray]
    note: str | None = None

    def variance_sums(
        self, left: slice, right: slice
    ) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
        """N and D for the variances of the genes of both sides."""
        num, den = self.fit.num, self.fit.den
        return (num[left], num[right]), (den[left], den[right])

    def fitted(self, pair: dict[str, NDArray]) -> WithinEstimates:
        return WithinEstimates(
            pair, self.gene, self.fit.theta, self.fit.iterations, self.fit.converged, note=self.note
        )


def within_problem(counts: Counts, sums: moments.DepthSums, plan: Plan) -> WithinProblem:
    """Moments within samples; without covariates of cells only names and numbers of the counts are read."""
    fit = moments.within_moments(sums)
    if plan.cells is not None:
        grid = moments.Grid.over(counts.depth, plan.tolerance)
        fit = cell_covariates.regress_out_covariates(counts, sums, grid, fit, plan.cells)
    weight = (
        np.einsum("jck,ck->jc", (1 + fit.slope[:, :, None] * sums.nodes) ** -2.0, sums.power[2])
        * fit.mu**2
    )
    mean = (fit.mu * counts.cells_per_sample).sum(1) / counts.n_cells / sums.unit
    gene, gene_flag = _gene_table(counts, mean, fit.variance, fit.den, weight.sum(1), fit.theta)
    return WithinProblem(
        sums, fit, gene_flag, np.full(counts.n_genes, 2.0), None, counts.n_samples, plan, gene
    )


def pooled_problem(counts: Counts, sums: moments.DepthSums, plan: Plan) -> WithinProblem:
    """Moments over all cells, as published."""
    fit = moments.pooled_moments(sums)
    mu, sigma = fit.mu[:, 0], fit.variance
    overdispersion = sigma / mu**2
    weight = ((1 + fit.slope * sums.nodes) ** -2.0 @ sums.power[2].T) * mu[:, None] ** 2
    gene, gene_flag = _gene_table(
        counts, mu / sums.unit, overdispersion, fit.den, weight.sum(1), fit.theta
    )
    # The published test weighs by each gene's own variance: 1 / (s mu + s^2 sigma).
    own = np.where(sigma > 0, sigma / mu, 0.0)[:, None]
    test = replace(fit, slope=own)
    n_samples = counts.n_samples
    if plan.uncertainty == "none":  # samples play no part: one group is faster
        sums, n_samples = sums.one_group(), 1
        fit = replace(fit, num=fit.num.sum(1, keepdims=True), den=fit.den.sum(1, keepdims=True))
    note = "cell_statistic and cell_p_value take cells as independent; p_value takes samples as the units."
    return WithinProblem(sums, fit, gene_flag, 2 * mu**2, test, n_samples, plan, gene, note)


def problem_of(counts: Counts, sums: moments.DepthSums, plan: Plan) -> WithinProblem:
    return (within_problem if plan.estimator == "within" else pooled_problem)(counts, sums, plan)


Also = Callable[
    ["WithinProblem", slice, slice, NDArray, NDArray, dict[str, NDArray]], NDArray[np.uint16]
]


def fit_here(
    counts: Counts, plan: Plan, output: Output, kept: Checkpoint | None, also: Sequence[Also] = ()
) -> WithinProblem:
    """All pairs in this process, a tile at a time, into `output`.

    Each of `also` may add variables to a tile, given its sums N and D, and returns flags.
    """
    with blas.at_most(1):
        problem = problem_of(counts, moments.depth_sums(counts, plan.tolerance), plan)
    if problem.n_samples == 1:
        counts = counts.one_group()
    whole = (counts.one_group(), problem.sums.one_group()) if problem.test is not None else None
    s, dtype = problem.n_samples, plan.dtype
    parts = [list(tiling.parts(left, right, s, dtype)) for left, right in plan.tiles]
    space = tiling.Workspace(plan.tiles, s, dtype)
    upper, below = (tiling.Workspace(itertools.chain(*parts), s, dtype) for _ in range(2))
    cells = tiling.Workspace(plan.tiles, 1, dtype) if whole is not None else None
    for (left, right), smaller in with_progress(
        list(zip(plan.tiles, parts, strict=True)), plan.progress
    ):
        with blas.at_most(1):
            half = kept is None  # no part of a tile is below its diagonal
            num = moments.numerators(
                counts, problem.sums, problem.fit, left, right, space.array(left, right), kept, half
            )
            tested = None
            if problem.test is not None and whole is not None and cells is not None:
                tested = moments.numerators(
                    *whole,
                    problem.test,
                    left,
                    right,
                    cells.array(left, right),
                    None if kept is None else kept.named("test"),
                    half,
                )[0]
        for rows, columns in smaller:
            at = (
                slice(rows.start - left.start, rows.stop - left.start),
                slice(columns.start - right.start, columns.stop - right.start),
            )
            part, den = upper.array(rows, columns), below.array(rows, columns)
            kernels.squares.copy_window(
                num, rows.start - left.start, columns.start - right.start, part
            )
            if rows == columns:
                for one in part:
                    kernels.squares.mirror(one)
            with blas.at_most(1):
                tile, flag = tile_of(
                    problem, rows, columns, part, den, None if tested is None else tested[at]
                )
            for hook in also:
                flag |= hook(problem, rows, columns, part, den, tile)
            output.write(rows, columns, tile, flag)
    return problem


def each_sample(counts: Counts) -> Also:
    """Adds every pair's estimate in every sample, and their heterogeneity."""

    def add(
        problem: WithinProblem,
        left: slice,
        right: slice,
        num: NDArray,
        den: NDArray,
        tile: dict[str, NDArray],
    ) -> NDArray[np.uint16]:
        found, unknown = per_sample_pairs(
            counts, problem.sums, problem.fit, num, den, left, right, problem.plan.dtype
        )
        tile |= found
        return np.where(unknown, Flag.NO_HETEROGENEITY.bit, np.uint16(0))

    return add


def tile_of(
    problem: WithinProblem,
    left: slice,
    right: slice,
    num: NDArray,
    den: NDArray,
    cells: NDArray | None,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Pair variables and flags of one tile from its sums over cells.

    Parameters
    ----------
    problem : WithinProblem
    left, right : slice
    num : ndarray, shape (n_samples, left, right)
        Each sample's N.
    den : ndarray, shape (n_samples, left, right)
        Memory for each sample's D.
    cells : ndarray, shape (left, right), optional
        The sum of the published test, with `problem.test`.
    """
    plan, s = problem.plan, problem.n_samples
    moments.denominators(problem.sums, problem.fit, left, right, num, den)
    flag = problem.gene_flag[left, None] | problem.gene_flag[None, right]
    if s == 1:
        tile = inference.one_group(num[0], den[0], *problem.variance_sums(left, right))
    else:
        tile, more = _over_samples(problem, left, right, num, den)
        flag |= more
    if cells is not None:
        tile |= _cell_test(problem, left, right, cells)
    if plan.few(s):
        flag |= Flag.TOO_FEW_SAMPLES.bit
    return tile, flag


def _over_samples(
    problem: WithinProblem, left: slice, right: slice, num: NDArray, den: NDArray
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Estimate, test and interval with samples as the units, and flags of pairs that few samples carry."""
    plan, s = problem.plan, problem.n_samples
    estimate = inference.pair_estimate(
        num,
        den,
        *problem.variance_sums(left, right),
        "none" if plan.few(s) else plan.uncertainty,
        (problem.noise[left], problem.noise[right]),
        plan.draws,
    )
    tile: dict[str, NDArray] = {"correlation_unclipped": estimate.correlation}
    flag = (estimate.largest_share > DOMINANT_SHARE) * Flag.DOMINATED.bit
    flag |= (estimate.carrying < s) * Flag.ABSENT_IN_SAMPLE.bit
    if plan.silent(s):
        tile["fisher_z"] = inference.fisher_z(estimate.correlation)
        return tile, flag
    tile |= inference.pair_table(estimate, plan.confidence, plan.dtype)
    few_pairs = estimate.carrying < 3
    flag |= few_pairs * Flag.TOO_FEW_SAMPLES.bit
    flag |= (np.isnan(tile["ci_lower"]) & ~few_pairs) * Flag.NO_INTERVAL.bit
    return tile, flag


def _cell_test(
    problem: WithinProblem, left: slice, right: slice, num: NDArray
) -> dict[str, NDArray]:
    """T = sum f_j f_k r_j r_k / sqrt(mu_j mu_k sum f_j f_k s^2), f = 1 / (1 + s sigma/mu): the published statistic."""
    test = problem.test
    assert test is not None
    mu, slope = test.mu[:, 0], test.slope[:, 0]
    weight = moments.weight_products(problem.sums.one_group(), slope, left, right, 0, num.dtype)
    bad = (problem.gene_flag & Flag.NONPOSITIVE_VARIANCE.bit) > 0
    mu = np.where(bad, np.nan, mu)
    num = np.array(num, order="C")
    if left == right:
        kernels.squares.mirror(num)
    statistic, p = np.empty_like(num), np.empty(num.shape)
    kernels.pairs.cell_test(num, weight, mu[left], mu[right], *_normal_table(), statistic, p)
    return {"cell_statistic": statistic, "cell_p_value": p}


@lru_cache(maxsize=1)
def _normal_table() -> tuple[NDArray[np.float64], float]:
    """log of the two-sided normal p at |T| = 0, step, 2 step, ... to 40, where float64 holds it no more."""
    step = 1 / 256
    return math.log(2) + special.log_ndtr(-np.arange(0, 40 + 4 * step, step)), step


def fit_covariates(
    counts: Counts, plan: Plan, design: DesignMatrix, level: str, adjust: tuple[str, ...]
) -> WithinEstimates:
    group = counts.one_group()
    unit = float(counts.depth.mean())
    fit = pooled_covariates.fit_covariates(group, counts.depth / unit, design.matrix, level, adjust)
    negative = fit.negative_means()
    if (negative > 0).any():
        worst = int(negative.argmax())
        warn(
            "the mean regression is linear in the covariates and not positive in some cells for "
            f"{(negative > 0).sum()} of "
            f"{counts.n_genes} genes ({negative[worst]:.0%} of cells for "
            f"{counts.genes[worst]!r}), as in the published "
            "method; such cells get arbitrary weights: use fewer or coarser covariates if these "
            "genes matter",
            EstimationWarning,
        )
    mu, sigma = fit.mean[0], fit.variance[0]
    shares = np.diff(counts.offsets, axis=1).astype(float)
    s = counts.depth / unit
    expected = np.array([((s * m / (1 + s * m / fit.theta)) ** 2).sum() for m in mu])
    gene, gene_flag = _gene_table(counts, mu / unit, sigma / mu**2, shares, expected, fit.theta)
    output = tiling.PairOutput(counts.n_genes, plan.rows, plan.dtype, without_interval=True)
    k = design.matrix.shape[1]
    tiles = tiling.tiles(counts.n_genes, 2 * k * (k + 3), plan.rows, np.float64)
    for left, right in with_progress(tiles, plan.progress):
        covariance, _ = fit.products(left, right, tested=False)
        _, statistic = fit.products(left, right, tested=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = covariance / np.sqrt(
                np.outer(np.where(sigma > 0, sigma, np.nan)[left], sigma[right])
            )
        flag = gene_flag[left, None] | gene_flag[None, right]
        statistic[np.isnan(rho)] = np.nan
        tile = {
            "correlation_unclipped": rho,
            "fisher_z": inference.fisher_z(rho),
            "cell_statistic": statistic,
            "cell_p_value": 2 * special.ndtr(-np.abs(statistic)),
        }
        output.write(left, right, tile, flag)
    coefficient = {"coefficient": np.array(design.names, object)}

    def per_gene(values: NDArray, power: int, label: str) -> xr.DataArray:
        full = np.full((k, counts.n_genes), np.nan)
        # The intercept scales with depth; at the count level the covariates' own coefficients do
        # not.
        scale = np.full(len(values), unit**power)
        if level == "count":
            scale[1:] = 1
        full[: len(values)] = values / scale[:, None]
        attrs = {
            "long_name": f"coefficients of the {label} regression",
            "units": "per count of depth",
        }
        return xr.DataArray(full, coefficient, ("coefficient", "gene"), attrs=attrs)

    extra = {
        "mean_coefficient": per_gene(fit.mean, 1, "mean"),
        "variance_coefficient": per_gene(fit.variance, 2, "variance"),
    }
    return WithinEstimates(
        output.finish(),
        gene,
        fit.theta,
        fit.iterations,
        fit.converged,
        formula=design.formula,
        note="cell_statistic and cell_p_value take cells as independent.",
        extra=extra,
    )
