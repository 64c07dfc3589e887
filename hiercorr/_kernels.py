"""All compiled loops. Plain arrays in, plain arrays out; what they mean is said in :mod:`hiercorr.moments`."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hiercorr._compile import parallel


@njit(cache=True)
def first_bad_count(values):
    """Position of the first value that is not a non-negative whole number of 32 bits, or -1."""
    for k in range(len(values)):
        v = values[k]
        if not (v >= 0 and v <= 2147483647 and v == np.floor(v)):
            return k
    return -1


@njit(cache=True)
def scan_block(indptr, indices, values, codes, row0, col0, count, total, row_sum, seen):
    """Add a CSR block to non-zeros per gene and sample and counts per gene (both of used cells) and counts per cell.

    `seen` becomes True for a gene with a count in any cell, used or not.
    """
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        for e in range(indptr[r], indptr[r + 1]):
            v = values[e]
            s += v
            if v == 0:
                continue
            g = col0 + indices[e]
            seen[g] = True
            if c >= 0:
                count[g, c] += 1
                total[g] += v
        row_sum[row0 + r] += s


@njit(cache=True)
def fill_block(indptr, indices, values, codes, position, column, row0, col0, cursor, rows_out, values_out):
    """Scatter a CSR block into columns grouped by sample; `cursor` is the next free entry per gene and sample."""
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        if c < 0:
            continue
        for e in range(indptr[r], indptr[r + 1]):
            g = column[col0 + indices[e]]
            if g >= 0 and values[e] != 0:
                k = cursor[g, c]
                rows_out[k] = position[row0 + r]
                values_out[k] = np.int32(values[e])
                cursor[g, c] = k + 1


@parallel()
def nodal_sums(rows, values, start, stop, cell0, basis, first, second):
    """Add the sums of x L and x^2 L over the entries start:stop of each gene to two arrays (genes, nodes).

    The rows of `basis` are the cells from `cell0`.
    """
    m = basis.shape[1]
    for j in prange(len(start)):
        one = np.zeros(m)
        two = np.zeros(m)
        for e in range(start[j], stop[j]):
            x = np.float64(values[e])
            i = rows[e] - cell0
            for k in range(m):
                v = x * basis[i, k]
                one[k] += v
                two[k] += x * v
        for k in range(m):
            first[j, k] += one[k]
            second[j, k] += two[k]


@parallel(fastmath=True)
def weighted_residuals(rows, values, start, stop, depth, cell0, mu, a, out):
    """out[i, t] = (x - s mu_t) / (1 + s a_t) for the cells from `cell0`; genes are the columns of `out`.

    `start`, `stop`: the entries of each gene among these cells. The dtype of `out` is the precision.
    """
    n, p = out.shape
    one = out.dtype.type(1.0)
    for strip in prange((p + 63) // 64):  # 64 genes by 256 cells at a time stay in the cache of one core
        t0 = strip * 64
        width = min(64, p - t0)
        m, w = np.zeros(64, out.dtype), np.zeros(64, out.dtype)
        for t in range(width):
            m[t], w[t] = mu[t0 + t], a[t0 + t]
        at = start[t0 : t0 + width].copy()
        near = np.empty((256, 64), out.dtype)
        for i0 in range(0, n, 256):
            size = min(256, n - i0)
            for i in range(size):
                s = depth[cell0 + i0 + i]
                for t in range(64):
                    near[i, t] = -s * m[t] / (one + s * w[t])
            last = cell0 + i0 + size
            for t in range(width):
                e, end = at[t], stop[t0 + t]
                while e < end and rows[e] < last:
                    near[rows[e] - cell0 - i0, t] += out.dtype.type(values[e]) / (one + depth[rows[e]] * w[t])
                    e += 1
                at[t] = e
            for i in range(size):
                for t in range(width):
                    out[i0 + i, t0 + t] = near[i, t]


@parallel(fastmath=True)
def sparse_products(rows, values, start, stop, depth, cell0, a, residuals, out):
    """out[t, u] += sum over the entries of gene t of x / (1 + s a_t) residuals[i, u]; cells are rows of `residuals`.

    64 columns at a time: that strip of `residuals` stays in the cache of one core.
    """
    n, p = out.shape
    one = residuals.dtype.type(1.0)
    first = np.zeros(n + 1, np.int64)
    for t in range(n):
        first[t + 1] = first[t] + stop[t] - start[t]
    scaled = np.empty(first[n], residuals.dtype)
    cell = np.empty(first[n], np.int32)
    for t in prange(n):
        w = residuals.dtype.type(a[t])
        for e in range(stop[t] - start[t]):
            i = rows[start[t] + e]
            scaled[first[t] + e] = residuals.dtype.type(values[start[t] + e]) / (one + depth[i] * w)
            cell[first[t] + e] = i - cell0
    for strip in prange((p + 63) // 64):
        u0 = strip * 64
        total = np.zeros(64, residuals.dtype)
        width = min(64, p - u0)
        near = np.zeros((residuals.shape[0], 64), residuals.dtype)
        near[:, :width] = residuals[:, u0 : u0 + width]
        for t in range(n):
            total[:] = 0
            stop_four = first[t] + (first[t + 1] - first[t]) // 4 * 4
            for e in range(first[t], stop_four, 4):  # four entries a sweep: `total` is read and written once
                v0, v1, v2, v3 = scaled[e], scaled[e + 1], scaled[e + 2], scaled[e + 3]
                r0, r1, r2, r3 = near[cell[e]], near[cell[e + 1]], near[cell[e + 2]], near[cell[e + 3]]
                for u in range(64):
                    total[u] += (v0 * r0[u] + v1 * r1[u]) + (v2 * r2[u] + v3 * r3[u])
            for e in range(stop_four, first[t + 1]):
                row = near[cell[e]]
                for u in range(64):
                    total[u] += scaled[e] * row[u]
            for u in range(width):
                out[t, u0 + u] += total[u]


@parallel()
def shared_products(rows, values, start1, stop1, start2, stop2, depth, cell0, n_cells, a1, a2, out, own, threads):
    """out[t, u] += sum of x_t x_u / ((1 + s a_t) (1 + s a_u)) over the cells that hold counts of both.

    Row by row of a sparse product (Gustavson 1978): the right genes' entries are sorted by cell, and each left gene adds up
    the cells it has in one dense row. `own`: both sides are the same genes, and only u >= t is filled.
    """
    n, p = out.shape
    begin = np.zeros(n_cells + 1, np.int64)
    for u in range(p):
        for e in range(start2[u], stop2[u]):
            begin[rows[e] - cell0 + 1] += 1
    for i in range(n_cells):
        begin[i + 1] += begin[i]
    cursor = begin[:-1].copy()
    gene = np.empty(begin[n_cells], np.int32)
    scaled = np.empty(begin[n_cells])
    first = np.zeros(p + 1, np.int64)
    for u in range(p):
        first[u + 1] = first[u] + stop2[u] - start2[u]
    place = np.empty(first[p] if own else 0, np.int64)
    for u in range(p):
        for e in range(start2[u], stop2[u]):
            i = rows[e] - cell0
            k = cursor[i]
            cursor[i] = k + 1
            gene[k] = u
            scaled[k] = values[e] / (1.0 + depth[rows[e]] * a2[u])
            if own:
                place[first[u] + e - start2[u]] = k
    per = ((n + 15) // 16 + threads - 1) // threads
    for part in prange(per * threads):  # genes become denser: each thread takes every so-many-th sixteen of them
        t0 = ((part % per) * threads + part // per) * 16
        total = np.zeros(p)
        for t in range(t0, min(t0 + 16, n)):
            total[:] = 0.0
            for e in range(start1[t], stop1[t]):
                i = rows[e] - cell0
                x = values[e] / (1.0 + depth[rows[e]] * a1[t])
                for k in range(place[first[t] + e - start1[t]] if own else begin[i], begin[i + 1]):
                    total[gene[k]] += x * scaled[k]
            for u in range(t if own else 0, p):
                out[t, u] += total[u]


@njit(cache=True)
def entries_before(rows, start, stop, cell):
    """For each gene the first entry in start:stop whose cell is not before `cell`."""
    out = np.empty(len(start), np.int64)
    for t in range(len(start)):
        lo, hi = start[t], stop[t]
        while lo < hi:
            mid = (lo + hi) // 2
            if rows[mid] < cell:
                lo = mid + 1
            else:
                hi = mid
        out[t] = lo
    return out


@parallel(fastmath={"contract"})
def centred_denominator(k, num, left, right, out):
    """out += k (k left right - num), every array by sample: the last step of :func:`hiercorr.moments.denominators`."""
    s, n, m = out.shape
    for row in prange(s * n):
        c, t = row // n, row % n
        for u in range(m):
            out[c, t, u] += k[c, t, u] * (k[c, t, u] * left[c, t] * right[c, u] - num[c, t, u])


@parallel()
def regress_on_cells(rows, values, start, stop, cell0, depth, slope, wu, h, outer, beta, noise):
    """Coefficients of each gene in one sample, and the Poisson noise left in the squares of its residuals.

    depth, wu, h : of the cells from `cell0`; outer : (genes, k, k) sums of w_j^2 s^2 u u'. `beta` (k, genes) and `noise`
    (genes) are filled; see :mod:`hiercorr._cellwise`.
    """
    k = wu.shape[1]
    for j in prange(len(start)):
        b = np.zeros(k)
        total = 0.0
        for e in range(start[j], stop[j]):
            i = rows[e] - cell0
            x = np.float64(values[e])
            w = 1.0 / (1.0 + depth[i] * slope[j])
            form = 0.0
            for p in range(k):
                b[p] += x * wu[i, p]
                for q in range(k):
                    form += wu[i, p] * outer[j, p, q] * wu[i, q]
            total += x * (w * w * (1.0 - 2.0 * h[i]) + form)
        beta[:, j] = b
        noise[j] = total


@parallel()
def take_off_weighted(block, fitted, depth, slope):
    """block -= fitted / (1 + a s), arrays (cells, genes)."""
    one = block.dtype.type(1.0)
    for i in prange(block.shape[0]):
        for t in range(block.shape[1]):
            block[i, t] -= fitted[i, t] / (one + depth[i] * slope[t])


@njit
def _cubic(where, last):
    """First of the four nodes around `where` (nodes 0 .. last) and the weights of cubic interpolation."""
    i = min(max(int(where) - 1, 0), last - 3)
    x = where - i
    a, b, c, d = x, x - 1.0, x - 2.0, x - 3.0
    return i, -b * c * d / 6.0, a * c * d / 2.0, -a * b * d / 2.0, a * b * c / 6.0


@parallel()
def t_inference(r, spread, df, log_p, log_q, low, step_df, step_t, z, se, lower, upper, statistic, dof, p):
    """Fill the variables of a t test of each correlation r with its own standard error and df, in one pass.

    log_p : log of the two-sided p at log df = low, low + step_df, ... and asinh |t| = 0, step_t, ...; log_q : log of the
    quantile at those df. Past the last t, log p goes on as a straight line, as it does for Student's t. `se` becomes that
    of z = atanh(r). The interval is cut at -1 and 1; NaN where nothing of it is left.
    """
    last_df, last_t = log_p.shape[0] - 1, log_p.shape[1] - 1
    for t in prange(r.shape[0]):
        for u in range(r.shape[1]):
            x, e = np.float64(r[t, u]), np.float64(spread[t, u])
            at = (np.log(np.float64(df[t, u])) - low) / step_df
            known = e > 0 and x == x and at >= -1e-6
            inside = abs(x) < 1.0
            z[t, u] = np.arctanh(x) if inside else np.nan
            se[t, u] = e / (1.0 - x * x) if inside and known else np.nan
            if not known:
                lower[t, u] = np.nan
                upper[t, u] = np.nan
                statistic[t, u] = np.nan
                dof[t, u] = np.nan
                p[t, u] = np.nan
                continue
            i, w0, w1, w2, w3 = _cubic(at, last_df)
            half = e * np.exp(w0 * log_q[i] + w1 * log_q[i + 1] + w2 * log_q[i + 2] + w3 * log_q[i + 3])
            first, last = max(x - half, -1.0), min(x + half, 1.0)
            lower[t, u] = first if first < last else np.nan
            upper[t, u] = last if first < last else np.nan
            value = x / e
            statistic[t, u] = value
            dof[t, u] = df[t, u]
            j, y0, y1, y2, y3 = _cubic(np.arcsinh(abs(value)) / step_t, last_t)
            log_value = 0.0
            for k, w in ((i, w0), (i + 1, w1), (i + 2, w2), (i + 3, w3)):
                log_value += w * (y0 * log_p[k, j] + y1 * log_p[k, j + 1] + y2 * log_p[k, j + 2] + y3 * log_p[k, j + 3])
            p[t, u] = np.exp(min(log_value, 0.0))


@parallel()
def cell_test(num, weight, mu1, mu2, log_p, step, statistic, p):
    """Normal test T = num / sqrt(mu mu weight) of every pair with its two-sided p, log p by cubic interpolation."""
    last = len(log_p) - 1
    for t in prange(num.shape[0]):
        for u in range(num.shape[1]):
            v = mu1[t] * mu2[u] * weight[t, u]
            x = num[t, u] / np.sqrt(v) if v > 0 else np.nan
            statistic[t, u] = x
            if x != x:
                p[t, u] = np.nan
                continue
            where = min(abs(x) / step, last - 1.0)
            i, a, b, c, d = _cubic(where, last)
            p[t, u] = np.exp(min(a * log_p[i] + b * log_p[i + 1] + c * log_p[i + 2] + d * log_p[i + 3], 0.0))


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
            rho[u] = rho[u] / below[u] / np.sqrt(v) if v > 0 and phi1[t] > 0 and below[u] > 0 else np.nan
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
            var[t, u] = max(k2[u] - k1[u] * k1[u] / n, 0.0) / (n - 1.0) if n > 0.95 * draws else np.nan
    return var


@njit(cache=True)
def upper_triangle(matrix):
    """The entries above the diagonal, row after row."""
    p = matrix.shape[0]
    out = np.empty(p * (p - 1) // 2, matrix.dtype)
    k = 0
    for i in range(p):
        for j in range(i + 1, p):
            out[k] = matrix[i, j]
            k += 1
    return out


@njit(cache=True)
def fill_symmetric(upper, matrix):
    """Write what :func:`upper_triangle` gives into both triangles; the diagonal stays."""
    p = matrix.shape[0]
    k = 0
    for i in range(p):
        for j in range(i + 1, p):
            matrix[i, j] = upper[k]
            matrix[j, i] = upper[k]
            k += 1


@parallel()
def mirror(matrix):
    """Copy the upper triangle of a square matrix to the lower one, in squares that stay in cache."""
    side = 64
    across = (matrix.shape[0] + side - 1) // side
    for block in prange(across * across):
        i0, j0 = block // across * side, block % across * side
        if j0 >= i0:
            for i in range(i0, min(i0 + side, matrix.shape[0])):
                for j in range(max(j0, i + 1), min(j0 + side, matrix.shape[0])):
                    matrix[j, i] = matrix[i, j]


@parallel()
def transpose(values, out):
    """out[j, i] = values[i, j], in squares that stay in cache."""
    side = 64
    n, m = values.shape
    across = (m + side - 1) // side
    for block in prange((n + side - 1) // side * across):
        i0, j0 = block // across * side, block % across * side
        for j in range(j0, min(j0 + side, m)):
            for i in range(i0, min(i0 + side, n)):
                out[j, i] = values[i, j]


@parallel()
def place(values, left, right, array, mirrored):
    """array[left[t], right[u]] = values[t, u], and the mirror image of it; in squares that stay in cache."""
    side = 64
    n, m = len(left), len(right)
    across = (m + side - 1) // side
    for block in prange((n + side - 1) // side * across):
        t0, u0 = block // across * side, block % across * side
        for t in range(t0, min(t0 + side, n)):
            for u in range(u0, min(u0 + side, m)):
                array[left[t], right[u]] = values[t, u]
        if mirrored:
            for u in range(u0, min(u0 + side, m)):
                for t in range(t0, min(t0 + side, n)):
                    array[right[u], left[t]] = values[t, u]


@njit(cache=True)
def sum_block(indptr, indices, values, codes, row0, col0, sums, row_sum, detected):
    """Add a CSR block to the sums per group and gene, the sums per cell and the cells per gene; code -1: not used."""
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        if c >= 0:
            for e in range(indptr[r], indptr[r + 1]):
                v = values[e]
                s += v
                sums[c, col0 + indices[e]] += np.int64(v)
                detected[col0 + indices[e]] += v > 0
        row_sum[row0 + r] += s


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
            s = np.arctanh(x)
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
                p[t, u] = np.exp(log_p[i] * (1.0 - w) + log_p[i + 1] * w)
            else:
                p[t, u] = np.exp(log_p[-1])


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


@njit(cache=True)
def _solve(matrix, right):
    """x of matrix x = right for a small symmetric positive matrix, by Cholesky; False where it is singular."""
    k = len(right)
    root = np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1):
            s = matrix[i, j]
            for m in range(j):
                s -= root[i, m] * root[j, m]
            if i == j:
                if not s > 1e-10 * matrix[i, i]:
                    return False, right
                root[i, i] = np.sqrt(s)
            else:
                root[i, j] = s / root[j, j]
    x = right.copy()
    for i in range(k):
        for m in range(i):
            x[i] -= root[i, m] * x[m]
        x[i] /= root[i, i]
    for i in range(k - 1, -1, -1):
        for m in range(i + 1, k):
            x[i] -= root[m, i] * x[m]
        x[i] /= root[i, i]
    return True, x


@njit(cache=True)
def _influences(num, den, t, u, phi1, phi2, effect1, effect2, share1, share2, x, b):
    """Correlation of one pair; each sample's influence into `x`, its share into `b` (as in leave_out_variance)."""
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
        x[c] = (num[c, t, u] - ratio * den[c, t, u]) * scale - 0.5 * n_sum * scale * (effect1[c, t] + effect2[c, u])
    return n_sum * scale


