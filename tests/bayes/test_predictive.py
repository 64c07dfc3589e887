"""Predictive checks, comparison of structures, WAIC by hand, prior sensitivity."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.predictive import waic
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_posterior_and_prior_predictive(fitted):
    model, r, _, adata = fitted
    after = model.posterior_predictive(r, draws=60, seed=1)
    assert dict(after.sizes) == {"draw": 60, "gene": 3, "pair": 3}
    zeros = (adata.X.toarray() == 0).mean(0)
    np.testing.assert_allclose(after["data_zeros"], zeros)
    assert (np.abs(after["zeros"].mean("draw") - zeros) < 0.03).all()
    assert (after["p_observed"] > 0.02).all()  # the model that made the data is not found wanting
    before = model.prior_predictive(draws=60, seed=1)
    assert (before["zeros"].std("draw") > 3 * after["zeros"].std("draw")).all()
    assert "p_zeros" not in before


@pytest.mark.slow
def test_predictive_check_sees_zero_inflation():
    adata, _ = simulate_counts(4, 120, 2, mean=20.0, within=0.5, seed=3)
    rng = np.random.default_rng(0)
    adata.X = adata.X.multiply(rng.random(adata.shape) > 0.3).tocsr().astype(np.int32)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = model.fit(draws=200, tune=200, chains=2, seed=1)
    assert (model.posterior_predictive(r, 60, seed=1)["p_zeros"] < 0.1).all()


@pytest.mark.slow
def test_leave_one_out_prefers_the_structure_that_is_there():
    adata, _ = simulate_counts(4, 40, 2, mean=[4.0, 6.0], within=0.5, between=0.3, seed=5)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    table = model.compare_structures("gene0", "gene1", seed=1, draws=100, tune=100, chains=2)
    assert table.index[-1] == "independent"
    assert set(table.index) == {"both", "within", "independent"}
    assert table["elpd_waic"].idxmin() == "independent"
    assert np.isfinite(table[["elpd_donor", "se_donor"]]).all(axis=None)
    assert ((table["refitted_donors"] >= 0) & (table["refitted_donors"] <= 4)).all()
    # That of all cells of a donor includes how donors differ: it is lower than that of its cells.
    assert (table["elpd_donor"] < table["elpd_waic"]).all()
    assert table["elpd_donor"].idxmin() == "independent"
    for name in ("elpd_waic", "elpd_donor"):  # without correlation they differ by 2 at most
        assert (table[name] - table.loc["independent", name]).drop("independent").min() > 4
    loo = table["elpd" if "elpd" in table else "elpd_loo"]
    np.testing.assert_allclose(
        table["elpd_waic"], loo, atol=6
    )  # they agree where neither is in trouble; ArviZ 1 rounds


def test_waic_by_hand():
    value = np.log(np.array([[0.2, 0.5], [0.4, 0.1]]))
    found = waic(value)
    effective = np.var(value, axis=0, ddof=1)
    assert found["p_waic"] == pytest.approx(effective.sum())
    assert found["elpd_waic"] == pytest.approx((np.log([0.3, 0.3]) - effective).sum())


@pytest.mark.slow
def test_prior_sensitivity_shows_few_samples():
    adata, _ = simulate_counts(6, 40, 2, mean=[2.0, 3.0], within=0.5, between=0.3, seed=5)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    table = model.prior_sensitivity(
        "gene0",
        "gene1",
        {"lkj": {}, "tight": {"z_between": {"distribution": "normal", "sigma": 0.05}}},
        seed=1,
        draws=200,
        tune=200,
        chains=2,
    )
    between = table[table["level"] == "between"].set_index("priors")
    assert between.loc["tight", "sd"] < between.loc["lkj", "sd"] / 3
    assert between.loc["tight", "prior_upper"] < 0.2
