"""The dataset of a fit between samples."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from tests.between.support import pseudobulk

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_round_trip(eight, tmp_path, suffix):
    r = pseudobulk(eight[0], formula="~ batch").fit(contrasts={"y": ("batch", "y", "x")})
    r.save(tmp_path / f"r.{suffix}")
    back = hc.load(tmp_path / f"r.{suffix}")
    assert back.dataset.equals(r.dataset)
    pd.testing.assert_frame_equal(back.coefficients("y"), r.coefficients("y"))
    assert {k: str(v) for k, v in back.dataset.attrs.items()} == {
        k: str(v) for k, v in r.dataset.attrs.items()
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "t"),
        ({"method": "hc3", "target": "gene0"}, "HC3"),
        ({"method": "corrected"}, "pivotal"),
        ({"permutations": 40, "seed": 1}, "Monte-Carlo permutation, 40 arrangements"),
    ],
)
def test_attributes_say_where_p_values_come_from(eight, options, words, quiet):
    ds = pseudobulk(eight[0]).fit(**options).dataset
    assert words in ds.attrs["uncertainty"]
    assert ds.attrs["estimator"] == options.get("method", "pearson")
    assert (ds.attrs.get("smallest_p_value") is not None) == ("permutations" in options)


def test_variables_of_samples_and_genes_are_sums_over_cells(eight):
    adata, m = eight[0], pseudobulk(eight[0])
    ds = m.fit().dataset
    x, sample = adata.X.toarray(), adata.obs["sample"].to_numpy()
    depth = adata.obs.groupby("sample", observed=True)["depth"].sum().loc[ds["sample"].values]
    np.testing.assert_allclose(ds["total_depth"], depth)
    assert ds["n_cells"].values.tolist() == [(sample == s).sum() for s in ds["sample"].values]
    np.testing.assert_allclose(ds["mean"], x.sum(0) / depth.sum())
    np.testing.assert_allclose(ds["detection"], (x > 0).mean(0))
    np.testing.assert_array_equal(ds["expression"], m.expression[list(ds["gene"].values)])
