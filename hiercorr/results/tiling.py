"""Tiles of gene pairs: their size, the arrays they are written to, and their memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.errors import InputError
from hiercorr.inference.derived import in_double
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results.layout import mirror_targets, once
from hiercorr.results.missing import Missing, count_missing
from hiercorr.runtime.resources import gib
from hiercorr.schema import Flag

DTYPE: dict[str, DTypeLike] = {"single": np.float32, "double": np.float64}

_TILE_BYTES = 256 * 2**20
_TILE_GENES, _PART_GENES, _LEAST_GENES = 1700, 1100, 64  # genes per side of a tile
COMPUTED_FROM = 4_000_000  # entries (2,000 genes) from which variables are computed when read
WIDE = 6000  # maximum genes per side of a tile whose sums are computed in this process
INTERVAL = ("se", "fisher_z_se", "ci_lower", "ci_upper", "statistic", "df", "p_value", "q_value")


def rows_of(target: str | Sequence[str] | None, genes: pd.Index) -> slice | None:
    """Return the positions of the targets among the genes, or None for all pairs.

    Several targets follow each other among the genes.
    """
    if target is None:
        return None
    first = target if isinstance(target, str) else target[0]
    position, number = int(genes.get_loc(first)), 1 if isinstance(target, str) else len(target)
    return slice(position, position + number)


def n_rows(rows: slice | None) -> int | None:
    """Return the number of targets, or None for all pairs."""
    return None if rows is None else rows.stop - rows.start


def n_pairs(n_genes: int, rows: slice | None) -> int:
    """Count the distinct pairs of all genes, or of the targets."""
    k = n_rows(rows)
    if k is None:
        return n_genes * (n_genes - 1) // 2
    return k * (n_genes - k) + k * (k - 1) // 2


def tiles(
    n_genes: int,
    n_layers: int,
    rows: slice | None,
    dtype: DTypeLike,
    widest: int | None = None,
    memory: int | None = None,
) -> list[tuple[slice, slice]]:
    """Split the upper triangle, or the rows of the targets, into tiles.

    Parameters
    ----------
    n_genes : int
    n_layers : int
        Number of arrays per tile that are in memory at one time.
    rows : slice or None
        Positions of the targets, or None for all pairs.
    dtype : dtype
    widest : int, optional
        Maximum number of genes per side.
    memory : int, optional
        Bytes for the work on a tile, which takes some four times its layers; None: no limit.

    Returns
    -------
    list of (slice, slice)
        Genes on the left and on the right of each tile.
    """
    size = _TILE_BYTES if memory is None else min(max(memory, 0) / 4, _TILE_BYTES)
    entries = size / (n_layers * np.dtype(dtype).itemsize)
    largest, every = widest or _TILE_GENES, slice(0, n_genes)
    if rows is None:
        spans = _stretches(every, int(max(_LEAST_GENES, min(largest, entries**0.5))))
        return [(left, right) for i, left in enumerate(spans) for right in spans[i:]]
    found = []
    for left in _stretches(rows, int(max(_LEAST_GENES, min(_PART_GENES, entries**0.5)))):
        height = left.stop - left.start
        for right in _stretches(every, int(max(_LEAST_GENES, min(largest, entries / height)))):
            # a tile on the diagonal would be half a tile
            spans = [right] if right != left or height == 1 else _stretches(right, -(-height // 2))
            found += [(left, span) for span in spans]
    return found


def parts(
    left: slice, right: slice, n_layers: int, dtype: DTypeLike
) -> Iterator[tuple[slice, slice]]:
    """Split a tile into sub-tiles whose `n_layers` arrays fit in an eighth of the tile memory.

    Of a tile on the diagonal, only the upper triangle is covered.
    """
    fit = (_TILE_BYTES / 8 / (n_layers * np.dtype(dtype).itemsize)) ** 0.5
    side = int(max(_LEAST_GENES, min(_PART_GENES, fit)))
    for a, b in itertools.product(_stretches(left, side), _stretches(right, side)):
        if left != right or a.start <= b.start:
            yield a, b


def _stretches(genes: slice, side: int) -> list[slice]:
    n = -(-(genes.stop - genes.start) // side)
    edges = np.linspace(genes.start, genes.stop, n + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]


class PairOutput:
    """Arrays of the pair variables, filled tile by tile; symmetric if all pairs are estimated.

    Parameters
    ----------
    n_genes : int
    rows : slice or None
        Positions of the targets, or None for all pairs.
    dtype : dtype
        Type of all variables not in `double`.
    without_interval : bool
        Do not allocate the variables of the interval; they are NaN everywhere.
    double : tuple of str
        Variables stored as float64: p-values that could underflow in float32.
    closed : bool
        Whether -1 and 1 are valid estimates, as of correlations of ranks.

    Attributes
    ----------
    missing : Missing
        Numbers of entries without a correlation.
    complete : bool
        Whether it takes the variables that follow from others, which
        :func:`hiercorr.results.computed.completed` adds.
    """

    complete = False

    def __init__(
        self,
        n_genes: int,
        rows: slice | None,
        dtype: DTypeLike,
        without_interval: bool = False,
        double: tuple[str, ...] = ("cell_p_value",),
        closed: bool = False,
    ) -> None:
        self.rows, self.double, self.closed = rows, double, closed
        self.shape = (n_genes if rows is None else rows.stop - rows.start, n_genes)
        self.dtype = np.dtype(dtype)
        self.without_interval = without_interval
        self.arrays: dict[str, NDArray] = {}
        self.flag = np.zeros(self.shape, np.uint16)
        self.missing = Missing()

    def _array(self, name: str, tile: NDArray) -> NDArray:
        if name not in self.arrays:
            dtype = np.float64 if name in self.double else self.dtype
            self.arrays[name] = np.empty((*tile.shape[:-2], *self.shape), dtype)
        return self.arrays[name]

    def write(self, left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> None:
        """Write the values of one tile; estimates outside (-1, 1) are withheld (:func:`settle`)."""
        flag = settle(left, right, tile, flag, self.closed)
        times = 1 if self.rows is not None or left == right else 2
        self.missing += count_missing(tile, flag) * times
        for name, values in tile.items():
            self._put(self._array(name, values), left, right, values)
        self._put(self.flag, left, right, flag)

    def _put(self, array: NDArray, left: slice, right: slice, values: NDArray) -> None:
        if values.ndim == 3:
            for layer, part in zip(array, values, strict=True):
                self._put(layer, left, right, part)
        elif self.rows is not None:
            first = self.rows.start
            array[left.start - first : left.stop - first, right] = values
        else:
            values = np.ascontiguousarray(values, array.dtype)  # loops compiled once for each type
            kernels.squares.place(values, left.start, right.start, array)

    def finish(self) -> dict[str, NDArray]:
        """Return the arrays by name of the pair variable."""
        if self.without_interval:
            missing = np.broadcast_to(np.array(np.nan, self.dtype), self.shape)
            self.arrays |= dict.fromkeys(INTERVAL, missing)
        return {**self.arrays, "flag": self.flag}


def settle(
    left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray, closed: bool = False
) -> NDArray[np.uint16]:
    """Withhold estimates outside (-1, 1), mark genes paired with themselves, return the flags.

    Parameters
    ----------
    left, right : slice
    tile : dict
        Pair variables of the tile, changed in place. ``correlation_unclipped`` is absent if the
        estimator cannot leave (-1, 1).
    flag : array
    closed : bool
        Whether -1 and 1 are kept.

    Returns
    -------
    array
    """
    unclipped = tile.get("correlation_unclipped", tile.get("correlation"))
    assert unclipped is not None
    limit = np.inf if closed else 1 if "correlation_unclipped" in tile else 1 - 1e-12
    flag, tile["correlation"] = flag.astype(np.uint16), np.empty_like(unclipped)
    kernels.pairs.withhold(
        unclipped, limit, np.uint16(Flag.OUT_OF_RANGE.bit), tile["correlation"], flag
    )
    shared = np.arange(max(left.start, right.start), min(left.stop, right.stop))
    diagonal = (shared - left.start, shared - right.start)
    flag[diagonal] = (flag[diagonal] & ~(Flag.OUT_OF_RANGE | Flag.NO_INTERVAL).bit) | Flag.SELF.bit
    has_variance = (flag[diagonal] & Flag.NONPOSITIVE_VARIANCE.bit) == 0
    for name, values in tile.items():
        values[(..., *diagonal)] = np.nan
        if name in ("correlation", "correlation_unclipped"):
            values[diagonal] = np.where(has_variance, 1.0, np.nan)
    return flag


class Workspace:
    """Reusable memory for the sums of one tile; fresh memory costs as much as the arithmetic.

    Parameters
    ----------
    work : iterable of (slice, slice)
        Tiles that will use the memory.
    n_layers : int
        Number of arrays per tile.
    dtype : dtype
    """

    def __init__(
        self, work: Iterable[tuple[slice, slice]], n_layers: int, dtype: DTypeLike
    ) -> None:
        largest = max((a.stop - a.start) * (b.stop - b.start) for a, b in work)
        self._flat = np.empty(n_layers * largest, dtype)
        self._n = n_layers

    def array(self, left: slice, right: slice) -> NDArray:
        """Return an uninitialised array (n_layers, left, right) in this memory."""
        shape = (self._n, left.stop - left.start, right.stop - right.start)
        return self._flat[: int(np.prod(shape))].reshape(shape)


def add_q_values(pair: dict[str, NDArray], rows: slice | None) -> None:
    """Add Benjamini-Hochberg q-values over distinct pairs to the pair variables.

    Both are in double precision, unless there are so many pairs that memory matters.
    """
    p, few = pair["p_value"], pair["p_value"].size < COMPUTED_FROM
    if "q_value" in pair:
        return
    if few and {"statistic", "df"} <= pair.keys():
        p = pair["p_value"] = in_double(p, pair["statistic"], pair["df"])
    dtype = np.float64 if few else pair["correlation"].dtype
    if rows is not None:
        positions = np.arange(rows.start, rows.stop)
        several = len(positions) > 1  # one target need not be a gene
        distinct = once(p.shape, positions) if several else np.ones(p.shape, bool)
        q = np.full(p.shape, np.nan)
        q[distinct] = benjamini_hochberg(p[distinct])
        if several:
            mirror_targets(q, positions)
        pair["q_value"] = q.astype(dtype)
        return
    q = pair["q_value"] = np.full(p.shape, np.nan, dtype)
    if few:  # nothing is compiled for few pairs
        upper = np.triu_indices(len(p), 1)
        q[upper] = benjamini_hochberg(p[upper])
        q.T[upper] = q[upper]
        return
    kernels.squares.fill_upper(benjamini_hochberg(kernels.squares.upper_triangle(p)), q)
    kernels.squares.mirror(q)


def check_memory(
    n_genes: int,
    n_samples: int,
    rows: int | None,
    per_sample: bool,
    dtype: DTypeLike,
    limit: int | None,
    streams: bool = False,
    computed: bool = False,
    layers: int = 0,
) -> None:
    """Raise an error if the result would not fit in memory, before it is computed.

    Parameters
    ----------
    n_genes, n_samples : int
    rows : int or None
        Number of targets; None: all pairs.
    per_sample : bool
        Whether per-sample estimates are kept.
    dtype : dtype
    limit : int or None
        Bytes that may be used; None: no limit.
    streams : bool
        Whether the model can stream its result to disk.
    computed : bool
        Whether variables of many pairs that follow from others are not kept
        (:mod:`hiercorr.results.computed`).
    layers : int
        Number of further arrays, of contrasts of groups.
    """
    entries = n_genes * (n_genes if rows is None else rows)
    size = np.dtype(dtype).itemsize
    kept = 8 if computed and entries >= COMPUTED_FROM and rows is None else 14
    kept += layers
    need = entries * (kept * size + 10 + (2 * n_samples + 4) * size * per_sample)
    if limit is not None and need > limit:
        disk = "stream it to disk with out='result.zarr', " if streams and not per_sample else ""
        fewer = "choose fewer genes (genes=N)"
        less = f"estimate one gene against all with target=, or {fewer}"
        less = less if rows is None else fewer if rows == 1 else "choose fewer genes or targets"
        more = " or per_sample=False" if per_sample else ""
        raise InputError(
            f"the result for {n_genes:,} genes would take {gib(need)} of memory and only "
            f"{gib(limit)} may be used; {disk}{less}{more}"
        )
