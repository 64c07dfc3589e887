r"""Random-effects regression of donors' correlations on a design, for all pairs of a panel.

.. math:: y_c \sim N\big(x_c'\beta,\; \lambda_c (v_c + \tau_{g(c)}^2)\big), \quad
          (\tau_1, \tau_2) \sim G

The sampling variances v_c follow from the cells. The standard deviations between the samples of
each group, tau, are too much to ask of a few samples of one pair; their distribution G over all
pairs is learnt on a grid by maximum likelihood, as in :mod:`hiercorr.inference.random_effects`,
which is the case of an intercept alone.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from hiercorr import kernels
from hiercorr.inference.mixtures import mixture
from hiercorr.inference.posterior import shows_tau, symmetric, two_sided
from hiercorr.inference.random_effects import (
    ABSENT,
    DONOR_ROUNDS,
    FLIP,
    NOTICEABLE,
    SIGMA,
    TAU,
    informative,
    pruned,
    tell_tau,
    updated_inflation,
)

Array = NDArray[np.float64]

LEAST_RESIDUAL_DF = 2
_LARGEST_GROWTH = 100.0
_MOST_RELATED = 1000  # related pairs that teach the growth
_TOLERATED = 1.0  # loss of log likelihood
_ANY_HETEROGENEITY, _LARGE_TAU = 0.002, 0.1
_SINGULAR = 1e-8  # of a pivot relative to its diagonal entry
_CHUNK = 1024  # pairs whose arrays stay in the cache
_NEGLIGIBLE = 1e-12  # posterior weight
_ROUNDING = 1e-12  # of a residual
_PRIOR_PAIRS = 5.0  # related pairs that the distribution over all pairs counts for


@dataclass(frozen=True)
class RegressionDesign:
    """Design, contrast and variance groups of a regression over samples.

    Attributes
    ----------
    matrix : ndarray, shape (n_samples, k)
    contrast : ndarray, shape (k,)
        Linear combination of coefficients to estimate.
    group : ndarray of int, shape (n_samples,)
        Group of each sample; each has a tau of its own.
    signs : ndarray, shape (n_samples,) or (n_patterns, n_samples), optional
        1 and -1 for the samples of two conditions, or for each way to assign signs to several: if
        correlations that change sign from sample to sample fall into such a pattern by chance, they
        look like a difference.
    rows : ndarray, shape (q, k), optional
        Contrasts to test together.
    fitted : ndarray, shape (m, k), optional
        Weights of the coefficients in fitted values, for `rows`.
    """

    matrix: Array
    contrast: Array
    group: NDArray[np.int64]
    signs: Array | None = None
    rows: Array | None = None
    fitted: Array | None = None

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    @property
    def scale(self) -> float:
        """Unit of the contrast: 1 for the difference of two groups of equal size."""
        inverse = np.linalg.pinv(self.matrix.T @ self.matrix)
        return float(np.sqrt(len(self.matrix) * self.contrast @ inverse @ self.contrast) / 2)

    @functools.cached_property
    def patterns(self) -> Array:
        """Coefficients of the patterns of signs, shape (n_patterns, k)."""
        if self.signs is None:
            return np.empty((0, self.matrix.shape[1]))
        return (np.linalg.pinv(self.matrix) @ np.atleast_2d(self.signs).T).T


@dataclass(frozen=True)
class SampleEffects:
    """Correlations of pairs in samples; arrays are (n_samples, n_pairs) unless said otherwise.

    Attributes
    ----------
    value, variance, skewness : ndarray
        Correlation in each sample, its sampling variance and skewness; 0, 1e30 and 0 where a sample
        has no information.
    square : ndarray
        Square of the correlation over all samples times the biological shares of the variances of
        both genes: the variance grows with it, faster where expression has heavy tails.
    related : ndarray of bool, shape (n_pairs,)
        Whether the pair is correlated over all samples: such pairs differ more than others.
    """

    value: Array
    variance: Array
    skewness: Array
    square: Array
    related: NDArray[np.bool_]

    def take(self, pairs: slice | NDArray) -> SampleEffects:
        """Return the same for some of the pairs."""
        value, variance, skewness, square = (
            a[:, pairs] for a in (self.value, self.variance, self.skewness, self.square)
        )
        return SampleEffects(value, variance, skewness, square, self.related[pairs])

    def grown(self, growth: float) -> Array:
        """Return the sampling variances with this growth of correlated pairs."""
        return self.variance * (1 + growth * self.square)


@dataclass(frozen=True)
class RegressionPrior:
    """Distribution of the heterogeneity within groups over the pairs of a panel.

    Attributes
    ----------
    tau : ndarray, shape (n_points, n_groups)
        Grid of the standard deviations between samples.
    weight : ndarray, shape (2, n_points)
        Distribution over unrelated and over related pairs, whatever their contrast: for tests.
    flip : ndarray, shape (n_flips,)
        Grid of b.
    flip_weight : ndarray, shape (2, n_flips)
        Its distribution over pairs whose samples differ by +-b by chance; adds up to 1 with
        `weight`.
    sigma : ndarray, shape (n_sigmas,)
        Grid of the standard deviation of the contrast over pairs, in its own unit.
    joint : ndarray, shape (2, n_points, n_sigmas)
        Distribution of tau and sigma over unrelated and related pairs: for estimates and intervals.
    inflation : ndarray, shape (n_samples,)
        Factor of each sample's variance, at least 1.
    growth : float
        Factor of :attr:`SampleEffects.square` in the sampling variance.
    n_pairs : int
        Number of pairs that the distribution was learnt from.
    heterogeneous : float or None
        Proportion of pairs with a tau of at least 0.15 in some group; None if
        :func:`~hiercorr.inference.random_effects.tell_tau` is false.
    """

    tau: Array
    weight: Array
    flip: Array
    flip_weight: Array
    sigma: Array
    joint: Array
    inflation: Array
    growth: float
    n_pairs: int
    heterogeneous: float | None


@dataclass(frozen=True)
class _Fitted:
    """Weighted least squares of many pairs with given variances; arrays are (n_pairs,).

    Attributes
    ----------
    estimate, variance : ndarray
        Estimated contrast and its variance; NaN where the design is singular.
    level : ndarray
        Restricted log likelihood.
    row : ndarray, shape (n_samples, n_pairs)
        Weight of each sample in the estimate.
    residual, leverage : ndarray, shape (n_samples, n_pairs)
    beta : ndarray, shape (k, n_pairs)
    several, covariance, weight : ndarray, shape (n_pairs, q), (n_pairs, q, q), (q, samples, pairs)
        Estimates of the rows of the design, their covariance, and the weights of the samples in
        them; empty unless they are asked for.
    """

    estimate: Array
    variance: Array
    level: Array
    row: Array
    residual: Array
    leverage: Array
    beta: Array
    several: Array
    covariance: Array
    weight: Array

    def wald(self, value: Array) -> tuple[Array, Array]:
        """Return V^-1 x and x' V^-1 x for values x of the rows, (n_pairs, q)."""
        solved = np.linalg.solve(self.covariance, value[..., None])
        side = np.asarray(solved[..., 0], np.float64)
        return side, np.asarray(np.maximum((side * value).sum(1), 0.0), np.float64)


