import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="session")
def gbm():
    return hc.datasets.glioblastoma()


@pytest.fixture(scope="session")
def small():
    """5 unequal samples x 12 genes of which some are sparse."""
    mean = np.array([4, 4, 1, 1, 0.3, 0.3, 0.08, 0.08, 2, 2, 0.05, 6.0])
    adata, _ = simulate_counts(5, [60, 90, 120, 150, 40], 12, mean=mean, within=0.4, seed=7)
    return adata


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(adata, *, model=None, **options):
    """Fit without the warnings about flagged pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.EstimationWarning)
        warnings.simplefilter("ignore", hc.DataWarning)
        return hc.CSCore(adata, **{"sample": "sample", "depth": "depth", **(model or {})}).fit(
            **options
        )
