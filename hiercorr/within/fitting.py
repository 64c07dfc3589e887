"""Estimation within samples: moments of genes, then all pairs, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
from hiercorr.results.checkpoint import Checkpoint, Named
from hiercorr.results.missing import Missing
from hiercorr.runtime import blas
from hiercorr.runtime.log import LOG
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import FEATURE_TYPE, Flag
from hiercorr.within import cell_covariates, pooled_covariates
from hiercorr.within.depth_bias import DepthBias, depth_bias, typical_composition
from hiercorr.within.gene_heterogeneity import with_gene_factors
from hiercorr.within.heterogeneity import (
    LEAST_GENES,
    DonorModel,
    by_donor,
    donor_model,
    learnt,
    learnt_within_donors,
    panel_genes,
    without_tau,
)
from hiercorr.within.options import Plan

# Typical variance / its standard error; below it, coverage and bias were poor in simulations.
LOW_INFORMATION = 5.0
DOMINANT_SHARE = 0.5


class Output(Protocol):
    """Destination of the tiles.

    In memory (:class:`hiercorr.results.tiling.PairOutput`) or on disk
    (:class:`hiercorr.results.stream.ZarrOutput`).
    """

    missing: Missing
    complete: bool  # whether it takes the variables that follow from others

    def write(self, left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> None:
        """Write the values and flags of one tile."""


@dataclass
class WithinEstimates:
    """Arrays of a fit, before they are stored in a dataset.

    `pair` lacks the variables that `follow` from others, if that is given. `plan` differs from the
    one that was made if there were too few pairs to learn the prior from.
    """

    pair: dict[str, NDArray]
    gene: dict[str, NDArray]
    theta: float
    iterations: int
    converged: bool
    formula: str = "~ 1"
    note: str | None = None
    extra: Any = None
    plan: Plan | None = None
    donors: DonorModel | None = None
    follow: inference.Derivation | None = None
    composition: float | None = None


def _gene_table(
    counts: Counts,
    mean: NDArray,
    overdispersion: NDArray,
    share: NDArray,
    expected: NDArray,
    theta: float | NDArray,
    units: NDArray[np.int64] | None = None,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Return the gene variables and flags.

    Under Poisson counts, the variance of the overdispersion estimate is 2 / sum (s mu w)^2. It is
    compared with the typical overdispersion 1 / theta, not with the estimate of the gene:
    selection on an estimate would bias the estimates of the selected genes.

    Parameters
    ----------
    counts : Counts
    mean, overdispersion : ndarray, shape (n_genes,)
    share : ndarray, shape (n_genes, n_samples)
        Contribution of each sample to the information.
    expected : ndarray, shape (n_genes,)
        Sum of (s mu w)^2.
    theta : float or ndarray, shape (n_genes,)
    units : ndarray of int, shape (n_samples,), optional
        Donor of each sample.
    """
    if units is not None:
        share = by_donor(share.T, units).T
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.sqrt(expected / 2) / theta
        share = np.clip(share, 0, None)
        share = share / share.sum(1, keepdims=True)
        effective = 1 / (share**2).sum(1)
    flag = np.zeros(counts.n_genes, np.uint16)
    flag[~(overdispersion > 0)] |= Flag.NONPOSITIVE_VARIANCE.bit
    flag[~(information >= LOW_INFORMATION)] |= Flag.LOW_INFORMATION.bit
    if share.shape[1] > 1:
        flag[share.max(1) > DOMINANT_SHARE] |= Flag.DOMINATED.bit
        flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    table = {
        "mean": mean,
        "overdispersion": overdispersion,
        "detection": counts.detection,
        "information": information,
        "effective_samples": effective,
        "gene_flag": flag,
        **counts.gene_ids,
    }
    if counts.modalities is not None:
        table[FEATURE_TYPE] = counts.modalities.feature_type
    return table, flag


def _depth_table(
    dependence: moments.DepthDependence, variance: NDArray, gene: dict[str, NDArray]
) -> dict[str, NDArray]:
    """Return how genes depend on depth, and their flags with that of genes that do."""
    follows = dependence.follows(variance)
    return {
        "depth_slope": dependence.slope,
        "depth_slope_p_value": dependence.p_value,
        "depth_share": dependence.share(variance),
        "gene_flag": gene["gene_flag"] | (follows * Flag.DEPTH_DEPENDENT.bit).astype(np.uint16),
    }


