"""Predicted times against those that fits take."""

import logging
import time

import numpy as np
import pytest

from hiercorr.bayes.cost import gradients_per_draw, measured_seconds, predicted_seconds
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "cells", "mean"), [(4, 40, 0.5), (6, 150, 2.0), (8, 60, 8.0)])
def test_prediction_is_right_within_a_factor(samples, cells, mean):
    """The time that the sampler takes per gradient, on this machine and now, is the reference."""
    pytest.importorskip("nutpie")
    adata, _ = simulate_counts(samples, cells, 2, mean=mean, within=0.5, seed=1)
    pair, settings = model_of(adata).pair("gene0", "gene1"), Settings(150, 150, 2)
    before = measured_seconds([pair], settings, 1)
    start = time.perf_counter()
    sample_pair(pair, settings, 1)
    seconds = time.perf_counter() - start
    after = measured_seconds([pair], settings, 1)
    # 2 for the prediction; as much again for what other processes take meanwhile, and trajectories
    # that are twice as long; the start of the sampler takes up to a second.
    assert seconds < 4 * max(before, after) + 1
    assert min(before, after) < 4 * seconds


@pytest.mark.slow
@pytest.mark.parametrize("within", [0.3, 0.97])
@pytest.mark.parametrize("sd_per_sample", [False, True])
def test_length_of_trajectories_is_right_within_a_factor_of_2(within, sd_per_sample):
    """The number of gradients, which does not depend on the load of the machine."""
    pytest.importorskip("nutpie")
    adata, _ = simulate_counts(5, 40, 2, mean=4.0, within=within, seed=2)
    pair = model_of(adata, sd_per_sample=sd_per_sample).pair("gene0", "gene1")
    taken = sample_pair(pair, Settings(200, 300, 2), 5).n_steps.mean()
    assert taken / 2 < gradients_per_draw(pair) < 2 * taken


@pytest.mark.slow
def test_predictions_of_panels_and_without_data(caplog):
    pytest.importorskip("nutpie")
    adata, _ = simulate_counts(4, 40, 4, mean=2.0, within=0.5, seed=1)
    model = model_of(adata)
    some = [model.predicted_seconds(200, 200, 2, target=t) for t in (None, "gene1")]
    assert 0.5 < some[0] / some[1] < 8  # 6 pairs, and 3
    assert predicted_seconds(2000, 6, 400) == pytest.approx(6 * predicted_seconds(2000, 1, 400))
    with caplog.at_level(logging.INFO, "hiercorr"):
        model.fit(draws=100, tune=100, chains=2, seed=1, target="gene1")
    assert any("about" in m and "for 3 pairs" in m for m in caplog.messages)
    assert np.isfinite(some).all()
