"""Compiled loops of several threads: numbers, names, calls from threads of Python."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hiercorr.runtime.compile import parallel


@parallel()
def squares(x, out):
    """Square every number."""
    for k in numba.prange(len(x)):
        out[k] = x[k] * x[k]


@parallel(blas=True)
def product(a, b, out):
    np.dot(a, b, out)


def test_loops_keep_their_name_and_give_the_numbers_of_numpy():
    assert (squares.__name__, squares.__doc__) == ("squares", "Square every number.")
    x = np.random.default_rng(0).normal(size=1000)
    out = np.empty_like(x)
    squares(x, out)
    np.testing.assert_array_equal(out, x**2)


@pytest.mark.parametrize("threads", [1, 4])
def test_calls_from_threads(threads):
    def one(k):
        out = np.empty(500)
        squares(np.arange(500.0) + k, out)
        return out

    with ThreadPoolExecutor(threads) as pool:
        for k, found in enumerate(pool.map(one, range(24))):
            np.testing.assert_array_equal(found, (np.arange(500.0) + k) ** 2)


def test_limits_on_blas_end_with_the_loop():
    def blas():
        return {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}

    rng = np.random.default_rng(1)
    a, b, out = rng.normal(size=(30, 20)), rng.normal(size=(20, 10)), np.empty((30, 10))
    with threadpool_limits(2):
        before = blas()
        product(a, b, out)
        assert blas() == before
    np.testing.assert_allclose(out, a @ b, rtol=1e-12)
