"""Loops over dense residuals in strips: (strips, cells, STRIP genes), with 0 past the last gene."""

from __future__ import annotations

import numpy as np

from hiercorr.kernels.vectors import (
    REGISTER,
    STRIP,
    TILE_REGISTERS,
    TILE_ROWS,
    add_tile,
    sum_of_rows,
)
from hiercorr.runtime.compile import compiled, over_ranges, parallel
from hiercorr.runtime.workers import allowed

_ROWS = 32  # genes whose sums are copied to the result together
_CHUNK = 512  # cells multiplied at a time: a few strips of them fit into the cache of a core


def _two_strips(*args):
    return (np.zeros((2, STRIP), args[-1].dtype),)


@parallel("out", space=_two_strips, fastmath=True)
def fill(begin, end, rows, values, start, stop, depth, cell0, mu, a, out, space):
    """Fill strips with the residuals (x - s mu_t) / (1 + s a_t) of consecutive cells.

    Parameters
    ----------
    rows, values : ndarray
        Cell and count of each entry.
    start, stop : ndarray of int, shape (genes,)
        Entries of each gene in these cells.
    depth : ndarray
        Depth s of all cells.
    cell0 : int
        First cell.
    mu, a : ndarray, shape (genes,)
    out : ndarray, shape (strips, cells, STRIP)
        Result.
    """
    cells = out.shape[1]
    one = out.dtype.type(1.0)
    m, w = space[0], space[1]
    for strip in range(begin, end):
        t0 = strip * STRIP
        wide = min(STRIP, len(start) - t0)
        for u in range(STRIP):
            m[u] = 0
        for u in range(wide):
            m[u], w[u] = mu[t0 + u], a[t0 + u]
        for i in range(cells):
            s = depth[cell0 + i]
            for u in range(STRIP):
                out[strip, i, u] = -s * m[u] / (one + s * w[u])
        for u in range(wide):
            for e in range(start[t0 + u], stop[t0 + u]):
                out[strip, rows[e] - cell0, u] += out.dtype.type(values[e]) / (
                    one + depth[rows[e]] * w[u]
                )


def turn(block, out):
    """Rearrange an array (genes, cells) into strips."""

    def strips(begin, end):
        for strip in range(begin, end):
            part = block[strip * STRIP : (strip + 1) * STRIP].T
            out[strip, :, : part.shape[1]] = part
            out[strip, :, part.shape[1] :] = 0

    over_ranges(strips, len(out))


@compiled()
def _add_pieces(begin, end, x, y, own, group, out):
    n, cells, _ = x.shape
    m = len(y)
    wide = TILE_REGISTERS * REGISTER // out.itemsize
    across = (m + group - 1) // group
    for piece in range(begin, end):
        i0, j0 = piece // across * group, piece % across * group
        for k in range(0, cells, _CHUNK):
            some = min(_CHUNK, cells - k)
            for j in range(j0, min(j0 + group, m)):
                for i in range(i0, min(i0 + group, n)):
                    if own and j < i:
                        continue
                    at = (i * m + j) * STRIP * STRIP
                    first, second = (i * cells + k) * STRIP, (j * cells + k) * STRIP
                    for u in range(0, STRIP, wide):
                        for t in range(0, STRIP, TILE_ROWS):
                            add_tile(out, at + t * STRIP + u, x, first + t, y, second + u, some)


