"""Correlation of gene pairs with uncertainty over samples: jackknife, cluster and bootstrap standard errors, t tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special, stats

from hiercorr import kernels

Array = NDArray[np.float64]


UNCERTAINTIES = ("jackknife", "cluster", "bootstrap", "none")


LEAST_DF = 0.05  # 95% of such a t lies within +-1e25: no interval


@dataclass(frozen=True)
class PairEstimate:
    """Correlation of the pairs of one tile with its uncertainty over samples; all arrays (left, right).

    Attributes
    ----------
    correlation : ndarray
        Ratio of sums, not clipped.
    se : ndarray
        Its standard error; NaN with fewer than 3 samples.
    df : ndarray
        Degrees of freedom of its t distribution.
    carrying : ndarray of int
        Samples that hold information on the pair.
    largest_share : ndarray
        Share of the sample that holds most of it.
    """

    correlation: NDArray
    se: NDArray
    df: NDArray
    carrying: NDArray[np.int32]
    largest_share: NDArray[np.float32]


def variance_shares(num: Array, den: Array, noise: Array) -> Array:
    r"""Each sample's part in the variance of a gene, shape (n_samples, n_genes): its leverage on correlations.

    .. math:: b_c = q_c + \sqrt\kappa\,\Big(\frac{N_c^+}{\sum N^+} - q_c\Big), \quad q_c = \frac{D_c}{\sum D}, \quad
              \kappa = 1 - \frac{v / (D \phi^2)}{\sum_c (N_c^+ / \sum N^+ - q_c)^2}

    The share in the sum of squares N, drawn towards the share in the information D by what Poisson noise alone makes of
    their difference; :math:`\kappa` is cut at 0.

    Parameters
    ----------
    num, den : ndarray, shape (n_genes, n_samples)
    noise : ndarray, shape (n_genes,)
        v, the variance of N_c under Poisson noise alone divided by D_c.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = den.sum(1, keepdims=True)
        q = np.clip(den, 0, None) / np.clip(den, 0, None).sum(1, keepdims=True)
        positive = np.clip(num, 0, None)
        off = positive / positive.sum(1, keepdims=True) - q
        by_chance = noise[:, None] / (total * (num.sum(1, keepdims=True) / total) ** 2)
        kappa = np.clip(1 - by_chance / (off**2).sum(1, keepdims=True), 0, 1)
        return np.ascontiguousarray((q + np.sqrt(np.nan_to_num(kappa)) * np.nan_to_num(off)).T)


