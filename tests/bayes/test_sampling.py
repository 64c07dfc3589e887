"""Sampling: seeds, samplers, the missing extra."""

import sys
import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


@pytest.mark.slow
def test_same_seed_same_draws():
    adata, _ = simulate_counts(4, 25, 2, mean=2.0, within=0.5, seed=2)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second, third = (model.fit(draws=100, tune=100, chains=2, seed=s) for s in (1, 1, 2))
    a, b, c = (r.dataset["posterior_zeta"].values for r in (first, second, third))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.slow
def test_pymc_samples_the_same_posterior():
    adata, _ = simulate_counts(4, 40, 2, mean=3.0, within=0.6, seed=6)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (
            model.fit(draws=300, tune=300, chains=2, seed=1, sampler=s).dataset
            for s in ("nutpie", "pymc")
        )
    assert float(a["fisher_z"][0, 1]) == pytest.approx(
        float(b["fisher_z"][0, 1]), abs=0.3 * float(a["fisher_z_se"][0, 1])
    )


def test_missing_extra_is_one_line(monkeypatch):
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r'pip install "hiercorr\[bayes\]"'):
        model_of(adata).fit(draws=100)
