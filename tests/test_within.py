"""The within estimator against the same equations in plain numpy, and what it must not depend on."""

import numpy as np
import pytest
from conftest import fit
from scipy import stats

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation import plain


def plain_sums(adata, theta=None):
    code = adata.obs["sample"].cat.codes.to_numpy()
    x, s = adata.X.toarray(), adata.obs["depth"].to_numpy()
    return plain.within([(x[code == c], s[code == c]) for c in np.unique(code)], theta)


def influences_by_hand(sums, j, k, noise=2.0):
    """rho of one pair, each sample's influence on it and its share of the variances, sample by sample."""
    num, den, own, own_den = (
        sums["num"][:, j, k],
        sums["den"][:, j, k],
        sums["own"],
        sums["own_den"],
    )
    f = own.sum(0) / own_den.sum(0)
    noise = np.broadcast_to(noise, f.shape)
    rho = num.sum() / den.sum() / np.sqrt(f[j] * f[k])
    x, b = np.empty(len(num)), np.zeros(len(num))
    for c in range(len(num)):
        x[c] = (num[c] - num.sum() / den.sum() * den[c]) / den.sum() / np.sqrt(f[j] * f[k])
        x[c] -= (
            rho
            / 2
            * sum((own[c, g] - f[g] * own_den[c, g]) / (f[g] * own_den[:, g].sum()) for g in (j, k))
        )
    for g in (j, k):
        q = own_den[:, g] / own_den[:, g].sum()
        off = np.maximum(own[:, g], 0) / np.maximum(own[:, g], 0).sum() - q
        by_chance = noise[g] / (own_den[:, g].sum() * f[g] ** 2)
        b += 0.5 * (q + np.sqrt(max(1 - by_chance / (off**2).sum(), 0)) * off)
    return rho, x, b


def jackknife_by_hand(sums, j, k, noise=2.0):
    rho, x, b = influences_by_hand(sums, j, k, noise)
    d, n = x / (1 - b), len(x)
    return rho, np.sqrt((n - 1) / n * ((d - d.mean()) ** 2).sum()), 1 / (b**2).sum() - 1


def test_estimates_equal_plain_numpy(small):
    result = fit(small, precision="double")
    sums = plain_sums(small)
    assert result.dataset.attrs["theta"] == pytest.approx(sums["theta"], rel=1e-3)
    sums = plain_sums(small, result.dataset.attrs["theta"])
    expected = plain.correlation(sums["num"], sums["den"], sums["own"], sums["own_den"])
    np.fill_diagonal(expected, np.where(np.isfinite(np.diag(expected)), 1, np.nan))
    got = result.matrix("correlation_unclipped").values
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9, equal_nan=True)
    phi = sums["own"].sum(0) / sums["own_den"].sum(0)
    np.testing.assert_allclose(result.dataset["overdispersion"].values, phi, rtol=1e-7)