def _variance_table(
    fit: moments.GeneMoments, noise: NDArray, plan: Plan, gene_flag: NDArray[np.uint16]
) -> dict[str, NDArray]:
    """Return the uncertainty over donors of the overdispersion, and the flags of the genes."""
    if plan.uncertainty == "none":
        return {}
    units = np.arange(fit.num.shape[1]) if plan.units is None else plan.units
    num, den = (by_donor(part.T, units).T for part in (fit.num, fit.den))
    found = inference.variance_interval(num, den, noise, plan.confidence)
    without = np.isnan(found["se"])
    few = without & ((den > 0).sum(1) < 3)
    flag = few * Flag.TOO_FEW_SAMPLES.bit | (without & ~few) * Flag.NO_INTERVAL.bit
    table = {f"overdispersion_{name}": values for name, values in found.items()}
    return {**table, "gene_flag": (gene_flag | flag).astype(np.uint16)}


def _theta(fit: moments.GeneMoments) -> float | NDArray:
    """Return theta, of each feature if there are several types."""
    return fit.theta if fit.thetas is None else fit.thetas


@dataclass(frozen=True)
class WithinProblem:
    """Estimates that all tiles share; small, so that it can be sent to workers.

    Attributes
    ----------
    sums : DepthSums or ModalitySums
    fit : GeneMoments
    gene_flag : ndarray of uint16, shape (n_genes,)
    noise : ndarray, shape (n_genes,)
        See :func:`hiercorr.inference.pairs.variance_shares`.
    test : GeneMoments or None
        Moments of the published cell-level test.
    n_samples : int
    plan : Plan
    gene : dict
        Gene variables of the result.
    note : str or None
    donors : DonorModel or None
        The hierarchical model, with its prior once that is learnt.
    multiplier : ndarray, shape (n_donors,), optional
        Factors that give every donor the same weight.
    bias : DepthBias, optional
        What depth alone makes of the correlations.
    """

    sums: moments.Sums
    fit: moments.GeneMoments
    gene_flag: NDArray[np.uint16]
    noise: NDArray
    test: moments.GeneMoments | None
    n_samples: int
    plan: Plan
    gene: dict[str, NDArray]
    note: str | None = None
    donors: DonorModel | None = None
    multiplier: NDArray[np.float64] | None = None
    bias: DepthBias | None = None

    @property
    def depth_sums(self) -> moments.DepthSums:
        """The sums, of features with one depth."""
        assert isinstance(self.sums, moments.DepthSums)
        return self.sums

    @cached_property
    def sums_over_samples(self) -> moments.Sums:
        """The sums over all samples, as one group."""
        return self.sums.one_group()

    def variance_sums(
        self, left: slice, right: slice
    ) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
        """Return N and D by donor of the variances of the genes of both sides."""
        num, den = (self.by_donor(part.T).T for part in (self.fit.num, self.fit.den))
        return (num[left], num[right]), (den[left], den[right])

    def by_donor(self, sums: NDArray) -> NDArray:
        """Add the sums of the samples of each donor, times the donor's weight.

        The first dimension of the array is the samples'.
        """
        if self.plan.units is not None:
            sums = by_donor(sums, self.plan.units)
        if self.multiplier is None:
            return sums
        shape = (-1, *(1,) * (sums.ndim - 1))
        return sums * self.multiplier.astype(sums.dtype).reshape(shape)

    def fitted(self, pair: dict[str, NDArray]) -> WithinEstimates:
        """Combine pair variables with the gene variables."""
        return WithinEstimates(
            pair,
            self.gene,
            self.fit.theta,
            self.fit.iterations,
            self.fit.converged,
            note=self.note,
            plan=self.plan,
            donors=self.donors,
            follow=self.follow,
            composition=None if self.bias is None else typical_composition(self.bias),
        )

    @property
    def follow(self) -> inference.Derivation:
        """How tests and intervals follow from the variables of :func:`tile_of`."""
        plan, cells = self.plan, self.test is not None
        if self.n_samples == 1 or plan.silent(self.n_samples):
            return inference.Derivation(cells=cells)
        learnt = self.donors is not None and self.donors.prior is not None
        test, df = "normal" if learnt else "t", float(plan.n_donors(self.n_samples) - 1)
        return inference.Derivation(test, plan.confidence, df, cells)


