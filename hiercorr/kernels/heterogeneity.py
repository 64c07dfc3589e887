"""Loops over the gene pairs of large tiles for the posterior of the heterogeneity."""

from __future__ import annotations

import numpy as np
from numba import njit

from hiercorr.kernels.elementary import exp, log
from hiercorr.kernels.vectors import DOUBLES, add_weighted
from hiercorr.runtime.compile import over_ranges

_BLOCK = 128  # pairs whose arrays stay in the first-level cache; a multiple of a register
_FACTORS = 16  # factors of a product before its logarithm is taken
ABSENT = 1e30  # variance of a donor without information on the pair
_loop = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "reassoc"})
_LARGEST_Z = 37.0  # the p-value of larger ones underflows


@_loop
def _scale_effects(n, scale1, scale, scale2, den, w):
    for u in range(n):
        w[u] = scale1 * scale[u] * scale2[u]
    for u in range(n):
        d = np.float64(den[u])
        w[u] = w[u] / d if d > 0.0 else 0.0


@_loop
def _of_donor(n, num, noise, w, effect, variance):
    for u in range(n):
        v = np.float64(noise[u]) * w[u] * w[u]
        variance[u] = v if v > 0.0 else ABSENT
    for u in range(n):
        x = np.float64(num[u]) * w[u]
        effect[u] = x if variance[u] < ABSENT else 0.0


@_loop
def _add_first(n, effect, variance, w, mean, total):
    for u in range(n):
        w[u] = 1.0 / variance[u]
    for u in range(n):
        total[u] += w[u]
    for u in range(n):
        mean[u] += w[u] * effect[u]


@_loop
def _grow(n, inflation, share1, square, share2, variance):
    for u in range(n):
        v = variance[u]
        grown = v * (1.0 + square[u] * share1 * share2[u]) * inflation
        variance[u] = grown if v < ABSENT else v


@_loop
def _effects(num, den, noise, t, first, n, scale, side1, side2, inflation, effect, variance):
    """Fill (donors, n) effects and sampling variances of a block of pairs of row t.

    Returns nothing; `effect` is 0 and `variance` 1e30 where a donor has no information.
    """
    s = num.shape[0]
    scale1, share1 = side1
    scale2, share2 = side2
    mean = np.zeros(n)
    total = np.zeros(n)
    w = np.empty(n)
    for c in range(s):
        _scale_effects(n, scale1[c, t], scale, scale2[c, first:], den[c, t, first:], w)
        _of_donor(n, num[c, t, first:], noise[c, t, first:], w, effect[c], variance[c])
        _add_first(n, effect[c], variance[c], w, mean, total)
    for u in range(n):
        v = 1.0 / total[u]
        r = mean[u] * v
        total[u] = min(max(r * r - v, 0.0), 0.9)
    for c in range(s):
        _grow(n, inflation[c], share1[c, t], total, share2[c, first:], variance[c])


@njit(inline="always", error_model="numpy")
def _tail(z):
    """Compute 2 Phi(-z) for z >= 0 to a relative error of 2e-7 (Chebyshev fit of log erfc)."""
    x = z * 0.7071067811865476
    t = 1.0 / (1.0 + 0.5 * x)
    c = -0.82215223 + t * 0.17087277
    c = -1.13520398 + t * (1.48851587 + t * c)
    c = -0.18628806 + t * (0.27886807 + t * c)
    c = 0.37409196 + t * (0.09678418 + t * c)
    c = -1.26551223 + t * (1.00002368 + t * c)
    return t * exp(c - x * x)


