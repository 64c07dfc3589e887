"""The joint posterior: equal to the exact pair, joint in its draws, three levels, refusals."""

import anndata as ad
import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, sparse, special, stats

import hiercorr as hc
from hiercorr.bayes.joint.likelihood import likelihood_draws
from hiercorr.bayes.joint.model import make_model
from hiercorr.bayes.joint.sampler import degrees_of_freedom, inverse_wishart, sample_joint
from hiercorr.bayes.joint.tables import log_prior_of_matrix
from hiercorr.bayes.population import cells_of
from hiercorr.inference.poisson_lognormal import Grid, Parameters, log_likelihood
from hiercorr.reporting.methods_text import methods_text
from hiercorr.runtime.workers import compiled_threads
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def model_of(adata, **options):
    return hc.BayesianCorrelation(
        adata, "sample", **{"depth": "depth", "heterogeneity": False, **options}
    )


@pytest.fixture(scope="module")
def panel():
    adata, _ = simulate_counts(6, 80, 3, mean=[2.0, 1.0, 1.5], within=0.6, between=0.3, seed=2)
    model = model_of(adata)
    return model, model.fit(method="joint", draws=250, tune=200, seed=1, progress=False)


@pytest.mark.slow
def test_two_genes_are_the_exact_pair():
    adata, _ = simulate_counts(
        6, [60, 90, 40, 80, 70, 50], 2, mean=[0.3, 6.0], within=0.6, between=0.3, seed=4
    )
    model = model_of(adata)
    joint = model.fit(method="joint", draws=500, seed=1).dataset
    pair = model.fit(draws=500, tune=300, chains=2, seed=1).dataset.isel(drawn_pair=0)

    def values(dataset, name, *at):
        return np.asarray(dataset[f"posterior_{name}"].values, float)[(..., *at)]

    compared = {
        "zeta": (np.arctanh(values(joint, "within", 0, 1)), values(pair, "zeta")),
        "between": (np.arctanh(values(joint, "between", 0, 1)), values(pair, "z_between")),
    }
    for g in (0, 1):
        for name in ("sd_within", "sd_between"):
            compared[f"{name} {g}"] = tuple(
                np.log(v) for v in (values(joint, name, g), values(pair, name, g))
            )
        compared[f"mean {g}"] = values(joint, "mean", 2, g), values(pair, "mean", 2, g)
        compared[f"beta {g}"] = values(joint, "beta", 0, g), values(pair, "beta", 0, g)
    for name, (a, b) in compared.items():
        error = np.hypot(a.std() / np.sqrt(az.ess(a)), b.std() / np.sqrt(az.ess(b)))
        assert abs(a.mean() - b.mean()) < 4 * error, name
        assert a.std() == pytest.approx(b.std(), rel=0.15), name


def hotelling(r, rho, df):
    """Log density of the correlation of a Wishart matrix."""
    constant = np.log(df - 1) + special.gammaln(df) - special.gammaln(df + 0.5)
    constant = constant + df / 2 * np.log1p(-(rho**2)) - 0.5 * np.log(2 * np.pi)
    value = constant + (df - 3) / 2 * np.log1p(-(r**2)) - (df - 0.5) * np.log1p(-rho * r)
    return value + np.log(special.hyp2f1(0.5, 0.5, df + 0.5, (1 + rho * r) / 2))


