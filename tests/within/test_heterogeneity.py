"""The hierarchical model of CSCore: its noise, its doors, donors of several samples, refusals."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr import moments
from hiercorr.reporting.methods_text import methods_text
from hiercorr.results import tiling
from hiercorr.simulate import simulate_counts
from hiercorr.within import heterogeneity
from tests.support import OPTIONS, assert_same
from validation.populations import Population, draw

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


def nested(n_donors=4, n_samples=2, cells=60, genes=14, effect=1.0, seed=0):
    """Independent genes; the later samples of a donor express the first 6 genes `effect` times."""
    rng = np.random.default_rng(seed)
    counts, obs = [], []
    for d in range(n_donors):
        for k in range(n_samples):
            mean = np.full(genes, 3.0) * rng.lognormal(0, 0.2, genes)
            mean[:6] *= effect if k else 1.0
            counts.append(rng.poisson(mean * rng.gamma(2, 0.5, (cells, genes))))
            obs += [(f"d{d}", f"d{d}s{k}", "drug" if k else "none")] * cells
    table = pd.DataFrame(obs, columns=["donor", "sample", "arm"])
    table.index = table.index.astype(str)
    x = np.concatenate(counts)
    table["depth"] = 1000.0
    names = pd.DataFrame(index=[f"g{j}" for j in range(genes)])
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=table, var=names)


def test_noise_is_the_variance_of_independent_products(data):
    """The expected variance of N, by quadrature, equals the sum over the cells of its terms."""
    model = hc.CSCore(data, **OPTIONS)
    counts = model.counts
    sums = moments.depth_sums(counts, 1e-13)
    fit = moments.within_moments(sums)
    units = np.arange(counts.n_samples)
    found = heterogeneity.donor_model(sums, fit, counts.cells_per_sample, units)
    n = counts.n_genes
    whole = slice(0, n)
    noise = found.noise(sums, whole, whole, np.empty((counts.n_samples, n, n)))
    for c in range(counts.n_samples):
        s = sums.depth[counts.starts[c] : counts.starts[c + 1], None]
        m, phi = s * fit.mu[:, c], np.clip(fit.variance, 0, None) / found.genes.scale[c] ** 2
        e = (m + m**2 * phi) / (1 + s * fit.slope[:, c]) ** 2
        np.testing.assert_allclose(noise[c], e.T @ e, rtol=1e-9)
        share = (m**2 * phi / (1 + s * fit.slope[:, c]) ** 2).sum(0)
        known = e.sum(0) > 0
        np.testing.assert_allclose(
            found.genes.share[c, known], (share / np.where(known, e.sum(0), 1))[known], rtol=1e-9
        )


def test_a_fit_says_what_it_learnt(data):
    r = hc.CSCore(data, **OPTIONS).fit()
    a = r.dataset.attrs
    assert (a["uncertainty"], a["donor_weights"]) == ("hierarchical", "adaptive")
    weights = [float(part.split(": ")[1]) for part in a["tau_distribution"].split(", ")]
    assert np.isclose(sum(weights), 1, atol=0.01)
    assert 0 <= a["heterogeneous_share"] <= 1
    assert r.dataset["inflation"].shape == (5,)
    assert {"tau", "jackknife_p_value"} <= set(r.dataset)
    assert "of the pairs differ by 0.15 or more" in str(r.summary())
    jackknife = hc.CSCore(data, **OPTIONS).fit(uncertainty="jackknife").dataset
    np.testing.assert_allclose(
        r.dataset["jackknife_p_value"].values, jackknife["p_value"].values, rtol=1e-4
    )


def test_every_door_gives_the_same_numbers(data, tmp_path, small_tiles, monkeypatch):
    model = hc.CSCore(data, **OPTIONS)
    tiled = model.fit(precision="double").dataset
    monkeypatch.setattr(tiling, "WIDE", 6000)
    monkeypatch.setattr(tiling, "_PART_GENES", 1100)
    whole = hc.CSCore(data, **OPTIONS).fit(precision="double").dataset
    assert_same(tiled, whole, rtol=1e-9, atol=1e-12)
    streamed = model.fit(precision="double", out=tmp_path / "r.zarr").dataset.load()
    for name in ("correlation", "p_value", "tau", "jackknife_p_value", "ci_lower"):
        np.testing.assert_allclose(streamed[name].values, whole[name].values, rtol=1e-9)
    row = model.fit(target="gene39", precision="double").dataset
    for name in ("correlation", "p_value", "tau", "ci_upper", "statistic"):
        np.testing.assert_allclose(
            row[name].values[0], whole[name].sel(gene="gene39").values, rtol=1e-9
        )


def test_samples_in_any_order_and_names_do_not_matter(data):
    wanted = hc.CSCore(data, **OPTIONS).fit(precision="double").dataset
    mixed = data[np.random.default_rng(3).permutation(data.n_obs)].copy()
    found = hc.CSCore(mixed, **OPTIONS).fit(precision="double").dataset
    for name in ("correlation", "p_value", "tau"):
        np.testing.assert_allclose(found[name].values, wanted[name].values, rtol=1e-7)


def test_screens_of_few_donors_find_what_the_jackknife_misses():
    adata, _ = simulate_counts(4, 300, 60, mean=3.0, within=0.6, seed=2)
    model = hc.CSCore(adata, "sample", depth="depth")
    called = {}
    for kind in ("hierarchical", "jackknife"):
        q = model.fit(uncertainty=kind).dataset["q_value"].values
        called[kind] = np.nansum(q < 0.05) // 2
    assert called["hierarchical"] >= 10
    assert called["jackknife"] <= called["hierarchical"] / 5


def test_few_genes_use_the_jackknife(data):
    few = {**OPTIONS, "genes": [f"gene{k}" for k in range(30, 40)]}
    r = hc.CSCore(data, **few).fit()
    assert (r.dataset.attrs["uncertainty"], r.dataset.attrs["donor_weights"]) == (
        "jackknife",
        "information",
    )
    with pytest.warns(hc.EstimationWarning, match="too few pairs to learn how donors differ"):
        asked = hc.CSCore(data, **few).fit(uncertainty="hierarchical")
    assert_same(asked.dataset, r.dataset)
    with pytest.warns(hc.EstimationWarning, match="too few pairs to learn how donors differ"):
        hc.CSCore(data, **few).fit(weights="adaptive")
    equal = hc.CSCore(data, **few).fit(weights="equal").dataset
    wanted = hc.CSCore(data, **few).fit(uncertainty="jackknife", weights="equal").dataset
    assert_same(equal, wanted, exact=True)
    assert equal.attrs["donor_weights"] == "equal"
    assert not np.allclose(equal["correlation"], r.dataset["correlation"], equal_nan=True)


@pytest.mark.parametrize("uncertainty", ["hierarchical", "jackknife", "cluster", "bootstrap"])
def test_one_big_donor_does_not_decide_with_equal_weights(uncertainty):
    adata, _ = simulate_counts(6, [900, 60, 60, 60, 60, 60], 20, mean=4.0, within=0.3, seed=1)
    model = hc.CSCore(adata, "sample", depth="depth")
    more = {"seed": 0} if uncertainty == "bootstrap" else {}
    equal = model.fit(uncertainty=uncertainty, weights="equal", **more).dataset
    given = model.fit(uncertainty=uncertainty, weights="information", **more).dataset
    upper = np.triu_indices(20, 1)
    dominated = [
        (d["flag"].values[upper] & hc.schema.Flag.DOMINATED.bit > 0).mean() for d in (equal, given)
    ]
    assert dominated[1] > 0.9
    if uncertainty == "hierarchical":
        assert dominated[0] == 0
        assert np.nanmedian(model.fit().dataset["tau"]) < 0.3
    width = [np.nanmedian((d["ci_upper"] - d["ci_lower"]).values[upper]) for d in (equal, given)]
    if uncertainty != "hierarchical":
        assert width[0] < width[1]


@pytest.fixture(scope="module")
def correlated_in_large_donors():
    """Six genes that are correlated in two large donors of eight."""
    rng = np.random.default_rng(0)
    counts, donors = [], []
    for d, n in enumerate([1500, 1500, 150, 150, 150, 150, 150, 150]):
        common = rng.normal(size=(n, 1)) if n > 1000 else np.zeros((n, 1))
        x = np.exp(0.6 * rng.normal(size=(n, 30)))
        x[:, :6] *= np.exp(0.7 * common)
        counts.append(rng.poisson(3 * x))
        donors += [f"d{d}"] * n
    obs = pd.DataFrame({"donor": donors, "depth": 1000.0}, index=np.arange(len(donors)).astype(str))
    adata = ad.AnnData(sparse.csr_matrix(np.concatenate(counts).astype(np.float32)), obs=obs)
    adata.var_names = [f"g{j}" for j in range(30)]
    return adata


@pytest.mark.parametrize("uncertainty", ["hierarchical", "jackknife"])
@pytest.mark.parametrize("weights", ["information", "equal"])
def test_weights_are_questioned_on_every_route_unless_they_are_equal(
    correlated_in_large_donors, uncertainty, weights
):
    model = hc.CSCore(correlated_in_large_donors, "donor", depth="depth")
    options = {"uncertainty": uncertainty, "weights": weights}
    bit = hc.schema.Flag.WEIGHTS_MATTER.bit
    of_all = model.fit(**options).dataset["flag"].sel(gene="g0").values & bit > 0
    of_target = model.fit(target="g0", **options).dataset["flag"].values.ravel() & bit > 0
    np.testing.assert_array_equal(of_all, of_target)
    assert of_all.any() == (weights != "equal")


def test_the_average_over_donors_is_covered_or_flagged_where_size_matters(
    correlated_in_large_donors,
):
    adata = correlated_in_large_donors
    d = hc.CSCore(adata, "donor", depth="depth").fit().dataset
    matters = d["flag"].values & hc.schema.Flag.WEIGHTS_MATTER.bit > 0
    average = np.expm1(0.49) / np.expm1(0.36 + 0.49) * 2 / 8
    covered = (d["ci_lower"].values < average) & (average < d["ci_upper"].values)
    i, j = np.triu_indices(30, 1)
    affected = (i < 6) & (j < 6)
    assert (covered | matters)[i, j][affected].mean() > 0.8
    assert matters[i, j][~affected].mean() < 0.05
    information = hc.CSCore(adata, "donor", depth="depth").fit(weights="information").dataset
    missed = information["ci_lower"].values > average
    assert missed[i, j][affected].mean() > 0.5


def test_prediction_interval_holds_new_donors(data):
    r = hc.CSCore(data, **OPTIONS).fit()
    limits = r.prediction_interval(0.9)
    d = r.dataset
    half = 1.6448536 * np.sqrt(d["se"] ** 2 + d["tau"] ** 2)
    np.testing.assert_allclose(
        limits["prediction_upper"].values,
        np.minimum(d["correlation_unclipped"] + half, 1).values,
        rtol=1e-5,
    )
    with pytest.raises(hc.InputError, match="confidence"):
        r.prediction_interval(1.0)
    jackknife = hc.CSCore(data, **OPTIONS).fit(uncertainty="jackknife")
    with pytest.raises(hc.InputError, match="uncertainty='hierarchical'"):
        jackknife.prediction_interval()


def test_donors_of_several_samples_are_the_units():
    adata = nested(6, 3)
    by_sample = hc.CSCore(adata, "sample", depth="depth", block="donor")
    for kind in ("hierarchical", "jackknife", "cluster"):
        d = by_sample.fit(uncertainty=kind).dataset
        assert (d.attrs["block"], d.attrs["n_donors"], d.attrs["n_samples"]) == ("donor", 6, 18)
        assert kind == "hierarchical" or float(d["df"].max()) <= 5
    # moments centred by sample, added up by donor: the route through covariates of cells
    route = hc.CSCore(adata, "donor", depth="depth", covariates="~ sample")
    found = by_sample.fit(uncertainty="jackknife", precision="double").dataset
    wanted = route.fit(uncertainty="jackknife", precision="double").dataset
    upper = np.triu_indices(14, 1)
    for name, tolerance in (("correlation", 0.03), ("se", 0.03)):
        gap = np.abs(found[name].values - wanted[name].values)[upper]
        assert np.nanmax(gap) < tolerance
    formula = hc.CSCore(adata, "sample", depth="depth", covariates="~ (1 | donor)")
    assert formula.block == "donor"
    assert formula.covariates is None
    assert_same(formula.fit().dataset, by_sample.fit().dataset, exact=True)


def test_a_block_with_one_sample_per_donor_is_refused():
    adata = nested(5, 1)
    with pytest.raises(hc.InputError, match="different value in each sample"):
        hc.CSCore(adata, "sample", depth="depth", block="donor")


def test_a_treatment_effect_is_not_a_correlation():
    rejected = {"block": [], "donor": []}
    for seed in range(4):
        adata = nested(6, 2, effect=2.5, seed=seed)
        fits = {
            "block": hc.CSCore(adata, "sample", depth="depth", block="donor"),
            "donor": hc.CSCore(adata, "donor", depth="depth"),
        }
        for name, model in fits.items():
            p = model.fit().dataset["p_value"].values[:6, :6]
            rejected[name].append(np.nanmean(p < 0.05))
    assert np.mean(rejected["block"]) < 0.15
    assert np.mean(rejected["donor"]) > 0.8


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"sample": "sample", "block": "nothing"}, "block column 'nothing'"),
        ({"sample": "sample", "block": "sample"}, "is the sample column"),
        ({"sample": None, "block": "donor"}, "needs samples"),
        ({"sample": "donor", "block": "sample"}, "names are swapped"),
        ({"sample": "sample", "block": "one"}, "has one value"),
        ({"sample": "sample", "block": "missing"}, "is missing for sample"),
        ({"sample": "donor", "block": "arm"}, "varies within samples"),
        ({"sample": "sample", "block": ""}, "block"),
        ({"sample": "sample", "covariates": "~ (1 | donor) + (1 | arm)"}, "no more than 1 random"),
        ({"sample": "sample", "block": "arm", "covariates": "~ (1 | donor)"}, "name different"),
        ({"sample": "sample", "covariates": "~ (arm | donor)"}, "random intercept"),
    ],
)
def test_blocks_that_cannot_be(given, text):
    adata = nested()
    adata.obs["one"] = "x"
    adata.obs["missing"] = adata.obs["donor"].where(adata.obs["donor"] != "d1")
    with pytest.raises(hc.InputError, match=text):
        hc.CSCore(adata, depth="depth", **given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"estimator": "pooled", "uncertainty": "hierarchical"}, "is for estimator='within'"),
        ({"uncertainty": "jackknife", "weights": "adaptive"}, "does not estimate"),
        ({"estimator": "pooled", "weights": "equal"}, "is for estimator='within'"),
        ({"weights": "optimal"}, "weights must be"),
    ],
)
def test_options_that_do_not_go_together(data, given, text):
    with pytest.raises(hc.InputError, match=text):
        hc.CSCore(data, **OPTIONS).fit(**given)


def test_two_donors_have_no_interval():
    adata = nested(2, 3)
    with pytest.warns(hc.EstimationWarning, match="2 donors give an estimate but no interval"):
        r = hc.CSCore(adata, "sample", depth="depth", block="donor").fit()
    assert np.isnan(r.dataset["p_value"].values).all()


def test_comparisons_within_two_donors_are_warned_of():
    adata = nested(2, 3)
    with pytest.warns(hc.DataWarning, match="within 2 values of 'donor': at least 3 donors"):
        hc.differential(adata, "sample", "arm", block="donor", depth="depth", target="g0")
    with pytest.warns(hc.DataWarning, match="within 2 values of 'donor': at least 3 donors"):
        hc.Pseudobulk(adata, "sample", block="donor", depth="depth")


def test_signatures_of_nested_samples_are_over_donors():
    adata = nested(6, 2, effect=2.5)
    members = ["g0", "g1", "g2"]
    nested_fit, by_sample = (
        hc.CSCore(adata, "sample", depth="depth", **options).signature(
            members, uncertainty="jackknife"
        )
        for options in ({"block": "donor"}, {})
    )
    assert float(nested_fit.dataset["df"].max()) <= 5
    assert float(by_sample.dataset["df"].max()) > 5
    np.testing.assert_allclose(  # the same sums, whichever the units
        nested_fit.dataset["correlation"].values, by_sample.dataset["correlation"].values, atol=1e-6
    )


def test_differences_within_donors_in_both_notations():
    adata = nested(6, 2)
    options = {"depth": "depth", "target": "g0"}
    wanted = hc.differential(adata, "sample", "arm", block="donor", **options)
    found = hc.differential(adata, "sample", "arm", formula="~ (1 | donor)", **options)
    assert_same(found.dataset, wanted.dataset, exact=True)
    adata.obs["group"] = np.where(adata.obs["donor"].isin(["d0", "d1", "d2"]), "x", "y")
    with pytest.raises(hc.InputError, match="formula='~ sample'"):
        hc.differential(adata, "sample", "group", block="donor", **options)
    way_out = hc.differential(adata, "donor", "group", formula="~ sample", **options)
    assert way_out.dataset.attrs["n_samples"] == 6


def annotated(counts, obs, genes):
    table = pd.DataFrame(obs, columns=["donor", "sample"])
    table.index = table.index.astype(str)
    table["depth"] = 1000.0
    names = pd.DataFrame(index=[f"g{j}" for j in range(genes)])
    return ad.AnnData(sparse.csr_matrix(np.concatenate(counts).astype(np.float32)), table, names)


def varying(n_donors=6, n_samples=3, cells=300, genes=24):
    """Neighbours correlate by 0.6 everywhere; genes vary more in some samples than in others."""
    rng = np.random.default_rng(1)
    counts, obs = [], []
    for d in range(n_donors):
        for k in range(n_samples):
            g = rng.standard_normal((cells, genes))
            g[:, 1::2] = 0.6 * g[:, ::2] + 0.8 * g[:, 1::2]
            sd = 0.4 * np.exp(0.5 * rng.standard_normal(genes))
            counts.append(rng.poisson(6.0 * np.exp(sd * g - sd**2 / 2)))
            obs += [(f"d{d}", f"d{d}s{k}")] * cells
    return annotated(counts, obs, genes)


def changing(level, n_donors=5, n_samples=2, cells=300, genes=24, seed=1):
    """Neighbours correlate by +-0.6; the sign changes from donor to donor or between samples."""
    rng = np.random.default_rng(seed)
    counts, obs = [], []
    for d in range(n_donors):
        for k in range(n_samples):
            sign = (-1.0) ** (d if level == "donor" else k)
            g = rng.standard_normal((cells, genes))
            g[:, 1::2] = sign * 0.7 * g[:, ::2] + np.sqrt(1 - 0.7**2) * g[:, 1::2]
            counts.append(rng.poisson(6.0 * np.exp(0.7 * g - 0.245)))
            obs += [(f"d{d}", f"d{d}s{k}")] * cells
    return annotated(counts, obs, genes)


@pytest.mark.parametrize("level", ["donor", "sample"])
def test_heterogeneity_is_told_by_level(level, tmp_path):
    model = hc.CSCore(changing(level), "sample", depth="depth", block="donor")
    r = model.fit(uncertainty="hierarchical")
    within, between = r.matrix("tau_within_donors").to_numpy(), r.matrix("tau").to_numpy()
    i = np.arange(0, 24, 2)
    of_samples, of_donors = np.median(within[i, i + 1]), np.median(between[i, i + 1])
    if level == "donor":
        assert of_samples < 0.02
        assert of_donors > 0.5
    else:
        assert of_samples > 0.5
        assert of_donors < 0.15
    assert "0: " in r.dataset.attrs["tau_within_donors_distribution"]
    assert "tau_within_donors" in str(r.summary())
    assert "between the samples of one donor was estimated likewise" in str(methods_text(r))
    one = model.fit(target="g3", uncertainty="hierarchical").matrix("tau_within_donors")
    np.testing.assert_allclose(
        one.loc["g3"].drop("g3"), r.matrix("tau_within_donors").loc["g3"].drop("g3"), rtol=1e-4
    )
    stored = model.fit(uncertainty="hierarchical", out=tmp_path / "r.zarr")
    np.testing.assert_allclose(stored.matrix("tau_within_donors"), within, rtol=1e-4)
    plain = hc.CSCore(changing(level), "donor", depth="depth").fit()
    assert "tau_within_donors" not in plain.dataset


def test_variances_that_change_between_samples_are_no_heterogeneity():
    r = hc.CSCore(varying(), "sample", depth="depth", block="donor").fit()
    i = np.arange(0, 24, 2)
    assert np.median(r.matrix("tau_within_donors").to_numpy()[i, i + 1]) < 0.05


def blocks_that_differ(mean, tau, donors=6, cells=300, genes=60, seed=1):
    """Blocks of four genes with a correlation of N(0.3, tau) in each donor, and single genes."""
    population = Population((mean,), related=0.6, rho=0.3, spread=tau)
    rng = np.random.default_rng(seed)
    return draw(population, np.full(donors, cells), genes, rng)


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("mean", [0.05, 0.2, 1.0, 5.0])
def test_tau_is_estimated_where_cells_suffice_and_flagged_elsewhere(mean, tau):
    data = blocks_that_differ(mean, tau)
    r = hc.CSCore(data.adata, "sample", depth="depth").fit()
    found, p = (r.dataset[name].values[data.pairs] for name in ("tau", "p_value"))
    flagged = (r.dataset["flag"].values[data.pairs] & hc.schema.Flag.NO_HETEROGENEITY.bit) > 0
    np.testing.assert_array_equal(flagged, np.isnan(found) & np.isfinite(p))
    limits = r.prediction_interval()["prediction_upper"].values[data.pairs]
    np.testing.assert_array_equal(np.isnan(limits[flagged]), True)
    if mean < 1:
        assert np.isnan(found).all()
        assert "heterogeneous_share" not in r.dataset.attrs
        assert "too few to estimate how many pairs differ" in str(r.summary())
        return
    assert flagged.mean() < 0.06
    assert np.sqrt(np.nanmean(found[data.related] ** 2)) == pytest.approx(tau, abs=0.09)
    assert np.nanmedian(found[data.independent]) < 0.03
    assert r.dataset.attrs["heterogeneous_share"] < 0.06


@pytest.mark.parametrize(
    ("n_samples", "size"), [(5, 160), (500, 160), (2000, 80), (5000, heterogeneity.LEAST_RICH)]
)
def test_the_panel_holds_no_more_values_with_many_samples(n_samples, size):
    """Pairs times samples stay those of 160 genes and 500 samples, but for the fewest genes."""
    fit = SimpleNamespace(variance=np.ones(1000), num=np.empty((1000, n_samples)))
    information = np.random.default_rng(0).uniform(1.0, 2.0, 1000) * heterogeneity.RICH
    genes = heterogeneity.panel_genes(fit, information)
    assert len(genes) == size
    assert (np.diff(genes) > 0).all()
    rank = np.argsort(np.argsort(information))[genes]
    assert rank.min() == 0  # evenly, from the least to the most informative
    assert rank.max() == 999
