"""Correlations that depend on covariates of samples, and standard deviations of each sample."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.reporting.methods_text import methods_text
from hiercorr.simulate import natural_correlation, simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore")
FIT = {"draws": 150, "tune": 200, "chains": 2, "seed": 1, "progress": False}


def data(n_genes=2, samples=8, cells=60, within=(0.1, 0.8), seed=1):
    """Samples in two groups with different correlations; two samples of each donor, one a group."""
    parts = []
    for k, rho in enumerate(within):
        one, _ = simulate_counts(samples // 2, cells, n_genes, mean=3.0, within=rho, seed=[seed, k])
        one.obs["donor"] = "d" + one.obs["sample"].astype(str)
        one.obs["sample"] = f"{'ab'[k]}" + one.obs["sample"].astype(str)
        one.obs["arm"], one.obs["age"] = "ab"[k], one.obs["donor"].str[-1].astype(float)
        one.obs_names = f"{k}-" + one.obs_names
        parts.append(one)
    import anndata as ad

    return ad.concat(parts)


@pytest.fixture(scope="module")
def fitted():
    pytest.importorskip("nutpie")
    model = model_of(data(3), correlation_formula="~ arm", sd_per_sample=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model, model.fit(**FIT, confidence=0.8)


@pytest.mark.slow
def test_groups_and_coefficients(fitted):
    _, r = fitted
    group = r.dataset["group_correlation"]
    assert list(group["group"].values) == ["a", "b"]
    a, b = (group.sel(group=g, gene="gene0", partner="gene1").item() for g in "ab")
    assert abs(a - 0.1) < 0.25
    assert abs(b - 0.8) < 0.2
    table = r.coefficients()
    assert table.index.names == ["coefficient", "gene_a", "gene_b"]
    assert len(table) == 6
    slopes = r.coefficients("arm[T.b]")
    assert list(slopes.columns) == [
        "beta",
        "beta_se",
        "beta_lower",
        "beta_upper",
        "beta_probability_of_direction",
    ]
    row = slopes.loc[("gene0", "gene1")]
    assert row["beta_lower"] < np.arctanh(0.8) - np.arctanh(0.1) < row["beta_upper"] + 0.3
    draws = r.pair_idata("gene0", "gene1")["posterior"]
    assert draws["z_beta"].dims == ("chain", "draw", "term")
    z = np.tanh(draws["z_beta"].sum("term"))  # the intercept is that of group a
    np.testing.assert_allclose(z, draws["within_group"].sel(group="b"), atol=1e-6)
    inside = (draws["z_beta"][..., 1] > row["beta_lower"]) & (
        draws["z_beta"][..., 1] < row["beta_upper"]
    )
    assert float(inside.mean()) == pytest.approx(0.8, abs=0.02)
    with pytest.raises(hc.InputError, match="unknown coefficient 'arm'"):
        r.coefficients("arm")
    of_means = r.at("between").coefficients()
    assert of_means.index.names == ["coefficient", "gene", "partner"]
    assert set(of_means.index.get_level_values("coefficient")) == {"Intercept"}
    with pytest.raises(hc.InputError, match="'gene0' is given twice"):
        r.sample_table("gene0", "gene0")
    assert "correlation[a]" in r.top("gene0").columns


@pytest.mark.slow
def test_standard_deviations_of_samples(fitted):
    _, r = fitted
    table, draws = r.sample_table("gene0", "gene1"), r.pair_idata("gene0", "gene1")["posterior"]
    assert {"natural_correlation", "natural_lower", "within_sd_a", "within_sd_b"} <= set(table)
    sd = draws["sd_sample"]
    assert sd.dims[:2] == ("chain", "draw")
    assert set(sd.dims[2:]) == {"sample", "gene"}
    np.testing.assert_allclose(table["within_sd_b"], sd.sel(gene="gene1").mean(("chain", "draw")))
    swapped = r.sample_table("gene1", "gene0")
    np.testing.assert_allclose(swapped["within_sd_a"], table["within_sd_b"])
    each = natural_correlation(
        draws["within_sample"].values, sd.sel(gene="gene0").values, sd.sel(gene="gene1").values
    )
    np.testing.assert_allclose(draws["natural_sample"], each, atol=1e-9)
    np.testing.assert_allclose(draws["log_mean"], draws["mean"] + sd**2 / 2)
    assert (
        r.at("between").dataset.attrs["estimand"].startswith("correlation over donors of the logs")
    )


@pytest.mark.slow
def test_groups_of_idata(fitted):
    _, r = fitted
    of_pair = r.pair_idata("gene0", "gene2")
    assert {"z_beta", "omega"} <= set(of_pair["prior"].data_vars)
    assert {"z_beta", "omega"} <= set(of_pair["log_prior"].data_vars)
    assert np.isfinite(of_pair["log_likelihood"]["counts"].values).all()
    assert r.idata["posterior"]["within_group"].dims == ("chain", "draw", "group", "pair")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_saved_and_loaded(fitted, tmp_path, suffix):
    _, r = fitted
    r.save(tmp_path / f"r{suffix}")
    again = hc.load(tmp_path / f"r{suffix}")
    pd.testing.assert_frame_equal(again.coefficients(), r.coefficients())
    pd.testing.assert_frame_equal(
        again.sample_table("gene0", "gene1"), r.sample_table("gene0", "gene1")
    )


@pytest.mark.slow
def test_words(fitted):
    model, r = fitted
    methods = methods_text(r)
    for part in ("depend linearly on arm", "standard deviation of log expression"):
        assert part in methods
    assert "heterogeneity of the log standard deviation" in methods
    assert r.dataset.attrs["prior_z_coefficient"] == "normal(sigma=0.5)"
    assert r.dataset.attrs["prior_omega"] == "halfnormal(sigma=0.3)"
    assert "~ arm" in str(model)
    assert "omega halfnormal" in str(r.summary())


@pytest.mark.slow
def test_checks_and_targets(fitted, tmp_path):
    model, r = fitted
    predicted = model.posterior_predictive(r, draws=20, seed=1)
    assert float(predicted["p_zeros"].min()) > 0.02
    assert model.prior_predictive(draws=20, seed=1).sizes["draw"] == 20
    one = model.fit(**FIT, target="gene0", checkpoint=tmp_path / "c")
    assert len(one.coefficients("arm[T.b]")) == 2
    found = model.sbc(1, "gene0", "gene1", draws=100, tune=100, chains=2, seed=1)
    names = set(found["parameter"].values)
    assert {"z_beta[arm[T.b]]", "within_group[b]", "omega[0]", "sd_sample[1]"} <= names


def test_pymc_model_has_the_same_variables():
    pytest.importorskip("pymc")
    model = model_of(data(2, 6, 15), correlation_formula="~ arm", sd_per_sample=True).pymc_model()
    names = {v.name for v in model.free_RVs}
    assert {"z_slope", "omega", "xi", "log_mean"} <= names
    assert list(model.coords["slope"]) == ["arm[T.b]"]


@pytest.mark.slow
def test_donors_left_out():
    pytest.importorskip("nutpie")
    model = model_of(data(2, 6, 15), correlation_formula="~ arm", sd_per_sample=True)
    table = model.compare_structures("gene0", "gene1", seed=1, draws=100, tune=100, chains=2)
    assert np.isfinite(table["elpd_donor"]).all()


def test_log_likelihood_of_a_donor_against_monte_carlo():
    """The importance sample of a donor's means, z and standard deviations is unbiased."""
    from dataclasses import replace

    from hiercorr.bayes.left_out import donor_log_likelihood
    from hiercorr.bayes.refinement import cell_log_likelihood
    from hiercorr.bayes.sampling import unpack
    from tests.bayes.support import NO_STATISTICS

    model = model_of(data(2, 6, 12), correlation_formula="~ arm", sd_per_sample=True)
    pair = model.pair("gene0", "gene1")
    d = unpack(pair, pair.initial[None, None], NO_STATISTICS)
    d = replace(d, tau=np.full((1, 1), 0.2), omega=np.full((1, 1, 2), 0.25))
    found = donor_log_likelihood(pair, d, np.array([0]))[0]
    rng, size, n = np.random.default_rng(1), 6000, 6
    rho = np.tanh(d.z_between[0, 0])
    e = rng.standard_normal((size, n, 2))
    e[..., 1] = rho * e[..., 0] + np.sqrt(1 - rho**2) * e[..., 1]
    mean = pair.population.design @ d.coefficient[0, 0] + d.sd_between[0, 0] * e
    sd = d.sd_within[0, 0] * np.exp(d.omega[0, 0] * rng.standard_normal((size, n, 2)))
    z = (
        d.zeta[0, 0]
        + d.slopes[0, 0] @ pair.regression.design.T
        + 0.2 * rng.standard_normal((size, n))
    )
    many = replace(d, mean=(mean - sd**2 / 2)[None], sd_sample=sd[None], z_sample=z[None])
    each = cell_log_likelihood(pair, many, np.arange(size))
    total = np.add.reduceat(each, pair.cells.starts[:-1], axis=1)
    wanted = np.logaddexp.reduce(total, axis=0) - np.log(size)
    np.testing.assert_allclose(found, wanted, atol=0.25)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ depth", "column 'depth' varies within samples"),
        ("~ constant", "column 'constant' is constant"),
        ("~ arm + copy", "not of full rank"),
        ("~ missing", "column 'missing' is missing for"),
        ("~ arm + (1 | donor)", "name the donor with block='donor'"),
        ("~ arm * C(age)", "8 coefficients and there are 8 samples: at least"),
        ("~ nothing", "unknown column in the formula 'nothing'"),
    ],
)
def test_unusable_formulas(formula, message):
    adata = data(2, 8, 15)
    adata.obs["constant"], adata.obs["copy"] = "x", adata.obs["arm"].str.upper()
    first = adata.obs["sample"].iloc[0]
    adata.obs["missing"] = np.where(adata.obs["sample"] == first, np.nan, adata.obs["age"])
    with pytest.raises(hc.InputError, match=message):
        model_of(adata, correlation_formula=formula)


