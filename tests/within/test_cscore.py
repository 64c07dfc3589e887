"""CSCore: the published estimator in R, targets, invariances, weak genes and few samples."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import fit, table


@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1e-4), ("double", 1e-8)])
def test_pooled_equals_cscore(gbm, precision, tolerance):
    model = hc.CSCore(gbm, sample="sample_id", depth="total_counts", subset={"condition": "ctrl"})
    with pytest.warns(hc.EstimationWarning, match="beyond -1 or 1"):
        result = model.fit(estimator="pooled", precision=precision)
    expected, statistic = (
        table("cscore_gbm_ctrl_est.csv.gz"),
        table("cscore_gbm_ctrl_test_stat.csv.gz"),
    )
    off = ~np.eye(300, dtype=bool)
    unclipped = result.matrix("correlation_unclipped")
    assert list(unclipped.index) == list(expected.index)
    assert np.abs(np.clip(unclipped.values, -1, 1) - expected.values)[off].max() < tolerance
    assert np.abs(result.matrix("cell_statistic").values - statistic.values)[off].max() < tolerance
    # What R clips to 1 in silence is NaN and flagged here.
    clipped = (np.abs(expected.values) == 1) & off
    assert clipped.sum() == 6
    assert np.isnan(result.matrix().values[clipped]).all()
    assert (result.matrix("flag").values[clipped] & hc.Flag.OUT_OF_RANGE).all()
    p = result.matrix("cell_p_value").values[0, 1:5]
    from scipy import stats

    np.testing.assert_allclose(p, 2 * stats.norm.sf(np.abs(statistic.values[0, 1:5])), rtol=1e-3)


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


def test_nothing_estimable_is_still_a_result():
    adata, _ = simulate_counts(3, 60, 2, mean=3, seed=1)
    adata.X = np.full(adata.shape, 2)
    result = fit(adata)
    assert result.dataset["correlation"].isnull().all()
    assert len(result.pairs()) == 0
    assert result.top("gene0")["correlation"].isna().all()
    assert "no pair could be estimated" in str(result.summary())
