"""Files of counts of every format: the same numbers, or the way to convert them."""

import gzip

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

import hiercorr as hc
from hiercorr.counts.formats import recognise
from hiercorr.counts.sources import blocks, open_source
from hiercorr.reporting.methods_text import methods_text
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def made():
    adata, _ = simulate_counts(4, 30, 6, mean=4, within=0.3, seed=3)
    adata.X = sparse.csr_matrix(adata.X)
    adata.obs_names = [f"AC{i}-{1 + i // 30}" for i in range(adata.n_obs)]
    adata.var_names = ["A", "B", "NA", "D", "E", "F"]
    return adata


def write_folder(adata, folder, prefix="", version=3, zipped=True):
    folder.mkdir(exist_ok=True)
    end = ".gz" if zipped else ""
    opened = gzip.open if zipped else open
    genes = pd.DataFrame({"id": [f"ENSG{j}" for j in range(adata.n_vars)], "n": adata.var_names})
    if version == 3:
        genes["type"] = ["Gene Expression"] * (adata.n_vars - 1) + ["Antibody Capture"]
    name = "features" if version == 3 else "genes"
    with opened(folder / f"{prefix}{name}.tsv{end}", "wt") as f:
        f.writelines("\t".join(row) + "\n" for row in genes.to_numpy())
    with opened(folder / f"{prefix}barcodes.tsv{end}", "wt") as f:
        f.writelines(b + "\n" for b in adata.obs_names)
    with opened(folder / f"{prefix}matrix.mtx{end}", "wb") as f:
        mmwrite(f, sparse.coo_matrix(adata.X.T.astype(np.int64)))
    return folder


def write_cell_ranger_2(adata, path, genomes=("GRCh38",)):
    with h5py.File(path, "w") as f:
        for genome in genomes:
            m, x = f.create_group(genome), adata.X
            m["data"], m["indices"], m["indptr"] = x.data, x.indices, x.indptr
            m["shape"] = np.array(x.shape[::-1])
            m["barcodes"] = np.array(adata.obs_names, dtype="S")
            m["gene_names"] = np.array(adata.var_names, dtype="S")
            m["genes"] = np.array([f"ENSG{j}" for j in range(adata.n_vars)], dtype="S")
    return path


def write_old(adata, path):
    """Write a file as anndata before 0.7: compound tables and the attributes of h5sparse."""
    with h5py.File(path, "w") as f:
        cells = zip(adata.obs_names, adata.obs["sample"], strict=True)
        kind = [("index", "S20"), ("sample", "S20")]
        f["obs"] = np.array([(n.encode(), s.encode()) for n, s in cells], kind)
        f["var"] = np.array([(n.encode(),) for n in adata.var_names], dtype=[("index", "S20")])
        x = f.create_group("X")
        x["data"], x["indices"], x["indptr"] = adata.X.data, adata.X.indices, adata.X.indptr
        x.attrs["h5sparse_format"] = "csr"
        x.attrs["h5sparse_shape"] = np.array(adata.shape)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("prefix", ["", "GSM1_"])
def test_10x_folders(made, tmp_path, prefix, version, zipped):
    folder = write_folder(made, tmp_path / "filtered", prefix, version, zipped)
    assert recognise(folder) == "mtx"
    wanted = made.X.toarray()[:, : 5 if version == 3 else 6]
    with open_source(folder) as source:
        np.testing.assert_array_equal(next(iter(blocks(source)))[2].toarray(), wanted)
        assert source.shape == wanted.shape
        assert list(source.genes) == list(made.var_names)[: wanted.shape[1]]
        assert list(source.obs.index) == list(made.obs_names)
        assert set(source.obs["library"]) == {"1", "2", "3", "4"}
        assert source.name == "filtered"
    assert hc.aggregate(folder, "library", min_counts=0).n_obs == 4
    assert hc.CSCore(folder, "library").counts.n_samples == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda d: hc.CSCore(d, "donor"),
        lambda d: hc.Pseudobulk(d, "donor"),
        lambda d: hc.aggregate(d, "library", cell_type="donor"),
        lambda d: hc.check_design(d, "donor"),
        lambda d: hc.CSCore(d, "library", depth="donor"),
        lambda d: hc.CSCore(d, "library", subset={"donor": "a"}),
        lambda d: hc.analyze(d, d.parent / "out", sample="donor", target="A"),
    ],
)
def test_columns_of_cells_are_not_in_a_10x_file(made, tmp_path, call):
    folder = write_folder(made, tmp_path / "filtered", "", 3, True)
    with pytest.raises(hc.InputError, match=r"'donor'; there are: 'library' \(the suffix.*\.h5ad"):
        call(folder)


