"""The schema of results: dimensions, names, attributes, flags."""

import numpy as np
import pytest

from tests.support import fit


@pytest.fixture(scope="module")
def result(small):
    return fit(small, per_sample=True)


@pytest.fixture(scope="module")
def one(small):
    return fit(small, target="gene0", per_sample=True)


def test_schema(result, one):
    ds = result.dataset
    assert ds["correlation"].dims == ("gene", "partner")
    assert one.dataset["correlation"].dims == ("target", "gene")
    assert ds["sample_correlation"].dims == ("sample", "gene", "partner")
    for name in (
        "correlation",
        "fisher_z",
        "se",
        "fisher_z_se",
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
