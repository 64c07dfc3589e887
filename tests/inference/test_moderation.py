"""Moderated variances against limma, and by their own properties."""

import numpy as np
import pytest
from scipy import special, stats

import hiercorr as hc
from hiercorr.inference import squeeze_variances
from hiercorr.inference.moderation import trigamma_inverse
from tests.support import table

SQUEEZED = table("limma_squeezevar.csv").reset_index()
CASES = dict(list(table("limma_squeezevar_cases.csv").reset_index().groupby("case", sort=False)))
EBAYES = table("limma_ebayes_FTL_gbm.csv")
MEAN_LOG = table("edger_logcpm_gbm.csv").mean(axis=1)


@pytest.mark.parametrize("kind", ["plain", "trend"])
def test_unequal_df_equal_limma(kind):
    found = squeeze_variances(
        SQUEEZED["s2"], SQUEEZED["df"], SQUEEZED["covariate"] if kind == "trend" else None
    )
    np.testing.assert_allclose(found.posterior, SQUEEZED[f"{kind}_post"], rtol=1e-10)
    np.testing.assert_allclose(found.prior, SQUEEZED[f"{kind}_prior"], rtol=1e-10)
    np.testing.assert_allclose(found.prior_df, SQUEEZED[f"{kind}_df"], rtol=1e-10)


@pytest.mark.parametrize("trend", [False, True])
@pytest.mark.parametrize("robust", [False, True])
def test_ebayes_equals_limma(trend, robust):
    expected = EBAYES[(EBAYES["trend"] == trend) & (EBAYES["robust"] == robust)]
    covariate = MEAN_LOG.loc[expected.index] if trend else None
    found = squeeze_variances(
        expected["sigma"] ** 2, expected["df_residual"], covariate, robust=robust
    )
    for values, name in (
        (found.posterior, "s2_post"),
        (found.prior, "s2_prior"),
        (found.prior_df, "df_prior"),
        (found.total_df, "df_total"),
    ):
        np.testing.assert_allclose(values, expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_edge_cases_equal_limma(name):
    """Infinite prior df, outliers, unequal df, variances of zero, few genes."""
    case = CASES[name]
    covariate = None if case["covariate"].isna().all() else case["covariate"]
    found = squeeze_variances(case["s2"], case["df"], covariate, bool(case["robust"].iloc[0]))
    np.testing.assert_allclose(found.posterior, case["post"], rtol=1e-6)
    np.testing.assert_allclose(found.prior, case["prior"], rtol=1e-6)
    np.testing.assert_allclose(found.prior_df, case["df_prior"], rtol=1e-6)


@pytest.mark.parametrize("robust", [False, True])
def test_true_prior_is_found(robust):
    """The model itself: 20,000 genes from a scaled inverse chi-squared prior."""
    rng = np.random.default_rng(1)
    sigma2 = 0.3 * 5 / rng.chisquare(5, 20_000)
    found = squeeze_variances(sigma2 * rng.chisquare(4, 20_000) / 4, 4, robust=robust)
    assert np.median(found.prior_df) == pytest.approx(5, rel=0.1)
    assert found.prior[0] == pytest.approx(0.3, rel=0.03)
    # Under the model the moderated t has exactly a t distribution on the total df.
    t = np.sqrt(sigma2) * rng.standard_normal(20_000) / np.sqrt(found.posterior)
    p = 2 * stats.t.sf(np.abs(t), found.total_df)
    assert (p < 0.01).mean() == pytest.approx(0.01, abs=0.003)


def test_robust_prior_withstands_outliers_and_spares_them():
    rng = np.random.default_rng(2)
    s2 = rng.chisquare(4, 1000) / 4 * 10 / rng.chisquare(10, 1000)
    s2[:20] *= 500
    plain, robust = (squeeze_variances(s2, 4, robust=r) for r in (False, True))
    assert plain.prior_df.max() < 3
    assert 5 < robust.prior_df.max() < 15
    assert (robust.prior_df[:20] < 1).all()
    assert (robust.prior_df[20:] > 5).mean() > 0.95


@pytest.mark.parametrize("trend", [False, True])
@pytest.mark.parametrize("robust", [False, True])
def test_scale_order_and_missing_genes_do_not_matter(trend, robust):
    s2, df, x = (SQUEEZED[c].to_numpy() for c in ("s2", "df", "covariate"))

    def squeeze(s2, df, x):
        return squeeze_variances(s2, df, x if trend else None, robust)

    whole = squeeze(s2, df, x)
    order = np.random.default_rng(0).permutation(len(s2))
    moved = squeeze(7 * s2[order], df[order], 3 * x[order] - 2)
    np.testing.assert_allclose(moved.posterior, 7 * whole.posterior[order], rtol=1e-6)
    np.testing.assert_allclose(moved.prior_df, whole.prior_df[order], rtol=1e-6)
    more = squeeze(np.append(s2, [np.nan, 1.0]), np.append(df, [3, 0]), np.append(x, [np.nan, 0]))
    np.testing.assert_allclose(more.posterior[:-2], whole.posterior)
    np.testing.assert_allclose(more.total_df[:-2], whole.total_df)
    assert np.isnan(more.posterior[-2:]).all()


def test_total_df_is_at_most_that_of_all_genes():
    found = squeeze_variances([1.0, 1.0, 1.0, np.nan], 2)
    assert np.isinf(found.prior_df[0])
    assert found.total_df[0] == 6
    np.testing.assert_allclose(found.posterior[:3], 1)


def test_one_gene_borrows_nothing():
    found = squeeze_variances([0.7], 4)
    assert (found.posterior[0], found.prior_df[0], found.total_df[0]) == (0.7, 0, 4)


def test_trigamma_inverse():
    x = np.geomspace(1e-9, 1e9, 40)
    np.testing.assert_allclose(special.polygamma(1, trigamma_inverse(x)), x, rtol=1e-6)
    inner = (x > 1e-6) & (x < 1e7)
    np.testing.assert_allclose(
        special.polygamma(1, trigamma_inverse(x[inner])), x[inner], rtol=1e-10
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, -1, 2], 3), "must not be negative"),
        (([1, 1, 2], -3), "must not be negative"),
        (([1, 1, 2], np.nan), "must not be negative"),
        (([1, 1, 2], 3, [1, 2]), "one value per gene"),
        (([[1, 1, 2]], 3), "one value per gene"),
        (([1, 1, 2], 3, [1, np.nan, 2]), "covariate must be finite"),
    ],
)
def test_refuses(arguments, words):
    with pytest.raises(hc.InputError, match=words):
        squeeze_variances(*arguments)
