"""Loops over gene pairs: estimates, standard errors, tests and intervals from sums over cells."""

from __future__ import annotations

import numpy as np
from numba import njit

from hiercorr.kernels.elementary import asinh, atanh, exp, log
from hiercorr.runtime.compile import compiled, over_ranges, parallel

_COLUMNS = 256  # pairs of a row whose sums stay in the fastest cache


@njit(inline="always", error_model="numpy")
def _cubic(where, last):
    """Return the first of four nodes around `where` (0 .. last) and cubic interpolation weights."""
    i = min(max(int(where) - 1, 0), last - 3)
    x = where - i
    a, b, c, d = x, x - 1.0, x - 2.0, x - 3.0
    return i, -b * c * d / 6.0, a * c * d / 2.0, -a * b * d / 2.0, a * b * c / 6.0


def leave_out_variance(num, den, phi1, phi2, effect1, effect2, share1, share2, cluster, critical):
    """Estimate the correlation of each pair of a tile and its standard error over samples.

    See :func:`hiercorr.inference.pairs.pair_estimate`.

    Parameters
    ----------
    num, den : ndarray, shape (samples, rows, columns)
        Sums N_c and D_c.
    phi1, phi2 : ndarray, shapes (rows,) and (columns,)
        Variances of the genes.
    effect1, effect2 : ndarray, shapes (samples, rows) and (samples, columns)
        Relative influence of each sample on a variance.
    share1, share2 : ndarray, shapes (samples, rows) and (samples, columns)
        Share of each sample in a variance.
    cluster : bool
        Cluster-robust instead of jackknife standard errors.
    critical : ndarray, shape (samples + 1,) or (0,)
        Largest F statistic of equal averages that is not significant, by number of samples; empty:
        averages are not compared.

    Returns
    -------
    rho, se : ndarray, shape (rows, columns)
        Correlation and standard error (NaN with fewer than 3 samples).
    df : ndarray
        1 / sum(b^2) - 1, b the mean of the two genes' shares; no more than `carrying` - 1.
    carrying : ndarray of int32
        Number of samples with information on the pair.
    largest : ndarray of float32
        Largest proportion of D in one sample.
    matters : ndarray of bool
        Whether the mean of N_c / D_c over the samples is another than N / D.
    """
    shape, dtype = num.shape[1:], num.dtype
    out = (
        *(np.empty(shape, dtype) for _ in range(3)),
        np.empty(shape, np.int32),
        np.empty(shape, np.float32),
        np.zeros(shape, np.bool_),
    )
    sides = (phi1, phi2, effect1, effect2, share1, share2)

    def rows(begin, end):
        space = np.empty((9, _COLUMNS))
        _leave_out_rows(begin, end, num, den, *sides, cluster, critical, *out, space)

    over_ranges(rows, shape[0])
    return out


