"""Loops that copy values within and between square arrays."""

from __future__ import annotations

import numpy as np

from hiercorr.runtime.compile import compiled, over_ranges

_SIDE = 64


def upper_triangle(matrix):
    """Return the entries above the diagonal of a square matrix, row by row."""
    p = len(matrix)
    out, k = np.empty(p * (p - 1) // 2, matrix.dtype), 0
    for i in range(p):
        n = p - 1 - i
        out[k : k + n] = matrix[i, i + 1 :]
        k += n
    return out


def fill_upper(upper, matrix):
    """Fill the entries above the diagonal, in the order of :func:`upper_triangle`."""
    k = 0
    for i in range(len(matrix)):
        n = len(matrix) - 1 - i
        matrix[i, i + 1 :] = upper[k : k + n]
        k += n


@compiled()
def _mirror_blocks(begin, end, matrix):
    n = matrix.shape[0]
    across = (n + _SIDE - 1) // _SIDE
    for block in range(begin, end):
        i0, j0 = block // across * _SIDE, block % across * _SIDE
        if j0 >= i0:
            for i in range(i0, min(i0 + _SIDE, n)):
                for j in range(max(j0, i + 1), min(j0 + _SIDE, n)):
                    matrix[j, i] = matrix[i, j]


def mirror(matrix):
    """Copy the upper triangle of a square matrix to the lower one, in cache-sized squares."""
    over_ranges(_mirror_blocks, (-(-len(matrix) // _SIDE)) ** 2, matrix)


@compiled()
def _place_blocks(begin, end, values, left, right, out):
    n, m = values.shape
    own = left == right
    across = (m + _SIDE - 1) // _SIDE
    for block in range(begin, end):
        i0, j0 = block // across * _SIDE, block % across * _SIDE
        i1, j1 = min(i0 + _SIDE, n), min(j0 + _SIDE, m)
        if own and j0 < i0:
            continue
        for i in range(i0, i1):
            for j in range(max(j0, i) if own else j0, j1):
                out[left + i, right + j] = values[i, j]
        for j in range(j0, j1):
            for i in range(i0, min(i1, j) if own else i1):
                out[right + j, left + i] = values[i, j]


def place(values, left, right, out):
    """Set out[left + i, right + j] = out[right + j, left + i] = values[i, j].

    Works in cache-sized squares. If left = right, the triangles of `values` may differ in the last
    digit, and the upper one is used.
    """
    n, m = values.shape
    over_ranges(_place_blocks, -(-n // _SIDE) * -(-m // _SIDE), values, left, right, out)


def copy_window(values, i0, j0, out):
    """Set out[c, i, j] = values[c, i0 + i, j0 + j]."""
    _, n, m = out.shape

    def rows(begin, end):
        out[:, begin:end] = values[:, i0 + begin : i0 + end, j0 : j0 + m]

    over_ranges(rows, n)
