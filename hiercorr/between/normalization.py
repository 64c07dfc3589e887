"""Library sizes, log expression and precision weights of pseudobulk counts (samples x genes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hiercorr.errors import InputError, one_of

Array = NDArray[np.float64]
NORMALIZATIONS = ("tmm", "median_of_ratios", "cpm")


def library_sizes(counts: ArrayLike, totals: ArrayLike, method: str = "tmm") -> Array:
    r"""Return effective library sizes :math:`L_c f_c`, with factors f of geometric mean 1.

    Parameters
    ----------
    counts : array, shape (n_samples, n_genes)
        Sums of counts over ALL genes measured, not only those to be correlated.
    totals : array, shape (n_samples,)
        Sequencing depth of each sample in counts.
    method : {"tmm", "median_of_ratios", "cpm"}
        Trimmed mean of M-values as in edgeR; medians of ratios to the geometric mean as in DESeq2;
        none. The first two measure a sample's library by its counts, so that `totals` only sets the
        common scale.

    Returns
    -------
    ndarray, shape (n_samples,)

    Raises
    ------
    InputError
        If the method is unknown, or no gene is suitable for it.

    References
    ----------
    Robinson & Oshlack 2010, Genome Biology 11:R25, and Robinson, McCarthy & Smyth 2010,
    Bioinformatics 26:139 (TMM as in edgeR); Anders & Huber 2010, Genome Biology 11:R106 (median of
    ratios).

    Examples
    --------
    >>> from hiercorr.between.normalization import library_sizes
    >>> library_sizes([[10, 20, 30], [20, 40, 60]], [60, 120], "median_of_ratios").round(6).tolist()
    [60.0, 120.0]
    """
    x, size = np.asarray(counts, float), np.asarray(totals, float)
    one_of("normalization", method, NORMALIZATIONS)
    if method == "cpm":
        return size
    effective = _tmm(x) if method == "tmm" else _median_of_ratios(x)
    return effective * np.exp(np.mean(np.log(size / effective)))


def _tmm(counts: Array) -> Array:
    """Scale the libraries by trimmed means of M-values, as edgeR's ``calcNormFactors``."""
    total = counts.sum(1)
    found = counts[:, (counts > 0).any(0)]
    if not (total > 0).all():
        raise InputError("TMM gives no factor for a sample without counts; leave it out")
    reference = _reference_sample(found, total)
    shared = ((found > 0) & (found[reference] > 0)).any(1)
    if not shared.all():
        raise InputError(
            f"TMM gives no factor for {int((~shared).sum())} of {len(total)} samples: they share "
            "no gene with the reference sample; use normalization='cpm'"
        )
    own = found[reference], total[reference]
    return total * np.array([_tmm_factor(x, t, *own) for x, t in zip(found, total, strict=True)])


def _reference_sample(counts: Array, total: Array) -> int:
    """Choose the sample whose upper quartile, relative to its library, is nearest to the mean.

    The richest sample where most upper quartiles are 0. Of samples at the same distance the one
    with more counts, so that the choice does not depend on their order.
    """
    quartile = np.quantile(counts, 0.75, axis=1) / total
    roots = np.sqrt(counts).sum(1)
    if np.median(quartile) < 1e-20:
        return int(roots.argmax())
    distance = np.abs(quartile - quartile.mean())
    nearest = np.flatnonzero(distance <= distance.min() + 1e-12 * quartile.max())
    return int(nearest[np.lexsort((roots[nearest], total[nearest]))[-1]])


def _tmm_factor(counts: Array, total: float, reference: Array, reference_total: float) -> float:
    """Return the precision-weighted mean log ratio of a sample to the reference, trimmed.

    30% of the genes are left out at each end of the log ratios, 5% at each end of the mean logs.
    """
    both = (counts > 0) & (reference > 0)
    x, y = counts[both], reference[both]
    ratio = np.log2((x / total) / (y / reference_total))
    level = (np.log2(x / total) + np.log2(y / reference_total)) / 2
    if np.abs(ratio).max() < 1e-6:
        return 1.0
    keep = np.ones(len(x), bool)
    for values, proportion in ((ratio, 0.3), (level, 0.05)):
        trimmed, rank = np.floor(len(x) * proportion), stats.rankdata(values)
        keep &= (rank >= trimmed + 1) & (rank <= len(x) - trimmed)
    if not keep.any():
        return 1.0
    precision = 1 / ((total - x) / total / x + (reference_total - y) / reference_total / y)[keep]
    return float(2 ** ((precision * ratio[keep]).sum() / precision.sum()))


def _median_of_ratios(counts: Array) -> Array:
    everywhere = (counts > 0).all(0)
    if not everywhere.any():
        raise InputError(
            "median_of_ratios needs genes with counts in every sample and there is none; use "
            "normalization='tmm'"
        )
    log = np.log(counts[:, everywhere])
    return np.exp(np.median(log - log.mean(0), axis=1))


def log_cpm(counts: ArrayLike, libraries: ArrayLike, prior_count: float = 2.0) -> Array:
    r"""Return log2 counts per million as edgeR's ``cpm(log=TRUE)``.

    The prior count is proportional to the library size:

    .. math:: y_{cj} = \log_2 \frac{T_{cj} + a_c}{L_c + 2 a_c}\,10^6, \qquad a_c = a L_c / \bar L

    Parameters
    ----------
    counts : array, shape (n_samples, n_genes)
    libraries : array, shape (n_samples,)
        Effective library sizes.
    prior_count : float
        Average prior count a.

    Returns
    -------
    ndarray, shape (n_samples, n_genes)
    """
    size = np.asarray(libraries, float)[:, None]
    prior = prior_count * size / size.mean()
    return np.asarray(np.log2((np.asarray(counts, float) + prior) / (size + 2 * prior) * 1e6))