@compiled(fastmath={"contract", "arcp", "reassoc"})
def _leave_out_rows(
    begin,
    end,
    num,
    den,
    phi1,
    phi2,
    effect1,
    effect2,
    share1,
    share2,
    cluster,
    critical,
    rho,
    se,
    df,
    carrying,
    largest,
    matters,
    space,
):
    s, _, c = num.shape
    n_sum, d_sum, scale, ratio, m0 = space[0], space[1], space[2], space[3], space[4]
    m1, m2, b2, qm = space[5], space[6], space[7], space[8]
    within, apart, spread = m1, m2, b2  # the same memory, when these are done with
    for t in range(begin, end):
        for u0 in range(0, c, _COLUMNS):
            u1 = min(u0 + _COLUMNS, c)
            wide = u1 - u0
            phi, found = phi2[u0:u1], rho[t, u0:u1]
            for u in range(wide):
                n_sum[u], d_sum[u], m0[u] = 0.0, 0.0, 0.0
                m1[u], m2[u], b2[u], qm[u] = 0.0, 0.0, 0.0, 0.0
            for k in range(s):
                top, low = num[k, t, u0:u1], den[k, t, u0:u1]
                for u in range(wide):
                    n_sum[u] += top[u]
                    d_sum[u] += low[u]
                    m0[u] += 1.0 if low[u] > 0 else 0.0
            for u in range(wide):
                v = phi1[t] * phi[u]
                scale[u] = 1.0 / np.sqrt(v) if v > 0 and phi1[t] > 0 else np.nan
                ratio[u] = n_sum[u] / d_sum[u] if d_sum[u] > 0 else np.nan
                scale[u] /= d_sum[u] if d_sum[u] > 0 else np.nan
                found[u] = n_sum[u] * scale[u]
            for k in range(s):
                top, low = num[k, t, u0:u1], den[k, t, u0:u1]
                effect, share = effect2[k, u0:u1], share2[k, u0:u1]
                for u in range(wide):
                    d = low[u]
                    qm[u] = max(qm[u], d)
                    b = 0.5 * (share1[k, t] + share[u])
                    b2[u] += b * b
                    x = (top[u] - ratio[u] * d) * scale[u]
                    x -= 0.5 * n_sum[u] * scale[u] * (effect1[k, t] + effect[u])
                    rest = max(1.0 - b, 0.05)
                    x /= np.sqrt(rest) if cluster else rest
                    m1[u] += x
                    m2[u] += x * x
            for u in range(wide):
                n = m0[u]
                carrying[t, u0 + u] = np.int32(n)
                df[t, u0 + u] = max(min(1.0 / b2[u], n) - 1.0, 0.0) if b2[u] > 0 else np.nan
                largest[t, u0 + u] = qm[u] / d_sum[u] if d_sum[u] > 0 else 0.0
                var = m2[u] if cluster else max(m2[u] - m1[u] * m1[u] / s, 0.0) * (n - 1.0) / n
                se[t, u0 + u] = np.sqrt(var) if n >= 3 and var > 0 else np.nan
            if len(critical) == 0:
                continue
            for u in range(wide):
                within[u], apart[u], spread[u] = 0.0, 0.0, 0.0
            for k in range(s):
                top, low = num[k, t, u0:u1], den[k, t, u0:u1]
                for u in range(wide):
                    d = low[u]
                    x = (top[u] - ratio[u] * d) * scale[u]
                    inverse = 1.0 / d if d > 0 else 0.0
                    a = inverse - m0[u] / d_sum[u] if d > 0 else 0.0
                    within[u] += x * x * inverse
                    apart[u] += a * x
                    spread[u] += a * a * d
            for u in range(wide):
                n = m0[u]
                unequal = spread[u] * d_sum[u] > 1e-6 * n * n
                explained = apart[u] * apart[u] / spread[u] if unequal else 0.0
                left = (within[u] - explained) * critical[np.int64(n)]
                matters[t, u0 + u] = n >= 3 and explained * (n - 2.0) > left


def bootstrap_variance(num, den, weights, phi1, phi2, drawn1, drawn2):
    """Compute the first-order variance of each correlation over bootstrap resamples of the samples.

    Parameters
    ----------
    num, den, phi1, phi2 : ndarray
        See :func:`leave_out_variance`.
    weights : ndarray, shape (draws, samples)
        Number of times each sample is drawn.
    drawn1, drawn2 : ndarray, shapes (draws, rows) and (draws, columns)
        Variances of the genes in each draw.

    Returns
    -------
    ndarray, shape (rows, columns)
        NaN where at least 5% of the draws give no correlation.
    """
    var = np.empty(num.shape[1:])
    over_ranges(_bootstrap_rows, len(var), num, den, weights, phi1, phi2, drawn1, drawn2, var)
    return var


