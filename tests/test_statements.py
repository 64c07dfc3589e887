"""Numbers and sentences say what they seem to say: old files, comparisons, traps, power."""

from pathlib import Path

import numpy as np
import pytest

import hiercorr as hc

DATA = Path(__file__).parent / "data"
OLD = sorted(DATA.glob("*_1.*.nc"))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("path", OLD, ids=lambda p: p.stem)
def test_old_files_read_lazily_are_the_same(path):
    now, later = hc.load(path), hc.load(path, lazy=True)
    assert list(now.pairs().columns) == list(later.pairs().columns)
    np.testing.assert_allclose(later.dataset["se"], now.dataset["se"])
    np.testing.assert_allclose(
        later.dataset["se"].isel(gene=[1, 0]), now.dataset["se"].isel(gene=[1, 0])
    )
    assert str(later.summary()) == str(now.summary())
    for r in (now, later):
        assert {"interval", "estimand", "genes"} <= r.dataset.attrs.keys()
        assert "prediction_lower" not in r.dataset  # could be narrower than the interval


def test_compare_warns_of_different_cells():
    data = hc.datasets.glioblastoma()
    options = {"depth": "total_counts", "genes": 5, "min_cells": 20}
    results = {
        name: hc.CSCore(data, "sample_id", subset={"condition": name}, **options).fit()
        for name in ("ctrl", "stim")
        if name in set(data.obs["condition"])
    }
    other = next(c for c in data.obs["condition"].unique() if c not in results)
    results[other] = hc.CSCore(data, "sample_id", subset={"condition": other}, **options).fit()
    with pytest.warns(
        hc.DataWarning, match="rest on different counts: subset is 'condition: ctrl'"
    ):
        hc.compare(results)


def test_zeros_of_genes_that_are_hardly_ever_zero_are_no_trap():
    data = hc.datasets.ipsc_cycle()
    found = hc.traps(data, "donor", "CDK1", depth="depth")
    assert "both genes are zero" not in str(found)
    assert "corrected one" in str(found)


def test_power_between_prints_what_matters():
    text = str(hc.power("between", samples=12, rho=0.6, cells=100, mean=1.0))
    assert "heterogeneity" not in text
    assert "SD between samples" in text
    assert "0 covariates" in text


def test_estimand_of_pooled_differences_is_no_regression():
    data = hc.datasets.glioblastoma()
    options = {"depth": "total_counts", "genes": 5, "method": "pooled"}
    text = hc.differential(data, "sample_id", "condition", **options).dataset.attrs["estimand"]
    assert "regression" not in text
    assert "ratio of its own sums" in text


def test_intervals_that_are_one_point_are_explained():
    r = hc.Pseudobulk(hc.datasets.ipsc_cycle(), "donor").fit("corrected")
    point = r.matrix("ci_lower").to_numpy() == r.matrix("ci_upper").to_numpy()
    assert point.any()
    assert f"{point.sum() // 2:,} intervals are a point" in r.dataset.attrs["note"]
    assert "both limits lie beyond -1" in str(r.summary())
