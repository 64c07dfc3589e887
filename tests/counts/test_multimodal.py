"""MuData, as object and as file: the same counts as of one AnnData with feature types."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc

mudata = pytest.importorskip("mudata")
CELLS, GENES, PROTEINS = 240, 20, 14


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*targeted panel")
        warnings.simplefilter("ignore", FutureWarning)
        yield


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(8)
    s, t = (np.exp(rng.normal(0, 0.4, (CELLS, 1))) for _ in range(2))
    x = rng.poisson(3 * s * np.exp(rng.normal(0, 0.4, (CELLS, GENES))))
    y = rng.poisson(9 * t * np.exp(rng.normal(0, 0.4, (CELLS, PROTEINS))))
    cells = [f"c{i}" for i in range(CELLS)]
    donor = np.repeat([f"d{k}" for k in range(4)], CELLS // 4)
    out = {}
    for name, values, n in (("rna", x, GENES), ("prot", y, PROTEINS)):
        obs = pd.DataFrame({"donor": donor, "total_counts": 5.0 + values.sum(1)}, index=cells)
        var = pd.DataFrame(index=[f"{name}{j}" for j in range(n)])
        out[name] = ad.AnnData(sparse.csr_matrix(values.astype(np.float32)), obs=obs, var=var)
    return out


@pytest.fixture(scope="module")
def single(parts):
    var = pd.concat([part.var for part in parts.values()])
    var["feature_types"] = np.repeat(["Gene Expression", "Antibody Capture"], [GENES, PROTEINS])
    x = sparse.hstack([part.X for part in parts.values()], format="csr")
    return ad.AnnData(x, obs=parts["rna"].obs, var=var)


def joint(parts, **changed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData({k: v.copy() for k, v in (parts | changed).items()})


def written(mdata, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write(path / "m.h5mu")
    return path / "m.h5mu"


@pytest.mark.parametrize("of_file", [False, True])
def test_counts_are_those_of_one_anndata(parts, single, of_file, tmp_path):
    data = joint(parts)
    data = written(data, tmp_path) if of_file else data
    right = hc.CSCore(single, "donor", modalities="all").fit(uncertainty="jackknife")
    fit = hc.CSCore(data, "donor", modalities="all").fit(uncertainty="jackknife")
    np.testing.assert_array_equal(fit.matrix(), right.matrix())
    assert list(fit.dataset["modality"].values) == ["rna", "prot"]
    assert set(fit.dataset["feature_type"].values) == {"rna", "prot"}
    with pytest.warns(hc.DataWarning, match="14 prot; CSCore.modalities='all'. estimates them"):
        genes = hc.CSCore(data, "donor").fit(target="rna3", uncertainty="jackknife")
    alone = right.dataset["correlation"].sel(gene="rna3").values[:GENES]
    np.testing.assert_allclose(genes.dataset["correlation"].values[0], alone, rtol=1e-4, atol=1e-5)
    proteins = hc.CSCore(data, "donor", modalities="prot").fit(uncertainty="jackknife")
    np.testing.assert_allclose(
        proteins.matrix(), right.matrix().iloc[GENES:, GENES:], rtol=1e-4, atol=1e-5
    )


def test_columns_of_each_modality_have_its_name(parts):
    depth = {"rna": "rna:total_counts", "prot": "prot:total_counts"}
    counts = hc.CSCore(joint(parts), "donor", modalities="all", depth=depth).counts
    for t, name in enumerate(("rna", "prot")):
        np.testing.assert_array_equal(counts.modalities.depth[t], parts[name].obs["total_counts"])
    with pytest.raises(hc.InputError, match="depth column 'total_counts'"):
        hc.CSCore(joint(parts), "donor", modalities="all", depth={"prot": "total_counts"})


def test_cells_that_a_modality_lacks_are_left_out(parts):
    data = joint(parts, prot=parts["prot"][np.random.default_rng(1).permutation(CELLS)[:200]])
    with pytest.warns(hc.DataWarning, match="40 of 240 cells are not in all of the modalities"):
        counts = hc.CSCore(data, "donor", modalities=["rna", "prot"]).counts
    assert counts.n_cells == 200
    x = np.hstack([parts[name][counts.obs.index].X.toarray() for name in parts])
    np.testing.assert_array_equal(counts.toarray(), x)
    with pytest.warns(hc.DataWarning, match="left out"):
        assert hc.CSCore(data, "donor").counts.n_cells == CELLS


def test_columns_of_a_modality_that_lacks_cells_do_not_vary(parts, tmp_path):
    batch = np.repeat(["x", "y"], CELLS // 2)
    both = {name: part.copy() for name, part in parts.items()}
    for part in both.values():
        part.obs["batch"] = batch
    both["prot"] = both["prot"][np.arange(CELLS) % 10 > 0].copy()
    mdata = joint(both)
    mdata.obs["prot:batch"] = both["prot"].obs["batch"].reindex(mdata.obs_names)  # as it may be
    assert mdata.obs["prot:batch"].isna().any()
    path = written(mdata, tmp_path)
    for data in (mdata, path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hc.CSCore(data, "rna:donor")
            found = hc.check_design(data, "rna:donor")
        texts = [str(w.message) for w in caught]
        assert not any("within the samples" in t for t in texts)
        assert not any("mudata" in t for t in texts)
        assert not found.structure.within_samples
    mdata.obs["prot:batch"] = np.tile(["x", "y"], CELLS // 2)
    with pytest.warns(hc.DataWarning, match="'prot:batch' varies within the samples"):
        hc.CSCore(mdata, "rna:donor")


def test_modality_of_genes_by_its_features(parts):
    other = {"a": parts["prot"].copy(), "b": parts["rna"].copy()}
    other["b"].var["feature_types"] = "Gene Expression"
    with pytest.warns(hc.DataWarning, match="left out"):
        assert hc.CSCore(joint(other), "donor").counts.genes[0] == "rna0"
    del other["b"].var["feature_types"]
    with pytest.raises(hc.InputError, match="none of the modalities a, b is of genes"):
        hc.CSCore(joint(other), "donor")
    assert hc.CSCore(joint(other), "donor", modalities="b").counts.genes[0] == "rna0"
    assert hc.CSCore(joint({"a": other["a"]}), "donor").counts.n_genes == PROTEINS
    with pytest.raises(hc.InputError, match=r"type of features .modalities=. 'c'"):
        hc.CSCore(joint(other), "donor", modalities="c")


def test_layers(parts):
    doubled = {name: part.copy() for name, part in parts.items()}
    for part in doubled.values():
        part.layers["counts"] = part.X.copy()
        part.X = part.X * 0.5
    right = hc.CSCore(joint(parts), "donor", modalities="all").counts
    found = hc.CSCore(joint(doubled), "donor", modalities="all", layer="counts").counts
    np.testing.assert_array_equal(found.toarray(), right.toarray())
    with pytest.raises(hc.InputError, match="layer of modality 'rna' 'raw_counts'"):
        hc.CSCore(joint(doubled), "donor", layer="raw_counts")


def test_pseudobulk_of_mudata(parts):
    sums = hc.aggregate(joint(parts), "donor", modalities="all", min_counts=0)
    np.testing.assert_array_equal(
        sums.obs["depth of prot"], parts["prot"].X.toarray().reshape(4, -1).sum(1)
    )


def test_a_missing_library_names_its_extra(parts, tmp_path, monkeypatch):
    import sys

    path = written(joint(parts), tmp_path)
    monkeypatch.setitem(sys.modules, "mudata", None)
    with pytest.raises(ImportError, match=r'pip install "hiercorr\[mudata\]"'):
        hc.CSCore(path, "donor")


def test_modalities_without_a_common_cell_are_refused(parts):
    half = CELLS // 2
    data = joint({"rna": parts["rna"][:half], "prot": parts["prot"][half:]})
    with pytest.raises(hc.InputError, match="no cell is in all of the modalities rna, prot"):
        hc.CSCore(data, "donor", modalities="all")
