"""Tables, text, exports, and results on disk."""

import os
import stat

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import fit

import hiercorr as hc
from hiercorr.results import storage


@pytest.fixture(scope="module")
def result(small):
    return fit(small, per_sample=True)


@pytest.fixture(scope="module")
def one(small):
    return fit(small, target="gene0", per_sample=True)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
@pytest.mark.parametrize("which", ["result", "one"])
def test_round_trip(suffix, which, request, tmp_path):
    original = request.getfixturevalue(which)
    path = original.save(tmp_path / f"r{suffix}")
    back = hc.load(path)
    xr.testing.assert_identical(back.dataset.drop_attrs(), original.dataset.drop_attrs())
    assert set(back.dataset.attrs) == set(original.dataset.attrs)
    for name, value in original.dataset.attrs.items():
        assert np.array_equal(back.dataset.attrs[name], value), name
    for name, variable in original.dataset.variables.items():
        attrs = back.dataset[name].attrs
        assert set(attrs) == set(variable.attrs), name
        assert all(np.array_equal(attrs[k], v) for k, v in variable.attrs.items()), name
        assert back.dataset[name].dtype == variable.dtype, name
    assert back.top("gene0", 3).equals(original.top("gene0", 3))
    assert os.listdir(tmp_path) == [path.name]


def test_two_sample_and_pooled_results_round_trip(small, tmp_path):
    r = fit(small, estimator="pooled", uncertainty="none")
    back = hc.load(r.save(tmp_path / "r.zarr"))
    xr.testing.assert_identical(back.dataset.drop_attrs(), r.dataset.drop_attrs())


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_saving_is_whole_or_not_at_all(result, small, tmp_path, suffix, monkeypatch):
    path = result.save(tmp_path / f"r{suffix}")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result.save(path)
    other = fit(small, target="gene1")
    real = xr.Dataset.to_zarr if suffix == ".zarr" else xr.Dataset.to_netcdf

    def interrupted(self, *args, **kwargs):
        real(self, *args, **kwargs)
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr" if suffix == ".zarr" else "to_netcdf", interrupted)
    with pytest.raises(OSError, match="No space"):
        other.save(path, overwrite=True)
    monkeypatch.undo()
    assert hc.load(path).target is None
    assert os.listdir(tmp_path) == [path.name]
    moves = []
    monkeypatch.setattr(storage.os, "replace", lambda a, b: _fail_second(a, b, moves))
    with pytest.raises(OSError, match="second move"):
        other.save(path, overwrite=True)
    monkeypatch.undo()
    assert hc.load(path).target is None
    other.save(path, overwrite=True)
    assert hc.load(path).target == "gene1"
    assert os.listdir(tmp_path) == [path.name]


_replace = os.replace


def _fail_second(a, b, moves):
    moves.append(a)
    if len(moves) == 2:
        raise OSError("second move failed")
    _replace(a, b)


def test_save_and_load_refuse(result, tmp_path):
    with pytest.raises(hc.InputError, match=r"must end in \.zarr or \.nc"):
        result.save(tmp_path / "r.csv")
    with pytest.raises(hc.InputError, match="no folder"):
        result.save(tmp_path / "nowhere" / "r.nc")
    with pytest.raises(hc.InputError, match="no such result"):
        hc.load(tmp_path / "r.nc")
    (tmp_path / "bad.nc").write_text("text")
    with pytest.raises(hc.InputError, match="cannot read"):
        hc.load(tmp_path / "bad.nc")
    newer = hc.CorrelationResult(result.dataset.assign_attrs(schema_version="2.0"))
    newer.save(tmp_path / "newer.nc")
    with pytest.raises(hc.InputError, match=r"schema version 2\.0"):
        hc.load(tmp_path / "newer.nc")
    result.dataset[["mean"]].to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    with pytest.raises(hc.InputError):
        hc.load(tmp_path / "part.nc")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder(result, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError):
        result.save(tmp_path / "r.nc")


