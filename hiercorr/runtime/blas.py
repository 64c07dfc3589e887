"""Limit the threads of BLAS: one limit per process, which several of its threads may lower."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any


class _Limits:
    """Limits in force, and the number of threads to restore when the last one ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: list[int] = []
        self._original: Any = None  # restores the setting before the first limit
        self._threads: int | None = None  # the number of threads in that setting

    @contextlib.contextmanager
    def at_most(self, n: int) -> Iterator[None]:
        """Run BLAS on at most `n` threads; the lowest active limit applies, the last restores."""
        with self._lock:
            if not self._active:
                self._threads = _threads()
                self._original = _libraries().limit(limits=n, user_api="blas")
            self._change([*self._active, n])
        try:
            yield
        finally:
            with self._lock:
                remaining = list(self._active)
                remaining.remove(n)
                self._change(remaining)
                if not remaining:
                    self._original.restore_original_limits()

    def allowed(self) -> int | None:
        """Return the number of BLAS threads without these limits; None if no BLAS is found."""
        with self._lock:
            return self._threads if self._active else _threads()

    def _change(self, limits: list[int]) -> None:
        if limits and self._active and min(limits) != min(self._active):
            _libraries().limit(limits=min(limits), user_api="blas")
        self._active = limits


_limits = _Limits()
at_most, allowed = _limits.at_most, _limits.allowed


def _threads() -> int | None:
    return min(
        (pool["num_threads"] for pool in _libraries().select(user_api="blas").info()), default=None
    )


@functools.lru_cache(maxsize=1)
def _libraries() -> Any:
    """Find the BLAS libraries of numpy and scipy; compiled loops use the latter."""
    import scipy.linalg  # noqa: F401, loads its BLAS
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
