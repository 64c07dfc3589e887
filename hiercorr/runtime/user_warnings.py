"""Warnings that point at the user's line, however deep in the package they are raised."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])
_ISSUED: ContextVar[set[str] | None] = ContextVar("issued", default=None)


@contextmanager
def each_once() -> Iterator[None]:
    """Issue identical warnings of several fits only once."""
    token = _ISSUED.set(set())
    try:
        yield
    finally:
        _ISSUED.reset(token)


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning attributed to the first caller outside the package.

    Parameters
    ----------
    message : str
    category : type of Warning
        :class:`hiercorr.DataWarning` or :class:`hiercorr.EstimationWarning`.
    """
    issued = _ISSUED.get()
    if issued is not None:
        if message in issued:
            return
        issued.add(message)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