def _regress(
    y: Array, w: Array, design: RegressionDesign, leverage: bool = False, rows: bool = False
) -> _Fitted:
    """Fit every pair with weights w, (n_samples, n_pairs)."""
    x, c = design.matrix, design.contrast
    k = x.shape[1]
    below = [(i, j) for i in range(k) for j in range(i + 1)]
    products = np.array([x[:, i] * x[:, j] for i, j in below])
    gram = dict(zip(below, products @ w, strict=True))
    side = x.T @ (w * y)
    root: dict[tuple[int, int], Array] = {}
    regular = np.ones(y.shape[1], bool)
    for i, j in below:  # Cholesky factors of all pairs at once
        s = gram[i, j].copy()
        for m in range(j):
            s -= root[i, m] * root[j, m]
        if i == j:
            regular &= s > _SINGULAR * gram[i, i]
            root[i, i] = np.sqrt(np.where(regular, s, 1.0))
        else:
            root[i, j] = s / root[j, j]

    def solve(b: Array) -> tuple[Array, Array]:
        half = np.empty((k, y.shape[1]))
        for i in range(k):
            half[i] = b[i]
            for m in range(i):
                half[i] -= root[i, m] * half[m]
            half[i] /= root[i, i]
        full = half.copy()
        for i in range(k - 1, -1, -1):
            for m in range(i + 1, k):
                full[i] -= root[m, i] * full[m]
            full[i] /= root[i, i]
        return half, full

    _, beta = solve(side)
    half, g = solve(np.broadcast_to(c[:, None], (k, y.shape[1])))
    residual = y - x @ beta
    squares = (w * residual**2).sum(0)
    logs = sum(np.log(root[i, i]) for i in range(k))
    level = 0.5 * (np.log(w).sum(0) - squares) - logs
    lever = np.empty((0, 0))
    if leverage:
        lever = np.empty_like(y)
        for s in range(len(x)):
            part, _ = solve(np.broadcast_to(x[s][:, None], (k, y.shape[1])))
            lever[s] = w[s] * (part**2).sum(0)
    nan = np.where(regular, 0.0, np.nan)
    several, covariance, weight = np.empty((3, 0))
    if rows:
        assert design.rows is not None
        sides = [solve(np.broadcast_to(r[:, None], (k, y.shape[1]))) for r in design.rows]
        halves = np.array([h for h, _ in sides])
        several = (design.rows @ beta).T
        covariance = np.einsum("ikn,jkn->nij", halves, halves)
        covariance[~regular] = np.eye(len(sides))
        weight = np.array([w * (x @ full) for _, full in sides])
    return _Fitted(
        c @ beta + nan,
        (half**2).sum(0) + nan,
        level,
        w * (x @ g),
        residual,
        lever,
        beta,
        several,
        covariance,
        weight,
    )