def within_problem(counts: Counts, sums: moments.Sums, plan: Plan) -> WithinProblem:
    """Estimate the moments of genes within samples."""
    fit = bare = moments.within_moments(sums)
    if plan.cells is not None:
        fit = cell_covariates.regress_out_covariates(counts, sums, plan.tolerance, fit, plan.cells)
    weight = sums.over_cells((1 + fit.slope[:, :, None] * sums.nodes) ** -2.0, 2) * fit.mu**2
    mean = (fit.mu * counts.cells_per_sample).sum(1) / counts.n_cells / sums.unit
    gene, gene_flag = _gene_table(
        counts, mean, fit.variance, fit.den, weight.sum(1), _theta(fit), plan.units
    )
    noise = np.full(counts.n_genes, 2.0)
    dependence = moments.depth_dependence(sums, bare, plan.units)
    bias = depth_bias(counts, dependence, bare.variance, plan.depth_adjusted)
    gene |= _depth_table(dependence, bare.variance, gene)
    gene |= _variance_table(fit, noise, plan, gene["gene_flag"])
    problem = WithinProblem(
        sums, fit, gene_flag, noise, None, counts.n_samples, plan, gene, bias=bias
    )
    if plan.uncertainty == "hierarchical":
        units = np.arange(counts.n_samples) if plan.units is None else plan.units
        return replace(problem, donors=donor_model(sums, fit, counts.cells_per_sample, units))
    return _weighted(problem)


def _weighted(problem: WithinProblem) -> WithinProblem:
    """Multiply donors' sums so that each has the same typical information, for equal weights."""
    if problem.plan.weights != "equal" or problem.n_samples == 1:
        return problem
    den = problem.by_donor(problem.fit.den.T)
    typical = np.array([np.median(row[row > 0]) if (row > 0).any() else np.nan for row in den])
    factor = np.where(np.isfinite(typical), np.nanmean(typical) / typical, 0.0)
    return replace(problem, multiplier=factor)


# (positions of genes, k): N of each sample for the pairs of the first k genes with the others, or
# for all pairs if k is 0, which is (n_samples, n, n).
Numerators = Callable[[NDArray[np.int64], int], NDArray]


def learn(problem: WithinProblem, numerators: Numerators) -> WithinProblem:
    """Learn from a panel of genes how donors differ, for the hierarchical model.

    Parameters
    ----------
    problem : WithinProblem
    numerators : callable
        Returns N of each sample, see :data:`Numerators`.

    Returns
    -------
    WithinProblem
        With the prior; with the jackknife as uncertainty if there are too few pairs.

    Warns
    -----
    EstimationWarning
        If the jackknife is used although the hierarchical model was asked for.
    """
    if problem.donors is None:
        return problem
    plan = problem.plan
    genes = panel_genes(problem.fit, problem.gene["information"])
    if len(genes) >= LEAST_GENES and not plan.few(problem.n_samples):
        num = numerators(genes, 0)
        den = moments.denominators(
            problem.sums.take(genes),
            problem.fit.take(genes),
            slice(0, len(genes)),
            slice(0, len(genes)),
            num,
            np.empty_like(num),
        )
        panel = problem.donors, problem.sums, num, den, genes
        prior = learnt(*panel)
        if prior is not None:
            within = learnt_within_donors(*panel)
            donors = replace(problem.donors, prior=prior, within_donors=within)
            donors = with_gene_factors(
                donors,
                problem.sums,
                problem.fit,
                problem.gene["information"],
                genes,
                numerators,
            )
            LOG.info("heterogeneity between donors learnt from the pairs of %d genes", len(genes))
            return replace(problem, donors=donors)
    if plan.asked:
        warn(
            f"{len(genes)} genes with variance beyond counting noise give too few pairs to learn "
            f"how donors differ (at least {LEAST_GENES} genes are needed): uncertainty='jackknife' "
            "is used",
            EstimationWarning,
        )
    weights = "information" if plan.weights == "adaptive" else plan.weights
    plan = replace(plan, uncertainty="jackknife", weights=weights)
    return _weighted(replace(problem, donors=None, plan=plan))