@pytest.mark.slow
def test_two_genes_with_heterogeneity_are_the_exact_pair():
    """The pair's draws, weighted by the distribution of z over samples: normal there."""
    adata, _ = simulate_counts(
        5, 100, 2, mean=[3.0, 5.0], within=0.5, between=0.3, heterogeneity=0.3, seed=4
    )
    model = model_of(adata, heterogeneity=True)
    joint = model.fit(method="joint", draws=1500, seed=1).dataset
    pair = model.fit(draws=1200, tune=500, chains=2, seed=1).dataset.isel(drawn_pair=0)

    def values(dataset, name, *at):
        return np.asarray(dataset[f"posterior_{name}"].values, float)[(..., *at)]

    tau, zeta, rho = (values(pair, name) for name in ("tau", "zeta", "within_sample"))
    z, spread = np.arctanh(rho), np.maximum(tau, 0.002)[..., None]
    weight = hotelling(rho, np.tanh(zeta)[..., None], degrees_of_freedom(spread) + 1)
    weight += np.log1p(-(rho**2)) + np.log(spread) + 0.5 * ((z - zeta[..., None]) / spread) ** 2
    weight = np.exp(np.where(spread > 0.002, weight, -0.5 * np.log(2 * np.pi)).sum(-1))
    weight /= weight.mean()
    compared = {
        "zeta": (np.arctanh(values(joint, "within", 0, 1)), zeta),
        "tau": (values(joint, "tau"), tau),
        "z_between": (np.arctanh(values(joint, "between", 0, 1)), values(pair, "z_between")),
    }
    for c in range(5):
        compared[f"sample {c}"] = np.arctanh(values(joint, "within_sample", c, 0, 1)), z[..., c]
    for g in (0, 1):
        sds = (values(d, "sd_within", g) for d in (joint, pair))
        compared[f"sd_within {g}"] = tuple(map(np.log, sds))
    for name, (a, b) in compared.items():
        expected = (weight * b).mean()
        sd = np.sqrt((weight * (b - expected) ** 2).mean())
        error = np.hypot(a.std() / np.sqrt(az.ess(a)), 1.1 * sd / np.sqrt(az.ess(b)))
        assert abs(a.mean() - expected) < 4 * error, name
        assert a.std() == pytest.approx(sd, rel=0.15), name


@pytest.mark.slow
@pytest.mark.parametrize("heterogeneity", [False, True])
def test_groups_of_a_joint_fit(heterogeneity, tmp_path):
    """Replicated counts like the observed ones, whose correlation is that of the posterior."""
    adata, _ = simulate_counts(4, 150, 3, mean=[4.0, 6.0, 8.0], within=0.6, seed=9)
    model = model_of(adata, heterogeneity=heterogeneity)
    r = model.fit(method="joint", draws=200, tune=200, seed=1, progress=False)
    r.save(tmp_path / "r.nc")
    for result in (r, hc.load(tmp_path / "r.nc")):
        data = result.idata
        x = np.asarray(data["observed_data"]["counts"])
        np.testing.assert_array_equal(x, adata.X.toarray())
        made = np.asarray(data["posterior_predictive"]["counts"])
        assert made.shape == (4, 100, *x.shape)
        np.testing.assert_allclose(made.mean((0, 1, 2)), x.mean(0), rtol=0.1)
        of_made, of_x = (np.corrcoef(np.log1p(v[:150].T))[0, 1] for v in (made[0, 0], x))
        assert of_made == pytest.approx(of_x, abs=0.2)
        prior = data["prior"]
        rho = (np.asarray(prior["within"])[0, :, 0] + 1) / 2
        assert stats.kstest(rho, stats.beta(2, 2).cdf).pvalue > 1e-3
        assert ("tau" in prior) == ("new_sample" in prior) == heterogeneity
    assert az.summary(r.idata, var_names=["within"]).shape[0] == 3


@pytest.mark.slow
@pytest.mark.parametrize("heterogeneity", [False, True])
def test_likelihood_of_cells_is_that_of_the_pair(heterogeneity):
    """Two genes at the draws of a joint fit: the sums over log rates of the pairs' model."""
    adata, _ = simulate_counts(4, 60, 2, mean=[0.4, 5.0], within=0.8, seed=9)
    model = model_of(adata, heterogeneity=heterogeneity)
    r = model.fit(method="joint", draws=120, tune=100, chains=2, seed=1, progress=False)
    data = r.idata
    posterior, constant = data["posterior"], data["constant_data"]
    found = np.asarray(data["log_likelihood"]["counts"])
    at = np.asarray(data["log_likelihood"]["draw"])
    assert found.shape == (2, 100, adata.n_obs)
    mean = np.asarray(posterior["mean"])[:, at].reshape(-1, 4, 2)
    sd = np.asarray(posterior["sd_within"])[:, at].reshape(-1, 1, 2)
    rho = np.asarray(posterior["within_sample" if heterogeneity else "within"])[:, at]
    rho = np.broadcast_to(rho.reshape(len(mean), -1), (len(mean), 4))
    starts = np.searchsorted(np.asarray(constant["sample_of_cell"]), np.arange(5))
    grid = Grid(np.full((4, 2), -9.0), np.full((4, 2), 0.05), np.full(2, 400))
    given = Parameters(mean, np.broadcast_to(sd, mean.shape), rho)
    x, log_s = np.asarray(data["observed_data"]["counts"]), np.asarray(constant["log_depth"])
    wanted = log_likelihood(x, log_s, starts, grid, given)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=3e-3)
    assert np.abs(found.reshape(wanted.shape) - wanted).mean() < 3e-4


