"""Writing of netCDF files: room is reserved first, and HDF5 never sees an error of the disk.

HDF5 may end the process after a failed write.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import xarray as xr

from hiercorr.results.integrity import seal_file
from hiercorr.runtime.drafts import NEED
from hiercorr.runtime.resources import gib

_READ_BACK = 1 << 20  # bytes of the largest write after an error that is kept


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset to a new netCDF-4 file with checksums.

    Raises
    ------
    OSError
        If the disk is full or fails.
    """
    import h5netcdf

    encoding: dict[str, Any] = {}
    for name, variable in dataset.variables.items():
        if not variable.ndim or variable.dtype.kind not in "biufc":
            continue  # HDF5 has no checksums of strings
        encoding[str(name)] = {"fletcher32": True}
        if variable.ndim > 1 and name in dataset.data_vars:
            encoding[str(name)] = {"zlib": True, "complevel": 1, "fletcher32": True}
    with path.open("w+b", buffering=0) as file:
        _reserve(file, _upper_bound(dataset))
        guarded = _Guarded(file)
        try:
            with h5netcdf.File(guarded, "w") as handle:
                store = xr.backends.H5NetCDFStore(handle)
                dataset.dump_to_store(store, encoding=encoding)
        except Exception:
            if guarded.error is None:
                raise
        if guarded.error is not None:
            raise guarded.error
        file.truncate(guarded.size)
        seal_file(file)
        file.flush()
        os.fsync(file.fileno())


def _upper_bound(dataset: xr.Dataset) -> int:
    """Return the most bytes that a dataset may take: without compression, strings on a heap."""
    size = 1 << 20
    for variable in dataset.variables.values():
        if variable.dtype.kind in "OUST":
            size += sum(len(str(v).encode()) + 64 for v in variable.values.ravel())
        else:
            size += int(1.02 * variable.nbytes) + 4096
        size += sum(len(str(v)) + 512 for v in variable.attrs.values())
    return size + sum(2 * len(str(v)) + 512 for v in dataset.attrs.values())


def _reserve(file: Any, size: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # this file system cannot reserve
            return
        setattr(error, NEED, f", which may need {gib(size)}")
        raise


class _Guarded(io.RawIOBase):
    """File that takes all writes, and keeps the first error of the disk for later.

    What HDF5 writes after the error must be read back as written, or it may end the process: it is
    kept in memory, except large blocks of data, which are not read back.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file, self._at = file, 0
        self._kept: list[tuple[int, bytes]] = []  # position and bytes, in the order of writing
        self.size = 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        self.size = self._at if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        """Read bytes at the position."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self.size - self._at))
        try:
            self._file.seek(self._at)
            data = self._file.read(wanted)
        except OSError as error:
            self.error, data = self.error or error, b""
        if self.error is not None:
            data = self._with_kept(data.ljust(wanted, b"\0"))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _with_kept(self, data: bytes) -> bytes:
        """Return bytes from the position on, with what was written after the error."""
        found, begin = bytearray(data), self._at
        for at, kept in self._kept:
            low, high = max(at, begin), min(at + len(kept), begin + len(data))
            if low < high:
                found[low - begin : high - begin] = kept[low - at : high - at]
        return bytes(found)

    def write(self, buffer: Any) -> int:
        """Write bytes at the position; a failure is kept in `error`."""
        view = memoryview(buffer).cast("B")
        n, done = len(view), 0
        try:
            self._file.seek(self._at)
            while done < n and self.error is None:
                done += self._file.write(view[done:])
        except OSError as error:
            self.error = error
        if self.error is not None and n <= _READ_BACK:
            self._kept.append((self._at, bytes(view)))
        self._at += n
        self.size = max(self.size, self._at)
        return n
