"""Loops over dense residuals, which stand in strips: (strips, cells, STRIP genes), what is past the last gene is 0."""

from __future__ import annotations

import numpy as np
from numba import prange

from hiercorr.kernels.vectors import (
    REGISTER,
    STRIP,
    TILE_REGISTERS,
    TILE_ROWS,
    add_tile,
    sum_of_rows,
    take,
)
from hiercorr.runtime.compile import parallel

_ROWS = 32  # genes whose sums are put into place together
_CHUNK = 512  # cells of a strip that are multiplied at one time: a few strips of them stay in the cache of one core


@parallel(fastmath=True)
def fill(rows, values, start, stop, depth, cell0, mu, a, out, threads):
    """Residuals (x - s mu_t) / (1 + s a_t) of the cells from `cell0`, from the entries start:stop of each gene."""
    n, cells, _ = out.shape
    one = out.dtype.type(1.0)
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        m = np.zeros(STRIP, out.dtype)
        w = np.zeros(STRIP, out.dtype)
        strip = take(counter)
        while strip < n:
            t0 = strip * STRIP
            wide = min(STRIP, len(start) - t0)
            m[:] = 0
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
            strip = take(counter)


@parallel()
def turn(block, out):
    """The strips of an array (genes, cells)."""
    n, cells, _ = out.shape
    for strip in prange(n):
        t0 = strip * STRIP
        wide = min(STRIP, len(block) - t0)
        for i0 in range(0, cells, STRIP):
            for i in range(i0, min(i0 + STRIP, cells)):
                for u in range(wide):
                    out[strip, i, u] = block[t0 + u, i]
                for u in range(wide, STRIP):
                    out[strip, i, u] = 0


@parallel()
def add_products(x, y, own, out, threads):
    """Add the sums over cells of x_t y_u to tiles `out` (strips of x, strips of y, STRIP, STRIP).

    `own`: both are the same, and only the tiles on and above the diagonal are filled.
    """
    n, cells, _ = x.shape
    m = len(y)
    wide = TILE_REGISTERS * REGISTER // out.itemsize
    group = 4 if n * m >= 64 * threads else 1  # strips whose chunks meet in the cache
    across = (m + group - 1) // group
    pieces = (n + group - 1) // group * across
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        piece = take(counter)
        while piece < pieces:
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
            piece = take(counter)


@parallel()
def put(tiles, before1, before2, own, row, column, out):
    """out[row[t], column[u]] = values of the tiles from gene before1, before2 on; `own`: for u >= t alone."""
    n, m, _, _ = tiles.shape
    for i in prange(n):
        for r in range(STRIP):
            t = i * STRIP + r - before1
            if t < 0 or t >= len(row):
                continue
            for j in range(i if own else 0, m):
                u0 = j * STRIP - before2
                first = max(t if own else 0, u0, 0)
                for u in range(first, min(u0 + STRIP, len(column))):
                    out[row[t], column[u]] = tiles[i, j, r, u - u0]


@parallel(fastmath=True)
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
    threads,
):
    """out[row[t], column[u]] = sum over the entries of gene t of x / (1 + s a_t) times the residual of gene u, from skip[t] on.

    `add`: on top of what is there; else the product of mean[t] and gene u in the strips `rest` (strips, k, STRIP) is taken
    off. `turned`: the mirror image is meant; `own`: the one of both that is above the diagonal.
    """
    n, p = len(row), len(column)
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
    node = np.arange(mean.shape[1]).astype(np.int32)
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        total = np.zeros((_ROWS, STRIP), residuals.dtype)
        less = np.zeros(STRIP, residuals.dtype)
        strip = take(counter)
        while strip < len(residuals):
            u0 = strip * STRIP
            u1 = min(u0 + STRIP, p)
            near = residuals[strip]  # stays in the cache of one core
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
                    for u in range(u0, u1):  # along the rows of `out` again
                        for t in range(t0, t1):
                            if u >= skip[t] and (turned or row[t] > column[u]):
                                value = total[t - t0, u - u0]
                                out[column[u], row[t]] = (
                                    value + out[column[u], row[t]] if add else value
                                )
            strip = take(counter)
