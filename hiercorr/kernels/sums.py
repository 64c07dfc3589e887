"""Loops that compute sums over cells; :mod:`hiercorr.moments` explains their meaning."""

from __future__ import annotations

import numpy as np
from numba import prange

from hiercorr.kernels.vectors import take
from hiercorr.runtime.compile import parallel


@parallel()
def nodal_sums(rows, values, start, stop, cell0, basis, first, second):
    """Add the sums of x L and x^2 L over the entries start:stop of each gene to two arrays.

    The arrays are (genes, nodes); the rows of `basis`, L, are the cells from `cell0`.
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


@parallel()
def sample_moments(first, second, power, nodes, theta, mu, num, den):
    """Compute mean, N and D of every gene in every sample for weights 1 / (1 + s mu / theta).

    See :func:`hiercorr.moments.genes.within_moments`. The mean is the fixed point of the weighted
    mean, whose weights depend on it.

    Parameters
    ----------
    first, second, power, nodes : ndarray
        See :class:`hiercorr.moments.depth.DepthSums`.
    theta : float
    mu : ndarray, shape (genes, samples)
        Starting values; overwritten by the means.
    num, den : ndarray, shape (genes, samples)
        Results.
    """
    m = len(nodes)
    for j in prange(len(mu)):
        for c in range(mu.shape[1]):
            mean = mu[j, c]
            for _ in range(60):
                above, below = 0.0, 0.0
                for k in range(m):
                    w = 1.0 / (1.0 + mean * nodes[k] / theta)
                    above += w * first[j, c, k]
                    below += w * power[1, c, k]
                change = abs(above / below - mean)
                mean = above / below
                if change <= 1e-13 * mean:
                    break
            total, size, cubes, noise, cube2, squares, cross = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(m):
                f = 1.0 / (1.0 + mean * nodes[k] / theta)
                f2 = f * f
                total += f * power[1, c, k]
                size += f2 * power[2, c, k]
                noise += f2 * power[1, c, k]
                cubes += f2 * f * power[3, c, k]
                cube2 += f2 * f * power[2, c, k]
                squares += f2 * second[j, c, k]
                cross += f2 * nodes[k] * first[j, c, k]
            share = size / total
            n = squares - 2.0 * mean * cross + mean * mean * size - mean * noise
            n += 2.0 * mean * cube2 / total - mean * size * noise / (total * total)
            gain = size - 2.0 * cubes / total + share * share
            mu[j, c] = mean
            num[j, c] = n
            den[j, c] = gain * (mean * mean - mean * noise / (total * total)) - n * size / (
                total * total
            )


@parallel(fastmath=True)
def weighted_residuals(rows, values, start, stop, depth, cell0, mu, a, out):
    """Set out[t, i] = (x - s mu_t) / (1 + s a_t) for the cells from `cell0`.

    Rows of `out` are genes, whose entries in these cells are start:stop. The dtype of `out` is the
    precision of the computation.
    """
    p, n = out.shape
    one = out.dtype.type(1.0)
    for t in prange(p):
        m, w = out.dtype.type(mu[t]), out.dtype.type(a[t])
        for i in range(n):
            s = depth[cell0 + i]
            out[t, i] = -s * m / (one + s * w)
        for e in range(start[t], stop[t]):
            out[t, rows[e] - cell0] += out.dtype.type(values[e]) / (one + depth[rows[e]] * w)


@parallel()
def take_off_weighted(block, fitted, depth, slope):
    """Subtract fitted / (1 + a s) from `block`, arrays (genes, cells)."""
    one = block.dtype.type(1.0)
    for t in prange(block.shape[0]):
        for i in range(block.shape[1]):
            block[t, i] -= fitted[t, i] / (one + depth[i] * slope[t])


@parallel(fastmath=True)
def narrow_products(rows, values, start, stop, depth, cell0, a, residuals, add, out):
    """Sum, over the entries of gene t, x / (1 + s a_t) times the residual of each of a few genes u.

    `residuals` is (genes u, cells). The sums overwrite out[t, u] or, if `add`, are added to it.
    """
    zero, one = residuals.dtype.type(0.0), residuals.dtype.type(1.0)
    for t in prange(len(start)):
        w = residuals.dtype.type(a[t])
        total = np.zeros(len(residuals), residuals.dtype)
        for e in range(start[t], stop[t]):
            v = residuals.dtype.type(values[e]) / (one + depth[rows[e]] * w)
            for u in range(len(total)):
                total[u] += v * residuals[u, rows[e] - cell0]
        for u in range(len(total)):
            out[t, u] = total[u] + (out[t, u] if add else zero)


@parallel(blas=True)
def shared_products(
    rows,
    values,
    start1,
    stop1,
    start2,
    stop2,
    depth,
    cell0,
    n_cells,
    a1,
    a2,
    less1,
    less2,
    own,
    row,
    column,
    add,
    pairs,
    genes,
    out,
    threads,
):
    """Sum x_t x_u / ((1 + s a_t) (1 + s a_u)) over the cells with counts of both genes.

    A row-wise sparse product (Gustavson 1978): entries of the right genes are sorted by cell, and
    each left gene accumulates its cells in a dense row.

    Parameters
    ----------
    rows, values : ndarray
        Cell and count of each entry.
    start1, stop1, start2, stop2 : ndarray of int, shape (genes,)
        Entries of each left and right gene in these cells.
    depth : ndarray
        Depth s of all cells.
    cell0, n_cells : int
        First cell and number of cells.
    a1, a2 : ndarray, shape (genes,)
    less1, less2 : ndarray, shape (genes, k)
        Their product less1[t] less2[u]' is subtracted unless `add`.
    own : bool
        Both sides are the same genes; only u >= t is filled.
    row, column : ndarray of int
        Positions of the genes t and u in `out`.
    add : bool
        Add to `out` instead of overwriting it.
    pairs, genes : ndarray, shape (entries of the right genes, 2)
        Workspace for the sorted entries, and a view of it as unsigned integers: gene and value are
        adjacent, because memory access dominates the run time.
    out : ndarray
        Result.
    threads : int
    """
    n, p = len(row), len(column)
    begin = np.zeros(n_cells + 1, np.int64)
    for u in range(p):
        for e in range(start2[u], stop2[u]):
            begin[rows[e] - cell0 + 1] += 1
    for i in range(n_cells):
        begin[i + 1] += begin[i]
    cursor = begin[:-1].copy()
    first = np.zeros(p + 1, np.int64)
    for u in range(p):
        first[u + 1] = first[u] + stop2[u] - start2[u]
    place = np.empty(first[p] if own else 0, np.int64)
    for u in range(p):
        for e in range(start2[u], stop2[u]):
            i = rows[e] - cell0
            k = cursor[i]
            cursor[i] = k + 1
            genes[k, 0] = u
            pairs[k, 1] = values[e] / (1.0 + depth[rows[e]] * a2[u])
            if own:
                place[first[u] + e - start2[u]] = k
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        total = np.zeros(p, out.dtype)
        part = take(counter)
        while part * 16 < n:
            t0, t1 = part * 16, min(part * 16 + 16, n)
            u0 = t0 if own else 0
            off = np.dot(less1[t0:t1], less2[u0:].T) if not add else np.empty((0, 0), out.dtype)
            for t in range(t0, t1):
                total[:] = 0
                for e in range(start1[t], stop1[t]):
                    i = rows[e] - cell0
                    k0 = place[first[t] + e - start1[t]] if own else begin[i]
                    x = (
                        pairs[k0, 1]
                        if own
                        else out.dtype.type(values[e] / (1.0 + depth[rows[e]] * a1[t]))
                    )
                    for k in range(k0, begin[i + 1]):
                        total[genes[k, 0]] += x * pairs[k, 1]
                for u in range(t if own else 0, p):
                    if add:
                        out[row[t], column[u]] += total[u]
                    else:
                        out[row[t], column[u]] = total[u] - off[t - t0, u - u0]
            part = take(counter)


@parallel(blas=True)
def row_products(a, b, own, scale, add, out, threads):
    """Set out[t, u] to `scale` times the product of row t of `a` and row u of `b`.

    If `add`, the product is added to `out`; if `own`, only u >= t is guaranteed to be filled.
    """
    n = len(a)
    for worker in prange(threads):
        for strip in range(worker, (n + 63) // 64, threads):
            t0, t1 = strip * 64, min(strip * 64 + 64, n)
            u0 = t0 if own else 0
            part = np.dot(a[t0:t1], b[u0:].T)
            for t in range(t1 - t0):
                for u in range(part.shape[1]):
                    if add:
                        out[t0 + t, u0 + u] += scale * part[t, u]
                    else:
                        out[t0 + t, u0 + u] = scale * part[t, u]


@parallel(blas=True, fastmath={"contract"})
def centred_denominators(a, b, k_left, k_right, left, right, num, out):
    """Set out = a b' + k (k left right - num) with k = k_left k_right', by sample.

    See :func:`hiercorr.moments.pairs.denominators`.
    """
    s, n, m = out.shape
    strips = (n + 63) // 64
    for piece in prange(s * strips):
        c, t0 = piece // strips, piece % strips * 64
        t1 = min(t0 + 64, n)
        np.dot(a[c, t0:t1], b[c].T, out[c, t0:t1])
        k = np.dot(k_left[c, t0:t1], k_right[c].T)
        for t in range(t0, t1):
            for u in range(m):
                x = k[t - t0, u]
                out[c, t, u] += x * (x * left[c, t] * right[c, u] - num[c, t, u])


@parallel()
def regress_on_cells(rows, values, start, stop, cell0, depth, slope, wu, h, outer, beta, noise):
    """Estimate coefficients of cell covariates and the Poisson noise in the squared residuals.

    See :mod:`hiercorr.within.cell_covariates`.

    Parameters
    ----------
    rows, values : ndarray
        Cell and count of each entry.
    start, stop : ndarray of int, shape (genes,)
        Entries of each gene in one sample.
    cell0 : int
        First cell of the sample.
    depth, wu, h : ndarray, shapes (cells,), (cells, k) and (cells,)
        Depth, weighted covariates and leverage of the cells of the sample.
    slope : ndarray, shape (genes,)
    outer : ndarray, shape (genes, k, k)
        Sums of w_j^2 s^2 u u'.
    beta, noise : ndarray, shapes (k, genes) and (genes,)
        Results.
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