@compiled()
def _bootstrap_rows(begin, end, num, den, weights, phi1, phi2, drawn1, drawn2, var):
    s, _, c = num.shape
    draws = weights.shape[0]
    for t in range(begin, end):
        k0 = np.zeros(c)
        k1 = np.zeros(c)
        k2 = np.zeros(c)
        top = np.empty(c)
        low = np.empty(c)
        rho = np.zeros(c)
        below = np.zeros(c)
        for k in range(s):
            for u in range(c):
                rho[u] += num[k, t, u]
                below[u] += den[k, t, u]
        for u in range(c):
            v = phi1[t] * phi2[u]
            rho[u] = (
                rho[u] / below[u] / np.sqrt(v) if v > 0 and phi1[t] > 0 and below[u] > 0 else np.nan
            )
        for b in range(draws):
            top[:] = 0.0
            low[:] = 0.0
            for k in range(s):
                w = weights[b, k]
                if w > 0:
                    for u in range(c):
                        top[u] += w * num[k, t, u]
                        low[u] += w * den[k, t, u]
            for u in range(c):
                v, drawn = phi1[t] * phi2[u], drawn1[b, t] * drawn2[b, u]
                if drawn > 0 and drawn1[b, t] > 0 and low[u] > 0:
                    x = top[u] / low[u] / np.sqrt(v) - rho[u] * np.sqrt(drawn / v)
                    k0[u] += 1.0
                    k1[u] += x
                    k2[u] += x * x
        for u in range(c):
            n = k0[u]
            var[t, u] = (
                max(k2[u] - k1[u] * k1[u] / n, 0.0) / (n - 1.0) if n > 0.95 * draws else np.nan
            )


@parallel("num", fastmath={"contract"})
def ratio(begin, end, num, den, phi1, phi2, rho):
    """Compute correlations `rho` from sums and variances phi1 (rows,), phi2 (columns,)."""
    for t in range(begin, end):
        for u in range(num.shape[1]):
            v = phi1[t] * phi2[u]
            known = (v > 0) & (phi1[t] > 0) & (den[t, u] > 0)
            rho[t, u] = num[t, u] / den[t, u] / np.sqrt(v) if known else np.nan


