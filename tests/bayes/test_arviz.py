"""Draws in ArviZ: every function that users call, on whichever version is installed."""

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import hiercorr as hc
from hiercorr.results.posterior import to_arviz
from tests.bayes.support import model_of

az = pytest.importorskip("arviz")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

NEW = int(az.__version__.split(".")[0]) >= 1
ONE = ["zeta", "z_between"]
GROUPS = {
    "posterior",
    "sample_stats",
    "log_likelihood",
    "log_prior",
    "posterior_predictive",
    "prior",
    "observed_data",
    "constant_data",
}
# function, arguments, whether it needs groups of cells, which only a single pair has; where a name
# exists in one version only, the other version has another name, which is in the table as well
FUNCTIONS = {
    "summary": ({}, False),
    "ess": ({}, False),
    "rhat": ({}, False),
    "mcse": ({}, False),
    "hdi": ({}, False),
    "bfmi": ({}, False),
    "loo": ({}, True),
    "plot_trace": ({"var_names": ONE}, False),
    "plot_trace_dist": ({"var_names": ONE}, False),
    "plot_pair": (
        {"var_names": ONE, **({"visuals": {"divergence": True}} if NEW else {"divergences": True})},
        False,
    ),
    "plot_energy": ({}, False),
    "plot_rank": ({"var_names": ONE}, False),
    "plot_forest": ({"var_names": ONE}, False),
    "plot_ppc": ({"num_pp_samples": 20}, True),
    "plot_ppc_dist": ({"num_samples": 20}, True),
    "psens": ({"var_names": ONE}, True),
    "psense": ({"var_names": ONE}, True),
    "psense_summary": ({"var_names": ONE}, True),
}


# what a joint fit cannot have, as its sampler has no energy; draws of cells are fewer than others
OF_HAMILTONIANS = {"bfmi", "plot_energy"}
OF_SAME_DRAWS = {"loo", "psens", "psense", "psense_summary"}


@pytest.fixture(scope="module")
def joint():
    adata, _ = hc.simulate.simulate_counts(4, 60, 3, mean=[2.0, 1.0, 4.0], within=0.5, seed=2)
    model = model_of(adata)
    return model.fit(method="joint", draws=200, tune=100, chains=2, seed=1, progress=False).idata


@pytest.fixture(scope="module")
def pair(fitted):
    return fitted[1].pair_idata("gene0", "gene1")


def groups_of(idata):
    return set(idata.children) if NEW else set(idata.groups())


def group(idata, name):
    found = idata[name]
    return found.to_dataset() if NEW else found


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("of", ["pair", "panel"])
def test_functions(fitted, pair, name, of):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    options, of_cells = FUNCTIONS[name]
    if not hasattr(az, name):
        pytest.skip(f"ArviZ {az.__version__} has no {name}")
    if of_cells and of == "panel":
        assert not {"log_likelihood", "posterior_predictive"} & groups_of(fitted[1].idata)
        return
    found = getattr(az, name)(pair if of == "pair" else fitted[1].idata, **options)
    assert found is not None
    plt.close("all")


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - OF_HAMILTONIANS))
def test_functions_of_joint_fits(joint, name):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    options = dict(FUNCTIONS[name][0])
    if not hasattr(az, name):
        pytest.skip(f"ArviZ {az.__version__} has no {name}")
    if "var_names" in options:
        options["var_names"] = ["within", "tau"]
    if "visuals" in options or "divergences" in options:
        del options["visuals" if NEW else "divergences"]
    data = at_draws_of_cells(joint) if name in OF_SAME_DRAWS else joint
    found = getattr(az, name)(data, **options)
    assert found is not None
    if name.startswith("loo"):
        assert np.isfinite(found.elpd if NEW else found.elpd_loo)
    if name == "psens":
        assert np.isfinite(found["tau"]).all()
    plt.close("all")


def at_draws_of_cells(data):
    return data.sel(draw=data["log_likelihood"]["draw"])


def test_leave_one_out_of_joint_fits(joint):
    """Of the draws that have a likelihood, and as many of the posterior."""
    few = at_draws_of_cells(joint)
    assert set(groups_of(few)) == set(groups_of(joint))
    draws = {name: group(few, name).sizes["draw"] for name in ("posterior", "log_prior", "prior")}
    assert set(draws.values()) == {100}
    found = az.loo(few, pointwise=True)
    each = np.asarray(found.elpd_i if NEW else found.loo_i)
    assert np.isfinite(each).all()
    assert "idata.sel" in group(joint, "log_likelihood")["counts"].attrs["note"]