@pytest.mark.slow
def test_leave_one_out_prefers_the_model_that_made_the_data():
    """Correlations of either sign within samples."""
    parts = [
        simulate_counts(2, 150, 2, mean=[4.0, 6.0], within=rho, seed=3)[0] for rho in (0.4, -0.3)
    ]
    parts[1].obs["sample"] = "other " + parts[1].obs["sample"].astype(str)
    adata = ad.concat(parts, index_unique="-")
    fits = {}
    for name, varies in (("varies", True), ("same", False)):
        model = model_of(adata, heterogeneity=varies)
        data = model.fit(method="joint", draws=250, tune=200, seed=1, progress=False).idata
        fits[name] = data.sel(draw=data["log_likelihood"]["draw"])
    table = az.compare(fits)
    assert table.index[0] == "varies"
    assert abs(table["elpd_diff"].iloc[1]) > 2 * table["dse"].iloc[1]


def test_draws_of_cells_are_fewer_for_large_data():
    for shape, wanted in (((2701, 20), 100), ((50_000, 5), 100), ((100_000, 2), 50)):
        at = likelihood_draws(4, 1000, *shape)
        assert len(at) == wanted
        assert (at[0], at[-1]) == (0, 999)
    assert len(likelihood_draws(4, 1000, 50_000, 20)) == 25
    assert len(likelihood_draws(4, 1000, 10**7, 2)) == 10
    np.testing.assert_array_equal(likelihood_draws(2, 60, 50, 2), np.arange(60))


@pytest.mark.parametrize("n", [2, 4])
def test_log_prior_of_matrices(n):
    """Against the ratio of densities of inverse Wishart matrices with independent scales."""
    rng, eta = np.random.default_rng(n), 1.7
    df = 2 * eta + n - 1

    def density(correlation):  # of the matrix, integrated over standard deviations
        inverse = np.diag(np.linalg.inv(correlation))
        each = [  # int v^-(df + 1) exp(-q / (2 v^2)) dv, by quadrature
            integrate.quad(lambda v, q=q: v ** -(df + 1) * np.exp(-q / (2 * v * v)), 0, np.inf)[0]
            for q in inverse
        ]
        return np.log(each).sum() - 0.5 * (df + n + 1) * np.linalg.slogdet(correlation)[1]

    matrices = inverse_wishart(np.broadcast_to(np.eye(n), (5, n, n)), np.full(5, 5.0), rng)
    found = log_prior_of_matrix(matrices, eta)
    wanted = np.array([density(m) for m in matrices])
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], atol=1e-6)


