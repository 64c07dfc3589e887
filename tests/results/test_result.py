"""A result: its names, and a dataset that no method changes."""

import pytest

import hiercorr as hc


def test_names(result, one, small):
    assert result.target is None
    assert one.target == "gene0"
    assert list(result.genes) == list(small.var_names)


def test_no_method_changes_the_dataset(result, small, tmp_path):
    before = result.dataset.copy(deep=True)
    result.top("gene0")
    result.pairs(q=0.5, n=3)
    result.matrix().iloc[:] = 0
    result.gene_table()["mean"] = 0
    result.sample_table("gene0", "gene1")["correlation"] = 0
    result.flag_counts()
    str(result.summary())
    result.to_anndata(small).varp["hiercorr_correlation"][:] = 0
    result.to_networkx()
    result.adjust("by")
    result.save(tmp_path / "r.zarr")
    assert result.dataset.identical(before)


def test_results_that_are_read_lazily_stay_on_disk(result, tmp_path):
    path = result.save(tmp_path / "r.zarr")
    lazy = hc.load(path, lazy=True)
    assert not lazy.dataset["correlation"].variable._in_memory
    assert lazy.top("gene0", 3).equals(result.top("gene0", 3))


def test_only_datasets_in_the_schema_are_results(result):
    with pytest.raises(hc.InputError):
        hc.CorrelationResult(result.dataset.drop_vars("correlation"))
