"""Loops over gene pairs that test differences in correlation between samples."""

from __future__ import annotations

import numpy as np

from hiercorr.runtime.compile import compiled, over_ranges

_LANES = 32  # pairs whose permutations are computed together


@compiled()
def _invert(matrix, inverse):
    """Invert a small positive definite matrix by Cholesky; return False if it is singular.

    `matrix` is overwritten.
    """
    k = len(matrix)
    for i in range(k):  # the lower triangle becomes the Cholesky factor
        for j in range(i + 1):
            s = matrix[i, j]
            for m in range(j):
                s -= matrix[i, m] * matrix[j, m]
            if i > j:
                matrix[i, j] = s / matrix[j, j]
            elif s > 1e-10 * matrix[i, i]:
                matrix[i, i] = np.sqrt(s)
            else:
                return False
    for column in range(k):
        x = inverse[column]
        for i in range(k):
            x[i] = 1.0 if i == column else 0.0
            for m in range(i):
                x[i] -= matrix[i, m] * x[m]
            x[i] /= matrix[i, i]
        for i in range(k - 1, -1, -1):
            for m in range(i + 1, k):
                x[i] -= matrix[m, i] * x[m]
            x[i] /= matrix[i, i]
    return True


@compiled()
def _invert_gram(design, weight, gram, inverse):
    """Fill `inverse` with that of the design's weighted products; return whether it exists."""
    k = design.shape[1]
    gram[:] = 0.0
    for c in range(design.shape[0]):
        for i in range(k):
            for j in range(k):
                gram[i, j] += weight[c] * design[c, i] * design[c, j]
    return _invert(gram, inverse)


@compiled()
def _influences(num, den, t, u, phi1, phi2, effect1, effect2, share1, share2, x, b):
    """Return the correlation of one pair; write the samples' influences to `x`, shares to `b`.

    Arguments are those of :func:`hiercorr.kernels.pairs.leave_out_variance`.
    """
    s = num.shape[0]
    n_sum = 0.0
    d_sum = 0.0
    for c in range(s):
        n_sum += num[c, t, u]
        d_sum += den[c, t, u]
    v = phi1[t] * phi2[u]
    if not (d_sum > 0 and phi1[t] > 0 and v > 0):
        return np.nan
    scale = 1.0 / (np.sqrt(v) * d_sum)
    ratio = n_sum / d_sum
    for c in range(s):
        b[c] = max(0.5 * (share1[c, t] + share2[c, u]), 0.0)
        x[c] = (num[c, t, u] - ratio * den[c, t, u]) * scale - 0.5 * n_sum * scale * (
            effect1[c, t] + effect2[c, u]
        )
    return n_sum * scale


def difference(
    num, den, phi1, phi2, effect1, effect2, share1, share2, design, contrast, above=False
):
    """Regress the correlation per sample on a design matrix and estimate a contrast, by pair.

    See :func:`hiercorr.within.differential_tests.tile_difference`.

    Parameters
    ----------
    num, den, phi1, phi2, effect1, effect2, share1, share2 : ndarray
        See :func:`hiercorr.kernels.pairs.leave_out_variance`.
    design : ndarray, shape (samples, coefficients)
    contrast : ndarray, shape (coefficients,)
    above : bool
        Fill only the diagonal of a square tile and the entries above it.

    Returns
    -------
    out, se, df : ndarray, shape (rows, columns)
        Contrast, its HC2 standard error and Satterthwaite degrees of freedom.
    """
    found = tuple(np.full(num.shape[1:], np.nan) for _ in range(3))
    sides = (phi1, phi2, effect1, effect2, share1, share2)
    given = (*sides, design, contrast, above)
    over_ranges(_difference_rows, num.shape[1], num, den, *given, *found)
    return found


