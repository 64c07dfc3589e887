"""Gene pairs in tiles: how large, and where their values go."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.errors import InputError
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.runtime.resources import gib
from hiercorr.schema import Flag

DTYPE: dict[str, DTypeLike] = {"single": np.float32, "double": np.float64}


_TILE_BYTES = 256 * 2**20


_TILE_GENES, _PART_GENES, _LEAST_GENES = 1700, 1100, 64


WIDE = 6000  # genes of a side of a tile of sums that are made in this process


_INTERVAL = ("se", "ci_lower", "ci_upper", "statistic", "df", "p_value", "q_value")


_PER_SAMPLE = ("sample_correlation", "sample_se")


def rows_of(target: str | None, genes: pd.Index) -> slice | None:
    """The row of the target among the genes, None for all pairs."""
    if target is None:
        return None
    at = int(genes.get_loc(target))
    return slice(at, at + 1)


def tiles(
    n_genes: int, n_layers: int, rows: slice | None, dtype: DTypeLike, widest: int | None = None
) -> list[tuple[slice, slice]]:
    """Slices (left, right) that cover the upper triangle, or one target against all genes.

    Parameters
    ----------
    n_layers : int
        Arrays of the pairs of a tile that are held at one time.
    widest : int, optional
        Genes of a side at most.
    """
    fit = (_TILE_BYTES / (n_layers * np.dtype(dtype).itemsize)) ** (0.5 if rows is None else 1.0)
    spans = _stretches(slice(0, n_genes), int(max(_LEAST_GENES, min(widest or _TILE_GENES, fit))))
    if rows is not None:
        return [(rows, span) for span in spans]
    return [(left, right) for i, left in enumerate(spans) for right in spans[i:]]


def parts(
    left: slice, right: slice, n_layers: int, dtype: DTypeLike
) -> Iterator[tuple[slice, slice]]:
    """The tiles of a tile, of which each has `n_layers` arrays in a quarter of the memory; above its diagonal only."""
    fit = (_TILE_BYTES / 4 / (n_layers * np.dtype(dtype).itemsize)) ** 0.5
    side = int(max(_LEAST_GENES, min(_PART_GENES, fit)))
    for a, b in itertools.product(_stretches(left, side), _stretches(right, side)):
        if left != right or a.start <= b.start:
            yield a, b


def _stretches(genes: slice, side: int) -> list[slice]:
    n = -(-(genes.stop - genes.start) // side)
    edges = np.linspace(genes.start, genes.stop, n + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]


class PairOutput:
    """Arrays of the pair variables, filled tile by tile; square ones get both triangles.

    Parameters
    ----------
    n_genes : int
    rows : slice or None
        The target's position, or None for all pairs.
    dtype : dtype
        Of everything but `double`.
    without_interval : bool
        Nothing of the interval will be written: those variables are NaN at no cost in memory.
    double : tuple of str
        Variables kept in float64: p-values that could underflow in float32.
    """

    def __init__(
        self,
        n_genes: int,
        rows: slice | None,
        dtype: DTypeLike,
        without_interval: bool = False,
        double: tuple[str, ...] = ("cell_p_value",),
    ) -> None:
        self.rows, self.double = rows, double
        self.shape = (n_genes, n_genes) if rows is None else (1, n_genes)
        self.dtype = np.dtype(dtype)
        self.without_interval = without_interval
        self.arrays: dict[str, NDArray] = {}
        self.flag = np.zeros(self.shape, np.uint16)
        self.missing = 0  # entries without a correlation

    def _array(self, name: str, tile: NDArray) -> NDArray:
        if name not in self.arrays:
            dtype = np.float64 if name in self.double else self.dtype
            self.arrays[name] = np.empty((*tile.shape[:-2], *self.shape), dtype)
        return self.arrays[name]

    def write(self, left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> None:
        """Put the values of one tile, with what is outside (-1, 1) withheld and flagged (see :func:`settle`)."""
        flag = settle(left, right, tile, flag)
        self.missing += int(np.isnan(tile["correlation"]).sum()) * (
            1 if self.rows is not None or left == right else 2
        )
        for name, values in tile.items():
            self._put(self._array(name, values), left, right, values)
        self._put(self.flag, left, right, flag)

    def _put(self, array: NDArray, left: slice, right: slice, values: NDArray) -> None:
        if values.ndim == 3:
            for layer, part in zip(array, values, strict=True):
                self._put(layer, left, right, part)
        elif self.rows is not None:
            array[0, right] = values[0]
        else:
            kernels.squares.place(values, left.start, right.start, array)

    def finish(self) -> dict[str, NDArray]:
        """The arrays in the schema's terms."""
        if self.without_interval:
            nothing = np.broadcast_to(np.array(np.nan, self.dtype), self.shape)
            self.arrays |= dict.fromkeys(_INTERVAL, nothing)
        return {**self.arrays, "flag": self.flag}