def pooled_problem(counts: Counts, sums: moments.Sums, plan: Plan) -> WithinProblem:
    """Estimate the moments of genes over all cells, as published."""
    fit = moments.pooled_moments(sums)
    mu, sigma = fit.mu[:, 0], fit.variance
    overdispersion = sigma / mu**2
    f2 = (1 + fit.slope[:, :, None] * sums.nodes) ** -2.0
    at_nodes = np.broadcast_to(f2, (len(f2), counts.n_samples, f2.shape[2]))
    weight = sums.over_cells(at_nodes, 2) * mu[:, None] ** 2
    gene, gene_flag = _gene_table(
        counts, mu / sums.unit, overdispersion, fit.den, weight.sum(1), _theta(fit)
    )
    # The weights of the published test use the variance of each gene: 1 / (s mu + s^2 sigma).
    test = replace(fit, slope=np.where(sigma > 0, sigma / mu, 0.0)[:, None])
    n_samples = counts.n_samples
    if plan.uncertainty == "none":  # samples are not used: one group is faster
        sums, n_samples = sums.one_group(), 1
        fit = replace(fit, num=fit.num.sum(1, keepdims=True), den=fit.den.sum(1, keepdims=True))
    note = (
        "cell_statistic and cell_p_value treat cells as independent; p_value treats samples as the "
        "units."
    )
    return WithinProblem(sums, fit, gene_flag, 2 * mu**2, test, n_samples, plan, gene, note)


def problem_of(counts: Counts, sums: moments.Sums, plan: Plan) -> WithinProblem:
    """Estimate the moments of genes; without covariates, the entries of the counts are not used."""
    return (within_problem if plan.estimator == "within" else pooled_problem)(counts, sums, plan)


# Hook (problem, left, right, N, D, tile): adds variables to the tile and returns flags.
Also = Callable[
    ["WithinProblem", slice, slice, NDArray, NDArray, dict[str, NDArray]], NDArray[np.uint16]
]


def fit_here(
    counts: Counts,
    plan: Plan,
    output: Output,
    checkpoint: Checkpoint | None,
    also: Sequence[Also] = (),
) -> WithinProblem:
    """Estimate all pairs in this process, tile by tile, and write them to `output`.

    Parameters
    ----------
    counts : Counts
    plan : Plan
    output : Output
    checkpoint : Checkpoint or None
        Store of the sums of each tile.
    also : sequence of callable
        Hooks that add variables to a tile.
    """
    problem = prepare(counts, plan)
    fit_tiles(counts, problem, output, checkpoint, also)
    return problem


def prepare(counts: Counts, plan: Plan) -> WithinProblem:
    """Estimate what all tiles share: moments of genes, and how donors differ."""
    with blas.at_most(1):
        problem = problem_of(counts, moments.sums_of(counts, plan.tolerance), plan)
        return learn(problem, partial(panel_sums, counts, problem))


def fit_tiles(
    counts: Counts,
    problem: WithinProblem,
    output: Output,
    checkpoint: Checkpoint | None,
    also: Sequence[Also] = (),
) -> None:
    """Estimate all pairs of a prepared problem, see :func:`fit_here`."""
    plan = problem.plan
    if problem.n_samples == 1:
        counts = counts.one_group()
    s, dtype = problem.n_samples, plan.dtype
    parts = [list(tiling.parts(left, right, s, dtype)) for left, right in plan.tiles]
    sums = TileSums(counts, problem, checkpoint)
    num_space, den_space = (tiling.Workspace(itertools.chain(*parts), s, dtype) for _ in range(2))
    for (left, right), subtiles in with_progress(
        list(zip(plan.tiles, parts, strict=True)), plan.progress
    ):
        with blas.at_most(1):
            all_num, all_tested = sums.compute(left, right)
        for rows, columns in subtiles:
            num, den = num_space.array(rows, columns), den_space.array(rows, columns)
            i, j = rows.start - left.start, columns.start - right.start
            kernels.squares.copy_window(all_num, i, j, num)
            if rows == columns:
                for square in num:
                    kernels.squares.mirror(square)
            tested = None
            if all_tested is not None:
                tested = all_tested[i : rows.stop - left.start, j : columns.stop - right.start]
            with blas.at_most(1):
                tile, flag = tile_of(problem, rows, columns, num, den, tested)
            if output.complete:
                tile |= problem.follow(tile)
            for hook in also:
                flag |= hook(problem, rows, columns, num, den, tile)
            output.write(rows, columns, tile, flag)