def test_jackknife_equals_plain_numpy(small):
    ds = fit(small, precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    for j, k in ((0, 1), (2, 3), (0, 8), (3, 4)):
        rho, se, df = jackknife_by_hand(sums, j, k)
        assert ds["df"].values[j, k] == pytest.approx(df, rel=1e-6)
        assert ds["se"].values[j, k] == pytest.approx(se / (1 - rho**2), rel=1e-6)
        margin = stats.t.ppf(0.975, df) * se
        assert ds["ci_lower"].values[j, k] == pytest.approx(max(rho - margin, -1), rel=1e-6)
        assert ds["ci_upper"].values[j, k] == pytest.approx(min(rho + margin, 1), rel=1e-6)
        assert ds["p_value"].values[j, k] == pytest.approx(
            2 * stats.t.sf(abs(rho / se), df), rel=1e-5
        )


def test_jackknife_is_close_to_the_exact_one_for_rich_genes():
    adata, _ = simulate_counts(8, 300, 6, mean=3, within=0.5, seed=3)
    result = fit(adata)
    sums = plain_sums(adata, result.dataset.attrs["theta"])
    left = np.arctanh(
        plain.leave_one_out(*(sums[k] for k in ("num", "den", "own", "own_den")))[:, 0, 1]
    )
    exact = np.sqrt(7 / 8 * ((left - left.mean()) ** 2).sum())
    assert result.dataset["se"].values[0, 1] == pytest.approx(exact, rel=0.1)


def test_cluster_equals_plain_numpy(small):
    ds = fit(small, uncertainty="cluster", precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    rho, x, b = influences_by_hand(sums, 2, 3)
    assert ds["se"].values[2, 3] == pytest.approx(
        np.sqrt((x**2 / (1 - b)).sum()) / (1 - rho**2), rel=1e-5
    )
    assert ds["df"].values[2, 3] == pytest.approx(1 / (b**2).sum() - 1, rel=1e-4)


def test_bootstrap_equals_plain_numpy(small):
    from hiercorr.inference.pairs import bootstrap_draws

    ds = fit(small, uncertainty="bootstrap", n_bootstrap=200, seed=5, precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    draws = bootstrap_draws(5, 200, 5)
    j, k = 0, 1
    phi = (draws @ sums["own"]) / (draws @ sums["own_den"])
    whole = sums["own"].sum(0) / sums["own_den"].sum(0)
    rho = ds["correlation"].values[j, k]
    cross = (
        draws @ sums["num"][:, j, k] / (draws @ sums["den"][:, j, k]) / np.sqrt(whole[j] * whole[k])
    )
    linear = cross - rho * np.sqrt(phi[:, j] * phi[:, k] / (whole[j] * whole[k]))
    expected = np.std(linear, ddof=1) * np.sqrt(5 / 4) / (1 - rho**2)
    assert ds["se"].values[j, k] == pytest.approx(expected, rel=1e-5)
    again = fit(small, uncertainty="bootstrap", n_bootstrap=200, seed=5, precision="double").dataset
    assert ds.drop_attrs().identical(again.drop_attrs())


def test_target_is_a_row_of_all_pairs(small):
    everything, one = fit(small), fit(small, target="gene2")
    row = everything.dataset.sel(gene="gene2", drop=True)
    for name in ("correlation", "se", "p_value", "ci_lower", "flag"):
        np.testing.assert_allclose(
            one.dataset[name].values[0], row[name].values, rtol=2e-4, atol=2e-6, err_msg=name
        )


def test_target_joins_the_genes(gbm, quiet):
    model = hc.CSCore(gbm, sample="patient_id", depth="total_counts", genes=5)
    assert "CTSB" not in model.counts.genes
    result = model.fit(target="CTSB")
    assert result.dataset.sizes == {"target": 1, "gene": 6, "sample": 5}
    assert model.fit().dataset.sizes["gene"] == 5  # the model itself stays as it was


def test_per_sample_variance_is_the_sum_of_squared_influences():
    adata, _ = simulate_counts(4, 150, 4, mean=2, within=0.5, seed=2)
    ds = fit(adata, per_sample=True, precision="double").dataset
    theta, j, k, c = ds.attrs["theta"], 0, 1, 2
    code = adata.obs["sample"].cat.codes.to_numpy()
    unit = adata.obs["depth"].mean()
    x, s = adata.X.toarray()[code == c], adata.obs["depth"].to_numpy()[code == c] / unit
    num, _, _, own, _, _ = plain.sample_sums(x, s, theta)
    mu = x.sum(0) / s.sum()
    for _ in range(100):
        w = 1 / (1 + np.outer(s, mu) / theta)
        mu = (w * x).sum(0) / (w * s[:, None]).sum(0)
    y = w * (x - np.outer(s, mu))
    q = y**2 - w**2 * s[:, None] * mu
    rho = float(ds["sample_correlation"].values[c, j, k])
    u = rho * (y[:, j] * y[:, k] / num[j, k] - q[:, j] / (2 * own[j]) - q[:, k] / (2 * own[k]))
    assert float(ds["sample_se"].values[c, j, k]) == pytest.approx(
        np.sqrt((u**2).sum()) / (1 - rho**2), rel=1e-6
    )


def test_heterogeneity_is_the_meta_analysis_of_the_samples():
    from hiercorr.inference.meta import meta_analysis

    adata, _ = simulate_counts(6, 200, 4, mean=2, within=0.5, heterogeneity=0.3, seed=2)
    result = fit(adata, per_sample=True, precision="double")
    table = result.sample_table("gene0", "gene1")
    meta = meta_analysis(np.arctanh(table["correlation"].to_numpy()), table["se"].to_numpy() ** 2)
    for name, value in {
        "tau2": meta.tau2,
        "i2": meta.i2,
        "prediction_upper": np.tanh(meta.prediction_upper),
    }.items():
        assert result.matrix(name).loc["gene0", "gene1"] == pytest.approx(float(value), rel=1e-6)


def test_invariances(small, quiet):
    base = fit(small, precision="double").matrix()
    rng = np.random.default_rng(0)
    cells = fit(small[rng.permutation(small.n_obs)].copy(), precision="double").matrix()
    np.testing.assert_allclose(cells, base, rtol=1e-9, atol=1e-10)
    genes = rng.permutation(small.var_names)
    np.testing.assert_allclose(
        fit(small[:, genes].copy(), precision="double").matrix().loc[base.index, base.columns],
        base,
        rtol=1e-9,
        atol=1e-10,
    )
    scaled = small.copy()
    scaled.obs["depth"] *= 1000
    np.testing.assert_allclose(
        fit(scaled, precision="double").matrix(), base, rtol=1e-8, atol=1e-10
    )
    renamed = small.copy()
    renamed.obs["sample"] = renamed.obs["sample"].cat.rename_categories(lambda s: "z" + s)
    np.testing.assert_allclose(fit(renamed, precision="double").matrix(), base, rtol=1e-12)


def test_samples_with_their_own_levels_do_not_correlate_genes():
    """Different means of samples are no correlation within them; pooled over samples they are."""
    adata, _ = simulate_counts(12, 200, 2, mean=3, within=0.0, between=0.95, between_sd=0.8, seed=4)
    assert abs(fit(adata).matrix().iloc[0, 1]) < 0.1
    assert fit(adata, estimator="pooled").matrix().iloc[0, 1] > 0.25


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster", "bootstrap"])
def test_two_samples_give_an_estimate_without_interval(uncertainty):
    adata, _ = simulate_counts(2, 200, 4, mean=3, within=0.5, seed=1)
    with pytest.warns(hc.EstimationWarning, match="at least 3"):
        result = hc.CSCore(adata, sample="sample", depth="depth").fit(uncertainty=uncertainty)
    assert np.isfinite(result.matrix().iloc[0, 1])
    assert result.dataset["se"].isnull().all()
    assert result.dataset["p_value"].isnull().all()
    assert (result.matrix("flag").values & hc.Flag.TOO_FEW_SAMPLES).all()
    with pytest.raises(hc.InputError, match="no q-values: too few samples"):
        result.pairs(q=0.05)
    assert len(result.pairs()) == 6


def test_pooled_jackknife_sees_samples():
    adata, _ = simulate_counts(6, 100, 4, mean=3, within=0.3, between=0.8, seed=1)
    ds = fit(adata, estimator="pooled").dataset
    assert ((ds["df"].values[0, 1:] > 1) & (ds["df"].values[0, 1:] <= 5)).all()
    assert (ds["p_value"].values[0, 1:] > 0).all()
    quick = fit(adata, estimator="pooled", uncertainty="none").dataset
    assert quick["p_value"].isnull().all()
    for name in ("correlation", "cell_statistic"):
        np.testing.assert_allclose(quick[name].values, ds[name].values, rtol=1e-4, atol=1e-5)


def test_pooled_jackknife_equals_plain_numpy(small):
    from hiercorr import moments
    from hiercorr.counts.read import read_counts

    ds = fit(small, estimator="pooled", precision="double").dataset
    counts = read_counts(small, sample="sample", depth="depth")
    genes = moments.pooled_moments(
        moments.depth_sums(counts, 1e-13)
    )  # its variances are held against R
    x, s = counts.toarray(), counts.depth / counts.depth.mean()
    mu, slope = genes.mu[:, 0], genes.slope[:, 0]
    y = (x - np.outer(s, mu)) / (1 + np.outer(s, slope))
    f = s[:, None] / (1 + np.outer(s, slope))
    cells = [slice(a, b) for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True)]
    sums = {
        "num": np.array([y[c].T @ y[c] for c in cells]),
        "den": np.array([f[c].T @ f[c] for c in cells]),
    }
    sums |= {"own": genes.num.T, "own_den": genes.den.T}
    for j, k in ((0, 1), (2, 3), (0, 8)):
        rho, se, df = jackknife_by_hand(sums, j, k, 2 * mu**2)
        assert ds["correlation"].values[j, k] == pytest.approx(rho, rel=1e-8)
        assert ds["se"].values[j, k] == pytest.approx(se / (1 - rho**2), rel=1e-6)
        assert ds["df"].values[j, k] == pytest.approx(df, rel=1e-6)


def test_pooled_needs_no_samples():
    adata, _ = simulate_counts(3, 100, 4, mean=3, within=0.3, seed=1)
    result = fit(adata, model={"sample": None}, estimator="pooled")
    assert result.dataset.attrs["uncertainty"] == "none"
    with pytest.raises(hc.InputError, match="needs samples"):
        fit(adata, model={"sample": None})


def test_gene_that_is_absent_from_samples_counts_fewer_samples():
    adata, _ = simulate_counts(5, 100, 4, mean=3, within=0.3, seed=1)
    x = adata.X.tolil()
    x[np.flatnonzero(adata.obs["sample"].isin(["s1", "s2"])), 0] = 0
    adata.X = x.tocsr()
    ds = fit(adata).dataset
    assert 1 < ds["df"].values[0, 1] <= 2
    assert ds["flag"].values[0, 1] & hc.Flag.ABSENT_IN_SAMPLE
    x[np.flatnonzero(adata.obs["sample"] == "s3"), 0] = 0
    adata.X = x.tocsr()
    ds = fit(adata).dataset
    assert np.isnan(ds["se"].values[0, 1])
    assert np.isfinite(ds["correlation"].values[0, 1])
    assert ds["flag"].values[0, 1] & hc.Flag.TOO_FEW_SAMPLES


def test_flags_of_weak_genes_and_dominant_samples():
    mean = np.array([3, 3, 0.02, 0.02])
    adata, _ = simulate_counts(4, [2000, 60, 60, 60], 4, mean=mean, seed=1)
    table = fit(adata).gene_table()
    assert "low_information" in table.loc["gene2", "gene_flag"]
    assert "low_information" not in table.loc["gene0", "gene_flag"]
    assert "dominated" in table.loc["gene0", "gene_flag"]
    assert table.loc["gene0", "effective_samples"] < 2


def test_gene_without_variance_is_nan_and_flagged():
    adata, _ = simulate_counts(4, 100, 4, mean=3, seed=1)
    x = adata.X.toarray()
    x[:, 0] = 2  # underdispersed: variance below Poisson
    adata.X = x
    for estimator in ("within", "pooled"):
        result = fit(adata, estimator=estimator)
        assert np.isnan(result.matrix().loc["gene0"]).all()
        assert (result.matrix("flag").loc["gene0"].to_numpy() & hc.Flag.NONPOSITIVE_VARIANCE).all()
        assert np.isfinite(result.matrix().loc["gene1", "gene2"])


@pytest.mark.parametrize("estimator", ["within", "pooled"])
def test_reweighting_that_does_not_converge_is_said(small, estimator, monkeypatch):
    from hiercorr import moments

    name = f"{estimator}_moments"
    real = getattr(moments, name)
    monkeypatch.setattr(moments, name, lambda sums: real(sums, max_iterations=1, tolerance=1e-9))
    with pytest.warns(hc.EstimationWarning, match="after 1 rounds of reweighting"):
        result = hc.CSCore(small, sample="sample", depth="depth").fit(estimator)
    assert result.dataset.attrs["converged"] == 0


def test_nothing_estimable_is_still_a_result():
    adata, _ = simulate_counts(3, 60, 2, mean=3, seed=1)
    adata.X = np.full(adata.shape, 2)
    result = fit(adata)
    assert result.dataset["correlation"].isnull().all()
    assert len(result.pairs()) == 0
    assert result.top("gene0")["correlation"].isna().all()
    assert "no pair could be estimated" in str(result.summary())


def test_tiles_do_not_matter(small, monkeypatch):
    from hiercorr import moments
    from hiercorr.moments import products
    from hiercorr.results import tiling

    base = fit(small)
    for name, value in {"_PART_GENES": 3, "WIDE": 5, "_LEAST_GENES": 1}.items():
        monkeypatch.setattr(tiling, name, value)
    monkeypatch.setattr(products, "CELL_BLOCK", 16)
    monkeypatch.setattr(products, "SPARSE_BLOCK", 20)
    monkeypatch.setattr(moments, "_BASIS_BLOCK", 30)
    low, middle, high = np.quantile(
        hc.CSCore(small, sample="sample", depth="depth").counts.detection, [0.3, 0.5, 0.7]
    )
    # all genes dense, visited for residuals, visited where both have counts; two kinds, all three kinds
    for limits in ((0.0, 0.0), (0.0, 1.1), (1.1, 1.1), (middle, middle), (low, high)):
        monkeypatch.setattr(products, "SPARSE", limits[0])
        monkeypatch.setattr(products, "DENSE", limits[1])
        tiled = fit(small)
        for name in ("correlation", "se", "p_value", "flag"):
            np.testing.assert_allclose(tiled.matrix(name), base.matrix(name), rtol=2e-4, atol=2e-6)
    monkeypatch.undo()


def test_options_are_checked(small):
    model = hc.CSCore(small, sample="sample", depth="depth")
    for options, text in (
        ({"estimator": "median"}, "estimator must be"),
        ({"uncertainty": "magic"}, "uncertainty must be"),
        ({"precision": "half"}, "precision must be"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"target": "gene"}, "unknown target gene 'gene'; did you mean 'gene0'"),
        ({"estimator": "pooled", "per_sample": True}, "per_sample=True goes with"),
        ({"uncertainty": "bootstrap", "n_bootstrap": 10}, "at least 100"),
    ):
        with pytest.raises(hc.InputError, match=text):
            model.fit(**options)
    covariate = hc.CSCore(small, sample="sample", depth="depth", covariates="~ depth")
    with pytest.raises(hc.InputError, match="not available for 'pooled' with covariates"):
        covariate.fit(estimator="pooled", uncertainty="jackknife")
    with pytest.raises(hc.InputError, match="covariate_level"):
        covariate.fit(estimator="pooled", covariate_level="gene")
    with pytest.raises(hc.InputError, match="adjust takes any of"):
        covariate.fit(estimator="pooled", adjust=["median"])


@pytest.mark.parametrize("level", ["cell", "count"])
@pytest.mark.parametrize(
    "adjust", [("mean", "variance", "covariance"), ("mean",), ("mean", "variance")]
)
def test_covariates_equal_plain_numpy(level, adjust):
    # Mild effects and a narrow depth: fitted means stay positive, so the weights are well-conditioned.
    effects = {"arm": (["a", "b"] * 3, 0.2), "age": (np.array([50.0, 61, 47, 70, 66, 58]), 0.01)}
    adata, _ = simulate_counts(
        6, 150, 5, mean=6, within=0.4, depth_sd=0.15, depth_shift=0, covariates=effects, seed=8
    )
    model = {"covariates": "~ arm + age"}
    ds = fit(
        adata,
        model=model,
        estimator="pooled",
        precision="double",
        covariate_level=level,
        adjust=adjust,
        standardize=True,
    ).dataset
    c = np.column_stack([adata.obs["arm"] == "b", adata.obs["age"]]).astype(float)
    c = np.column_stack([np.ones(adata.n_obs), (c - c.mean(0)) / c.std(0, ddof=1)])
    s = adata.obs["depth"].to_numpy()
    estimate, statistic, mean, variance = plain.cscore_covariates(
        adata.X.toarray(), s, c, level, adjust
    )
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(ds["correlation"].values[off], estimate[off], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        ds["cell_statistic"].values[off], statistic[off], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(ds["mean_coefficient"].values[: len(mean)], mean, rtol=1e-6)
    np.testing.assert_allclose(
        ds["variance_coefficient"].values[: len(variance)], variance, rtol=1e-6
    )


def test_covariate_options_change_the_regressions(gbm, quiet):
    genes = list(gbm.var_names[:6])
    model = hc.CSCore(
        gbm, sample="patient_id", depth="total_counts", genes=genes, covariates="~ age + gender"
    )
    base = model.fit(estimator="pooled", precision="double")
    # Centring and scaling covariates changes the meaning of the intercept, not the fitted means.
    raw = model.fit(estimator="pooled", precision="double", standardize=False)
    a, b = base.dataset["mean_coefficient"], raw.dataset["mean_coefficient"]
    age, male = gbm.obs["age"], (gbm.obs["gender"] == "M").astype(float)
    fitted_raw = b[0] + b[1] * age.mean() + b[2] * male.mean()
    np.testing.assert_allclose(
        a[0], fitted_raw, rtol=0.1
    )  # weights use the intercept, so not exactly
    assert not np.allclose(a[0], b[0], rtol=0.05)
    count = model.fit(estimator="pooled", precision="double", covariate_level="count")
    assert not np.allclose(count.matrix(), base.matrix(), atol=1e-3)
    mean_only = model.fit(estimator="pooled", precision="double", adjust=["mean"])
    assert not np.allclose(mean_only.matrix(), base.matrix(), atol=1e-3)
    assert mean_only.dataset["variance_coefficient"].isnull().values[1:].all()
    target = model.fit(estimator="pooled", target=genes[2], precision="double")
    np.testing.assert_allclose(target.matrix().iloc[0], base.matrix().loc[genes[2]], rtol=1e-9)
    assert "CSCore" in str(base.summary())
