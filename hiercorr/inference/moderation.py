r"""Empirical-Bayes moderation of the residual variances of many genes.

Each gene has a variance :math:`s_j^2` on :math:`d_j` residual degrees of freedom. The variances of
all genes are taken to come from one scaled inverse chi-squared distribution, so that

.. math:: s_j^2 \mid \sigma_j^2 \sim \frac{\sigma_j^2}{d_j} \chi^2_{d_j}, \qquad
          \frac{1}{\sigma_j^2} \sim \frac{1}{d_0 s_0^2} \chi^2_{d_0}, \qquad
          \tilde s_j^2 = \frac{d_0 s_0^2 + d_j s_j^2}{d_0 + d_j}

(Smyth 2004). The prior variance :math:`s_0^2` and its degrees of freedom :math:`d_0` are estimated
from the genes: :math:`s_j^2 / s_0^2` has an F distribution, whose logarithm has known moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from hiercorr.errors import InputError

Array = NDArray[np.float64]
# Proportions of the log variances that are winsorised below and above (Phipson et al. 2016).
_TAILS = (0.05, 0.1)
_SPAN = 0.4  # of the smooth trend under robust estimation
_TINY = 1e-15


@dataclass(frozen=True)
class SqueezedVariances:
    """Variances of G genes after borrowing of information between them.

    Attributes
    ----------
    posterior : ndarray, shape (G,)
        Posterior variances; NaN for genes without a variance.
    prior : ndarray, shape (G,)
        Prior variances.
    prior_df : ndarray, shape (G,)
        Degrees of freedom of the prior; infinite if the variances do not differ between genes.
    df : ndarray, shape (G,)
        Residual degrees of freedom.
    """

    posterior: Array
    prior: Array
    prior_df: Array
    df: Array

    @property
    def total_df(self) -> Array:
        """Degrees of freedom of the moderated t: residual and prior, no more than all residual."""
        usable = np.isfinite(self.posterior)
        return np.minimum(self.df + self.prior_df, self.df[usable].sum())


def squeeze_variances(
    s2: ArrayLike, df: ArrayLike, covariate: ArrayLike | None = None, robust: bool = False
) -> SqueezedVariances:
    r"""Shrink variances towards a common value or a trend, as limma's ``squeezeVar``.

    Parameters
    ----------
    s2 : array, shape (G,)
        Residual variances; NaN for genes that are to be ignored.
    df : array, shape (G,), or float
        Residual degrees of freedom.
    covariate : array, shape (G,), optional
        Mean log expression: the log of the prior variance is then a natural cubic spline of it.
    robust : bool
        Whether the prior is estimated from winsorised log variances, and hypervariable genes get a
        prior with fewer degrees of freedom.

    Returns
    -------
    SqueezedVariances

    Raises
    ------
    InputError
        If a variance or its degrees of freedom are negative, or the shapes differ.

    References
    ----------
    Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3; Phipson et al. 2016,
    Annals of Applied Statistics 10:946 (robust).

    Examples
    --------
    >>> from hiercorr.inference import squeeze_variances
    >>> squeezed = squeeze_variances([0.2, 0.4, 0.9, 4.0], 3)
    >>> squeezed.posterior.round(2).tolist(), squeezed.prior_df.round(1).tolist()[0]
    ([0.52, 0.61, 0.84, 2.24], 3.7)
    """
    s2 = np.asarray(s2, float)
    d = np.broadcast_to(np.asarray(df, float), s2.shape).copy()
    x = None if covariate is None else np.asarray(covariate, float)
    if s2.ndim != 1 or (x is not None and x.shape != s2.shape):
        raise InputError(
            f"s2 and covariate must be arrays of one value per gene, not of shapes {s2.shape} and "
            f"{None if x is None else x.shape}"
        )
    if (s2 < 0).any() or not (d >= 0).all():
        raise InputError("variances and degrees of freedom must not be negative")
    known = np.isfinite(s2) & (d > _TINY) & np.isfinite(d)
    if x is not None and not np.isfinite(x[known]).all():
        raise InputError("the covariate must be finite for every gene with a variance")
    prior, prior_df = np.full(s2.shape, np.nan), np.zeros(s2.shape)
    if known.sum() > 1:
        fit = _robust_prior if robust else _prior
        where = None if x is None else x[known]
        prior[known], prior_df[known] = fit(s2[known], d[known], where)
    with np.errstate(invalid="ignore"):
        total = prior_df + d
        posterior = np.where(np.isinf(prior_df), prior, (prior_df * prior + d * s2) / total)
    posterior = np.where(prior_df > 0, posterior, s2)  # nothing was borrowed
    posterior[~known] = np.nan
    return SqueezedVariances(posterior, prior, prior_df, d)


def trigamma_inverse(x: ArrayLike) -> Array:
    """Return the y with trigamma(y) = x > 0, by Newton's method on 1 / trigamma (Smyth 2004)."""
    value = np.asarray(x, float)
    large, small = value > 1e7, value < 1e-6
    inner = np.where(large | small, 1.0, value)
    y = 0.5 + 1 / inner
    for _ in range(50):
        tri = special.polygamma(1, y)
        step = tri * (1 - tri / inner) / special.polygamma(2, y)
        y = y + step
        if np.max(-step / y, initial=0) < 1e-10:
            break
    return np.where(large, 1 / np.sqrt(value), np.where(small, 1 / value, y))