def test_cell_ranger_2(made, tmp_path):
    path = write_cell_ranger_2(made, tmp_path / "a.h5")
    with open_source(path) as source:
        np.testing.assert_array_equal(source.matrix.toarray(), made.X.toarray())
        assert list(source.genes) == list(made.var_names)
    with pytest.raises(hc.InputError, match=r"has the genomes hg19, mm10.*read_10x_h5"):
        hc.CSCore(write_cell_ranger_2(made, tmp_path / "b.h5", ("hg19", "mm10")), "library")


def test_files_of_old_anndata(made, tmp_path):
    path = write_old(made, tmp_path / "old.h5ad")
    assert recognise(path) == "old h5ad"
    with open_source(path) as source:
        np.testing.assert_array_equal(source.matrix.toarray(), made.X.toarray())
        assert list(source.genes) == list(made.var_names)
    assert list(hc.CSCore(path, "sample").counts.samples) == ["s1", "s2", "s3", "s4"]


def hdf5(path, *groups, values=()):
    with h5py.File(path, "w") as f:
        for g in groups:
            f.create_group(g)
        for v in values:
            f[v] = np.zeros(3)
    return path


def text(path):
    path.write_text("x,y\n1,2\n")
    return path


def folder(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_text("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1\n")
    return path


OTHERS = {
    "loom": (lambda p: hdf5(p / "a.loom", "row_attrs", "col_attrs"), r"loom file.*read_loom"),
    "csv": (lambda p: text(p / "a.csv"), r"read_csv\(path\)\.write_h5ad"),
    "csv.gz": (lambda p: text(p / "a.csv.gz"), r"is a .csv file"),
    "mtx": (lambda p: text(p / "matrix.mtx.gz"), "pass the folder"),
    "rds": (lambda p: text(p / "a.rds"), "zellkonverter"),
    "h5seurat": (lambda p: hdf5(p / "a.h5seurat", "assays", "meta.data"), "zellkonverter"),
    "unknown": (lambda p: text(p / "a.bin"), "no known format"),
    "not HDF5": (lambda p: text(p / "a.h5ad"), "is the file complete"),
    "other HDF5": (lambda p: hdf5(p / "a.h5", "stuff"), "it has stuff"),
    "empty HDF5": (lambda p: hdf5(p / "a.h5"), "it has nothing"),
    "result": (lambda p: hdf5(p / "r.nc", values=["correlation", "flag"]), "hiercorr.load"),
    "folder": (lambda p: folder(p / "f"), "has no counts"),
    "zarr": (lambda p: folder(p / "f.zarr"), "is it complete"),
    "barcodes": (lambda p: folder(p / "f", "matrix.mtx"), "no barcodes.tsv"),
    "matrices": (lambda p: folder(p / "f", "a_matrix.mtx", "b_matrix.mtx"), "several matrices"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_the_way_for_other_formats_is_named(tmp_path, kind):
    make, message = OTHERS[kind]
    for door in (lambda p: hc.CSCore(p, "library"), lambda p: hc.aggregate(p, "library")):
        path = tmp_path / f"x{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        with pytest.raises(hc.InputError, match=message):
            door(make(path))


def without_x(made, *parts):
    raw = ad.AnnData(made.X, made.obs, made.var) if "raw" in parts else None
    found = ad.AnnData(None, made.obs.copy(), made.var.copy())
    if "counts" in parts:
        found.layers["counts"] = made.X
    if "umap" in parts:
        found.obsm["umap"] = np.zeros((made.n_obs, 2))
    if raw is not None:
        found.raw = raw
    return found


WITHOUT_X = {
    ("counts",): r"has no X: name where the counts are with layer='counts'$",
    ("raw",): r"has no X: name where the counts are with layer='raw'$",
    ("counts", "raw"): r"with layer='counts' or layer='raw'$",
    ("umap",): r"has no counts: no X, no layers and no raw, only tables .* obsm \('umap'\); raw",
    (): r"has no counts: no X, no layers and no raw; raw counts of cells x genes are needed",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("parts", WITHOUT_X, ids=str)
@pytest.mark.parametrize("kind", ["memory", "h5ad", "zarr", "backed"])
def test_data_without_x_name_what_they_have(made, tmp_path, kind, parts):
    data = without_x(made, *parts)
    if kind in ("h5ad", "backed"):
        data.write_h5ad(tmp_path / "a.h5ad")
        data = tmp_path / "a.h5ad"
        data = ad.read_h5ad(data, backed="r") if kind == "backed" else data
    if kind == "zarr":
        data.write_zarr(tmp_path / "a.zarr")
        data = tmp_path / "a.zarr"
    with pytest.raises(hc.InputError, match=WITHOUT_X[parts]):
        hc.CSCore(data, "sample")
    for layer in {"counts", "raw"} & set(parts):
        assert hc.CSCore(data, "sample", layer=layer).counts.n_genes == 6


def test_wrong_shapes_of_a_folder(made, tmp_path):
    path = write_folder(made, tmp_path / "f", zipped=False)
    (path / "barcodes.tsv").write_text("one\n")
    with pytest.raises(hc.InputError, match="6 features and 1 barcodes"):
        hc.CSCore(path, "library")


def unfiltered(made):
    """Empty droplets in every sample, a gene that no cell has, one sample of empty droplets."""
    x = made.X.toarray()
    x[[0, 31, 32]] = 0
    x[90:115] = 0
    x[:, 2] = 0
    return ad.AnnData(sparse.csr_matrix(x), made.obs.copy(), made.var.copy())


@pytest.mark.parametrize("given", [None, "total"])
@pytest.mark.parametrize("door", ["CSCore", "Pseudobulk", "check_design", "aggregate"])
def test_empty_droplets_and_genes_are_left_out_with_a_warning(made, door, given):
    adata = unfiltered(made)
    adata.obs["total"] = np.asarray(adata.X.sum(1)).ravel()
    options = {} if given is None else {"depth": given}
    key, low = "hiercorr_pseudobulk", {"min_counts": 0, **options}
    call = {
        "CSCore": lambda: hc.CSCore(adata, "sample", **options).counts.attributes,
        "Pseudobulk": lambda: hc.Pseudobulk(adata, "sample", **low).samples.uns[key],
        "aggregate": lambda: hc.aggregate(adata, "sample", **low).uns[key],
        "check_design": lambda: hc.check_design(adata, "sample", **options).samples.attrs,
    }[door]
    with pytest.warns(hc.DataWarning) as caught:
        notes = call()
    said = "\n".join(str(w.message) for w in caught)
    assert "28 of 120 cells have no counts and are left out" in said
    assert "'s4' (5)" in said
    assert notes["empty_cells"] == 28
    assert "s4" in str(notes["excluded_samples"])
    if door == "CSCore":
        assert "1 of 6 genes have no count" in said
        clean = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
        wanted = hc.CSCore(clean, "sample", **options).counts
        found = hc.CSCore(adata, "sample", **options).counts
        np.testing.assert_array_equal(found.toarray(), wanted.toarray())
        np.testing.assert_array_equal(found.depth, wanted.depth)


def test_methods_text_mentions_cells_without_counts(made):
    adata = unfiltered(made)
    said = "28 cells without counts were left out"
    within = hc.CSCore(adata, "sample").fit()
    between = hc.Pseudobulk(adata, "sample", min_counts=0).fit()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "A", "B")
    types = hc.by_cell_type(adata, "kind", "sample", min_cells=2)
    for result in (within, between, types):
        assert said in methods_text(result)