def test_donors_count_where_samples_are_repeated():
    adata = data(2, 8, 15)
    with pytest.raises(hc.InputError, match="5 coefficients and there are 4 values of 'donor'"):
        model_of(adata, correlation_formula="~ arm + C(age)", block="donor")


def test_methods_without_these_options():
    for options, name in (
        ({"correlation_formula": "~ arm"}, "correlation_formula="),
        ({"sd_per_sample": True}, "sd_per_sample=True"),
    ):
        model = model_of(data(2, 8, 15), heterogeneity=False, **options)
        for call in (
            lambda m=model: m.fit(method="joint"),
            lambda m=model: m.fit(method="latent"),
            lambda m=model: m.fit_many("gene0"),
        ):
            with pytest.raises(hc.InputError, match=f"cannot be combined with {name}"):
                call()
    with pytest.raises(hc.InputError, match="structure='independent' fixes the correlation"):
        model_of(data(2, 8, 15), correlation_formula="~ arm", structure="independent")


def test_several_factors_and_numbers():
    adata = data(2, 8, 15)
    adata.obs["site"] = np.where(adata.obs["age"] < 3, "s", "t")
    z = model_of(adata, correlation_formula="~ arm + site")._setup.population.z
    assert z.groups == ("arm=a", "arm=b", "site=s", "site=t")
    # The groups of a factor differ by its coefficient, and average to the average sample.
    slopes = np.array([[0.4, -0.2]])
    np.testing.assert_allclose(z.of_groups(np.zeros(1), slopes)[0], [-0.2, 0.2, 0.1, -0.1])
    z = model_of(adata, correlation_formula="~ age")._setup.population.z
    assert z.groups == ()
    assert z.names == ("age",)
    assert model_of(adata, correlation_formula="~ 1")._setup.population.z is None


