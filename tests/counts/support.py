"""Reading and comparing counts; the same data as every source that can be read."""

import gzip
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from tests.support import read_counts

MODALITIES = {"prot": "Antibody Capture", "rna": "Gene Expression"}


def counts(source, **options):
    return read_counts(source, **{"sample": "sample", "depth": "depth", **options})


def same(a, b):
    np.testing.assert_array_equal(a.toarray(), b.toarray())
    np.testing.assert_array_equal(a.depth, b.depth)
    np.testing.assert_array_equal(a.starts, b.starts)
    assert list(a.genes) == list(b.genes)
    assert list(a.samples) == list(b.samples)


def mtx(adata, path):
    path.mkdir()
    kinds = adata.var.get("feature_types", pd.Series("Gene Expression", adata.var_names))
    with gzip.open(path / "features.tsv.gz", "wt") as f:
        names = adata.var.get("symbol", adata.var_names)
        rows = zip(adata.var_names, names, kinds, strict=True)
        f.writelines("\t".join(row) + "\n" for row in rows)
    with gzip.open(path / "barcodes.tsv.gz", "wt") as f:
        f.writelines(f"{n}\n" for n in adata.obs_names)
    with gzip.open(path / "matrix.mtx.gz", "wb") as f:
        mmwrite(f, sparse.coo_matrix(adata.X.T.astype(np.int64)))
    return path


def tenx(adata, path):
    kinds = adata.var.get("feature_types", pd.Series("Gene Expression", adata.var_names))
    with h5py.File(path.with_suffix(".h5"), "w") as f:
        m, x = f.create_group("matrix"), adata.X
        m["data"], m["indices"], m["indptr"] = x.data.astype(np.int64), x.indices, x.indptr
        m["shape"] = np.array(x.shape[::-1])
        m["barcodes"] = np.array(adata.obs_names, dtype="S")
        features = m.create_group("features")
        features["id"] = np.array(adata.var_names, dtype="S")
        features["name"] = np.array(adata.var.get("symbol", adata.var_names), dtype="S")
        features["feature_type"] = np.array(list(kinds), dtype="S")
    return path.with_suffix(".h5")


def written(adata, path, end):
    path = path.with_suffix(end)
    getattr(adata, f"write_{end[1:]}")(path)
    return path


def backed(adata, path):
    return ad.read_h5ad(written(adata, path, ".h5ad"), backed="r")


def with_x(adata, make):
    other = adata.copy()
    other.X = make(adata.X)
    return other


def dask_array(adata, path):
    dask = pytest.importorskip("dask.array")
    return with_x(adata, lambda x: dask.from_array(x.toarray(), chunks=(170, 130)))


def mudata(adata, path):
    """One modality per type of features."""
    library = pytest.importorskip("mudata")
    if "feature_types" not in adata.var:
        parts = {"rna": adata}
    else:
        kinds = adata.var["feature_types"]
        parts = {name: adata[:, kinds == kind].copy() for name, kind in MODALITIES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library.MuData(parts)


def h5mu(adata, path):
    data = mudata(adata, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(path.with_suffix(".h5mu"))
    return path.with_suffix(".h5mu")


def with_raw(adata):
    other = ad.AnnData(adata.X * 0.5, obs=adata.obs, var=adata.var[[]])
    other.raw = adata
    return other


DOORS = {
    "AnnData": lambda a, path: a,
    "CSC": lambda a, path: with_x(a, sparse.csc_matrix),
    "dense": lambda a, path: with_x(a, lambda x: x.toarray()),
    "raw": lambda a, path: with_raw(a),
    "backed": backed,
    "Dask array": dask_array,
    "h5ad": lambda a, path: written(a, path, ".h5ad"),
    "zarr": lambda a, path: written(a, path, ".zarr"),
    "10x h5": tenx,
    "10x folder": mtx,
    "MuData": mudata,
    "h5mu": h5mu,
}