@njit(inline="always", error_model="numpy")
def _symmetric(z, skew):
    """Transform z to a normal score, see :func:`hiercorr.inference.posterior.symmetric`."""
    limit = 1.0 / max(abs(z), 1e-12)
    short = limit if skew > limit else (-limit if skew < -limit else skew)
    skew = short if z * skew < 0.0 else skew
    g = skew if abs(skew) > 1e-4 else 1e-4
    base = 1.0 + 0.5 * g * z
    base = base if base > 1e-12 else 1e-12
    large = 6.0 / g * (exp(log(base) * (1.0 / 3.0)) - 1.0) + g * (1.0 / 6.0)
    small = z - skew * (z * z - 1.0) * (1.0 / 6.0)
    return large if abs(skew) > 1e-4 else small


@njit(inline="always", error_model="numpy")
def _normal_score(p):
    """Compute z >= 0 with 2 Phi(-z) = p (rational fit, one step of Newton's method); NaN stays."""
    p = 1e-300 if p < 1e-300 else p
    r = np.sqrt(-2.0 * log(0.5 * p))
    top = 2.515517 + r * (0.802853 + r * 0.010328)
    z = r - top / (1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308)))
    z = z if z > 0.0 else 0.0
    density = 0.7978845608028654 * exp(-0.5 * z * z)  # of |z|
    return z + (_tail(z) - p) / density


# Loops over the pairs of a block, with few arrays each: LLVM vectorises no loop that would need to
# check more than some pairs of arrays for overlap.


@_loop
def _zero(n, out):
    for u in range(n):
        out[u] = 0.0


@_loop
def _scaled(n, factor, values, out):
    for u in range(n):
        out[u] = factor * values[u]


@_loop
def _add_sums(n, v, e, known, third, skew, base, carrying):
    """Add what does not depend on tau of a donor; without information, e and known are 0."""
    for u in range(n):
        known[u] = 1.0 if v[u] < ABSENT else 0.0
    for u in range(n):
        e[u] = v[u] * known[u]
    for u in range(n):
        third[u] = skew[u] * e[u] * np.sqrt(e[u])
    for u in range(n):
        base[u] += 1.0 / v[u]
    for u in range(n):
        carrying[u] += known[u]


@_loop
def _add_given(c, n, factor, g, x, e, third, weight, mean, noise, spread, skew):
    """Add the sums of an average with weights g that do not depend on tau."""
    for u in range(n):
        weight[u] += g[u]
    for u in range(n):
        mean[u] += g[u] * x[c, u]
    for u in range(n):
        noise[u] += g[u] * g[u] * e[c, u]
    for u in range(n):
        spread[u] += g[u] * g[u] * factor
    for u in range(n):
        skew[u] += g[u] * g[u] * g[u] * third[c, u]


@_loop
def _start_adaptive(sums):
    sums[:] = 0.0
    sums[0] = 1.0


@_loop
def _take_logs(a, n, product, level):
    for u in range(n):
        level[a, u] += log(product[u])
    for u in range(n):
        product[u] = 1.0


@_loop
def _settle_adaptive(a, n, base, total, moment, squares, skew, level, mean, variance, skewed):
    """Compute mean, variance, skewness and restricted log likelihood at one tau."""
    for u in range(n):
        variance[a, u] = 1.0 / total[u]
    for u in range(n):
        mean[a, u] = moment[u] * variance[a, u]
    for u in range(n):
        squares[u] -= mean[a, u] * moment[u]
    for u in range(n):
        level[a, u] = 0.5 * (level[a, u] - log(total[u] / base[u]) - squares[u])
    for u in range(n):
        skewed[a, u] = skew[u] * variance[a, u] * np.sqrt(variance[a, u])


@_loop
def _settle_given(a, n, tau2, weight, mean, noise, spread, skew, means, variances, skewed):
    """Compute mean, variance and skewness with given weights at one tau."""
    for u in range(n):
        means[a, u] = mean[u] / weight[u]
    for u in range(n):
        variances[a, u] = (noise[u] + tau2 * spread[u]) / (weight[u] * weight[u])
    for u in range(n):
        x = variances[a, u] * weight[u] * weight[u]
        skewed[a, u] = skew[u] / (x * np.sqrt(x))