@compiled()
def _difference_rows(
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
    design,
    contrast,
    above,
    out,
    se,
    df,
):
    s, _, cols = num.shape
    k = design.shape[1]
    for t in range(begin, end):
        x, b, g, side = np.empty(s), np.empty(s), np.empty(s), np.empty((s, k))
        gram = np.empty((k, k))
        inverse = np.empty((k, k))
        beta = np.empty(k)
        for u in range(t if above else 0, cols):
            rho = _influences(num, den, t, u, phi1, phi2, effect1, effect2, share1, share2, x, b)
            if rho != rho:
                continue
            if not _invert_gram(design, b, gram, inverse):
                continue
            beta[:] = 0.0
            for c in range(s):
                y = b[c] * rho + x[c]
                for i in range(k):
                    for j in range(k):
                        beta[i] += inverse[i, j] * design[c, j] * y
            value = 0.0
            for i in range(k):
                value += contrast[i] * beta[i]
            variance = 0.0
            expected = 0.0
            spread = 0.0
            for c in range(s):
                fitted, lever, weight = 0.0, 0.0, 0.0
                for i in range(k):
                    fitted += design[c, i] * beta[i]
                    side[c, i] = 0.0
                    for j in range(k):
                        side[c, i] += inverse[i, j] * design[c, j]
                    lever += design[c, i] * side[c, i]
                    weight += contrast[i] * side[c, i]
                h = b[c] * lever
                g[c] = 0.0
                if h < 1.0 - 1e-8 and b[c] > 0.0:
                    variance += (weight * (b[c] * (rho - fitted) + x[c])) ** 2 / (1.0 - h)
                    expected += weight * weight * b[c]
                    g[c] = (weight * b[c]) ** 2 / (1.0 - h)
                    spread += (g[c] * (1.0 / b[c] - lever)) ** 2
            for c in range(s):
                for d in range(c):
                    both = 0.0
                    for i in range(k):
                        both += design[c, i] * side[d, i]
                    spread += 2.0 * g[c] * g[d] * both * both
            out[t, u] = value
            if variance > 0 and spread > 0:
                se[t, u] = np.sqrt(variance)
                df[t, u] = expected * expected / spread


def overall(num, den, phi1, phi2, effect1, effect2, share1, share2, design, rows, fitted):
    """Test several contrasts of the regression of :func:`difference` together, by pair.

    See :func:`hiercorr.within.differential_tests.overall_difference`.

    Parameters
    ----------
    num, den, phi1, phi2, effect1, effect2, share1, share2 : ndarray
        See :func:`hiercorr.kernels.pairs.leave_out_variance`.
    design : ndarray, shape (samples, coefficients)
    rows : ndarray, shape (q, coefficients)
        Contrasts that are 0 under the null hypothesis.
    fitted : ndarray, shape (m, coefficients)
        Weights of the coefficients in fitted values.

    Returns
    -------
    wald, df, spread : ndarray, shape (rows, columns)
        Wald statistic with HC2 covariance, degrees of freedom of this covariance as a Wishart
        matrix, and the range of the fitted values.
    """
    found = tuple(np.full(num.shape[1:], np.nan) for _ in range(3))
    sides = (phi1, phi2, effect1, effect2, share1, share2)
    given = (design, np.ascontiguousarray(rows), np.ascontiguousarray(fitted))
    over_ranges(_overall_rows, num.shape[1], num, den, *sides, *given, *found)
    return found