def settle(
    left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray
) -> NDArray[np.uint16]:
    """Finish a tile in place and return its flags: estimates outside (-1, 1) withheld, a gene with itself marked.

    A tile with a `correlation` that cannot leave (-1, 1) has no `correlation_unclipped`.
    """
    unclipped = tile.get("correlation_unclipped", tile.get("correlation"))
    assert unclipped is not None
    limit = 1 if "correlation_unclipped" in tile else 1 - 1e-12
    flag, tile["correlation"] = flag.astype(np.uint16), np.empty_like(unclipped)
    kernels.pairs.withhold(
        unclipped, limit, np.uint16(Flag.OUT_OF_RANGE.bit), tile["correlation"], flag
    )
    own = np.arange(max(left.start, right.start), min(left.stop, right.stop))
    at = (own - left.start, own - right.start)
    flag[at] = (flag[at] & ~(Flag.OUT_OF_RANGE | Flag.NO_INTERVAL).bit) | Flag.SELF.bit
    known = (flag[at] & Flag.NONPOSITIVE_VARIANCE.bit) == 0
    for name, values in tile.items():
        values[(..., *at)] = np.nan
        if name in ("correlation", "correlation_unclipped"):
            values[at] = np.where(known, 1.0, np.nan)
    return flag


class Workspace:
    """Memory for the sums of one tile, used again for the next: fresh pages cost as much as the arithmetic.

    Parameters
    ----------
    work : sequence of tiles
    n_layers : int
    dtype : dtype
    """

    def __init__(
        self, work: Iterable[tuple[slice, slice]], n_layers: int, dtype: DTypeLike
    ) -> None:
        most = max((a.stop - a.start) * (b.stop - b.start) for a, b in work)
        self._flat = np.empty(n_layers * most, dtype)
        self._n = n_layers

    def array(self, left: slice, right: slice) -> NDArray:
        """An array (n_layers, left, right)."""
        shape = (self._n, left.stop - left.start, right.stop - right.start)
        return self._flat[: int(np.prod(shape))].reshape(shape)


def add_q_values(pair: dict[str, NDArray], rows: slice | None) -> None:
    """Benjamini-Hochberg over distinct pairs, into ``pair["q_value"]``."""
    p = pair["p_value"]
    if "q_value" in pair:
        return
    if rows is not None:
        pair["q_value"] = (
            benjamini_hochberg(p.ravel()).reshape(p.shape).astype(pair["correlation"].dtype)
        )
        return
    q = np.full(p.shape, np.nan, pair["correlation"].dtype)
    kernels.squares.fill_upper(benjamini_hochberg(kernels.squares.upper_triangle(p)), q)
    kernels.squares.mirror(q)
    pair["q_value"] = q


def check_memory(
    n_genes: int,
    n_samples: int,
    one_row: bool,
    per_sample: bool,
    dtype: DTypeLike,
    limit: int | None,
    streams: bool = False,
) -> None:
    """Refuse work whose result cannot fit, before it starts.

    Parameters
    ----------
    limit : int or None
        Bytes that may be used.
    streams : bool
        The model can write its result to disk as it goes.
    """
    entries = n_genes * (1 if one_row else n_genes)
    size = np.dtype(dtype).itemsize
    need = entries * (11 * size + 10 + (2 * n_samples + 4) * size * per_sample)
    if limit is not None and need > limit:
        disk = "stream it to disk with out='result.zarr', " if streams else ""
        fewer = "choose fewer genes (genes=N)"
        less = fewer if one_row else f"estimate one gene against all with target=, or {fewer}"
        more = " or per_sample=False" if per_sample else ""
        raise InputError(
            f"the result of {n_genes:,} genes would take {gib(need)} of memory and {gib(limit)} may be used; {disk}{less}{more}"
        )
