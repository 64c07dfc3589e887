"""A number per cell as target."""

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from hiercorr.within.fitting import prepare
from hiercorr.within.score import _score_sums
from validation import plain

CELLS = [80, 120, 90, 150, 60, 110]


@pytest.fixture(scope="module")
def data():
    adata, _ = simulate_counts(6, CELLS, 16, mean=[3, 2, 1, 0.3] * 4, within=0.5, seed=3)
    rng = np.random.default_rng(1)
    first = np.log1p(adata[:, "gene0"].X.toarray().ravel())
    depth = np.log(adata.obs["depth"].to_numpy())
    adata.obs["score"] = first + depth + rng.normal(size=adata.n_obs)
    adata.obs["state"] = rng.normal(size=adata.n_obs) + 0.3 * adata.obs["score"]
    adata.obs["on"] = adata.obs["score"] > adata.obs["score"].median()
    adata.obs["donor"] = adata.obs["sample"].map(
        {s: f"d{k // 2}" for k, s in enumerate(adata.obs["sample"].unique())}
    )
    adata.obs["arm"] = np.where(
        adata.obs["sample"].isin(adata.obs["sample"].unique()[::2]), "a", "b"
    )
    return adata


def made(data, **options):
    return hc.CSCore(data, "sample", depth="depth", **options)


def values(result, name="correlation_unclipped"):
    return result.dataset[name].values[0].astype(float)


def by_sample(model, values, z=None):
    """The plain sums of every sample, with the means and weights of the package."""
    fit = prepare(model.counts, model._one_target("none", 0.95, None)[1])
    counts, x = model.counts, dense(model.counts)
    found = []
    for c, (a, b) in enumerate(itertools.pairwise(counts.starts)):
        cells = slice(a, b)
        given = fit.fit.mu[:, c], fit.fit.slope[:, c], None if z is None else z[cells]
        found.append(plain.score_sums(x[cells], fit.sums.depth[cells], values[cells], *given))
    num, den = (np.array([f[i] for f in found]) for i in range(2))
    return num, den, fit


def dense(counts):
    x = np.zeros((counts.n_cells, counts.n_genes))
    for j, (a, b) in enumerate(zip(counts.offsets[:, 0], counts.offsets[:, -1], strict=True)):
        x[counts.rows[a:b], j] = counts.values[a:b]
    return x


@pytest.mark.parametrize("column", ["score", "on"])
def test_estimate_is_that_of_whole_matrices(data, column):
    model = made(data)
    y = model.counts.obs[column].to_numpy(float)
    num, den, _ = by_sample(model, y)
    x, starts = dense(model.counts), model.counts.starts
    samples = [(x[a:b], model.counts.depth[a:b]) for a, b in itertools.pairwise(starts)]
    genes = plain.within(samples)
    phi = genes["own"].sum(0) / genes["own_den"].sum(0)
    r = model.score(column, uncertainty="jackknife")
    expected = num.sum(0) / den.sum(0) / np.sqrt(phi)
    np.testing.assert_allclose(values(r), expected, rtol=1e-4)


@pytest.mark.parametrize("options", [{"covariates": "~ state"}, {"depth_adjust": True}])
def test_covariates_are_removed_from_both(data, options):
    model = made(data, **options)
    counts = model.counts
    z = np.ones((counts.n_cells, 2))
    z[:, 1] = counts.obs["state"] if "covariates" in options else np.log(counts.depth)
    num, den, problem = by_sample(model, counts.obs["score"].to_numpy(), z)
    r = model.score("score", uncertainty="jackknife")
    expected = num.sum(0) / den.sum(0) / np.sqrt(problem.fit.variance)
    np.testing.assert_allclose(values(r), expected, rtol=1e-7)
    bare = made(data).score("score", uncertainty="jackknife")
    assert np.abs(values(bare) - values(r)).max() > 0.02


def test_covariate_that_is_the_score_leaves_nothing(data):
    with pytest.raises(hc.InputError, match="explained by the covariates of cells"):
        made(data, covariates="~ state").score("state")


def test_noise_is_the_sum_over_cells(data):
    """Sampling variances by quadrature are those of the cells' own scores and depths."""
    model = made(data)
    problem = prepare(model.counts, model._one_target(None, 0.95, None)[1])
    y = model.counts.obs["score"].to_numpy()
    found = _score_sums(model.counts, problem, y).noise
    for c, (a, b) in enumerate(itertools.pairwise(model.counts.starts)):
        s = problem.sums.depth[a:b, None]
        w = 1 / (1 + s * problem.fit.slope[:, c])
        m = s * problem.fit.mu[:, c]
        phi = np.maximum(problem.fit.variance, 0) / problem.donors.genes.scale[c] ** 2
        scaled = (y[a:b] - y[a:b].mean()) / y[a:b].std(ddof=1)
        centre = (w * s * scaled[:, None]).sum(0) / (w * s).sum(0)
        expected = (w**2 * (m + m**2 * phi) * (scaled[:, None] - centre) ** 2).sum(0)
        np.testing.assert_allclose(found[c], expected, rtol=1e-8)


