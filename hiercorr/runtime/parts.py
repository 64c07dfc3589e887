"""Models of a part of the donors, which may be one, within an analysis of all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PART: ContextVar[bool] = ContextVar("part", default=False)


@contextmanager
def parts_of_donors() -> Iterator[None]:
    """Let models describe one donor or sample, and drop a block that has no effect there."""
    token = _PART.set(True)
    try:
        yield
    finally:
        _PART.reset(token)


def of_a_part() -> bool:
    """Return whether models are of a part of the donors."""
    return _PART.get()
