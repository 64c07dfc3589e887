"""Loops over pairs of genes: estimate, error, test and interval from sums that are there."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hiercorr.kernels.elementary import asinh, atanh, exp, log
from hiercorr.runtime.compile import parallel


@njit(inline="always", error_model="numpy")
def _cubic(where, last):
    """First of the four nodes around `where` (nodes 0 .. last) and the weights of cubic interpolation."""
    i = min(max(int(where) - 1, 0), last - 3)
    x = where - i
    a, b, c, d = x, x - 1.0, x - 2.0, x - 3.0
    return i, -b * c * d / 6.0, a * c * d / 2.0, -a * b * d / 2.0, a * b * c / 6.0


@parallel(fastmath={"contract", "arcp", "reassoc"})
def leave_out_variance(num, den, phi1, phi2, effect1, effect2, share1, share2, cluster):
    """Correlation of each pair of a tile, its standard error over samples and their degrees of freedom.

    num, den : (samples, r, c) sums N_c and D_c; phi1 (r,), phi2 (c,) the variances; effect1 (samples, r), effect2 (samples,
    c) each sample's relative influence on a variance, share1, share2 its part of it (see hiercorr.inference). Returns rho,
    se (NaN with fewer than 3 samples), df = 1 / sum(b^2) - 1 with b the mean of the genes' shares (at most carrying - 1),
    number of samples that carry the pair, largest share of D.
    """
    s, r, c = num.shape
    rho = np.empty((r, c), num.dtype)
    se = np.empty((r, c), num.dtype)
    df = np.empty((r, c), num.dtype)
    carrying = np.empty((r, c), np.int32)
    largest = np.empty((r, c), np.float32)
    for t in prange(r):
        n_sum = np.zeros(c)
        d_sum = np.zeros(c)
        for k in range(s):
            for u in range(c):
                n_sum[u] += num[k, t, u]
                d_sum[u] += den[k, t, u]
        scale = np.empty(c)
        ratio = np.empty(c)
        for u in range(c):
            v = phi1[t] * phi2[u]
            scale[u] = 1.0 / np.sqrt(v) if v > 0 and phi1[t] > 0 else np.nan
            ratio[u] = n_sum[u] / d_sum[u] if d_sum[u] > 0 else np.nan
            scale[u] /= d_sum[u] if d_sum[u] > 0 else np.nan
        m0 = np.zeros(c)
        m1 = np.zeros(c)
        m2 = np.zeros(c)
        b2 = np.zeros(c)
        qm = np.zeros(c)
        for k in range(s):
            for u in range(c):
                d = den[k, t, u]
                m0[u] += 1.0 if d > 0 else 0.0
                qm[u] = max(qm[u], d)
                b = 0.5 * (share1[k, t] + share2[k, u])
                b2[u] += b * b
                x = (num[k, t, u] - ratio[u] * d) * scale[u]
                x -= 0.5 * n_sum[u] * scale[u] * (effect1[k, t] + effect2[k, u])
                rest = max(1.0 - b, 0.05)
                x /= np.sqrt(rest) if cluster else rest
                m1[u] += x
                m2[u] += x * x
        for u in range(c):
            n = m0[u]
            rho[t, u] = n_sum[u] * scale[u]
            carrying[t, u] = np.int32(n)
            df[t, u] = max(min(1.0 / b2[u], n) - 1.0, 0.0) if b2[u] > 0 else np.nan
            largest[t, u] = qm[u] / d_sum[u] if d_sum[u] > 0 else 0.0
            var = m2[u] if cluster else max(m2[u] - m1[u] * m1[u] / s, 0.0) * (n - 1.0) / n
            se[t, u] = np.sqrt(var) if n >= 3 and var > 0 else np.nan
    return rho, se, df, carrying, largest


@parallel()
def bootstrap_variance(num, den, weights, phi1, phi2, drawn1, drawn2):
    """Variance of each correlation over resamples of the samples, to first order.

    weights : (draws, samples) how often each sample is drawn; drawn1 (draws, r), drawn2 (draws, c) the genes' variances in
    each draw. NaN where more than one draw of twenty has no variance.
    """
    s, r, c = num.shape
    draws = weights.shape[0]
    var = np.empty((r, c))
    for t in prange(r):
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
    return var


@parallel(fastmath={"contract"})
def ratio(num, den, phi1, phi2, rho, z):
    """Correlation of each pair from its sums and the variances phi1 (r,), phi2 (c,), and its atanh, into rho and z."""
    for t in prange(num.shape[0]):
        for u in range(num.shape[1]):
            v = phi1[t] * phi2[u]
            known = (v > 0) & (phi1[t] > 0) & (den[t, u] > 0)
            x = num[t, u] / den[t, u] / np.sqrt(v) if known else np.nan
            rho[t, u] = x
            z[t, u] = atanh(np.float64(x))


@parallel()
def withhold(unclipped, limit, bit, correlation, flag):
    """correlation = unclipped where its size is below `limit`, else NaN; `bit` is set in `flag` for numbers that are not."""
    for t in prange(unclipped.shape[0]):
        for u in range(unclipped.shape[1]):
            x = unclipped[t, u]
            inside = abs(x) < limit
            correlation[t, u] = x if inside else np.nan
            if not inside and abs(x) < np.inf:
                flag[t, u] |= bit


@parallel(fastmath={"contract"})
def t_inference(
    r, spread, df, log_p, log_q, low, step_df, step_t, z, se, lower, upper, statistic, dof, p
):
    """Fill the variables of a t test of each correlation r with its own standard error and df, in one pass.

    log_p : log of the two-sided p at log df = low, low + step_df, ... and asinh |t| = 0, step_t, ...; log_q : log of the
    quantile at those df. Past the last t, log p goes on as a straight line, as it does for Student's t. `se` becomes that
    of z = atanh(r). The interval is cut at -1 and 1; NaN where nothing of it is left.
    """
    last_df, last_t = log_p.shape[0] - 1, log_p.shape[1] - 1
    c = r.shape[1]
    for t in prange(
        r.shape[0]
    ):  # arithmetic, tables, arithmetic: only the tables are done one pair at a time
        at = np.empty(c)
        size = np.empty(c)
        log_half = np.empty(c)
        log_value = np.empty(c)
        for u in range(c):
            x, e = np.float64(r[t, u]), np.float64(spread[t, u])
            where = (log(np.float64(df[t, u])) - low) / step_df
            known = (e > 0) & (x == x) & (where >= -1e-6)
            at[u] = where if known else np.nan
            value = x / e if known else np.nan
            z[t, u] = atanh(x)
            se[t, u] = e / (1.0 - x * x) if known & (abs(x) < 1.0) else np.nan
            statistic[t, u] = value
            dof[t, u] = df[t, u] if known else np.nan
            size[u] = asinh(abs(value)) / step_t
        for u in range(c):
            if at[u] != at[u]:
                log_half[u] = np.nan
                log_value[u] = np.nan
                continue
            i, w0, w1, w2, w3 = _cubic(at[u], last_df)
            log_half[u] = w0 * log_q[i] + w1 * log_q[i + 1] + w2 * log_q[i + 2] + w3 * log_q[i + 3]
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
            x, half = np.float64(r[t, u]), spread[t, u] * exp(log_half[u])
            first, last = x - half, x + half
            first = -1.0 if first < -1.0 else first
            last = 1.0 if last > 1.0 else last
            lower[t, u] = first if first < last else np.nan
            upper[t, u] = last if first < last else np.nan
            p[t, u] = exp(0.0 if log_value[u] > 0.0 else log_value[u])


@parallel(fastmath={"contract"})
def cell_test(num, weight, mu1, mu2, log_p, step, statistic, p):
    """Normal test T = num / sqrt(mu mu weight) of every pair with its two-sided p, log p by cubic interpolation."""
    last = len(log_p) - 1
    c = num.shape[1]
    for t in prange(num.shape[0]):
        log_value = np.empty(c)
        for u in range(c):
            v = mu1[t] * mu2[u] * weight[t, u]
            statistic[t, u] = num[t, u] / np.sqrt(v) if v > 0 else np.nan
        for u in range(c):
            x = np.float64(statistic[t, u])
            if x != x:
                log_value[u] = np.nan
                continue
            i, w0, w1, w2, w3 = _cubic(min(abs(x) / step, last - 1.0), last)
            log_value[u] = w0 * log_p[i] + w1 * log_p[i + 1] + w2 * log_p[i + 2] + w3 * log_p[i + 3]
        for u in range(c):
            p[t, u] = exp(0.0 if log_value[u] > 0.0 else log_value[u])


@njit(cache=True)
def step_up(ordered, place, q):
    """q[place[k]] = least over i >= k of m p_i / i for p-values in order (Benjamini & Hochberg 1995)."""
    m = len(ordered)
    least = 1.0
    for k in range(m - 1, -1, -1):
        least = min(least, ordered[k] * (m / (k + 1)))
        q[place[k]] = least


@parallel()
def correlation_table(r, df, spread, half, log_p, step, z, se, lower, upper, statistic, dof, p):
    """Fill the variables of a t test for each correlation; half = tanh(quantile * spread), log_p at z = 0, step, ...

    What is not inside (-1, 1) is NaN.
    """
    for t in prange(r.shape[0]):
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


@parallel()
def noise_interval(r, noise, reliable1, reliable2, a, b, c, low, high, above, lower, upper):
    """Quantiles `low`, `high` of the generalised pivotal quantity of a correlation with known noise in it.

    r, noise : (rows, columns) observed correlation and the noise's share in it; reliable1 (rows,), reliable2 (columns,)
    shares of the variances that are not noise. With Bartlett's decomposition of a Wishart matrix on n degrees of freedom:
    a = sqrt(n) / t11, b = t21 / t22, c = sqrt(n) / t22 (draws,). The first half of the draws takes the row's gene first,
    the second half the column's, so that the result does not depend on the order.
    """
    draws = len(a)
    for t in prange(r.shape[0]):
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
            i, j = int(low * (n - 1)), int(high * (n - 1))
            part = np.partition(found[:n], i)
            value = part[i]
            lower[t, u] = value + (low * (n - 1) - i) * (part[i + 1 :].min() - value)
            part = np.partition(part[i + 1 :], j - i - 1)
            value = part[j - i - 1]
            upper[t, u] = value + (high * (n - 1) - j) * (part[j - i :].min() - value)
