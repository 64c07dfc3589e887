"""The compiled density and the models as PyMC states them."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.models import marginal_model
from hiercorr.bayes.sampling import unpack
from hiercorr.simulate import simulate_counts
from tests.bayes.support import NO_STATISTICS, pair_of, regression_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_models_are_found_as_the_docs_write_them():
    code = "import hiercorr as hc; print(callable(hc.bayes.models.marginal_model))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("more", [False, True])
def test_density_is_that_of_the_model_in_pymc(cells, more):
    """They differ by a constant, with blocks, covariates and heterogeneity."""
    pytest.importorskip("pymc")
    design = np.column_stack([np.ones(6), [0, 1, 0, 1, 0, 1.0]])
    extra = {"regression": regression_of([0, 1, 0, 1, 1, 1], [1, 2, 4, 8, 3, 1])} if more else {}
    pair = pair_of(cells, (1, 2), [0, 0, 1, 1, 1, 2], design=design, sd_per_sample=more, **extra)
    model = marginal_model(pair)
    logp = model.compile_logp(jacobian=True, mode="FAST_COMPILE")
    names = model.initial_point()
    rng, s, differences = np.random.default_rng(1), pair.layout.log_sd_within.start, []

    def fitted(d):
        z = d.zeta[0, 0]
        return z + d.slopes[0, 0] @ pair.regression.design.T if more else z

    for _ in range(3):
        theta = pair.initial + pair.spread * rng.standard_normal(pair.layout.size)
        d = unpack(pair, theta[None, None], NO_STATISTICS)
        first = [int(np.flatnonzero(pair.unit == u)[0]) for u in range(pair.layout.n_units)]
        point = {
            "log_mean" if more else "mean": d.mean[0, 0] + more * d.sd_of_samples[0, 0] ** 2 / 2,
            "beta": d.coefficient[0, 0],
            "sd_within_log__": theta[s : s + 2],
            "sd_between_log__": theta[s + 2 : s + 4],
            "zeta_half_logodds__": 2 * d.zeta[0, 0],
            "z_between_half_logodds__": 2 * d.z_between[0, 0],
            "tau_log__": np.log(d.tau[0, 0]),
            "eta": (d.z_sample[0, 0] - fitted(d))[first] / d.tau[0, 0],
            "share_logodds__": theta[pair.layout.logit_share],
        }
        partly_centred = -(pair.centred * np.log(d.tau[0, 0])).sum()  # the Jacobian of eta
        if more:
            point |= {
                "z_slope": d.slopes[0, 0],
                "omega_log__": np.log(d.omega[0, 0]),
                "xi": np.log(d.sd_sample[0, 0] / d.sd_within[0, 0]) / d.omega[0, 0],
            }
            partly_centred -= (pair.sd_centred * np.log(d.omega[0, 0])).sum()
        assert set(point) == set(names)
        stated = logp({k: np.asarray(v, float) for k, v in point.items()})
        differences.append(pair.log_density(theta)[0] - stated - partly_centred)
    assert np.ptp(differences) < 1e-6


@pytest.mark.slow
def test_latent_model_agrees_with_the_marginal_one():
    pytest.importorskip("pymc")
    adata, _ = simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=6)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth", heterogeneity=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        marginal = model.fit(draws=400, tune=300, chains=2, seed=1)
        latent = model.fit(draws=300, tune=300, chains=2, seed=1, method="latent")
    for level in ("within", "between"):
        a, b = marginal.at(level).dataset, latent.at(level).dataset
        assert float(a["fisher_z"][0, 1]) == pytest.approx(
            float(b["fisher_z"][0, 1]), abs=0.5 * float(a["fisher_z_se"][0, 1])
        )
        assert float(a["fisher_z_se"][0, 1]) == pytest.approx(
            float(b["fisher_z_se"][0, 1]), rel=0.4
        )
    assert latent.idata["posterior"]["within"].dims == ("chain", "draw")
