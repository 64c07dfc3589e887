"""Memory for residuals in strips of genes and for the products of strips."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.kernels.vectors import STRIP


class Strips:
    """Memory for the residuals of n genes in some cells, in strips of genes."""

    def __init__(self, n: int, dtype: DTypeLike) -> None:
        self.n, self._strips = n, -(-n // STRIP)
        self._dtype, self._room = np.dtype(dtype), np.empty(0, dtype)

    def array(self, cells: int) -> NDArray:
        """An array (strips, cells, STRIP); it overwrites the one before."""
        shape = (self._strips, cells, STRIP)
        if self._room.size < math.prod(shape):
            self._room = _lines(math.prod(shape), self._dtype)
        return self._room[: math.prod(shape)].reshape(shape)

    def turn(self, block: NDArray) -> NDArray:
        """The strips of an array (genes, cells)."""
        out = self.array(block.shape[1])
        kernels.strips.turn(block, out)
        return out


class Dense:
    """Products of the residuals of all genes of two sides, in tiles that a processor holds.

    Parameters
    ----------
    n, m : int
        Genes of the sides.
    own : bool
        Both are the same: only one triangle is made.
    """

    def __init__(self, n: int, m: int, own: bool, dtype: DTypeLike) -> None:
        shape = (-(-n // STRIP), -(-m // STRIP), STRIP, STRIP)
        self._own, self._tiles = own, _lines(math.prod(shape), dtype).reshape(shape)
        self._tiles[...] = 0

    def add(self, x: NDArray, y: NDArray) -> None:
        """The products of some cells, from their strips."""
        kernels.strips.add_products(x, y, self._own, self._tiles, numba.get_num_threads())

    def put(
        self, row: NDArray, column: NDArray, out: NDArray, before1: int = 0, before2: int = 0
    ) -> None:
        """Those of all genes but the first `before1` and `before2` to these places."""
        kernels.strips.put(self._tiles, before1, before2, self._own, row, column, out)


def _lines(n: int, dtype: DTypeLike) -> NDArray:
    """An array that starts where a line of the cache does: else every register that is loaded is two of them."""
    flat = np.empty(n + 64 // np.dtype(dtype).itemsize, dtype)
    first = -flat.ctypes.data % 64 // flat.itemsize
    return flat[first : first + n]
