"""Results on disk: atomic writing to zarr or netCDF, and reading."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from hiercorr.design.levels import writable_names
from hiercorr.errors import InputError
from hiercorr.results.integrity import (
    LIST,
    MARK,
    check_file,
    check_mark,
    is_sealed,
    open_folder,
    seal_folder,
    warn_unchecked,
)
from hiercorr.results.netcdf import write_netcdf
from hiercorr.runtime.drafts import Draft, recover
from hiercorr.runtime.files import check_free, is_there
from hiercorr.runtime.zarr_store import ZARR_DOCUMENTS
from hiercorr.schema import GENE_TEXTS, LAYERS


def check_target(path: Path, overwrite: bool) -> None:
    """Raise an error if a result could not be saved under this name, before it is computed."""
    if path.suffix not in (".zarr", ".nc"):
        raise InputError(f"cannot save as {path.name!r}: the name must end in .zarr or .nc")
    check_free(path, overwrite)
    if path.suffix == ".zarr" and path.is_dir() and not _is_result(path):
        raise InputError(
            f"{str(path)!r} is a folder that is not a result of hiercorr, such as counts: it is "
            "not replaced, even with overwrite=True; choose another name"
        )


def _is_result(path: Path) -> bool:
    """Return whether a folder contains a result, intact or not, and may be replaced."""
    return is_sealed(path) or "schema_version" in _attributes(path)


def _attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a zarr folder itself; empty if they cannot be read."""
    for name, within in ((".zattrs", None), ("zarr.json", "attributes")):
        try:
            content = json.loads((path / name).read_bytes())
            return dict(content if within is None else content[within])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def write_dataset(dataset: xr.Dataset, path: Path, overwrite: bool) -> Path:
    """Write to a temporary folder next to `path`, then move the result into place."""
    _check_names(dataset)
    with open_draft(path, overwrite) as draft:
        if path.suffix == ".nc":
            write_netcdf(dataset, draft.path)
        else:
            as_zarr(dataset, draft.path, mode="w")
        draft.into_place()
    return path


def _check_names(dataset: xr.Dataset) -> None:
    """Raise an error if a name of a gene, a sample or an option could not be written."""
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OUT":
            writable_names(f"{name!r} of this result", variable.values.ravel())
    writable_names("an attribute of this result", dataset.attrs.values())


def open_draft(path: Path, overwrite: bool) -> Draft:
    """Open the draft of a result, if it could be saved under this name."""
    recover(path, is_sealed)
    check_target(path, overwrite)
    return Draft(path, is_sealed)


def as_zarr(dataset: xr.Dataset, path: Path, mode: Literal["w", "a"]) -> None:
    """Write a dataset to a new or an existing zarr folder, and the checksums of all files."""
    plain_attrs = dataset.assign_attrs(
        {**{k: plain(v) for k, v in dataset.attrs.items()}, MARK: f"of all files: {LIST}"}
    )
    for variable in plain_attrs.variables.values():
        variable.attrs = {k: plain(v) for k, v in variable.attrs.items()}
    plain_attrs.to_zarr(path, mode=mode, zarr_format=2, consolidated=True)
    seal_folder(path)


def plain(value: Any) -> Any:
    """Convert an attribute to a type that JSON, and so zarr, can store."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def read_dataset(path: Path, lazy: bool = False) -> xr.Dataset:
    """Read a dataset into memory, or open it and leave the values on disk.

    Every byte is compared with the checksums of the result; with `lazy`, when it is read.
    """
    recover(path, is_sealed)
    _check_format(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.is_dir():
                source: Any = open_folder(path)
                engine, checked = "zarr", source.files is not None
            else:
                source, engine, checked = path, "h5netcdf", check_file(path)
            if lazy:
                dataset = xr.open_dataset(source, engine=engine, mask_and_scale=False, cache=False)
            else:
                with xr.open_dataset(source, engine=engine, mask_and_scale=False) as opened:
                    dataset = opened.load()
    except InputError:
        raise
    except Exception as error:  # backends raise many types of errors for damaged files
        raise InputError(
            f"cannot read {str(path)!r} as a hiercorr result ({type(error).__name__}: {error})"
        ) from error
    check_mark(path, dataset.attrs)
    if not checked and "schema_version" in dataset.attrs:
        warn_unchecked(path, dataset.attrs)
    for variable in dataset.variables.values():
        variable.encoding = {}
        variable.attrs.pop("_FillValue", None)
        if "flag_masks" in variable.attrs:
            variable.attrs["flag_masks"] = np.atleast_1d(
                np.asarray(variable.attrs["flag_masks"], np.uint16)
            )
    for name in ("gene", "partner", "target", "sample", *LAYERS, "coefficient"):
        if name in dataset.coords:
            dataset = dataset.assign_coords({name: dataset[name].values.astype(object)})
    for name in GENE_TEXTS:
        if name in dataset:
            dataset[name] = dataset[name].astype(object)
    dataset.attrs = {k: _unwrapped(v) for k, v in dataset.attrs.items()}
    return dataset


def _check_format(path: Path) -> None:
    """Raise an error if there is no result of this name, as far as names and first bytes tell."""
    import h5py

    if not is_there(path):
        raise InputError(f"no such result: {str(path)!r}")
    if path.is_dir():
        if any((path / name).exists() for name in (LIST, *ZARR_DOCUMENTS)):
            return
        if path.suffix == ".zarr":
            raise InputError(f"cannot read {str(path)!r}: it is no zarr folder; is it complete?")
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".zarr", ".nc"))[:3]
        within = f", such as {', '.join(inside)} in it" if inside else ""
        raise InputError(
            f"{str(path)!r} is a folder, but no result: results are folders that end in .zarr and "
            f"files that end in .nc{within}"
        )
    if not h5py.is_hdf5(path):
        if path.suffix == ".nc":
            raise InputError(f"cannot read {str(path)!r}: it is not HDF5; is the file complete?")
        raise InputError(
            f"{str(path)!r} is not a result: results are folders that end in .zarr and files that "
            "end in .nc"
        )


def _unwrapped(value: Any) -> Any:
    return (
        value.item()
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
        else value
    )
