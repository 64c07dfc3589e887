"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def with_progress(work: Sequence[T], show: bool | None) -> Iterable[T]:
    """Wrap a sequence of tiles or gene pairs in a progress bar; see :func:`shown`."""
    return shown(work, len(work), show, "gene pairs")


def shown(work: Iterable[T], total: int, show: bool | None, what: str) -> Iterable[T]:
    """Wrap an iterable in a progress bar.

    Parameters
    ----------
    work : iterable
    total : int
        Number of its items.
    show : bool or None
        None: only in a terminal and for more than 3 items.
    what : str
        Label of the bar.

    Returns
    -------
    iterable
        The items of `work`.
    """
    if show is None:
        show = total > 3 and sys.stderr.isatty()
    if not show:
        return work
    from rich.console import Console
    from rich.progress import track

    return track(work, description=what, total=total, console=Console(stderr=True), transient=True)
