import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.results.result import CorrelationResult
from hiercorr.schema import build_dataset
from tests.support import VEHICLE


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result(gbm):
    return hc.CSCore(gbm, **VEHICLE, genes=30).fit(per_sample=True)


@pytest.fixture(scope="module")
def big():
    """3,000 genes of two blocks, without the work of estimating them."""
    rng = np.random.default_rng(0)
    load = np.where(np.arange(3000) % 2, 0.7, -0.7) + rng.normal(0, 0.1, 3000)
    r = np.clip(np.outer(load, load), -0.95, 0.95).astype(np.float32)
    p = np.minimum(np.exp(-20 * np.abs(r)) * rng.uniform(0.5, 1.5, r.shape), 1)
    p = np.minimum(p, p.T)
    np.fill_diagonal(r, 1)
    np.fill_diagonal(p, np.nan)
    names = pd.Index([f"g{j}" for j in range(3000)])
    pair = {
        "correlation": r,
        "fisher_z": r,
        "p_value": p,
        "q_value": p,
        "flag": np.zeros(r.shape, np.uint16),
    }
    pair["flag"][np.diag_indices(3000)] = int(hc.Flag.SELF)
    gene = {"detection": rng.uniform(0, 1, 3000), "gene_flag": np.zeros(3000, np.uint16)}
    sample = {"n_cells": np.full(5, 100), "depth": np.full(5, 1e3)}
    return CorrelationResult(
        build_dataset(
            genes=names,
            samples=pd.Index(list("abcde")),
            pair=pair,
            gene=gene,
            sample=sample,
            attrs={"level": "within"},
        )
    )
