"""Backends that pass over the matrix and hold its entries: this process, in memory or in a scratch file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts import validate
from hiercorr.counts.layout import EntryLayout, Scan, scanned
from hiercorr.counts.sources import Source, blocks
from hiercorr.errors import InputError
from hiercorr.runtime.resources import gib


class Backend(Protocol):
    """Who passes over the matrix."""

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Non-zeros per gene and sample, counts per gene, counts per cell, genes seen; refuses what is not a count."""

    def fill(
        self, source: Source, layout: EntryLayout
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Rows, values and offsets as of :class:`Counts`."""


@dataclass(frozen=True)
class LocalBackend:
    """This process.

    Attributes
    ----------
    limit : int, optional
        Bytes that the entries may take in memory.
    scratch : path, optional
        Folder for a file that holds them in the place of memory.
    """

    limit: int | None = None
    scratch: str | Path | None = None

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        return scanned(validate.checked_blocks(source), codes, source.shape[1], n_samples)

    def fill(
        self, source: Source, layout: EntryLayout
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        rows, values = self._entries(layout.size)
        layout.scatter(blocks(source), source.shape, rows, values)
        return rows, values, layout.offsets

    def _entries(self, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if self.scratch is not None:
            both = scratch_array(Path(self.scratch), 2 * n)
            return both[:n], both[n:]
        if self.limit is not None and 8 * n > self.limit:
            raise InputError(
                f"the counts hold {n:,} non-zeros, which would take {gib(8 * n)} of memory, and {gib(self.limit)} may be "
                "used; pass scratch=FOLDER to keep them on disk, or choose fewer genes (genes=N)"
            )
        return np.empty(n, np.int32), np.empty(n, np.int32)


def scratch_array(folder: Path, n: int) -> NDArray[np.int32]:
    """An array in a file without a name: it is gone when nobody holds the array any more, however the process ends."""
    if not folder.is_dir():
        raise InputError(f"scratch={str(folder)!r} is not a folder")
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(
                os, "posix_fallocate"
            ):  # a full disk shows now, not as a fault in the middle of the work
                os.posix_fallocate(file.fileno(), 0, max(4 * n, 1))
            else:
                file.truncate(max(4 * n, 1))
        except OSError as error:
            raise InputError(
                f"scratch={str(folder)!r} has no room for {gib(4 * n)}: {error}"
            ) from error
        return (
            np.asarray(np.memmap(file, np.int32, "r+", shape=(n,))) if n else np.empty(0, np.int32)
        )