def _weights(v: Array, design: RegressionDesign, tau: Array, inflation: Array) -> Array:
    return 1 / (inflation[:, None] * (v + tau[design.group][:, None] ** 2))


def _grid(n_groups: int, tau: Array = TAU) -> Array:
    return np.array(list(itertools.product(tau, repeat=n_groups)))


def _inflation(y: Array, v: Array, design: RegressionDesign, grid: Array) -> Array:
    """Estimate how much more each sample deviates than the others do, over all pairs."""
    inflation = np.ones(len(y))
    for _ in range(DONOR_ROUNDS):
        level = np.array(
            [_regress(y, _weights(v, design, tau, inflation), design).level for tau in grid]
        )
        likelihood = np.exp(level - level.max(0))
        posterior = mixture(likelihood)[:, None] * likelihood
        posterior /= posterior.sum(0)
        tau2 = (posterior.T @ grid**2).T[design.group]
        w = 1 / (inflation[:, None] * (v + tau2))
        fitted = _regress(y, w, design, leverage=True)
        left = np.maximum(1 - fitted.leverage, 1e-3)
        square = np.where((v < ABSENT) & (left > 0.01), fitted.residual**2 * w / left, np.nan)
        new = updated_inflation(square, inflation)
        done = np.abs(np.log(new / inflation)).max() < 0.02
        inflation = new
        if done:
            break
    return inflation


def _by_chance(
    y: Array, v: Array, design: RegressionDesign, inflation: Array, rows: bool = False
) -> tuple[_Fitted, Array, _Fitted, list[Array]]:
    r"""Likelihoods of correlations that differ by +-b between samples, by the toss of a coin.

    Returns the fit at tau = 0, the log likelihood of the patterns that look like a difference
    (n_pairs,), the fit of the signs of the residuals, and for each b the log likelihood of this
    pattern.
    """
    w = _weights(v, design, np.zeros(design.n_groups), inflation)
    fitted = _regress(y, w, design, rows=rows)
    sign = np.where(fitted.residual < -_ROUNDING, -1.0, 1.0)
    carrying = (v < ABSENT).sum(0)
    chance = (1 - carrying) * np.log(2)
    agree = np.full(y.shape[1], -np.inf)
    if design.signs is not None:
        agree = fitted.level + chance + np.log(len(np.atleast_2d(design.signs)))
    of_sign = _regress(sign, w, design, rows=rows)
    cross = (w * fitted.residual * of_sign.residual).sum(0)
    square = (w * of_sign.residual**2).sum(0)
    seen = []
    for b in FLIP:
        log_likelihood = fitted.level + chance + b * cross - 0.5 * b * b * square
        seen.append(np.where(square > 1e-6, log_likelihood, -np.inf))
    return fitted, agree, of_sign, seen


