"""Checkpoints of a fit: arrays by name in a folder, written atomically."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiercorr._version import __version__
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError
from hiercorr.results.integrity import check_file, seal_file
from hiercorr.runtime.drafts import name_full_disk
from hiercorr.runtime.locks import Busy, Lock


class Checkpoint:
    """Stored sums of a fit, from which a fit of the same counts with the same options resumes.

    Parameters
    ----------
    folder : Path
        Created if it does not exist. Other files in it are not changed.
    key : str
        See :func:`fingerprint`; arrays of another fit are never read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot create the checkpoint folder {str(folder)!r}: {error}"
            ) from error
        self._folder, self._key = folder, key
        self._used: list[Path] = []
        try:
            self._lock = Lock(folder / f".hiercorr-{key}.lock")
        except Busy as error:
            raise InputError(
                f"checkpoint={str(folder)!r} is in use by another process that makes the same fit: "
                "wait until it has finished, or use another folder"
            ) from error
        for draft in folder.glob(f"hiercorr-{key}-*.unfinished"):  # of a process that was killed
            draft.unlink(missing_ok=True)

    def __call__(self, name: str, compute: Callable[[], NDArray]) -> NDArray:
        """Return the array of this name: stored by an earlier run, or computed and stored now."""
        path = self._folder / f"hiercorr-{self._key}-{name}.npy"
        self._used.append(path)
        try:
            if check_file(path):
                return np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError):  # absent or damaged: compute it
            pass
        array = compute()
        self._folder.mkdir(parents=True, exist_ok=True)  # another fit may have removed it
        draft = path.with_suffix(f".{os.getpid()}.unfinished")
        try:
            with open(draft, "w+b") as f:
                np.save(f, array, allow_pickle=False)
                seal_file(f)
                f.flush()
                os.fsync(f.fileno())
            os.replace(draft, path)
        except OSError as error:
            name_full_disk(error, path)
            raise
        finally:
            draft.unlink(missing_ok=True)
        return array

    def named(self, prefix: str) -> Named:
        """Return the same function for other sums of the same fit."""
        return Named(self, prefix)

    def finish(self) -> None:
        """Delete the arrays, and the folder if it is empty, once the result is complete."""
        for path in self._used:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes use the arrays, and delete the folder if it is empty."""
        self._lock.release()
        with contextlib.suppress(OSError):  # other files, or another fit
            self._folder.rmdir()


class Named:
    """Arrays of a checkpoint whose names have a prefix."""

    def __init__(self, store: Checkpoint | Named, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def __call__(self, name: str, compute: Callable[[], NDArray]) -> NDArray:
        """Return the array of this name, see :meth:`Checkpoint.__call__`."""
        return self._store(f"{self._prefix}-{name}", compute)

    def named(self, prefix: str) -> Named:
        """Return the same function for other sums of the same fit."""
        return Named(self, prefix)


def fingerprint(counts: Counts, options: Iterable[object]) -> str:
    """Hash the counts, with all entries, depths and names, and the options of a fit."""
    found = sha256(repr((__version__, *options)).encode())
    for array in (counts.rows, counts.values):
        crc = 0
        for a in range(0, len(array), 1 << 24):
            crc = zlib.crc32(np.ascontiguousarray(array[a : a + (1 << 24)]), crc)
        found.update(str(crc).encode())
    found.update(counts.offsets.tobytes() + counts.starts.tobytes() + counts.depth.tobytes())
    if counts.modalities is not None:
        found.update(counts.modalities.depth.tobytes() + counts.modalities.kind.tobytes())
    found.update("\0".join([*counts.genes.astype(str), *counts.samples.astype(str)]).encode())
    return found.hexdigest()[:24]