def test_more_draws_than_usual_of_the_prior():
    adata, _ = hc.simulate.simulate_counts(4, 20, 2, mean=2.0, within=0.5, seed=2)
    r = model_of(adata, heterogeneity=False).fit(
        method="joint", draws=1100, tune=100, chains=2, seed=1, progress=False
    )
    assert group(at_draws_of_cells(r.idata), "posterior").sizes["draw"] == 100
    thinned = hc.CorrelationResult(r.dataset.isel(draw=slice(0, 1100, 9))).idata
    assert group(thinned, "posterior_predictive").sizes["draw"] < 100


def test_groups_of_joint_fits(joint):
    assert groups_of(joint) == GROUPS - {"sample_stats"}
    posterior, log_prior = group(joint, "posterior"), group(joint, "log_prior")
    assert set(log_prior) == {"within", "between", "sd_within", "sd_between", "beta", "tau"}
    for values in log_prior.data_vars.values():
        assert values.dims == ("chain", "draw")
        assert values.shape == posterior["tau"].shape
    value = group(joint, "log_likelihood")["counts"]
    assert value.dims == ("chain", "draw", "cell")
    assert value.shape == (2, 100, 240)
    assert value.dtype == np.float64
    np.testing.assert_array_equal(group(joint, "posterior_predictive")["draw"], value["draw"])
    assert set(value["draw"].values) < set(posterior["draw"].values)


def test_compare(fitted):
    r = fitted[1]
    both = {name: r.pair_idata("gene0", name) for name in ("gene1", "gene2")}
    table = az.compare(both)  # of different data, for the function alone
    assert set(table.index) == set(both)


@pytest.mark.parametrize("component", ["prior", "likelihood"])
def test_power_scaling_of_both_components(pair, component):
    if NEW:
        found = az.psense(pair, group=component, var_names=ONE)
    else:
        found = az.psens(pair, component=component, var_names=ONE)
    values = np.array([float(found[name]) for name in ONE])
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    if component == "likelihood":  # 900 cells say much of the correlation within samples
        assert values[0] > 0.05


def test_groups_and_types(fitted, pair):
    adata = fitted[3]
    assert groups_of(pair) == GROUPS
    posterior = group(pair, "posterior")
    for values in posterior.data_vars.values():
        assert values.dims[:2] == ("chain", "draw")
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    assert posterior["zeta"].dims == ("chain", "draw")
    assert posterior["sd_within"].dims == ("chain", "draw", "gene")
    assert list(posterior["gene"].values) == ["gene0", "gene1"]
    of_sampler = group(pair, "sample_stats")
    assert set(of_sampler) == {"lp", "energy", "diverging", "tree_depth", "n_steps", "step_size"}
    assert all(v.dims == ("chain", "draw") for v in of_sampler.data_vars.values())
    assert set(group(pair, "prior")) == set(posterior)
    assert set(group(pair, "log_prior")) <= set(posterior)
    observed = group(pair, "observed_data")["counts"]
    np.testing.assert_array_equal(observed.values, adata.X.toarray()[:, :2])
    assert list(observed["cell"].values) == list(adata.obs_names)
    replicated = group(pair, "posterior_predictive")["counts"]
    assert replicated.dims == ("chain", "draw", "cell", "gene")
    assert replicated.values.mean() == pytest.approx(observed.values.mean(), rel=0.05)


def test_every_pair_once(fitted):
    r = fitted[1]
    posterior = group(r.idata, "posterior")
    assert list(posterior["pair"].values) == ["gene0 - gene1", "gene0 - gene2", "gene1 - gene2"]
    assert "draws of different pairs are independent" in posterior.attrs["note"]
    rows = az.summary(r.idata, var_names=["within", "zeta"])
    assert len(rows) == 6
    assert np.isfinite(rows["r_hat"].astype(float)).all()
    assert np.ptp(posterior["within"].values) > 0
    one = group(r.pair_idata("gene2", "gene0"), "posterior")["within"]
    np.testing.assert_array_equal(one, posterior["within"].sel(pair="gene0 - gene2"))
    with pytest.raises(hc.InputError, match="unknown gene 'gene7'"):
        r.pair_idata("gene0", "gene7")
    with pytest.raises(hc.InputError, match="was not drawn"):
        r.pair_idata("gene0", "gene0")


