import numpy as np
import pytest

from hiercorr.simulate import simulate_counts
from tests.between.support import model


@pytest.fixture(scope="module")
def adjusted(gbm):
    return model(gbm, formula="~ condition + gender")


@pytest.fixture(scope="module")
def eight():
    """8 samples of 4 donors in two batches, 12 genes."""
    adata, truth = simulate_counts(
        8,
        80,
        12,
        mean=2.0,
        within=0.4,
        between=0.7,
        cell_imbalance=0.3,
        donor=list("aabbccdd"),
        covariates={"batch": (list("xyxyxyxy"), 0.5), "age": (np.arange(8.0), 0.0)},
        seed=4,
    )
    return adata, truth
