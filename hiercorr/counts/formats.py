"""Formats of files of counts: which one a path has, and readers of those without a library."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from hiercorr.counts.modalities import FEATURE_TYPES
from hiercorr.errors import InputError, unknown_name
from hiercorr.runtime.zarr_store import ZARR_DOCUMENTS

READ = ".h5ad, .h5mu, .zarr, 10x .h5 or a 10x folder with matrix.mtx"
LIBRARY = "library"  # column of obs of a 10x file
_GROUP = {"data", "indices", "indptr", "shape", "barcodes"}  # of a matrix of Cell Ranger
_ELSEWHERE = {  # formats that other packages read, and how
    ".csv": "anndata.io.read_csv(path)",
    ".tsv": "anndata.io.read_text(path)",
    ".txt": "anndata.io.read_text(path)",
    ".loom": "anndata.io.read_loom(path)",
    ".xlsx": "anndata.io.read_excel(path, sheet)",
}
_FROM_R = (".rds", ".rda", ".rdata", ".h5seurat", ".qs")


def recognise(path: Path) -> str:
    """Return the format of counts on disk.

    Returns
    -------
    {"zarr", "mtx", "h5ad", "old h5ad", "h5mu", "10x", "cell ranger 2"}

    Raises
    ------
    InputError
        If it is another format, with the way to convert it, or none.
    """
    if path.is_dir():
        if any((path / name).exists() for name in ZARR_DOCUMENTS):
            return "zarr"
        if _matrices(path):
            return "mtx"
        if path.suffix == ".zarr":
            raise InputError(f"{str(path)!r} is not a zarr folder: is it complete?")
        raise InputError(
            f"the folder {str(path)!r} has no counts: neither zarr nor a file ...matrix.mtx or "
            "...matrix.mtx.gz of 10x"
        )
    import h5py

    if not h5py.is_hdf5(path):
        raise _not_hdf5(path)
    with h5py.File(path, "r") as handle:
        return _of_hdf5(handle, path)


def _of_hdf5(handle: Any, path: Path) -> str:
    import h5py

    names = set(handle)
    if "mod" in names:
        return "h5mu"
    if {"row_attrs", "col_attrs"} <= names:
        raise _convert(path, "is a loom file", _ELSEWHERE[".loom"])
    if "correlation" in names:
        raise InputError(f"{str(path)!r} is a result: open it with hiercorr.load")
    if {"obs", "var"} <= names:
        old = isinstance(handle["obs"], h5py.Dataset) or "encoding-type" not in handle["obs"].attrs
        return "old h5ad" if old else "h5ad"
    if "matrix" in names and "features" in handle["matrix"]:
        return "10x"
    if {"assays", "meta.data"} <= names:
        raise _from_r(path)
    if names and all(set(_keys(handle[n])) >= _GROUP for n in names):
        return "cell ranger 2"
    raise InputError(
        f"{str(path)!r} is an HDF5 file without counts in a known place (it has "
        f"{', '.join(sorted(names)[:6]) or 'nothing'}); counts are read from {READ}"
    )


def _keys(element: Any) -> list[str]:
    return list(element) if hasattr(element, "keys") else []


def _not_hdf5(path: Path) -> InputError:
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    kind = suffix.lower().removesuffix(".gz")
    if kind == ".mtx":
        return InputError(
            f"{str(path)!r} is one file of a 10x folder: pass the folder, which has the barcodes "
            "and the features as well"
        )
    if kind in _FROM_R:
        return _from_r(path)
    if kind in _ELSEWHERE and kind != ".loom":
        return _convert(path, f"is a {kind} file", _ELSEWHERE[kind])
    if kind in (".h5ad", ".h5", ".hdf5", ".loom", ".h5mu"):
        return InputError(
            f"cannot read {str(path)!r} as {READ}: it is not HDF5; is the file complete?"
        )
    return InputError(f"{str(path)!r} has no known format; counts are read from {READ}")


def _convert(path: Path, what: str, how: str) -> InputError:
    return InputError(
        f"{str(path)!r} {what}, which is not read directly: convert it with "
        f"{how}.write_h5ad('counts.h5ad')"
    )


def _from_r(path: Path) -> InputError:
    return InputError(
        f"{str(path)!r} is an R object: convert it in R, e.g. with zellkonverter::writeH5AD or "
        "anndataR::write_h5ad, with raw counts in X"
    )


def feature_names(
    symbols: np.ndarray, identifiers: np.ndarray, kinds: np.ndarray | None = None
) -> np.ndarray:
    """Return gene symbols; those that a 10x reference repeats in a type, with their identifier."""
    symbols, identifiers = np.asarray(symbols, str), np.asarray(identifiers, str)
    table = pd.DataFrame({"symbol": symbols, "kind": "" if kinds is None else kinds})
    repeated = table.duplicated(keep=False).to_numpy()
    return np.where(repeated, np.char.add(np.char.add(symbols, "_"), identifiers), symbols)


def feature_table(names: np.ndarray, identifiers: np.ndarray, kinds: Any = None) -> pd.DataFrame:
    """Return the feature table of a 10x file, with the columns that scanpy writes."""
    var = pd.DataFrame({"gene_ids": np.asarray(identifiers, str)}, index=pd.Index(names))
    return var if kinds is None else var.assign(**{FEATURE_TYPES: np.asarray(kinds, str)})


def libraries(barcodes: pd.Index) -> pd.DataFrame:
    """Return the cell table of a 10x file: the library is the suffix of the barcode."""
    library = pd.Series(barcodes).str.rpartition("-")[2].to_numpy()
    return pd.DataFrame({LIBRARY: library}, index=barcodes.astype(str))


def unknown_column(kind: str, name: object, obs: pd.DataFrame) -> InputError:
    """Build the error for an unknown column of cells; a 10x file has none of the user's.

    Parameters
    ----------
    kind : str
        Kind of column, e.g. ``"sample column"``.
    name : object
        Name that was given.
    obs : DataFrame
        Cells.
    """
    error = unknown_name(kind, name, obs.columns)
    if list(obs.columns) != [LIBRARY]:
        return error
    return InputError(
        f"{error} (the suffix of the barcodes of a 10x file, which has no other columns of cells): "
        "add your table of cells to obs of the AnnData, and save it as .h5ad"
    )


def read_cell_ranger_2(path: Path) -> ad.AnnData:
    """Read a feature-barcode matrix of Cell Ranger 2, a group per genome."""
    import h5py

    with h5py.File(path, "r") as handle:
        if len(handle) > 1:
            raise InputError(
                f"{str(path)!r} has the genomes {', '.join(handle)}: convert the one to analyse "
                "with scanpy.read_10x_h5(path, genome=...).write_h5ad('counts.h5ad')"
            )
        m = handle[next(iter(handle))]
        text = {
            k: np.char.decode(np.asarray(m[k][:]).astype("S"), "utf-8")
            for k in ("gene_names", "genes", "barcodes")
        }
        n_genes, n_cells = (int(v) for v in m["shape"][:])
        counts = sparse.csr_matrix(
            (m["data"][:], m["indices"][:], m["indptr"][:]), shape=(n_cells, n_genes)
        )
    names = feature_names(text["gene_names"], text["genes"])
    obs = libraries(pd.Index(text["barcodes"]))
    return ad.AnnData(counts, obs=obs, var=feature_table(names, text["genes"]))


def read_mtx_folder(path: Path) -> ad.AnnData:
    """Read a 10x folder: matrix.mtx, barcodes.tsv and features.tsv or genes.tsv, also gzipped."""
    from scipy.io import mmread

    found = _matrices(path)
    if len(found) > 1:
        raise InputError(
            f"{str(path)!r} has several matrices, {', '.join(p.name for p in found[:4])}: put each "
            "into a folder of its own"
        )
    prefix = found[0].name.partition("matrix.mtx")[0]
    barcodes = _table(path, prefix, "barcodes.tsv")
    features = _table(path, prefix, "features.tsv", "genes.tsv")
    counts = mmread(found[0])
    shape = (len(features), len(barcodes))
    if counts.shape != shape:
        raise InputError(
            f"{found[0].name!r} is {counts.shape[0]} x {counts.shape[1]}, but there are "
            f"{shape[0]} features and {shape[1]} barcodes: 10x writes features x barcodes"
        )
    kinds = features[2].to_numpy() if features.shape[1] > 2 else None
    names = feature_names(features[min(1, features.shape[1] - 1)], features[0], kinds)
    counts = sparse.csr_matrix(sparse.coo_matrix(counts).T)
    obs = libraries(pd.Index(barcodes[0]))
    return ad.AnnData(counts, obs=obs, var=feature_table(names, features[0], kinds))


def _matrices(folder: Path) -> list[Path]:
    return sorted(p for e in ("", ".gz") for p in folder.glob(f"*matrix.mtx{e}"))


def _table(folder: Path, prefix: str, *names: str) -> pd.DataFrame:
    """Read a table without quoting, in which every entry is text, such as a gene named NA."""
    for name in names:
        for end in ("", ".gz"):
            path = folder / f"{prefix}{name}{end}"
            if path.exists():
                opened = gzip.open if end else open
                with opened(path, "rt", encoding="utf-8") as file:
                    rows = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
                return pd.DataFrame(rows, dtype=object)
    raise InputError(
        f"the folder {str(folder)!r} has no {' or '.join(prefix + n for n in names)}, also not "
        "gzipped: is it complete?"
    )
