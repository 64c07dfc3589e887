"""Loops over gene pairs for random-effects regressions of the correlations of samples."""

from __future__ import annotations

import numpy as np

from hiercorr.kernels.elementary import exp, log
from hiercorr.kernels.heterogeneity import ABSENT, _beyond, _symmetric, _tail
from hiercorr.runtime.compile import compiled, over_ranges

_BLOCK = 64  # pairs whose arrays stay in the first-level cache
_FACTORS = 16  # factors of a product before its logarithm is taken
_LARGEST_Z = 37.0  # the p-value of larger ones underflows
_LEAST_GROWTH = 0.05  # of a variance with the correlation
_ROUNDING = 1e-12  # of a residual
_LOG2 = 0.6931471805599453
_loop = compiled(fastmath={"contract", "arcp", "reassoc"})


@_loop
def _fill(n, value, out):
    for u in range(n):
        out[u] = value


@_loop
def _copy(n, values, first, out):
    for u in range(n):
        out[u] = values[first + u]


@_loop
def _write(n, values, first, out):
    for u in range(n):
        out[first + u] = values[u]


@_loop
def _add(n, factor, values, out):
    for u in range(n):
        out[u] += factor * values[u]


@_loop
def _add_product(n, factor, a, b, out):
    for u in range(n):
        out[u] += factor * a[u] * b[u]


@_loop
def _weigh(n, v, inflation, tau2, w, product):
    """Fill the weights of a sample, and multiply the product of all relative to tau = 0."""
    for u in range(n):
        w[u] = 1.0 / (v[u] + tau2)
    for u in range(n):
        product[u] *= v[u] * w[u]
    for u in range(n):
        w[u] *= inflation


@_loop
def _take_logs(n, product, out):
    for u in range(n):
        out[u] += 0.5 * log(product[u])
    for u in range(n):
        product[u] = 1.0


@_loop
def _pivot(n, singular, diagonal, root, regular, level):
    """Take the root of a pivot, 1 where it vanishes beside the diagonal."""
    for u in range(n):
        regular[u] = regular[u] if root[u] > singular * diagonal[u] else 0.0
    for u in range(n):
        root[u] = np.sqrt(root[u]) if regular[u] > 0.0 else 1.0
    for u in range(n):
        level[u] -= log(root[u])


@_loop
def _subtract_product(n, a, b, out):
    for u in range(n):
        out[u] -= a[u] * b[u]


@_loop
def _divide(n, by, out):
    for u in range(n):
        out[u] /= by[u]


@_loop
def _subtract_squares(n, w, residual, level):
    for u in range(n):
        level[u] -= 0.5 * w[u] * residual[u] * residual[u]


@_loop
def _add_cubes(n, w, along, third, out):
    for u in range(n):
        row = w[u] * along[u]
        out[u] += row * row * row * third[u]