def add_products(x, y, own, out):
    """Add the sums over cells of x_t y_u to tiles `out` (strips of x, strips of y, STRIP, STRIP).

    If `own`, x and y are the same and only tiles on and above the diagonal are filled.
    """
    n, m = len(x), len(y)
    group = 4 if n * m >= 64 * allowed() else 1  # strips whose chunks share the cache
    over_ranges(_add_pieces, -(-n // group) * -(-m // group), x, y, own, group, out)


@parallel("tiles")
def put(begin, end, tiles, before1, before2, own, row, column, out):
    """Copy tiles to out[row[t], column[u]], without the first `before1` and `before2` genes.

    If `own`, only u >= t is copied.
    """
    m = tiles.shape[1]
    for i in range(begin, end):
        for r in range(STRIP):
            t = i * STRIP + r - before1
            if t < 0 or t >= len(row):
                continue
            for j in range(i if own else 0, m):
                u0 = j * STRIP - before2
                first = max(t if own else 0, u0, 0)
                for u in range(first, min(u0 + STRIP, len(column))):
                    out[row[t], column[u]] = tiles[i, j, r, u - u0]


@parallel("start", fastmath=True)
def _scale(begin, end, rows, values, start, stop, depth, cell0, a, first, scaled, cell):
    """Divide the counts of genes by 1 + s a_t, and number their cells from `cell0`."""
    one = scaled.dtype.type(1.0)
    for t in range(begin, end):
        w = scaled.dtype.type(a[t])
        for e in range(stop[t] - start[t]):
            i = rows[start[t] + e]
            scaled[first[t] + e] = scaled.dtype.type(values[start[t] + e]) / (one + depth[i] * w)
            cell[first[t] + e] = i - cell0


@compiled(fastmath=True)
def _visit_strips(
    begin,
    end,
    first,
    scaled,
    cell,
    skip,
    residuals,
    mean,
    node,
    rest,
    turned,
    own,
    row,
    column,
    add,
    out,
    total,
):
    n, p = len(row), len(column)
    less = total[_ROWS]
    for strip in range(begin, end):
        u0 = strip * STRIP
        u1 = min(u0 + STRIP, p)
        near = residuals[strip]  # fits into the cache of a core
        for t0 in range(0, n, _ROWS):
            t1 = min(t0 + _ROWS, n)
            for t in range(t0, t1):
                if skip[t] < u1:
                    sum_of_rows(total[t - t0], scaled, cell, near, first[t], first[t + 1])
                    if not add:
                        sum_of_rows(less, mean[t], node, rest[strip], 0, len(node))
                        for u in range(STRIP):
                            total[t - t0, u] -= less[u]
            if not turned:
                for t in range(t0, t1):
                    for u in range(max(skip[t], u0), u1):
                        if not own or row[t] <= column[u]:
                            value = total[t - t0, u - u0]
                            out[row[t], column[u]] = (
                                value + out[row[t], column[u]] if add else value
                            )
            if turned or own:
                for u in range(u0, u1):  # along the rows of `out`, as above
                    for t in range(t0, t1):
                        if u >= skip[t] and (turned or row[t] > column[u]):
                            value = total[t - t0, u - u0]
                            out[column[u], row[t]] = (
                                value + out[column[u], row[t]] if add else value
                            )


def visit(
    rows,
    values,
    start,
    stop,
    depth,
    cell0,
    a,
    skip,
    residuals,
    mean,
    rest,
    turned,
    own,
    row,
    column,
    add,
    out,
):
    """Sum, over the entries of gene t, x / (1 + s a_t) times the residual of gene u >= skip[t].

    Parameters
    ----------
    rows, values, start, stop, depth, cell0
        See :func:`fill`.
    a : ndarray, shape (genes t,)
    skip : ndarray of int, shape (genes t,)
    residuals : ndarray, shape (strips, cells, STRIP)
        Residuals of the genes u.
    mean : ndarray, shape (genes t, k)
    rest : ndarray, shape (strips, k, STRIP)
    turned : bool
        Write to out[column[u], row[t]] instead of out[row[t], column[u]].
    own : bool
        Write to whichever of the two is in the upper triangle.
    row, column : ndarray of int
        Positions of the genes t and u in `out`.
    add : bool
        Add to `out`; otherwise overwrite it with the sum minus the product of mean[t] and `rest`.
    out : ndarray
        Result.
    """
    first = np.append(0, np.cumsum(stop - start))
    scaled, cell = np.empty(first[-1], residuals.dtype), np.empty(first[-1], np.int32)
    _scale(rows, values, start, stop, depth, cell0, a, first, scaled, cell)
    node = np.arange(mean.shape[1], dtype=np.int32)
    given = (first, scaled, cell, skip, residuals, mean, node, rest, turned, own)

    def strips(begin, end):
        total = np.zeros((_ROWS + 1, STRIP), out.dtype)
        _visit_strips(begin, end, *given, row, column, add, out, total)

    over_ranges(strips, len(residuals))