def learn_regression_prior(
    effects: SampleEffects, design: RegressionDesign, known: RegressionPrior | None = None
) -> RegressionPrior | None:
    """Learn how correlations differ between the samples of a group.

    Parameters
    ----------
    effects : SampleEffects
        Correlations of the panel's pairs in each sample.
    design : RegressionDesign
    known : RegressionPrior, optional
        Prior of another contrast on the same panel, whose growth and inflation are reused: they do
        not depend on the contrast.

    Returns
    -------
    RegressionPrior
        None if no pair leaves 2 residual degrees of freedom.
    """
    usable = np.flatnonzero(_usable(effects.variance, design))
    if not len(usable):
        return None
    effects = effects.take(usable[informative(effects.variance[:, usable])])
    growth = _growth(effects, design) if known is None else known.growth
    y, v, related = effects.value, effects.grown(growth), effects.related
    grid = _grid(design.n_groups)
    inflation = _inflation(y, v, design, grid) if known is None else known.inflation
    fits = [_regress(y, _weights(v, design, tau, inflation), design) for tau in grid]
    level = np.array([f.level for f in fits])
    _, agree, _, seen = _by_chance(y, v, design, inflation)
    flips = np.array([np.logaddexp(agree, s) for s in seen])
    weight = _cautious(_by_class(np.concatenate([level, flips]), related), grid)
    kept = np.flatnonzero(
        (mixture(np.exp(level - level.max(0))) > 1e-4) | (weight[:, : len(grid)] > 0).any(0)
    )
    estimate, variance = (
        np.array([getattr(fits[k], name) for k in kept]) for name in ("estimate", "variance")
    )
    sigma = SIGMA * design.scale
    spread = variance[:, None] + sigma[:, None] ** 2
    scatter = np.log(spread / variance[:, None]) + estimate[:, None] ** 2 / spread
    both = level[kept][:, None] - 0.5 * scatter
    joint = _by_class(both.reshape(-1, both.shape[2]), related).reshape(2, len(kept), len(SIGMA))
    noticed = joint.sum(2)[:, (grid[kept] >= NOTICEABLE).any(1)].sum(1)
    point = (weight[:, kept] > 0).any(0) | (joint > 0).any((0, 2)) | (grid[kept] == 0).all(1)
    return RegressionPrior(
        grid[kept][point],
        weight[:, : len(grid)][:, kept][:, point],
        FLIP,
        weight[:, len(grid) :],
        sigma,
        joint[:, point],
        inflation,
        growth,
        y.shape[1],
        float(noticed[related.astype(int)].mean()) if tell_tau(v) else None,
    )


def _growth(effects: SampleEffects, design: RegressionDesign) -> float:
    """Estimate how the variance grows with the square of the correlation, over related pairs.

    At most so far that half of the pairs have a residual sum of squares below the median of
    chi-squared; and no further than the likelihood allows beside differences between samples, which
    do not fall with the number of cells.
    """
    related = effects.take(np.flatnonzero(effects.related)[:_MOST_RELATED])
    if not related.related.any():
        return 0.0
    df = (related.variance < ABSENT).sum(0) - design.matrix.shape[1]
    middle = stats.chi2.median(df)

    def excess(growth: float) -> float:
        w = 1 / related.grown(growth)
        residual = _regress(related.value, w, design).residual
        return float(np.mean((w * residual**2).sum(0) > middle) - 0.5)

    if excess(0.0) <= 0:
        return 0.0
    largest = _LARGEST_GROWTH
    if excess(largest) < 0:
        largest = float(optimize.bisect(excess, 0.0, largest, xtol=0.01))
    tried = largest * np.array([1.0, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0])
    found = np.array([_likelihood(related, g, design) for g in tried])
    return float(tried[np.flatnonzero(found >= found.max() - _TOLERATED)[0]])


