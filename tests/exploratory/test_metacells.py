"""Metacells: every count is kept, pools never cross samples."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc


def test_every_count_is_kept_within_its_sample(small):
    meta = hc.metacells(small, "sample", size=10, depth="depth", seed=1)
    for sample, part in small.obs.groupby("sample", observed=True):
        mine = meta[meta.obs["sample"] == sample]
        np.testing.assert_array_equal(
            np.asarray(mine.X.sum(0)).ravel(), np.asarray(small[part.index].X.sum(0)).ravel()
        )
        assert mine.obs["n_cells"].sum() == len(part)
        assert mine.obs["depth"].sum() == pytest.approx(part["depth"].sum())
        assert mine.obs["n_cells"].min() >= 10
    again = hc.metacells(small, "sample", size=10, depth="depth", seed=1)
    assert (meta.X != again.X).nnz == 0


def test_pools_are_neighbours():
    """Cells of two states in each sample are not mixed."""
    rng = np.random.default_rng(0)
    import anndata as ad

    state = np.tile([0, 1], 120)
    rate = np.where(state[:, None] == (np.arange(40) % 2), 8.0, 1.0)
    obs = pd.DataFrame(
        {"sample": np.repeat(["a", "b"], 120), "state": state},
        index=[str(k) for k in range(240)],
    )
    adata = ad.AnnData(rng.poisson(rate).astype(np.int32), obs=obs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = hc.metacells(adata, "sample", size=10, seed=0)
    x = meta.X.toarray()
    share = x[:, ::2].sum(1) / x.sum(1)
    assert ((share < 0.2) | (share > 0.8)).all()


def test_given_labels(small):
    adata = small.copy()
    adata.obs["label"] = [f"{s}-{k % 4}" for k, s in enumerate(adata.obs["sample"])]
    meta = hc.metacells(adata, "sample", labels="label", depth="depth")
    assert set(meta.obs_names) == set(adata.obs["label"])
    adata.obs["label"] = ["m" + str(k % 4) for k in range(len(adata))]
    with pytest.raises(hc.InputError, match="contain cells of several samples"):
        hc.metacells(adata, "sample", labels="label", depth="depth")
    with pytest.raises(hc.InputError, match="unknown labels column"):
        hc.metacells(adata, "sample", labels="nothing", depth="depth")


def test_results_are_exploratory(small, quiet):
    meta = hc.metacells(small, "sample", size=5, depth="depth", seed=1)
    r = hc.CSCore(meta, "sample", depth="depth", min_cells=3).fit()
    assert r.dataset.attrs["exploratory"] == 1
    assert "exploratory: metacells" in r.dataset.attrs["title"]


def test_sensitivity(small):
    table = hc.metacell_sensitivity(
        small, "sample", "gene0", genes=["gene1", "gene2"], sizes=(5, 10), depth="depth", seed=1
    )
    assert table.index.tolist() == [1, 5, 10]
    assert table.loc[1, "agreement"] == pytest.approx(1)
    assert table["n_metacells"].is_monotonic_decreasing
    assert {"gene1", "gene2"} <= set(table)


@pytest.mark.parametrize("size", [1, 41])
def test_bad_size(small, size):
    with pytest.raises(hc.InputError, match="between 2 and the cells of the smallest sample, 40"):
        hc.metacells(small, "sample", size=size, depth="depth")
