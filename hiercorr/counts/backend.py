"""Backends that read the matrix and store its entries: this process, in memory or on disk."""

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
    """Process or cluster that reads the matrix and stores its entries."""

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Add up the totals of the matrix; raise an error at a value that is not a count."""

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        """Store the entries: rows and values as in ``Counts``, or remote blocks."""


class RemoteBackend(Backend, Protocol):
    """Cluster whose workers store the entries."""

    def digest(self, codes: NDArray[np.int64], gene: int) -> int:
        """Return the digest of the counts of one gene in the used cells."""


@dataclass(frozen=True)
class LocalBackend:
    """Backend in this process.

    Attributes
    ----------
    limit : int, optional
        Maximum memory for the entries, in bytes.
    scratch : path, optional
        Folder for a temporary file that stores the entries instead of memory.
    """

    limit: int | None = None
    scratch: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the type of `scratch`."""
        if not isinstance(self.scratch, str | Path | None):
            raise InputError(f"scratch must be the path of a folder, not {self.scratch!r}")

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Add up the totals of the matrix; raise an error at a value that is not a count."""
        return scanned(validate.checked_blocks(source, codes), codes, source.shape[1], n_samples)

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        """Store the entries in arrays of this process."""
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
        """Return the entries with more of them at the end; the inputs are not modified."""
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
                f"the counts have {n:,} non-zeros, which would take {gib(8 * n)} of memory, and "
                f"{gib(self.limit)} may be used; pass scratch=FOLDER to store them on disk, or "
                "choose fewer genes (genes=N)"
            )
        return np.empty(n, np.int32), np.empty(n, np.int32)


def scratch_array(folder: Path, n: int) -> NDArray[np.int32]:
    """Create an array in an unnamed file, which is deleted with the array or with the process."""
    if not os.path.isdir(folder):
        raise InputError(f"scratch={str(folder)!r} is not a folder")
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # Reserve the space now: a full disk later would kill the process.
            if hasattr(os, "posix_fallocate"):
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
