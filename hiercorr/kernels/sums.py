"""Loops that compute sums over cells; :mod:`hiercorr.moments` explains their meaning."""

from __future__ import annotations

import numpy as np

from hiercorr.runtime.blas import at_most
from hiercorr.runtime.compile import compiled, over_ranges, parallel

_STRIP = 16  # genes whose products with all others are made together


def _two_rows(*args):
    return (np.empty((2, args[5].shape[1])),)


@parallel("first", space=_two_rows)
def nodal_sums(begin, end, rows, values, start, stop, cell0, basis, c, first, second, space):
    """Add the sums of x L and x^2 L over the entries start:stop of each gene to two arrays.

    The arrays are (genes, samples, nodes), of which those of sample c are filled; the rows of
    `basis`, L, are the cells from `cell0`.
    """
    m = basis.shape[1]
    one, two = space[0], space[1]
    for j in range(begin, end):
        for k in range(m):
            one[k], two[k] = 0.0, 0.0
        for e in range(start[j], stop[j]):
            x = np.float64(values[e])
            i = rows[e] - cell0
            for k in range(m):
                v = x * basis[i, k]
                one[k] += v
                two[k] += x * v
        for k in range(m):
            first[j, c, k] += one[k]
            second[j, c, k] += two[k]


@parallel("mu")
def sample_moments(begin, end, first, second, power, nodes, theta, mu, num, den):
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
    for j in range(begin, end):
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


def weighted_residuals(rows, values, start, stop, depth, cell0, mu, a, out):
    """Set out[t, i] = (x - s mu_t) / (1 + s a_t) for the cells from `cell0`.

    Rows of `out` are genes, whose entries in these cells are start:stop. The dtype of `out` is the
    precision of the computation.
    """
    s = depth[cell0 : cell0 + out.shape[1]].astype(out.dtype, copy=False)
    mu, a = mu.astype(out.dtype), a.astype(out.dtype)

    def genes(begin, end):
        for t in range(begin, end):
            weight = 1 / (1 + s * a[t])
            np.multiply(s * -mu[t], weight, out=out[t])
            at = rows[start[t] : stop[t]] - cell0
            out[t, at] += values[start[t] : stop[t]].astype(out.dtype) * weight[at]

    over_ranges(genes, len(out))


def take_off_weighted(block, fitted, depth, slope):
    """Subtract fitted / (1 + a s) from `block`, arrays (genes, cells)."""

    def genes(begin, end):
        for t in range(begin, end):
            block[t] -= fitted[t] / (1 + depth * slope[t])

    over_ranges(genes, len(block))


def _row_sums(*args):
    return (np.empty(len(args[7]), args[7].dtype),)


@parallel("start", space=_row_sums, fastmath=True)
def narrow_products(
    begin, end, rows, values, start, stop, depth, cell0, a, residuals, add, out, total
):
    """Sum, over the entries of gene t, x / (1 + s a_t) times the residual of each of a few genes u.

    `residuals` is (genes u, cells). The sums overwrite out[t, u] or, if `add`, are added to it.
    """
    zero, one = residuals.dtype.type(0.0), residuals.dtype.type(1.0)
    for t in range(begin, end):
        w = residuals.dtype.type(a[t])
        for u in range(len(total)):
            total[u] = zero
        for e in range(start[t], stop[t]):
            v = residuals.dtype.type(values[e]) / (one + depth[rows[e]] * w)
            for u in range(len(total)):
                total[u] += v * residuals[u, rows[e] - cell0]
        for u in range(len(total)):
            out[t, u] = total[u] + (out[t, u] if add else zero)


@compiled()
def _sort_by_cell(
    begin, rows, values, start, stop, depth, cell0, a, pairs, genes, first, place, keep
):
    """Sort the entries of some genes by cell; see :func:`shared_products`.

    Parameters
    ----------
    begin : ndarray, shape (cells + 1,)
        Result: the first sorted entry of each cell.
    first : ndarray, shape (genes + 1,)
        Result: entries of the genes before each one.
    place : ndarray
        Result: position of each entry among the sorted ones, if `keep`.
    keep : bool
    """
    for i in range(len(begin)):
        begin[i] = 0
    first[0] = 0
    for u in range(len(start)):
        first[u + 1] = first[u] + stop[u] - start[u]
        for e in range(start[u], stop[u]):
            begin[rows[e] - cell0 + 1] += 1
    for i in range(1, len(begin)):
        begin[i] += begin[i - 1]
    for u in range(len(start)):
        for e in range(start[u], stop[u]):
            i = rows[e] - cell0
            k = begin[i]  # for now: the next free place of the cell
            begin[i] = k + 1
            genes[k, 0] = u
            pairs[k, 1] = values[e] / (1.0 + depth[rows[e]] * a[u])
            if keep:
                place[first[u] + e - start[u]] = k
    for i in range(len(begin) - 1, 0, -1):
        begin[i] = begin[i - 1]
    begin[0] = 0


