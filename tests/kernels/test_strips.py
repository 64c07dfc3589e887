"""Loops over strips of residuals against plain numpy, for registers of several sizes."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from hiercorr import kernels
from hiercorr.kernels.vectors import STRIP
from hiercorr.moments.strips import Dense, Strips

FEATURES = {32: "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma", 16: "+sse2"}


def dense_products(genes, cells, dtype, rng):
    """Products of all but the first genes of two sides, in two blocks of cells."""
    n, m, before1, before2 = *genes, 3, 50
    x, y = rng.normal(size=(n, cells)).astype(dtype), rng.normal(size=(m, cells)).astype(dtype)
    for own in (False, True):
        left, right = (x, x) if own else (x, y)
        before = (before1, before1) if own else (before1, before2)
        dense, sides = (
            Dense(len(left), len(right), own, dtype),
            (Strips(len(left), dtype), Strips(len(right), dtype)),
        )
        for part in (slice(0, 7), slice(7, None)):
            a = sides[0].turn(np.ascontiguousarray(left[:, part]))
            dense.add(a, a if own else sides[1].turn(np.ascontiguousarray(right[:, part])))
        row, column = (
            2 * np.arange(len(s) - b) + 1 for s, b in zip((left, right), before, strict=True)
        )
        found = np.full((2 * len(left), 2 * len(right)), np.nan, dtype)
        dense.put(row, column, found, *before)
        wanted = np.full_like(found, np.nan)
        wanted[np.ix_(row, column)] = (
            left[before[0] :].astype(float) @ right[before[1] :].astype(float).T
        )
        if own:
            wanted[np.tril_indices_from(wanted, -1)] = np.nan
        yield found, wanted


def visits(genes, cells, dtype, rng):
    """Counts of some genes with residuals of others, in two blocks, put in every place."""
    n, p = genes
    x = rng.poisson(0.3, (n, cells)) * rng.integers(0, 2, (n, 1))  # some have no count
    at, rows = np.nonzero(x)
    offsets = np.searchsorted(at, np.arange(n + 1))
    values, rows = x[at, rows].astype(np.int32), rows.astype(np.int32)
    depth, a = rng.uniform(0.5, 2, cells).astype(dtype), rng.uniform(0, 2, n)
    residuals = rng.normal(size=(p, cells)).astype(dtype)
    mean, rest = rng.normal(size=(n, 5)).astype(dtype), rng.normal(size=(p, 5)).astype(dtype)
    wanted = (x / (1 + np.outer(a, depth))) @ residuals.T.astype(float) - mean.astype(
        float
    ) @ rest.T
    skip = rng.integers(0, p, n)
    row, column = np.split(rng.permutation(n + p), [n])
    strips = Strips(p, dtype)
    for turned, own in ((False, False), (True, False), (False, True)):
        found, all_wanted = np.full((n + p, n + p), np.nan, dtype), np.full((n + p, n + p), np.nan)
        for first, last in ((0, cells // 3), (cells // 3, cells)):
            start, stop = (
                kernels.counts.entries_before(rows, offsets[:-1], offsets[1:], c)
                for c in (first, last)
            )
            block = strips.turn(np.ascontiguousarray(residuals[:, first:last]))
            kernels.strips.visit(
                rows,
                values,
                start,
                stop,
                depth,
                first,
                a,
                skip,
                block,
                mean,
                Strips(p, dtype).turn(rest),
                turned,
                own,
                row,
                column,
                first > 0,
                found,
            )
        for t in range(n):
            for u in range(skip[t], p):
                i, j = row[t], column[u]
                all_wanted[(j, i) if turned or (own and i > j) else (i, j)] = wanted[t, u]
        yield found, all_wanted


def residuals(genes, cells, dtype, rng):
    n = genes[0]
    x = rng.poisson(0.5, (n, cells))
    at, rows = np.nonzero(x)
    offsets = np.searchsorted(at, np.arange(n + 1))
    depth, mu, a = (
        rng.uniform(0.5, 2, cells + 4).astype(dtype),
        rng.uniform(0, 2, n),
        rng.uniform(0, 2, n),
    )
    out = Strips(n, dtype).array(cells)
    kernels.strips.fill(
        (rows + 4).astype(np.int32),
        x[at, rows].astype(np.int32),
        offsets[:-1],
        offsets[1:],
        depth,
        4,
        mu,
        a,
        out,
    )
    wanted = np.zeros((len(out) * STRIP, cells))
    wanted[:n] = (x - np.outer(mu, depth[4:])) / (1 + np.outer(a, depth[4:]))
    yield out.transpose(0, 2, 1).reshape(-1, cells), wanted


def check():
    rng = np.random.default_rng(1)
    for dtype, tolerance in ((np.float32, 2e-4), (np.float64, 1e-11)):
        for genes, cells in (((5, 60), 40), ((130, 97), 601), ((500, 450), 31)):
            for what in (dense_products, visits, residuals):
                for found, wanted in what(genes, cells, dtype, rng):
                    np.testing.assert_allclose(
                        found, wanted, rtol=tolerance, atol=tolerance, err_msg=what.__name__
                    )


def test_sums_in_registers():
    check()


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="features of this kind of processor",
)
@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 32])  # each compiles anew
def test_sums_in_smaller_registers(size, tmp_path):
    code = (
        f"from hiercorr.kernels.vectors import REGISTER; assert REGISTER == {size}; "
        f"import test_strips; test_strips.check()"
    )
    path = os.pathsep.join([os.getcwd(), os.path.dirname(__file__)])
    own = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": FEATURES[size],
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **own, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]