@pytest.mark.slow
def test_log_priors_of_draws():
    """The stated distributions by scipy, up to constants; normal intercepts have a centre each."""
    adata, _ = simulate_counts(4, 60, 3, mean=[2.0, 1.0, 4.0], within=0.5, seed=2)
    priors = {
        "tau": {"distribution": "halfnormal", "sigma": 0.2},
        "sd_within": {"distribution": "lognormal", "median": 0.5, "sigma": 0.8},
        "sd_between": {"distribution": "halfnormal", "sigma": 0.7},
        "intercept": {"distribution": "normal", "sigma": 1.5},
    }
    model = model_of(adata, heterogeneity=True, priors=priors)
    r = model.fit(method="joint", draws=200, tune=100, chains=2, seed=1, progress=False)
    draws = {k: r.dataset[f"posterior_{k}"].values for k in ("tau", "sd_within", "sd_between")}
    wanted = {
        "tau": stats.halfnorm(scale=0.2).logpdf(draws["tau"]),
        "sd_within": stats.lognorm(0.8, scale=0.5).logpdf(draws["sd_within"]).sum(-1),
        "sd_between": stats.halfnorm(scale=0.7).logpdf(draws["sd_between"]).sum(-1),
    }
    found = {k: r.dataset[f"log_prior_{k}"].values for k in (*wanted, "beta")}
    for name, values in wanted.items():
        assert np.ptp(values) > 0.1
        assert np.ptp(found[name] - values) < 1e-6, name
    beta = r.dataset["posterior_beta"].values[:, :, 0].reshape(-1, 3)
    rest = found["beta"].ravel() + 0.5 * (beta**2).sum(-1) / 1.5**2  # linear in beta
    linear = np.column_stack([np.ones(len(beta)), beta])
    centre, *_ = np.linalg.lstsq(linear, rest, rcond=None)
    np.testing.assert_allclose(linear @ centre, rest, atol=1e-8)
    counts = np.asarray(adata.X.sum(0)).ravel() / adata.n_obs
    np.testing.assert_allclose(centre[1:] * 1.5**2, np.log(counts), atol=0.4)