def _likelihood(effects: SampleEffects, growth: float, design: RegressionDesign) -> float:
    """Compute the log likelihood of pairs with the best distribution of tau."""
    v, one = effects.grown(growth), np.ones(len(effects.value))
    grid = _grid(design.n_groups, TAU[::2])
    level = np.array(
        [_regress(effects.value, _weights(v, design, tau, one), design).level for tau in grid]
    )
    top = level.max(0)
    likelihood = np.exp(level - top)
    return float((np.log(mixture(likelihood) @ likelihood) + top).sum())


def _cautious(weight: Array, grid: Array) -> Array:
    """Allow for heterogeneity that a panel with few such pairs, or few samples, does not show.

    Pairs of any heterogeneity get a probability of 0.002. Heterogeneous pairs that are not
    correlated over all samples may as well change their sign: few samples do not tell which.
    """
    out = (1 - _ANY_HETEROGENEITY) * weight
    equal = np.flatnonzero((grid == grid[:, :1]).all(1) & (grid[:, 0] >= _LARGE_TAU))
    out[:, equal] += _ANY_HETEROGENEITY / len(equal)
    typical = np.sqrt((grid**2).mean(1))
    for k in np.flatnonzero(typical >= _LARGE_TAU):
        nearest = np.abs(FLIP - typical[k]).argmin()
        out[0, len(grid) + nearest] += out[0, k]
    return out / out.sum(1, keepdims=True)


def _by_class(level: Array, related: NDArray[np.bool_]) -> Array:
    """Estimate the weights of a mixture over all pairs, and over related pairs; (2, components)."""
    likelihood = np.exp(level - level.max(0))
    every = mixture(likelihood)
    some = every
    if related.any():
        some = mixture(likelihood[:, related], every, _PRIOR_PAIRS)
    return np.array([pruned(every), pruned(some)])


def _usable(v: Array, design: RegressionDesign) -> NDArray[np.bool_]:
    carrying = (v < ABSENT).sum(0)
    return carrying - design.matrix.shape[1] >= LEAST_RESIDUAL_DF


def regression_estimate(
    effects: SampleEffects,
    design: RegressionDesign,
    prior: RegressionPrior,
    compiled: bool = False,
) -> dict[str, Array]:
    r"""Estimate the contrast of every pair, with its p-value and standard error.

    Parameters
    ----------
    effects : SampleEffects
    design : RegressionDesign
    prior : RegressionPrior
    compiled : bool
        Use compiled loops, which pay for fits of many pairs.

    Returns
    -------
    dict of ndarray
        ``difference``, ``se``, ``p_value``, shape (n_pairs,); ``tau``, shape (n_groups, n_pairs),
        NaN where correlations of the group's samples have standard errors above 0.3
        or the panel could not tell tau.
    """
    n = effects.value.shape[1]
    out = {name: np.full(n, np.nan) for name in ("difference", "se", "p_value")}
    out["tau"] = np.full((design.n_groups, n), np.nan)
    if compiled:
        _compiled(effects, design, prior, out)
        return out
    for start in range(0, n, _CHUNK):
        at = slice(start, min(start + _CHUNK, n))
        for name, values in _estimate_chunk(effects.take(at), design, prior).items():
            out[name][..., at] = values
    return out


def _compiled(
    effects: SampleEffects, design: RegressionDesign, prior: RegressionPrior, out: dict[str, Array]
) -> None:
    """Fill the results of :func:`regression_estimate` with compiled loops."""
    v = effects.grown(prior.growth)
    aligned = np.abs(design.patterns @ design.contrast)
    own = design.matrix, design.contrast, design.group, prior.inflation, aligned
    kernels.regression.regress(
        (effects.value, v, _third(effects, v), effects.related),
        tuple(np.ascontiguousarray(part) for part in own),
        (
            prior.tau**2,
            np.ascontiguousarray(prior.weight),
            prior.flip,
            np.ascontiguousarray(prior.flip_weight),
            prior.sigma**2,
            np.ascontiguousarray(prior.joint),
        ),
        _SINGULAR,
        (out["difference"], out["se"], out["p_value"], out["tau"]),
    )
    unknown = ~_usable(effects.variance, design)
    for values in out.values():
        values[..., unknown] = np.nan
    shown = _shows_tau(prior.inflation[:, None] * v, design) & (prior.heterogeneous is not None)
    out["tau"][~shown] = np.nan


