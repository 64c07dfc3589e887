r"""Scores of cells: correlation within samples of a number per cell with every gene.

The score y is taken as measured, the expression z of a gene is not: with :math:`r_{ij} = x_{ij} -
s_i \mu_{cj}`, the weights :math:`w_{ij} = 1 / (1 + a_{cj} s_i)` of all pairs, and y scaled in each
sample to mean 0 and variance 1 over its cells,

.. math:: N_c = \sum_i w_{ij} r_{ij} y_i, \quad D_c = \mu_{cj} \Big(W - \frac{1}{W}\sum_i w_{ij}^2
          s_i^2\Big), \quad W = \sum_i w_{ij} s_i, \quad
          \rho_j = \frac{\sum_c N_c}{\sum_c D_c} \Big/ \sqrt{\phi_{jj}}.

The score may follow depth. As :math:`E[r_{ij} | s] = 0` and :math:`\sum_i w_{ij} r_{ij} = 0`, any
function of depth that is part of y adds nothing to :math:`E N_c = D_c \operatorname{cov}(z_j, y) /
\mu_{cj}`, for whatever depths the cells have; it is part of the variance of y. A counting noise of
the gene adds nothing either, as it does not depend on y. The variance of y is unweighted, each
sample's own: the correlation is the average of those of the samples, whatever unit or spread the
score has in each of them.

Covariates of cells are regressed out of the counts and of y with the same hat matrix H
(:mod:`hiercorr.within.cell_covariates`); :math:`E N_c` is then
:math:`\operatorname{cov}(z_j, y) \sum_i w_{ij} v_i / s_i`, and y has a variance of 1 in the sense
of :math:`\sum_i y_i^2 = \sum_i v_i / s_i^2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels, moments
from hiercorr.counts.cell_scores import CellScore
from hiercorr.counts.counts import Counts
from hiercorr.errors import DataWarning, InputError
from hiercorr.inference.random_effects import ABSENT, DonorGenes, donor_effects, learn_prior
from hiercorr.moments.entries import Entries
from hiercorr.results import tiling
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag
from hiercorr.within.cell_covariates import projection
from hiercorr.within.fitting import WithinEstimates, WithinProblem, prepare
from hiercorr.within.heterogeneity import LEAST_PAIRS, by_donor
from hiercorr.within.module_pairs import module_units, module_variables
from hiercorr.within.one_target import Linear, Part, target_table
from hiercorr.within.options import Plan

Array = NDArray[np.float64]

_BLOCK = 65_536  # cells per block of the interpolation matrix
_CONSTANT = 1e-12  # relative spread below which the values of a sample are equal
_EXPLAINED = 1e-10  # proportion of the variance that covariates leave if they explain the score


def fit_score(counts: Counts, score: CellScore, plan: Plan) -> WithinEstimates:
    """Estimate the correlation of a score with every gene.

    Parameters
    ----------
    counts : Counts
    score : CellScore
    plan : Plan

    Returns
    -------
    WithinEstimates
        Pair variables (1, n_genes).

    Raises
    ------
    InputError
        If no sample has information on the score.

    Warns
    -----
    DataWarning
        If some samples have none.
    """
    problem = prepare(counts, plan)
    plan, fit, p = problem.plan, problem.fit, counts.n_genes
    sums = _score_sums(counts, problem, score.values)
    informative = sums.cells > 0
    _check_samples(counts, score, informative, plan.cells is not None)
    spread, cross, den = _with_genes(problem, sums)
    variances = Linear.ratio(problem.by_donor(fit.num.T), problem.by_donor(fit.den.T), 2.0)
    part = Part(slice(0, p), spread, cross, variances)
    donors = None
    if problem.donors is not None:
        units = problem.donors.units
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = np.nan_to_num(by_donor(sums.noise, units) / den.sum(0) ** 2)
        donors = noise, _as_one_side(by_donor(sums.powers, units))
        problem = _learnt(problem, part, *donors)
    flag = problem.gene_flag.copy()
    if not informative.all():
        flag |= Flag.ABSENT_IN_SAMPLE.bit
    tile, pair_flag = target_table(part, problem, donors, flag)
    rows = slice(p, p + 1)
    output = tiling.PairOutput(p, rows, plan.dtype, without_interval=plan.silent(counts.n_samples))
    output.write(rows, slice(0, p), tile, pair_flag)
    return replace(problem.fitted(output.finish()), follow=None)


def fit_module_score(
    counts: Counts,
    score: CellScore,
    modules: Sequence[NDArray[np.int64]],
    weights: Sequence[Array | str],
    plan: Plan,
) -> WithinEstimates:
    r"""Estimate the correlation of a score with the weighted sums of groups of genes.

    Covariances of the score with genes add up, :math:`\operatorname{cov}(z_S, y) = \sum_j a_j
    \operatorname{cov}(z_j, y) / \mu_j`, and so do the influences of the samples.

    Parameters
    ----------
    counts : Counts
    score : CellScore
    modules, weights
        As for :func:`hiercorr.within.module_pairs.fit_modules`.
    plan : Plan

    Returns
    -------
    WithinEstimates
        Pair variables (1, n_modules) and variables of modules.
    """
    problem = prepare(counts, plan)
    plan, n = problem.plan, len(modules)
    sums = _score_sums(counts, problem, score.values)
    informative = sums.cells > 0
    _check_samples(counts, score, informative, plan.cells is not None)
    spread, cross, _ = _with_genes(problem, sums)
    units = module_units(counts, problem, modules, weights)
    rows = slice(n, n + 1)
    output = tiling.PairOutput(n, rows, plan.dtype, without_interval=plan.silent(counts.n_samples))
    found = []
    for unit in units:
        own = cross[unit.members].combined(unit.weights)
        part = Part(slice(0, 1), spread, own.column(), unit.total.column())
        flag = unit.flag if informative.all() else unit.flag | Flag.ABSENT_IN_SAMPLE.bit
        found.append(target_table(part, problem, None, np.array([flag], np.uint16)))
    tile = {name: np.concatenate([t[name] for t, _ in found], axis=1) for name in found[0][0]}
    output.write(rows, slice(0, n), tile, np.concatenate([f for _, f in found], axis=1))
    fitted = problem.fitted(output.finish())
    return replace(fitted, gene=module_variables(units), follow=None)


def _with_genes(problem: WithinProblem, sums: _ScoreSums) -> tuple[Linear, Linear, Array]:
    """Return the variance of the score, its covariances with genes, and D of each donor."""
    num, den, size = (problem.by_donor(a) for a in (sums.num, sums.den, sums.cells[:, None]))
    share = size[:, 0] / size.sum()
    spread = Linear(np.ones(()), np.zeros_like(share), share, np.zeros(()))
    return spread, Linear.ratio(num, den, 1.0), den


def _learnt(problem: WithinProblem, part: Part, noise: Array, target: DonorGenes) -> WithinProblem:
    """Learn from the pairs of the score how donors differ; from those of genes if it has few."""
    assert problem.donors is not None
    num, den = (a[:, None] for a in part.cross.sums())
    effects, variances = donor_effects(num, den, noise[:, None], target, problem.donors.genes)
    effects, variances = effects[:, 0], variances[:, 0]
    if ((variances < ABSENT).sum(0) >= 3).sum() < LEAST_PAIRS:
        return problem
    prior = learn_prior(effects, variances)
    return replace(problem, donors=replace(problem.donors, prior=prior))


@dataclass(frozen=True)
class _ScoreSums:
    """Sums over the cells of each sample; 0 in samples in which the score is constant.

    Attributes
    ----------
    num, den : ndarray, shape (n_samples, n_genes)
        N and D.
    noise : ndarray, shape (n_samples, n_genes)
        Variance of N for a gene that does not depend on the score.
    cells : ndarray, shape (n_samples,)
        Number of cells, less the coefficients that were fitted to the score.
    powers : ndarray, shape (n_samples, 3)
        Number of cells, and sums of y^2 and y^3.
    """

    num: Array
    den: Array
    noise: Array
    cells: Array
    powers: Array


def _score_sums(counts: Counts, problem: WithinProblem, values: Array) -> _ScoreSums:
    """Sum over the cells of each sample, by quadrature over depth where no count is involved."""
    n, p = counts.n_samples, counts.n_genes
    num, den, noise = (np.zeros((n, p)) for _ in range(3))
    out = _ScoreSums(num, den, noise, np.zeros(n), np.zeros((n, 3)))
    for c in range(counts.n_samples):
        scaled = _scaled_score(counts, problem, values, c)
        if scaled is None:
            continue
        y, size, rest = scaled
        at = _node_sums(counts, problem, y, rest, c)
        mu, slope = problem.fit.mu[:, c], np.ascontiguousarray(problem.fit.slope[:, c])
        sums = problem.depth_sums
        f = 1 / (1 + np.outer(slope, sums.nodes))
        total = f @ sums.power[1, c]
        out.num[c] = _products(counts, sums.depth, slope, y, c)
        if rest is None:
            out.num[c] -= mu * (f @ at.first)
            gain = total - f**2 @ sums.power[2, c] / total
            centre = f @ at.first / total
        else:
            adjustment = problem.fit.adjustment
            assert isinstance(adjustment, moments.CellAdjustment)
            out.num[c] -= ((f @ at.scaled) * adjustment.beta[c].T).sum(1)
            gain, centre = f @ at.gain, np.zeros(p)
        out.den[c] = gain * mu
        if problem.donors is not None:
            each = problem.donors.variance[c] * sums.nodes
            out.noise[c] = (
                each @ at.square
                - 2 * centre * (each @ at.linear)
                + centre**2 * (each @ sums.power[0, c])
            )
        out.cells[c], out.powers[c] = size, (len(y), y @ y, (y**3).sum())
    return out


def _scaled_score(
    counts: Counts, problem: WithinProblem, values: Array, sample: int
) -> tuple[Array, float, _Rest | None] | None:
    """Scale the score of one sample; also its size, and the covariates; None: no variation."""
    cells = slice(int(counts.starts[sample]), int(counts.starts[sample + 1]))
    y = values[cells] / max(float(np.abs(values[cells]).max()), np.finfo(float).tiny)
    y = y - y.mean()
    square, size, rest = float(y @ y), len(y) - 1.0, None
    if square <= len(y) * _CONSTANT**2:
        return None
    if problem.plan.cells is not None:
        found = projection(counts, problem.depth_sums, problem.fit, problem.plan.cells, sample)
        y -= (found.scaled / found.depth[:, None]) @ ((found.weighted * found.depth[:, None]).T @ y)
        rest = _Rest(found.scaled, found.v / found.depth)
        size = float((found.v / found.depth**2).sum())
        if y @ y <= _EXPLAINED * square:
            return None
    return y / np.sqrt(y @ y / size), size, rest


@dataclass(frozen=True)
class _Rest:
    """Covariates of the cells of one sample: s u, shape (n, k), and v / s, shape (n,)."""

    scaled: Array
    gain: Array


@dataclass(frozen=True)
class _NodeSums:
    """Sums over cells at the nodes of depth, each times the interpolation L.

    Attributes
    ----------
    first, linear, square : ndarray, shape (m,)
        Sums of s y, y and y^2.
    gain : ndarray, shape (m,)
        Sum of v / s, with covariates.
    scaled : ndarray, shape (m, k)
        Sums of s u y, with covariates.
    """

    first: Array
    linear: Array
    square: Array
    gain: Array
    scaled: Array


def _node_sums(
    counts: Counts, problem: WithinProblem, y: Array, rest: _Rest | None, sample: int
) -> _NodeSums:
    sums = problem.depth_sums
    grid = moments.Grid.over(counts.depth, problem.plan.tolerance)
    begin = int(counts.starts[sample])
    depth = sums.depth[begin : begin + len(y)]
    columns = [depth * y, y, y**2]
    if rest is not None:
        columns += [rest.gain, *(rest.scaled * y[:, None]).T]
    table = np.column_stack(columns)
    out = np.zeros((len(sums.nodes), table.shape[1]))
    for start in range(0, len(y), _BLOCK):
        cells = slice(start, start + _BLOCK)
        out += grid.basis(depth[cells]).T @ table[cells]
    gain = out[:, 3] if rest is not None else np.zeros(len(out))
    return _NodeSums(out[:, 0], out[:, 1], out[:, 2], gain, out[:, 4:])


def _products(counts: Counts, depth: Array, slope: Array, y: Array, sample: int) -> Array:
    """Sum w x y over the cells with a count of each gene, shape (n_genes,)."""
    out = np.empty((counts.n_genes, 1))
    entries = Entries(counts, slice(None), sample)
    begin, end = int(counts.starts[sample]), int(counts.starts[sample + 1])
    kernels.sums.narrow_products(
        counts.rows,
        counts.values,
        *entries.until(end),
        depth,
        begin,
        slope,
        np.ascontiguousarray(y[None]),
        False,
        out,
    )
    return out[:, 0]


def _as_one_side(powers: Array) -> DonorGenes:
    """Return the score as one side of a tile, from sums of the powers of y, (n_donors, 3).

    Its variance is 1 in each sample and known; given it, the variance of N does not grow with the
    correlation.
    """
    n, square, cube = powers.T
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.nan_to_num(cube / square**1.5 * n**0.5 / n**0.25)
    one = np.ones((len(n), 1))
    return DonorGenes(np.ones(1), one, np.zeros_like(one), skewness[:, None].copy(), np.zeros(1))


def _check_samples(
    counts: Counts, score: CellScore, informative: NDArray[np.bool_], adjusted: bool
) -> None:
    """Raise an error if no sample has information on a score; warn if some have none."""
    if informative.all():
        return
    how = "constant, or explained by the covariates of cells," if adjusted else "constant"
    if not informative.any():
        raise InputError(
            f"score {score.name!r} is {how} in every sample: correlations within samples need "
            "cells of one sample that differ in it"
            + ("; leave out the covariates that explain it" if adjusted else "")
        )
    names = [str(s) for s in counts.samples[~informative]]
    listed = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    warn(
        f"score {score.name!r} is {how} in {len(names)} of {counts.n_samples} samples ({listed}), "
        "which have no information on its correlations; flagged absent_in_sample",
        DataWarning,
    )
