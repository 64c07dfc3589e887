"""Drafts: files and folders written next to their place and moved there when they are complete."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hiercorr.errors import DataWarning, InputError
from hiercorr.runtime.locks import Busy, Lock
from hiercorr.runtime.user_warnings import warn

_LOCK, _REPLACED, _END = "lock", "replaced", ".draft"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
NEED = "hiercorr_need"  # attribute of an error: how much room was asked for
_LONG = 200  # bytes of a name, above which drafts have another
_UNLOCKED = 60  # seconds after which an empty draft without a lock is left over


def name_full_disk(error: BaseException | None, path: Path) -> None:
    """Raise an error that names a file if writing it failed because the disk is full or fails.

    Parameters
    ----------
    error : BaseException or None
        The failure; others are left to the caller.
    path : Path
        Name that was to be written.
    """
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        need = getattr(error, NEED, "")
        raise OSError(
            error.errno, f"{os.strerror(error.errno)}: cannot write {str(path)!r}{need}"
        ) from error


class Draft:
    """Hidden folder next to a path, in which its new content is written.

    Leaving the context deletes the folder. Folders of processes that were killed are deleted when
    the same name is written again.

    Parameters
    ----------
    path : Path
        Final name.
    complete : callable
        Whether a draft at a path is complete, for :func:`recover`.

    Attributes
    ----------
    path : Path
        Name of the draft.
    """

    def __init__(self, path: Path, complete: Callable[[Path], bool]) -> None:
        recover(path, complete)
        _sweep(path)
        self._final = path
        while True:
            self._folder = _hidden_folder(path)
            try:
                self._lock = Lock(self._folder / _LOCK)
                break
            except (Busy, FileNotFoundError):  # swept away before it was locked
                continue
            except OSError:
                self._folder.rmdir()
                raise
        self.path = self._folder / path.name

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        name_full_disk(error, self._final)

    def into_place(self) -> None:
        """Move the draft to its final name, in one step where the system can.

        Raises
        ------
        InputError
            If it is a file and the name is that of a folder, which is left alone.
        """
        path = self._final
        if path.is_dir() and not self.path.is_dir():
            raise InputError(f"cannot write the file {str(path)!r}: there is a folder of this name")
        if not os.path.lexists(path) or not (path.is_dir() or self.path.is_dir()):
            os.replace(self.path, path)
            return
        if exchange(self.path, path):
            return
        old = self._folder / _REPLACED
        os.replace(path, old)
        try:
            os.replace(self.path, path)
        except OSError:
            os.replace(old, path)
            raise

    def close(self) -> None:
        """Delete the folder."""
        _delete(self._folder, self._lock)


def _hidden_folder(path: Path) -> Path:
    """Create a folder for a draft; an error names the path itself, which the user knows."""
    try:
        return Path(tempfile.mkdtemp(prefix=_start(path), suffix=_END, dir=path.parent))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            error.errno,
            f"cannot write {str(path)!r}: no file can be created in {str(path.parent)!r} ({why})",
        ) from error


def exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; return whether the system could."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(a), os.fsencode(b)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*names, 2) == 0)
        here = -100  # AT_FDCWD
        return bool(libc.renameat2(here, names[0], here, names[1], 2) == 0)
    except (AttributeError, OSError, TypeError):
        return False


def recover(path: Path, complete: Callable[[Path], bool]) -> None:
    """Put back a folder whose replacement was interrupted between two moves.

    Parameters
    ----------
    path : Path
    complete : callable
        Whether a draft at a path is complete: then the draft is put into place, otherwise the
        folder that it was to replace.
    """
    if os.path.lexists(path):
        return
    for folder in _folders(path, ""):
        old, new = folder / _REPLACED, folder / path.name
        if not old.exists():
            continue
        try:
            lock = Lock(folder / _LOCK)
        except OSError:  # it is being replaced right now
            continue
        chosen = new if new.exists() and complete(new) else old
        with contextlib.suppress(OSError):
            os.replace(chosen, path)
            which = "its new content was" if chosen == new else "its earlier content was"
            warn(
                f"replacing {str(path)!r} was interrupted: {which} found and put into place",
                DataWarning,
            )
            _delete(folder, lock)
            return
        lock.release()
        return


def _sweep(path: Path) -> None:
    """Delete the drafts of processes that were killed."""
    for folder in _folders(path, _END):
        if not (folder / _LOCK).exists():  # not yet locked, or killed at that moment
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > _UNLOCKED:
                    folder.rmdir()
            continue
        try:
            lock = Lock(folder / _LOCK)
        except OSError:
            continue
        _delete(folder, lock)


def _delete(folder: Path, lock: Lock) -> None:
    """Delete a draft, its lock last: if this is interrupted, the next write can finish it."""
    for path in list(folder.glob("*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _LOCK:
            with contextlib.suppress(OSError):
                path.unlink()
    lock.release()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _start(path: Path) -> str:
    """Return the start of the names of a path's drafts, which have room for more characters."""
    name = os.fsencode(path.name)
    if len(name) <= _LONG:
        return f".{path.name}."
    return f".{hashlib.sha256(name).hexdigest()[:32]}."


def _folders(path: Path, end: str) -> list[Path]:
    start = _start(path)
    if not os.path.isdir(path.parent):
        return []
    return sorted(
        p
        for p in path.parent.iterdir()
        if p.name.startswith(start) and p.name.endswith(end) and p.is_dir() and not p.is_symlink()
    )
