"""Checkpoints of a fit: arrays by name in a folder, written atomically."""

from __future__ import annotations

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

    def __call__(self, name: str, compute: Callable[[], NDArray]) -> NDArray:
        """Return the array of this name: stored by an earlier run, or computed and stored now."""
        path = self._folder / f"hiercorr-{self._key}-{name}.npy"
        self._used.append(path)
        if path.exists():
            try:
                return np.load(path, allow_pickle=False)
            except (ValueError, EOFError, OSError):  # damaged: compute it again
                path.unlink(missing_ok=True)
        array = compute()
        draft = path.with_suffix(f".{os.getpid()}.unfinished")
        try:
            with open(draft, "wb") as f:
                np.save(f, array, allow_pickle=False)
                f.flush()
                os.fsync(f.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return array

    def named(self, prefix: str) -> Callable[[str, Callable[[], NDArray]], NDArray]:
        """Return the same function for other sums of the same fit."""
        return lambda name, compute: self(f"{prefix}-{name}", compute)

    def finish(self) -> None:
        """Delete the arrays, and the folder if it is empty, once the result is complete."""
        for path in [*self._used, *self._folder.glob(f"hiercorr-{self._key}-*.unfinished")]:
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def fingerprint(counts: Counts, options: Iterable[object]) -> str:
    """Hash the counts, with all entries, depths and names, and the options of a fit."""
    found = sha256(repr((__version__, *options)).encode())
    for array in (counts.rows, counts.values):
        crc = 0
        for a in range(0, len(array), 1 << 24):
            crc = zlib.crc32(np.ascontiguousarray(array[a : a + (1 << 24)]), crc)
        found.update(str(crc).encode())
    found.update(counts.offsets.tobytes() + counts.starts.tobytes() + counts.depth.tobytes())
    found.update("\0".join([*counts.genes.astype(str), *counts.samples.astype(str)]).encode())
    return found.hexdigest()[:24]