def _prior(s2: Array, df: Array, covariate: Array | None) -> tuple[Array, float]:
    """Estimate prior variances and their degrees of freedom by the moments of log F."""
    middle = np.median(s2)
    x = np.maximum(s2, 1e-5 * (middle if middle > 0 else 1.0))
    e = np.log(x) - special.digamma(df / 2) + np.log(df / 2)
    basis = np.ones((len(x), 1)) if covariate is None else _natural_spline(covariate)
    q = np.linalg.qr(basis)[0]
    mean = q @ (q.T @ e)
    free = len(x) - basis.shape[1]
    if free < 1:
        return np.exp(mean), 0.0
    excess = ((e - mean) ** 2).sum() / free - special.polygamma(1, df / 2).mean()
    if excess <= 0:  # no more variable than for equal variances: their pooled value
        pooled = np.full(len(x), x.mean()) if basis.shape[1] == 1 else np.exp(mean)
        return pooled, np.inf
    prior_df = 2 * float(trigamma_inverse(excess))
    return np.exp(mean + special.digamma(prior_df / 2) - np.log(prior_df / 2)), prior_df


def _natural_spline(x: Array) -> Array:
    """Return a basis of the natural cubic splines of x, knots at its quantiles.

    The dimension is 1 to 4, depending on the number of genes; fitted values depend on the space
    only, for which truncated powers are a basis.
    """
    n = len(x)
    k = min(1 + (n >= 3) + (n >= 6) + (n >= 30), len(np.unique(x)))
    if k < 2:
        return np.ones((n, 1))
    u = (x - x.min()) / np.ptp(x)
    knots = np.quantile(u, np.linspace(0, 1, k))
    columns = [np.ones(n), u]
    if k > 2:
        cubes = np.maximum(u[:, None] - knots, 0) ** 3
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (cubes[:, :-1] - cubes[:, -1:]) / (knots[-1] - knots[:-1])
        columns += [*(slopes[:, :-1] - slopes[:, -1:]).T]
    basis = np.column_stack(columns)
    u_, d, _ = np.linalg.svd(basis, full_matrices=False)
    return np.asarray(u_[:, d > 1e-10 * d[0]])


def _robust_prior(s2: Array, df: Array, covariate: Array | None) -> tuple[Array, Array]:
    """Estimate the prior by winsorised moments, and a prior df for each gene."""
    n = len(s2)
    x = np.maximum(s2, 1e-12 * np.median(s2))
    scale, plain_df = _prior(x, df, covariate)
    plain = scale, np.full(n, plain_df)
    if n < 3 or not x.min() > 0 or all(tail < 1 / n for tail in _TAILS):
        return plain
    d = float(df.max())
    z = np.log(_to_common_df(x, scale, df, d, plain_df))
    trend = _smooth_trend(z, covariate)
    low, high = np.quantile(z - trend, [_TAILS[0], 1 - _TAILS[1]])
    clipped = np.clip(z - trend, low, high)
    mean, variance = clipped.mean(), clipped.var(ddof=1)

    def surplus(at: float) -> float:  # at is df / (1 + df)
        prior_df = at / (1 - at) if at < 1 else np.inf
        return float(np.log(variance / _winsorised_moments(d, prior_df)[1]))

    if surplus(1.0) <= 0:
        prior_df = np.inf
    elif np.isinf(plain_df):
        return plain
    else:
        start = plain_df / (1 + plain_df)
        below = surplus(start) < 0
        root = optimize.brentq(surplus, start, 1.0, xtol=1e-14) if below else start
        prior_df = root / (1 - root)
    center = trend + mean - _winsorised_moments(d, prior_df)[0]
    shrunk = _outlier_df(np.exp(z - center), d, prior_df)
    return np.exp(center), shrunk