def _third(effects: SampleEffects, v: Array) -> Array:
    """Third central moments of the correlations with these variances."""
    known = np.where(v < ABSENT, v, 0.0)
    third: Array = effects.skewness * known * np.sqrt(known)
    return third


def _estimate_chunk(
    effects: SampleEffects, design: RegressionDesign, prior: RegressionPrior
) -> dict[str, Array]:
    y, v = effects.value, effects.grown(prior.growth)
    kind = effects.related.astype(int)
    third = _third(effects, v)
    inflation = prior.inflation
    fits = [_regress(y, _weights(v, design, tau, inflation), design) for tau in prior.tau]
    base, agree, of_sign, seen = _by_chance(y, v, design, inflation)
    top = np.max([f.level for f in fits], axis=0)
    likelihoods = [np.exp(f.level - top) for f in fits]
    total, value = np.zeros((2, y.shape[1]))
    for fit, likelihood, weights in zip(fits, likelihoods, prior.weight.T, strict=True):
        if not weights.any():
            continue
        score = fit.estimate / np.sqrt(fit.variance)
        skew = (fit.row**3 * third).sum(0) / fit.variance**1.5
        own = weights[kind] * likelihood
        total += own
        value += own * two_sided(np.abs(symmetric(score, skew)))
    size = np.abs(base.estimate) / np.sqrt(base.variance)
    aligned = np.abs(design.patterns @ design.contrast)  # per b
    agree = agree - np.log(max(len(aligned), 1))
    for b, weights, level in zip(prior.flip, prior.flip_weight.T, seen, strict=True):
        if not weights.any():
            continue
        for log_likelihood, apart in (
            *((agree, each) for each in aligned),
            (level, np.abs(of_sign.estimate)),
        ):
            mean = b * apart / np.sqrt(base.variance)
            own = weights[kind] * np.exp(np.minimum(log_likelihood - top, 600.0))
            total += own
            value += own * (special.ndtr(mean - size) + special.ndtr(-mean - size))
    together, m1, m2 = np.zeros((3, y.shape[1]))
    t2 = np.zeros((design.n_groups, y.shape[1]))
    joints = prior.joint.transpose(1, 2, 0)
    for fit, likelihood, tau, joint in zip(fits, likelihoods, prior.tau, joints, strict=True):
        density = np.zeros(y.shape[1])
        for sigma, weights in zip(prior.sigma, joint, strict=True):
            if weights.any():
                spread = fit.variance + sigma**2
                scatter = np.exp(-0.5 * fit.estimate**2 / spread)
                density += weights[kind] * np.sqrt(fit.variance / spread) * scatter
        density *= likelihood
        together += density
        m1 += density * fit.estimate
        m2 += density * (fit.variance + fit.estimate**2)
        t2 += density * tau[:, None] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        last = fits[-1]
        found = together > 1e-280
        m1 = np.where(found, m1 / together, last.estimate)
        m2 = np.where(found, m2 / together, last.variance + last.estimate**2)
        t2 = np.where(found, t2 / together, prior.tau[-1][:, None] ** 2)
        p = np.where(total > 0, np.minimum(value / total, 1.0), 1.0)
    shown = _shows_tau(inflation[:, None] * v, design) & (prior.heterogeneous is not None)
    nan = np.where(_usable(effects.variance, design) & np.isfinite(base.estimate), 0.0, np.nan)
    return {
        "difference": m1 + nan,
        "se": np.sqrt(np.maximum(m2 - m1**2, 0)) + nan,
        "p_value": p + nan,
        "tau": np.where(shown, np.sqrt(t2), np.nan) + nan,
    }


