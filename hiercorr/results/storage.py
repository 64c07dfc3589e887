"""Results on disk: atomic writing to zarr or netCDF, and reading."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from hiercorr.errors import InputError
from hiercorr.runtime.files import refuse_code


def check_target(path: Path, overwrite: bool) -> None:
    """Raise an error if a result could not be saved under this name, before it is computed."""
    if path.suffix not in (".zarr", ".nc"):
        raise InputError(f"cannot save as {path.name!r}: the name must end in .zarr or .nc")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    if not path.parent.is_dir():
        raise InputError(
            f"cannot save to path={str(path)!r}: there is no folder {str(path.parent)!r}"
        )


def write_dataset(dataset: xr.Dataset, path: Path, overwrite: bool) -> Path:
    """Write to a temporary folder next to `path`, then move the result into place."""
    check_target(path, overwrite)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        draft = scratch / path.name
        if path.suffix == ".nc":
            compress = {
                str(n): {"zlib": True, "complevel": 1}
                for n, v in dataset.data_vars.items()
                if v.ndim > 1
            }
            dataset.to_netcdf(draft, engine="h5netcdf", encoding=compress)
        else:
            as_zarr(dataset, draft, mode="w")
        into_place(draft, path, scratch)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(scratch)
    return path


def as_zarr(dataset: xr.Dataset, path: Path, mode: Literal["w", "a"]) -> None:
    """Write a dataset to a new or an existing zarr folder."""
    plain_attrs = dataset.assign_attrs({k: plain(v) for k, v in dataset.attrs.items()})
    for variable in plain_attrs.variables.values():
        variable.attrs = {k: plain(v) for k, v in variable.attrs.items()}
    plain_attrs.to_zarr(path, mode=mode, zarr_format=2, consolidated=True)


def into_place(draft: Path, path: Path, scratch: Path) -> None:
    """Move a finished draft to its final name; restore the replaced file if that fails."""
    old = scratch / "replaced"
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(draft, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise


def plain(value: Any) -> Any:
    """Convert an attribute to a type that JSON, and so zarr, can store."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def read_dataset(path: Path, lazy: bool = False) -> xr.Dataset:
    """Read a dataset into memory, or open it and leave the values on disk."""
    if not path.exists():
        raise InputError(f"no such result: {str(path)!r}")
    if path.is_dir():
        refuse_code(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine = "zarr" if path.is_dir() else "h5netcdf"
            if lazy:
                dataset = xr.open_dataset(path, engine=engine, mask_and_scale=False, cache=False)
            else:
                with xr.open_dataset(path, engine=engine, mask_and_scale=False) as opened:
                    dataset = opened.load()
    except Exception as error:  # backends raise many types of errors for damaged files
        raise InputError(
            f"cannot read {str(path)!r} as a hiercorr result ({type(error).__name__}: {error})"
        ) from error
    for variable in dataset.variables.values():
        variable.encoding = {}
        variable.attrs.pop("_FillValue", None)
        if "flag_masks" in variable.attrs:
            variable.attrs["flag_masks"] = np.atleast_1d(
                np.asarray(variable.attrs["flag_masks"], np.uint16)
            )
    for name in ("gene", "partner", "target", "sample", "group", "coefficient"):
        if name in dataset.coords:
            dataset = dataset.assign_coords({name: dataset[name].values.astype(object)})
    dataset.attrs = {k: _unwrapped(v) for k, v in dataset.attrs.items()}
    return dataset


def _unwrapped(value: Any) -> Any:
    return (
        value.item()
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
        else value
    )
