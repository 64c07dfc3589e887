"""The dataset of a fit within samples, and the warnings about it."""

import numpy as np
import pytest

import hiercorr as hc
from tests.support import fit


@pytest.mark.parametrize("estimator", ["within", "pooled"])
def test_reweighting_that_does_not_converge_is_said(small, estimator, monkeypatch):
    from hiercorr import moments

    name = f"{estimator}_moments"
    real = getattr(moments, name)
    monkeypatch.setattr(moments, name, lambda sums: real(sums, max_iterations=1, tolerance=1e-9))
    with pytest.warns(hc.EstimationWarning, match="after 1 rounds of reweighting"):
        result = hc.CSCore(small, sample="sample", depth="depth").fit(estimator)
    assert result.dataset.attrs["converged"] == 0


@pytest.mark.parametrize(("estimator", "level"), [("within", "within"), ("pooled", "pooled")])
def test_attributes_record_the_options(small, estimator, level):
    ds = fit(small, estimator=estimator, confidence=0.9, precision="double").dataset
    stated = {"model": "CSCore", "estimator": estimator, "level": level, "confidence": 0.9}
    stated |= {"precision": "double", "n_cells": small.n_obs, "n_samples": 5}
    assert {k: ds.attrs[k] for k in stated} == stated
    assert ds.attrs["sample_column"] == "sample"
    assert ds["n_cells"].values.tolist() == [60, 90, 120, 150, 40]
    depth = small.obs.groupby("sample", observed=True)["depth"].median()
    np.testing.assert_allclose(ds["depth"], depth.loc[ds["sample"].values])


def test_the_share_of_missing_pairs_is_that_of_the_table(small):
    with pytest.warns(hc.EstimationWarning, match="of the pairs could not be estimated") as caught:
        result = hc.CSCore(small, "sample", depth="depth").fit()
    p = result.matrix("p_value").to_numpy()
    share = np.isnan(p[np.triu_indices(len(p), 1)]).mean()
    assert f"{share:.1%} not estimable" in repr(result)
    assert share > 0
    assert any(f"{share:.1%} of the pairs" in str(w.message) for w in caught)