def _to_common_df(x: Array, scale: Array, df: Array, d: float, prior_df: float) -> Array:
    """Move variances to d degrees of freedom, at equal tail probability."""
    fewer = df < d - 1e-14
    if not fewer.any():
        return x
    out, f = x.copy(), x[fewer] / scale[fewer]
    upper, lower = _tail(f, df[fewer], prior_df), _head(f, df[fewer], prior_df)
    same = _distribution(d, prior_df)
    moved = np.where(upper < lower, same.isf(upper), same.ppf(lower))
    out[fewer] = moved * scale[fewer]
    return out


def _distribution(df: float | Array, prior_df: float) -> stats.rv_frozen:
    """Return the distribution of a variance relative to its prior."""
    return stats.chi2(df, scale=1 / df) if np.isinf(prior_df) else stats.f(df, prior_df)


def _tail(f: Array, df: float | Array, prior_df: float) -> Array:
    return np.asarray(_distribution(df, prior_df).sf(f))


def _head(f: Array, df: float | Array, prior_df: float) -> Array:
    return np.asarray(_distribution(df, prior_df).cdf(f))


def _log_tail(f: Array, df: float, prior_df: float) -> Array:
    """Return the log of the upper tail of F, also where the tail itself is 0 in floating point."""
    p = _tail(f, df, prior_df)
    a, b = prior_df / 2, df / 2
    with np.errstate(divide="ignore"):
        if np.isinf(prior_df):
            return np.log(p)
        far = -a * np.log1p(df * f / prior_df) - np.log(a) - special.betaln(a, b)
        return np.where(p > 1e-290, np.log(p), far)


def _smooth_trend(z: Array, covariate: Array | None) -> Array:
    """Return a trimmed mean, or a lowess curve over the covariate."""
    if covariate is None:
        return np.full(len(z), stats.trim_mean(z, _TAILS[1]))
    from statsmodels.nonparametric.smoothers_lowess import lowess

    delta = 0.01 * np.ptp(covariate)
    return np.asarray(lowess(z, covariate, frac=_SPAN, it=3, delta=delta, return_sorted=False))


def _winsorised_moments(df: float, prior_df: float) -> tuple[float, float]:
    """Return mean and variance of log F winsorised at the tails, by Gauss-Legendre quadrature."""
    law = _distribution(df, prior_df)
    ends = np.array([law.ppf(_TAILS[0]), law.isf(_TAILS[1])])
    log_ends, (a, b) = np.log(ends), ends / (1 + ends)
    nodes, weights = np.polynomial.legendre.leggauss(128)
    u = a + (b - a) * (nodes + 1) / 2
    f = u / (1 - u)
    mass = (b - a) / 2 * weights * law.pdf(f) / (1 - u) ** 2
    log_f, tails = np.log(f), np.array(_TAILS)
    mean = mass @ log_f + log_ends @ tails
    return float(mean), float(mass @ (log_f - mean) ** 2 + (log_ends - mean) ** 2 @ tails)


def _outlier_df(f: Array, df: float, prior_df: float) -> Array:
    """Reduce the prior df of genes whose variance is larger than the prior explains."""
    n = len(f)
    log_tail = _log_tail(f, df, prior_df)
    log_rank = np.log((n - stats.rankdata(f) + 0.5) / n)
    log_regular = np.minimum(log_tail - log_rank, 0)
    out = np.full(n, prior_df)
    if not (log_regular < 0).any():
        return out
    order: NDArray[np.int64] = np.argsort(log_tail, kind="stable")
    if np.isinf(prior_df):
        outlying = log_regular < 0
        out[outlying] = np.exp(log_regular[outlying]) * n * df
        out[order] = np.maximum.accumulate(out[order])
        return out
    # The df under which the largest variance would be the median one: log tails are nearly
    # proportional to the df, so that two steps suffice.
    least = prior_df
    for _ in range(2):
        least *= np.log(0.5) / float(_log_tail(f.max(), df, least))
    regular = np.exp(log_regular)
    ordered = (regular * prior_df - np.expm1(log_regular) * least)[order]
    running = np.cumsum(ordered) / np.arange(1, n + 1)
    lowest = int(running.argmin())
    ordered[: lowest + 1] = running[lowest]
    out[order] = np.maximum.accumulate(ordered)
    return out
