"""Covariates of cells: their effects, against an independent regression; what is left of them."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from scipy import special

import hiercorr as hc
from hiercorr.bayes.cell_effects import centred_within, fit_effects
from hiercorr.bayes.models import _Cells
from hiercorr.bayes.refinement import cell_log_likelihood
from hiercorr.reporting import methods_text
from tests.bayes.support import model_of
from tests.bayes.test_large_counts import cell_likelihood

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")
SAMPLES, CELLS = 5, 120
STARTS = np.arange(SAMPLES + 1) * CELLS
FIT = {"draws": 150, "tune": 200, "chains": 2, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def data():
    """Genes of which two correlate by 0.3 in cells with equal w, and all depend on w."""
    rng, sample = np.random.default_rng(3), np.repeat(np.arange(SAMPLES), CELLS)
    n = len(sample)
    s = np.exp(0.4 * rng.standard_normal(n))
    w = rng.standard_normal(n) + 0.5 * rng.standard_normal(SAMPLES)[sample]
    e = rng.standard_normal((n, 3))
    e[:, 1] = 0.3 * e[:, 0] + np.sqrt(1 - 0.3**2) * e[:, 1]
    base = np.log([1.0, 3.0, 2.0]) + 0.3 * rng.standard_normal((SAMPLES, 3))
    rate = base[sample] + 0.6 * e + w[:, None] * np.array([0.7, 0.7, -0.5])
    obs = pd.DataFrame(
        {
            "sample": np.char.mod("s%d", sample),
            "depth": s / s.mean() * 1e4,
            "w": w,
            "phase": np.where(w + rng.standard_normal(n) > 0, "S", "G1"),
            "age": np.arange(SAMPLES)[sample] * 1.0,
        },
        index=np.char.mod("c%d", np.arange(n)),
    )
    x = rng.poisson((s / s.mean())[:, None] * np.exp(rate)).astype(np.int32)
    return ad.AnnData(sp.csr_matrix(x), obs, pd.DataFrame(index=["a", "b", "c"]))


def test_effects_are_those_of_a_negative_binomial_regression(data):
    """statsmodels, with an intercept of every sample; the prior of 1 hardly matters."""
    x, log_s = data.X.toarray(), np.log(data.obs["depth"].to_numpy() / 1e4)
    z = centred_within(np.stack([data.obs["w"], data.obs["phase"] == "S"], 1).astype(float), STARTS)
    assert np.abs(np.add.reduceat(z, STARTS[:-1])).max() < 1e-9
    found = fit_effects(x, log_s, STARTS, z, np.full(2, 10.0))
    intercepts = np.repeat(np.eye(SAMPLES), CELLS, 0)
    for j in range(3):
        fit = sm.NegativeBinomial(x[:, j], np.hstack([intercepts, z]), offset=log_s).fit(disp=0)
        se = fit.bse[SAMPLES : SAMPLES + 2]
        assert (abs(found[:, j] - fit.params[SAMPLES : SAMPLES + 2]) < 0.35 * se).all()
    near = fit_effects(x, log_s, STARTS, z, np.full(2, 1e-4))
    assert np.abs(near).max() < 1e-3


def test_a_level_without_counts_has_the_finite_effect_of_the_prior():
    x = np.repeat([0, 3], 50)[:, None]
    z = centred_within(np.repeat([1.0, 0.0], 50)[:, None], np.array([0, 100]))
    found = fit_effects(x, np.zeros(100), np.array([0, 100]), z, np.ones(1))
    assert -6 < found[0, 0] < -2


@pytest.mark.slow
def test_correlation_of_cells_with_equal_covariates(data):
    pytest.importorskip("nutpie")
    without, given = (
        model_of(data, genes=["a", "b"], covariates=c).fit(**FIT) for c in (None, ["w"])
    )
    assert without["a", "b"]["ci_lower"] > 0.35
    row = given["a", "b"]
    assert row["ci_lower"] < 0.3 < row["ci_upper"]
    assert given.dataset.attrs["covariates"] == "~ `w`"
    assert "gamma-Poisson regression" in methods_text(given)
    effect = given.idata.constant_data["covariate_effect"]
    assert effect.sizes == {"cell": data.n_obs, "gene": 2}
    slope = np.polyfit(data.obs["w"], effect[:, 0], 1)[0]
    assert slope == pytest.approx(0.6, abs=0.25)


@pytest.mark.slow
def test_every_route_uses_the_exposure_of_each_gene(data):
    """Rows, the cells' likelihood, PyMC and replicated counts, with a permutation of genes.

    The reference is a rule of integration centred at the mode of each cell, with its own means.
    """
    pytest.importorskip("nutpie")
    pt = pytest.importorskip("pytensor.tensor")
    model = model_of(data, covariates="~ w + phase")
    pair = model.pair("c", "a")
    x, exposure = data.X.toarray()[:, [2, 0]], pair.exposure
    np.testing.assert_array_equal(pair.x, x)
    np.testing.assert_array_equal(pair.rows.log_s, exposure)
    assert (
        np.corrcoef(exposure[:, 0], exposure[:, 1])[0, 1]
        < np.corrcoef(*model.pair("a", "b").exposure.T)[0, 1]
    )
    at = np.arange(2)
    mean = np.repeat(pair.centre[None], 2, 0)
    sd, rho = np.full((2, SAMPLES, 2), 0.7), np.repeat([[0.0], [0.4]], SAMPLES, 1)
    values = {"mean": mean, "sd_of_samples": sd, "z_sample": np.arctanh(rho)}
    draws = SimpleNamespace(flat=lambda name, _: values[name])
    each = cell_log_likelihood(pair, draws, at)
    from_pymc = _Cells(exposure, STARTS, pair.grid).logp(
        pt.constant(x), *(pt.constant(np.repeat(v[1], CELLS, 0)) for v in (mean, sd, rho))
    )
    np.testing.assert_allclose(from_pymc.eval(), each[1], atol=1e-6)
    for i in (0, 150, 599):
        given = mean[0, i // CELLS] + exposure[i], sd[0, 0]
        for d in at:
            exact = cell_likelihood(x[i].astype(float), 0.0, *given, rho[d, 0])
            # which leaves out the constants of the normal and the Poisson distribution
            wanted = exact - np.log(2 * np.pi) - special.gammaln(x[i] + 1).sum()
            assert each[d, i] == pytest.approx(wanted, abs=2e-3)
    r = model.fit(**FIT)
    group = r.pair_idata("a", "c")
    counts = group.posterior_predictive["counts"]
    other = np.asarray(group.observed_data["counts"])
    assert np.asarray(counts).mean((0, 1, 2)) == pytest.approx(other.mean(0), rel=0.2)
    seen = model.posterior_predictive(r, draws=60, seed=1)
    assert (seen["p_observed"] > 0.01).all()


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("~ age", r"age has one value in each sample.*formula='~ age'"),
        ("~ w + age", r"age has one value in each sample"),
        ("~ nothing", "unknown column in the formula 'nothing'"),
        ("~ 1", "has no terms"),
        ("~ w + (1 | sample)", "block='sample' instead"),
    ],
)
def test_refusals(data, formula, text):
    with pytest.raises(hc.InputError, match=text):
        model_of(data, covariates=formula)


def test_fits_without_covariates_of_cells_refuse_them(data):
    model = model_of(data, covariates="~ w", heterogeneity=False)
    for call in (
        lambda: model.fit(method="joint"),
        lambda: model.fit(method="latent"),
        lambda: model.fit_many("a"),
        lambda: model.predicted_seconds(method="joint"),
    ):
        with pytest.raises(hc.InputError, match="covariates="):
            call()
