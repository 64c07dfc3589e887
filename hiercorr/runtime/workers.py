"""Threads of the compiled loops: a pool per process, work in ranges taken as threads get free."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import numba

_PIECES = 8  # ranges per thread
_SHORT = 2e-4  # seconds of work that are not worth a second thread
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


def allowed() -> int:
    """Return the number of threads that the compiled loops of the calling thread may use."""
    limit = _limit.get()
    return numba.config.NUMBA_NUM_THREADS if limit is None else limit


@contextlib.contextmanager
def compiled_threads(n: int) -> Iterator[None]:
    """Run the compiled loops of the calling thread on `n` threads."""
    token = _limit.set(n)
    try:
        yield
    finally:
        _limit.reset(token)


def over_ranges(function: Callable[..., Any], n: int, *args: Any) -> None:
    """Call ``function(begin, end, *args)`` for ranges that cover 0 .. n, in threads.

    The calling thread takes part, so that calls from several threads, also nested ones, never wait
    for a free thread of the pool. Short work stays in the calling thread.

    Parameters
    ----------
    function : callable
        A function that releases the GIL, whose results do not depend on the ranges.
    n : int
    *args
        Further arguments.
    """
    threads = min(allowed(), n)
    if threads <= 1:
        if n > 0:
            function(0, n, *args)
        return
    done = n // (64 * threads)  # time a first range, if that leaves the other threads work enough
    if done:
        start = time.perf_counter()
        function(0, done, *args)
        rest = (time.perf_counter() - start) * (n - done) / done
        threads = min(threads, 1 + int(rest / _SHORT))
        if threads == 1:
            function(done, n, *args)
            return
    pieces = min(n - done, _PIECES * threads)
    edges = [done + (n - done) * k // pieces for k in range(pieces + 1)]
    waiting = deque(itertools.pairwise(edges))
    helpers = [
        h for h in (_submit(_take, waiting, function, args) for _ in range(threads - 1)) if h
    ]
    try:
        _take(waiting, function, args)
    finally:  # also after an error: no thread works on when this returns
        errors = [h.exception() for h in helpers if not h.cancel()]  # waits for those that began
    for error in errors:
        if error is not None:
            raise error


def _take(waiting: deque[tuple[int, int]], function: Callable[..., Any], args: Any) -> None:
    try:
        while True:
            try:
                begin, end = waiting.popleft()
            except IndexError:
                return
            function(begin, end, *args)
    except BaseException:
        waiting.clear()  # the other threads need not go on
        raise


_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _submit(function: Callable[..., Any], *args: Any) -> Any:
    """Hand a call to the pool; return its future, None while the interpreter shuts down."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max(numba.config.NUMBA_NUM_THREADS - 1, 1), thread_name_prefix="hiercorr"
            )
    try:
        return _pool.submit(function, *args)
    except RuntimeError:
        return None


def _forget() -> None:
    """Start anew in a forked process, which has none of the threads."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