@compiled()
def _overall_rows(
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
    design,
    rows,
    fitted,
    wald,
    df,
    spread,
):
    s, _, cols = num.shape
    k, q = design.shape[1], rows.shape[0]
    for t in range(begin, end):
        x, b, u_c = np.empty(s), np.empty(s), np.empty(s)
        side, lean = np.empty((s, k)), np.empty((s, q))
        gram, inverse = np.empty((k, k)), np.empty((k, k))
        robust, expected = np.empty((q, q)), np.empty((q, q))
        turned, inside = np.empty((q, q)), np.empty((q, q))
        beta, value = np.empty(k), np.empty(q)
        for u in range(cols):
            rho = _influences(num, den, t, u, phi1, phi2, effect1, effect2, share1, share2, x, b)
            if rho != rho:
                continue
            if not _invert_gram(design, b, gram, inverse):
                continue
            beta[:] = 0.0
            for c in range(s):
                y = b[c] * rho + x[c]
                for i in range(k):
                    side[c, i] = 0.0
                    for j in range(k):
                        side[c, i] += inverse[i, j] * design[c, j]
                    beta[i] += side[c, i] * y
            low, high = np.inf, -np.inf
            for m in range(fitted.shape[0]):
                level = 0.0
                for i in range(k):
                    level += fitted[m, i] * beta[i]
                low, high = min(low, level), max(high, level)
            spread[t, u] = high - low
            robust[:] = 0.0
            expected[:] = 0.0
            for m in range(q):
                value[m] = 0.0
                for i in range(k):
                    value[m] += rows[m, i] * beta[i]
            for c in range(s):
                level, lever = 0.0, 0.0
                for i in range(k):
                    level += design[c, i] * beta[i]
                    lever += design[c, i] * side[c, i]
                u_c[c] = b[c] * (rho - level) + x[c]
                rest = 1.0 - b[c] * lever
                known = rest > 1e-8 and b[c] > 0.0
                for m in range(q):
                    lean[c, m] = 0.0
                    if known:
                        for i in range(k):
                            lean[c, m] += rows[m, i] * side[c, i]
                        lean[c, m] /= np.sqrt(rest)
                for m in range(q):
                    for n in range(q):
                        both = lean[c, m] * lean[c, n]
                        robust[m, n] += both * u_c[c] ** 2
                        expected[m, n] += both * b[c] * rest
            if not (_invert(robust, turned) and _invert(expected, inside)):
                continue
            total = 0.0
            for m in range(q):
                for n in range(q):
                    total += value[m] * turned[m, n] * value[n]
            square = 0.0
            for c in range(s):
                for d in range(c + 1):
                    near, together = 0.0, 0.0
                    for m in range(q):
                        for n in range(q):
                            near += lean[c, m] * inside[m, n] * lean[d, n]
                    for i in range(k):
                        together += design[c, i] * side[d, i]
                    covariance = (b[c] if c == d else 0.0) - b[c] * b[d] * together
                    square += (1.0 if c == d else 2.0) * (near * covariance) ** 2
            if square > 0.0:
                wald[t, u] = total
                df[t, u] = 0.5 * q * (q + 1) / square


@compiled(fastmath={"contract", "reassoc"})
def _studentized(values, y, b, weight, strata, mean, room, t2):
    """Compute squared t statistics (HC0) of the slope of y / b on a condition for several pairs.

    The weights are b, with an intercept for each stratum.

    Parameters
    ----------
    values : ndarray, shape (samples,)
        Condition.
    y, b : ndarray, shape (samples, lanes)
        b times the response, centred within strata, and the weights.
    weight, mean : ndarray, shape (strata, lanes)
        Sums of b, and workspace.
    strata : ndarray of int, shape (samples,)
    room : ndarray, shape (5, lanes)
        Workspace.
    t2 : ndarray, shape (lanes,)
        Result.
    """
    s, lanes = y.shape
    room[:] = 0.0
    sxx, sxy, first, second, third = room[0], room[1], room[2], room[3], room[4]
    mean[:] = 0.0
    for c in range(s):
        for k in range(lanes):
            mean[strata[c], k] += b[c, k] * values[c]
    for g in range(len(mean)):
        for k in range(lanes):
            mean[g, k] /= weight[g, k]
    for c in range(s):
        for k in range(lanes):
            d = values[c] - mean[strata[c], k]
            d2, bd, dy = d * d, b[c, k] * d, d * y[c, k]
            sxx[k] += bd * d
            sxy[k] += dy
            first[k] += dy * dy
            second[k] += dy * bd * d
            third[k] += bd * bd * d2
    for k in range(lanes):
        slope = sxy[k] / sxx[k] if sxx[k] > 0 else 0.0
        variance = first[k] - 2.0 * slope * second[k] + slope * slope * third[k]
        t2[k] = sxy[k] * sxy[k] / variance if variance > 1e-12 * first[k] and sxx[k] > 0 else 0.0


@compiled(fastmath=True)
def _studentized_groups(members, parts, totals, room, t2):
    """Compute the statistics of :func:`_studentized` for two groups in one stratum, from five sums.

    Parameters
    ----------
    members : ndarray of int
        Samples with condition 1; it is 0 for the others.
    parts : ndarray, shape (5, samples, lanes)
        b, y, y^2, y b and b^2.
    totals : ndarray, shape (5, lanes)
        Sums of `parts` over all samples.
    room : ndarray, shape (5, lanes)
        Workspace.
    t2 : ndarray, shape (lanes,)
        Result.
    """
    lanes = t2.shape[0]
    room[:] = 0.0
    for c in members:
        for q in range(5):
            for k in range(lanes):
                room[q, k] += parts[q, c, k]
    for k in range(lanes):
        m = room[0, k] / totals[0, k]
        o = 1.0 - m
        sxx, sxy = room[0, k] * o, room[1, k]
        first = o * o * room[2, k] + m * m * (totals[2, k] - room[2, k])
        second = o * o * o * room[3, k] - m * m * m * (totals[3, k] - room[3, k])
        third = o * o * o * o * room[4, k] + m * m * m * m * (totals[4, k] - room[4, k])
        slope = sxy / sxx if sxx > 0 else 0.0
        variance = first - 2.0 * slope * second + slope * slope * third
        t2[k] = sxy * sxy / variance if variance > 1e-12 * first and sxx > 0 else 0.0


