"""The door: every source gives the same counts, nothing is modified, and what cannot be right is refused by name."""

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata import read_h5ad as read
from conftest import fit
from scipy import sparse

import hiercorr as hc
from hiercorr.counts.read import read_counts
from hiercorr.simulate import simulate_counts


@pytest.fixture
def adata():
    made, _ = simulate_counts(4, 30, 8, mean=4, within=0.3, seed=3)
    made.obs["cell_type"] = np.where(np.arange(made.n_obs) % 3 == 0, "D1", "D10")
    return made


def counts(source, **options):
    return read_counts(source, **{"sample": "sample", "depth": "depth", **options})


def same(a, b):
    np.testing.assert_array_equal(a.toarray(), b.toarray())
    np.testing.assert_array_equal(a.depth, b.depth)
    np.testing.assert_array_equal(a.starts, b.starts)
    assert list(a.genes) == list(b.genes)
    assert list(a.samples) == list(b.samples)


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


def test_input_is_not_modified(adata):
    adata.X = adata.X.astype(np.float32)
    x, obs, var = adata.X.copy(), adata.obs.copy(), adata.var.copy()
    adata.X.data.flags.writeable = False
    fit(adata)
    assert (x != adata.X).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, obs)
    pd.testing.assert_frame_equal(adata.var, var)


def test_repeated_entries_add_up(adata):
    c = adata.X.tocsr()
    order = np.repeat(np.arange(c.nnz), 2)
    noncanonical = sparse.csr_matrix((c.data[order], c.indices[order], c.indptr * 2), shape=c.shape)
    assert not noncanonical.has_canonical_format
    before = noncanonical.data.copy()
    twice = AnnData(noncanonical, obs=adata.obs, var=adata.var)
    np.testing.assert_array_equal(counts(twice).toarray(), 2 * counts(adata).toarray())
    np.testing.assert_array_equal(noncanonical.data, before)


def test_depth_is_taken_before_genes_and_cells_are_chosen(adata):
    total = np.asarray(adata.X.sum(1)).ravel()
    with pytest.warns(hc.DataWarning, match="targeted panel"):
        got = counts(
            adata,
            depth=None,
            genes=["gene1", "gene2"],
            subset=adata.obs["cell_type"].to_numpy() == "D1",
        )
    np.testing.assert_array_equal(got.depth, total[got.cells])


def test_a_depth_column_that_is_the_panel_sum_is_said_to_be(gbm):
    with pytest.warns(hc.DataWarning, match="sum over only 300 genes"):
        hc.CSCore(gbm, sample="patient_id", depth="total_counts", genes=5)


def test_subset_matches_exactly(adata):
    assert counts(adata, subset={"cell_type": "D1"}).n_cells == 40
    assert counts(adata, subset={"cell_type": ["D1", "D10"]}).n_cells == 120


def test_genes_by_number_are_the_most_expressed(adata):
    total = np.asarray(adata.X.sum(0)).ravel()
    assert set(counts(adata, genes=3).genes) == set(adata.var_names[np.argsort(-total)[:3]])
    mask = np.zeros(8, bool)
    mask[[1, 4]] = True
    assert list(counts(adata, genes=mask).genes) == ["gene1", "gene4"]
    assert list(counts(adata, genes=["gene4", "gene1"]).genes) == ["gene4", "gene1"]


def test_samples_sort_and_cells_group(adata):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    got = counts(adata[order].copy())
    assert (got.obs["sample"].to_numpy() == np.repeat(got.samples, got.cells_per_sample)).all()
    np.testing.assert_array_equal(got.toarray(), adata.X.toarray()[order][got.cells])


def broken(adata, how):
    adata = adata.copy()
    x = adata.X.toarray().astype(float)
    options = {}
    match how:
        case "fraction":
            x[5, 2] = 2.5
            x[6, 3] = 30
        case "negative":
            x[5, 2] = -1
        case "nan":
            x[5, 2] = np.nan
        case "inf":
            x[5, 2] = np.inf
        case "huge":
            x[5, 2] = 1e12
        case "log":
            x = np.log1p(x)
        case "zero depth":
            options["depth"] = np.where(np.arange(120) == 7, 0, 1.0)
        case "empty cell":
            x[7] = 0
            options["depth"] = None
        case "nan depth":
            options["depth"] = np.where(np.arange(120) == 7, np.nan, 1.0)
        case "short depth":
            options["depth"] = np.ones(5)
        case "depth column":
            options["depth"] = "deep"
        case "depth text":
            options["depth"] = "cell_type"
        case "sample column":
            options["sample"] = "samples"
        case "one sample":
            adata.obs["one"] = "a"
            options["sample"] = "one"
        case "missing sample":
            adata.obs["gap"] = adata.obs["sample"].astype(object).where(np.arange(120) != 9)
            options["sample"] = "gap"
        case "few cells":
            options |= {"min_cells": 31, "small_samples": "error"}
        case "all small":
            options["min_cells"] = 31
        case "small option":
            options["small_samples"] = "drop"
        case "layer":
            options["layer"] = "count"
        case "raw":
            options["layer"] = "raw"
        case "gene":
            options["genes"] = ["gene1", "GENE22"]
        case "gene twice":
            options["genes"] = ["gene1", "gene1"]
        case "gene string":
            options["genes"] = "gene1"
        case "gene positions":
            options["genes"] = [0, 1, 2]
        case "no genes":
            options["genes"] = 0
        case "gene mask":
            options["genes"] = np.ones(3, bool)
        case "one gene":
            options["genes"] = ["gene1"]
        case "zero gene":
            x[:, 1] = 0
            options["genes"] = ["gene0", "gene1", "gene2"]
        case "zero everywhere":
            x[:, 1] = 0
        case "same names":
            adata.var_names = ["g0", "g0", *adata.var_names[2:]]
        case "subset column":
            options["subset"] = {"celltype": "D1"}
        case "subset value":
            options["subset"] = {"cell_type": "D2"}
        case "subset empty":
            options["subset"] = np.zeros(120, bool)
        case "subset length":
            options["subset"] = np.ones(3, bool)
        case "subset conflict":
            adata.obs["half"] = np.where(adata.obs["cell_type"] == "D1", "x", "y")
            options["subset"] = {"cell_type": "D1", "half": "y"}
    adata.X = x
    return adata, options