@compiled()
def _factorise(n, w, x, singular, root, diagonal, regular, level):
    """Fill the Cholesky factors of X'WX of a block of pairs, (k (k + 1) / 2, pairs)."""
    samples, k = x.shape
    for i in range(k):
        for j in range(i + 1):
            own = root[i * (i + 1) // 2 + j]
            _fill(n, 0.0, own)
            for s in range(samples):
                f = x[s, i] * x[s, j]
                if f != 0.0:
                    _add(n, f, w[s], own)
            if i == j:
                _copy(n, own, 0, diagonal)
            for m in range(j):
                _subtract_product(n, root[i * (i + 1) // 2 + m], root[j * (j + 1) // 2 + m], own)
            if i == j:
                _pivot(n, singular, diagonal, own, regular, level)
            else:
                _divide(n, root[j * (j + 1) // 2 + j], own)


@compiled()
def _solve(n, root, side):
    """Solve X'WX b = side of a block of pairs in place, (k, pairs)."""
    k = len(side)
    for i in range(k):
        for m in range(i):
            _subtract_product(n, root[i * (i + 1) // 2 + m], side[m], side[i])
        _divide(n, root[i * (i + 1) // 2 + i], side[i])
    for i in range(k - 1, -1, -1):
        for m in range(i + 1, k):
            _subtract_product(n, root[m * (m + 1) // 2 + i], side[m], side[i])
        _divide(n, root[i * (i + 1) // 2 + i], side[i])


@compiled()
def _least_squares(n, y, w, x, root, beta, residual):
    """Fill the coefficients and the residuals of a block of pairs."""
    samples, k = x.shape
    for i in range(k):
        _fill(n, 0.0, beta[i])
        for s in range(samples):
            if x[s, i] != 0.0:
                _add_product(n, x[s, i], w[s], y[s], beta[i])
    _solve(n, root, beta)
    for s in range(samples):
        _copy(n, y[s], 0, residual[s])
        for i in range(k):
            if x[s, i] != 0.0:
                _add(n, -x[s, i], beta[i], residual[s])


@compiled()
def _contrast(n, c, beta, out):
    _fill(n, 0.0, out)
    for i in range(len(c)):
        _add(n, c[i], beta[i], out)


@_loop
def _add_tails(n, weight, level, estimate, variance, cubes, score, total, value):
    """Add the p-value at one tau, times its posterior probability."""
    for u in range(n):
        score[u] = estimate[u] / np.sqrt(variance[u])
    for u in range(n):
        cubes[u] /= variance[u] * np.sqrt(variance[u])
    for u in range(n):
        score[u] = _symmetric(score[u], cubes[u])
    for u in range(n):
        size = abs(score[u])
        score[u] = _tail(size if size < _LARGEST_Z else _LARGEST_Z)
    for u in range(n):
        total[u] += weight[u] * level[u]
    for u in range(n):
        value[u] += weight[u] * level[u] * score[u]


@_loop
def _add_by_chance(n, b, weight, level, apart, size, spread, total, value):
    """Add the p-value if samples differ by b by chance, times its posterior probability."""
    for u in range(n):
        own = weight[u] * exp(level[u] if level[u] < 600.0 else 600.0)
        total[u] += own
        value[u] += own * _beyond(size[u], b * abs(apart[u]) * spread[u])


@_loop
def _add_density(n, weight, sigma2, estimate, variance, out):
    """Add the density of the estimate if the contrast varies by sigma^2 over pairs."""
    for u in range(n):
        wide = 1.0 / (variance[u] + sigma2)
        half = -0.5 * estimate[u] * estimate[u] * wide
        out[u] += weight[u] * np.sqrt(variance[u] * wide) * exp(half)


@_loop
def _add_moments(n, level, density, estimate, variance, together, m1, m2):
    for u in range(n):
        density[u] *= level[u]
    for u in range(n):
        together[u] += density[u]
    for u in range(n):
        m1[u] += density[u] * estimate[u]
    for u in range(n):
        m2[u] += density[u] * (variance[u] + estimate[u] * estimate[u])


@_loop
def _choose(n, kind, first, unrelated, related, out):
    for u in range(n):
        out[u] = related if kind[first + u] else unrelated


@_loop
def _summarise(n, known, together, m1, m2, estimate, variance, total, value):
    """Turn sums over the posterior into means; a pair like no other gets the largest tau."""
    for u in range(n):
        found = together[u] > 1e-280
        g = 1.0 / together[u] if found else 0.0
        m1[u] = m1[u] * g if found else estimate[u]
        m2[u] = m2[u] * g if found else variance[u] + estimate[u] * estimate[u]
        together[u] = g
        m2[u] = np.sqrt(max(m2[u] - m1[u] * m1[u], 0.0))
        value[u] = min(value[u] / total[u], 1.0) if total[u] > 0.0 else 1.0
        if known[u] == 0.0:
            m1[u] = np.nan
            m2[u] = np.nan
            value[u] = np.nan


@compiled()
def _regress_pairs(begin, end, effects, design, prior, singular, out, space):
    """Estimate a range of pairs, see :func:`regress`."""
    y, v, third, kind = effects
    x, c, group, inflation, aligned = design
    tau2, weight, flips, flip_weight, sigma2, joint = prior
    difference, se, p, t2 = out
    room, root, by_column, by_sample, by_point, taus = space
    samples, k = x.shape
    points, groups = tau2.shape
    product, diagonal, regular, top = room[0], room[1], room[2], room[3]
    total, value, together, m1, m2, own = room[4], room[5], room[6], room[7], room[8], room[9]
    density, size, spread, apart, chance = room[10], room[11], room[12], room[13], room[14]
    cross, square, seen, agree, usable = room[15], room[16], room[17], room[18], room[19]
    ys, vs, thirds, w = by_sample[0], by_sample[1], by_sample[2], by_sample[3]
    residual, sign, along = by_sample[4], by_sample[5], by_sample[6]
    level, estimate, variance, cubes = by_point[0], by_point[1], by_point[2], by_point[3]
    beta, inner = by_column[0], by_column[1]
    for start in range(begin, end, _BLOCK):
        n = min(_BLOCK, end - start)
        for s in range(samples):
            _copy(n, y[s], start, ys[s])
            _copy(n, v[s], start, vs[s])
            _copy(n, third[s], start, thirds[s])
        for q in range(-1, points):  # -1: tau = 0
            a = max(q, 0)
            _fill(n, 1.0, product)
            _fill(n, 1.0, regular)
            _fill(n, 0.0, level[a])
            for s in range(samples):
                _weigh(
                    n, vs[s], 1.0 / inflation[s], 0.0 if q < 0 else tau2[q, group[s]], w[s], product
                )
                if s % _FACTORS == _FACTORS - 1 or s == samples - 1:
                    _take_logs(n, product, level[a])
            _factorise(n, w, x, singular, root, diagonal, regular, level[a])
            _least_squares(n, ys, w, x, root, beta, residual)
            for s in range(samples):
                _subtract_squares(n, w[s], residual[s], level[a])
            _contrast(n, c, beta, estimate[a])
            for i in range(k):
                _fill(n, c[i], inner[i])
            _solve(n, root, inner)
            _contrast(n, c, inner, variance[a])
            if q >= 0:
                _fill(n, 0.0, cubes[a])
                for s in range(samples):
                    _fill(n, 0.0, along[s])
                    for i in range(k):
                        if x[s, i] != 0.0:
                            _add(n, x[s, i], inner[i], along[s])
                    _add_cubes(n, w[s], along[s], thirds[s], cubes[a])
                continue
            _fill(n, 0.0, chance)
            for s in range(samples):
                for u in range(n):
                    chance[u] -= _LOG2 if vs[s, u] < ABSENT else 0.0
                for u in range(n):
                    sign[s, u] = -1.0 if residual[s, u] < -_ROUNDING else 1.0
            for u in range(n):
                usable[u] = 1.0 if regular[u] > 0.0 else 0.0
                spread[u] = 1.0 / np.sqrt(variance[a, u])
                size[u] = abs(estimate[a, u]) * spread[u]
                agree[u] = level[a, u] + chance[u] + _LOG2
            _least_squares(n, sign, w, x, root, beta, along)
            _contrast(n, c, beta, apart)
            _fill(n, 0.0, cross)
            _fill(n, 0.0, square)
            for s in range(samples):
                for u in range(n):
                    r = w[s, u] * along[s, u]
                    cross[u] += r * residual[s, u]
                    square[u] += r * along[s, u]
        _fill(n, -1e300, top)
        for a in range(points):
            for u in range(n):
                top[u] = max(top[u], level[a, u])
        for a in range(points):
            for u in range(n):
                level[a, u] = exp(level[a, u] - top[u])
        for result in (total, value, together, m1, m2):
            _fill(n, 0.0, result)
        for g in range(groups):
            _fill(n, 0.0, taus[g])
        for a in range(points):
            if weight[0, a] > 0.0 or weight[1, a] > 0.0:
                _choose(n, kind, start, weight[0, a], weight[1, a], own)
                _add_tails(n, own, level[a], estimate[a], variance[a], cubes[a], seen, total, value)
        for f in range(len(flips)):
            b = flips[f]
            if flip_weight[0, f] > 0.0 or flip_weight[1, f] > 0.0:
                _choose(n, kind, start, flip_weight[0, f], flip_weight[1, f], own)
                for m in range(len(aligned)):
                    _fill(n, aligned[m], density)
                    for u in range(n):
                        seen[u] = agree[u] - top[u]
                    _add_by_chance(n, b, own, seen, density, size, spread, total, value)
                for u in range(n):
                    far = agree[u] + b * cross[u] - 0.5 * b * b * square[u] - top[u]
                    seen[u] = far if square[u] > 1e-6 else -800.0
                _add_by_chance(n, b, own, seen, apart, size, spread, total, value)
        for a in range(points):
            _fill(n, 0.0, density)
            for q in range(len(sigma2)):
                if joint[0, a, q] > 0.0 or joint[1, a, q] > 0.0:
                    _choose(n, kind, start, joint[0, a, q], joint[1, a, q], own)
                    _add_density(n, own, sigma2[q], estimate[a], variance[a], density)
            _add_moments(n, level[a], density, estimate[a], variance[a], together, m1, m2)
            for g in range(groups):
                _add(n, tau2[a, g], density, taus[g])
        last = points - 1
        _summarise(n, usable, together, m1, m2, estimate[last], variance[last], total, value)
        _write(n, m1, start, difference)
        _write(n, m2, start, se)
        _write(n, value, start, p)
        for g in range(groups):
            for u in range(n):
                mean = taus[g, u] * together[u] if together[u] > 0.0 else tau2[last, g]
                t2[g, start + u] = np.sqrt(mean) if usable[u] > 0.0 else np.nan


@_loop
def _relative_sums(n, first, sums, scale1, scale2, unit, ratio1, ratio2, y, v, known):
    """Scale the sums of a sample: the correlation times D, its variance times D^2, and D."""
    num, den, noise = sums
    for u in range(n):
        d, e = np.float64(den[first + u]), np.float64(noise[first + u])
        good = (d > 0.0) & (e > 0.0) & (unit[u] > 0.0)
        rest = ratio1 + ratio2[first + u]
        known[u] = d if good & (rest - rest == 0.0) else 0.0
    for u in range(n):
        f = scale1 * scale2[first + u] * unit[u]
        y[u] = np.float64(num[first + u]) * f if known[u] > 0.0 else 0.0
        v[u] = np.float64(noise[first + u]) * f * f if known[u] > 0.0 else 0.0


@_loop
def _add_all(n, y, v, known, total, mean, noise):
    for u in range(n):
        total[u] += known[u]
        mean[u] += y[u]
        noise[u] += v[u]


@_loop
def _linearise(n, first, rho, ratio1, ratio2, share1, share2, skew1, skew2, known, y, v, skew, r2):
    """Take out the sample's variances, and let the variance grow with the correlation."""
    for u in range(n):
        both, rest = share1 * share2[first + u], share1 + share2[first + u]
        odds = share1 / share2[first + u]
        square = rho[u] * rho[u]
        g = 1.0 + square * both * (1.0 + square) + square * (0.5 * (odds + 1.0 / odds) - 2.0 * rest)
        g = max(g if g - g == 0.0 else 1.0 + square, _LEAST_GROWTH)
        value = y[u] / known[u] - 0.5 * rho[u] * (ratio1 + ratio2[first + u] - 2.0)
        variance = v[u] / (known[u] * known[u]) * g
        good = (value - value == 0.0) & (variance - variance == 0.0)
        y[u] = value if good else 0.0
        v[u] = variance if good else ABSENT
        skew[u] = skew1 * skew2[first + u] if good else 0.0
        r2[u] = square * both if good else 0.0


@compiled()
def effects_of_row(t, first, sums, left, right, related_from, largest_square, out, related, room):
    """Compute the correlations of row t of a tile with the columns from `first` on, by sample.

    See :func:`hiercorr.within.hierarchical_difference.sample_effects`.

    Parameters
    ----------
    t, first : int
    sums : tuple of ndarray, shape (samples, rows, columns)
        N, D, and the variance of N without correlation.
    left, right : tuple of ndarray
        Variance (genes,); relative scale, rest of the variance, biological share and skewness
        (samples, genes).
    related_from, largest_square : float
        Standard errors from which a pair is related; largest square of a correlation.
    out : ndarray, shape (4, samples, pairs)
        Results: correlations, their variances, skewness and squares.
    related : ndarray of bool, shape (pairs,)
        Result.
    room : ndarray, shape (samples + 4, pairs)
        Workspace.
    """
    num, den, noise = sums
    phi1, scale1, ratio1, share1, skew1 = left
    phi2, scale2, ratio2, share2, skew2 = right
    y, v, skew, square = out[0], out[1], out[2], out[3]
    samples, n = y.shape
    unit, total = room[samples], room[samples + 1]
    mean, spread = room[samples + 2], room[samples + 3]
    for u in range(n):
        both = phi1[t] * phi2[first + u]
        unit[u] = 1.0 / np.sqrt(both) if both > 0.0 and phi1[t] > 0.0 else 0.0
    for part in (total, mean, spread):
        _fill(n, 0.0, part)
    for s in range(samples):
        own, other = scale1[s, t], scale2[s]
        of_sample = num[s, t], den[s, t], noise[s, t]
        _relative_sums(
            n, first, of_sample, own, other, unit, ratio1[s, t], ratio2[s], y[s], v[s], room[s]
        )
        _add_all(n, y[s], v[s], room[s], total, mean, spread)
    for u in range(n):
        r, v0 = mean[u] / total[u], spread[u] / (total[u] * total[u])
        related[u] = abs(r) > related_from * np.sqrt(v0)
        rho = np.sqrt(min(max(r * r - v0, 0.0), largest_square))
        mean[u] = rho if r > 0.0 else -rho
    for s in range(samples):
        a, b = share1[s, t], share2[s]
        c, d = skew1[s, t], skew2[s]
        one, two = ratio1[s, t], ratio2[s]
        _linearise(n, first, mean, one, two, a, b, c, d, room[s], y[s], v[s], skew[s], square[s])


def regress(effects, design, prior, singular, out):
    """Estimate a contrast of a regression over samples for every pair.

    See :func:`hiercorr.inference.meta_regression.regression_estimate`.

    Parameters
    ----------
    effects : tuple of ndarray
        Correlations, their sampling variances and third central moments, shape (samples, pairs),
        and whether the pair is related, shape (pairs,).
    design : tuple of ndarray
        Design matrix (samples, k), contrast (k,), group of each sample, factor of its variance, and
        differences if signs fall into a pattern by chance (patterns,).
    prior : tuple of ndarray
        tau^2 (points, groups) and its distribution over unrelated and related pairs (2, points);
        absolute correlations with random signs and their distribution (2, flips); variance of the
        contrast over pairs, and its joint distribution with tau (2, points, sigmas).
    singular : float
        Smallest pivot of the design relative to its diagonal entry.
    out : tuple of ndarray
        Results: difference, its standard error and p-value, shape (pairs,), and tau, shape (groups,
        pairs); NaN where the design is singular.
    """
    samples, k = design[0].shape
    points, groups = prior[0].shape

    def some(begin: int, end: int) -> None:
        room, root = np.zeros((20, _BLOCK)), np.ones((k * (k + 1) // 2, _BLOCK))
        by_column, by_sample = np.zeros((2, k, _BLOCK)), np.ones((7, samples, _BLOCK))
        by_point, taus = np.ones((4, points, _BLOCK)), np.zeros((groups, _BLOCK))
        space = room, root, by_column, by_sample, by_point, taus
        _regress_pairs(begin, end, effects, design, prior, singular, out, space)

    over_ranges(some, effects[0].shape[1])
