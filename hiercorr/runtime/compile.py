"""Compile loops once per machine: over ranges that threads share, without Python's lock."""

from __future__ import annotations

import functools
import inspect
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from hiercorr.runtime.user_warnings import warn
from hiercorr.runtime.workers import over_ranges

__all__ = ["compiled", "over_ranges", "parallel"]

Function = Callable[..., Any]


def compiled(**options: Any) -> Callable[[Function], Any]:
    """Compile a function that releases the GIL; the machine code is kept for later processes.

    Division is that of numpy, without a check for zero, so that loops vectorise.

    Parameters
    ----------
    **options
        Further arguments of ``numba.njit``.

    Returns
    -------
    callable
        Decorator.
    """
    fixed = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return numba.njit(**fixed, **options)


def parallel(
    over: str, axis: int = 0, space: Function | None = None, **options: Any
) -> Callable[[Function], Function]:
    """Compile a loop ``function(begin, end, *args)`` and run it over ranges, in threads.

    Threads of Python need no parallel code, which takes three times as long to compile, and leave
    forked processes and calls from several threads safe.

    Parameters
    ----------
    over : str
        Name of the argument of which `begin` and `end` count the elements along `axis`.
    axis : int
    space : callable, optional
        Makes arrays of one range from the arguments, added to them: in compiled code, allocation
        takes longer to compile than most loops.
    **options
        Further arguments of ``numba.njit``.

    Returns
    -------
    callable
        Decorator; the result is called without `begin` and `end`, by position.
    """

    def decorate(function: Function) -> Function:
        loop = compiled(**options)(function)
        place = list(inspect.signature(function).parameters).index(over) - 2

        def with_space(begin: int, end: int, *args: Any) -> None:
            assert space is not None
            loop(begin, end, *args, *space(*args))

        @functools.wraps(function)
        def call(*args: Any) -> None:
            over_ranges(with_space if space else loop, args[place].shape[axis], *args)

        return call

    return decorate


def _probe() -> None:
    pass


def _find_cache() -> None:
    """Give numba a folder for machine code if it finds none, or compilation would raise an error.

    It looks for NUMBA_CACHE_DIR, the package's own folder and the user's cache folder.
    """
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        folder = _own_folder(Path(tempfile.gettempdir()))
        numba.config.CACHE_DIR = str(folder)
        warn(
            f"compiled loops are kept in {str(folder)!r}: neither the folder of the package nor a "
            "cache folder of the user is writable; set NUMBA_CACHE_DIR to a lasting one",
            RuntimeWarning,
        )


def _own_folder(parent: Path) -> Path:
    """Return a folder that only this user can write: others could put code of theirs there."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = parent / f"hiercorr-{user}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        mine = not hasattr(os, "getuid") or (found.st_uid == user and not found.st_mode & 0o077)
        if not (stat.S_ISDIR(found.st_mode) and mine):
            return Path(tempfile.mkdtemp(prefix="hiercorr-"))
    return folder


_find_cache()