def permuted_differences(
    num, den, phi1, phi2, effect1, effect2, share1, share2, observed, values, strata, above
):
    """Count the permutations with a studentised difference at least as large as the observed one.

    Parameters
    ----------
    num, den, phi1, phi2, effect1, effect2, share1, share2 : ndarray
        See :func:`hiercorr.kernels.pairs.leave_out_variance`.
    observed : ndarray, shape (samples,)
        Condition.
    values : ndarray, shape (permutations, samples)
        Permuted conditions.
    strata : ndarray of int, shape (samples,)
    above : bool
        Fill only the entries above the diagonal of a square tile.

    Returns
    -------
    ndarray of int, shape (rows, columns)
        Counts; -1 for pairs that cannot be estimated.
    """
    groups = int(strata.max()) == 0 and bool(np.isin(observed, (0.0, 1.0)).all())
    size = int(observed.sum()) if groups else 0
    members = np.zeros((len(values), size), np.int64)
    if groups:
        for m, row in enumerate(values):
            members[m] = np.flatnonzero(row)
    count = np.full(num.shape[1:], -1, np.int64)
    given = (num, den, phi1, phi2, effect1, effect2, share1, share2, observed, values, strata)
    n_strata = int(strata.max()) + 1
    over_ranges(_permuted_rows, len(count), *given, n_strata, above, groups, members, count)
    return count


@compiled()
def _permuted_rows(
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
    observed,
    values,
    strata,
    n_strata,
    above,
    groups,
    members,
    count,
):
    s, _, cols = num.shape
    lanes = _LANES
    for t in range(begin, end):
        x, share = np.empty(s), np.empty(s)
        y, b = np.zeros((s, lanes)), np.ones((s, lanes))
        weight, mean = np.empty((n_strata, lanes)), np.empty((n_strata, lanes))
        bound, t2, known = np.empty(lanes), np.empty(lanes), np.empty(lanes, np.bool_)
        room, parts, totals = np.empty((5, lanes)), np.empty((5, s, lanes)), np.zeros((5, lanes))
        for u0 in range(t // lanes * lanes if above else 0, cols, lanes):
            width = min(lanes, cols - u0)
            y[:] = 0.0
            b[:] = 1.0
            weight[:] = 0.0
            for k in range(width):
                rho = _influences(
                    num, den, t, u0 + k, phi1, phi2, effect1, effect2, share1, share2, x, share
                )
                known[k] = rho == rho
                if known[k]:
                    for c in range(s):
                        b[c, k] = max(share[c], 1e-12)
                        y[c, k] = share[c] * rho + x[c]
            mean[:] = 0.0
            for c in range(s):
                for k in range(lanes):
                    weight[strata[c], k] += b[c, k]
                    mean[strata[c], k] += y[c, k]
            for c in range(s):
                for k in range(lanes):
                    y[c, k] -= b[c, k] * mean[strata[c], k] / weight[strata[c], k]
            _studentized(observed, y, b, weight, strata, mean, room, bound)
            for k in range(width):
                if known[k]:
                    count[t, u0 + k] = 0
            if groups:
                totals[:] = 0.0
                for c in range(s):
                    for k in range(lanes):
                        v, w = y[c, k], b[c, k]
                        parts[0, c, k], parts[1, c, k], parts[2, c, k] = w, v, v * v
                        parts[3, c, k], parts[4, c, k] = v * w, w * w
                        for q in range(5):
                            totals[q, k] += parts[q, c, k]
            for m in range(len(values)):
                if groups:
                    _studentized_groups(members[m], parts, totals, room, t2)
                else:
                    _studentized(values[m], y, b, weight, strata, mean, room, t2)
                for k in range(width):
                    if known[k] and t2[k] >= bound[k] * (1.0 - 1e-9):
                        count[t, u0 + k] += 1
