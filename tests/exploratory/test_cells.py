"""Correlation of log-normalised cells against numpy, scipy and statsmodels."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

import hiercorr as hc
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="module")
def logs(small):
    s = small.obs["depth"].to_numpy()
    return np.log1p(small.X.toarray() * np.median(s)[None] / s[:, None]), small.obs[
        "sample"
    ].cat.codes.to_numpy()


@pytest.fixture(scope="module")
def model(small):
    return hc.CellCorrelation(small, "sample", depth="depth")


OFF = ~np.eye(12, dtype=bool)


def test_pooled_equals_numpy_and_scipy(model, logs):
    r = model.fit("pearson", "pooled", precision="double").matrix().values
    np.testing.assert_allclose(r[OFF], np.corrcoef(logs[0].T)[OFF], atol=1e-10)
    r = model.fit("spearman", "pooled", precision="double")
    expected = stats.spearmanr(logs[0].round(12))
    np.testing.assert_allclose(r.matrix().values[OFF], expected.statistic[OFF], atol=1e-10)
    # scipy's p, from t on cells - 2 degrees of freedom
    np.testing.assert_allclose(
        r.matrix("cell_p_value").values[OFF], expected.pvalue[OFF], rtol=1e-6
    )


def test_within_equals_repeated_measures_correlation(model, logs):
    d = model.fit("pearson", "within", precision="double").dataset
    table = pd.DataFrame({"x": logs[0][:, 0], "y": logs[0][:, 1], "sample": logs[1]})
    fit = smf.ols("y ~ x + C(sample)", table).fit()
    at = d.sel(gene="gene0", partner="gene1")
    assert float(at["cell_statistic"]) == pytest.approx(fit.tvalues["x"])
    assert float(at["cell_p_value"]) == pytest.approx(fit.pvalues["x"])
    assert float(at["correlation"]) == pytest.approx(
        fit.tvalues["x"] / np.sqrt(fit.tvalues["x"] ** 2 + fit.df_resid)
    )


def test_within_spearman_ranks_in_samples(model, logs):
    ranks = np.empty_like(logs[0])
    for c in range(5):
        ranks[logs[1] == c] = stats.rankdata(logs[0][logs[1] == c].round(12), axis=0)
        ranks[logs[1] == c] -= ranks[logs[1] == c].mean(0)
    r = model.fit("spearman", "within", precision="double").matrix().values
    np.testing.assert_allclose(r[OFF], np.corrcoef(ranks.T)[OFF], atol=1e-10)


def test_target_precision_and_label(model, small):
    whole, one = model.fit(), model.fit(target="gene2")
    np.testing.assert_allclose(one.matrix().loc["gene2"], whole.matrix().loc["gene2"], atol=1e-5)
    assert whole.dataset.attrs["exploratory"] == 1
    assert "xploratory" in str(whole.summary())
    assert (whole.matrix("se").values[OFF] > 0).all()
    alone = hc.CellCorrelation(small, None, depth="depth").fit(level="pooled")
    assert alone.matrix("se").isna().all(axis=None)


def test_naive_test_rejects_too_often_and_the_jackknife_does_not():
    naive, honest = [], []
    for seed in range(12):
        between = np.full((20, 20), 0.8) + 0.2 * np.eye(20)
        adata, _ = simulate_counts(6, 150, 20, mean=3.0, between=between, between_sd=0.5, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = hc.CellCorrelation(adata, "sample", depth="depth")
            naive.append(
                fitted.fit(level="pooled", uncertainty="none").dataset["cell_p_value"].values[0, 1:]
                < 0.05
            )
            honest.append(fitted.fit().dataset["p_value"].values[0, 1:] < 0.05)
    assert np.mean(naive) > 0.4
    assert np.mean(honest) < 0.12


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "kendall"}, "method must be one of"),
        ({"level": "between"}, "level must be one of"),
        ({"uncertainty": "bootstrap"}, "uncertainty must be"),
        ({"target": "nothing"}, "unknown target gene"),
    ],
)
def test_bad_options(model, options, match):
    with pytest.raises(hc.InputError, match=match):
        model.fit(**options)


def test_level_needs_samples(small):
    with pytest.raises(hc.InputError, match="needs samples"):
        hc.CellCorrelation(small, None, depth="depth").fit()