BAD = {
    "fraction": r"fractions.*cell 'cell5', gene 'gene2': 2.5.*no layer",
    "negative": r"negative.*cell 'cell5', gene 'gene2': -1",
    "nan": r"not finite.*cell 'cell5', gene 'gene2'",
    "inf": r"not finite.*cell 'cell5', gene 'gene2'",
    "huge": r"too large",
    "log": r"log-normalised",
    "zero depth": r"1 cells have a depth that is not positive.*'cell7': 0; correct depth=",
    "empty cell": r"'cell7': 0; leave them out with subset=",
    "nan depth": r"'cell7': nan",
    "short depth": r"shape \(5,\).*120 cells",
    "depth column": r"unknown depth column 'deep'; did you mean 'depth'",
    "depth text": r"depth column 'cell_type' is not numeric",
    "sample column": r"unknown sample column 'samples'; did you mean 'sample'",
    "one sample": r"holds one sample, 'a'",
    "missing sample": r"1 cells have no value in sample column 'gap', e.g. cell 'cell9'",
    "few cells": r"4 of 4 samples.*fewer than 31 cells.*lower min_cells=",
    "all small": r"fewer than 2 samples are left",
    "small option": r"'exclude' or 'error'",
    "layer": r"unknown layer 'count'",
    "raw": r"has no raw",
    "gene": r"unknown gene 'GENE22'; did you mean",
    "gene twice": r"'gene1' is named twice",
    "gene string": r"one string; pass a list",
    "gene positions": r"positions are not accepted",
    "no genes": r"at least one gene",
    "gene mask": r"shape \(3,\).*8 entries",
    "one gene": r"at least 2 expressed genes",
    "zero gene": r"have no count in the chosen cells, e.g. 'gene1'",
    "zero everywhere": r"1 of 8 genes are zero in every cell of the data, e.g. 'gene1'",
    "same names": r"1 gene names occur more than once, e.g. 'g0'.*var_names_make_unique",
    "subset column": r"unknown obs column \(subset\) 'celltype'; did you mean 'cell_type'",
    "subset value": r"unknown value of obs column 'cell_type' 'D2'",
    "subset empty": r"selects no cell",
    "subset length": r"boolean array of length 120",
    "subset conflict": r"leaves no cell",
}


@pytest.mark.parametrize("how", BAD)
def test_bad_input_is_refused_by_name(adata, how, quiet):
    bad, options = broken(adata, how)
    with pytest.raises(hc.InputError, match=BAD[how]):
        hc.CSCore(bad, **{"sample": "sample", "depth": "depth", **options})


def test_small_samples_are_left_out_with_one_warning(adata):
    keep = np.ones(120, bool)
    keep[:25] = False
    with pytest.warns(hc.DataWarning, match=r"1 of 4 samples.*'s1' \(5\)") as record:
        model = hc.CSCore(adata, sample="sample", depth="depth", subset=keep)
    assert len(record) == 1
    assert list(model.counts.samples) == ["s2", "s3", "s4"]
    assert model.fit().dataset.attrs["excluded_samples"] == "s1"


def test_genes_without_counts_in_the_chosen_cells_are_left_out_with_a_warning(adata):
    x = adata.X.toarray()
    x[(adata.obs["cell_type"] == "D1").to_numpy(), 3] = 0
    adata.X = x
    with pytest.warns(hc.DataWarning, match="1 of 8 genes have no count in the chosen cells"):
        model = hc.CSCore(adata, sample="sample", depth="depth", subset={"cell_type": "D1"})
    assert "gene3" not in model.counts.genes
    x[:, 3] = 0
    adata.X = x
    assert hc.check_design(adata, sample="sample", depth="depth").facts["n_genes"] == 7


def test_repeated_donors_are_named(gbm):
    with pytest.warns(
        hc.DataWarning, match="10 samples of 'sample_id' come from 5 values of 'patient_id'"
    ):
        hc.CSCore(gbm, sample="sample_id", depth="total_counts", genes=5)


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


def test_formula_errors(gbm, quiet):
    def make(covariates):
        return hc.CSCore(
            gbm, sample="patient_id", depth="total_counts", genes=5, covariates=covariates
        )

    for formula, text in (
        ("~ ages", "unknown column in the formula 'ages'; did you mean 'age'"),
        ("~ age +", "cannot read formula"),
        ("~ condition + treatment", "not of full rank: 'treatment"),
        ("~ 0 + age", "no intercept"),
    ):
        with pytest.raises(hc.InputError, match=text):
            make(formula)
    make(["age", "gender"])
    gap = gbm.copy()
    gap.obs["age"] = gap.obs["age"].astype(float).where(np.arange(gap.n_obs) > 3)
    with pytest.raises(hc.InputError, match="column 'age' is missing for 4 rows"):
        hc.CSCore(gap, sample="patient_id", depth="total_counts", genes=5, covariates="~ age")
