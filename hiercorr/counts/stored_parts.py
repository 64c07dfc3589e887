"""Parts of a zarr file of counts that were never written, or got lost: zarr reads them as zeros.

Parts that contain only zeros need not be stored. Where that cannot be the reason, they are missing.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.errors import DataWarning, InputError
from hiercorr.runtime.user_warnings import warn
from hiercorr.runtime.zarr_store import damaged, walk

_LISTED = 4  # missing parts that are looked for beyond those that are there


def check_lengths(root: Path, group: Any, location: str, tables: tuple[str, ...]) -> None:
    """Raise an error, before anything is read, for lengths that are not those of the names.

    Parameters
    ----------
    root : Path
        Folder of the file.
    group : zarr.Group
    location : str
        Path of the matrix in the file.
    tables : tuple of str
        Paths of the tables of cells and genes.
    """
    known: list[int] = []
    for table in tables:
        name = group[table].attrs.get("_index") if table in group else None
        if name is None or f"{table}/{name}" not in group:
            continue
        index = group[f"{table}/{name}"]
        index = index["values"] if hasattr(index, "keys") else index
        _refuse(root, index)
        known.append(int(index.shape[0]))
        for column, array in group[table].arrays():
            if array.shape[:1] != index.shape[:1]:
                raise damaged(
                    root,
                    f"{f'{table}/{column}'!r} has the shape {tuple(map(int, array.shape))}, and "
                    f"there are {int(index.shape[0])} names",
                )
    shape = getattr(group.get(location), "shape", None)  # of a dense matrix
    if shape is not None and len(known) == len(tables) and list(shape) != known:
        raise damaged(
            root,
            f"{location!r} has the shape {tuple(map(int, shape))}, and there are {known[0]} cells "
            f"and {known[1]} genes",
        )


def check_parts(root: Path, group: Any, location: str, tables: tuple[str, ...]) -> None:
    """Raise an error for parts of counts or names that cannot be zeros throughout.

    Parameters
    ----------
    root : Path
        Folder of the file.
    group : zarr.Group
    location : str
        Path of the matrix in the file.
    tables : tuple of str
        Paths of the tables of cells and genes.

    Raises
    ------
    InputError
        If parts of the entries of a sparse matrix are missing, or of the names.

    Warns
    -----
    DataWarning
        If parts of a dense matrix are missing, which can be zeros.
    """
    for table in tables:
        name = group[table].attrs.get("_index") if table in group else None
        if name is not None and f"{table}/{name}" in group:
            names = group[f"{table}/{name}"]
            # pandas 3: a group of the texts and of which are missing, often none: zeros throughout
            _refuse(root, names["values"] if hasattr(names, "keys") else names)
    matrix = group.get(location)
    if matrix is None:
        return
    if not hasattr(matrix, "keys"):
        _warn_of_dense(root, matrix)
    elif {"data", "indices", "indptr"} <= set(matrix.keys()):
        _check_sparse(root, matrix)


def _check_sparse(root: Path, matrix: Any) -> None:
    data, indices, indptr = (matrix[k] for k in ("data", "indices", "indptr"))
    n = int(data.shape[0])
    _refuse(root, data)
    lost = _missing(root, indptr)
    if indices.shape[0] != n or int(indptr[-1]) != n:
        raise damaged(root, f"the arrays of {_path(matrix)!r} have different numbers of entries")
    if not (lost or _missing(root, indices)):
        return
    start = np.asarray(indptr[:])
    size = int((indptr.shards or indptr.chunks)[0])
    for k in lost:  # the rows of a part of zeros are empty, and the next row begins at 0
        end = int(start[min((k + 1) * size, len(start) - 1)])
        if len(np.unique(indices[:end])) < end:
            raise _lost(root, indptr, [k])
    side = int((indices.shards or indices.chunks)[0])
    several = [k for k in _missing(root, indices) if _shared(start, k * side, (k + 1) * side)]
    if several:
        raise _lost(root, indices, several)


def _shared(start: NDArray, first: int, last: int) -> bool:
    """Return whether a row has several of the entries first:last, which cannot all be at 0."""
    inside = np.clip(start, first, last)
    return bool((np.diff(inside) > 1).any())


def _warn_of_dense(root: Path, matrix: Any) -> None:
    files = sum(key.rpartition("/")[2][:1].isdigit() for key in walk(root / _path(matrix)))
    sides = matrix.shards or matrix.chunks
    lost = math.prod(-(-n // k) for n, k in zip(matrix.shape, sides, strict=True)) - files
    if lost > 0:
        warn(
            f"{str(root)!r}: {lost} of {lost + files} parts of {_path(matrix)!r} are not stored "
            "and read as zeros; if these cells and genes have counts, the file is incomplete: copy "
            "it again",
            DataWarning,
        )


def _missing(root: Path, array: Any) -> list[int]:
    """Return the parts of a one-dimensional array that are not stored."""
    size = int((array.shards or array.chunks)[0])
    folder, n = root / _path(array), -(-array.shape[0] // size)
    n = min(n, len(walk(folder)) + _LISTED)  # of a shape that was edited, the first are enough
    keys = map(array.metadata.encode_chunk_key, ((k,) for k in range(n)))
    return [k for k, key in enumerate(keys) if not (folder / key).exists()]


def _refuse(root: Path, array: Any) -> None:
    lost = _missing(root, array)
    if lost:
        raise _lost(root, array, lost)


def _lost(root: Path, array: Any, parts: list[int]) -> InputError:
    listed = ", ".join(map(str, itertools.islice(parts, 3)))
    more = ", ..." if len(parts) > 3 else ""
    return damaged(root, f"parts of {_path(array)!r} are missing ({listed}{more})")


def _path(item: Any) -> str:
    return str(item.path).strip("/")
