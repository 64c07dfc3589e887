"""Non-zero entries of some genes in one sample, block of cells by block of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts


class Entries:
    """The entries of some genes in one sample, up to one cell after the other."""

    def __init__(self, counts: Counts, genes: slice | NDArray, sample: int) -> None:
        self._rows = counts.rows
        self._start, self._last = counts.offsets[genes, sample], counts.offsets[genes, sample + 1]

    def until(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last entry of each gene between the cell of the call before and this one."""
        start = self._start
        self._start = kernels.counts.entries_before(self._rows, start, self._last, cell)
        return start, self._start
