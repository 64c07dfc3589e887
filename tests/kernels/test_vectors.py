"""Sums in vector registers against numpy."""

import numba
import numpy as np
import pytest

from hiercorr.kernels.vectors import (
    DOUBLES,
    STRIP,
    TILE_ROWS,
    add_tile,
    add_weighted,
    sum_of_rows,
)


@numba.njit
def rows_summed(total, weight, row, table, begin, end):
    sum_of_rows(total, weight, row, table, begin, end)


@numba.njit
def tile_added(out, at, x, first, y, second, cells):
    add_tile(out, at, x, first, y, second, cells)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("begin", "end"), [(0, 0), (3, 4), (1, 20)])
def test_weighted_sums_of_rows(dtype, begin, end):
    rng = np.random.default_rng(0)
    weight, table = rng.normal(size=20).astype(dtype), rng.normal(size=(9, STRIP)).astype(dtype)
    row, total = rng.integers(0, 9, 20).astype(np.int32), np.full(STRIP, np.nan, dtype)
    rows_summed(total, weight, row, table, begin, end)
    wanted = weight[begin:end].astype(float) @ table[row[begin:end]].astype(float)
    np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_products(dtype):
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(12, STRIP)).astype(dtype) for _ in range(2))
    out = np.zeros((STRIP, STRIP), dtype)
    at, first, second = 2 * STRIP, 3 * STRIP + 1, 4 * STRIP
    tile_added(out, at, x, first, y, second, 7)
    wanted = x[3:10, 1 : 1 + TILE_ROWS].astype(float).T @ y[4:11].astype(float)
    width = int((out[2] != 0).sum())  # as many columns as registers hold
    np.testing.assert_allclose(
        out[2 : 2 + TILE_ROWS, :width], wanted[:, :width], rtol=1e-4, atol=1e-4
    )
    assert width >= 2
    assert (out[2 + TILE_ROWS :] == 0).all()


@numba.njit
def weighted_added(sums, at, width, x, v, third, extra, begin, end):
    add_weighted(sums, at, width, x, v, third, extra, begin, end)


def test_weighted_sums_over_donors():
    rng = np.random.default_rng(2)
    x, third = rng.normal(size=(2, 9, 24))
    v, extra = rng.uniform(0.5, 2, (9, 24)), rng.uniform(0, 1, 9)
    start = rng.uniform(0.5, 2, (5, 24))
    sums = start.copy()
    weighted_added(sums, 8, 24, x, v, third, extra, 2, 7)
    at, rows = slice(8, 8 + DOUBLES), slice(2, 7)
    w = 1 / (v + extra[:, None])[rows, at]
    x, v, third = (a[rows, at] for a in (x, v, third))
    wanted = start.copy()
    wanted[0, at] *= (w * v).prod(0)
    wanted[1:, at] += [w.sum(0), (w * x).sum(0), (w * x**2).sum(0), (w**3 * third).sum(0)]
    np.testing.assert_allclose(sums, wanted, rtol=1e-13)