@parallel()
def difference(num, den, phi1, phi2, effect1, effect2, share1, share2, design, contrast):
    """Regression of per-sample correlations: combination of coefficients, its HC2 error, Satterthwaite df.

    See :func:`hiercorr._difference.tile_difference`.
    """
    s, r, cols = num.shape
    k = design.shape[1]
    out = np.full((r, cols), np.nan)
    se = np.full((r, cols), np.nan)
    df = np.full((r, cols), np.nan)
    for t in prange(r):
        x, b, g, side = np.empty(s), np.empty(s), np.empty(s), np.empty((s, k))
        gram = np.empty((k, k))
        inverse = np.empty((k, k))
        unit = np.zeros(k)
        beta = np.empty(k)
        for u in range(cols):
            rho = _influences(num, den, t, u, phi1, phi2, effect1, effect2, share1, share2, x, b)
            if rho != rho:
                continue
            gram[:] = 0.0
            for c in range(s):
                for i in range(k):
                    for j in range(k):
                        gram[i, j] += b[c] * design[c, i] * design[c, j]
            fine = True
            for i in range(k):
                unit[:] = 0.0
                unit[i] = 1.0
                good, column = _solve(gram, unit)
                fine = fine and good
                inverse[i] = column
            if not fine:
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
    return out, se, df