def sample_effects(num: Array, den: Array) -> Array:
    """Each sample's relative influence on a ratio of sums, (N_c - f D_c) / (f D); shape (n_samples, n_genes).

    Parameters
    ----------
    num, den : ndarray, shape (n_genes, n_samples)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = den.sum(1, keepdims=True)
        ratio = num.sum(1, keepdims=True) / total
        return np.ascontiguousarray(((num - ratio * den) / (total * ratio)).T)


def gene_sides(
    gene_num: tuple[Array, Array], gene_den: tuple[Array, Array], noise: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """What the kernels of pairs need of the genes of both sides: variances (-1: none), samples' effects and shares."""
    sides = list(zip(gene_num, gene_den, noise, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = [n.sum(1) / d.sum(1) for n, d, _ in sides]
    phi1, phi2 = (np.where(np.isfinite(p), p, -1.0) for p in phi)
    effect1, effect2 = (sample_effects(n, d) for n, d, _ in sides)
    share1, share2 = (variance_shares(n, d, v) for n, d, v in sides)
    return phi1, phi2, effect1, effect2, share1, share2


def pair_estimate(
    num: NDArray,
    den: NDArray,
    gene_num: tuple[Array, Array],
    gene_den: tuple[Array, Array],
    uncertainty: str,
    noise: tuple[Array, Array],
    draws: NDArray[np.int64] | None = None,
) -> PairEstimate:
    r"""Correlation of every pair of a tile from each sample's sums, with its standard error.

    .. math:: \phi = \frac{\sum_c N_c}{\sum_c D_c}, \quad \rho_{jk} = \phi_{jk} / \sqrt{\phi_{jj}\phi_{kk}}

    To first order a sample's influence on rho is

    .. math:: x_c = \frac{N_{c,jk} - \phi_{jk} D_{c,jk}}{D_{jk}\sqrt{\phi_{jj}\phi_{kk}}}
                    - \frac{\rho}{2} \Big(\frac{N_{c,jj} - \phi_{jj} D_{c,jj}}{\phi_{jj} D_{jj}}
                    + \frac{N_{c,kk} - \phi_{kk} D_{c,kk}}{\phi_{kk} D_{kk}}\Big)

    and without the sample rho is :math:`\rho - x_c / (1 - b_c)`, b_c the mean of its shares in both variances
    (:func:`variance_shares`). ``"jackknife"`` takes

    .. math:: d_c = \frac{x_c}{1 - b_c}, \quad se^2 = \frac{k-1}{k} \sum_c (d_c - \bar d)^2, \quad
              df = \frac{1}{\sum_c b_c^2} - 1

    over the k samples that carry the pair. First order, because the ratio itself is undefined without one sample for many
    pairs of sparse genes. df is k - 1 if all samples weigh the same, and never more: a sum of squares of unequal terms
    varies more than their number says (Satterthwaite). ``"cluster"`` sums :math:`x_c^2 / (1 - b_c)`; ``"bootstrap"`` takes
    the variance over samples drawn with replacement, times k / (k - 1); df is the same.

    Parameters
    ----------
    num, den : ndarray, shape (n_samples, left, right)
    gene_num, gene_den : pair of ndarray, shapes (left, n_samples) and (right, n_samples)
        The sums for the variances of the genes of both sides.
    uncertainty : {"jackknife", "cluster", "bootstrap", "none"}
    noise : pair of ndarray, shapes (left,) and (right,)
        As for :func:`variance_shares`.
    draws : ndarray, shape (n_draws, n_samples), optional
        How often each sample is drawn, for the bootstrap.
    """
    sides = gene_sides(gene_num, gene_den, noise)
    estimate = PairEstimate(
        *kernels.pairs.leave_out_variance(num, den, *sides, uncertainty == "cluster")
    )
    if uncertainty != "bootstrap":
        return estimate
    assert draws is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p2 = (draws @ n.T / (draws @ d.T) for n, d in zip(gene_num, gene_den, strict=True))
        var = kernels.pairs.bootstrap_variance(num, den, draws, *sides[:2], p1, p2)
        k = np.where(estimate.carrying >= 3, estimate.carrying, np.nan)
        return replace(estimate, se=np.sqrt(var * k / (k - 1)))


def one_group(
    num: NDArray, den: NDArray, gene_num: tuple[Array, Array], gene_den: tuple[Array, Array]
) -> dict[str, NDArray]:
    """As :func:`pair_estimate` from the sums of all cells: the correlation alone, and its atanh."""
    with np.errstate(divide="ignore", invalid="ignore"):
        phi1, phi2 = (n.sum(1) / d.sum(1) for n, d in zip(gene_num, gene_den, strict=True))
    tile = {"correlation_unclipped": np.empty_like(num), "fisher_z": np.empty_like(num)}
    kernels.pairs.ratio(num, den, phi1, phi2, *tile.values())
    return tile


def fisher_z(correlation: NDArray) -> NDArray:
    """atanh of the correlation; NaN outside (-1, 1)."""
    with np.errstate(invalid="ignore"):
        return np.arctanh(np.where(np.abs(correlation) < 1, correlation, np.nan))


def pair_table(
    estimate: PairEstimate, confidence: float, dtype: DTypeLike = np.float64
) -> dict[str, NDArray]:
    """Test and interval of every pair: t = rho / se, rho -+ t se cut at -1 and 1, also for an estimate beyond 1.

    On the scale of rho, not of atanh(rho): the noise of counts does not shrink as rho goes to 1, as Fisher's z would have
    it. ``se`` of the table is that of atanh(rho), se / (1 - rho^2), for those who combine results.
    """
    names = ("fisher_z", "se", "ci_lower", "ci_upper", "statistic", "df", "p_value")
    out = {name: np.empty(estimate.se.shape, dtype) for name in names}
    most = float(np.nanmax(estimate.df, initial=1.0))
    table = student_table(
        2.0 ** np.ceil(np.log2(max(most, 1.0))), confidence
    )  # one table for all tiles of a fit
    kernels.pairs.t_inference(estimate.correlation, estimate.se, estimate.df, *table, *out.values())
    return out


def bootstrap_draws(
    n_samples: int, n_draws: int, seed: int | np.random.Generator | None
) -> NDArray[np.int64]:
    """How often each sample is drawn in each resample; draws of one sample only are redrawn.

    Returns
    -------
    ndarray, shape (n_draws, n_samples)
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=n_draws)
    while (single := draws.max(1) == n_samples).any():
        draws[single] = rng.multinomial(
            n_samples, np.full(n_samples, 1 / n_samples), size=int(single.sum())
        )
    return draws


@lru_cache(maxsize=8)
def student_table(most: float, confidence: float) -> tuple[Array, Array, float, float, float]:
    """Student's t on a grid, for :func:`hiercorr.kernels.pairs.t_inference`: relative error of p and quantile below 1e-6.

    Returns
    -------
    log_p : ndarray, shape (n_df, n_t)
        log of the two-sided p, at log df from log LEAST_DF to log `most` and asinh |t| from 0 to 20.
    log_quantile : ndarray, shape (n_df,)
    low, step_df, step_t : float
    """
    low = float(np.log(LEAST_DF))
    grid = np.linspace(low, np.log(most), 4 + int((np.log(most) - low) / 0.03))
    step_t = 0.01
    df, t = np.exp(grid)[:, None], np.sinh(np.arange(0, 20, step_t))
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(2 * special.stdtr(df, -t)), -800.0)  # exp(-800) is 0
    log_quantile = np.log(stats.t.ppf(0.5 + confidence / 2, df[:, 0]))
    return log_p, log_quantile, low, float(grid[1] - grid[0]), step_t


@lru_cache(maxsize=32)
def log_p_table(df: float, scale: float = 1.0) -> tuple[Array, float]:
    """log of the two-sided p at asinh(t / scale) = 0, step, 2 step, ... up to where p leaves float64's range."""
    step = 1e-4
    with np.errstate(divide="ignore", over="ignore"):
        log_p = np.log(2 * special.stdtr(df, -scale * np.sinh(np.arange(0, 20, step))))
    return log_p[: int(np.isfinite(log_p).sum())], step
