"""Gene pairs in tiles: how large, in what order, and where their values go."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import _kernels
from hiercorr._resources import gib
from hiercorr.errors import InputError
from hiercorr.inference import benjamini_hochberg
from hiercorr.schema import Flag

T = TypeVar("T")

DTYPE: dict[str, DTypeLike] = {"single": np.float32, "double": np.float64}
_TILE_BYTES = 256 * 2**20
_TILE_GENES, _LEAST_GENES = 1700, 64
_INTERVAL = ("se", "ci_lower", "ci_upper", "statistic", "df", "p_value", "q_value")
_PER_SAMPLE = ("sample_correlation", "sample_se")


def tiles(n_genes: int, n_layers: int, rows: slice | None, dtype: DTypeLike) -> list[tuple[slice, slice]]:
    """Slices (left, right) that cover the upper triangle, or one target against all genes."""
    itemsize = np.dtype(dtype).itemsize
    side = int(
        max(_LEAST_GENES, min(_TILE_GENES, (_TILE_BYTES / (2 * n_layers * itemsize)) ** (0.5 if rows is None else 1.0)))
    )
    parts = -(-n_genes // side)
    edges = np.linspace(0, n_genes, parts + 1).round().astype(int)
    spans = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    if rows is not None:
        return [(rows, span) for span in spans]
    return [(spans[i], spans[j]) for i in range(parts) for j in range(i, parts)]


class PairOutput:
    """Arrays of the pair variables, filled tile by tile; square ones get both triangles.

    Parameters
    ----------
    order : ndarray of int
        Where in the output each gene goes; tiles follow another order of genes.
    rows : slice or None
        The target's position in the tiles' order, or None for all pairs.
    dtype : dtype
        Of everything but `double`.
    without_interval : bool
        Nothing of the interval will be written: those variables are NaN at no cost in memory.
    double : tuple of str
        Variables kept in float64: p-values that could underflow in float32.
    """

    def __init__(
        self,
        order: NDArray[np.int64],
        rows: slice | None,
        dtype: DTypeLike,
        without_interval: bool = False,
        double: tuple[str, ...] = ("cell_p_value",),
    ) -> None:
        self.order, self.rows, self.double = order, rows, double
        self.shape = (len(order), len(order)) if rows is None else (1, len(order))
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
        self.missing += int(np.isnan(tile["correlation"]).sum()) * (1 if self.rows is not None or left == right else 2)
        for name, values in tile.items():
            self._put(self._array(name, values), left, right, values)
        self._put(self.flag, left, right, flag)

    def _put(self, array: NDArray, left: slice, right: slice, values: NDArray) -> None:
        if values.ndim == 3:
            for layer, part in zip(array, values, strict=True):
                self._put(layer, left, right, part)
        elif self.rows is not None:
            array[0, self.order[right]] = values[0]
        else:
            if left == right:  # the two triangles of a tile on the diagonal may differ in the last digit
                values = np.triu(values) + np.triu(values, 1).T
            _kernels.place(values, self.order[left], self.order[right], array, left != right)

    def finish(self) -> dict[str, NDArray]:
        """The arrays in the schema's terms."""
        if self.without_interval:
            nothing = np.broadcast_to(np.array(np.nan, self.dtype), self.shape)
            self.arrays |= dict.fromkeys(_INTERVAL, nothing)
        return {**self.arrays, "flag": self.flag}


def settle(left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> NDArray[np.uint16]:
    """Finish a tile in place and return its flags: estimates outside (-1, 1) withheld, a gene with itself marked.

    A tile with a `correlation` that cannot leave (-1, 1) has no `correlation_unclipped`.
    """
    unclipped = tile.get("correlation_unclipped", tile.get("correlation"))
    assert unclipped is not None
    inside = np.abs(unclipped) < (1 if "correlation_unclipped" in tile else 1 - 1e-12)
    flag = flag.astype(np.uint16)
    flag[~inside & np.isfinite(unclipped)] |= Flag.OUT_OF_RANGE.bit
    tile["correlation"] = np.where(inside, unclipped, np.nan)
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
    """Memory for the sums of one tile, used again for the next: fresh pages cost as much as the arithmetic."""

    def __init__(self, work: Sequence[tuple[slice, slice]], n_samples: int, dtype: DTypeLike) -> None:
        most = max((a.stop - a.start) * (b.stop - b.start) for a, b in work)
        self._flat = np.empty((2, n_samples * most), dtype)
        self._n = n_samples

    def arrays(self, left: slice, right: slice) -> tuple[NDArray, NDArray]:
        """Two arrays (n_samples, left, right)."""
        shape = (self._n, left.stop - left.start, right.stop - right.start)
        first, second = (flat[: int(np.prod(shape))].reshape(shape) for flat in self._flat)
        return first, second


def add_q_values(pair: dict[str, NDArray], rows: slice | None) -> None:
    """Benjamini-Hochberg over distinct pairs, into ``pair["q_value"]``."""
    p = pair["p_value"]
    if "q_value" in pair:
        return
    if rows is not None:
        pair["q_value"] = benjamini_hochberg(p.ravel()).reshape(p.shape).astype(pair["correlation"].dtype)
        return
    q = np.full(p.shape, np.nan, pair["correlation"].dtype)
    _kernels.fill_symmetric(benjamini_hochberg(_kernels.upper_triangle(p)), q)
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


def with_progress(work: Sequence[T], show: bool | None) -> Iterable[T]:
    """Wrap tiles or pairs in a progress bar where asked for, or in a terminal when there are many."""
    return shown(work, len(work), show, "gene pairs")


def shown(work: Iterable[T], total: int, show: bool | None, what: str) -> Iterable[T]:
    """The same of work whose length has to be said."""
    if show is None:
        show = total > 3 and sys.stderr.isatty()
    if not show:
        return work
    from rich.console import Console
    from rich.progress import track

    return track(work, description=what, total=total, console=Console(stderr=True), transient=True)
