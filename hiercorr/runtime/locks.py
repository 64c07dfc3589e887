"""Locks of files between processes; the system releases those of a process that was killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


class Busy(OSError):
    """Another process has the lock."""


class Lock:
    """Lock of a file, which exists as long as the lock is held.

    Where the file system has no locks, every process gets one.

    Parameters
    ----------
    path : Path

    Raises
    ------
    Busy
        If another process has the lock.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        self.path = path
        self._lock: Any = None
        while True:
            lock = FileLock(str(path), timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise Busy(f"{str(path)!r} is in use by another process") from error
            except NotImplementedError:
                return
            self._lock = lock
            if path.exists():  # otherwise the holder before deleted the file under this lock
                return
            lock.release()

    def release(self) -> None:
        """Delete the file and release the lock."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        if self._lock is not None:
            self._lock.release()
