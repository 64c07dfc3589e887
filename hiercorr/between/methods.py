"""Methods of :class:`hiercorr.Pseudobulk`: from sums and a design to estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hiercorr.between import (
    crossed,
    noise_correction,
    normalization,
    pair_tests,
    regression,
    residuals,
)
from hiercorr.between.negative_binomial import negative_binomial
from hiercorr.between.options import REGRESSIONS, BetweenOptions
from hiercorr.between.pair_tests import BetweenEstimates, PairOptions
from hiercorr.counts.counts import Counts
from hiercorr.design.matrix import DesignMatrix
from hiercorr.errors import EstimationWarning, InputError
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag

Array = NDArray[np.float64]
# Below this count in the median sample the log of a gene is mostly noise, and skewed.
TYPICAL_COUNT = 20


@dataclass(frozen=True)
class BetweenProblem:
    """Sums of the chosen genes, and the design under which they are correlated.

    Attributes
    ----------
    genes : Index
        Names of the genes.
    counts, expression : ndarray, shape (n_samples, n_genes)
        Sums, and their log2 counts per million.
    libraries : ndarray, shape (n_samples,)
        Effective library sizes.
    design : DesignMatrix
        Covariates of samples, with fixed block effects.
    blocks : ndarray of int, shape (n_samples,) or None
        Block of each sample.
    clustered : bool
        Whether standard errors are cluster-robust by block.
    contrasts : mapping
        Linear combinations of coefficients by name.
    correlation : tuple of float or None
        Correlation of the samples of a block, where the design has no block effects; of both
        groupings if there are two.
    interaction : tuple of int
        Columns of the design whose products with the target are further coefficients.
    crossed : ndarray of int, shape (n_samples,) or None
        Group of each sample in a second grouping.
    """

    genes: pd.Index
    counts: Array
    expression: Array
    libraries: Array
    design: DesignMatrix
    blocks: NDArray[np.int64] | None
    clustered: bool
    contrasts: Mapping[str, str | Sequence[str]]
    correlation: tuple[float, ...] | None = None
    interaction: tuple[int, ...] = ()
    crossed: NDArray[np.int64] | None = None

    @property
    def groupings(self) -> list[NDArray[np.int64]]:
        """Groups of correlated samples, one or two arrays."""
        return [g for g in (self.blocks, self.crossed) if g is not None]

    def gene_flags(self) -> NDArray[np.uint16]:
        """Return the flags of genes with few counts."""
        flag = np.zeros(self.counts.shape[1], np.uint16)
        flag[np.median(self.counts, axis=0) < TYPICAL_COUNT] |= Flag.LOW_INFORMATION.bit
        flag[(self.counts == 0).any(0)] |= Flag.ABSENT_IN_SAMPLE.bit
        return flag

    def with_block_correlation(self, method: str) -> BetweenProblem:
        """Estimate the consensus correlation of the samples of a block."""
        y, weights = self.expression, None
        if method == "voom":
            found = normalization.voom(self.counts, self.libraries, self.design.matrix)
            y, weights = found.expression, found.weights
        design, groupings = self.design.matrix, self.groupings
        if len(groupings) == 1:
            found_rho = (normalization.block_correlation(y, design, groupings[0], weights),)
            return replace(self, correlation=found_rho)
        rho = crossed.crossed_correlations(y, design, groupings, weights)
        return replace(self, correlation=rho)

    def combinations(self, k: int) -> Array:
        """Return weights of k coefficients, one row per coefficient and then per contrast."""
        rows = self.design.contrasts(self.contrasts)
        return np.vstack([np.eye(k), np.pad(rows, ((0, 0), (0, k - rows.shape[1])))])

    def white(self) -> Array | None:
        """Return the matrix that whitens the samples of correlated blocks, or None."""
        if self.correlation is None:
            return None
        matrix = crossed.correlation_matrix(self.groupings, self.correlation)
        return regression.whitener(matrix)


def estimate(
    problem: BetweenProblem,
    asked: BetweenOptions,
    options: PairOptions,
    cells: tuple[Counts, NDArray[np.int64]] | None,
) -> BetweenEstimates:
    """Estimate the correlations by the method that was asked for.

    Parameters
    ----------
    problem : BetweenProblem
    asked : BetweenOptions
    options : PairOptions
    cells : (Counts, ndarray of int) or None
        The cells behind the sums and the row of each of their samples, for ``"corrected"``.

    Returns
    -------
    BetweenEstimates
    """
    if asked.method in REGRESSIONS:
        at = int(problem.genes.get_loc(asked.target))
        fitted = regress_on_target(problem, asked.method, at, options)
    elif cells is not None:
        fitted = remove_noise(problem, *cells, options, asked.seed)
    else:
        fitted = correlate_samples(problem, asked.method == "spearman", options)
    if not fitted.coefficient and asked.method != "spearman":
        fitted.coefficient = formula_fit(problem)
    return fitted


def correlate_samples(
    problem: BetweenProblem, ranks: bool, options: PairOptions
) -> BetweenEstimates:
    """Estimate Pearson's or Spearman's correlation of residuals."""
    fitted, covariates = sample_residuals(problem, ranks, options)
    return pair_tests.correlate_residuals(fitted, options, ranks, covariates)


def sample_residuals(
    problem: BetweenProblem, ranks: bool, options: PairOptions
) -> tuple[residuals.Residuals, bool]:
    """Return the residuals of expression or of its ranks, and whether there are covariates."""
    y, design = problem.expression, problem.design.matrix
    covariates = design.shape[1] > 1 or problem.correlation is not None
    if ranks:
        y = stats.rankdata(y.round(12), axis=0)
        df = len(y) - design.shape[1] - 1
        if covariates and df + 2 <= residuals.EXACT_SPEARMAN and options.orders is None:
            warn(
                f"the t test of a partial Spearman correlation on {df} degrees of freedom rejects "
                "too often: use "
                "permutations=",
                EstimationWarning,
            )
    white = problem.white()
    if white is not None:
        y, design = white @ y, white @ design
    return residuals.residuals(y, design), covariates


def regress_on_target(
    problem: BetweenProblem, method: str, at: int, options: PairOptions
) -> BetweenEstimates:
    """Regress each gene on the target (gene number `at`) and the formula."""
    fitted = residuals.residuals(problem.expression, problem.design.matrix)
    check_target(problem, fitted, at)
    design = target_design(problem, at)
    weights = problem.combinations(design.shape[1])
    if method == "negative_binomial":
        tests, dispersion = negative_binomial(
            problem.counts, design, problem.libraries, weights, options.progress
        )
        return pair_tests.counts_against_target(tests, dispersion, at, fitted, options)
    fit, mean_log = target_regression(problem, method, design)
    return pair_tests.against_target(fit, weights, at, fitted, options, mean_log)


def target_design(problem: BetweenProblem, at: int) -> Array:
    """Return the design with the products of the interaction and the target as last columns."""
    target = problem.expression[:, [at]]
    products = problem.design.matrix[:, list(problem.interaction)] * target
    return np.column_stack([problem.design.matrix, products, target])


def target_regression(
    problem: BetweenProblem, method: str, design: Array
) -> tuple[regression.Regression, Array]:
    """Regress each gene on a design by ``"ols"``, ``"hc3"`` or ``"voom"``; and mean logs."""
    y, white = problem.expression, problem.white()
    precision: Array | None = None
    if method == "voom":
        found = normalization.voom(problem.counts, problem.libraries, design)
        y, precision = found.expression, found.weights
    errors = "hc3" if method == "hc3" else "cluster" if problem.clustered else "classical"
    if white is None:
        fit = regression.least_squares(y, design, precision, errors, problem.blocks)
    elif precision is None:
        fit = regression.least_squares(white @ y, white @ design)
    else:  # the covariance is W^-1/2 R W^-1/2, which differs between genes
        root = np.sqrt(precision)
        fit = regression.least_squares(white @ (root * y), white @ (root.T[:, :, None] * design))
    return fit, y.mean(0)


def check_target(problem: BetweenProblem, fitted: residuals.Residuals, at: int) -> None:
    """Raise an error if the target (gene number `at`) does not vary given the formula."""
    if fitted.constant[at]:
        raise InputError(
            f"target {problem.genes[at]!r} does not vary between samples given "
            f"{problem.design.formula!r}"
        )


def formula_fit(problem: BetweenProblem) -> dict[str, Array]:
    """Regress each gene on the formula alone."""
    y, design, white = problem.expression, problem.design.matrix, problem.white()
    if white is not None:
        y, design = white @ y, white @ design
    tests = regression.least_squares(y, design).test(problem.combinations(design.shape[1]))
    tests["beta_q_value"] = np.array([benjamini_hochberg(p) for p in tests["beta_p_value"]])
    return tests


def remove_noise(
    problem: BetweenProblem,
    cells: Counts,
    at: NDArray[np.int64],
    options: PairOptions,
    seed: int | np.random.Generator | None,
) -> BetweenEstimates:
    """Estimate correlations between samples corrected for the sampling noise of their means.

    Parameters
    ----------
    problem : BetweenProblem
    cells : Counts
        Counts of the same genes in the same order.
    at : ndarray of int
        Row of the problem for each sample of `cells`, or -1.
    options : PairOptions
    seed : int, Generator or None
    """
    y = np.log((problem.counts + 0.5) / problem.libraries[:, None])
    fitted = residuals.residuals(y, problem.design.matrix)
    weight = np.zeros(cells.n_samples)
    weight[at >= 0] = ((1 - (fitted.basis**2).sum(1)) / fitted.df)[at[at >= 0]]
    noise = noise_correction.measure_noise(
        cells, weight, 1e-8 if options.dtype == np.float32 else 1e-13
    )
    return pair_tests.correlate_without_noise(fitted, noise, options, seed)
