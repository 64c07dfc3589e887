"""Work arrays of the dense products: residuals in strips of genes, and tiles of their products."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.kernels.vectors import STRIP


class Strips:
    """Reusable memory for the residuals of n genes in some cells, in strips of STRIP genes."""

    def __init__(self, n: int, dtype: DTypeLike) -> None:
        self.n, self._strips = n, -(-n // STRIP)
        self._dtype, self._memory = np.dtype(dtype), np.empty(0, dtype)

    def array(self, cells: int) -> NDArray:
        """Return an array (strips, cells, STRIP) that overwrites the previous one."""
        shape = (self._strips, cells, STRIP)
        if self._memory.size < math.prod(shape):
            self._memory = _aligned(math.prod(shape), self._dtype)
        return self._memory[: math.prod(shape)].reshape(shape)

    def turn(self, block: NDArray) -> NDArray:
        """Rearrange an array (genes, cells) into strips."""
        out = self.array(block.shape[1])
        kernels.strips.turn(block, out)
        return out


class Dense:
    """Products of the residuals of all genes of two sides, in tiles of STRIP x STRIP genes.

    Parameters
    ----------
    n, m : int
        Number of genes of each side.
    symmetric : bool
        Whether both sides are the same genes; then only the upper triangle is computed.
    dtype : dtype
        Precision of the sums.
    """

    def __init__(self, n: int, m: int, symmetric: bool, dtype: DTypeLike) -> None:
        shape = (-(-n // STRIP), -(-m // STRIP), STRIP, STRIP)
        self._symmetric = symmetric
        self._tiles = _aligned(math.prod(shape), dtype).reshape(shape)
        self._tiles[...] = 0

    def add(self, x: NDArray, y: NDArray) -> None:
        """Add the products of the strips of some cells."""
        kernels.strips.add_products(x, y, self._symmetric, self._tiles)

    def put(
        self,
        row: NDArray,
        column: NDArray,
        out: NDArray,
        skip_left: int = 0,
        skip_right: int = 0,
    ) -> None:
        """Copy the sums to rows and columns of `out`, without the first genes of each side."""
        kernels.strips.put(self._tiles, skip_left, skip_right, self._symmetric, row, column, out)


def _aligned(n: int, dtype: DTypeLike) -> NDArray:
    """Allocate an array at a cache line: elsewhere each load of a register touches two lines."""
    memory = np.empty(n + 64 // np.dtype(dtype).itemsize, dtype)
    first = -memory.ctypes.data % 64 // memory.itemsize
    return memory[first : first + n]
