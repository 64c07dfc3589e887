"""Ranges of work in threads: each number once, from any thread, nested, after errors and forks."""

import multiprocessing
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hiercorr.runtime.workers import allowed, compiled_threads, over_ranges


def count(begin, end, out):
    out[begin:end] += 1


def slowly(begin, end, out, where):
    time.sleep(0.003 * (end - begin))
    out[begin:end] += 1
    where.add(threading.get_ident())


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 3, 100, 1000])
def test_each_number_is_worked_on_once(n, threads):
    out = np.zeros(n, int)
    with compiled_threads(threads):
        over_ranges(count, n, out)
    np.testing.assert_array_equal(out, 1)


def test_long_work_is_shared_and_short_work_is_not():
    with compiled_threads(2):
        out, where = np.zeros(40), set()
        over_ranges(slowly, 40, out, where)
        assert len(where) == 2
        np.testing.assert_array_equal(out, 1)
        places = set()
        over_ranges(lambda a, b: places.add(threading.get_ident()), 100_000)
        assert places == {threading.get_ident()}


def test_calls_from_threads_and_nested_ones():
    def outer(begin, end, out):
        for k in range(begin, end):
            over_ranges(count, 50, out[k])

    def one(_):
        out = np.zeros((30, 50), int)
        with compiled_threads(4):
            over_ranges(outer, 30, out)
        return out

    with ThreadPoolExecutor(8) as pool:
        for out in pool.map(one, range(40)):
            np.testing.assert_array_equal(out, 1)


def test_an_error_ends_the_work():
    done = []

    def fails(begin, end):
        if begin <= 50 < end:
            raise ValueError("no")
        time.sleep(0.001)
        done.append(begin)

    with compiled_threads(3), pytest.raises(ValueError, match="no"):
        over_ranges(fails, 100)
    number = len(done)
    time.sleep(0.05)
    assert len(done) == number  # no thread works on


def test_limits_hold_in_their_thread():
    before = allowed()
    with compiled_threads(3):
        assert allowed() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(allowed).result() == before
        with compiled_threads(1):
            assert allowed() == 1
    assert allowed() == before


def in_child(n):
    out, where = np.zeros(40), set()
    with compiled_threads(2):
        over_ranges(slowly, 40, out, where)
    return int(out.sum()), len(where)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)
def test_forked_processes_make_threads_of_their_own():
    assert in_child(0) == (40, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: threads and fork
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(in_child, range(4)).get(60) == [(40, 2)] * 4
