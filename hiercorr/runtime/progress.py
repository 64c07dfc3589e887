"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def with_progress(work: Sequence[T], show: bool | None) -> Iterable[T]:
    """Wrap tiles or pairs in a progress bar where asked for, or in a terminal when there are many."""
    return shown(work, len(work), show, "gene pairs")


def shown(work: Iterable[T], total: int, show: bool | None, what: str) -> Iterable[T]:
    """The same of work whose length has to be said."""
    if show is None:
        show = total > 3 and sys.stderr.isatty()
    if not show:
        return work
    from rich.console import Console
    from rich.progress import track

    return track(work, description=what, total=total, console=Console(stderr=True), transient=True)
