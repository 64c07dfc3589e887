"""Parts of zarr files of counts that are lost, and parts of zeros that were never stored."""

import json
import shutil
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

import hiercorr as hc
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=[2, 3])
def file(request, tmp_path_factory):
    """An AnnData file with CSR, CSC and dense counts in parts of a few hundred values."""
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, (120, 30))
    obs = pd.DataFrame({"sample": np.repeat(list("abcd"), 30)}, index=[f"c{i}" for i in range(120)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(30)])
    data = ad.AnnData(sparse.csr_matrix(x), obs, var)
    data.layers["csc"], data.layers["dense"] = sparse.csc_matrix(x), x
    path = tmp_path_factory.mktemp("parts") / "a.zarr"
    before = ad.settings.zarr_write_format
    ad.settings.zarr_write_format = request.param
    try:
        data.write_zarr(path)
    finally:
        ad.settings.zarr_write_format = before
    group = zarr.open_group(str(path), mode="a")
    for name in ("X", "layers/csc"):
        for part, size in (("data", 500), ("indices", 500), ("indptr", 40)):
            rewrite(group, f"{name}/{part}", size)
    for name in ("obs/_index", "var/_index"):
        rewrite(group, name, 20)
    rewrite(group, "layers/dense", (40, 30))
    zarr.consolidate_metadata(str(path))
    return path


def stored(group, name):
    """Return the path of an array, which for texts of pandas 3 is within a group."""
    return f"{name}/values" if isinstance(group[name], zarr.Group) else name


def rewrite(group, name, size):
    """Store an array in smaller parts, without those of zeros."""
    name = stored(group, name)
    old = group[name]
    values, attributes = old[:], dict(old.attrs)
    chunks = size if isinstance(size, tuple) else (size,)
    new = group.create_array(name, shape=old.shape, chunks=chunks, dtype=old.dtype, overwrite=True)
    new[:] = values
    new.attrs.update(attributes)


def without_part(file, tmp_path, name, k):
    path = tmp_path / "lost.zarr"
    shutil.copytree(file, path)
    group = zarr.open_group(str(path), mode="r")
    name = stored(group, name)
    array = group[name]
    index = (k,) if array.ndim == 1 else (k, 0)
    (path / name / array.metadata.encode_chunk_key(index)).unlink()
    return path


ARRAYS = [f"{m}/{a}" for m in ("X", "layers/csc") for a in ("data", "indices", "indptr")]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", [*ARRAYS, "obs/_index", "var/_index"])
@pytest.mark.parametrize("k", [0, -1])
def test_lost_parts_are_an_error(file, tmp_path, name, k):
    group = zarr.open_group(str(file), mode="r")
    array = group[stored(group, name)]
    path = without_part(file, tmp_path, name, k % array.nchunks)
    layer = "csc" if "csc" in name else None
    with pytest.raises(hc.InputError, match=r"damaged or incomplete|positions of its entries"):
        read_counts(path, Selection("sample", layer=layer, min_cells=1))


def test_lost_parts_of_dense_counts_are_a_warning(file, tmp_path):
    path = without_part(file, tmp_path, "layers/dense", 1)
    with pytest.warns(hc.DataWarning, match="1 of 3 parts of 'layers/dense' are not stored"):
        read_counts(path, Selection("sample", layer="dense", min_cells=1))


@pytest.mark.parametrize("layer", [None, "csc", "dense"])
def test_whole_files_are_read(file, layer, recwarn):
    counts = read_counts(file, Selection("sample", layer=layer))
    assert counts.n_cells == 120
    assert not [w for w in recwarn if "not stored" in str(w.message)]


def test_parts_of_zeros_are_not_missing(tmp_path):
    x = np.zeros((120, 30), int)
    x[60:, 0] = 3  # the first rows are empty, and all entries are in column 0
    x[90:, 1:] = np.random.default_rng(0).poisson(3.0, (30, 29))
    obs = pd.DataFrame(
        {"sample": np.repeat(list("ab"), 60), "depth": 50.0}, index=[f"c{i}" for i in range(120)]
    )
    path = tmp_path / "zeros.zarr"
    ad.AnnData(sparse.csr_matrix(x), obs).write_zarr(path)
    group = zarr.open_group(str(path), mode="a")
    for part, size in (("data", 5), ("indices", 5), ("indptr", 20)):
        rewrite(group, f"X/{part}", size)
    zarr.consolidate_metadata(str(path))
    assert group["X/indptr"].nchunks_initialized < group["X/indptr"].nchunks
    assert group["X/indices"].nchunks_initialized < group["X/indices"].nchunks
    with hc.counts.sources.open_source(path) as source:
        assert (source.matrix.to_memory().toarray() == x).all()


@pytest.mark.parametrize("array", ["obs/depth", "X/data", "X/indptr", "X"])
def test_edited_shapes_are_errors_at_once(tmp_path, array):
    made, _ = hc.simulate.simulate_counts(3, 10, 4, mean=3.0, within=0.3, seed=1)
    dense = made.X.toarray() if sparse.issparse(made.X) else made.X
    made.X = dense if array == "X" else sparse.csr_matrix(dense)
    path = tmp_path / "a.zarr"
    made.write_zarr(path)
    (path / ".zmetadata").unlink(missing_ok=True)
    for name in (".zarray", "zarr.json"):
        document = path / array / name
        if document.exists():
            described = json.loads(document.read_text())
            document.write_text(
                json.dumps({**described, "shape": [10**9] * len(described["shape"])})
            )
    root = path / "zarr.json"
    if root.exists():
        described = json.loads(root.read_text())
        described.pop("consolidated_metadata", None)
        root.write_text(json.dumps(described))
    start = time.perf_counter()
    with pytest.raises(hc.InputError, match="is damaged"):
        hc.CSCore(path, "sample")
    assert time.perf_counter() - start < 10