def overall_estimate(
    effects: SampleEffects, design: RegressionDesign, prior: RegressionPrior
) -> dict[str, Array]:
    r"""Test for every pair whether all rows of the design are 0.

    .. math:: p = E\big\{P(\chi^2_q > Q_\tau)\big\}, \quad
              Q_\tau = (C\hat\beta_\tau)' V_\tau^{-1} C\hat\beta_\tau

    over the posterior distribution of tau (and of signs by chance, with a non-central
    :math:`\chi^2`) given the restricted likelihood, as for one contrast in
    :func:`regression_estimate`. The skewness of the counts is corrected along the direction of the
    estimate.

    Parameters
    ----------
    effects : SampleEffects
    design : RegressionDesign
        With `rows` and `fitted`.
    prior : RegressionPrior

    Returns
    -------
    dict of ndarray
        ``p_value`` and ``largest_difference``, the range of the fitted values, shape (n_pairs,);
        ``tau`` as in :func:`regression_estimate`.
    """
    n = effects.value.shape[1]
    out = {name: np.full(n, np.nan) for name in ("p_value", "largest_difference")}
    out["tau"] = np.full((design.n_groups, n), np.nan)
    for start in range(0, n, _CHUNK):
        at = slice(start, min(start + _CHUNK, n))
        for name, values in _overall_chunk(effects.take(at), design, prior).items():
            out[name][..., at] = values
    return out


def _overall_chunk(
    effects: SampleEffects, design: RegressionDesign, prior: RegressionPrior
) -> dict[str, Array]:
    assert design.rows is not None
    assert design.fitted is not None
    y, v = effects.value, effects.grown(prior.growth)
    q, n = len(design.rows), y.shape[1]
    kind = effects.related.astype(int)
    third = _third(effects, v)
    inflation = prior.inflation
    used = [k for k, weights in enumerate(prior.weight.T) if weights.any()]
    taus, weights_of = prior.tau[used], prior.weight[:, used].T
    fits = [_regress(y, _weights(v, design, tau, inflation), design, rows=True) for tau in taus]
    base, agree, of_sign, seen = _by_chance(y, v, design, inflation, rows=True)
    top = np.max([f.level for f in fits], axis=0)
    total, value = np.zeros((2, n))
    level, t2 = np.zeros((len(design.fitted), n)), np.zeros((design.n_groups, n))
    for fit, tau, weights in zip(fits, taus, weights_of, strict=True):
        side, wald = fit.wald(fit.several)
        with np.errstate(divide="ignore", invalid="ignore"):
            along = np.einsum("nq,qsn->sn", side, fit.weight)
            skew = np.nan_to_num((along**3 * third).sum(0) / wald**1.5)
        own = weights[kind] * np.exp(fit.level - top)
        total += own
        value += own * special.gammaincc(q / 2, 0.5 * symmetric(np.sqrt(wald), skew) ** 2)
        level += own * (design.fitted @ fit.beta)
        t2 += own * tau[:, None] ** 2
    level, t2 = level / total, t2 / total
    _, size = base.wald(base.several)
    aligned = design.patterns @ design.rows.T  # per b
    agree = agree - np.log(max(len(aligned), 1))
    patterns = [(agree, base.wald(np.broadcast_to(each, (n, q)))[1]) for each in aligned]
    of_sign_wald = base.wald(of_sign.several)[1]
    for b, weights, likelihood in zip(prior.flip, prior.flip_weight.T, seen, strict=True):
        if not weights.any():
            continue
        for log_likelihood, apart in (*patterns, (likelihood, of_sign_wald)):
            own = weights[kind] * np.exp(np.minimum(log_likelihood - top, 600.0))
            at = np.flatnonzero(own > _NEGLIGIBLE * total)
            total += own
            tail = 1 - special.chndtr(size[at], q, b * b * apart[at])
            value[at] += own[at] * np.clip(tail, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(total > 0, np.minimum(value / total, 1.0), 1.0)
    shown = _shows_tau(inflation[:, None] * v, design) & (prior.heterogeneous is not None)
    nan = np.where(_usable(effects.variance, design) & np.isfinite(base.estimate), 0.0, np.nan)
    return {
        "p_value": p + nan,
        "largest_difference": np.ptp(level, axis=0) + nan,
        "tau": np.where(shown, np.sqrt(t2), np.nan) + nan,
    }


def _shows_tau(v: Array, design: RegressionDesign) -> NDArray[np.bool_]:
    """Check for which pairs the samples of each group show how they differ, (n_groups, n_pairs)."""
    known = v < ABSENT
    return np.array(
        [
            shows_tau(known[own].sum(0), (1 / v[own]).sum(0))
            for own in (design.group == g for g in range(design.n_groups))
        ]
    )
