"""Pseudobulk: the figures of R's lm, contrasts, interactions, blocks, flags and refusals."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.between.support import model, pseudobulk
from tests.support import table

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_equals_lm(adjusted):
    expected = table("pseudobulk_lm_FTL.csv")
    result = adjusted.fit(target="FTL", moderated=False)
    d = result.dataset.sel(target="FTL", gene=list(expected.index))
    for ours, theirs in (
        ("beta", "coef"),
        ("beta_se", "se"),
        ("beta_statistic", "t"),
        ("beta_p_value", "p"),
    ):
        np.testing.assert_allclose(d[ours].sel(coefficient="FTL"), expected[theirs], atol=1e-8)
    for ours, theirs in (
        ("correlation", "partial_r"),
        ("statistic", "t"),
        ("p_value", "p"),
        ("df", "df"),
    ):
        np.testing.assert_allclose(d[ours], expected[theirs], atol=1e-8)
    assert d["coefficient"].values.tolist() == [
        "Intercept",
        "condition[T.panobinostat]",
        "gender[T.M]",
        "FTL",
    ]
    np.testing.assert_allclose(
        adjusted.expression, table("edger_logcpm_gbm.csv").T[adjusted.expression.columns], atol=1e-6
    )


def test_contrasts(eight):
    m = pseudobulk(eight[0], formula="~ batch + age")
    r = m.fit(target="gene0", contrasts={"y": ("batch", "y", "x"), "mix": "batch[T.y] - 2 * age"})
    table = r.coefficients()
    pd.testing.assert_frame_equal(table.loc["y"], table.loc["batch[T.y]"])
    beta = table["beta"].unstack("coefficient")
    np.testing.assert_allclose(beta["mix"], beta["batch[T.y]"] - 2 * beta["age"])
    x = np.column_stack([m.design.matrix, m.expression["gene0"]])
    test = sm.OLS(m.expression["gene5"], x).fit().t_test([0, 1, -2, 0])
    assert r.coefficients("mix").loc["gene5", "beta_p_value"] == pytest.approx(float(test.pvalue))
    assert np.isnan(r.coefficients("mix").loc["gene0", "beta"])  # the target with itself


class TestBlocks:
    def test_repeated_donors_are_named(self, gbm):
        with pytest.warns(
            hc.DataWarning, match="10 samples of 'sample_id' come from 5 values of 'patient_id'"
        ):
            hc.Pseudobulk(gbm, "sample_id", depth="total_counts")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="depth column 'total_counts' is the sum")
            hc.Pseudobulk(gbm, "sample_id", depth="total_counts", block="patient_id")

    def test_fixed(self, gbm):
        plain = {"target": "FTL", "moderated": False}
        r = model(gbm, formula="~ condition", block="patient_id").fit(**plain)
        assert float(r.dataset["df"].max()) == 3
        explicit = model(gbm, formula="~ C(patient_id) + condition").fit(**plain)
        np.testing.assert_allclose(r.dataset["p_value"], explicit.dataset["p_value"])

    def test_correlation(self, gbm, adjusted):
        m = model(
            gbm, formula="~ condition + gender", block="patient_id", block_method="correlation"
        )
        r = m.fit("pearson")
        rho = r.dataset.attrs["block_correlation"]
        assert 0.5 < rho < 0.8
        block = m.samples.obs["patient_id"].astype(str).to_numpy()
        sigma = np.where(block[:, None] == block, rho, 0.0) + (1 - rho) * np.eye(10)
        x = np.column_stack([m.design.matrix, m.expression["FTL"]])
        expected = sm.GLS(m.expression["SPP1"], x, sigma).fit()
        at = r.dataset.sel(gene="FTL", partner="SPP1")
        assert float(at["statistic"]) == pytest.approx(expected.tvalues.iloc[-1], rel=1e-5)
        target = m.fit("ols", target="FTL", moderated=False).dataset.sel(gene="SPP1")
        assert float(target["p_value"][0]) == pytest.approx(expected.pvalues.iloc[-1])
        voom = m.fit("voom", target="FTL")
        assert voom.dataset.attrs["block_correlation"] == pytest.approx(0.670, abs=5e-4)
        assert voom.dataset["p_value"].notnull().sum() == 299

    def test_cluster(self, gbm):
        m = model(gbm, formula="~ condition + gender", block="patient_id", block_method="cluster")
        d = m.fit(target="FTL").dataset
        assert 1 < float(d["df"].max()) < 4
        assert "CR2" in d.attrs["uncertainty"]
        with pytest.raises(hc.InputError, match="name it with target="):
            m.fit()
        with pytest.raises(hc.InputError, match="requires method='ols'"):
            m.fit("voom", target="FTL")

    def test_permutation_within_blocks(self, gbm):
        m = model(gbm, formula="~ condition", block="patient_id")
        with pytest.warns(
            hc.EstimationWarning, match="32 arrangements can give no p-value below 0.062"
        ):
            d = m.fit(target="FTL", permutations=999).dataset
        assert d.attrs["smallest_p_value"] == pytest.approx(2 / 32)
        assert float(d["p_value"].min()) == pytest.approx(2 / 32)

    def test_cell_types_of_a_sample_are_one_block(self, quiet):
        adata = hc.datasets.kang_pbmc()
        m = hc.Pseudobulk(adata, "sample_id", cell_type="cell_type", depth="total_counts", genes=50)
        assert (m.block, m.block_method) == ("sample_id", "correlation")
        assert "C(`cell_type`)" in m.design.formula
        r = m.fit()
        assert r.dataset.sizes["sample"] == len(m.samples)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"block": "nothing"}, "unknown block column"),
            ({"block_method": "fixed"}, "needs block="),
            ({"block": "patient_id", "block_method": "random"}, "block_method must be one of"),
            (
                {"block": "patient_id", "formula": "~ gender"},
                r"'gender\[T.M\]' is a combination of",
            ),
        ],
    )
    def test_bad(self, gbm, options, match):
        with pytest.raises(hc.InputError, match=match):
            model(gbm, **options)


def test_aggregated_counts_give_the_same(eight):
    sums = hc.aggregate(eight[0], "sample", depth="depth")
    a = hc.Pseudobulk(sums, "sample", formula="~ batch", block="donor").fit().dataset
    b = (
        hc.Pseudobulk(eight[0], "sample", formula="~ batch", depth="depth", block="donor")
        .fit()
        .dataset
    )
    np.testing.assert_array_equal(a["p_value"], b["p_value"])
    with pytest.raises(hc.InputError, match="aggregated by 'sample', not by 'donor'"):
        hc.Pseudobulk(sums, "donor")
    with pytest.raises(hc.InputError, match=r"pass them to hiercorr.aggregate"):
        hc.Pseudobulk(sums, "sample", depth="depth")


def test_flags(eight):
    adata = eight[0].copy()
    x = adata.X.toarray()
    x[:, 4] = 0
    x[adata.obs["sample"] == "s1", 4] = 1
    x[:, 7] = x[:, 6]
    adata.X = x
    with pytest.warns(hc.EstimationWarning, match="could not be estimated"):
        r = pseudobulk(adata).fit()
    flag = r.dataset["flag"]
    assert int(flag.sel(gene="gene4", partner="gene0")) & hc.Flag.ABSENT_IN_SAMPLE
    assert int(flag.sel(gene="gene4", partner="gene0")) & hc.Flag.LOW_INFORMATION
    twin = r.dataset.sel(gene="gene6", partner="gene7")
    assert np.isnan(twin["correlation"])
    assert int(twin["flag"]) & hc.Flag.OUT_OF_RANGE
    with pytest.warns(hc.EstimationWarning):
        one = pseudobulk(adata).fit(target="gene6").dataset.sel(gene="gene7")
    assert np.isnan(one["correlation"].item())
    assert int(one["flag"].item()) & hc.Flag.OUT_OF_RANGE


def test_target_outside_the_genes(eight):
    m = pseudobulk(eight[0], genes=["gene1", "gene2"])
    r = m.fit(target="gene7")
    assert set(r.genes) == {"gene1", "gene2", "gene7"}
    assert list(m.expression) == ["gene1", "gene2"]  # a target does not change its model
    assert set(m.fit().genes) == {"gene1", "gene2"}
    with pytest.raises(hc.InputError, match="unknown target gene"):
        m.fit(target="nothing")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"formula": "~ nothing"}, "unknown column in the formula 'nothing'"),
        ({"formula": "~ total_counts"}, "'total_counts' varies within samples"),
        ({"formula": "~ condition + treatment"}, "is a combination of|is constant"),
        ({"formula": "~ sample_id"}, "confounded with the sample"),
        (
            {"formula": "~ patient_id * condition"},
            "10 coefficients.*at least 12 samples.*there are 10",
        ),
        (
            {"formula": "~ C(condition, contr.treatment(base='none'))"},
            "not among the provided levels.*'ctrl'",
        ),
        ({"formula": "~ condition +"}, "cannot read formula"),
        ({"normalization": "quantile"}, "normalization must be one of"),
        (
            {"subset": {"sample_id": ["PW030-701", "PW030-704"]}},
            "2 samples: correlation between samples needs at least 3",
        ),
    ],
)
def test_bad_designs(gbm, options, match):
    with pytest.raises(hc.InputError, match=match):
        model(gbm, **options)


def test_missing_covariate_is_named(gbm):
    adata = gbm.copy()
    adata.obs["score"] = np.where(adata.obs["sample_id"] == "PW030-701", np.nan, 1.0)
    with pytest.raises(hc.InputError, match=r"'score' is missing for 'PW030-701'"):
        model(adata, formula="~ score")


@pytest.fixture(scope="module")
def sums():
    adata, _ = simulate_counts(14, 60, 6, mean=3.0, between=0.5, seed=4)
    number = adata.obs["sample"].astype(str).str[1:].astype(int)
    adata.obs["arm"] = np.where(number % 2 == 0, "b", "a")
    adata.obs["age"] = 40.0 + (number * 7) % 23
    return adata


@pytest.mark.parametrize(("column", "terms"), [("arm", ["arm[T.b]"]), ("age", ["age"])])
@pytest.mark.parametrize("method", ["ols", "hc3"])
def test_interaction_is_that_of_statsmodels(sums, column, terms, method):
    pb = hc.Pseudobulk(sums, "sample", formula="~ arm + age", depth="depth", normalization="cpm")
    r = pb.fit(method, target="gene0", interaction=column)
    for term in terms:
        found = r.coefficients(f"gene0:{term}").loc["gene3"]
        table = pd.DataFrame(
            {
                "y": pb.expression["gene3"],
                "x": pb.expression["gene0"],
                "arm": pb.samples.obs["arm"].astype(str),
                "age": pb.samples.obs["age"],
            }
        )
        fit = smf.ols(f"y ~ arm + age + x + x:{column}", table).fit(
            cov_type="HC3" if method == "hc3" else "nonrobust"
        )
        name = next(n for n in fit.params.index if ":" in n)
        assert found["beta"] == pytest.approx(fit.params[name])
        assert found["beta_se"] == pytest.approx(fit.bse[name])
    assert f"gene0:{terms[0]}" in r.dataset.attrs["formula"]


def test_interaction_refusals(sums):
    pb = hc.Pseudobulk(sums, "sample", formula="~ arm", depth="depth", normalization="cpm")
    with pytest.raises(hc.InputError, match="needs target="):
        pb.fit(interaction="arm")
    with pytest.raises(
        hc.InputError, match=r"interaction= unknown column of the formula 'age'.*add it"
    ):
        pb.fit(target="gene0", interaction="age")
    inside = hc.Pseudobulk(
        sums, "sample", formula="~ np.log(age)", depth="depth", normalization="cpm"
    )
    with pytest.raises(hc.InputError, match="only inside other terms; add it as a term"):
        inside.fit(target="gene0", interaction="age")
    with pytest.raises(hc.InputError, match="permutations= cannot be combined with"):
        pb.fit(target="gene0", interaction="arm", permutations=99)
