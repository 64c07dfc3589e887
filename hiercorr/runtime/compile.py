"""How compiled loops that use several threads are made: cached, and safe where numba's threads are not."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import numba

from hiercorr.runtime.blas import at_most

_TURNS = threading.RLock()


def parallel(
    *, blas: bool = False, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``njit(cache=True, parallel=True)`` whose calls from several threads of a process take turns if they must.

    With OpenMP or TBB they need not. numba's own layer, where it has neither, aborts the process when two threads enter it.

    Parameters
    ----------
    blas : bool
        The loops call BLAS from their own threads, on each of which it runs alone. Threads of BLAS beside those of the
        loops would wait for more work with a core in hand: a third of the time of a fit, where they took turns.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = numba.njit(cache=True, parallel=True, error_model="numpy", **options)(function)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with (
                at_most(1) if blas else contextlib.nullcontext(),
                _NO_TURN if _any_threads() else _TURNS,
            ):
                return compiled(*args)

        return call

    return decorate


_NO_TURN = contextlib.nullcontext()


def _any_threads() -> bool:
    try:
        return numba.threading_layer() in ("omp", "tbb")
    except ValueError:  # not known before the first loop has run
        return False
