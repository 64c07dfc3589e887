"""How many threads BLAS may use: one number for the whole process, which several of its threads may want to lower."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any


class _Limits:
    """The limits that hold now, and what holds when there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[int] = []
        self._before: Any = None  # gives back what was before the first limit
        self._threads: int | None = None  # and how many threads that is

    @contextlib.contextmanager
    def at_most(self, n: int) -> Iterator[None]:
        """BLAS on `n` threads, or on fewer while others ask for fewer; as it was before when nobody asks any more."""
        with self._lock:
            if not self._asked:
                self._threads = _threads()
                self._before = _libraries().limit(limits=n, user_api="blas")
            self._change([*self._asked, n])
        try:
            yield
        finally:
            with self._lock:
                left = list(self._asked)
                left.remove(n)
                self._change(left)
                if not left:
                    self._before.restore_original_limits()

    def allowed(self) -> int | None:
        """Threads of BLAS when nobody asks for fewer; None where no BLAS is known."""
        with self._lock:
            return self._threads if self._asked else _threads()

    def _change(self, asked: list[int]) -> None:
        if asked and self._asked and min(asked) != min(self._asked):
            _libraries().limit(limits=min(asked), user_api="blas")
        self._asked = asked


_limits = _Limits()
at_most, allowed = _limits.at_most, _limits.allowed


def _threads() -> int | None:
    return min(
        (pool["num_threads"] for pool in _libraries().select(user_api="blas").info()), default=None
    )


@functools.lru_cache(maxsize=1)
def _libraries() -> Any:
    """The BLAS of numpy and of scipy, which is that of compiled loops."""
    import scipy.linalg  # noqa: F401, loads it
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
