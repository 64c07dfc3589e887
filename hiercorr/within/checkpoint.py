"""Work that survives the death of its process: arrays by name in a folder, each written whole or not at all."""

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
    """Sums of an interrupted fit, found again by a fit of the same counts with the same options.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Only files that a checkpoint wrote are touched in it.
    key : str
        See :func:`fingerprint`; arrays of another fit are never read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the checkpoint folder {str(folder)!r}: {error}"
            ) from error
        self._folder, self._key = folder, key
        self._held: list[Path] = []

    def __call__(self, name: str, compute: Callable[[], NDArray]) -> NDArray:
        """The array of this name: read if an earlier run left it, else computed and kept."""
        path = self._folder / f"hiercorr-{self._key}-{name}.npy"
        self._held.append(path)
        if path.exists():
            try:
                return np.load(path, allow_pickle=False)
            except (ValueError, EOFError, OSError):  # damaged on disk: the work is done again
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
        """The same for other sums of the same fit."""
        return lambda name, compute: self(f"{prefix}-{name}", compute)

    def finish(self) -> None:
        """The result is safe: the arrays go, and the folder if nothing else is in it."""
        for path in [*self._held, *self._folder.glob(f"hiercorr-{self._key}-*.unfinished")]:
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def fingerprint(counts: Counts, options: Iterable[object]) -> str:
    """Hash of the counts - every entry, depth and name - and of what is asked of them."""
    found = sha256(repr((__version__, *options)).encode())
    for array in (counts.rows, counts.values):
        crc = 0
        for a in range(0, len(array), 1 << 24):
            crc = zlib.crc32(np.ascontiguousarray(array[a : a + (1 << 24)]), crc)
        found.update(str(crc).encode())
    found.update(counts.offsets.tobytes() + counts.starts.tobytes() + counts.depth.tobytes())
    found.update("\0".join([*counts.genes.astype(str), *counts.samples.astype(str)]).encode())
    return found.hexdigest()[:24]
