"""Helpers of several folders: paths, options, a quiet fit, figures from R, comparisons."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.counts import read
from hiercorr.counts.selection import Selection

TESTS = Path(__file__).parent
REFERENCE = TESTS / "reference"
OPTIONS = {"sample": "sample", "depth": "depth"}
VEHICLE = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}


def fit(adata, *, model=None, **options):
    """Fit without the warnings about flagged pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.EstimationWarning)
        warnings.simplefilter("ignore", hc.DataWarning)
        return hc.CSCore(adata, **{"sample": "sample", "depth": "depth", **(model or {})}).fit(
            **options
        )


def read_counts(data, **selection):
    return read.read_counts(data, Selection(**selection))


def table(name):
    """Read figures computed with R (reference/README.md)."""
    return pd.read_csv(REFERENCE / name, index_col=0)


def assert_same(found, wanted, rtol=2e-4, atol=2e-6, exact=False):
    assert set(found.data_vars) == set(wanted.data_vars)
    for name in wanted.data_vars:
        a, b = found[name].values, wanted[name].values
        if exact:
            np.testing.assert_array_equal(a, b, err_msg=name)
        elif a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
