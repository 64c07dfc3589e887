"""Posterior of the heterogeneity of many pairs at once: arrays (donors, rows, columns), by block.

Plain array operations, for which nothing has to be compiled; for tiles of many pairs,
:mod:`hiercorr.kernels.heterogeneity` does the same in a third of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ABSENT = 1e30  # variance of a donor without information on the pair
INFORMATIVE = 0.3**2  # variance of a donor's correlation above which no pair shows tau
_BLOCK, _DONORS = 4096, 40  # pairs of a block of up to so many donors: arrays near the cache
_SMALLEST = 64
_LARGEST_Z = 37.0  # the p-value of larger ones underflows
_NEGLIGIBLE_SKEW = 1e-4
_LARGEST_SQUARE = 0.9  # of a correlation, in the variance
_FACTORS = 16  # factors of a product before its logarithm is taken


def block_size(n_donors: int) -> int:
    """Return the number of pairs of a block, whose arrays have an entry for each donor."""
    return max(_SMALLEST, _BLOCK * _DONORS // max(n_donors, _DONORS))


class Sides(NamedTuple):
    """Genes of one side of a block, shaped to broadcast against (donors, rows, columns).

    Attributes
    ----------
    phi : ndarray
        Variance; -1 where there is none.
    scale, share, skewness : ndarray
        As in :class:`hiercorr.inference.random_effects.DonorGenes`.
    noise : ndarray
        Relative sampling variance of `phi`.
    factor : ndarray, optional
        Factors of the prior of each tau and flip, as the first dimension.
    """

    phi: Array
    scale: Array
    share: Array
    skewness: Array
    noise: Array
    factor: Array | None = None


class Grid(NamedTuple):
    """Points of the prior that have a probability; the first tau is 0.

    Attributes
    ----------
    tau2, null : ndarray, shape (taus,)
        tau^2 and its distribution under the null hypothesis.
    points : list of (int, list of (float, float))
        For each tau by position, probability and sigma^2 of the points of the joint distribution.
    flips : list of (float, float)
        Absolute correlation with random signs, and its probability under the null hypothesis.
    positions : ndarray of int, shape (taus + flips,)
        Rows of the factors of genes that belong to the taus, then to the flips.
    """

    tau2: Array
    null: Array
    points: list[tuple[int, list[tuple[float, float]]]]
    flips: list[tuple[float, float]]
    positions: NDArray[np.int64]


class BlockEstimate(NamedTuple):
    """Estimates of the pairs of a block, (rows, columns).

    Attributes
    ----------
    mean, sd, tau : ndarray
        Mean over donors, its posterior standard deviation, and the root of the posterior mean of
        tau^2; NaN with fewer than 3 donors, the last also where :func:`shows_tau` is false.
    p : ndarray
        Two-sided p-value of no correlation.
    largest : ndarray
        Largest weight of a donor.
    """

    mean: Array
    sd: Array
    tau: Array
    p: Array
    largest: Array


def two_sided(z: Array) -> Array:
    """Compute 2 Phi(-z) for z >= 0 to a relative error of 2e-7 (Chebyshev fit of log erfc)."""
    x = np.minimum(z, _LARGEST_Z)
    x *= 0.7071067811865476
    t = 1.0 / (1.0 + 0.5 * x)
    c = t * 0.17087277
    for a in (
        -0.82215223,
        1.48851587,
        -1.13520398,
        0.27886807,
        -0.18628806,
        0.09678418,
        0.37409196,
        1.00002368,
    ):
        c += a
        c *= t
    c -= 1.26551223
    x *= x
    c -= x
    np.exp(c, out=c)
    c *= t
    return c


def symmetric(z: Array, skew: Array) -> Array:
    """Transform z with this skewness of its distribution to a normal score (Wilson & Hilferty).

    The transformation is exact for the mean of a gamma variable to the order of the skewness^2. In
    the short tail, where it makes p-values smaller, the skewness is at most 1 / abs(z), the largest
    with which a sum of Poisson counts can be there: a larger one comes from few cells with large
    counts, of which the short tail shows nothing.
    """
    limit = 1.0 / np.maximum(np.abs(z), 1e-12)
    skew = np.where(z * skew < 0.0, np.clip(skew, -limit, limit), skew)
    small = np.abs(skew) < _NEGLIGIBLE_SKEW
    g = np.where(small, _NEGLIGIBLE_SKEW, skew)
    base = np.maximum(0.5 * g * z + 1.0, 1e-12)
    large = (np.cbrt(base) - 1.0) * (6.0 / g) + g * (1 / 6)
    if not small.any():
        return large
    return np.where(small, z - skew * (z * z - 1.0) * (1 / 6), large)


def normal_score(p: Array) -> Array:
    """Compute z >= 0 with 2 Phi(-z) = p (rational fit, one step of Newton's method)."""
    p = np.maximum(p, 1e-300)
    r = np.sqrt(-2.0 * np.log(0.5 * p))
    top = 2.515517 + r * (0.802853 + r * 0.010328)
    z = np.maximum(r - top / (1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308))), 0.0)
    density = 0.7978845608028654 * np.exp(-0.5 * z * z)  # of |z|
    return z + (two_sided(z) - p) / density