def test_covariates_that_vary_within_donors_are_compared_over_samples():
    """A deviation common to a donor's samples would leave the cells as the only error."""
    adata = data(2, 8, 15)
    adata.obs["old"] = np.where(adata.obs["age"] < 3, "no", "yes")
    of_samples = model_of(adata, correlation_formula="~ arm", block="donor")._setup
    np.testing.assert_array_equal(of_samples.population.unit, np.arange(8))
    assert of_samples.attributes["z_units"] == "samples"
    of_donors = model_of(adata, correlation_formula="~ old", block="donor")._setup
    np.testing.assert_array_equal(of_donors.population.unit, of_donors.population.block)
    assert of_donors.attributes["z_units"] == "donors"


@pytest.mark.slow
def test_a_difference_within_donors_has_the_error_of_samples():
    """The correlations of samples differ at random: no interval of the difference is of cells."""
    pytest.importorskip("nutpie")
    parts = []
    for k, within in enumerate((0.05, 0.6, 0.5, 0.0, 0.3, 0.7, 0.65, 0.2)):
        one, _ = simulate_counts(1, 250, 2, mean=5.0, within=within, seed=[4, k])
        one.obs["sample"], one.obs["donor"], one.obs["arm"] = f"s{k}", f"d{k // 2}", "ab"[k % 2]
        one.obs_names = f"{k}-" + one.obs_names
        parts.append(one)
    import anndata as ad

    model = model_of(ad.concat(parts), correlation_formula="~ arm", block="donor")
    d = sample_pair(model.pair("gene0", "gene1"), Settings(150, 250, 2), 1)
    assert 0.15 < d.slopes.std() < 0.5  # that of cells alone is about 0.05