@pytest.mark.slow
def test_draws_are_joint(panel):
    model, r = panel
    posterior = r.idata["posterior"]
    assert posterior["within"].dims == ("chain", "draw", "pair")
    assert posterior["sd_within"].dims == ("chain", "draw", "gene")
    assert "note" not in posterior.attrs
    within = r.dataset["posterior_within"].values
    assert r.dataset["posterior_within"].dims == ("chain", "draw", "gene", "partner")
    for level in ("within", "between"):
        assert np.linalg.eigvalsh(r.dataset[f"posterior_{level}"].values).min() > 0
    # gene0 and gene1 are correlated with each other, so that draws of their correlations with gene2
    # are; independent chains of pairs are not
    draws = np.arctanh(within[..., [0, 1], [2, 2]]).reshape(-1, 2)
    assert np.corrcoef(draws.T)[0, 1] > 0.2
    pairs = model.fit(draws=200, tune=200, chains=2, seed=1)
    assert pairs.dataset.attrs["joint_draws"] == 0
    apart = pairs.dataset["posterior_zeta"].values[..., 1:].reshape(-1, 2)
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.15
    assert "method='joint'" in pairs.idata["posterior"].attrs["note"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_results(panel, tmp_path):
    _, r = panel
    ds = r.dataset
    assert ds.attrs["joint_draws"] == 1
    assert ds.attrs["largest_r_hat"] <= 1.01
    assert ds.attrs["smallest_ess"] >= 400
    assert "prior_tau" not in ds.attrs
    within = ds["posterior_within"].values
    inverse = np.linalg.inv(within)
    given = -inverse[..., 0, 1] / np.sqrt(inverse[..., 0, 0] * inverse[..., 1, 1])
    assert ds["partial_correlation"].values[0, 1] == pytest.approx(given.mean(), abs=1e-9)
    assert "correlation_projected" not in ds
    table = r.gene_table()
    sd = ds["posterior_sd_within"].values.mean((0, 1))
    np.testing.assert_allclose(table["within_sd"], sd)
    assert (table["within_sd_lower"] < table["within_sd"]).all()
    b = r.at("between")
    assert b.dataset.attrs["title"] == "Bayesian correlation, between samples"
    assert "over donors" in b.dataset.attrs["estimand"]
    assert "Prior of each correlation between samples: 95% in -0.81..0.81" in str(b.summary())
    r.save(tmp_path / "r.zarr")
    back = hc.load(tmp_path / "r.zarr")
    np.testing.assert_array_equal(back.dataset["posterior_within"].values, within)
    text = hc.report(tmp_path / "r.html", r).read_text()
    assert "inverse Wishart" in text
    assert "modelled jointly" in text


@pytest.fixture(scope="module")
def varying():
    adata, _ = simulate_counts(
        8, 60, 3, mean=2.0, within=0.6, heterogeneity=0.3, seed=3, donor=list("aabbccdd")
    )
    model = model_of(adata, heterogeneity=True, block="donor")
    return model, model.fit(method="joint", draws=250, tune=200, seed=1, progress=False)


@pytest.mark.slow
def test_heterogeneity_is_reported(varying, tmp_path):
    model, r = varying
    ds = r.dataset
    assert ds.attrs["heterogeneity"] == 1
    assert ds.attrs["prior_tau"] == "halfnormal(sigma=0.3)"
    tau = ds["posterior_tau"].values
    assert ds.attrs["tau"] == pytest.approx(tau.mean())
    assert ds.attrs["tau_lower"] < ds.attrs["tau"] < ds.attrs["tau_upper"]
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(ds["tau2"].values[off], (tau**2).mean())
    own = ds["posterior_within_sample"].transpose("sample", ...).values
    assert np.linalg.eigvalsh(own).min() > 0
    np.testing.assert_array_equal(own[0], own[1])  # of one donor
    assert not np.array_equal(own[1], own[2])
    wider = ds["prediction_upper"] - ds["prediction_lower"] - (ds["ci_upper"] - ds["ci_lower"])
    assert (wider.values[off] > 0).all()
    assert ds.attrs["smallest_ess"] >= 400
    assert f"tau {ds.attrs['tau']:.2f}" in str(r.summary())
    posterior = r.idata["posterior"]
    assert posterior["within_sample"].dims == ("chain", "draw", "sample", "pair")
    assert posterior["tau"].dims == ("chain", "draw")
    r.save(tmp_path / "r.zarr")
    np.testing.assert_array_equal(hc.load(tmp_path / "r.zarr").dataset["posterior_tau"], tau)
    text = hc.report(tmp_path / "r.html", r).read_text()
    assert "vary over samples as those of inverse Wishart" in text
    assert "have the same correlations within samples" in text
    assert (model.posterior_predictive(r, draws=40, seed=1)["p_observed"] > 0.005).all()


@pytest.mark.slow
def test_intervals_widen_with_heterogeneity():
    """With few donors that differ, the uncertainty is that of donors, not of cells."""
    adata, _ = simulate_counts(6, 300, 2, mean=5.0, within=0.5, heterogeneity=0.4, seed=5)
    width = []
    for heterogeneity in (False, True):
        r = model_of(adata, heterogeneity=heterogeneity).fit(
            method="joint", draws=250, tune=200, seed=1, progress=False
        )
        width.append(float((r.dataset["ci_upper"] - r.dataset["ci_lower"]).values[0, 1]))
    assert width[1] > 2 * width[0]


@pytest.mark.slow
def test_predictive_checks_take_joint_draws(panel):
    model, r = panel
    found = model.posterior_predictive(r, draws=40, seed=1)
    assert (found["p_observed"] > 0.01).all()


def three_levels(seed, donors=40, per=3, cells=30):
    """Correlation 0.9 between donors, -0.9 between their samples, 0.4 between cells."""
    rng = np.random.default_rng(seed)

    def pair(rho, size):
        e = rng.standard_normal((size, 2))
        e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
        return e

    donor = np.repeat(np.arange(donors), per)
    mean = np.log(3) + 0.5 * pair(0.9, donors)[donor] + 0.5 * pair(-0.9, donors * per)
    arm = np.arange(donors * per) % 2
    mean[:, 0] += 0.7 * arm
    sample = np.repeat(np.arange(donors * per), cells)
    s = np.exp(0.3 * rng.standard_normal(len(sample)))
    x = rng.poisson(s[:, None] * np.exp(mean[sample] + 0.6 * pair(0.4, len(sample))))
    obs = pd.DataFrame(
        {
            "sample": np.char.mod("s%03d", sample),
            "donor": np.char.mod("d%02d", donor[sample]),
            "arm": np.where(arm, "b", "a")[sample],
            "depth": s * 1e4,
        },
        index=np.char.mod("c%d", np.arange(len(s))),
    )
    return ad.AnnData(sparse.csr_matrix(x.astype(np.int32)), obs, pd.DataFrame(index=["a", "b"]))


@pytest.mark.slow
def test_three_levels_and_a_covariate():
    model = model_of(three_levels(3), formula="~ arm + (1 | donor)")
    r = model.fit(method="joint", draws=500, tune=200, seed=1)
    for level, truth in (("within", 0.4), ("between", 0.9), ("samples", -0.9)):
        ds = r.at(level).dataset
        assert ds["ci_lower"].values[0, 1] < truth < ds["ci_upper"].values[0, 1]
    assert r.at("between").dataset["ci_lower"].values[0, 1] > 0.2
    assert r.at("samples").dataset["ci_upper"].values[0, 1] < -0.7
    assert r.at("between").dataset.attrs["title"] == "Bayesian correlation, between donors"
    slope = r.coefficients("arm[T.b]").loc["a"]
    assert slope["beta_lower"] < 0.7 < slope["beta_upper"]
    assert slope["beta_probability_of_direction"] > 0.99
    xr_same = r.at("samples").at("within").dataset
    np.testing.assert_array_equal(xr_same["correlation"], r.dataset["correlation"])
    assert "another between the samples" in methods_text(r)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "marginal"])
