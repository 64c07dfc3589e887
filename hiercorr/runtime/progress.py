"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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


class Counted:
    """A progress bar of work whose items are counted elsewhere; see :func:`counted`."""

    def __init__(self, update: Callable[[int], object] | None) -> None:
        self._update, self._done = update, 0

    def at(self, start: int) -> Callable[[int], None]:
        """Return a function that receives how many items after `start` are done."""

        def report(done: int) -> None:
            if self._update is not None and start + done > self._done:
                self._done = start + done
                self._update(self._done)

        return report


@contextmanager
def counted(total: int, show: bool | None, what: str) -> Iterator[Counted]:
    """Show a progress bar with the remaining time; see :func:`shown`.

    Parameters
    ----------
    total : int
        Number of items.
    show : bool or None
        None: only in a terminal.
    what : str
        Label of the bar.

    Yields
    ------
    Counted
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield Counted(None)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield Counted(lambda done: bar.update(task, completed=done))
