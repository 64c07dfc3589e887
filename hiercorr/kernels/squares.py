"""Loops that copy values within and between square arrays."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hiercorr.runtime.compile import parallel


@njit(cache=True)
def upper_triangle(matrix):
    """Return the entries above the diagonal of a square matrix, row by row."""
    p = matrix.shape[0]
    out = np.empty(p * (p - 1) // 2, matrix.dtype)
    k = 0
    for i in range(p):
        for j in range(i + 1, p):
            out[k] = matrix[i, j]
            k += 1
    return out


@njit(cache=True)
def fill_upper(upper, matrix):
    """Fill the entries above the diagonal, in the order of :func:`upper_triangle`."""
    p = matrix.shape[0]
    k = 0
    for i in range(p):
        for j in range(i + 1, p):
            matrix[i, j] = upper[k]
            k += 1


@parallel()
def mirror(matrix):
    """Copy the upper triangle of a square matrix to the lower one, in cache-sized squares."""
    side = 64
    across = (matrix.shape[0] + side - 1) // side
    for block in prange(across * across):
        i0, j0 = block // across * side, block % across * side
        if j0 >= i0:
            for i in range(i0, min(i0 + side, matrix.shape[0])):
                for j in range(max(j0, i + 1), min(j0 + side, matrix.shape[0])):
                    matrix[j, i] = matrix[i, j]


@parallel()
def place(values, left, right, out):
    """Set out[left + i, right + j] = out[right + j, left + i] = values[i, j].

    Works in cache-sized squares. If left = right, the triangles of `values` may differ in the last
    digit, and the upper one is used.
    """
    side = 64
    n, m = values.shape
    own = left == right
    across = (m + side - 1) // side
    for block in prange((n + side - 1) // side * across):
        i0, j0 = block // across * side, block % across * side
        i1, j1 = min(i0 + side, n), min(j0 + side, m)
        if own and j0 < i0:
            continue
        for i in range(i0, i1):
            for j in range(max(j0, i) if own else j0, j1):
                out[left + i, right + j] = values[i, j]
        for j in range(j0, j1):
            for i in range(i0, min(i1, j) if own else i1):
                out[right + j, left + i] = values[i, j]


@parallel()
def copy_window(values, i0, j0, out):
    """Set out[c, i, j] = values[c, i0 + i, j0 + j]."""
    s, n, m = out.shape
    for row in prange(s * n):
        c, i = row // n, row % n
        for j in range(m):
            out[c, i, j] = values[c, i0 + i, j0 + j]