@pytest.mark.parametrize("uncertainty", ["hierarchical", "jackknife", "cluster", "none"])
def test_unit_of_the_score_does_not_matter(data, uncertainty):
    model = made(data)
    y = data.obs["score"].to_numpy()
    one = model.score(y, uncertainty=uncertainty)
    assert one.dataset.attrs["uncertainty"] == uncertainty
    scaled = model.score(1e4 - 1e-3 * y, uncertainty=uncertainty)
    sample = data.obs["sample"].cat.codes if hasattr(data.obs["sample"], "cat") else None
    shifted = y if sample is None else y * (1 + sample.to_numpy()) + 5 * sample.to_numpy()
    moved = model.score(shifted, uncertainty=uncertainty)
    for name in ("correlation_unclipped", "se", "p_value"):
        if name in one.dataset:
            np.testing.assert_allclose(values(moved, name), values(one, name), rtol=1e-6)
            sign = -1 if name.startswith("correlation") else 1
            np.testing.assert_allclose(sign * values(scaled, name), values(one, name), rtol=1e-6)


def test_influence_is_that_of_the_whole_estimator(data):
    r = made(data).score("score", uncertainty="jackknife")
    left_out = np.array(
        [
            values(made(data[data.obs["sample"] != s].copy()).score("score", uncertainty="none"))
            for s in data.obs["sample"].unique()
        ]
    )
    k = len(left_out)
    brute = np.sqrt((k - 1) / k * ((left_out - left_out.mean(0)) ** 2).sum(0))
    rich = (values(r, "se") < 0.2) & np.isfinite(brute)
    assert rich.sum() > 8
    np.testing.assert_allclose(values(r, "se")[rich], brute[rich], rtol=0.3)


@pytest.mark.parametrize("uncertainty", ["hierarchical", "jackknife"])
def test_samples_of_one_donor_are_added_up(data, uncertainty):
    nested = made(data, block="donor").score("score", uncertainty=uncertainty)
    alone = made(data).score("score", uncertainty=uncertainty)
    assert nested.dataset.attrs["n_donors"] == 3
    if uncertainty == "jackknife":
        np.testing.assert_allclose(values(nested), values(alone), rtol=1e-10)
    assert (values(nested, "se") != values(alone, "se")).all()


def test_ways_to_give_a_score_agree(data):
    model = made(data, subset={"arm": ["a", "b"]})
    column = model.score("score", uncertainty="none")
    array = model.score(data.obs["score"].to_numpy(), uncertainty="none")
    order = np.random.default_rng(0).permutation(data.n_obs)
    series = model.score(data.obs["score"].iloc[order].rename("other"), uncertainty="none")
    listed = model.score(list(data.obs["score"]), name="mine", uncertainty="none")
    for r in (array, series, listed):
        np.testing.assert_array_equal(values(r), values(column))
    names = [r.target for r in (column, array, series, listed)]
    assert names == ["score", "score", "other", "mine"]
    sources = [r.dataset.attrs["score_source"] for r in (column, array)]
    assert sources == ["obs", "given"]
    part = made(data, subset={"arm": "a"})
    used = data.obs.loc[data.obs["arm"] == "a", "score"]
    np.testing.assert_array_equal(
        values(part.score(used, uncertainty="none")),
        values(part.score("score", uncertainty="none")),
    )


@pytest.mark.parametrize(
    ("coded", "level"),
    [
        (lambda on: on, "True"),
        (lambda on: on.astype("boolean"), "True"),
        (lambda on: on.astype(object), "True"),
        (lambda on: on.map({True: "yes", False: "no"}), "yes"),
        (lambda on: on.map({True: "low", False: "up"}).astype("category"), "up"),
        (
            lambda on: pd.Categorical(on.map({True: "low", False: "up"}), ["up", "no", "low"]),
            "low",
        ),
        (lambda on: on.astype(int), None),
        (lambda on: on.astype("Int64"), None),
        (lambda on: on.astype(float).astype(object), None),
    ],
)
def test_two_levels_are_coded(data, coded, level):
    model = made(data)
    wanted = values(model.score(data.obs["on"].to_numpy(float), uncertainty="none"))
    r = model.score(coded(data.obs["on"]), uncertainty="none")
    assert r.dataset.attrs.get("score_level") == level
    sign = -1 if level == "up" else 1
    np.testing.assert_allclose(sign * values(r), wanted, rtol=1e-10)


def test_a_sample_with_a_constant_score_has_no_information(data):
    y = data.obs["score"].to_numpy().copy()
    last = (data.obs["sample"] == data.obs["sample"].unique()[-1]).to_numpy()
    y[last] = 7.3
    with pytest.warns(hc.DataWarning, match="constant in 1 of 6 samples"):
        r = made(data).score(y, uncertainty="jackknife")
    assert r.dataset["flag"].values.all()
    assert r.flag_counts()["absent_in_sample"] == 16
    assert (values(r, "df") <= 4).all()  # of 5 samples
    # and the samples that have it give the estimate, with the variances of all
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        h = made(data).score(y)
    assert np.isfinite(values(h, "p_value")).sum() > 10


