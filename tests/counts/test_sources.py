"""Counts from every kind of matrix and file: the same numbers, or a refusal of what is damaged."""

import h5py
import numpy as np
import pytest
from anndata import AnnData
from anndata import read_h5ad as read
from scipy import sparse

import hiercorr as hc
from tests.counts.support import counts, same
from tests.support import read_counts


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "float", "fortran", "view"])
def test_matrix_kinds(adata, kind):
    other = adata.copy()
    other.X = {
        "csr": lambda x: x,
        "csc": lambda x: x.tocsc(),
        "dense": lambda x: x.toarray(),
        "view": lambda x: x,
        "float": lambda x: x.astype(np.float64),
        "fortran": lambda x: np.asfortranarray(x.toarray()),
    }[kind](adata.X)
    other = other[:, :] if kind == "view" else other
    same(counts(other), counts(adata))


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("where", ["h5ad", "zarr", "backed"])
def test_files(adata, tmp_path, form, where):
    adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[form]
    path = tmp_path / f"a.{'zarr' if where == 'zarr' else 'h5ad'}"
    adata.write_zarr(path) if where == "zarr" else adata.write_h5ad(path)
    source = read(path, backed="r") if where == "backed" else path
    same(counts(source), counts(adata))
    same(
        counts(source, genes=["gene3", "gene1"], subset={"cell_type": "D1"}),
        counts(adata, genes=["gene3", "gene1"], subset={"cell_type": "D1"}),
    )


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("layer", [None, "counts", "raw"])
def test_selections_of_backed_objects(adata, tmp_path, form, layer):
    """Selections that anndata cannot read raise an error; all others equal those in memory."""
    adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[form]
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed, every, read_ = read(tmp_path / "a.h5ad", backed="r"), slice(None), 0
    back, shuffled = slice(None, None, -1), np.r_[5, 3, 1, 10 : adata.n_obs]
    for part in [(back,), (every, back), (slice(-60, None),), (slice(90, 9, -1),), (shuffled,)]:
        expected = counts(adata[part], layer=layer)
        try:
            found = counts(backed[part], layer=layer)
        except hc.InputError as error:
            assert "selection of a backed object" in str(error)  # noqa: PT017
        else:
            same(found, expected)
            read_ += 1
    assert read_ > 0


def test_blocks_of_any_size(adata, tmp_path, monkeypatch):
    from hiercorr.counts import sources

    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    whole = counts(adata)
    monkeypatch.setattr(sources, "_BLOCK_VALUES", 50)
    same(counts(path), whole)
    adata.X = adata.X.tocsc()
    same(counts(adata), whole)
    adata.X = adata.X.toarray()
    same(counts(adata), whole)


def test_layer_and_raw(adata, tmp_path):
    expected = counts(adata)
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    same(counts(adata, layer="counts"), expected)
    same(counts(adata, layer="raw"), expected)
    adata.write_h5ad(tmp_path / "a.h5ad")
    same(counts(tmp_path / "a.h5ad", layer="counts"), expected)
    same(counts(tmp_path / "a.h5ad", layer="raw"), expected)
    for source in (adata, tmp_path / "a.h5ad"):
        with pytest.raises(hc.InputError, match=r"log-normalised.*layer='counts' or layer='raw'"):
            counts(source)


def test_10x_file(adata, tmp_path):
    path = tmp_path / "filtered.h5"
    x = adata.X.tocsr()
    with h5py.File(path, "w") as f:
        m = f.create_group("matrix")
        m["data"], m["indices"], m["indptr"] = x.data, x.indices, x.indptr
        m["shape"] = np.array(x.shape[::-1])
        m["barcodes"] = np.array([f"AC{i}-{1 + i // 30}" for i in range(x.shape[0])], dtype="S")
        g = m.create_group("features")
        g["name"] = np.array([*adata.var_names[:-1], "gene0"], dtype="S")
        g["id"] = np.array([f"ENSG{j}" for j in range(8)], dtype="S")
        g["feature_type"] = np.array(["Gene Expression"] * 8, dtype="S")
    with pytest.warns(hc.DataWarning, match="only 8 genes"):
        got = read_counts(path, sample="library")
    np.testing.assert_array_equal(got.toarray(), counts(adata).toarray())
    assert list(got.samples) == ["1", "2", "3", "4"]
    assert got.genes[0] == "gene0_ENSG0"
    assert got.genes[-1] == "gene0_ENSG7"


def test_repeated_entries_add_up(adata):
    c = adata.X.tocsr()
    order = np.repeat(np.arange(c.nnz), 2)
    parts = np.column_stack([c.data // 2, c.data - c.data // 2]).ravel()
    noncanonical = sparse.csr_matrix((parts, c.indices[order], c.indptr * 2), shape=c.shape)
    assert not noncanonical.has_canonical_format
    before = noncanonical.data.copy()
    twice = AnnData(noncanonical, obs=adata.obs, var=adata.var)
    np.testing.assert_array_equal(counts(twice).toarray(), counts(adata).toarray())
    np.testing.assert_array_equal(noncanonical.data, before)


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "no obs"])
def test_damaged_files(adata, tmp_path, damage):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "text":
            path.write_text("not a file of counts")
        case "missing":
            path = tmp_path / "b.h5ad"
        case "no obs":
            with h5py.File(path, "a") as f:
                del f["obs"]
    with pytest.raises(hc.InputError, match="no such file" if damage == "missing" else r"a\.h5ad"):
        counts(path)


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("part", ["indices", "indptr"])
def test_positions_outside_of_the_matrix(adata, tmp_path, form, part):
    """Of a file or in memory: nothing compiled may follow them."""
    path = tmp_path / "a.h5ad"
    adata.X = getattr(adata.X, f"to{form}")()
    adata.write_h5ad(path)
    with h5py.File(path, "a") as f:
        f["X"][part][3] = 10**7 if part == "indices" else -5
    with pytest.raises(hc.InputError, match=r"is damaged: positions|cannot read"):
        counts(path)
    getattr(adata.X, part)[3] = 10**7 if part == "indices" else -5
    with pytest.raises(hc.InputError, match=r"is damaged: positions"):
        counts(adata)


def test_not_a_source():
    with pytest.raises(hc.InputError, match=r"wrap an array as anndata\.AnnData"):
        hc.CSCore(np.ones((3, 3)), sample="sample")


@pytest.mark.parametrize("dtype", ["object", "float16", "complex128"])
@pytest.mark.parametrize("layer", [None, "other"])
def test_a_matrix_of_odd_type_is_named(small, dtype, layer):
    adata = small.copy()
    values = np.asarray(adata.X.toarray() if sparse.issparse(adata.X) else adata.X).astype(dtype)
    if layer is None:
        adata.X = values
    else:
        adata.layers[layer] = values
    with pytest.raises(hc.InputError, match=f"has values of the type {dtype}: convert them"):
        hc.CSCore(adata, "sample", layer=layer)