def withhold(unclipped, limit, bit, correlation, flag):
    """Copy `unclipped` to `correlation`, with NaN where its absolute value is not below `limit`.

    `bit` is set in `flag` for finite values beyond the limit.
    """
    n, columns = unclipped.shape
    at_once = max(1, 32_768 // max(1, columns))  # rows whose arrays fit into the cache

    def rows(begin, end):
        for t in range(begin * at_once, end * at_once, at_once):
            part = slice(t, t + at_once)
            size = np.abs(unclipped[part])
            inside = size < limit
            correlation[part] = np.where(inside, unclipped[part], np.nan)
            flag[part] |= (~inside & (size < np.inf)) * bit

    over_ranges(rows, -(-n // at_once))


def _three_rows(*args):
    return (np.empty((3, args[0].shape[1])),)


@parallel("r", space=_three_rows, fastmath={"contract"})
def t_p_value(begin, end, r, spread, df, log_p, low, step_df, step_t, p, space):
    """Compute the two-sided p-value of each correlation r with its own standard error and df.

    Past the last t of the table, log p is extrapolated linearly, as it is for Student's t.

    Parameters
    ----------
    r, spread, df : ndarray, shape (rows, columns)
        Correlation, standard error and degrees of freedom.
    log_p, low, step_df, step_t
        See :func:`hiercorr.inference.pairs.p_value_table`.
    p : ndarray, shape (rows, columns)
        Result.
    """
    last_df, last_t = log_p.shape[0] - 1, log_p.shape[1] - 1
    c = r.shape[1]
    at, size, log_value = space[0], space[1], space[2]
    # Arithmetic and table look-up are separate loops, so that the former is vectorised.
    for t in range(begin, end):
        for u in range(c):
            x, e = np.float64(r[t, u]), np.float64(spread[t, u])
            where = (log(np.float64(df[t, u])) - low) / step_df
            known = (e > 0) & (x == x) & (where >= -1e-6)
            at[u] = where if known else np.nan
            size[u] = asinh(abs(x / e)) / step_t
        for u in range(c):
            if at[u] != at[u]:
                log_value[u] = np.nan
                continue
            i, w0, w1, w2, w3 = _cubic(at[u], last_df)
            j, y0, y1, y2, y3 = _cubic(size[u], last_t)
            total = 0.0
            for k, w in ((i, w0), (i + 1, w1), (i + 2, w2), (i + 3, w3)):
                total += w * (
                    y0 * log_p[k, j]
                    + y1 * log_p[k, j + 1]
                    + y2 * log_p[k, j + 2]
                    + y3 * log_p[k, j + 3]
                )
            log_value[u] = total
        for u in range(c):
            p[t, u] = exp(0.0 if log_value[u] > 0.0 else log_value[u])


@parallel("r", space=_three_rows, fastmath={"contract"})
def t_interval(
    begin,
    end,
    r,
    spread,
    df,
    log_q,
    low,
    step_df,
    z,
    se,
    lower,
    upper,
    statistic,
    space,
):
    """Compute the confidence interval of each correlation with its own standard error and df.

    Parameters
    ----------
    r, spread, df
        See :func:`t_p_value`.
    log_q, low, step_df
        See :func:`hiercorr.inference.pairs.quantile_table`.
    z, se, lower, upper, statistic : ndarray, shape (rows, columns)
        Results: atanh(r) and its standard error, limits truncated at -1 and 1 (NaN if no interval
        remains), and t.
    """
    last_df = len(log_q) - 1
    c = r.shape[1]
    at, log_half = space[0], space[1]
    for t in range(begin, end):
        for u in range(c):
            x, e = np.float64(r[t, u]), np.float64(spread[t, u])
            where = (log(np.float64(df[t, u])) - low) / step_df
            known = (e > 0) & (x == x) & (where >= -1e-6)
            at[u] = where if known else np.nan
            z[t, u] = atanh(x)
            se[t, u] = e / (1.0 - x * x) if known & (abs(x) < 1.0) else np.nan
            statistic[t, u] = x / e if known else np.nan
        for u in range(c):
            if at[u] != at[u]:
                log_half[u] = np.nan
                continue
            i, w0, w1, w2, w3 = _cubic(at[u], last_df)
            log_half[u] = w0 * log_q[i] + w1 * log_q[i + 1] + w2 * log_q[i + 2] + w3 * log_q[i + 3]
        for u in range(c):
            x, half = np.float64(r[t, u]), spread[t, u] * exp(log_half[u])
            first, last = x - half, x + half
            first = -1.0 if first < -1.0 else first
            last = 1.0 if last > 1.0 else last
            lower[t, u] = first if first < last else np.nan
            upper[t, u] = last if first < last else np.nan


@parallel("num", fastmath={"contract"})
def cell_test(begin, end, num, weight, mu1, mu2, statistic):
    """Compute `statistic` = num / sqrt(mu1 mu2 weight) of every pair."""
    for t in range(begin, end):
        for u in range(num.shape[1]):
            v = mu1[t] * mu2[u] * weight[t, u]
            statistic[t, u] = num[t, u] / np.sqrt(v) if v > 0 else np.nan


def step_up(ordered, place, q):
    """Adjust sorted p-values: q[place[k]] = min over i >= k of m p_i / i (Benjamini & Hochberg)."""
    m, size = len(ordered), 65_536  # fits into the cache
    least = 1.0
    for first in range((m - 1) // size * size, -1, -size):
        k = np.arange(first, min(first + size, m))[::-1]
        lowest = np.minimum.accumulate(np.minimum(ordered[k] * (m / (k + 1)), least))
        q[place[k]] = lowest
        least = lowest[-1]


@parallel("r")
def correlation_table(
    begin, end, r, df, spread, half, log_p, step, z, se, lower, upper, statistic, dof, p
):
    """Test each correlation by a t test with common degrees of freedom; NaN outside (-1, 1).

    Parameters
    ----------
    r : ndarray, shape (rows, columns)
        Correlation.
    df, spread, half : float
        Degrees of freedom, standard error of z = atanh(r), and tanh(quantile * spread).
    log_p, step
        See :func:`hiercorr.inference.pairs.log_p_table`, here on a grid of z.
    z, se, lower, upper, statistic, dof, p : ndarray, shape (rows, columns)
        Results.
    """
    for t in range(begin, end):
        for u in range(r.shape[1]):
            x = r[t, u]
            if not (abs(x) < 1.0 - 1e-12):
                z[t, u] = np.nan
                se[t, u] = np.nan
                lower[t, u] = np.nan
                upper[t, u] = np.nan
                statistic[t, u] = np.nan
                dof[t, u] = np.nan
                p[t, u] = np.nan
                continue
            s = atanh(np.float64(x))
            z[t, u] = s
            se[t, u] = spread
            lower[t, u] = (x - half) / (1.0 - x * half)
            upper[t, u] = (x + half) / (1.0 + x * half)
            statistic[t, u] = x * np.sqrt(df / (1.0 - x * x))
            dof[t, u] = df
            where = abs(s) / step
            i = int(where)
            if i < len(log_p) - 1:
                w = where - i
                p[t, u] = exp(log_p[i] * (1.0 - w) + log_p[i + 1] * w)
            else:
                p[t, u] = exp(log_p[-1])


@compiled()
def _quantile(values, probability):
    """Compute a quantile by linear interpolation; `values` are rearranged (quickselect)."""
    where = probability * (len(values) - 1)
    k = int(where)
    first, last = 0, len(values) - 1
    while first < last:
        pivot = values[(first + last) // 2]
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            last = j
        elif k >= i:
            first = i
        else:
            break
    following = values[k]
    if k + 1 < len(values):
        following = values[k + 1]
        for m in range(k + 2, len(values)):
            following = min(following, values[m])
    return values[k] + (where - k) * (following - values[k])


@parallel("r")
def noise_interval(
    begin, end, r, noise, reliable1, reliable2, a, b, c, low, high, above, lower, upper
):
    """Compute quantiles of the generalised pivotal quantity of a correlation with known noise.

    Half of the draws take the row's gene first and half the column's, so that the result does not
    depend on the order.

    Parameters
    ----------
    r, noise : ndarray, shape (rows, columns)
        Observed correlation and the part of it due to noise.
    reliable1, reliable2 : ndarray, shapes (rows,) and (columns,)
        Reliability: proportion of each variance that is not noise.
    a, b, c : ndarray, shape (draws,)
        sqrt(n) / t11, t21 / t22 and sqrt(n) / t22 of Bartlett's decomposition of a Wishart matrix
        with n degrees of freedom.
    low, high : float
        Probabilities of the quantiles.
    above : bool
        Fill only the entries above the diagonal of a square tile.
    lower, upper : ndarray, shape (rows, columns)
        Results; NaN with too few valid draws.
    """
    draws = len(a)
    for t in range(begin, end):
        found = np.empty(2 * draws)
        for u in range(t + 1 if above else 0, r.shape[1]):
            x = r[t, u]
            q = np.sqrt(max(1.0 - x * x, 0.0))
            own1, own2, shared = 1.0 - reliable1[t], 1.0 - reliable2[u], noise[t, u]
            n = 0
            if x == x and own1 == own1 and own2 == own2:
                for m in range(2 * draws):
                    k = m // 2
                    first, second = (own1, own2) if m % 2 == 0 else (own2, own1)
                    side = a[k] * (x - q * b[k])
                    v1 = a[k] * a[k] - first
                    v2 = side * side + (q * c[k]) ** 2 - second
                    if v1 > 0 and v2 > 0:
                        found[n] = min(max((a[k] * side - shared) / np.sqrt(v1 * v2), -1.0), 1.0)
                        n += 1
            if n < draws // 25:
                lower[t, u] = np.nan
                upper[t, u] = np.nan
                continue
            lower[t, u] = _quantile(found[:n], low)
            upper[t, u] = _quantile(found[:n], high)
