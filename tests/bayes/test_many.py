"""One gene against many on a grid: agreement with NUTS and with the moment estimator."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import hiercorr as hc
from hiercorr.bayes import many
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")

VEHICLE = {"condition": "ctrl"}


@pytest.mark.slow
def test_fit_many_agrees_with_nuts(fitted):
    model, r, _, _ = fitted
    many = model.fit_many("gene1", seed=1)
    for level in ("within", "between"):
        a, b = r.at(level).dataset, many.at(level).dataset
        for gene in ("gene0", "gene2"):
            full = a.sel(gene="gene1", partner=gene)
            fast = b.isel(target=0).sel(gene=gene)
            assert float(fast["fisher_z"]) == pytest.approx(
                float(full["fisher_z"]), abs=0.3 * float(full["fisher_z_se"])
            )
            assert float(fast["fisher_z_se"]) == pytest.approx(float(full["fisher_z_se"]), rel=0.2)
    assert many.dataset.attrs["uncertainty"] == "posterior, not MCMC"
    assert "not MCMC" in str(many.summary())
    assert "r_hat" not in many.dataset
    assert many.dataset["posterior_zeta"].dims == ("chain", "draw", "drawn_pair")
    assert many.idata["posterior"]["zeta"].dims == ("chain", "draw", "pair")


@pytest.mark.slow
def test_fit_many_subset_shrinkage_and_threads(fitted):
    model, *_ = fitted
    one = model.fit_many("gene1", ["gene0"], seed=1)
    assert list(one.genes) == ["gene1", "gene0"]
    two = model.fit_many("gene1", seed=1, n_jobs=1)
    three = model.fit_many("gene1", seed=1, n_jobs=2)
    xr.testing.assert_equal(two.dataset, three.dataset)
    adata, _ = simulate_counts(5, 150, 21, mean=1.0, within=0.0, seed=8)
    null = hc.BayesianCorrelation(adata, "sample", depth="depth")
    plain, shrunk = (
        null.fit_many("gene0", shrink=s, seed=1).dataset["correlation"].values[0, 1:]
        for s in (False, True)
    )
    assert np.abs(shrunk).mean() < 0.7 * np.abs(plain).mean()


def test_grid_draws_follow_the_density():
    log_density = stats.norm.logpdf(many.FINE, 0.4, 0.3)[None]
    draws = many.grid_draws(log_density, 4000, np.random.default_rng(0))[:, 0]
    assert draws.mean() == pytest.approx(0.4, abs=0.01)
    assert draws.std() == pytest.approx(0.3, abs=0.01)


def test_agrees_with_moments_on_real_data(gbm):
    """For well-measured genes the moment estimate lies in the Bayesian interval."""
    genes = ["FTL", "FTH1", "MT2A", "SPP1", "CLU", "CHI3L1", "B2M"]
    options = {"depth": "total_counts", "subset": VEHICLE}
    bayes = hc.BayesianCorrelation(gbm, "sample_id", genes, **options).fit_many("FTL", seed=1)
    moments = hc.CSCore(gbm, "sample_id", genes, **options).fit(target="FTL")
    both = hc.compare({"Bayesian": bayes, "moments": moments})
    within = (
        both.table[both.table["level"] == "within"]
        .set_index(["gene_b", "result"])["correlation"]
        .unstack()
    )
    assert (within["Bayesian"] - within["moments"]).abs().max() < 0.12
    width = (both.table["ci_upper"] - both.table["ci_lower"]).rename("width")
    keys = ["gene_b", "result"]
    se = pd.concat([both.table[[*keys, "level"]], width / 3.92], axis=1)
    se = se[se["level"] == "within"].set_index(keys)["width"].unstack()
    joint = np.sqrt((se**2).sum(axis=1))
    assert ((within["Bayesian"] - within["moments"]).abs() < 2 * joint).all()


@pytest.mark.parametrize(("mean", "low"), [(0.05, True), (0.4, False)])
def test_too_few_counts_are_flagged(mean, low):
    """Where counts are too few, estimates of a correlation of 0.5 are far too low, and flagged."""
    found, flags = [], []
    for seed in range(10):
        adata, _ = simulate_counts(6, 300, 2, mean=mean, within=0.5, seed=seed)
        model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        r = model.fit_many("gene0", seed=1, progress=False)
        found.append(float(r.dataset["natural_correlation"][0, 1]))
        flags.append(bool(int(r.dataset["flag"][0, 1]) & int(hc.Flag.LOW_INFORMATION)))
        assert (r.dataset["information"] < 2).all() == low
    assert all(flags) if low else not any(flags)
    assert (np.mean(found) < 0.4) == low
    assert np.mean(found) < 0.6


def test_prediction_at_the_requested_confidence(fitted):
    model, *_ = fitted
    narrow, wide = (model.fit_many("gene1", seed=1, confidence=c) for c in (0.5, 0.95))
    for r, percent in ((narrow, "50%"), (wide, "95%")):
        assert percent in r.dataset["prediction_lower"].attrs["long_name"]
    width = [
        float((r.dataset["prediction_upper"] - r.dataset["prediction_lower"])[0, 0])
        for r in (narrow, wide)
    ]
    assert width[0] < 0.6 * width[1]