def effects(
    num: NDArray, den: NDArray, noise: NDArray, left: Sides, right: Sides, inflation: Array
) -> tuple[Array, Array]:
    """Compute donors' correlations and their sampling variances, (donors, rows, columns).

    See :func:`hiercorr.inference.random_effects.donor_effects`; `inflation` is (donors, 1, 1).
    """
    d, e = den.astype(np.float64), noise.astype(np.float64)
    usable = (left.phi > 0) & (right.phi > 0)
    scale = usable / np.sqrt(np.where(usable, left.phi * right.phi, 1.0))
    known = (d > 0.0) & (e > 0.0)
    inverse = np.where(known, left.scale * right.scale * scale, 0.0)
    inverse /= np.where(known, d, 1.0)
    x = num * inverse
    e *= inverse
    e *= inverse
    v = np.where(known & (e > 0.0), e, ABSENT)
    x[v == ABSENT] = 0.0
    w = 1.0 / v
    total = w.sum(0)
    w *= x
    r = w.sum(0) / total
    square = np.clip(r * r - 1.0 / total, 0.0, _LARGEST_SQUARE)
    growth = left.share * right.share * square
    growth += 1.0
    growth *= inflation
    np.multiply(v, growth, out=v, where=v < ABSENT)
    return x, v


def shows_tau(carrying: NDArray, precision: NDArray) -> NDArray[np.bool_]:
    """Check whether donors' correlations are precise enough to show how much they differ.

    Parameters
    ----------
    carrying : ndarray
        Number of donors with information on the pair.
    precision : ndarray
        Sum over donors of 1 / v_c; the harmonic mean of v_c must not exceed 0.3^2.
    """
    return carrying <= INFORMATIVE * precision