@_loop
def _likelihoods(taus, n, level, best):
    for u in range(n):
        best[u] = -1e300
    for a in range(taus):
        for u in range(n):
            best[u] = max(best[u], level[a, u])
    for a in range(taus):
        for u in range(n):
            level[a, u] = exp(level[a, u] - best[u])


@_loop
def _add_tails(a, n, null, level, mean, variance, skewed, score, alone, value):
    """Add the p-value at one tau, times its posterior probability."""
    for u in range(n):
        score[u] = mean[a, u] / np.sqrt(variance[a, u])
    for u in range(n):
        score[u] = _symmetric(score[u], skewed[a, u])
    for u in range(n):
        size = abs(score[u])
        score[u] = _tail(size if size < _LARGEST_Z else _LARGEST_Z)
    for u in range(n):
        alone[u] += null * level[a, u]
    for u in range(n):
        value[u] += null * level[a, u] * score[u]


@_loop
def _add_signs(c, n, x, v, w, squares, sizes, moment, signs):
    """Add the sums at tau = 0 from which the likelihood of correlations +-b follows for every b."""
    for u in range(n):
        w[u] = 1.0 / v[c, u]
    for u in range(n):
        signs[u] += w[u] if x[c, u] > 0.0 else (-w[u] if x[c, u] < 0.0 else 0.0)
    for u in range(n):
        w[u] *= x[c, u]
    for u in range(n):
        moment[u] += w[u]
    for u in range(n):
        sizes[u] += abs(w[u])
    for u in range(n):
        squares[u] += w[u] * x[c, u]


@njit(inline="always", error_model="numpy")
def _beyond(size, mean):
    """Compute P(|N(mean, 1)| > size) for size, mean >= 0."""
    gap = size - mean
    half = 0.5 * _tail(abs(gap) if abs(gap) < _LARGEST_Z else _LARGEST_Z)
    far = size + mean
    other = 0.5 * _tail(far if far < _LARGEST_Z else _LARGEST_Z)
    return (half if gap > 0.0 else 1.0 - half) + other


@_loop
def _add_flips(n, b, weight, total, sums, best, carrying, mean, variance, lean, alone, value):
    """Add the p-value if the correlation of every donor is b or -b, as tossed by a coin.

    Of all patterns of signs, that of the data and those in which all donors agree by chance matter.
    """
    squares, sizes, moment, signs = sums
    for u in range(n):
        chance = (1.0 - carrying[u]) * 0.6931471805599453
        deviance = squares[u] - moment[u] * moment[u] / total[u]
        agree = exp(chance - 0.5 * deviance - best[u])
        rest = moment[u] - b * signs[u]
        seen = squares[u] - 2.0 * b * sizes[u] + b * b * total[u] - rest * rest / total[u]
        gap = chance - 0.5 * seen - best[u]
        data = exp(gap if gap < 600.0 else 600.0)
        data = 0.0 if abs(signs[u]) > 0.999999 * total[u] else data
        spread = 1.0 / np.sqrt(variance[0, u])
        size = abs(mean[0, u]) * spread
        alone[u] += weight[u] * (agree + data)
        value[u] += weight[u] * (
            agree * _beyond(size, b * spread) + data * _beyond(size, abs(b * lean[u]) * spread)
        )


@_loop
def _add_density(a, n, prior, sigma2, mean, variance, out):
    """Add the density of the adaptive mean if its expectation varies by sigma^2."""
    for u in range(n):
        wide = 1.0 / (variance[a, u] + sigma2)
        half = -0.5 * mean[a, u] * mean[a, u] * wide
        out[u] += prior * np.sqrt(wide) * exp(half)


@_loop
def _add_posterior(a, n, tau2, level, density, mean, variance, together, m1, m2, t2):
    for u in range(n):
        density[u] *= level[a, u]
    for u in range(n):
        together[u] += density[u]
    for u in range(n):
        m1[u] += density[u] * mean[a, u]
    for u in range(n):
        m2[u] += density[u] * (variance[a, u] + mean[a, u] * mean[a, u])
    for u in range(n):
        t2[u] += density[u] * tau2


