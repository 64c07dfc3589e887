"""What holds for any data that pass the door, searched by hypothesis."""

import numpy as np
from conftest import fit
from hypothesis import given, settings
from hypothesis import strategies as st

import hiercorr as hc
from hiercorr.simulate import simulate_counts

designs = st.fixed_dictionaries(
    {
        "cells": st.lists(st.integers(2, 60), min_size=2, max_size=9),
        "log_means": st.lists(st.floats(-2.5, 2), min_size=2, max_size=9),
        "within": st.floats(-0.3, 0.8),
        "depth_sd": st.floats(0, 2),
        "depth_shift": st.floats(0, 2),
        "seed": st.integers(0, 10_000),
        "estimator": st.sampled_from(["within", "pooled"]),
        "uncertainty": st.sampled_from(["jackknife", "cluster", "bootstrap", "none"]),
        "precision": st.sampled_from(["single", "double"]),
        "per_sample": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(designs)
def test_results_are_sound(design):
    adata, _ = simulate_counts(
        len(design["cells"]), design["cells"], len(design["log_means"]), mean=10 ** np.array(design["log_means"]),
        within=design["within"], depth_sd=design["depth_sd"], depth_shift=design["depth_shift"], seed=design["seed"],
    )  # fmt: skip
    expressed = np.asarray(adata.X.sum(0)).ravel() > 0
    options = {k: design[k] for k in ("estimator", "uncertainty", "precision")}
    try:
        with np.errstate(all="raise", under="ignore"):
            result = fit(
                adata, model={"genes": expressed, "min_cells": 5}, n_bootstrap=100, seed=1,
                per_sample=design["per_sample"] and design["estimator"] == "within", **options,
            )  # fmt: skip
    except hc.InputError as error:
        assert "2 expressed genes" in str(error) or "2 samples are left" in str(error)  # noqa: PT017
        return
    ds = result.dataset
    for name, variable in ds.data_vars.items():
        if variable.dtype.kind == "f":
            assert not np.isinf(variable.values).any(), name
    r, flag = ds["correlation"].values, ds["flag"].values
    known, off = np.isfinite(r), ~np.eye(len(r), dtype=bool)
    assert (np.abs(r[known]) <= 1).all()
    np.testing.assert_array_equal(r, r.T)
    assert (flag[~known] > 0).all()
    interval = np.isfinite(ds["ci_lower"].values)
    assert (ds["ci_lower"].values <= r)[interval & known].all()
    assert (r <= ds["ci_upper"].values)[interval & known].all()
    beyond = interval & ~known  # an estimate beyond 1 is withheld, its interval is not
    assert ((flag[beyond] & int(hc.Flag.OUT_OF_RANGE)) > 0).all()
    assert ((ds["p_value"].values >= 0) & (ds["p_value"].values <= 1))[interval].all()
    assert np.array_equal(interval, np.isfinite(ds["p_value"].values))
    if design["uncertainty"] != "none":
        assert (flag[~interval & off] > 0).all()
    assert str(result.summary())
    assert len(result.pairs()) == (known & off).sum() // 2
