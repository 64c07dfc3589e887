"""Integrity of results on disk: a checksum of every byte, verified when it is read.

A ``.zarr`` folder has a list of its files with their sizes and CRC-32, written last, so that it
also marks the folder as complete. A ``.nc`` file ends in its size and CRC-32 behind the content,
which HDF5 ignores, and removes when another program changes the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hiercorr._version import __version__
from hiercorr.errors import DataWarning, InputError
from hiercorr.runtime.user_warnings import warn
from hiercorr.runtime.zarr_store import GuardedStore, damaged, walk

LIST = ".checksums.json"
MARK = "checksums"  # attribute of a .zarr result that says where they are
_TRAILER = re.compile(rb"\nhiercorr: (\d{20}) bytes, crc32 ([0-9a-f]{8})\n")
_TRAILER_SIZE = len(f"\nhiercorr: {0:020} bytes, crc32 {0:08x}\n")
_BLOCK = 1 << 24
_NAMES_PER_BYTE = 100  # more than fit, however compressed
_SIDE = 512  # of a part, which may be larger than the whole
_NEVER_ZERO = (
    "correlation",
    "fisher_z_se",
    "se",
    "ci_lower",
    "ci_upper",
    "p_value",
    "q_value",
)


def seal_folder(path: Path) -> None:
    """Write the list of a finished folder's files with their checksums."""
    files = {}
    for key in walk(path):
        with (path / key).open("rb") as f:
            files[key] = _checksum(f)
    content = {"files": files, "list": _checksum_of_list(files), "hiercorr_version": __version__}
    (path / LIST).write_text(json.dumps(content), encoding="utf-8")


def is_sealed(path: Path) -> bool:
    """Return whether a folder, or a file, was finished."""
    return (path / LIST).exists() if path.is_dir() else path.exists()


def open_folder(path: Path) -> GuardedStore:
    """Open a zarr folder whose files are verified when they are read; warn if they cannot be.

    The presence and the size of every file are checked now.
    """
    if not (path / LIST).exists():
        store = GuardedStore(path).check_documents()
        _check_old_folder(path, store)
        return store
    try:
        content = json.loads((path / LIST).read_bytes())
        files = {k: (int(size), int(crc)) for k, (size, crc) in content["files"].items()}
        valid = content["list"] == _checksum_of_list(files)
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise damaged(path, f"its list of checksums, {LIST!r}, cannot be read")
    for key, (size, _) in files.items():
        try:
            found = os.stat(path / key).st_size
        except OSError:
            raise damaged(path, f"its file {key!r} is missing") from None
        if found != size:
            raise damaged(path, f"its file {key!r} has {found} bytes instead of {size}")
    return GuardedStore(path, files).check_documents()


def check_mark(path: Path, attributes: dict[Any, Any]) -> None:
    """Remove the mark from the attributes; raise an error if it promises checksums that are gone.

    Parameters
    ----------
    path : Path
    attributes : dict
        Attributes of the result, from which the mark is removed.
    """
    if attributes.pop(MARK, None) is not None and path.is_dir() and not (path / LIST).exists():
        raise damaged(
            path, f"its list of checksums, {LIST!r}, is missing, as after an interrupted copy"
        )


def warn_unchecked(path: Path, attributes: Mapping[Any, Any]) -> None:
    """Warn that damage to a result would not be noticed."""
    writer = attributes.get("hiercorr_version", "unknown")
    warn(
        f"{str(path)!r} has no checksums (written by hiercorr {writer}, or changed since by "
        "another program): damage would not be noticed; save it again to add them",
        DataWarning,
    )


def seal_file(file: BinaryIO) -> None:
    """Append size and checksum to a finished file that is open for reading and writing."""
    file.seek(0)
    size, crc = _checksum(file)
    file.seek(0, os.SEEK_END)
    file.write(f"\nhiercorr: {size:020} bytes, crc32 {crc:08x}\n".encode())


def check_file(path: Path) -> bool:
    """Verify a file; return whether it has a checksum.

    Raises
    ------
    InputError
        If the content is not as it was written.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TRAILER_SIZE))
        found = _TRAILER.fullmatch(file.read())
        if found is None:
            return False
        file.seek(0)
        size, crc = _checksum(file, end - _TRAILER_SIZE)
    if size != int(found[1]) or crc != int(found[2], 16):
        raise damaged(path, "its bytes are not as they were written")
    return True


def _checksum(file: BinaryIO, size: int | None = None) -> tuple[int, int]:
    """Return the size and CRC-32 of a file, or of its first bytes."""
    crc, n = 0, 0
    while block := file.read(_BLOCK if size is None else min(_BLOCK, size - n)):
        crc, n = zlib.crc32(block, crc), n + len(block)
    return n, crc


def _checksum_of_list(files: Mapping[str, tuple[int, int]]) -> int:
    return zlib.crc32(json.dumps({k: list(v) for k, v in files.items()}, sort_keys=True).encode())


def _check_old_folder(path: Path, store: GuardedStore) -> None:
    """Raise an error if a folder without checksums lacks chunks, or states shapes that disagree.

    Missing chunks would read as 0. Chunks of zeros need not be stored, but names and some variables
    cannot be zero throughout. Chunks are counted by their files, and all shapes are compared with
    the names that are there, so that an edited shape neither counts nor allocates anything.
    """
    import zarr

    try:
        group = zarr.open_group(store, mode="r")
        arrays: dict[str, Any] = dict(group.arrays())
        dims = {name: _dimensions(a) for name, a in arrays.items()}
    except InputError:
        raise
    except Exception as error:  # what zarr refuses, in this version or another
        raise damaged(path, f"cannot read its arrays ({type(error).__name__}: {error})") from error
    chunks = [key for key in walk(path) if _is_chunk(key)]
    stored = Counter(key.partition("/")[0] for key in chunks)
    names = {n: int(a.shape[0]) for n, a in arrays.items() if dims[n] == (n,) and a.shape}
    for name in (*names, *(n for n in _NEVER_ZERO if n in arrays)):
        lost = _n_chunks(arrays[name]) - stored[name]
        if lost > 0:
            raise damaged(path, f"{lost} parts of {name!r} are missing")
    for name, n in names.items():
        size = sum((path / key).stat().st_size for key in chunks if key.startswith(f"{name}/"))
        if n > _NAMES_PER_BYTE * size:
            raise damaged(path, f"{name!r} has the shape ({n},), and only {size} bytes")
    for name, array in arrays.items():
        shape = tuple(map(int, array.shape))
        for dim, n in zip(dims[name], shape, strict=False):
            if names.get(dim, n) != n:
                raise damaged(
                    path,
                    f"{name!r} has the shape {shape}, and there are {names[dim]} names of {dim!r}",
                )
        sides = array.shards or array.chunks
        if not all(0 < k <= 2 * max(n, _SIDE) for k, n in zip(sides, shape, strict=True)):
            raise damaged(path, f"{name!r} has the shape {shape} in parts of {tuple(sides)}")


def _dimensions(array: Any) -> tuple[str, ...]:
    """Return the names of the dimensions of an array, as xarray writes them."""
    named = array.attrs.get("_ARRAY_DIMENSIONS") or array.metadata.to_dict().get("dimension_names")
    return tuple(map(str, named or ()))


def _n_chunks(array: Any) -> int:
    """Return the number of files of an array of which no part is missing."""
    sides = array.shards or array.chunks
    return math.prod(-(-n // max(side, 1)) for n, side in zip(array.shape, sides, strict=True))


def _is_chunk(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name[:1].isdigit()
