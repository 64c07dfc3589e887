"""Methods paragraph of the Bayesian model."""

import pytest

import hiercorr as hc
from hiercorr.reporting.bayes_text import bayesian
from hiercorr.reporting.wording import Facts

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::hiercorr.DataWarning",
    "ignore::hiercorr.EstimationWarning",
)


@pytest.mark.usefixtures("undrawn")
def test_methods_text_and_report(fitted, tmp_path):
    _, r, _, _ = fitted
    page = hc.report(tmp_path / "b.html", r, r.at("between")).read_text()
    assert "Poisson-lognormal hierarchical model" in page
    assert "Aitchison" in page


ATTRS = {
    "n_cells": 400,
    "n_samples": 6,
    "sample_column": "donor",
    "estimator": "marginal, NUTS (nutpie)",
    "structure": "both",
    "heterogeneity": 1,
    "draws": 1000,
    "tune": 400,
    "chains": 4,
    "seed": 5,
    "prior_tau": "halfnormal(sigma=0.3)",
    "prior_z_between": "lkj(eta=2)",
}


@pytest.mark.parametrize(
    ("change", "present", "absent"),
    [
        ({}, ["4 chains of 1,000 draws", "seed 5", "halfnormal(sigma=0.3)", "LKJ"], ["blocks"]),
        ({"heterogeneity": 0}, ["the same in all samples"], ["halfnormal"]),
        ({"structure": "within"}, ["independence between samples"], ["LKJ"]),
        ({"block": "mouse"}, ["Samples of the same mouse"], []),
        ({"chains": None}, ["independent draws", "empirical Bayes"], ["chains", "No-U-Turn"]),
        ({"estimator": "marginal, NUTS (pymc)"}, ["PyMC"], ["nutpie"]),
        ({"positive_definite_between": 0}, ["nearest correlation matrix"], []),
    ],
)
def test_what_was_fitted_and_nothing_else(change, present, absent):
    text = bayesian(Facts({**ATTRS, **change}, genes=3))
    assert all(words in text for words in present)
    assert not any(words in text for words in absent)
