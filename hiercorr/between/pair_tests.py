"""Pair and coefficient variables between samples, from residuals and regressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special, stats

from hiercorr.between import noise_correction, regression, residuals
from hiercorr.between.permutation import freedman_lane_p
from hiercorr.between.residuals import SAME, Residuals
from hiercorr.design.permutation import Arrangements
from hiercorr.inference.moderation import squeeze_variances
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results import tiling
from hiercorr.runtime.progress import with_progress
from hiercorr.schema import Flag

Array = NDArray[np.float64]
Tile = tuple[dict[str, NDArray], NDArray[np.uint16]]  # pair variables and flags of a tile
_LAYERS = 32  # arrays of one tile that exist at the same time


@dataclass(frozen=True)
class PairOptions:
    """Options that every method needs for its pairs.

    Attributes
    ----------
    rows : slice or None
        Position of the target, or None for all pairs.
    dtype : dtype
        Type of the output.
    confidence : float
        Confidence level of the intervals.
    gene_flag : ndarray of uint16, shape (n_genes,)
        Flags of the genes.
    orders : Arrangements or None
        Permutations of the samples.
    progress : bool or None
        Whether to show a progress bar.
    moderation : callable
        From the number of genes with a residual variance to ``"plain"``, ``"trend"``, ``"robust"``,
        ``"trend+robust"`` or None (:meth:`hiercorr.between.options.BetweenOptions.moderation`).
    """

    rows: slice | None
    dtype: DTypeLike
    confidence: float
    gene_flag: NDArray[np.uint16]
    orders: Arrangements | None
    progress: bool | None
    moderation: Callable[[int], str | None] = lambda n_genes: None


@dataclass
class BetweenEstimates:
    """Pair, coefficient and gene variables of a fit, and the prior of moderated variances."""

    pair: dict[str, NDArray]
    coefficient: dict[str, Array] = field(default_factory=dict)
    gene: dict[str, Array] = field(default_factory=dict)
    prior: VariancePrior | None = None


@dataclass(frozen=True)
class VariancePrior:
    """Kind of moderation, with the median over genes of the prior's parameters."""

    kind: str
    df: float
    variance: float


def correlate_residuals(
    fitted: Residuals, options: PairOptions, ranks: bool, covariates: bool
) -> BetweenEstimates:
    """Correlate the residuals of every pair, tile by tile.

    Parameters
    ----------
    ranks, covariates : bool
        Whether the residuals are those of ranks; whether the formula has more than an intercept.
    """
    n_genes = fitted.unit.shape[1]
    output = tiling.PairOutput(
        n_genes, options.rows, options.dtype, double=("p_value",), closed=ranks
    )
    for left, right in with_progress(
        tiling.tiles(n_genes, 2 * _LAYERS, options.rows, np.float64), options.progress
    ):
        output.write(
            left, right, *correlation_tile(fitted, left, right, options, ranks, covariates)
        )
    pair = output.finish()
    tiling.add_q_values(pair, options.rows)
    return BetweenEstimates(pair)


def correlation_tile(
    fitted: Residuals,
    left: slice,
    right: slice,
    options: PairOptions,
    ranks: bool,
    covariates: bool,
) -> Tile:
    """Correlate the residuals of the genes of two slices; return variables and flags."""
    flag = options.gene_flag | np.where(fitted.constant, Flag.NONPOSITIVE_VARIANCE.bit, 0).astype(
        np.uint16
    )
    a, b = (np.where(fitted.constant[s], np.nan, fitted.unit[:, s]) for s in (left, right))
    r, df = a.T @ b, fitted.df - 1
    if ranks:
        tile = residuals.spearman_table(r, df, covariates, options.confidence, options.dtype)
    else:
        tile = residuals.t_table(r, df, options.confidence, options.dtype)
    if options.orders is not None:
        tile["p_value"] = freedman_lane_p(a, b, fitted, options.orders, r)
    bits = flag[left, None] | flag[None, right]
    same = np.abs(r) >= SAME
    if ranks:
        bits[np.isfinite(r) & (same | (df < 2))] |= Flag.NO_INTERVAL.bit
        r = np.where(same, np.sign(r), r)
    else:
        tile["p_value"][same] = np.nan
    return {**tile, "correlation": r}, bits


@dataclass(frozen=True)
class TargetTests:
    """Regressions of every gene on the target.

    Attributes
    ----------
    r : ndarray, shape (n_genes,)
        Partial correlations.
    ratio : ndarray, shape (n_genes,)
        Ratio of the standard error of the target's coefficient to the classical one.
    tests : dict of ndarray, shape (n_combinations, n_genes)
        Tests of the coefficients and contrasts.
    position : int
        Position of the target's coefficient.
    df : int
        Residual degrees of freedom.
    ordinary_p : ndarray, shape (n_genes,) or None
        p-values before moderation.
    """

    r: Array
    ratio: Array
    tests: dict[str, Array]
    position: int
    df: int
    ordinary_p: Array | None = None


