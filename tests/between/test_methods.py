"""Each route of Pseudobulk against statsmodels or scipy."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import hiercorr as hc
from tests.between.support import pseudobulk


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
    shown = stats.permutation_test(
        (m.expression["gene0"].to_numpy(),),
        lambda x: stats.spearmanr(x, m.expression["gene1"]).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
    )
    assert float(d["p_value"].sel(gene="gene0", partner="gene1")) == pytest.approx(shown.pvalue)
    with pytest.warns(hc.EstimationWarning, match="use permutations="):
        pseudobulk(eight[0], formula="~ batch").fit("spearman")