def test_origin_and_unit_of_a_covariate_do_not_matter(method):
    covariates = {"age": (list(np.arange(8.0)), 0.4)}
    adata, _ = simulate_counts(8, 30, 2, mean=3.0, within=0.5, covariates=covariates, seed=1)
    adata.obs["year"] = adata.obs["age"] + 2016
    adata.obs["large"] = adata.obs["age"] * 1e15
    options = {"draws": 150, "tune": 150, "chains": 2, "seed": 1, "method": method}
    table, between = {}, {}
    for name in ("age", "year", "large"):
        r = model_of(adata, formula=f"~ {name}").fit(progress=False, **options)
        table[name] = r.coefficients()["beta"]
        between[name] = r.at("between").dataset["correlation"].values[0, 1]
    slope = table["age"].loc["age"].to_numpy()
    assert slope[0] == pytest.approx(0.4, abs=0.2)
    np.testing.assert_allclose(table["year"].loc["year"], slope, atol=0.03)
    np.testing.assert_allclose(table["large"].loc["large"] * 1e15, slope, atol=0.03)
    assert between["year"] == pytest.approx(between["age"], abs=0.2)
    shifted = table["age"].loc["Intercept"].to_numpy() - 2016 * table["year"].loc["year"].to_numpy()
    np.testing.assert_allclose(table["year"].loc["Intercept"], shifted, atol=0.3)


@pytest.mark.slow
def test_draws_do_not_depend_on_threads():
    adata, _ = simulate_counts(4, 40, 3, mean=1.0, seed=5)
    model = model_of(adata)
    made = make_model(cells_of(model.counts, model._setup), model._setup)
    found = []
    for threads in (1, 2):
        with compiled_threads(threads):
            seed = np.random.SeedSequence(7)
            found.append(sample_joint(made, 100, 100, 2, seed, progress=False, most=1))
    np.testing.assert_array_equal(found[0].correlation["within"], found[1].correlation["within"])
    assert not np.array_equal(found[0].mean[0], found[0].mean[1])


@pytest.mark.slow
def test_chains_go_on_as_long_as_effective_draws_are_missing(monkeypatch):
    from hiercorr.bayes.joint import sampler

    adata, _ = simulate_counts(4, 40, 3, mean=1.0, seed=5)
    model = model_of(adata)
    made = make_model(cells_of(model.counts, model._setup), model._setup)
    options = {"progress": False, "most": 8}
    monkeypatch.setattr(sampler, "MAX_R_HAT", 2.0)
    monkeypatch.setattr(sampler, "MIN_ESS", 1.0)
    short = sample_joint(made, 100, 100, 2, np.random.SeedSequence(7), **options)
    assert short.thinning == sampler.SWEEPS
    monkeypatch.setattr(sampler, "MIN_ESS", 1.3 * short.ess)
    found = sample_joint(made, 100, 100, 2, np.random.SeedSequence(7), **options)
    assert found.mean.shape == short.mean.shape
    assert found.ess >= 1.3 * short.ess
    assert sampler.SWEEPS < found.thinning < 4 * sampler.SWEEPS
    np.testing.assert_array_equal(found.mean[:, 0], short.mean[:, 0])


