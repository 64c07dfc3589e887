"""Limits on the threads of BLAS."""

from threadpoolctl import threadpool_info, threadpool_limits

from hiercorr.runtime import blas
from hiercorr.runtime.resources import threads


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_limits_on_blas_end_in_any_order():
    with threadpool_limits(3):
        first, second = blas.at_most(1), blas.at_most(2)
        first.__enter__()
        second.__enter__()
        assert _blas_threads() == {1}
        assert blas.allowed() == 3
        first.__exit__(None, None, None)  # the one that began first is not the last to end
        assert _blas_threads() == {2}
        second.__exit__(None, None, None)
        assert _blas_threads() == {3} == {blas.allowed()}


def test_loops_have_what_blas_may_use_while_another_thread_holds_it_back():
    with threadpool_limits(2), threads(2), blas.at_most(1), threads(None) as n:
        assert n == 2