@dataclass(frozen=True)
class Voom:
    """log2 counts per million and precision weights, arrays (n_samples, n_genes)."""

    expression: Array
    weights: Array


def voom(counts: ArrayLike, libraries: ArrayLike, design: ArrayLike) -> Voom:
    r"""Estimate precision weights from the mean-variance trend (limma-voom).

    A lowess curve of :math:`\sqrt{sd_j}` on the mean log2 count of the genes is read at each fitted
    count; the weight is its value to the power -4.

    Parameters
    ----------
    counts : array, shape (n_samples, n_genes)
    libraries : array, shape (n_samples,)
        Effective library sizes.
    design : array, shape (n_samples, n_coefficients)

    Returns
    -------
    Voom

    References
    ----------
    Law et al. 2014, Genome Biology 15:R29.
    """
    from statsmodels.nonparametric.smoothers_lowess import lowess

    x, size, d = (
        np.asarray(counts, float),
        np.asarray(libraries, float)[:, None],
        np.asarray(design, float),
    )
    y = np.log2((x + 0.5) / (size + 1) * 1e6)
    fitted = d @ np.linalg.lstsq(d, y, rcond=None)[0]
    df = len(y) - np.linalg.matrix_rank(d)
    if df < 1:
        raise InputError(
            f"precision weights need residual degrees of freedom; {len(y)} samples leave none"
        )
    used = (x > 0).any(0)
    if used.sum() < 10:
        raise InputError(
            f"precision weights need a trend over genes; {used.sum()} genes are too few: use "
            "method='ols'"
        )
    sd = np.sqrt(((y - fitted) ** 2).sum(0) / df)
    level = y.mean(0) + np.mean(np.log2(size + 1)) - np.log2(1e6)
    delta = 0.01 * np.ptp(level[used])  # as R's lowess
    curve = lowess(np.sqrt(sd[used]), level[used], frac=0.5, it=3, delta=delta)
    trend = np.interp(fitted + np.log2(size + 1) - np.log2(1e6), curve[:, 0], curve[:, 1])
    if not (trend > 0).all():
        raise InputError(
            "the trend of the variance reaches 0: precision weights are undefined; use method='ols'"
        )
    return Voom(y, trend**-4.0)


def lowest_correlation(codes: NDArray[np.int64]) -> float:
    """Return the lowest correlation that all samples of the largest group can share, + 0.01."""
    return float(1 / (1 - np.bincount(codes).max()) + 0.01)


def block_correlation(
    expression: Array, design: Array, blocks: NDArray[np.int64], weights: Array | None = None
) -> float:
    r"""Estimate the consensus correlation within blocks by REML (limma's duplicateCorrelation).

    Each gene's residual correlation matrix has :math:`\rho_j` between samples of a block; the
    consensus is the tanh of the 15%-trimmed mean of atanh(rho).

    Parameters
    ----------
    expression : ndarray, shape (n_samples, n_genes)
    design : ndarray, shape (n_samples, n_coefficients)
    blocks : ndarray of int, shape (n_samples,)
        Block of each sample.
    weights : ndarray, shape (n_samples, n_genes), optional
        Precision weights.

    Returns
    -------
    float

    References
    ----------
    Smyth, Michaud & Scott 2005, Bioinformatics 21:2067.
    """
    low, high = lowest_correlation(blocks), 0.99
    member = (blocks[:, None] == np.unique(blocks)).astype(float)
    s, k = design.shape
    root = np.ones((1, s)) if weights is None else np.sqrt(weights.T)
    # The null space of every gene's weighted design; unweighted genes share one.
    q = np.linalg.qr(root[:, :, None] * design, mode="complete")[0][:, :, k:]
    u, d, _ = np.linalg.svd(np.swapaxes(q, 1, 2) @ member)
    eigen = np.zeros((len(q), s - k))
    eigen[:, : d.shape[1]] = d**2
    y = (expression.T * root)[:, :, None]
    squares = np.broadcast_to(
        (np.swapaxes(u, 1, 2) @ np.swapaxes(q, 1, 2) @ y)[:, :, 0] ** 2, (y.shape[0], s - k)
    )
    eigen = np.broadcast_to(eigen, squares.shape)
    alive = squares.sum(1) > 1e-12
    if not alive.any():
        raise InputError(
            "the within-block correlation cannot be estimated: every gene is constant given the "
            "formula"
        )
    found = _reml_correlation(squares[alive], eigen[alive], low, high)
    return float(np.tanh(stats.trim_mean(np.arctanh(found), 0.15)))


def _reml_correlation(squares: Array, eigen: Array, low: float, high: float) -> Array:
    """Maximise the restricted likelihood of each gene over rho: a grid, then golden section."""
    m = squares.shape[1]

    def loss(rho: Array) -> Array:
        v = 1 + (rho / (1 - rho))[:, None] * eigen
        bad = np.asarray((v <= 1e-9).any(1))
        v = np.where(bad[:, None], 1.0, v)
        return np.where(bad, np.inf, np.log(v).sum(1) + m * np.log((squares / v).sum(1)))

    grid = np.linspace(low, high, 65)
    best = np.array([loss(np.full(len(squares), g)) for g in grid]).argmin(0)
    a, b = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, 64)]
    shrink = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        c, d = b - shrink * (b - a), a + shrink * (b - a)
        left = loss(c) < loss(d)
        a, b = np.where(left, a, c), np.where(left, d, b)
    return (a + b) / 2