def panel_sums(
    counts: Counts, problem: WithinProblem, genes: NDArray[np.int64], k: int = 0
) -> NDArray:
    """Return N of each sample for pairs of these genes, see :data:`Numerators`."""
    left, right = slice(0, k or len(genes)), slice(k, len(genes))
    shape = (problem.n_samples, left.stop, right.stop - right.start)
    out = np.empty(shape, problem.plan.dtype)
    sums, fit = problem.sums.take(genes), problem.fit.take(genes)
    return moments.numerators(counts.take(genes), sums, fit, left, right, out)


class TileSums:
    """Sums over the cells of one tile at a time, in memory that all tiles share."""

    def __init__(
        self, counts: Counts, problem: WithinProblem, checkpoint: Checkpoint | Named | None
    ) -> None:
        plan = problem.plan
        self._counts, self._problem, self._checkpoint = counts, problem, checkpoint
        self._upper = checkpoint is None  # stored tiles are complete
        self._space = tiling.Workspace(plan.tiles, problem.n_samples, plan.dtype)
        if problem.test is not None:
            self._pooled = counts.one_group(), problem.sums_over_samples
            self._test_space = tiling.Workspace(plan.tiles, 1, plan.dtype)

    def compute(self, left: slice, right: slice) -> tuple[NDArray, NDArray | None]:
        """Return N of each sample, and the sums of the published test if there is one."""
        problem, checkpoint = self._problem, self._checkpoint
        space = self._space.array(left, right)
        num = moments.numerators(
            self._counts, problem.sums, problem.fit, left, right, space, checkpoint, self._upper
        )
        if problem.test is None:
            return num, None
        cache = None if checkpoint is None else checkpoint.named("test")
        space = self._test_space.array(left, right)
        tested = moments.numerators(
            *self._pooled, problem.test, left, right, space, cache, self._upper
        )
        return num, tested[0]


