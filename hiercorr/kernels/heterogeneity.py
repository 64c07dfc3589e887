"""Loops over gene pairs for the hierarchical model: effects of donors, posterior of tau."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from hiercorr.kernels.elementary import exp, log
from hiercorr.runtime.compile import parallel

_BLOCK = 128  # pairs whose arrays stay in the first-level cache
_ABSENT = 1e30  # variance of a donor without information on the pair
_ROOT_TWO = math.sqrt(2.0)
_LARGEST_Z = 37.0  # the p-value of larger ones underflows


@njit(inline="always", error_model="numpy")
def _effects(num, den, noise, t, first, n, scale, side1, side2, inflation, effect, variance):
    """Fill (donors, n) effects and sampling variances of a block of pairs of row t.

    Returns nothing; `effect` is 0 and `variance` 1e30 where a donor has no information.
    """
    s = num.shape[0]
    ratio1, share1 = side1
    ratio2, share2 = side2
    mean = np.zeros(n)
    total = np.zeros(n)
    for c in range(s):
        for u in range(n):
            d = np.float64(den[c, t, first + u])
            e = np.float64(noise[c, t, first + u])
            known = (d > 0.0) & (e > 0.0)
            inverse = scale[u] / d if known else 0.0
            x = num[c, t, first + u] * inverse
            v = e * inverse * inverse if known else _ABSENT
            effect[c, u] = x
            variance[c, u] = v
            mean[u] += x / v
            total[u] += 1.0 / v
    for u in range(n):
        v = 1.0 / total[u]
        r = mean[u] * v
        square = min(max(r * r - v, 0.0), 0.9)
        total[u] = square
        # half the correlation, shrunk by its reliability
        mean[u] = 0.5 * min(max(r, -1.0), 1.0) * square / (square + v)
    for c in range(s):
        f = inflation[c]
        for u in range(n):
            v = variance[c, u]
            if v < _ABSENT:
                effect[c, u] -= mean[u] * (ratio1[c, t] + ratio2[c, first + u])
                v *= 1.0 + total[u] * share1[c, t] * share2[c, first + u]
                variance[c, u] = v * f


@parallel(fastmath={"contract", "arcp", "reassoc"})
def effects(num, den, noise, phi1, phi2, ratio1, ratio2, share1, share2, effect, variance):
    """Compute the effects of donors and their sampling variances of the pairs of a tile.

    See :func:`hiercorr.inference.hierarchical.donor_effects`.

    Parameters
    ----------
    num, den, noise : ndarray, shape (donors, rows, columns)
        Sums N_c and D_c, and the expected variance of N_c without correlation.
    phi1, phi2 : ndarray, shapes (rows,) and (columns,)
        Variances of the genes.
    ratio1, ratio2, share1, share2 : ndarray, shapes (donors, rows) and (donors, columns)
        Relative deviation of a donor's variance, and biological share of the variance of a cell.
    effect, variance : ndarray, shape (donors, rows, columns)
        Results; 0 and 1e30 where a donor has no information.
    """
    s, rows, columns = num.shape
    one = np.ones(s)
    for t in prange(rows):
        x = np.empty((s, _BLOCK))
        v = np.empty((s, _BLOCK))
        scale = np.empty(_BLOCK)
        for first in range(0, columns, _BLOCK):
            n = min(_BLOCK, columns - first)
            for u in range(n):
                product = phi1[t] * phi2[first + u]
                scale[u] = 1.0 / np.sqrt(product) if product > 0 and phi1[t] > 0 else 0.0
            _effects(
                num,
                den,
                noise,
                t,
                first,
                n,
                scale,
                (ratio1, share1),
                (ratio2, share2),
                one,
                x,
                v,
            )
            for c in range(s):
                for u in range(n):
                    effect[c, t, first + u] = x[c, u]
                    variance[c, t, first + u] = v[c, u]


@njit(inline="always", error_model="numpy")
def _two_sided(z, skew):
    """Compute the two-sided p-value of z with the skewness of its distribution.

    The normalising transformation of Wilson and Hilferty, exact for the mean of a gamma variable.
    """
    if abs(skew) > 1e-6:
        base = 1.0 + 0.5 * skew * z
        root = base ** (1.0 / 3.0) if base > 0 else 0.0
        z = 6.0 / skew * (root - 1.0) + skew / 6.0
    return math.erfc(min(abs(z), _LARGEST_Z) / _ROOT_TWO)


@njit(inline="always", error_model="numpy")
def _normal_score(p):
    """Compute z >= 0 with two-sided p-value p (rational start, one step of Halley's method)."""
    q = 0.5 * p
    if q > 0.02425:
        x = q - 0.5
        r = x * x
        a = (
            (
                ((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r
                + 138.3577518672690
            )
            * r
            - 30.66479806614716
        ) * r + 2.506628277459239
        b = (
            (
                ((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r
                + 66.80131188771972
            )
            * r
            - 13.28068155288572
        ) * r + 1.0
        z = -a * x / b
    else:
        r = np.sqrt(-2.0 * np.log(q))
        a = (
            (
                ((-0.007784894002430293 * r - 0.3223964580411365) * r - 2.400758277161838) * r
                - 2.549732539343734
            )
            * r
            + 4.374664141464968
        ) * r + 2.938163982698783
        b = (
            ((0.007784695709041462 * r + 0.3224671290700398) * r + 2.445134137142996) * r
            + 3.754408661907416
        ) * r + 1.0
        z = -a / b
    z = abs(z)
    tail = 0.5 * math.erfc(z / _ROOT_TWO)
    density = np.exp(-0.5 * z * z) * 0.3989422804014327
    step = (tail - q) / density if density > 0 else 0.0
    return z + step / (1.0 + 0.5 * z * step)


@parallel(fastmath={"contract", "arcp", "reassoc"})
def posterior(
    num,
    den,
    noise,
    phi1,
    phi2,
    ratio1,
    ratio2,
    share1,
    share2,
    skew1,
    skew2,
    inflation,
    tau2,
    null,
    sigma2,
    joint,
    weighting,
    correlation,
    deviation,
    tau,
    statistic,
    p,
    hausman,
    largest,
):
    """Estimate the mean correlation over donors of every pair of a tile.

    See :func:`hiercorr.inference.hierarchical.hierarchical_pairs`.

    Parameters
    ----------
    num, den, noise, phi1, phi2, ratio1, ratio2, share1, share2
        See :func:`effects`.
    skew1, skew2 : ndarray, shapes (donors, rows) and (donors, columns)
        Their product is the skewness of N_c.
    inflation : ndarray, shape (donors,)
        Factor of each donor's variance, tau^2 included.
    tau2, null : ndarray, shape (taus,)
        Grid of tau^2 and its distribution under the null hypothesis.
    sigma2 : ndarray, shape (sigmas,)
        Grid of the variance of the mean correlation over pairs.
    joint : ndarray, shape (taus, sigmas)
        Joint distribution of tau^2 and sigma^2 over pairs.
    weighting : int
        0: weights 1 / (tau^2 + v_c); 1: equal; 2: D_c.
    correlation, deviation, tau, statistic, p, hausman, largest : ndarray, shape (rows, columns)
        Results: estimate, posterior standard deviation, root of the posterior mean of tau^2, signed
        normal score of p, two-sided p-value of no correlation, that of equal estimates by adaptive
        and by equal weights, and the largest weight of a donor. NaN with fewer than 3 donors.
    """
    s, rows, columns = num.shape
    taus, sigmas = joint.shape
    for t in prange(rows):
        x = np.empty((s, _BLOCK))
        v = np.empty((s, _BLOCK))
        w3 = np.empty((s, _BLOCK))
        scale = np.empty(_BLOCK)
        carrying = np.empty(_BLOCK)
        equal_mean = np.empty(_BLOCK)
        equal_noise = np.empty(_BLOCK)
        equal_tau = np.empty(_BLOCK)
        given = np.empty(_BLOCK)
        fixed = np.empty((5, _BLOCK))
        level = np.empty((taus, _BLOCK))
        mean = np.empty((taus, _BLOCK))
        variance = np.empty((taus, _BLOCK))
        adaptive = np.empty((taus, _BLOCK))
        spread = np.empty((taus, _BLOCK))
        third = np.empty((taus, _BLOCK))
        total = np.empty(_BLOCK)
        weighted = np.empty(_BLOCK)
        squares = np.empty(_BLOCK)
        product = np.empty(_BLOCK)
        base = np.empty(_BLOCK)
        for first in range(0, columns, _BLOCK):
            n = min(_BLOCK, columns - first)
            for u in range(n):
                both = phi1[t] * phi2[first + u]
                scale[u] = 1.0 / np.sqrt(both) if both > 0 and phi1[t] > 0 else 0.0
            _effects(
                num,
                den,
                noise,
                t,
                first,
                n,
                scale,
                (ratio1, share1),
                (ratio2, share2),
                inflation,
                x,
                v,
            )
            carrying[:n] = 0.0
            equal_mean[:n] = 0.0
            equal_noise[:n] = 0.0
            equal_tau[:n] = 0.0
            fixed[:, :n] = 0.0
            base[:n] = 0.0
            for c in range(s):
                f = inflation[c]
                for u in range(n):
                    known = v[c, u] < _ABSENT
                    e = v[c, u] if known else 0.0
                    carrying[u] += 1.0 if known else 0.0
                    equal_mean[u] += x[c, u] if known else 0.0
                    equal_noise[u] += e
                    equal_tau[u] += f if known else 0.0
                    base[u] += 1.0 / v[c, u]
                    # third central moment of the effect
                    w3[c, u] = skew1[c, t] * skew2[c, first + u] * e * np.sqrt(e)
                    if weighting == 2:
                        g = np.float64(den[c, t, first + u]) if known else 0.0
                    else:
                        g = 1.0 if known else 0.0
                    if weighting > 0:
                        fixed[0, u] += g
                        fixed[1, u] += g * x[c, u]
                        fixed[2, u] += g * g * e
                        fixed[3, u] += g * g * f
                        fixed[4, u] += g * g * g * w3[c, u]
            for a in range(taus):
                tau_square = tau2[a]
                total[:n] = 0.0
                weighted[:n] = 0.0
                squares[:n] = 0.0
                third[a, :n] = 0.0
                level[a, :n] = 0.0
                product[:n] = 1.0
                for c in range(s):
                    extra = tau_square * inflation[c]
                    for u in range(n):
                        e = v[c, u]
                        w = 1.0 / (e + extra)
                        wx = w * x[c, u]
                        total[u] += w
                        weighted[u] += wx
                        squares[u] += wx * x[c, u]
                        third[a, u] += w * w * w * w3[c, u]
                        product[u] *= w * e
                    if c % 16 == 15 or c == s - 1:
                        for u in range(n):
                            level[a, u] += log(product[u])
                            product[u] = 1.0
                for u in range(n):
                    inverse = 1.0 / total[u]
                    m = weighted[u] * inverse
                    level[a, u] = 0.5 * (
                        level[a, u] - log(total[u] / base[u]) - (squares[u] - m * weighted[u])
                    )
                    mean[a, u] = m
                    variance[a, u] = inverse
                    adaptive[a, u] = m
                    spread[a, u] = inverse
                    third[a, u] *= inverse * inverse * inverse
                    if weighting > 0:
                        g = 1.0 / fixed[0, u]
                        mean[a, u] = fixed[1, u] * g
                        variance[a, u] = (fixed[2, u] + tau_square * fixed[3, u]) * g * g
                        third[a, u] = fixed[4, u] * g * g * g
            given[:n] = -np.inf
            for a in range(taus):
                for u in range(n):
                    given[u] = max(given[u], level[a, u])
            for u in range(n):
                i = first + u
                if not (carrying[u] >= 3.0 and scale[u] > 0.0):
                    correlation[t, i] = np.nan
                    deviation[t, i] = np.nan
                    tau[t, i] = np.nan
                    statistic[t, i] = np.nan
                    p[t, i] = np.nan
                    hausman[t, i] = np.nan
                    largest[t, i] = np.nan
                    continue
                alone = 0.0
                p_sum = 0.0
                all_together = 0.0
                m1 = 0.0
                m2 = 0.0
                t2 = 0.0
                test = 0.0
                count = carrying[u]
                for a in range(taus):
                    likelihood = exp(level[a, u] - given[u])
                    m, e = mean[a, u], variance[a, u]
                    if null[a] > 0.0:
                        alone += null[a] * likelihood
                        z = m / np.sqrt(e)
                        p_sum += (
                            null[a] * likelihood * _two_sided(z, third[a, u] / (e * np.sqrt(e)))
                        )
                    prior = 0.0
                    for b in range(sigmas):
                        if joint[a, b] > 0.0:
                            wide = spread[a, u] + sigma2[b]
                            prior += (
                                joint[a, b]
                                * exp(-0.5 * adaptive[a, u] * adaptive[a, u] / wide)
                                / np.sqrt(wide)
                            )
                    if prior > 0.0:
                        g = likelihood * prior
                        all_together += g
                        m1 += g * m
                        m2 += g * (e + m * m)
                        t2 += g * tau2[a]
                        gap = equal_mean[u] / count - adaptive[a, u]
                        left = (equal_noise[u] + tau2[a] * equal_tau[u]) / (count * count)
                        left -= spread[a, u]
                        if left > 1e-12:
                            test += g * math.erfc(
                                min(abs(gap) / np.sqrt(left), _LARGEST_Z) / _ROOT_TWO
                            )
                        else:
                            test += g
                if not (all_together > 0.0):  # nothing in the population is like this pair
                    a = taus - 1
                    m1, m2, t2 = mean[a, u], variance[a, u] + mean[a, u] ** 2, tau2[a]
                    test, all_together = 1.0, 1.0
                m1 /= all_together
                value = p_sum / alone if alone > 0.0 else 1.0
                value = min(value, 1.0)
                correlation[t, i] = m1
                deviation[t, i] = np.sqrt(max(m2 / all_together - m1 * m1, 0.0))
                tau[t, i] = np.sqrt(t2 / all_together)
                p[t, i] = value
                statistic[t, i] = np.copysign(_normal_score(value), m1)
                hausman[t, i] = test / all_together
                whole = 0.0
                most = 0.0
                extra = t2 / all_together
                for c in range(s):
                    if v[c, u] < _ABSENT:
                        if weighting == 0:
                            w = 1.0 / (v[c, u] + extra * inflation[c])
                        elif weighting == 1:
                            w = 1.0
                        else:
                            w = np.float64(den[c, t, i])
                        whole += w
                        most = max(most, w)
                largest[t, i] = most / whole
