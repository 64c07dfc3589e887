"""Simulation-based calibration in the user's design: ranks, their plot, and a wrong posterior."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.bayes import calibration
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("nutpie")
    adata, _ = simulate_counts(4, 25, 3, mean=2.0, seed=1)
    model = model_of(adata, priors={"intercept": {"distribution": "normal", "sigma": 0.5}})
    options = {"draws": 100, "tune": 150, "chains": 2, "ranks": 39, "seed": 3}
    return model, model.sbc(6, "gene0", "gene2", **options)


def test_ranks(found):
    model, ds = found
    assert dict(ds.sizes) == {"replicate": 6, "parameter": 11}
    assert {"zeta", "z_between", "tau", "sd_within[1]", "mean[0]"} <= set(ds["parameter"].values)
    assert 0 <= int(ds["rank"].min()) <= int(ds["rank"].max()) <= 39
    means = ds["truth"].sel(parameter="beta[0]")
    log_mean = np.log(model.counts.toarray()[:, 0].mean())
    assert abs(float(means.mean()) - log_mean) < 4 * 0.5 / np.sqrt(6) + 0.5  # the user's means
    with pytest.raises(hc.InputError, match="sbc needs one pair, and the model has 3 genes"):
        model.sbc(1)
    with pytest.raises(hc.InputError, match="ranks must be no more than 1,000"):
        model.sbc(1, "gene0", "gene1", ranks=10**6)


def test_plot(found):
    pytest.importorskip("matplotlib").use("Agg")
    ax = hc.plotting.ranks(found[1])
    assert len(ax.get_lines()) == 12
    with pytest.raises(hc.InputError, match="calibration must be"):
        hc.plotting.ranks(found[1].drop_vars("rank"))


def test_ranks_are_uniform_and_those_of_a_wrong_prior_are_not(monkeypatch):
    adata, _ = simulate_counts(5, 60, 2, mean=2.0, seed=1)
    model = model_of(adata, priors={"intercept": {"distribution": "normal", "sigma": 0.5}})
    options = {"draws": 150, "tune": 200, "chains": 2, "ranks": 49, "seed": 3}

    def p_values(ds):
        u = (ds["rank"] + 0.5) / 50
        return {
            str(k): stats.kstest(u.sel(parameter=k), "uniform").pvalue
            for k in u["parameter"].values
        }

    right = p_values(model.sbc(60, **options))
    assert min(right.values()) > 0.001
    drawn = calibration.draw_parameters

    def shifted(*args):
        found = drawn(*args)
        return replace(found, zeta=found.zeta + 1.0, z_sample=found.z_sample + 1.0)

    monkeypatch.setattr(calibration, "draw_parameters", shifted)
    assert p_values(model.sbc(40, **options))["zeta"] < 1e-4