@pytest.mark.slow
def test_large_counts_and_scarce_counts():
    """Counts of hundreds and of hundredths: the sampler reaches both."""
    adata, _ = simulate_counts(5, 80, 3, mean=[300.0, 1.0, 0.05], within=0.6, seed=6)
    model = model_of(adata)
    made = make_model(cells_of(model.counts, model._setup), model._setup)
    found = sample_joint(made, 200, 400, 4, np.random.SeedSequence(1), progress=False, most=8)
    assert found.r_hat < 1.05
    assert 0.4 < found.sd["within"][..., 0].mean() < 1.0


@pytest.mark.slow
def test_unconverged_draws_are_flagged(monkeypatch):
    from hiercorr.bayes.joint import fit, sampler

    monkeypatch.setattr(sampler, "MIN_ESS", 1e9)
    monkeypatch.setattr(fit, "MOST", 1)
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    model = model_of(adata)
    with pytest.warns(hc.EstimationWarning, match="not converged after 2,000 sweeps.*raise draws"):
        model.fit(method="joint", draws=400, tune=100, chains=2, seed=1)


@pytest.mark.slow
def test_few_draws_are_not_prolonged():
    """Chains of 200 draws in all cannot have 400 effective ones, however long they are."""
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    with pytest.warns(hc.EstimationWarning, match="500 sweeps.*200 draws are too few.*draws=400"):
        r = model_of(adata).fit(method="joint", draws=100, tune=100, chains=2, seed=1)
    assert r.dataset.attrs["thinning"] == 5
    assert (r.dataset["flag"].values & int(hc.Flag.NOT_CONVERGED)).any()


@pytest.mark.slow
@pytest.mark.parametrize("heterogeneity", [False, True])
def test_predicted_time(heterogeneity):
    """Right within the factor of which a shared machine is sure; and longer for longer fits."""
    adata, _ = simulate_counts(6, 60, 4, mean=2.0, within=0.4, seed=1)
    model = model_of(adata, heterogeneity=heterogeneity)
    before = model.predicted_seconds(method="joint")
    taken = model.fit(method="joint", seed=1).dataset.attrs["seconds"]
    after = model.predicted_seconds(method="joint")
    assert taken < 4 * max(before, after) + 1
    assert min(before, after) < 4 * taken
    assert model.predicted_seconds(4000, method="joint") > 1.5 * min(before, after)


@pytest.mark.parametrize(
    ("of_model", "of_fit", "text"),
    [
        ({"structure": "within"}, {}, "structure='within' needs method='marginal'"),
        (
            {"priors": {"z_between": {"distribution": "normal", "sigma": 0.5}}},
            {},
            "needs a prior of 'z_between' that is lkj",
        ),
        (
            {
                "block": "donor",
                "priors": {"share": {"distribution": "beta", "alpha": 2, "beta": 1}},
            },
            {},
            "prior of 'share' has no effect with method='joint'",
        ),
        ({}, {"draws": 5}, "draws must be a whole number of at least 100"),
        ({}, {"sampler": "pymc"}, "sampler='pymc' has no effect without"),
        ({}, {"target_accept": 0.9}, "target_accept=0.9 has no effect without"),
    ],
)
def test_refusals(of_model, of_fit, text):
    adata, _ = simulate_counts(6, 30, 3, mean=2.0, seed=1, donor=list("aabbcc"))
    model = model_of(adata, **of_model)
    with pytest.raises(hc.InputError, match=text):
        model.fit(method="joint", **of_fit)


def test_too_many_genes():
    adata, _ = simulate_counts(4, 30, 21, mean=2.0, seed=1)
    with pytest.raises(hc.InputError, match=r"not 21: name fewer.*fit_many"):
        model_of(adata).fit(method="joint")
