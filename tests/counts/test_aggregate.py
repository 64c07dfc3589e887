"""Sums per sample: right, streamed, nothing lost in silence."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc


def plain(adata, by):
    x = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    return (
        pd.DataFrame(x, columns=adata.var_names).groupby(adata.obs[by].astype(str).to_numpy()).sum()
    )


def test_sums_means_and_columns(gbm):
    pb = hc.aggregate(gbm, "sample_id", depth="total_counts")
    expected = plain(gbm, "sample_id")
    np.testing.assert_array_equal(pb.X, expected.loc[pb.obs_names, pb.var_names])
    np.testing.assert_allclose(pb.layers["mean"], pb.X / 500)
    assert pb.obs["n_cells"].tolist() == [500] * 10
    np.testing.assert_allclose(
        pb.obs["depth"], gbm.obs.groupby("sample_id", observed=True)["total_counts"].sum()
    )
    assert {"patient_id", "condition", "age", "gender"} <= set(pb.obs)
    assert "total_counts" not in pb.obs
    assert pb.uns["hiercorr_pseudobulk"]["varying"] == "total_counts"
    np.testing.assert_allclose(pb.var["detection"], np.asarray((gbm.X > 0).mean(0)).ravel())


@pytest.mark.parametrize(
    "form", ["csr", "csc", "dense", "backed csr", "backed csc", "backed dense", "zarr"]
)
def test_every_source_gives_the_same(small, tmp_path, form):
    expected = hc.aggregate(small, "sample", depth="depth").X
    adata = small.copy()
    kind = form.rsplit(" ", 1)[-1]
    adata.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(kind, lambda x: x.toarray())(
        adata.X
    )
    data = adata
    if form.startswith("backed"):
        adata.write_h5ad(tmp_path / "a.h5ad")
        import anndata

        data = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    elif form == "zarr":
        data = tmp_path / "a.zarr"
        adata.write_zarr(data)
    np.testing.assert_array_equal(hc.aggregate(data, "sample", depth="depth").X, expected)


def test_cell_types(gbm, quiet):
    adata = hc.datasets.kang_pbmc()
    pb = hc.aggregate(adata, "sample_id", "cell_type", depth="total_counts", min_cells=5)
    whole = hc.aggregate(adata, "sample_id", depth="total_counts")
    for sample in whole.obs_names:
        of = (pb.obs["sample_id"] == sample).to_numpy()
        left_out = plain(adata[adata.obs["sample_id"] == sample], "cell_type")
        left_out = left_out.drop(index=pb.obs.loc[of, "cell_type"].astype(str))
        np.testing.assert_array_equal(
            pb.X[of].sum(0) + left_out.sum(0).to_numpy(), whole[sample].X[0]
        )
    assert "condition" in pb.obs


def test_small_and_shallow_samples_are_named(small):
    adata = small[(small.obs["sample"] != "s5") | (np.arange(len(small)) > len(small) - 6)].copy()
    with pytest.warns(hc.DataWarning, match=r"fewer than 10 cells: 's5' \(5\)"):
        pb = hc.aggregate(adata, "sample", depth="depth")
    assert "s5" not in pb.obs_names
    assert pb.uns["hiercorr_pseudobulk"]["excluded_samples"] == "s5"
    with pytest.raises(hc.InputError, match="fewer than 10 cells"):
        hc.aggregate(adata, "sample", depth="depth", small_samples="error")
    least = int(small.obs.loc[small.obs["sample"] == "s5", "depth"].sum())
    with pytest.warns(hc.DataWarning, match=rf"below {least + 2} counts: 's5' \({least}"):
        pb = hc.aggregate(small, "sample", depth="depth", min_counts=least + 2)
    assert len(pb) == 4


def test_input_is_not_modified_and_taken_names_are_kept(small):
    adata = small.copy()
    adata.obs["n_cells"] = "mine"
    before = adata.copy()
    pb = hc.aggregate(adata, "sample", depth="depth")
    assert (pb.obs["n_cells_input"] == "mine").all()
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert (adata.X != before.X).nnz == 0


def test_missing_values_in_a_column_are_a_value(small):
    adata = small.copy()
    adata.obs["age"] = np.where(adata.obs["sample"] == "s1", np.nan, 50.0)
    adata.obs["half"] = np.where(np.arange(len(adata)) % 2, np.nan, 1.0)
    pb = hc.aggregate(adata, "sample", depth="depth")
    assert np.isnan(pb.obs.loc["s1", "age"])
    assert "half" not in pb.obs


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sample": "nothing"}, "unknown sample column 'nothing'"),
        ({"cell_type": "nothing"}, "unknown cell_type column"),
        ({"layer": "nothing"}, "unknown layer"),
        ({"depth": "sample"}, "not numeric"),
        ({"small_samples": "drop"}, "small_samples must be"),
    ],
)
def test_bad_input(small, change, match):
    with pytest.raises(hc.InputError, match=match):
        hc.aggregate(small, **{"sample": "sample", **change})


def test_refuses_what_is_not_a_count(small):
    adata = small.copy()
    adata.X = adata.X.astype(float)
    adata.X.data[7] = 0.5
    with pytest.raises(hc.InputError, match="does not contain counts"):
        hc.aggregate(adata, "sample")
    adata = small.copy()
    adata.obs["sample"] = adata.obs["sample"].astype(object)
    adata.obs.iloc[3, 0] = None
    with pytest.raises(
        hc.InputError, match=r"1 cells have no value in sample column 'sample', e\.g\. cell 'cell3'"
    ):
        hc.aggregate(adata, "sample")
