"""From draws to variables: both levels, intervals, projection, flags of bad draws."""

import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.bayes.diagnostics import diagnose
from hiercorr.bayes.tables import _natural_and_predicted, projected
from hiercorr.inference.credible import highest_density
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_schema_and_levels(fitted):
    _, r, _, _ = fitted
    ds = r.dataset
    for name in (
        "correlation",
        "fisher_z",
        "fisher_z_se",
        "sd",
        "ci_lower",
        "ci_upper",
        "probability_of_direction",
        "rope_share",
        "flag",
        "ess_bulk",
        "ess_tail",
        "r_hat",
    ):
        assert ds[name].dims == ("gene", "partner")
        np.testing.assert_array_equal(ds[name].values, ds[name].values.T)
        assert ds[name].attrs["long_name"]
    z = ds["posterior_zeta"].values[..., 0].ravel()
    assert ds["correlation"].values[0, 1] == pytest.approx(np.tanh(z).mean(), abs=1e-6)
    assert ds["fisher_z_se"].values[0, 1] == pytest.approx(z.std(ddof=1), abs=1e-6)
    assert ds.attrs["level"] == "within"
    between = r.at("between")
    assert between.dataset.attrs["level"] == "between"
    z = ds["posterior_z_between"].values[..., 0].ravel()
    assert between.dataset["correlation"].values[0, 1] == pytest.approx(np.tanh(z).mean(), abs=1e-6)
    xr.testing.assert_identical(between.at("within").dataset, ds)
    assert r.at("within") is not None
    with pytest.raises(hc.InputError, match="unknown level 'pooled'"):
        r.at("pooled")
    assert "Prior of the correlation between samples: 95% in -0.81..0.81" in str(between.summary())
    assert "R-hat" in str(r.summary())
    with pytest.raises(hc.InputError, match="it is a posterior"):
        r.pairs(q=0.05)
    assert len(r.pairs()) == 3
    assert r.top("gene0").index.tolist()[0] == "gene1"
    assert ds.attrs["prior_tau"] == "halfnormal(sigma=0.3)"


def test_bad_draws_are_flagged():
    adata, _ = simulate_counts(4, 60, 2, mean=2.0, within=0.5, seed=2)
    with pytest.warns(
        hc.EstimationWarning, match=r"not_converged \(fewest effective draws: .*\): raise draws="
    ):
        r = hc.BayesianCorrelation(adata, "sample", depth="depth").fit(
            draws=100, tune=100, chains=2, seed=1
        )
    assert r.flag_counts()["not_converged"] == 1
    assert "not_converged" in str(r.summary())


def test_projection_is_the_nearest_correlation_matrix():
    bad = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    nearest, smallest = projected(bad)
    assert smallest == pytest.approx(-0.8)
    assert np.linalg.eigvalsh(nearest)[0] > -1e-7
    np.testing.assert_allclose(np.diag(nearest), 1)
    assert nearest[0, 1] == pytest.approx(0.5, abs=0.02)  # by symmetry, r, r, -r at the edge
    good, _ = projected(np.array([[1, 0.2], [0.2, 1]]))
    np.testing.assert_array_equal(good, [[1, 0.2], [0.2, 1]])


def test_interval_is_the_shortest():
    draws = np.random.default_rng(0).exponential(size=(20000, 1))
    low, high = highest_density(draws, 0.9)
    assert low[0] < 0.01
    assert high[0] == pytest.approx(-np.log(0.1), rel=0.05)


def test_diagnostics_cover_every_parameter_that_is_reported(fitted):
    """The worst of all, by ArviZ: also of tau, standard deviations, means and predictions."""
    az = pytest.importorskip("arviz")
    _, r, _, _ = fitted
    idata = r.pair_idata("gene0", "gene1")
    within = ["zeta", "natural", "tau", "sd_within", "mean"]
    rows = az.summary(idata, var_names=within, round_to="none")
    ess = r.dataset["ess_bulk"].sel(gene="gene0", partner="gene1")
    assert float(ess) <= rows["ess_bulk"].astype(float).min() + 1e-6
    assert float(r.dataset["r_hat"].sel(gene="gene0", partner="gene1")) >= (
        rows["r_hat"].astype(float).max() - 1e-6
    )
    between = r.at("between").dataset["ess_bulk"].sel(gene="gene0", partner="gene1")
    rows = az.summary(idata, var_names=["z_between", "sd_between", "beta", "mean"], round_to="none")
    assert float(between) == pytest.approx(rows["ess_bulk"].astype(float).min(), rel=1e-6)
    assert r.dataset.attrs["worst_parameter"] in {*within, "within_sample", "new_sample"}


def test_a_parameter_that_has_not_converged_flags_its_pair():
    rng = np.random.default_rng(0)
    good = rng.standard_normal((4, 500, 2))
    stuck = good.copy()
    stuck[..., 1] += 3 * np.arange(4)[:, None]  # chains of the second pair at different values
    stats = {"energy": rng.standard_normal((4, 500, 2)), "diverging": np.zeros((4, 500, 2), bool)}
    found = diagnose({"zeta": good, "tau": stuck[..., None]}, stats)
    assert [int(f) & int(hc.Flag.NOT_CONVERGED) > 0 for f in found.flag] == [False, True]
    assert found.worst == "tau"
    assert found.table["r_hat"][1] > 1.5 > found.table["r_hat"][0]


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_predictions_at_the_requested_confidence(confidence):
    draws = np.random.default_rng(0).normal(0.5, 0.1, (2, 1000, 1))
    values = {"zeta": draws, "natural": draws, "tau": np.abs(draws), "new_sample": draws}
    found = _natural_and_predicted(values, confidence)
    inside = (draws >= found["prediction_lower"]) & (draws <= found["prediction_upper"])
    assert inside.mean() == pytest.approx(confidence, abs=0.01)
