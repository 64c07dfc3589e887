"""Each route of Pseudobulk against statsmodels or scipy."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import hiercorr as hc
from hiercorr.enrichment import enrich, gsea
from tests.between.support import pseudobulk, spearman_over_all_orders


def test_regressions_equal_statsmodels(eight):
    m = pseudobulk(eight[0], formula="~ batch + age")
    y = m.expression
    d = m.fit("hc3", target="gene0").dataset
    x = np.column_stack([m.design.matrix, y["gene0"]])
    expected = sm.OLS(y["gene3"], x).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(d["beta_p_value"].sel(gene="gene3"), expected.pvalues, rtol=1e-7)
    assert float(d["p_value"].sel(gene="gene3")[0]) == pytest.approx(expected.pvalues.iloc[-1])
    # The correlation stays the partial one; its interval is wider or narrower as the error is.
    classical = m.fit(target="gene0").dataset
    np.testing.assert_allclose(d["correlation"], classical["correlation"])
    ratio = expected.bse.iloc[-1] / sm.OLS(y["gene3"], x).fit().bse.iloc[-1]
    assert float((d["se"] / classical["se"]).sel(gene="gene3")[0]) == pytest.approx(ratio)
    formula_only = m.fit().coefficients("age")
    plain = sm.OLS(y["gene3"], m.design.matrix).fit()
    assert formula_only.loc["gene3", "beta_p_value"] == pytest.approx(plain.pvalues.iloc[-1])


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "method", ["voom", "negative_binomial", "hc3", "spearman", "corrected", "pearson"]
)
def test_methods_fill_the_schema(gbm, adjusted, method, quiet):
    r = adjusted.fit(method, target="FTL")
    d = r.dataset
    assert d["correlation"].dims == ("target", "gene")
    assert d["p_value"].notnull().sum() > 250
    assert (d["p_value"].fillna(1) > 0).all()
    p = d["p_value"].values[0]
    np.testing.assert_allclose(
        d["q_value"].values[0][np.isfinite(p)], stats.false_discovery_control(p[np.isfinite(p)])
    )
    top = r.top(n=5)
    assert top["p_value"].is_monotonic_increasing
    assert "FTL" not in top.index
    assert "No. samples:" in str(r.summary(n=3))
    assert not (d["ci_lower"] > d["correlation"]).any()


def test_voom_equals_weighted_least_squares(adjusted):
    from hiercorr.between.normalization import voom

    d = adjusted.fit("voom", target="FTL", moderated=False).dataset
    x = np.column_stack([adjusted.design.matrix, adjusted.expression["FTL"]])
    counts = np.asarray(adjusted.samples[:, adjusted.expression.columns].X)
    found = voom(counts, adjusted.library_sizes, x)
    j = list(d["gene"].values).index("SPP1")
    expected = sm.WLS(found.expression[:, j], x, found.weights[:, j]).fit()
    assert float(d["p_value"].sel(gene="SPP1")[0]) == pytest.approx(expected.pvalues[-1])


def test_spearman_is_exact_at_few_samples(eight):
    m = pseudobulk(eight[0])
    d = m.fit("spearman").dataset
    shown = spearman_over_all_orders(m.expression["gene0"], m.expression["gene1"])
    assert float(d["p_value"].sel(gene="gene0", partner="gene1")) == pytest.approx(shown)
    with pytest.warns(hc.EstimationWarning, match="use permutations="):
        pseudobulk(eight[0], formula="~ batch").fit("spearman")


def _five_samples():
    """Counts of three genes in five samples of one cell each: gene1 in the order of gene0."""
    x = np.array(
        [[10, 40, 500], [20, 50, 400], [30, 70, 300], [50, 90, 200], [90, 95, 100]], np.int64
    )
    x = np.column_stack([x, np.full(5, 1000) - x.sum(1) // 2, [7, 30, 11, 20, 9]])
    x = np.column_stack([x, 5000 - x.sum(1)])
    obs = pd.DataFrame({"sample": list("abcde")}, index=list("abcde"))
    return ad.AnnData(x, obs, pd.DataFrame(index=[f"gene{j}" for j in range(x.shape[1])]))


@pytest.mark.parametrize("permutations", [None, 999])
def test_rank_correlations_of_1_are_estimates_like_any_other(permutations):
    m = hc.Pseudobulk(_five_samples(), "sample", min_cells=1, normalization="cpm")
    r = m.fit("spearman", permutations=permutations)
    assert r.flag_counts()["out_of_range"] == 0
    for partner, sign in (("gene1", 1), ("gene2", -1)):
        d = r.dataset.sel(gene="gene0", partner=partner)
        assert d["correlation"].item() == sign
        assert d["p_value"].item() == pytest.approx(2 / 120)
        assert d["statistic"].item() == sign * np.inf
        assert d["df"].item() == 3
        assert int(d["flag"]) & hc.Flag.NO_INTERVAL
        assert r.to_networkx(q=None)["gene0"][partner]["weight"] == sign
    assert set(r.top("gene0", n=2).index) == {"gene1", "gene2"}
    sets = {"set": ["gene1", "gene3"]}
    found = enrich(r, "gene0", sets, q=0.9, direction="positive", min_size=1)
    assert "gene1" in found.loc["set", "genes"]
    assert np.isfinite(gsea(r, "gene0", sets, min_size=1, permutations=5)["es"]).all()


def test_no_rank_correlation_has_a_p_value_below_its_exact_minimum():
    glioblastoma = hc.datasets.glioblastoma()
    options = {"formula": "~ condition", "block": "patient_id", "depth": "total_counts"}
    m = hc.Pseudobulk(glioblastoma, "sample_id", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*chained_assignment")  # of anndata
        warnings.filterwarnings("ignore", "the t test of a partial Spearman")
        r = m.fit("spearman")
    one = r.dataset.sel(gene="MT2A", partner="HINT1")
    assert one["correlation"].item() == 1
    assert one["p_value"].item() == pytest.approx(2 / 120)  # five samples inform it
    pairs = r.pairs()
    assert (pairs["correlation"].abs() == 1).sum() == 49
    assert pairs["p_value"].min() == pytest.approx(2 / 120)


def test_twins_have_no_permutation_p_value_without_a_correlation():
    adata = _five_samples()
    adata.X[:, 4] = adata.X[:, 1]
    m = hc.Pseudobulk(adata, "sample", min_cells=1, normalization="cpm")
    with pytest.warns(hc.EstimationWarning):
        r = m.fit("pearson", permutations=999)
    d = r.dataset.sel(gene="gene1", partner="gene4")
    assert np.isnan(d["correlation"].item())
    assert np.isnan(d["p_value"].item())


def test_the_result_says_which_rank_correlations_are_exact(eight):
    exact = pseudobulk(eight[0]).fit("spearman")
    assert exact.dataset.attrs["uncertainty"] == "exact distribution of ranks"
    assert "exact" in str(exact.summary())
    with pytest.warns(hc.EstimationWarning):
        assert (
            pseudobulk(eight[0], formula="~ batch").fit("spearman").dataset.attrs["uncertainty"]
            == "t"
        )