def tile_of(
    problem: WithinProblem,
    left: slice,
    right: slice,
    num: NDArray,
    den: NDArray,
    cells: NDArray | None,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Compute the pair variables and flags of one tile from its sums over cells.

    Variables that follow from these are left out, see :attr:`WithinProblem.follow`.

    Parameters
    ----------
    problem : WithinProblem
    left, right : slice
    num : ndarray, shape (n_samples, left, right)
        N of each sample.
    den : ndarray, shape (n_samples, left, right)
        Memory for D of each sample.
    cells : ndarray, shape (left, right), optional
        Sums of the published test, if there is `problem.test`.
    """
    plan, s = problem.plan, problem.n_samples
    moments.denominators(problem.sums, problem.fit, left, right, num, den)
    flag = problem.gene_flag[left, None] | problem.gene_flag[None, right]
    if s == 1:
        found = inference.one_group(num[0], den[0], *problem.variance_sums(left, right))
        tile = {"correlation_unclipped": found}
    else:
        if problem.donors is not None:  # what dominates a gene need not dominate a pair
            flag &= ~Flag.DOMINATED.bit
        sums = problem.by_donor(num), problem.by_donor(den)
        tile, pair_flag = _over_donors(problem, left, right, *sums)
        flag |= pair_flag
        if problem.donors is not None and problem.donors.within_donors is not None:
            tau = problem.donors.tau_within_donors(problem.sums, left, right, num, den)
            tile["tau_within_donors"] = tau.astype(plan.dtype)
        if "tau" in tile:
            flag |= without_tau(tile)
    if problem.bias is not None and problem.bias.matters:
        r = tile["correlation_unclipped"]
        explained = problem.bias.explains(left, right, r, tile.get("se"))
        flag |= explained * Flag.DEPTH_DEPENDENT.bit
    if cells is not None:
        tile["cell_statistic"] = _cell_test(problem, left, right, cells)
    if plan.few(s):
        flag |= Flag.TOO_FEW_SAMPLES.bit
    return tile, flag


def _over_donors(
    problem: WithinProblem, left: slice, right: slice, num: NDArray, den: NDArray
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Compute estimates and their uncertainty with donors as the units, and flags."""
    plan, s = problem.plan, len(num)
    if problem.donors is not None and problem.donors.prior is not None:
        return _hierarchical(problem, problem.donors, left, right, num, den)
    estimate = _ratio_estimate(problem, left, right, num, den, plan.uncertainty)
    tile: dict[str, NDArray] = {"correlation_unclipped": estimate.correlation}
    flag = (estimate.largest_share > DOMINANT_SHARE) * Flag.DOMINATED.bit
    flag |= (estimate.carrying < s) * Flag.ABSENT_IN_SAMPLE.bit
    if plan.silent(s):
        return tile, flag
    flag |= estimate.weights_matter * Flag.WEIGHTS_MATTER.bit
    tile |= inference.errors_and_df(estimate, plan.dtype)
    return tile, flag | _interval_flags(problem, estimate.carrying, tile)


def _ratio_estimate(
    problem: WithinProblem,
    left: slice,
    right: slice,
    num: NDArray,
    den: NDArray,
    uncertainty: str,
) -> inference.PairEstimate:
    return inference.pair_estimate(
        num,
        den,
        *problem.variance_sums(left, right),
        "none" if problem.plan.few(len(num)) else uncertainty,
        (problem.noise[left], problem.noise[right]),
        problem.plan.draws,
        problem.plan.compares_averages,
    )


def _hierarchical(
    problem: WithinProblem,
    donors: DonorModel,
    left: slice,
    right: slice,
    num: NDArray,
    den: NDArray,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Estimate the pairs of a tile by the hierarchical model; the jackknife's p is kept beside."""
    plan, prior = problem.plan, donors.prior
    assert prior is not None
    shape = (problem.n_samples, *num.shape[1:])
    noise = problem.by_donor(donors.noise(problem.sums, left, right, np.empty(shape, plan.dtype)))
    estimate = inference.average_over_donors(
        (num, den, noise),
        (donors.genes[left], donors.genes[right]),
        prior,
        plan.weights,
        left == right and plan.rows is None,
        tiling.n_pairs(len(problem.gene_flag), plan.rows),
    )
    alone = _ratio_estimate(problem, left, right, num, den, "jackknife")
    tile = {
        "correlation_unclipped": estimate.correlation,
        **estimate.table,
        "jackknife_p_value": inference.p_values(alone, plan.dtype),
    }
    flag = (estimate.largest_share > DOMINANT_SHARE) * Flag.DOMINATED.bit
    flag |= (alone.carrying < len(num)) * Flag.ABSENT_IN_SAMPLE.bit
    flag |= alone.weights_matter * Flag.WEIGHTS_MATTER.bit
    return tile, flag | _interval_flags(problem, alone.carrying, tile)


def _interval_flags(
    problem: WithinProblem, carrying: NDArray, tile: dict[str, NDArray]
) -> NDArray[np.uint16]:
    few = carrying < 3
    flag = few * Flag.TOO_FEW_SAMPLES.bit
    return flag | (problem.follow.without_limits(tile) & ~few) * Flag.NO_INTERVAL.bit


def _cell_test(problem: WithinProblem, left: slice, right: slice, num: NDArray) -> NDArray:
    r"""Compute the statistic of the published cell-level test.

    .. math:: T = \frac{\sum f_j f_k r_j r_k}{\sqrt{\mu_j \mu_k \sum f_j f_k s^2}}, \quad
              f = \frac{1}{1 + s \sigma / \mu}
    """
    test = problem.test
    assert test is not None
    mu, slope = test.mu[:, 0], test.slope[:, 0]
    weight = moments.weight_products(problem.sums_over_samples, slope, left, right, 0, num.dtype)
    nonpositive = (problem.gene_flag & Flag.NONPOSITIVE_VARIANCE.bit) > 0
    mu = np.where(nonpositive, np.nan, mu)
    num = np.array(num, order="C")
    if left == right:
        kernels.squares.mirror(num)
    statistic = np.empty_like(num)
    kernels.pairs.cell_test(num, weight, mu[left], mu[right], statistic)
    return statistic


def fit_covariates(
    counts: Counts, plan: Plan, design: DesignMatrix, level: str, adjust: tuple[str, ...]
) -> WithinEstimates:
    """Fit the published pooled regressions with covariates, and estimate all pairs.

    Parameters
    ----------
    counts : Counts
    plan : Plan
    design : DesignMatrix
        Design matrix of the cells.
    level, adjust
        See :func:`hiercorr.within.pooled_covariates.fit_covariates`.
    """
    unit = float(counts.depth.mean())
    fit = pooled_covariates.fit_covariates(
        counts.one_group(), counts.depth / unit, design.matrix, level, adjust
    )
    _warn_of_negative_means(fit, counts)
    mu, sigma = fit.mean[0], fit.variance[0]
    shares = np.diff(counts.offsets, axis=1).astype(float)
    s = counts.depth / unit
    expected = np.array([((s * m / (1 + s * m / fit.theta)) ** 2).sum() for m in mu])
    gene, gene_flag = _gene_table(counts, mu / unit, sigma / mu**2, shares, expected, fit.theta)
    output = tiling.PairOutput(counts.n_genes, plan.rows, plan.dtype, without_interval=True)
    k = design.matrix.shape[1]
    tiles = tiling.tiles(counts.n_genes, 2 * k * (k + 3), plan.rows, np.float64)
    for left, right in with_progress(tiles, plan.progress):
        flag = gene_flag[left, None] | gene_flag[None, right]
        output.write(left, right, _covariate_tile(fit, left, right), flag)
    # The intercept scales with depth; at the level of counts, the other coefficients do not.
    scaled = slice(None) if level == "cell" else slice(0, 1)
    coefficients = {
        f"{name}_coefficient": _coefficients(values, unit**power, scaled, design.names, name)
        for name, values, power in (("mean", fit.mean, 1), ("variance", fit.variance, 2))
    }
    return WithinEstimates(
        output.finish(),
        gene,
        fit.theta,
        fit.iterations,
        fit.converged,
        formula=design.formula,
        note="cell_statistic and cell_p_value treat cells as independent.",
        extra=coefficients,
    )


def _warn_of_negative_means(fit: pooled_covariates.CovariateFit, counts: Counts) -> None:
    negative = fit.negative_means()
    if (negative > 0).any():
        worst = int(negative.argmax())
        warn(
            "the mean regression is linear in the covariates and not positive in some cells for "
            f"{(negative > 0).sum()} of {counts.n_genes} genes ({negative[worst]:.0%} of cells for "
            f"{counts.genes[worst]!r}), as in the published method; such cells get arbitrary "
            "weights: use fewer or coarser covariates if these genes matter",
            EstimationWarning,
        )


def _covariate_tile(
    fit: pooled_covariates.CovariateFit, left: slice, right: slice
) -> dict[str, NDArray]:
    sigma = fit.variance[0]
    covariance, _ = fit.products(left, right, tested=False)
    _, statistic = fit.products(left, right, tested=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = covariance / np.sqrt(np.outer(np.where(sigma > 0, sigma, np.nan)[left], sigma[right]))
    statistic[np.isnan(rho)] = np.nan
    return {
        "correlation_unclipped": rho,
        "fisher_z": inference.fisher_z(rho),
        "cell_statistic": statistic,
        "cell_p_value": 2 * special.ndtr(-np.abs(statistic)),
    }


def _coefficients(
    values: NDArray, unit: float, scaled: slice, names: Sequence[str], regression: str
) -> xr.DataArray:
    """Convert coefficients to the depth of the data; NaN where the regression has none."""
    scale = np.ones(len(values))
    scale[scaled] = unit
    full = np.full((len(names), values.shape[1]), np.nan)
    full[: len(values)] = values / scale[:, None]
    return xr.DataArray(
        full,
        {"coefficient": np.array(names, object)},
        ("coefficient", "gene"),
        attrs={
            "long_name": f"coefficients of the {regression} regression",
            "units": "per count of depth",
        },
    )
