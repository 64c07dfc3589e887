"""All pairs streamed to disk: each tile is written to a zarr folder, so memory is not a limit."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.errors import InputError
from hiercorr.results import storage, tiling
from hiercorr.results.missing import Missing, count_missing
from hiercorr.schema import pair_attributes

_BUCKET_BITS = 8  # trailing bits of float32 p-values to ignore: a bucket is 3e-5 p wide
_TOP = (int(np.float32(1).view(np.uint32)) >> _BUCKET_BITS) + 1


class ZarrOutput:
    """Pair variables on disk, with the interface of :class:`hiercorr.results.tiling.PairOutput`.

    Parameters
    ----------
    path : Path
        Name of the result, which appears there only when it is complete.
    tiles : list of (slice, slice)
        Tiles of the upper triangle; each becomes a chunk on disk.
    dtype : dtype
    overwrite : bool
    rows : slice, optional
        Positions of the targets among the genes. None: all pairs.
    n_genes : int, optional
        Number of genes, with targets.

    Attributes
    ----------
    draft : Draft
        Where it is written.
    missing, complete
        As for :class:`hiercorr.results.tiling.PairOutput`.
    """

    complete = True

    def __init__(
        self,
        path: Path,
        tiles: list[tuple[slice, slice]],
        dtype: DTypeLike,
        overwrite: bool,
        rows: slice | None = None,
        n_genes: int | None = None,
    ) -> None:
        if path.suffix != ".zarr":
            raise InputError(
                f"out={path.name!r}: results can only be streamed to a name that ends in .zarr"
            )
        import zarr

        self._path, self._dtype = path, np.dtype(dtype)
        self._rows = rows
        if rows is None:
            self._spans = [left for left, right in tiles if left == right]
            side = max(s.stop - s.start for s in self._spans)
            self._shape, self._chunks = (self._spans[-1].stop,) * 2, (side, side)
            self._blocks = list(itertools.product(self._spans, self._spans))
        else:
            assert n_genes is not None
            self._blocks = [(self._own(left), right) for left, right in tiles]
            sides = ([s.stop - s.start for s in spans] for spans in zip(*tiles, strict=True))
            self._shape = (rows.stop - rows.start, n_genes)
            self._chunks = tuple(map(max, sides))
        self.draft = storage.open_draft(path, overwrite)
        try:
            self._group = zarr.open_group(str(self.draft.path), mode="w", zarr_format=2)
        except OSError:
            self.draft.close()
            raise
        self.missing = Missing()
        self._count = np.zeros(_TOP + 1, np.int64)

    def _array(self, name: str, dtype: DTypeLike) -> Any:
        if name not in self._group:
            fill = np.nan if np.dtype(dtype).kind == "f" else 0  # of a chunk that is lost
            array = self._group.create_array(
                name,
                shape=self._shape,
                chunks=self._chunks,
                dtype=dtype,
                fill_value=fill,
            )
            dims = ["gene", "partner"] if self._rows is None else ["target", "gene"]
            array.attrs["_ARRAY_DIMENSIONS"] = dims
            array.attrs.update({k: storage.plain(v) for k, v in pair_attributes(name).items()})
        return self._group[name]

    def write(self, left: slice, right: slice, tile: dict[str, NDArray], flag: NDArray) -> None:
        """Write one tile and its mirror image."""
        flag = tiling.settle(left, right, tile, flag)
        square = self._rows is None
        self.missing += count_missing(tile, flag) * (2 if square and left != right else 1)
        for name, values in {**tile, "flag": flag}.items():
            dtype = (
                np.uint16
                if name == "flag"
                else values.dtype
                if name.endswith("p_value")
                else self._dtype
            )
            block = values.astype(dtype)
            array = self._array(name, dtype)
            if not square:
                array[self._own(left), right] = block
            elif left == right:
                kernels.squares.mirror(block)
            else:
                array[right, left] = block.T
            if square:
                array[left, right] = block
            if name == "p_value":
                p = block[self._once(left, right)]
                self._count += np.bincount(_bucket(p[~np.isnan(p)]), minlength=len(self._count))

    def _own(self, left: slice) -> slice:
        """Return the rows of the targets among all targets."""
        assert self._rows is not None
        return slice(left.start - self._rows.start, left.stop - self._rows.start)

    def _once(self, left: slice, right: slice) -> NDArray[np.bool_]:
        """Return the entries of a tile that count each pair once."""
        shape = (left.stop - left.start, right.stop - right.start)
        if self._rows is None:
            return np.triu(np.ones(shape, bool), 1) if left == right else np.ones(shape, bool)
        rows, columns = np.arange(left.start, left.stop), np.arange(right.start, right.stop)
        before = (columns >= self._rows.start) & (columns[None] <= rows[:, None])
        return ~before

    def q_values(self) -> None:
        """Write Benjamini-Hochberg q-values over distinct pairs, from a histogram of the p-values.

        Each p-value is rounded up to the edge of its bin, so q-values are too large by a relative
        error of at most 3e-5.
        """
        if "p_value" not in self._group:
            return
        rank = np.cumsum(self._count)
        edge = (
            ((np.arange(len(rank), dtype=np.uint32) + 1) << _BUCKET_BITS)
            .view(np.float32)
            .astype(np.float64)
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            q = np.where(
                self._count > 0, np.minimum(edge, 1) * rank[-1] / np.maximum(rank, 1), np.inf
            )
        q = np.minimum(np.minimum.accumulate(q[::-1])[::-1], 1)
        for left, right in self._blocks:
            p = np.asarray(self._array("p_value", self._dtype)[left, right])
            known = ~np.isnan(p)
            out = np.full(p.shape, np.nan, self._dtype)
            out[known] = q[_bucket(p[known])]
            self._array("q_value", self._dtype)[left, right] = out

    def finish(self, rest: xr.Dataset) -> Path:
        """Add all other variables and move the finished result into place."""
        storage.as_zarr(rest, self.draft.path, mode="a")
        self.draft.into_place()
        return self._path


@contextlib.contextmanager
def opened(*args: Any) -> Iterator[ZarrOutput]:
    """Open a :class:`ZarrOutput` that is deleted if the work fails."""
    output = ZarrOutput(*args)
    with output.draft:
        yield output


def _bucket(p: NDArray) -> NDArray[np.int64]:
    """Return the leading bits of float32 p-values, which sort like the values."""
    bits = (
        np.nextafter(p.astype(np.float32), np.float32(2)).view(np.uint32)
        if p.dtype != np.float32
        else p.view(np.uint32)
    )
    return np.minimum(bits >> _BUCKET_BITS, _TOP).astype(np.int64)
