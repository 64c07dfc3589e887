"""Backends that pass over the matrix and hold its entries: this process, in memory or in a scratch file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts import validate
from hiercorr.counts.layout import EntryLayout, Scan, scanned
from hiercorr.counts.sources import Source, blocks
from hiercorr.errors import InputError
from hiercorr.runtime.resources import gib

Stored = tuple[NDArray[np.int32], NDArray[np.int32], Any]  # rows and values, or blocks on a cluster


class Backend(Protocol):
    """Process or cluster that passes over the matrix and stores its entries."""

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Add up the totals of the matrix; raise an error at the first value that is not a count."""

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        """Store the entries: rows and values as in ``Counts``, or remote blocks."""


class RemoteBackend(Backend, Protocol):
    """Cluster whose workers store the entries."""

    def digest(self, codes: NDArray[np.int64], gene: int) -> int:
        """Return the digest of the counts of one gene in the used cells."""


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

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        rows, values = self._entries(layout.size)
        layout.scatter(blocks(source), source.shape, rows, values)
        return rows, values, None

    def append(
        self,
        rows: NDArray[np.int32],
        values: NDArray[np.int32],
        more_rows: NDArray[np.int32],
        more_values: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the entries with more of them at the end; the arrays given stay as they are."""
        n = len(rows)
        all_rows, all_values = self._entries(n + len(more_rows))
        all_rows[:n], all_values[:n] = rows, values
        all_rows[n:], all_values[n:] = more_rows, more_values
        return all_rows, all_values

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
