"""Zarr folders from elsewhere, read as data: known codecs and types only, files as they were saved.

Whatever zarr reads passes through :class:`GuardedStore`, so that no file reaches a decoder unseen,
however it is spelled, linked or named.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from hiercorr.errors import InputError

ZARR_DOCUMENTS = (".zgroup", ".zattrs", ".zmetadata", "zarr.json")  # of a group
_DOCUMENTS = (".zarray", ".zmetadata", "zarr.json")
# Codecs that turn bytes into numbers or text. Others, such as pickle, may build any object.
_CODECS = {
    *("bytes", "endian", "transpose", "sharding_indexed", "cast_value", "scale_offset"),
    *("blosc", "bz2", "gzip", "lz4", "lzma", "pcodec", "zfpy", "zlib", "zstd"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("astype", "bitround", "categorize", "delta", "fixedscaleoffset", "packbits"),
    *("quantize", "shuffle", "vlen-bytes", "vlen-utf8"),
}
_TEXT = {"vlen-utf8", "vlen-bytes"}  # filters that make an object dtype safe: strings
_DTYPE = re.compile(r"[<>|=]?[?biufcSUVMm]\d*(\[\w+\])?")
_DATA_TYPE = re.compile(
    r"(bool|u?int\d+|float\d+|bfloat16|complex(_float)?\d+|string|bytes|variable_length_\w+|"
    r"fixed_length_\w+|null_terminated_bytes|raw_bytes|r\d+|numpy\.(date|time)\w+64|struct(ured)?)"
)


class GuardedStore(Store):
    """Read-only store of a zarr folder whose documents, and optionally all files, are checked.

    Parameters
    ----------
    root : Path
    files : mapping, optional
        Size and CRC-32 of every file of the folder; other files are not read, and a file that
        differs raises an error. None: the bytes are not known.
    """

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = True

    def __init__(self, root: Path, files: Mapping[str, tuple[int, int]] | None = None) -> None:
        super().__init__(read_only=True)
        self.root, self.files = Path(root), files
        self._blosc: set[str] = set()  # arrays whose chunks are blosc frames

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        """Return the store, which cannot be written to."""
        if not read_only:
            raise InputError(f"{str(self.root)!r} was opened for reading only")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedStore) and self.root == other.root

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"file://{self.root}"

    __repr__ = __str__

    def check_documents(self) -> GuardedStore:
        """Check the description of every array now, and return the store."""
        for key in self.files or walk(self.root):
            if key.rpartition("/")[2] in _DOCUMENTS:
                self.read(key)
        return self

    def read(self, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
        """Read a file, or a part of it; None if there is no such file."""
        if self.files is not None and key not in self.files:
            return None
        path = self.root / key
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return None
            whole = self.files is not None or key.rpartition("/")[2] in _DOCUMENTS
            if byte_range is not None and not whole:
                return _part(path, byte_range)
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if self.files is not None:
                raise damaged(self.root, f"its file {key!r} is missing") from None
            return None
        if self.files is not None and (len(data), zlib.crc32(data)) != self.files[key]:
            raise damaged(self.root, f"its file {key!r} is not as it was written")
        self._check(key, data)
        return data if byte_range is None else _slice(data, byte_range)

    def _check(self, key: str, data: bytes) -> None:
        folder, _, name = key.rpartition("/")
        if name in _DOCUMENTS:
            try:
                document = json.loads(data)
            except ValueError as error:
                raise damaged(self.root, f"{key!r} is not JSON ({error})") from error
            for array, description in _arrays(folder, document):
                refused = _unknown(description)
                if refused:
                    raise InputError(
                        f"{str(self.root)!r} was not read: its array {array!r} uses {refused}, "
                        "which could run code; write the data again with plain numbers and strings"
                    )
                if _has_no_parts(description):
                    raise damaged(self.root, f"cannot read its array {array!r} in parts of nothing")
                if _is_blosc(description):
                    self._blosc.add(array)
        elif not name.startswith(".") and any(a in self._blosc for a in _parents(folder)):
            if len(data) >= 16 and int.from_bytes(data[12:16], "little") == len(data):
                return
            raise damaged(self.root, f"its file {key!r} is cut short")

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file."""
        data = await asyncio.to_thread(self.read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of files."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether there is a file of this name."""
        return (self.root / key).is_file() if self.files is None else key in self.files

    async def list(self) -> AsyncIterator[str]:
        """Iterate over all files."""
        for key in self.files or walk(self.root):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over the files below a folder."""
        start = f"{prefix.strip('/')}/".lstrip("/")
        async for key in self.list():
            if key.startswith(start):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over the names directly below a prefix."""
        prefix = prefix.strip("/")
        if self.files is None:
            folder = self.root / prefix
            names = os.listdir(folder) if folder.is_dir() else []
        else:
            start = f"{prefix}/" if prefix else ""
            inside = (k.removeprefix(start) for k in self.files if k.startswith(start))
            names = list(dict.fromkeys(k.partition("/")[0] for k in inside))
        for name in names:
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Raise an error: the store is read-only."""
        self._check_writable()

    async def set_partial_values(self, values: Iterable[Any]) -> None:  # of zarr before 3.1.2
        """Raise an error: the store is read-only."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Raise an error: the store is read-only."""
        self._check_writable()


def damaged(path: Path, how: str) -> InputError:
    """Build the error for a folder or file whose content is not as it was written."""
    return InputError(
        f"{str(path)!r} is damaged or incomplete: {how}; copy it again, or compute it again"
    )


def walk(root: Path) -> list[str]:
    """Return the files below a folder, links to folders followed once, as sorted keys of zarr."""
    seen: set[str] = set()
    out = []
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        out += [(Path(folder) / n).relative_to(root).as_posix() for n in names]
    return sorted(out)


def _part(path: Path, byte_range: ByteRequest) -> bytes:
    with path.open("rb") as f:
        if isinstance(byte_range, RangeByteRequest):
            f.seek(byte_range.start)
            return f.read(byte_range.end - byte_range.start)
        if isinstance(byte_range, OffsetByteRequest):
            f.seek(byte_range.offset)
        elif isinstance(byte_range, SuffixByteRequest):
            f.seek(max(0, os.fstat(f.fileno()).st_size - byte_range.suffix))
        return f.read()


def _slice(data: bytes, byte_range: ByteRequest) -> bytes:
    if isinstance(byte_range, RangeByteRequest):
        return data[byte_range.start : byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return data[byte_range.offset :]
    assert isinstance(byte_range, SuffixByteRequest)
    return data[max(0, len(data) - byte_range.suffix) :]


def _arrays(folder: str, document: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the arrays that a document describes, by name; of consolidated ones, all."""
    if not isinstance(document, dict):
        return []
    out = []
    if {"codecs", "data_type", "compressor", "filters", "dtype"} & document.keys():
        out.append((folder, document))
    consolidated = document.get("consolidated_metadata") or document
    inside = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    for key, part in (inside or {}).items() if isinstance(inside, dict | None) else ():
        name, _, kind = f"/{key}".rpartition("/")
        if kind in (".zgroup", ".zattrs"):
            continue
        name = name if kind == ".zarray" else f"/{key}"
        out += _arrays("/".join(n for n in (folder, name.strip("/")) if n), part)
    return out


def _unknown(array: dict[str, Any]) -> str | None:
    """Return the codec or type of an array that is not known to be harmless, if there is one."""
    v2 = [array.get("compressor"), *_listed(array.get("filters"))]
    names = []
    for codec in [*v2, *_nested(array.get("codecs"))]:
        if codec is None:
            continue
        name = codec if isinstance(codec, str) else _name(codec)
        name = str(name).removeprefix("numcodecs.")
        if name not in _CODECS:
            return f"the codec {name!r}"
        names.append(name)
    if _listed(array.get("storage_transformers")):
        return "storage transformers"
    text = not _TEXT.isdisjoint(names)
    for dtype in _fields(array.get("dtype", "|u1")):
        if not (_DTYPE.fullmatch(dtype) or (dtype in ("|O", "O", "object") and text)):
            return f"the dtype {dtype!r}"
    kind = array.get("data_type", "bool")
    kind = kind.get("name") if isinstance(kind, dict) else kind
    return None if _DATA_TYPE.fullmatch(str(kind)) else f"the data type {kind!r}"


def _has_no_parts(array: dict[str, Any]) -> bool:
    """Return whether an array is said to be stored in parts without entries (some zarr reads 0)."""
    sides, size = array.get("chunks"), array.get("shape")
    if not isinstance(sides, list) or not isinstance(size, list):
        return False
    return any(isinstance(k, int) and k < 1 and n != 0 for k, n in zip(sides, size, strict=False))


def _name(codec: Any) -> Any:
    return codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _nested(codecs: Any) -> list[Any]:
    """Return codecs with those inside of them, as in shards."""
    out = []
    for codec in _listed(codecs):
        out.append(codec)
        inside = codec.get("configuration") if isinstance(codec, dict) else None
        if isinstance(inside, dict):
            out += _nested(inside.get("codecs")) + _nested(inside.get("index_codecs"))
    return out


def _fields(dtype: Any) -> list[str]:
    """Return the types of a plain or a structured dtype."""
    if not isinstance(dtype, list):
        return [str(dtype)]
    return [t for field in dtype for t in _fields(field[1] if len(_listed(field)) > 1 else field)]


def _is_blosc(array: dict[str, Any]) -> bool:
    """Return whether a chunk's bytes are one blosc frame, which names its own length."""
    last = array.get("compressor") or (_listed(array.get("codecs")) or [None])[-1]
    return str(_name(last)).removeprefix("numcodecs.") == "blosc"


def _parents(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:k]) for k in range(len(parts), -1, -1)]
