"""The logger of the package, silent until the user asks for its messages.

``logging.basicConfig(level="INFO")`` shows what each step works on and how long it took.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LOG = logging.getLogger("hiercorr")
LOG.addHandler(logging.NullHandler())


def pairs_of(target: str | Sequence[str] | None) -> str:
    """Return the pairs that are estimated, in words."""
    if target is None or isinstance(target, str):
        return "all pairs" if target is None else f"pairs of {target}"
    return f"pairs of {target[0]}" if len(target) == 1 else f"pairs of {len(target)} targets"


@contextmanager
def logged(text: str, *values: object) -> Iterator[None]:
    """Log the start of a step and, if it succeeds, its time.

    Parameters
    ----------
    text : str
        Message in the format of :mod:`logging`.
    *values
        Values of the message.
    """
    LOG.info(text, *values)
    start = time.perf_counter()
    yield
    LOG.info(f"{text}: done in %.2f s", *values, time.perf_counter() - start)