@compiled()
def _add_shared(
    t0,
    t1,
    rows,
    values,
    start,
    stop,
    depth,
    cell0,
    a,
    off,
    own,
    row,
    column,
    add,
    pairs,
    genes,
    begin,
    first,
    place,
    total,
    out,
):
    """Fill rows t0 .. t1 of :func:`shared_products`."""
    p = len(column)
    for t in range(t0, t1):
        for u in range(p):
            total[u] = 0
        for e in range(start[t], stop[t]):
            i = rows[e] - cell0
            k0 = place[first[t] + e - start[t]] if own else begin[i]
            x = pairs[k0, 1] if own else out.dtype.type(values[e] / (1.0 + depth[rows[e]] * a[t]))
            for k in range(k0, begin[i + 1]):
                total[genes[k, 0]] += x * pairs[k, 1]
        for u in range(t if own else 0, p):
            if add:
                out[row[t], column[u]] += total[u]
            else:
                out[row[t], column[u]] = total[u] - off[t - t0, u]


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
    out,
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
        Their product less1[t] less2[u]' is subtracted unless `add`; it may be more precise.
    own : bool
        Both sides are the same genes; only u >= t is filled.
    row, column : ndarray of int
        Positions of the genes t and u in `out`.
    add : bool
        Add to `out` instead of overwriting it.
    out : ndarray
        Result.
    """
    # Gene and value of a sorted entry are adjacent, because memory access dominates the run time.
    pairs = np.empty((int((stop2 - start2).sum()), 2), out.dtype)
    genes = pairs.view(f"u{out.itemsize}")  # unsigned: needs no check for negative indices
    begin, first = np.empty(n_cells + 1, np.int64), np.empty(len(column) + 1, np.int64)
    place = np.empty(len(pairs) if own else 0, np.int64)
    _sort_by_cell(
        begin, rows, values, start2, stop2, depth, cell0, a2, pairs, genes, first, place, own
    )

    def strips(first_strip, last_strip):
        total, off = np.empty(len(column), out.dtype), np.empty((_STRIP, len(column)), out.dtype)
        for t0 in range(first_strip * _STRIP, min(last_strip * _STRIP, len(row)), _STRIP):
            t1 = min(t0 + _STRIP, len(row))
            if not add:
                u0 = t0 if own else 0
                off[: t1 - t0, u0:] = less1[t0:t1] @ less2[u0:].T
            _add_shared(
                t0,
                t1,
                rows,
                values,
                start1,
                stop1,
                depth,
                cell0,
                a1,
                off,
                own,
                row,
                column,
                add,
                pairs,
                genes,
                begin,
                first,
                place,
                total,
                out,
            )

    with at_most(1):
        over_ranges(strips, -(-len(row) // _STRIP))


def row_products(a, b, own, out):
    """Set out[t, u] to the product of row t of `a` and row u of `b`.

    If `own`, only u >= t is guaranteed to be filled.
    """

    def strips(first, last):
        for t0 in range(first * 64, last * 64, 64):
            u0 = t0 if own else 0
            np.matmul(a[t0 : t0 + 64], b[u0:].T, out=out[t0 : t0 + 64, u0:])

    with at_most(1):
        over_ranges(strips, -(-len(a) // 64))


@compiled(fastmath={"contract"})
def _add_centred(k, left, right, num, out):
    for t in range(out.shape[0]):
        for u in range(out.shape[1]):
            x = k[t, u]
            out[t, u] += x * (x * left[t] * right[u] - num[t, u])


def centred_denominators(a, b, k_left, k_right, left, right, num, out):
    """Set out = a b' + k (k left right - num) with k = k_left k_right', by sample.

    The factors may be more precise than `num` and `out`, which are rounded last. See
    :func:`hiercorr.moments.pairs.denominators`.
    """
    s, n, m = out.shape
    across = -(-n // 64)
    same = a.dtype == out.dtype

    def pieces(first, last):
        k = np.empty((64, m), a.dtype)
        block = np.empty((0 if same else 64, m), a.dtype)
        for piece in range(first, last):
            c, t0 = piece // across, piece % across * 64
            rows = slice(t0, min(t0 + 64, n))
            part = k[: rows.stop - t0]
            sums = out[c, rows] if same else block[: rows.stop - t0]
            np.matmul(a[c, rows], b[c].T, out=sums)
            np.matmul(k_left[c, rows], k_right[c].T, out=part)
            _add_centred(part, left[c, rows], right[c], num[c, rows], sums)
            if not same:
                out[c, rows] = sums

    with at_most(1):
        over_ranges(pieces, s * across)


@parallel("start")
def regress_on_cells(
    begin, end, rows, values, start, stop, cell0, depth, slope, wu, h, outer, beta, noise
):
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
    for j in range(begin, end):
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