@_loop
def _weigh(n, inflation, tau2, known, v, w):
    for u in range(n):
        w[u] = known[u] / (v[u] + tau2[u] * inflation)


@_loop
def _add_weight(n, w, total, largest):
    for u in range(n):
        total[u] += w[u]
    for u in range(n):
        largest[u] = w[u] if w[u] > largest[u] else largest[u]


@_loop
def _write(values, t, first, n, out):
    for u in range(n):
        out[t, first + u] = values[u]


@_loop
def _write_estimate(t, first, n, r, deviation, correlation, se):
    for u in range(n):
        correlation[t, first + u] = r[u]
    for u in range(n):
        se[t, first + u] = deviation[u] if r[u] == r[u] else np.nan


@_loop
def _write_test(t, first, n, r, value, p, statistic):
    for u in range(n):
        p[t, first + u] = value[u]
    for u in range(n):
        score = _normal_score(value[u])
        statistic[t, first + u] = score if r[u] > 0 else -score


@_loop
def _summarise(n, usable, together, m1, m2, t2, alone, value, last_mean, last_variance, last):
    """Turn sums over the posterior into means; a pair like no other gets the largest tau."""
    for u in range(n):
        found = together[u] > 1e-280
        g = 1.0 / together[u] if found else 0.0
        m1[u] = m1[u] * g if found else last_mean[u]
        m2[u] = m2[u] * g if found else last_variance[u] + last_mean[u] * last_mean[u]
        t2[u] = t2[u] * g if found else last
        value[u] = min(value[u] / alone[u], 1.0) if alone[u] > 0.0 else 1.0
        if not usable[u]:
            m1[u] = np.nan
            t2[u] = np.nan
            value[u] = np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _posterior_rows(
    begin,
    end,
    sums,
    sides,
    inflation,
    grid,
    weighting,
    informative,
    upper,
    estimate,
    tests,
):
    """Estimate the pairs of a range of rows of a tile, see :func:`posterior`."""
    num, den, noise = sums
    phi1, phi2, scale1, scale2, share1, share2, skew1, skew2, noise1, noise2, factor1, factor2 = (
        sides
    )
    tau2, null, points, prior, sigma2, flips, flip_weights = grid
    correlation, se, tau = estimate
    statistic, p, largest = tests
    s, _, columns = num.shape
    taus = len(tau2)
    x = np.zeros((s, _BLOCK))
    v = np.ones((s, _BLOCK))
    e = np.empty((s, _BLOCK))
    known = np.empty((s, _BLOCK))
    third = np.zeros((s, _BLOCK))
    level = np.empty((taus, _BLOCK))
    mean = np.empty((taus, _BLOCK))
    variance = np.empty((taus, _BLOCK))
    skewed = np.empty((taus, _BLOCK))
    adaptive = np.empty((taus, _BLOCK))
    spread = np.empty((taus, _BLOCK))
    scale = np.empty(_BLOCK)
    w = np.empty(_BLOCK)
    weighted = np.empty((5, _BLOCK))
    extra = np.empty(s)
    density = np.empty(_BLOCK)
    skew = np.empty(_BLOCK)
    usable = np.empty(_BLOCK, np.bool_)
    base = np.empty(_BLOCK)
    carrying = np.empty(_BLOCK)
    weight = np.empty(_BLOCK)
    g_mean = np.empty(_BLOCK)
    g_noise = np.empty(_BLOCK)
    g_spread = np.empty(_BLOCK)
    g_skew = np.empty(_BLOCK)
    total = np.empty(_BLOCK)
    moment = np.empty(_BLOCK)
    signs = np.empty(_BLOCK)
    lean = np.empty(_BLOCK)
    best = np.empty(_BLOCK)
    squares = np.empty(_BLOCK)
    cubes = np.empty(_BLOCK)
    alone = np.empty(_BLOCK)
    value = np.empty(_BLOCK)
    together = np.empty(_BLOCK)
    m1 = np.empty(_BLOCK)
    m2 = np.empty(_BLOCK)
    t2 = np.empty(_BLOCK)
    for t in range(begin, end):
        for first in range(t // _BLOCK * _BLOCK if upper else 0, columns, _BLOCK):
            n = min(_BLOCK, columns - first)
            for u in range(n):
                both = phi1[t] * phi2[first + u]
                scale[u] = 1.0 / np.sqrt(both) if both > 0 and phi1[t] > 0 else 0.0
            genes = (scale1, share1), (scale2, share2)
            _effects(num, den, noise, t, first, n, scale, genes[0], genes[1], inflation, x, v)
            for out in (base, carrying, weight, g_mean, g_noise, g_spread, g_skew):
                _zero(n, out)
            for c in range(s):
                _scaled(n, skew1[c, t], skew2[c, first:], skew)
                _add_sums(n, v[c], e[c], known[c], third[c], skew, base, carrying)
                if weighting > 0:
                    for u in range(n):
                        d = np.float64(den[c, t, first + u]) if weighting == 2 else 1.0
                        w[u] = known[c, u] * d
                    _add_given(
                        c,
                        n,
                        inflation[c],
                        w,
                        x,
                        e,
                        third,
                        weight,
                        g_mean,
                        g_noise,
                        g_spread,
                        g_skew,
                    )
            for a in range(taus):
                _start_adaptive(weighted)
                for u in range(n):
                    level[a, u] = 0.0
                for c in range(s):
                    extra[c] = tau2[a] * inflation[c]
                for begun in range(0, s, _FACTORS):
                    last_donor = min(begun + _FACTORS, s)
                    for at in range(0, n, DOUBLES):
                        add_weighted(weighted, at, _BLOCK, x, v, third, extra, begun, last_donor)
                    _take_logs(a, n, weighted[0], level)
                _settle_adaptive(
                    a,
                    n,
                    base,
                    weighted[1],
                    weighted[2],
                    weighted[3],
                    weighted[4],
                    level,
                    adaptive,
                    spread,
                    skewed,
                )
                if weighting > 0:
                    _settle_given(
                        a,
                        n,
                        tau2[a],
                        weight,
                        g_mean,
                        g_noise,
                        g_spread,
                        g_skew,
                        mean,
                        variance,
                        skewed,
                    )
            averages = (adaptive, spread) if weighting == 0 else (mean, variance)
            _likelihoods(taus, n, level, best)
            for out in (alone, value, together, m1, m2, t2):
                _zero(n, out)
            for a in range(taus):
                _scaled(n, factor1[a, t], factor2[a, first:], w)
                for u in range(n):
                    level[a, u] *= w[u]
            for a in range(taus):
                if null[a] > 0.0:
                    _add_tails(
                        a, n, null[a], level, averages[0], averages[1], skewed, w, alone, value
                    )
            if len(flips) > 0:
                for out in (squares, cubes, moment, signs, lean):
                    _zero(n, out)
                for c in range(s):
                    _add_signs(c, n, x, v, w, squares, cubes, moment, signs)
                for u in range(n):
                    lean[u] = signs[u] / base[u]
                if weighting > 0:
                    _zero(n, lean)
                    for c in range(s):
                        for u in range(n):
                            g = known[c, u]
                            if weighting == 2:
                                g *= np.float64(den[c, t, first + u])
                            lean[u] += g * np.sign(x[c, u]) / weight[u]
                parts = squares, cubes, moment, signs
                for k in range(len(flips)):
                    own = flip_weights[k] * factor1[taus + k, t]
                    _scaled(n, own, factor2[taus + k, first:], w)
                    _add_flips(
                        n,
                        flips[k],
                        w,
                        base,
                        parts,
                        best,
                        carrying,
                        averages[0],
                        averages[1],
                        lean,
                        alone,
                        value,
                    )
            start = 0
            while start < len(points):
                a = points[start]
                _zero(n, density)
                while start < len(points) and points[start] == a:
                    _add_density(a, n, prior[start], sigma2[start], adaptive, spread, density)
                    start += 1
                _add_posterior(
                    a, n, tau2[a], level, density, averages[0], averages[1], together, m1, m2, t2
                )
            for u in range(n):
                usable[u] = (carrying[u] >= 3.0) & (scale[u] > 0.0)
            last = taus - 1
            _summarise(
                n,
                usable,
                together,
                m1,
                m2,
                t2,
                alone,
                value,
                averages[0][last],
                averages[1][last],
                tau2[last],
            )
            for u in range(n):
                of_phi = 0.25 * min(m1[u] * m1[u], 1.0) * (noise1[t] + noise2[first + u])
                w[u] = np.sqrt(max(m2[u] - m1[u] * m1[u], 0.0) + of_phi)
            _write_estimate(t, first, n, m1, w, correlation, se)
            _write_test(t, first, n, m1, value, p, statistic)
            _zero(n, total)
            _zero(n, squares)
            for c in range(s):
                if weighting == 0:
                    _weigh(n, inflation[c], t2, known[c], v[c], w)
                elif weighting == 1:
                    w[:n] = known[c, :n]
                else:
                    for u in range(n):
                        w[u] = known[c, u] * np.float64(den[c, t, first + u])
                _add_weight(n, w, total, squares)
            for u in range(n):
                shown = carrying[u] <= informative * base[u]
                t2[u] = np.sqrt(t2[u]) if shown else np.nan
                w[u] = squares[u] / total[u] if usable[u] else np.nan
            _write(t2, t, first, n, tau)
            _write(w, t, first, n, largest)


def posterior(sums, sides, inflation, grid, weighting, informative, upper, estimate, tests):
    """Estimate the mean correlation over donors of every pair of a tile.

    See :func:`hiercorr.inference.random_effects.hierarchical_estimate`.

    Parameters
    ----------
    sums : tuple of ndarray, shape (donors, rows, columns)
        N_c, D_c, and the expected variance of N_c without correlation.
    sides : tuple of ndarray
        Of the genes of the rows and of the columns: variance (genes,), then relative scale,
        biological share and factor of the skewness (donors, genes) as in
        :class:`hiercorr.inference.random_effects.DonorGenes`, then the
        relative variance of the variance (genes,), then the factors of the prior (taus + flips,
        genes).
    inflation : ndarray, shape (donors,)
        Factor of each donor's variance, tau^2 included.
    grid : tuple of ndarray
        tau^2 and its distribution under the null hypothesis, shape (taus,); position of tau^2 in
        ascending order, probability, and variance of the mean correlation over pairs of each point
        of the joint distribution, shape (points,); absolute correlations with random signs and
        their probability under the null hypothesis, shape (flips,). The first tau is 0.
    weighting : int
        0: weights 1 / (tau^2 + v_c); 1: equal; 2: D_c.
    informative : float
        Harmonic mean of the donors' variances above which tau is NaN.
    upper : bool
        Fill only the blocks of a square tile with entries above the diagonal.
    estimate : tuple of ndarray, shape (rows, columns)
        Results: estimate, its standard error, and the root of the posterior mean of tau^2; NaN with
        fewer than 3 donors.
    tests : tuple of ndarray, shape (rows, columns)
        Results: signed normal score of p, two-sided p-value for the null hypothesis of no
        correlation, and the largest weight of a donor.
    """
    given = (sums, sides, inflation, grid, weighting, informative, upper, estimate, tests)
    over_ranges(_posterior_rows, sums[0].shape[1], *given)