def test_likelihood_of_cells_by_quadrature(fitted, pair):
    """Against Gauss-Hermite rules, at one draw."""
    _, r, _, adata = fitted
    posterior = group(pair, "posterior").isel(chain=1, draw=7)
    log_s = group(pair, "constant_data")["log_depth"].values
    of = group(pair, "constant_data")["sample_of_cell"].values
    t, w = np.polynomial.hermite_e.hermegauss(100)
    w, sd = w / w.sum(), posterior["sd_within"].values
    for i in (0, 400, 899):
        mean = posterior["mean"].values[of[i]]
        rho = float(posterior["within_sample"][of[i]])
        u = mean[0] + sd[0] * t
        v = mean[1] + sd[1] * (rho * t[:, None] + np.sqrt(1 - rho**2) * t)
        x = adata.X.toarray()[i]
        a = stats.poisson.pmf(x[0], np.exp(log_s[i] + u))
        wanted = np.log((a * (stats.poisson.pmf(x[1], np.exp(log_s[i] + v)) @ w)) @ w)
        found = float(group(pair, "log_likelihood")["counts"][1, 7, i])
        assert found == pytest.approx(wanted, abs=1e-3)
    assert r.dataset.sizes["cell"] == 900


def test_joint_draws_with_squares_of_genes():
    """A joint model may store (gene, partner) and (gene,): every pair becomes one entry."""
    rng = np.random.default_rng(0)
    square = rng.normal(size=(2, 50, 3, 3))
    square = square + square.swapaxes(2, 3)
    dataset = xr.Dataset(
        {
            "posterior_within": (("chain", "draw", "gene", "partner"), square.astype(np.float32)),
            "posterior_sd_within": (("chain", "draw", "gene"), rng.normal(size=(2, 50, 3))),
            "stats_energy": (("chain", "draw"), rng.normal(size=(2, 50))),
            "log_likelihood_counts": (("chain", "draw", "cell"), rng.normal(size=(2, 50, 4))),
        },
        {"gene": list("abc"), "partner": list("abc"), "chain": [0, 1], "draw": np.arange(50)},
    )
    idata = to_arviz(dataset)
    posterior = group(idata, "posterior")
    assert posterior["within"].dims == ("chain", "draw", "pair")
    assert list(posterior["pair"].values) == ["a - b", "a - c", "b - c"]
    np.testing.assert_allclose(posterior["within"][..., 1], square[..., 0, 2], rtol=1e-6)
    assert posterior["within"].dtype == np.float64
    assert posterior["sd_within"].dims == ("chain", "draw", "gene")
    assert "note" not in posterior.attrs
    assert len(az.summary(idata)) == 6


def test_model_in_pymc_has_an_observed_variable():
    pm = pytest.importorskip("pymc")
    adata, _ = hc.simulate.simulate_counts(4, 30, 3, mean=2.0, within=0.5, seed=2)
    model = model_of(adata).pymc_model("gene0", "gene2")
    assert [v.name for v in model.observed_RVs] == ["counts"]
    assert list(model.coords["gene"]) == ["gene0", "gene2"]
    assert len(model.coords["cell"]) == adata.n_obs
    with model:
        drawn = pm.sample_prior_predictive(draws=3, random_seed=1)
    assert group(drawn, "prior_predictive")["counts"].shape == (1, 3, adata.n_obs, 2)
    with model:  # it can be extended
        pm.Potential("more", -(model["zeta"] ** 2))
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")(model.initial_point()))
    with pytest.raises(hc.InputError, match="needs one pair, and the model has 3 genes"):
        model_of(adata).pymc_model()
    latent = model_of(adata, heterogeneity=False).pymc_model(method="latent")
    assert latent["within_correlation"].type.ndim == 2
    assert [v.name for v in latent.observed_RVs] == ["counts"]


@pytest.mark.parametrize("sampler", ["nutpie", "numpyro", "blackjax"])
def test_model_in_pymc_is_sampled(sampler):
    pm = pytest.importorskip("pymc")
    pytest.importorskip(sampler)
    adata, _ = hc.simulate.simulate_counts(4, 30, 2, mean=2.0, within=0.5, seed=2)
    options = {"draws": 200, "tune": 200, "chains": 2}
    hiercorr_model = model_of(adata)
    with hiercorr_model.pymc_model():
        trace = pm.sample(**options, nuts_sampler=sampler, random_seed=1, progressbar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hiercorr_model.fit(**options, seed=1)
    zeta = group(trace, "posterior")["zeta"].values
    one = float(r.dataset["fisher_z"][0, 1]), float(r.dataset["fisher_z_se"][0, 1])
    assert zeta.mean() == pytest.approx(one[0], abs=0.4 * one[1])
