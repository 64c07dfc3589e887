"""A model answers from what it read, whatever happens to the data afterwards."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

GENES = [f"gene{k}" for k in range(5)]
OPTIONS = {"sample": "sample", "depth": "depth", "genes": GENES}


@pytest.fixture
def adata():
    return simulate_counts(4, 60, 8, mean=2.0, within=0.4, seed=3)[0]


def estimates(result):
    return result.dataset["correlation"].values


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_a_target_outside_the_genes_leaves_the_model_as_it_was(adata, scheduler, quiet):
    if scheduler is not None:
        pytest.importorskip("dask")
    model = hc.CSCore(adata, **OPTIONS, scheduler=scheduler)
    before = estimates(model.fit())
    target = model.fit(target="gene7")
    assert target.dataset.sizes["gene"] == 6
    np.testing.assert_array_equal(estimates(model.fit()), before)
    named = hc.CSCore(adata, **{**OPTIONS, "genes": [*GENES, "gene7"]}).fit(target="gene7")
    np.testing.assert_allclose(estimates(target), estimates(named), rtol=1e-6)


@pytest.mark.parametrize("model", [hc.CSCore, hc.CellCorrelation])
def test_cells_left_out_of_the_object_stay_in_the_model(adata, model, quiet):
    untouched = adata.copy()
    fitted = model(adata, **OPTIONS)
    adata._inplace_subset_obs(np.arange(adata.n_obs) % 2 == 0)
    inside, outside = fitted.fit(target="gene0"), fitted.fit(target="gene7")
    assert inside.dataset.attrs["n_cells"] == outside.dataset.attrs["n_cells"] == 240
    expected = model(untouched, **OPTIONS).fit(target="gene7")
    np.testing.assert_array_equal(estimates(outside), estimates(expected))


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_counts_changed_in_place_are_noticed(adata, scheduler, quiet):
    if scheduler is not None:
        pytest.importorskip("dask")
    model = hc.CSCore(adata, **OPTIONS, scheduler=scheduler)
    before = estimates(model.fit())
    dense = adata.X.toarray()
    for c in adata.obs["sample"].unique():  # same total and same zeros in every sample
        rows = np.flatnonzero(adata.obs["sample"] == c)
        dense[rows, 7] = dense[rows[::-1], 7]
    changed = type(adata.X)(dense)
    adata.X.data[:], adata.X.indices[:], adata.X.indptr[:] = (
        changed.data,
        changed.indices,
        changed.indptr,
    )
    if scheduler is None:
        with pytest.raises(hc.InputError, match=r"have changed since .* gene 'gene7'"):
            model.fit(target="gene7")
    np.testing.assert_array_equal(estimates(model.fit()), before)


def test_a_file_that_was_replaced_is_noticed(adata, tmp_path, quiet):
    pytest.importorskip("dask")
    path = tmp_path / "data.h5ad"
    adata.write_h5ad(path)
    local, remote = hc.CSCore(path, **OPTIONS), hc.CSCore(path, **OPTIONS, scheduler="threads")
    before = estimates(local.fit())
    adata.X = adata.X[::-1].copy()
    adata.write_h5ad(path)
    with pytest.raises(hc.InputError, match="have changed since"):
        local.fit(target="gene7")
    np.testing.assert_array_equal(estimates(local.fit()), before)
    with pytest.raises(hc.InputError, match="have changed since"):
        remote.fit()


def test_the_cells_behind_the_sums_are_those_that_were_summed(adata, quiet):
    model = hc.Pseudobulk(adata, "sample", depth="depth", genes=GENES)
    before = model.fit("corrected", seed=1)
    after = model.fit("corrected", seed=1)
    np.testing.assert_array_equal(estimates(before), estimates(after))
    adata.X.data[:] = adata.X.data[::-1].copy()
    with pytest.raises(hc.InputError, match="have changed since this model summed them"):
        model.fit("corrected", seed=1)


def test_a_subset_of_cells_is_drawn_once(monkeypatch, adata, quiet):
    from hiercorr.bayes import population

    monkeypatch.setattr(population, "MAX_CELLS", 100)
    options = {"many_cells": "subsample", "seed": np.random.default_rng(1)}
    model = hc.BayesianCorrelation(adata, **OPTIONS, **options)
    first = model.counts
    for target in ("gene6", "gene7"):
        counts = model._with(target)
        np.testing.assert_array_equal(counts.cells, first.cells)


def test_arrays_are_copied(adata, quiet):
    depth, mask = adata.obs["depth"].to_numpy(float).copy(), np.ones(adata.n_obs, bool)
    options = {"sample": "sample", "genes": list(GENES), "depth": depth, "subset": mask}
    model = hc.CSCore(adata, **options)
    expected = estimates(model.fit(target="gene7"))
    depth[:], mask[:] = 1.0, False
    options["genes"].clear()
    np.testing.assert_array_equal(estimates(model.fit(target="gene7")), expected)