def against_target(
    fit: regression.Regression,
    weights: Array,
    target: int,
    fitted: Residuals,
    options: PairOptions,
    mean_log: Array,
) -> BetweenEstimates:
    """Correlate every gene with the target, from regressions with the target as last covariate.

    The correlation is the partial one, t / sqrt(t^2 + df) of the classical t. With robust errors or
    moderated variances the statistic is the classical t divided by the ratio of that standard error
    of the coefficient to the classical one, and the limits of atanh r are those at which it reaches
    its quantile: the interval excludes 0 where the test rejects it.

    Parameters
    ----------
    mean_log : ndarray, shape (n_genes,)
        Mean log expression, on which the prior variance may depend.
    """
    k = fit.coefficients.shape[0] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        classical_se = np.sqrt(fit.classical[:, k, k])
        t = fit.coefficients[k] / classical_se
        r = np.where(np.isinf(t), np.sign(t), t / np.sqrt(t**2 + fit.df))
    usable = ~fitted.constant & (np.abs(r) < SAME)
    usable[target] = False
    kind = options.moderation(int(usable.sum()))
    if kind is None:
        tests, squeezed, ordinary_p = fit.test(weights), None, None
    else:
        squeezed = squeeze_variances(
            np.where(usable, fit.variance, np.nan),
            float(fit.df),
            mean_log if "trend" in kind else None,
            "robust" in kind,
        )
        tests = fit.moderated(squeezed).test(weights)
        ordinary_p = 2 * special.stdtr(fit.df, -np.abs(t))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = tests["beta_se"][k] / classical_se
    found = TargetTests(r, ratio, tests, k, fit.df, ordinary_p)
    out = _from_target(found, target, fitted, options)
    if kind is not None and squeezed is not None:
        df, variance = squeezed.prior_df[usable], squeezed.prior[usable]
        out.prior = VariancePrior(kind, float(np.median(df)), float(np.median(variance)))
        if kind != "plain":
            out.gene["prior_variance"] = np.where(usable, squeezed.prior, np.nan)
            out.gene["prior_df"] = np.where(usable, squeezed.prior_df, np.nan)
    return out


def counts_against_target(
    tests: dict[str, Array], dispersion: Array, target: int, fitted: Residuals, options: PairOptions
) -> BetweenEstimates:
    """Correlate as :func:`against_target`, from the negative-binomial regressions."""
    k = fitted.basis.shape[1]
    df = fitted.df - 1
    t = tests["beta_statistic"][k]
    found = TargetTests(t / np.sqrt(t**2 + df), np.ones_like(t), tests, k, df)
    out = _from_target(found, target, fitted, options)
    out.gene["dispersion"] = dispersion
    return out


def _from_target(
    found: TargetTests, target: int, fitted: Residuals, options: PairOptions
) -> BetweenEstimates:
    r, tests, k, df = found.r, found.tests, found.position, found.df
    missing = fitted.constant | ~np.isfinite(r)
    missing[target] = True
    for values in tests.values():
        values[:, missing] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = ~missing & (np.abs(r) >= SAME)  # the same profile twice
        r = np.where(missing | exact, np.nan, r)
        z = np.arctanh(r)
        se = found.ratio / np.sqrt(df - 1) if df > 1 else np.full_like(r, np.nan)
        dof = tests["beta_df"][k]
        quantile = stats.t.ppf(0.5 + options.confidence / 2, dof)
        margin = np.arcsinh(found.ratio * quantile / np.sqrt(df))  # t is sqrt(df) sinh(z) / ratio
    p = tests["beta_p_value"][k]
    if options.orders is not None:
        unit = np.where(fitted.constant, np.nan, fitted.unit)
        p = freedman_lane_p(unit, unit[:, [target]], fitted, options.orders, r[:, None])[:, 0]
    p = np.where(exact, np.nan, p)
    pair: dict[str, NDArray] = {
        "correlation": r,
        "fisher_z": z,
        "fisher_z_se": np.where(np.isfinite(z), se, np.nan),
        "se": (1 - r**2) * se,
        "ci_lower": np.tanh(z - margin),
        "ci_upper": np.tanh(z + margin),
        "statistic": tests["beta_statistic"][k],
        "df": dof,
        "p_value": p,
        "q_value": benjamini_hochberg(p),
    }
    if found.ordinary_p is not None:
        pair["ordinary_p_value"] = np.where(np.isnan(p), np.nan, found.ordinary_p)
    flag = options.gene_flag | options.gene_flag[target]
    flag[fitted.constant] |= Flag.NONPOSITIVE_VARIANCE.bit
    flag[exact] |= Flag.OUT_OF_RANGE.bit
    flag[~fitted.constant & ~exact & np.isnan(r)] |= Flag.NO_INTERVAL.bit
    flag[target] = (flag[target] & ~Flag.NO_INTERVAL.bit) | Flag.SELF.bit
    pair["correlation"][target] = 1.0
    out = {
        n: v[None].astype(np.float64 if n.endswith("p_value") else options.dtype)
        for n, v in pair.items()
    }
    tests["beta_q_value"] = np.array([benjamini_hochberg(v) for v in tests["beta_p_value"]])
    return BetweenEstimates({**out, "flag": flag[None]}, tests)