@njit(cache=True, fastmath={"contract", "reassoc"})
def _studentized(values, y, b, weight, strata, mean, room, t2):
    """Squared t (HC0) of the slope of y / b on a condition, weights b and an intercept for each stratum, of many pairs.

    values : (samples,) the condition; y, b : (samples, lanes), y free of its stratum's mean; weight, mean : (strata, lanes)
    sums of b, and room; room : (5, lanes); t2 : (lanes,) the result.
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


@njit(cache=True, fastmath=True)
def _studentized_groups(members, parts, totals, room, t2):
    """As :func:`_studentized` where the condition is 1 for `members` and 0 for others, in one stratum: five sums.

    parts : (5, samples, lanes) b, y, y^2, y b, b^2; totals : (5, lanes) their sums over all samples.
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


@parallel()
def permuted_differences(num, den, phi1, phi2, effect1, effect2, share1, share2, observed, values, strata, above):
    """How many of the permuted conditions give a studentised difference as large as the observed one; -1: none exists.

    `above`: only what is above the diagonal of a square tile is filled.
    """
    s, r, cols = num.shape
    n_strata = strata.max() + 1
    lanes = 32
    groups = n_strata == 1
    for v in observed:
        groups = groups and (v == 0.0 or v == 1.0)
    size = int(observed.sum()) if groups else 0
    members = np.zeros((len(values), size), np.int64)
    if groups:
        for m in range(len(values)):
            members[m] = np.flatnonzero(values[m])
    count = np.full((r, cols), -1, np.int64)
    for t in prange(r):
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
                rho = _influences(num, den, t, u0 + k, phi1, phi2, effect1, effect2, share1, share2, x, share)
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
    return count