def test_schema(result, one):
    ds = result.dataset
    assert ds["correlation"].dims == ("gene", "partner")
    assert one.dataset["correlation"].dims == ("target", "gene")
    assert ds["sample_correlation"].dims == ("sample", "gene", "partner")
    for name in (
        "correlation",
        "fisher_z",
        "se",
        "ci_lower",
        "ci_upper",
        "statistic",
        "df",
        "p_value",
        "q_value",
        "flag",
        "mean",
        "overdispersion",
        "detection",
        "n_cells",
        "depth",
        "tau2",
        "i2",
        "prediction_lower",
    ):
        assert ds[name].attrs["long_name"], name
    assert ds["flag"].attrs["flag_meanings"].split()[0] == "nonpositive_variance"
    assert len(ds["flag"].attrs["flag_masks"]) == len(ds["flag"].attrs["flag_meanings"].split())
    for name in (
        "model",
        "estimator",
        "level",
        "formula",
        "n_cells",
        "n_samples",
        "hiercorr_version",
        "created",
    ):
        assert name in ds.attrs, name
    np.testing.assert_array_equal(ds["correlation"].values, ds["correlation"].values.T)
    known = np.isfinite(ds["correlation"].values)
    assert (np.abs(ds["correlation"].values[known]) <= 1).all()
    missing = ~known
    assert (ds["flag"].values[missing] > 0).all()


def test_q_values_are_over_distinct_pairs(result):
    from scipy import stats

    p = result.matrix("p_value").values
    upper = np.triu_indices(len(p), 1)
    known = np.isfinite(p[upper])
    expected = stats.false_discovery_control(p[upper][known].astype(float))
    np.testing.assert_allclose(result.matrix("q_value").values[upper][known], expected, rtol=1e-5)


def test_tables(result, one):
    top = result.top("gene0", 4)
    assert len(top) == 4
    assert "gene0" not in top.index
    assert top["p_value"].is_monotonic_increasing
    assert one.top(n=4).index.tolist() == top.index.tolist()
    pairs = result.pairs(q=0.2, min_correlation=0.1)
    assert (pairs["q_value"] <= 0.2).all()
    assert (pairs["correlation"].abs() >= 0.1).all()
    assert (pairs["gene_a"] != pairs["gene_b"]).all()
    n = int(np.isfinite(result.dataset["correlation"].values[np.triu_indices(12, 1)]).sum())
    assert len(result.pairs()) == n
    assert result.matrix("se").shape == (12, 12)
    assert list(result.sample_table().columns) == ["n_cells", "depth"]
    a, b = result.sample_table("gene0", "gene1"), one.sample_table("gene1")
    np.testing.assert_allclose(a["correlation"], b["correlation"], rtol=1e-4)
    assert result.flag_counts()["low_information"] > 0
    for call, text in (
        (lambda: result.top("gen0"), "unknown gene 'gen0'; did you mean"),
        (lambda: result.top(), "name a gene"),
        (lambda: one.top("gene1"), "target 'gene0' only"),
        (lambda: result.matrix("corelation"), "did you mean 'correlation'"),
        (lambda: result.sample_table("gene0", "geneX"), "unknown gene"),
    ):
        with pytest.raises(hc.InputError, match=text):
            call()


def test_text(result, one):
    text = str(result.summary(n=3))
    assert "within" in text
    assert "No. samples:" in text
    assert "Flags:" in text
    assert len(str(one.summary(n=3))) > 200
    assert "<table" in result.summary()._repr_html_()
    assert "12 genes, all pairs" in repr(result)
    assert "target gene0" in repr(one)
    assert "<table" in result._repr_html_()


def test_to_anndata(result, one, small):
    before = list(small.varp), list(small.uns), list(small.var)
    out = result.to_anndata(small)
    np.testing.assert_array_equal(
        out.varp["hiercorr_correlation"], result.dataset["correlation"].values
    )
    assert out.uns["hiercorr"]["model"] == "CSCore"
    assert "hiercorr_mean" in out.var
    assert (list(small.varp), list(small.uns), list(small.var)) == before
    assert "hiercorr_gene0_correlation" in one.to_anndata(small).var
    with pytest.raises(hc.InputError, match="not in the AnnData"):
        result.to_anndata(small[:, :3])


def test_to_networkx(result):
    graph = result.to_networkx(q=None, min_correlation=0.2)
    pairs = result.pairs(min_correlation=0.2)
    assert graph.number_of_nodes() == 12
    assert graph.number_of_edges() == len(pairs)
    first = pairs.iloc[0]
    assert graph.edges[first["gene_a"], first["gene_b"]]["weight"] == pytest.approx(
        first["correlation"]
    )


def test_strongest_pairs_only(small):
    result = fit(small)
    whole = result.pairs()
    pd.testing.assert_frame_equal(result.pairs(n=7), whole.head(7))
    bare = fit(small, uncertainty="none")
    assert set(bare.pairs(n=5)["gene_a"]) == set(bare.pairs().head(5)["gene_a"])
    assert len(result.pairs(n=10_000)) == len(whole)
