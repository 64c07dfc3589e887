"""Compile multi-threaded loops: cached, and safe to call from several threads of a process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

from hiercorr.runtime.blas import at_most

_LOCK = threading.RLock()
_PIECES = 8  # ranges per thread, taken as threads get free
_NO_LOCK = contextlib.nullcontext()


def parallel(
    *, blas: bool = False, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function with ``njit(cache=True, parallel=True)``; calls are serialised if needed.

    OpenMP and TBB accept concurrent calls. numba's own threading layer, used where neither is
    available, aborts the process when a second thread enters it.

    Parameters
    ----------
    blas : bool
        Whether the loops call BLAS, then limited to one thread per call. Idle BLAS threads spin
        and occupy cores that the compiled loops need, which cost a third of the time of a fit.
    **options
        Further arguments of ``numba.njit``.

    Returns
    -------
    callable
        Decorator.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = numba.njit(cache=True, parallel=True, error_model="numpy", **options)(function)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with (
                at_most(1) if blas else contextlib.nullcontext(),
                _NO_LOCK if _concurrent() else _LOCK,
            ):
                return compiled(*args)

        return call

    return decorate


def over_ranges(function: Callable[..., Any], n: int, *args: Any) -> None:
    """Call ``function(begin, end, *args)`` for ranges that cover 0 .. n, in threads.

    Parameters
    ----------
    function : callable
        A function compiled with ``nogil=True``, whose results do not depend on the ranges.
    n : int
    *args
        Further arguments.
    """
    threads = min(numba.get_num_threads(), n)
    if threads <= 1:
        function(0, n, *args)
        return
    pieces = min(n, _PIECES * threads)
    edges = [n * k // pieces for k in range(pieces + 1)]
    with ThreadPoolExecutor(threads) as pool:
        work = [pool.submit(function, a, b, *args) for a, b in itertools.pairwise(edges)]
        for piece in work:
            piece.result()


def _concurrent() -> bool:
    """Check that numba's threading layer accepts concurrent calls."""
    try:
        return numba.threading_layer() in ("omp", "tbb")
    except ValueError:  # unknown before the first loop has run
        return False
