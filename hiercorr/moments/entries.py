"""Non-zero entries of some genes in one sample, in consecutive blocks of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts


class Entries:
    """Cursor over the entries of some genes in one sample, by ascending cell."""

    def __init__(self, counts: Counts, genes: slice | NDArray, sample: int) -> None:
        self._rows = counts.rows
        self._start, self._end = (
            np.ascontiguousarray(counts.offsets[genes, c]) for c in (sample, sample + 1)
        )
        self._last = int(counts.starts[sample + 1])

    def until(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each gene's entries (start, stop) from the previous call's cell up to `cell`."""
        start = self._start
        self._start = (
            self._end
            if cell >= self._last
            else kernels.counts.entries_before(self._rows, start, self._end, cell)
        )
        return start, self._start
