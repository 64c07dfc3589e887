"""Warnings that point at the user's line, however deep in the package they are raised."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_INSIDE = (str(Path(__file__).parents[1]), contextlib.__file__)  # contexts of the package end there
Kept = dict[tuple[str, type[Warning]], list[str]]  # warning -> names of the parts that gave it
_SAID: set[tuple[str, type[Warning]]] = set()
_KEPT: ContextVar[tuple[Kept, str] | None] = ContextVar("kept", default=None)


@contextmanager
def kept_for(kept: Kept, part: str) -> Iterator[None]:
    """Keep the warnings of one of several fits under its name, for :func:`warn_of_parts`."""
    token = _KEPT.set((kept, part))
    try:
        yield
    finally:
        _KEPT.reset(token)


def warn_of_parts(kept: Kept, noun: str) -> None:
    """Issue every warning that was kept once, with the names of its parts."""
    for (message, category), parts in kept.items():
        names = ", ".join(map(repr, dict.fromkeys(parts)))
        warn(f"{noun} {names}: {message}", category)


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning attributed to the first caller outside the package.

    The models of an analysis meet the same fault one after the other: the same text is issued once,
    unless the user's filters state what is done with it (``"always"``, ``"error"``, ``"ignore"``).

    Parameters
    ----------
    message : str
    category : type of Warning
        :class:`hiercorr.DataWarning` or :class:`hiercorr.EstimationWarning`.
    """
    keeping = _KEPT.get()
    if keeping is not None:
        kept, part = keeping
        kept.setdefault((message, category), []).append(part)
        return
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    if _repeats(str(frame.f_globals.get("__name__")), message, category):
        if (message, category) in _SAID:
            return
        _SAID.add((message, category))
    warnings.warn(message, category, stacklevel=level + 1)


def _repeats(module: str, message: str, category: type[Warning]) -> bool:
    """Return whether Python's filters would show this warning, again from every line."""
    for action, text, kind, where, _ in warnings.filters:
        matches = text is None or text.match(message)
        if matches and issubclass(category, kind) and (where is None or where.match(module)):
            return action in ("default", "module", "once")
    return True
