"""Correlations of gene pairs: standard errors over samples, t tests and confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special, stats

from hiercorr import kernels

Array = NDArray[np.float64]


UNCERTAINTIES = ("hierarchical", "jackknife", "cluster", "bootstrap", "none")
DIFFERENT_AVERAGES = 0.01  # p-value of equal averages by the weights and by equal weights
LEAST_DF = 0.05  # below it no interval: 95% of this t distribution already reaches +-1e25


@dataclass(frozen=True)
class PairEstimate:
    """Correlations of the pairs of one tile and their standard errors; arrays are (left, right).

    Attributes
    ----------
    correlation : ndarray
        Ratio of sums, not clipped.
    se : ndarray
        Standard error of the correlation; NaN with fewer than 3 samples.
    df : ndarray
        Degrees of freedom of the t distribution.
    carrying : ndarray of int
        Number of samples with information on the pair.
    largest_share : ndarray
        Largest proportion of that information in one sample.
    weights_matter : ndarray of bool
        Whether the samples' mean correlation by equal weights is another, see
        :func:`pair_estimate`; False if that was not tested.
    """

    correlation: NDArray
    se: NDArray
    df: NDArray
    carrying: NDArray[np.int32]
    largest_share: NDArray[np.float32]
    weights_matter: NDArray[np.bool_]


def variance_shares(num: Array, den: Array, noise: Array) -> Array:
    r"""Estimate each sample's share in the variance of a gene: its leverage on correlations.

    .. math:: b_c = q_c + \sqrt\kappa\,\Big(\frac{N_c^+}{\sum N^+} - q_c\Big), \quad
              q_c = \frac{D_c}{\sum D}, \quad
              \kappa = 1 - \frac{v / (D \phi^2)}{\sum_c (N_c^+ / \sum N^+ - q_c)^2}

    The share in the sum of squares N is shrunk towards the share in the information D, by the part
    of their difference that Poisson noise alone explains; :math:`\kappa` is truncated at 0.

    Parameters
    ----------
    num, den : ndarray, shape (n_genes, n_samples)
        Sums N and D of the variances.
    noise : ndarray, shape (n_genes,)
        v, the variance of N_c under Poisson noise alone divided by D_c.

    Returns
    -------
    ndarray, shape (n_samples, n_genes)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = den.sum(1, keepdims=True)
        q = np.clip(den, 0, None) / np.clip(den, 0, None).sum(1, keepdims=True)
        positive = np.clip(num, 0, None)
        excess = positive / positive.sum(1, keepdims=True) - q
        expected = noise[:, None] / (total * (num.sum(1, keepdims=True) / total) ** 2)
        kappa = np.clip(1 - expected / (excess**2).sum(1, keepdims=True), 0, 1)
        return np.ascontiguousarray((q + np.sqrt(np.nan_to_num(kappa)) * np.nan_to_num(excess)).T)


