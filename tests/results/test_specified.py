"""Models state in one line, and in notebooks as a table, what they were made of."""

import numpy as np
import pytest

import hiercorr as hc

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.DataWarning")


@pytest.mark.parametrize(
    ("model", "options", "stated"),
    [
        (hc.CSCore, {"covariates": "~ arm"}, "cells 460, samples 5 (sample), genes 12"),
        (hc.CSCore, {"depth_adjust": True}, "adjusted for depth yes"),
        (hc.CSCore, {"sample": None}, "<CSCore: cells 460, genes 12>"),
        (hc.CSCore, {"block": "pair"}, "donors 3 (pair)"),
        (hc.Pseudobulk, {"formula": "~ age"}, "samples 5 (sample), genes 12, formula ~ age"),
        (hc.BayesianCorrelation, {"genes": 2}, "genes 2, structure both"),
        (hc.CellCorrelation, {}, "status exploratory"),
    ],
)
def test_models_state_their_data(small, model, options, stated):
    adata = small.copy()
    adata.obs["arm"] = np.where(np.arange(adata.n_obs) % 2, "<a>", "b")
    sample = adata.obs["sample"].astype("category")
    adata.obs["age"] = sample.cat.codes.to_numpy().astype(float)
    adata.obs["pair"] = (sample.cat.codes // 2).astype(str).to_numpy()
    made = model(adata, **{"sample": "sample", "depth": "depth", **options})
    assert stated in repr(made)
    assert repr(made).startswith(f"<{model.__name__}: ")
    table = made._repr_html_()
    assert f"<caption>{model.__name__}</caption>" in table
    assert "genes" in table


def test_values_are_escaped(small):
    adata = small.copy()
    adata.obs["<b>"] = adata.obs["sample"]
    text = hc.CSCore(adata, "<b>", depth="depth")._repr_html_()
    assert "(&lt;b&gt;)" in text
    assert "<b>" not in text
