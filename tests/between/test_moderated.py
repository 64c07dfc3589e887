"""Moderated tests against limma's figures, what they leave alone, and refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.between import methods, normalization
from hiercorr.between.options import BetweenOptions
from hiercorr.between.pair_tests import PairOptions
from hiercorr.inference import squeeze_variances
from hiercorr.simulate import simulate_counts
from tests.between.support import model, pseudobulk
from tests.support import table

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
EBAYES = table("limma_ebayes_FTL_gbm.csv")
KINDS = {
    True: (False, False, "plain"),
    None: (False, False, "plain"),
    "trend": (True, False, "trend"),
    "robust": (False, True, "robust"),
    "trend+robust": (True, True, "trend+robust"),
    ("robust", "trend"): (True, True, "trend+robust"),
}
COLUMNS = {"t": "statistic", "df_total": "df", "p": "p_value"}


@pytest.mark.parametrize("moderated", KINDS, ids=str)
def test_equals_limma(adjusted, moderated):
    trend, robust, kind = KINDS[moderated]
    expected = EBAYES[(EBAYES["trend"] == trend) & (EBAYES["robust"] == robust)]
    r = adjusted.fit(target="FTL", moderated=moderated)
    d = r.dataset.sel(target="FTL", gene=list(expected.index))
    beta = d.sel(coefficient="FTL")
    for theirs, ours in COLUMNS.items():
        np.testing.assert_allclose(d[ours], expected[theirs], rtol=1e-6, err_msg=ours)
        other = {"statistic": "beta_statistic", "df": "beta_df", "p_value": "beta_p_value"}[ours]
        np.testing.assert_array_equal(d[ours], beta[other])
    np.testing.assert_allclose(beta["beta"], expected["coef"], rtol=1e-6)
    assert d.attrs["moderated"] == kind
    assert d.attrs["uncertainty"] == "moderated t"
    assert d.attrs["prior_df"] == pytest.approx(expected["df_prior"].median(), rel=1e-6)
    assert d.attrs["prior_variance"] == pytest.approx(expected["s2_prior"].median(), rel=1e-6)
    assert ("prior_df" in d) == ("prior_variance" in d) == (kind != "plain")
    if kind != "plain":
        np.testing.assert_allclose(d["prior_df"], expected["df_prior"], rtol=1e-6)
        np.testing.assert_allclose(d["prior_variance"], expected["s2_prior"], rtol=1e-6)


def test_equals_limma_with_correlated_blocks(gbm):
    """duplicateCorrelation and the moderated generalised least squares, FTL in the design."""
    expected = table("limma_ebayes_FTL_gbm_block.csv")
    consensus = expected["consensus"].iloc[0]
    m = model(gbm, formula="~ condition", block="patient_id", block_method="correlation")
    y, blocks = m.expression, pd.factorize(m.samples.obs["patient_id"])[0]
    design = np.column_stack([m.design.matrix, y["FTL"]])
    rho = normalization.block_correlation(y.drop(columns="FTL").to_numpy(), design, blocks)
    # limma's iterations stop at a local maximum of the likelihood for one gene, ITM2B
    assert rho == pytest.approx(consensus, abs=4e-3)
    asked = BetweenOptions("ols", "FTL", None, {}, None, "double", 0.95, None, None, True)
    problem = replace(m._problem(y, asked), correlation=(consensus,))
    n, at = y.shape[1], y.columns.get_loc("FTL")
    flags = np.zeros(n, np.uint16)
    options = PairOptions(
        slice(at, at + 1), np.float64, 0.95, flags, None, None, lambda n_genes: "plain"
    )
    found = methods.regress_on_target(problem, "ols", at, options)
    genes = y.columns.get_indexer(expected.index)
    for theirs, ours in COLUMNS.items():
        np.testing.assert_allclose(found.pair[ours][0, genes], expected[theirs], rtol=1e-6)
    fitted = m.fit(target="FTL").dataset
    assert fitted.attrs["moderated"] == "plain"
    assert fitted.attrs["block_correlation"] != pytest.approx(consensus, abs=5e-3)


def test_all_coefficients_and_contrasts_are_moderated(adjusted):
    drug = {"drug": ("condition", "panobinostat", "ctrl")}
    plain, squeezed = (
        adjusted.fit(target="FTL", contrasts=drug, moderated=m).dataset for m in (False, True)
    )
    kept = plain["gene"].values != "FTL"
    s2 = EBAYES[~EBAYES["trend"] & ~EBAYES["robust"]].loc[plain["gene"].values[kept]]
    ratio = np.sqrt(s2["s2_post"].to_numpy()) / s2["sigma"].to_numpy()
    se = (squeezed["beta_se"] / plain["beta_se"]).values[:, kept]
    np.testing.assert_allclose(se, np.broadcast_to(ratio, se.shape), rtol=1e-6)
    assert (squeezed["beta_df"].values[:, kept] == squeezed["df"].values[0, kept]).all()
    np.testing.assert_array_equal(
        squeezed["beta_p_value"].sel(coefficient="drug"),
        squeezed["beta_p_value"].sel(coefficient="condition[T.panobinostat]"),
    )
    # the correlation is the ordinary one, its error scaled like that of the coefficient
    np.testing.assert_array_equal(squeezed["correlation"], plain["correlation"])
    np.testing.assert_array_equal(squeezed["ordinary_p_value"], plain["p_value"])
    np.testing.assert_allclose((squeezed["se"] / plain["se"]).values[0, kept], ratio, rtol=1e-6)
    assert "ordinary_p_value" not in plain
    assert "moderated" not in plain.attrs


def test_voom_is_moderated_on_its_weighted_residuals(adjusted):
    plain, squeezed, trend = (
        adjusted.fit("voom", target="FTL", moderated=m).dataset for m in (False, True, "trend")
    )
    assert adjusted.fit("voom", target="FTL").dataset.attrs["moderated"] == "plain"
    x = np.column_stack([adjusted.design.matrix, adjusted.expression["FTL"]])
    counts = np.asarray(adjusted.samples[:, adjusted.expression.columns].X)
    found = normalization.voom(counts, adjusted.library_sizes, x)
    s2 = []
    for y, w in zip(found.expression.T, found.weights.T, strict=True):
        root = np.sqrt(w)
        e = root * y - (root[:, None] * x) @ np.linalg.lstsq(root[:, None] * x, root * y)[0]
        s2.append(e @ e / 6)
    s2 = np.where(plain["gene"] == "FTL", np.nan, s2)
    for d, level in ((squeezed, None), (trend, found.expression.mean(0))):
        wanted = squeeze_variances(s2, 6.0, level)
        np.testing.assert_allclose(
            d["statistic"].values[0],
            plain["statistic"].values[0] * np.sqrt(s2 / wanted.posterior),
            rtol=1e-6,
        )
        known = np.isfinite(s2)
        np.testing.assert_allclose(d["df"].values[0, known], wanted.total_df[known])


def test_interactions_are_moderated(adjusted):
    options = {"target": "FTL", "interaction": "condition"}
    plain, squeezed = (adjusted.fit(**options, moderated=m) for m in (False, True))
    term = "FTL:condition[T.panobinostat]"
    a, b = (r.coefficients(term)["beta_se"] for r in (plain, squeezed))
    ratio = (b / a.loc[b.index]).dropna()
    other = squeezed.coefficients("FTL")["beta_se"] / plain.coefficients("FTL")["beta_se"]
    np.testing.assert_allclose(ratio, other.loc[ratio.index])


def test_default_is_on_for_screens_of_twenty_genes(gbm):
    few, many = (
        model(gbm, formula="~ condition + gender", genes=n).fit(target="FTL") for n in (20, 21)
    )
    assert [len(r.genes) for r in (few, many)] == [20, 21]
    assert "moderated" not in few.dataset.attrs  # 19 genes beside the target
    assert "moderated" in many.dataset.attrs


@pytest.mark.parametrize(
    "options",
    [
        {"method": "hc3"},
        {"method": "spearman"},
        {"method": "negative_binomial"},
        {"method": "corrected"},
        {"permutations": 30, "seed": 1},
    ],
    ids=str,
)
def test_default_is_off_where_it_does_not_apply(gbm, options):
    m = model(gbm, formula="~ condition + gender", genes=24)  # enough for it to be the default
    assert "moderated" not in m.fit(target="FTL", **options).dataset.attrs
    assert "moderated" not in m.fit(target="FTL", moderated=False, **options).dataset.attrs
    with pytest.raises(hc.InputError, match=r"moderated=True (requires|cannot)"):
        m.fit(target="FTL", moderated=True, **options)


def test_refuses(gbm, adjusted, eight):
    with pytest.raises(hc.InputError, match=r"moderated='trend' needs target=.*larger of the two"):
        adjusted.fit(moderated="trend")
    assert "moderated" not in adjusted.fit().dataset.attrs
    clustered = model(gbm, formula="~ condition", block="patient_id", block_method="cluster")
    with pytest.raises(hc.InputError, match="cannot be combined with block_method='cluster'"):
        clustered.fit(target="FTL", moderated=True)
    assert "moderated" not in clustered.fit(target="FTL").dataset.attrs
    for value in ("shrunk", "trend+trend", "", 3, [], ("trend", 1), 1.0, "plain"):
        with pytest.raises(hc.InputError, match="moderated must be True, False"):
            adjusted.fit(target="FTL", moderated=value)
    two = pseudobulk(eight[0], genes=["gene1", "gene2"])
    with pytest.raises(hc.InputError, match="2 genes have one: at least 3 are needed"):
        two.fit(target="gene3", moderated=True)
    assert "moderated" not in two.fit(target="gene3").dataset.attrs


def test_equal_profiles_and_constant_genes_stay_out_of_the_prior(gbm):
    adata = gbm.copy()
    x = adata.X.toarray()
    names = list(adata.var_names)
    x[:, names.index("SPP1")] = x[:, names.index("FTL")]
    adata.X = x
    m = model(adata, formula="~ condition + gender", normalization="cpm")
    other = model(
        adata,
        formula="~ condition + gender",
        normalization="cpm",
        genes=[n for n in names if n != "SPP1"],
    )
    a, b = (k.fit(target="FTL", moderated=True).dataset for k in (m, other))
    assert a.attrs["prior_df"] == pytest.approx(b.attrs["prior_df"])
    assert np.isnan(a["p_value"].sel(gene="SPP1").item())
    assert int(a["flag"].sel(gene="SPP1").item()) & hc.Flag.OUT_OF_RANGE


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_round_trip(gbm, adjusted, tmp_path, suffix):
    r = adjusted.fit(target="FTL", moderated="trend+robust")
    r.save(tmp_path / f"r.{suffix}")
    back = hc.load(tmp_path / f"r.{suffix}")
    assert back.dataset.equals(r.dataset)
    assert back.dataset.attrs["prior_df"] == r.dataset.attrs["prior_df"]


def test_summary_and_tables_tell_what_was_borrowed(adjusted):
    r = adjusted.fit(target="FTL", moderated="trend")
    text = str(r.summary(n=3))
    assert "moderated t" in text
    assert "shrunk towards a trend in mean expression with 3.21 prior degrees of freedom" in text
    assert "ord. P" in text
    assert "ordinary_p_value" in r.top(n=3)
    d = r.dataset.sel(gene=[g for g in r.genes if g != "FTL"])
    np.testing.assert_allclose(d["q_value"], stats.false_discovery_control(d["p_value"], axis=1))


def test_type_one_error_with_few_samples():
    """Counts of 6 samples, no true correlation: moderated and ordinary tests hold their level."""
    rejected = []
    for seed in range(6):
        adata, _ = simulate_counts(
            6, 40, 60, mean=5.0, between=0.0, between_sd=0.3 + 0.4 * (np.arange(60) % 3), seed=seed
        )
        m = pseudobulk(adata)
        for target in ("gene0", "gene1", "gene2", "gene3"):
            d = m.fit(target=target, moderated=True).dataset
            p = np.stack([d["p_value"].values[0], d["ordinary_p_value"].values[0]])
            rejected.append(np.nanmean(p[:, np.isfinite(p[0])] < 0.05, axis=1))
    moderated, ordinary = np.mean(rejected, 0)
    assert 0.02 < moderated < 0.08
    assert 0.02 < ordinary < 0.08