def correlate_without_noise(
    fitted: Residuals,
    noise: noise_correction.Noise,
    options: PairOptions,
    seed: int | np.random.Generator | None,
) -> BetweenEstimates:
    """Estimate the noise-corrected correlation of every pair.

    Parameters
    ----------
    fitted : Residuals
        Residuals of log((T + 1/2) / L), genes in the order of `noise`.
    """
    variance = fitted.length**2 / fitted.df
    sd = np.sqrt(variance)
    found = without_own_noise(fitted, noise.own, options, seed)
    output = tiling.PairOutput(
        len(fitted.constant), options.rows, options.dtype, double=("p_value",)
    )
    for left, right in with_progress(
        tiling.tiles(len(fitted.constant), 2 * _LAYERS, options.rows, np.float64), options.progress
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = np.clip(
                noise.shared(left, right, options.dtype) / np.outer(sd[left], sd[right]),
                -0.99,
                0.99,
            )
        output.write(left, right, *found.tile(left, right, shared))
    pair = output.finish()
    for name in ("se", "fisher_z_se"):
        pair[name] = np.broadcast_to(np.array(np.nan, options.dtype), output.shape)
    tiling.add_q_values(pair, options.rows)
    return BetweenEstimates(pair, gene={"reliability": found.reliability})


@dataclass(frozen=True)
class WithoutOwnNoise:
    """Genes with the noise of their own means known, from which pairs are corrected.

    Attributes
    ----------
    fitted : Residuals
    reliability, usable : ndarray, shape (n_genes,)
        Proportion of the variance that is not noise; NaN below the minimum in `usable`.
    flag : ndarray of uint16, shape (n_genes,)
    draws : tuple of ndarray
        Draws of :func:`hiercorr.between.noise_correction.pivotal_draws`.
    confidence : float
        Confidence level of the intervals.
    """

    fitted: Residuals
    reliability: Array
    usable: Array
    flag: NDArray[np.uint16]
    draws: tuple[Array, Array, Array]
    confidence: float

    def tile(self, left: slice, right: slice, shared: Array) -> Tile:
        """Correct the pairs of two slices of genes; return variables and flags.

        Parameters
        ----------
        left, right : slice
        shared : ndarray, shape (left, right)
            Part of the observed correlation that is noise of both means; 0 where the genes were
            counted in different cells.
        """
        fitted, df = self.fitted, self.fitted.df - 1
        r = fitted.unit[:, left].T @ fitted.unit[:, right]
        with np.errstate(divide="ignore", invalid="ignore"):
            rho, lower, upper = noise_correction.corrected(
                r,
                shared,
                (self.usable[left], self.usable[right]),
                self.draws,
                self.confidence,
                left == right,
            )
            inside = np.where(np.abs(r) < SAME, r, np.nan)
            x = np.tanh(np.arctanh(inside) - np.arctanh(shared))
            t = x * np.sqrt(df / (1 - x**2))
        bits = self.flag[left, None] | self.flag[None, right]
        bits[np.isfinite(rho) & np.isnan(lower)] |= Flag.NO_INTERVAL.bit
        nothing = np.isnan(rho)
        lower[nothing], upper[nothing], t[nothing] = np.nan, np.nan, np.nan
        tile = {
            "correlation_unclipped": rho,
            "fisher_z": np.arctanh(np.where(np.abs(rho) < 1, rho, np.nan)),
            "ci_lower": lower,
            "ci_upper": upper,
            "statistic": t,
            "df": np.where(nothing, np.nan, float(df)),
            "p_value": 2 * special.stdtr(df, -np.abs(t)),
            "observed_correlation": r,
        }
        return tile, bits


def without_own_noise(
    fitted: Residuals,
    own: Array,
    options: PairOptions,
    seed: int | np.random.Generator | None,
) -> WithoutOwnNoise:
    """Measure the reliability of each gene from the noise variance of its means, and flag it.

    Parameters
    ----------
    fitted : Residuals
        Residuals of log((T + 1/2) / L).
    own : ndarray, shape (n_genes,)
        Noise variances.
    """
    variance = fitted.length**2 / fitted.df
    with np.errstate(divide="ignore", invalid="ignore"):
        reliability = np.where(fitted.constant, np.nan, 1 - own / variance)
    usable = np.where(reliability >= noise_correction.MIN_RELIABILITY, reliability, np.nan)
    flag = options.gene_flag.copy()
    flag[fitted.constant] |= Flag.NONPOSITIVE_VARIANCE.bit
    flag[np.isnan(usable)] |= Flag.LOW_RELIABILITY.bit
    draws = noise_correction.pivotal_draws(fitted.df, seed)
    return WithoutOwnNoise(fitted, reliability, usable, flag, draws, options.confidence)
