"""How compiled loops that use several threads are made: cached, and safe where numba's threads are not."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numba

_TURNS = threading.RLock()


def parallel(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``njit(cache=True, parallel=True)`` whose calls from several threads of a process take turns if they must.

    With OpenMP or TBB they need not. numba's own layer, where it has neither, aborts the process when two threads enter it.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = numba.njit(cache=True, parallel=True, **options)(function)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            if _any_threads():
                return compiled(*args)
            with _TURNS:
                return compiled(*args)

        return call

    return decorate


def _any_threads() -> bool:
    try:
        return numba.threading_layer() in ("omp", "tbb")
    except ValueError:  # not known before the first loop has run
        return False