def estimate_block(
    num: NDArray,
    den: NDArray,
    noise: NDArray,
    sides: tuple[Sides, Sides],
    inflation: Array,
    grid: Grid,
    weighting: str,
) -> BlockEstimate:
    """Estimate the mean correlation over donors of the pairs of a block.

    See :func:`hiercorr.inference.random_effects.hierarchical_estimate`.

    Parameters
    ----------
    num, den, noise : ndarray, shape (donors, rows, columns)
        N_c, D_c, and the expected variance of N_c without correlation.
    sides : pair of Sides
    inflation : ndarray, shape (donors,)
        Factor of each donor's variance, tau^2 included.
    grid : Grid
    weighting : {"adaptive", "equal", "information"}
    """
    left, right = sides
    factor = inflation[:, None, None]
    x, v = effects(num, den, noise, left, right, factor)
    known = v < ABSENT
    carrying = known.sum(0).astype(float)
    e = np.where(known, v, 0.0)
    third = left.skewness * right.skewness * e * np.sqrt(e)
    given = None if weighting == "adaptive" else np.where(known, 1.0, 0.0)
    if weighting == "information" and given is not None:
        given *= den
    own = None if given is None else _Given(x, e, third, given, factor)

    base = (1.0 / v).sum(0)
    fits = [_adaptive(x, v, third, factor * tau2, base) for tau2 in grid.tau2]
    best = np.maximum.reduce([fit.level for fit in fits])
    levels = [np.exp(fit.level - best) for fit in fits]
    factors = [_factor(left, right, k) for k in grid.positions]
    for level, own_factor in zip(levels, factors, strict=False):
        level *= own_factor
    averages = [
        fit if own is None else own.at(tau2)._replace(level=fit.level)
        for fit, tau2 in zip(fits, grid.tau2, strict=True)
    ]
    alone, value = np.zeros((2, *carrying.shape))
    for level, null, average in zip(levels, grid.null, averages, strict=True):
        if null > 0.0:
            score = symmetric(average.mean / np.sqrt(average.variance), average.skewness)
            tail = two_sided(np.abs(score))
            alone += null * level
            tail *= level
            tail *= null
            value += tail
    if grid.flips:
        prior = [(b, w * f) for (b, w), f in zip(grid.flips, factors[len(fits) :], strict=True)]
        _add_flips(x, v, base, carrying, best, averages[0], given, prior, alone, value)

    together, m1, m2, t2 = np.zeros((4, *carrying.shape))
    for a, parts in grid.points:
        density = np.zeros_like(m1)
        for probability, sigma2 in parts:
            wide = 1.0 / (fits[a].variance + sigma2)
            density += (
                probability * np.sqrt(wide) * np.exp(-0.5 * fits[a].mean * fits[a].mean * wide)
            )
        density *= levels[a]
        mean, variance = averages[a].mean, averages[a].variance
        together += density
        m1 += density * mean
        m2 += density * (variance + mean * mean)
        t2 += density * grid.tau2[a]
    found = together > 1e-280  # a pair like no other gets the largest tau
    together = np.where(found, together, 1.0)
    last = averages[-1]
    m1 = np.where(found, m1 / together, last.mean)
    m2 = np.where(found, m2 / together, last.variance + last.mean * last.mean)
    t2 = np.where(found, t2 / together, grid.tau2[-1])
    p = np.where(alone > 0.0, np.minimum(value / np.where(alone > 0.0, alone, 1.0), 1.0), 1.0)

    w = known / (v + t2 * factor) if given is None else given
    total = w.sum(0)
    of_phi = 0.25 * np.minimum(m1 * m1, 1.0) * (left.noise + right.noise)[0]
    sd = np.sqrt(np.maximum(m2 - m1 * m1, 0.0) + of_phi)
    usable = (carrying >= 3) & ((left.phi > 0) & (right.phi > 0))[0]
    nan = np.where(usable, 0.0, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = w.max(0) / total + nan
    tau = np.where(shows_tau(carrying, base), np.sqrt(t2), np.nan) + nan
    return BlockEstimate(m1 + nan, sd + nan, tau, p + nan, largest)


def _factor(left: Sides, right: Sides, row: int) -> Array:
    """Multiply the factors of the genes of both sides."""
    none = np.ones((1, 1))
    one, two = (none if side.factor is None else side.factor[row] for side in (left, right))
    return one * two


class _Average(NamedTuple):
    """Average over donors at one tau: mean, variance, skewness, restricted log likelihood."""

    mean: Array
    variance: Array
    skewness: Array
    level: Array


def _adaptive(x: Array, v: Array, third: Array, extra: Array, base: Array) -> _Average:
    """Average with weights 1 / (tau^2 + v_c)."""
    w = v + extra
    np.reciprocal(w, out=w)
    product = w * v
    level = np.zeros_like(base)
    for start in range(0, len(v), _FACTORS):
        level += np.log(np.multiply.reduce(product[start : start + _FACTORS], axis=0))
    total = w.sum(0)
    np.multiply(w, w, out=product)
    product *= w
    product *= third
    cubes = product.sum(0)
    w *= x
    moment = w.sum(0)
    w *= x
    squares = w.sum(0)
    variance = 1.0 / total
    mean = moment * variance
    level -= np.log(total / base)
    level -= squares - mean * moment
    level *= 0.5
    return _Average(mean, variance, cubes * variance * np.sqrt(variance), level)


class _Given:
    """Average with weights that do not depend on tau."""

    def __init__(self, x: Array, e: Array, third: Array, weight: Array, factor: Array) -> None:
        square = weight * weight
        self._total = weight.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            self._mean = (weight * x).sum(0) / self._total
        self._noise = (square * e).sum(0)
        self._spread = (square * factor).sum(0)
        square *= weight
        square *= third
        self._cubes = square.sum(0)

    def at(self, tau2: float | Array) -> _Average:
        """Return the average at tau; without a likelihood, which does not depend on weights."""
        variance = self._noise + tau2 * self._spread
        with np.errstate(divide="ignore", invalid="ignore"):
            skew = self._cubes / (variance * np.sqrt(variance))
            of_mean = variance / (self._total * self._total)
        return _Average(self._mean, of_mean, skew, np.empty(0))


def _beyond(size: Array, mean: Array) -> Array:
    """Compute P(|N(mean, 1)| > size) for size, mean >= 0."""
    gap = size - mean
    half = 0.5 * two_sided(np.abs(gap))
    return np.where(gap > 0.0, half, 1.0 - half) + 0.5 * two_sided(size + mean)


def _add_flips(
    x: Array,
    v: Array,
    base: Array,
    carrying: Array,
    best: Array,
    average: _Average,
    given: Array | None,
    flips: list[tuple[float, Array]],
    alone: Array,
    value: Array,
) -> None:
    """Add the p-value if the correlation of every donor is b or -b, as tossed by a coin.

    Of all patterns of signs, that of the data and those in which all donors agree by chance matter.
    """
    w = 1.0 / v
    sign = np.sign(x)
    signs = (w * sign).sum(0)
    moment, sizes, squares = ((w * part).sum(0) for part in (x, np.abs(x), x * x))
    lean = signs / base
    if given is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            lean = (given * sign).sum(0) / given.sum(0)
    chance = (1.0 - carrying) * np.log(2)
    agree = np.exp(np.minimum(chance - 0.5 * (squares - moment * moment / base) - best, 600.0))
    uniform = np.abs(signs) > 0.999999 * base
    spread = 1.0 / np.sqrt(average.variance)
    size = np.abs(average.mean) * spread
    for b, weight in flips:
        rest = moment - b * signs
        seen = squares - 2.0 * b * sizes + b * b * base - rest * rest / base
        data = np.exp(np.minimum(chance - 0.5 * seen - best, 600.0))
        data[uniform] = 0.0
        alone += weight * (agree + data)
        value += weight * (
            agree * _beyond(size, b * spread) + data * _beyond(size, np.abs(b * lean) * spread)
        )