def sample_effects(num: Array, den: Array) -> Array:
    """Compute each sample's relative influence on a ratio of sums, (N_c - f D_c) / (f D).

    Parameters
    ----------
    num, den : ndarray, shape (n_genes, n_samples)
        Sums N and D, with f the ratio of their totals.

    Returns
    -------
    ndarray, shape (n_samples, n_genes)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = den.sum(1, keepdims=True)
        ratio = num.sum(1, keepdims=True) / total
        return np.ascontiguousarray(((num - ratio * den) / (total * ratio)).T)


def gene_sides(
    gene_num: tuple[Array, Array], gene_den: tuple[Array, Array], noise: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Compute variances (-1: none), sample effects and variance shares of the genes of both sides.

    Parameters
    ----------
    gene_num, gene_den, noise : pair of ndarray
        As for :func:`pair_estimate`.

    Returns
    -------
    phi1, phi2 : ndarray, shapes (left,) and (right,)
    effect1, effect2 : ndarray, shapes (n_samples, left) and (n_samples, right)
        See :func:`sample_effects`.
    share1, share2 : ndarray, shapes (n_samples, left) and (n_samples, right)
        See :func:`variance_shares`.
    """
    sides = list(zip(gene_num, gene_den, noise, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = [n.sum(1) / d.sum(1) for n, d, _ in sides]
    phi1, phi2 = (np.where(np.isfinite(p), p, -1.0) for p in phi)
    effect1, effect2 = (sample_effects(n, d) for n, d, _ in sides)
    share1, share2 = (variance_shares(n, d, v) for n, d, v in sides)
    return phi1, phi2, effect1, effect2, share1, share2


def within_range(lower: NDArray, upper: NDArray, largest: float = 1.0) -> tuple[NDArray, NDArray]:
    """Truncate limits at -`largest` and `largest`; NaN where nothing is left between them."""
    lower, upper = np.maximum(lower, -largest), np.minimum(upper, largest)
    left = lower < upper
    return np.where(left, lower, np.nan), np.where(left, upper, np.nan)


def pair_estimate(
    num: NDArray,
    den: NDArray,
    gene_num: tuple[Array, Array],
    gene_den: tuple[Array, Array],
    uncertainty: str,
    noise: tuple[Array, Array],
    draws: NDArray[np.int64] | None = None,
    compare_averages: bool = False,
) -> PairEstimate:
    r"""Estimate the correlation of every pair of a tile, with its standard error over samples.

    .. math:: \phi = \frac{\sum_c N_c}{\sum_c D_c}, \quad
              \rho_{jk} = \phi_{jk} / \sqrt{\phi_{jj}\phi_{kk}}

    To first order a sample's influence on rho is

    .. math:: x_c = \frac{N_{c,jk} - \phi_{jk} D_{c,jk}}{D_{jk}\sqrt{\phi_{jj}\phi_{kk}}}
                    - \frac{\rho}{2} \Big(\frac{N_{c,jj} - \phi_{jj} D_{c,jj}}{\phi_{jj} D_{jj}}
                    + \frac{N_{c,kk} - \phi_{kk} D_{c,kk}}{\phi_{kk} D_{kk}}\Big)

    and without the sample rho is :math:`\rho - x_c / (1 - b_c)`, where b_c is the mean of the
    sample's shares in both variances (:func:`variance_shares`). ``"jackknife"`` uses

    .. math:: d_c = \frac{x_c}{1 - b_c}, \quad se^2 = \frac{k-1}{k} \sum_c (d_c - \bar d)^2, \quad
              df = \frac{1}{\sum_c b_c^2} - 1

    over the k samples with information on the pair. It is first order because, for many pairs of
    sparse genes, the ratio itself is undefined without one sample. df is k - 1 if all samples have
    equal weight and smaller otherwise (Satterthwaite). ``"cluster"`` sums
    :math:`x_c^2 / (1 - b_c)`; ``"bootstrap"`` takes the variance over samples drawn with
    replacement, times k / (k - 1); both use the same df.

    The correlation weights the samples by their information D_c. Equal weights give another average
    where the samples' correlations depend on D_c: this is tested at the level of 0.01 by the
    regression of N_c / D_c on 1 / D_c with weights D_c, of which the difference of both averages is
    the coefficient, with k - 2 df.

    Parameters
    ----------
    num, den : ndarray, shape (n_samples, left, right)
        Sums N and D of the pairs.
    gene_num, gene_den : pair of ndarray, shapes (left, n_samples) and (right, n_samples)
        Sums N and D for the variances of the genes of both sides.
    uncertainty : {"jackknife", "cluster", "bootstrap", "none"}
        Method for the standard error.
    noise : pair of ndarray, shapes (left,) and (right,)
        As for :func:`variance_shares`.
    draws : ndarray, shape (n_draws, n_samples), optional
        Number of times each sample is drawn in each bootstrap resample.
    compare_averages : bool
        Whether to test averages by the information against equal weights.

    Returns
    -------
    PairEstimate
    """
    sides = gene_sides(gene_num, gene_den, noise)
    critical = _critical(len(num)) if compare_averages else np.empty(0)
    estimate = PairEstimate(
        *kernels.pairs.leave_out_variance(num, den, *sides, uncertainty == "cluster", critical)
    )
    if uncertainty != "bootstrap":
        return estimate
    assert draws is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p2 = (draws @ n.T / (draws @ d.T) for n, d in zip(gene_num, gene_den, strict=True))
        var = kernels.pairs.bootstrap_variance(num, den, draws, *sides[:2], p1, p2)
        k = np.where(estimate.carrying >= 3, estimate.carrying, np.nan)
        return replace(estimate, se=np.sqrt(var * k / (k - 1)))


@lru_cache(maxsize=8)
def _critical(n_samples: int) -> Array:
    """Return the critical values of F(1, k - 2) for k = 0, ..., `n_samples`; infinite below 3."""
    df = np.arange(n_samples + 1) - 2.0
    return np.where(df > 0, stats.f.isf(DIFFERENT_AVERAGES, 1, np.maximum(df, 1.0)), np.inf)


def one_group(
    num: NDArray, den: NDArray, gene_num: tuple[Array, Array], gene_den: tuple[Array, Array]
) -> NDArray:
    """Compute correlations from the sums over all cells, without standard errors.

    Parameters
    ----------
    num, den : ndarray, shape (left, right)
    gene_num, gene_den : pair of ndarray
        As for :func:`pair_estimate`.

    Returns
    -------
    ndarray, shape (left, right)
        Not clipped.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        phi1, phi2 = (n.sum(1) / d.sum(1) for n, d in zip(gene_num, gene_den, strict=True))
    out = np.empty_like(num)
    kernels.pairs.ratio(num, den, phi1, phi2, out)
    return out


def fisher_z(correlation: NDArray) -> NDArray:
    """Transform correlations by atanh; NaN outside (-1, 1)."""
    with np.errstate(invalid="ignore"):
        return np.arctanh(np.where(np.abs(correlation) < 1, correlation, np.nan))


def fisher_z_se(correlation: NDArray, se: NDArray) -> NDArray:
    """Return the standard error of atanh(r) from that of r, to first order; NaN outside (-1, 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(correlation) < 1, se / (1 - correlation**2), np.nan)


def p_values(estimate: PairEstimate, dtype: DTypeLike = np.float64) -> NDArray:
    """Compute the p-values of :func:`hiercorr.inference.pair_table` alone."""
    p = np.empty(estimate.se.shape, dtype)
    table = p_value_table(largest_df(estimate))
    kernels.pairs.t_p_value(*_tested(estimate, dtype), *table, p)
    return p


def _tested(estimate: PairEstimate, dtype: DTypeLike) -> list[NDArray]:
    """Return correlation, standard error and df in the precision of the result.

    Loops are then compiled once for each precision.
    """
    given = (estimate.correlation, estimate.se, estimate.df)
    return [np.ascontiguousarray(x, dtype) for x in given]


def largest_df(estimate: PairEstimate) -> float:
    """Round the largest df up to a power of 2, so that the tiles of a fit share a table."""
    largest = max(float(np.nanmax(estimate.df, initial=1.0)), 1.0)
    return float(2.0 ** np.ceil(np.log2(largest)))


def bootstrap_draws(
    n_samples: int, n_draws: int, seed: int | np.random.Generator | None
) -> NDArray[np.int64]:
    """Draw bootstrap resamples of the samples; a resample of a single sample is redrawn.

    Parameters
    ----------
    n_samples, n_draws : int
    seed : int, numpy.random.Generator or None

    Returns
    -------
    ndarray, shape (n_draws, n_samples)
        Number of times each sample is drawn.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=n_draws)
    while (single := draws.max(1) == n_samples).any():
        draws[single] = rng.multinomial(
            n_samples, np.full(n_samples, 1 / n_samples), size=int(single.sum())
        )
    return draws


def _df_grid(max_df: float) -> tuple[Array, float, float]:
    """Return degrees of freedom from LEAST_DF to `max_df`, the first of their logs and the step."""
    low = float(np.log(LEAST_DF))
    grid = np.linspace(low, np.log(max_df), 4 + int((np.log(max_df) - low) / 0.03))
    return np.exp(grid), low, float(grid[1] - grid[0])


@lru_cache(maxsize=8)
def p_value_table(max_df: float) -> tuple[Array, float, float, float]:
    """Tabulate p-values of Student's t for :func:`hiercorr.kernels.pairs.t_p_value`.

    Interpolated p-values have a relative error below 1e-6.

    Parameters
    ----------
    max_df : float
        Largest degrees of freedom of the table.

    Returns
    -------
    log_p : ndarray, shape (n_df, n_t)
        Log of the two-sided p-value on a grid of log df, from log LEAST_DF to log `max_df`, and
        asinh |t|, from 0 to 20.
    low, step_df, step_t : float
        First log df and the two spacings of the grid.
    """
    df, low, step_df = _df_grid(max_df)
    step_t = 0.01
    with np.errstate(divide="ignore"):
        p = 2 * special.stdtr(df[:, None], -np.sinh(np.arange(0, 20, step_t)))
        log_p = np.maximum(np.log(p), -800.0)  # exp(-800) is 0
    return log_p, low, step_df, step_t


@lru_cache(maxsize=8)
def quantile_table(max_df: float, confidence: float) -> tuple[Array, float, float]:
    """Tabulate quantiles of Student's t for :func:`hiercorr.kernels.pairs.t_interval`.

    Interpolated quantiles have a relative error below 1e-6.

    Parameters
    ----------
    max_df : float
        Largest degrees of freedom of the table.
    confidence : float
        Confidence level.

    Returns
    -------
    log_quantile : ndarray, shape (n_df,)
        Log of the quantile on the grid of :func:`p_value_table`.
    low, step_df : float
        First log df and the spacing of the grid.
    """
    df, low, step_df = _df_grid(max_df)
    return np.log(stats.t.ppf(0.5 + confidence / 2, df)), low, step_df


@lru_cache(maxsize=32)
def log_p_table(df: float, scale: float = 1.0) -> tuple[Array, float]:
    """Tabulate the log of the two-sided p-value of Student's t as far as float64 represents p.

    Parameters
    ----------
    df : float
        Degrees of freedom.
    scale : float
        Unit of t on the grid.

    Returns
    -------
    log_p : ndarray
        Values at asinh(t / scale) = 0, step, 2 step, ...
    step : float
    """
    step = 1e-4
    with np.errstate(divide="ignore", over="ignore"):
        log_p = np.log(2 * special.stdtr(df, -scale * np.sinh(np.arange(0, 20, step))))
    return log_p[: int(np.isfinite(log_p).sum())], step