def test_null_scores_that_follow_depth_keep_their_level_and_true_ones_their_size():
    """Depth in the score and differences between donors do not show as correlation."""
    rng = np.random.default_rng(5)
    p, mean = 70, np.tile([0.3, 2.0], 35)
    null, estimates = [], []
    for _ in range(10):
        x, obs = [], []
        for donor in range(4):
            n = int(rng.integers(120, 250))
            log_depth, common, e = rng.normal(0, 0.4, n), rng.normal(size=n), rng.normal(size=n)
            log_z = 0.3 * common[:, None] + 0.4 * rng.normal(size=(n, p))
            log_z[:, :4] = 0.3 * e[:, None] + 0.4 * rng.normal(size=(n, 4))
            mu = mean * np.exp(rng.normal(0, 0.5, p))
            x.append(rng.poisson(mu * np.exp(log_depth[:, None] + log_z)))
            y = (1 + donor) * (e + 2.5 * log_depth) + 3 * donor
            obs.append(
                pd.DataFrame({"sample": f"d{donor}", "y": y, "depth": 1e4 * np.exp(log_depth)})
            )
        obs = pd.concat(obs, ignore_index=True)
        obs.index = obs.index.astype(str)
        genes = pd.DataFrame(index=[f"g{j}" for j in range(p)])
        adata = ad.AnnData(sparse.csr_matrix(np.vstack(x).astype(float)), obs=obs, var=genes)
        r = made(adata).score("y")
        assert 50 < r.dataset.attrs["prior_pairs"] <= p  # learnt from the pairs of the score
        null.append(values(r, "p_value")[4:])
        estimates.append(values(r)[[1, 3]])
    null = np.concatenate(null)
    null = null[np.isfinite(null)]
    assert 0.02 < (null < 0.05).mean() < 0.08
    assert (null < 0.001).mean() < 0.006
    truth = 0.3 / np.sqrt(np.exp(0.25) - 1) / np.sqrt(2)  # half of the variance of y is depth
    assert np.mean(estimates) == pytest.approx(truth, abs=0.03)


@pytest.mark.usefixtures("undrawn")
def test_result_is_one_of_all_others(data, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    r = made(data).score("on", name="activated")
    assert r.target == "activated"
    assert r.dataset.attrs["prior_pairs"] > 60  # of the genes: those of the score are too few
    assert "activated" in str(r.summary())
    assert set(r.top(n=3).index) <= set(data.var_names)
    assert r.dataset["correlation"].dims == ("target", "gene")
    r.save(tmp_path / "r.zarr")
    again = hc.load(tmp_path / "r.zarr")
    np.testing.assert_array_equal(values(again, "correlation"), values(r, "correlation"))
    assert again.dataset.attrs["score"] == "activated"
    assert "score of the cells" in r.dataset.attrs["estimand"]
    r.plot.volcano()
    hc.report(tmp_path / "r.html", r)
    assert "activated" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_two_samples_give_no_interval(data):
    two = data[data.obs["sample"].isin(data.obs["sample"].unique()[:2])].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = made(two).score("score")
    assert np.isnan(values(r, "p_value")).all()
    assert np.isfinite(values(r)).any()


@pytest.mark.parametrize(
    ("score", "options", "text"),
    [
        ("scor", {}, "unknown score column 'scor'; did you mean 'score'"),
        ("sample", {}, "is not numeric and has 6 levels"),
        (3.0, {}, "one value for each of the 610 cells"),
        (lambda d: d.obs["score"].to_numpy()[:5], {}, "has shape .5,."),
        (lambda d: d.obs["score"].iloc[:5], {}, "does not name all cells"),
        (lambda d: d.obs["score"].where(d.obs["arm"] == "a"), {}, "is missing for"),
        (lambda d: d.obs["score"].replace(d.obs["score"].iloc[3], np.inf), {}, "is inf for 1 of"),
        (lambda d: np.full(d.n_obs, 3.3), {}, "is constant in every sample"),
        (lambda d: d.obs["arm"], {}, "is constant in every sample"),
        (lambda d: np.full(d.n_obs, "a"), {}, "has 1 level "),
        (lambda d: d.obs["score"].to_numpy() + 1j, {}, "not complex"),
        (lambda d: pd.to_datetime(d.obs["score"].to_numpy()), {}, "not datetime"),
        ("score", {"name": "gene1"}, "is the name of a gene"),
        ("score", {"name": ""}, "name the score"),
        ("score", {"name": 3}, "name must be"),
        ("score", {"uncertainty": "bootstrap"}, "not available for a score"),
    ],
)
def test_refusals(data, score, options, text):
    score = score(data) if callable(score) else score
    with pytest.raises(hc.InputError, match=text):
        made(data).score(score, **options)


def test_models_that_have_no_scores(data):
    with pytest.raises(hc.InputError, match="a score needs samples"):
        hc.CSCore(data, None, depth="depth").score("score")
