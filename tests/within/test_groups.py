"""Several groups, ordered groups and curves: overall tests, contrasts of all pairs, trends."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr
from scipy import stats

import hiercorr as hc
from hiercorr.reporting import methods_text
from tests.support import OPTIONS
from tests.within.support import arms
from tests.within.test_differential_tests import per_sample

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
HC2 = {"uncertainty": "HC2", "precision": "double"}


@pytest.fixture(scope="module")
def three():
    return arms((0.1, 0.1, 0.7))


def fitted_by_statsmodels(adata, i, j, columns):
    value, share, obs = per_sample(adata, i, j)
    return sm.WLS(value, columns(obs), weights=share).fit(cov_type="HC2"), share


def indicators(obs):
    return np.column_stack([np.ones(len(obs)), obs["arm"] == "b", obs["arm"] == "c"]).astype(float)


def hotelling(fit, share, rows):
    """Wald statistic and eta of the approximate Hotelling test, by matrices."""
    x = fit.model.exog
    m = np.linalg.inv(x.T * share @ x)
    value = rows @ fit.params
    wald = value @ np.linalg.solve(rows @ fit.cov_params() @ rows.T, value)
    hat = x @ m @ x.T
    lean = (x @ m @ rows.T) / np.sqrt(1 - share * np.diag(hat))[:, None]
    covariance = np.diag(share) - share[:, None] * hat * share
    expected = np.einsum("cm,cn,c->mn", lean, lean, np.diag(covariance))
    near = lean @ np.linalg.solve(expected, lean.T)
    q = len(rows)
    return wald, q * (q + 1) / (2 * ((near * covariance) ** 2).sum())


def test_overall_test_is_that_of_matrices(three):
    r = hc.differential(three, condition="arm", **HC2, **OPTIONS).dataset
    assert (r.attrs["test"], r.attrs["df_numerator"]) == ("overall", 2)
    rows = np.eye(3)[1:]
    for i, j in ((0, 1), (3, 8)):
        fit, share = fitted_by_statsmodels(three, i, j, indicators)
        wald, eta = hotelling(fit, share, rows)
        f, df = (eta - 1) / (2 * eta) * wald, eta - 1
        pair = r.sel(gene=f"gene{i}", partner=f"gene{j}")
        np.testing.assert_allclose(pair["f_statistic"], f, rtol=1e-6)
        np.testing.assert_allclose(pair["df_denominator"], df, rtol=1e-6)
        np.testing.assert_allclose(pair["p_value"], stats.f.sf(f, 2, df), rtol=1e-6)
        levels = np.array([0, *fit.params[1:]])
        np.testing.assert_allclose(pair["largest_difference"], np.ptp(levels), rtol=1e-6)


@pytest.mark.parametrize("uncertainty", ["HC2", None])
def test_overall_test_of_two_groups_is_the_two_sided_test(uncertainty):
    two = arms((0.1, 0.6))
    options = {**OPTIONS, "uncertainty": uncertainty, "precision": "double"}
    difference = hc.differential(two, condition="arm", **options).dataset
    overall = hc.differential(two, condition="arm", contrast="overall", **options).dataset
    assert overall.attrs["df_numerator"] == 1
    np.testing.assert_allclose(overall["p_value"], difference["p_value"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("uncertainty", ["HC2", None])
def test_overall_test_does_not_depend_on_the_names_of_groups(three, uncertainty):
    options = {**OPTIONS, "uncertainty": uncertainty}
    turned = three.copy()
    turned.obs["arm"] = turned.obs["arm"].astype(str).map({"a": "z", "b": "c", "c": "b"})
    one, other = (hc.differential(d, condition="arm", **options).dataset for d in (three, turned))
    for name in ("p_value", "largest_difference"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_pairwise_contrasts_are_those_of_two_groups(three):
    for options in ({"uncertainty": "HC2"}, {}):
        r = hc.differential(three, condition="arm", contrast="pairwise", **OPTIONS, **options)
        assert list(r.dataset["contrast"].values) == ["b - a", "c - a", "c - b"]
        overall = hc.differential(three, condition="arm", **OPTIONS, **options).dataset
        np.testing.assert_allclose(r.dataset["p_value"], overall["p_value"], rtol=1e-6)
        one = hc.differential(
            three, condition="arm", contrast=("arm", "c", "b"), **OPTIONS, **options
        ).dataset
        part = r.dataset.sel(contrast="c - b")
        for name in ("difference", "difference_se", "difference_lower", "p_value"):
            np.testing.assert_allclose(part[f"contrast_{name}"], one[name], rtol=2e-3, atol=1e-5)
        p = r.dataset["contrast_p_value"].values[:, 0, 1]
        from statsmodels.stats.multitest import multipletests

        np.testing.assert_allclose(
            r.dataset["contrast_adjusted_p_value"].values[:, 0, 1],
            multipletests(p, method="holm")[1],
        )


def test_contrasts_are_tabulated(three, tmp_path):
    r = hc.differential(three, condition="arm", contrast="pairwise", **OPTIONS)
    table = r.contrasts("gene1", "gene0")
    assert table["contrast"].tolist() == ["b - a", "c - a", "c - b"]
    assert (table[["gene_a", "gene_b"]] == ["gene0", "gene1"]).all(axis=None)
    np.testing.assert_allclose(
        table["difference"], r.dataset["contrast_difference"].values[:, 0, 1]
    )
    found = r.contrasts(q=0.05)
    assert (found["q_value"] <= 0.05).all()
    n, m = len(found) / 3, 14 * 13 / 2
    np.testing.assert_array_equal(found["significant"], found["adjusted_p_value"] <= 0.05 * n / m)
    assert found["significant"].any()
    one = hc.differential(three, condition="arm", contrast="pairwise", target="gene1", **OPTIONS)
    np.testing.assert_allclose(one.contrasts("gene0")["difference"], table["difference"], atol=0.02)
    assert "adjusted_p_value[c - a]" in r.pairs(n=1)
    listed = [("gene1", "gene0"), ("gene4", "gene9")]
    some = hc.differential(three, condition="arm", contrast="pairwise", pairs=listed, **OPTIONS)
    assert len(some.contrasts()) == 6
    np.testing.assert_allclose(
        some.contrasts("gene0")["difference"], table["difference"], atol=0.02
    )
    loaded = hc.load(r.save(tmp_path / "r.zarr"))
    pd.testing.assert_frame_equal(loaded.contrasts(), r.contrasts())
    assert "F" in str(r.summary())
    r.to_anndata(three)
    with pytest.raises(hc.InputError, match="contrast='pairwise'"):
        hc.differential(three, condition="arm", **OPTIONS).contrasts()


def test_overall_results_have_no_sign_and_no_interval(three):
    r = hc.differential(three, condition="arm", **OPTIONS)
    assert r.top("gene0").columns[1] == "largest_difference"
    with pytest.raises(hc.InputError, match="has no interval"):
        r.conf_int()
    with pytest.raises(hc.InputError, match="no sign"):
        r.shrink()


@pytest.mark.parametrize("uncertainty", ["HC2", None])
def test_ordered_groups_have_a_trend(three, uncertainty):
    stages = three.copy()
    names = {"a": "mild", "b": "severe", "c": "critical"}
    stage = stages.obs["arm"].astype(str).map(names)
    stages.obs["stage"] = pd.Categorical(stage, list(names.values()), ordered=True)
    options = {**OPTIONS, "uncertainty": uncertainty}
    r = hc.differential(stages, condition="stage", **options).dataset
    assert r.attrs["contrast"] == "slope per level of mild < severe < critical"
    assert list(r["group"].values) == list(names.values())
    ends = hc.differential(stages, condition="arm", contrast=("arm", "c", "a"), **options).dataset
    np.testing.assert_allclose(2 * r["difference"], ends["difference"], rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(r["p_value"], ends["p_value"], rtol=1e-3, atol=1e-6)
    every = hc.differential(stages, condition="stage", contrast="overall", **options).dataset
    overall = hc.differential(stages, condition="arm", **options).dataset
    np.testing.assert_allclose(every["p_value"], overall["p_value"], rtol=1e-3, atol=1e-6)


def test_curves_are_tested_with_all_their_coefficients():
    adata = arms((0.1, 0.7, 0.1), n=6)
    curve = hc.differential(adata, condition="bs(age, df=3)", **HC2, **OPTIONS)
    d = curve.dataset
    assert (d.attrs["condition"], d.attrs["df_numerator"]) == ("age", 3)
    same = hc.differential(
        adata, condition="age", formula="~ poly(age, 3)", **HC2, **OPTIONS
    ).dataset
    np.testing.assert_allclose(d["p_value"], same["p_value"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        d["largest_difference"], same["largest_difference"], rtol=1e-6, atol=1e-9
    )
    point = hc.differential(
        adata, condition="bs(age, df=3)", contrast=("age", 45, 22), **HC2, **OPTIONS
    ).dataset
    assert float(point["difference"].sel(gene="gene0", partner="gene1")) > 0.2
    natural = hc.differential(adata, condition="cr(age, df=2)", **OPTIONS).dataset
    slope = hc.differential(adata, condition="age", **OPTIONS).dataset
    related = {"gene": xr.DataArray([f"gene{k}" for k in range(0, 14, 2)], dims="pair")}
    related["partner"] = xr.DataArray([f"gene{k}" for k in range(1, 14, 2)], dims="pair")
    assert float(natural["p_value"].sel(related).median()) < 0.01
    assert float(slope["p_value"].sel(related).median()) > 0.05
    assert natural.attrs["df_numerator"] == 2
    assert natural.attrs["uncertainty"] == "hierarchical"
    assert "Changes in correlations" in methods_text(curve)


def test_interactions_are_tested_by_their_printed_names(three):
    r = hc.differential(
        three, condition="arm", formula="~ arm * sex", contrast="arm[T.c]:sex[T.m]", **OPTIONS
    ).dataset
    assert r.attrs["contrast"] == "arm[T.c]:sex[T.m]"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"contrast": "pairwize"}, "unknown contrast 'pairwize'; did you mean 'pairwise'"),
        ({"contrast": "trend"}, "needs an order of the groups of 'arm'"),
        ({"contrast": ("arm", "d", "a")}, "unknown level of 'arm' 'd'"),
        ({"condition": "age", "contrast": "pairwise"}, "compares groups"),
        ({"condition": "bs(arm, df=3)"}, "needs numbers"),
        ({"condition": "bs(ages, df=3)"}, "unknown condition column 'ages'; did you mean 'age'"),
        ({"condition": "bs(age, df=3)", "formula": "~ age"}, "both have 'age'"),
        ({"condition": "bs(age, df=3)", "permutations": 99}, "leave out permutations="),
        ({"condition": "bs(age, df=3)", "contrast": ("age", 90, 30)}, "lies beyond the values"),
        ({"condition": "same"}, "nothing to compare"),
        ({"condition": "lone"}, "one sample in group 'x'"),
        ({"permutations": 99}, "permutations need two groups"),
        ({"method": "pooled"}, "more than two groups"),
    ],
)
def test_refusals(three, options, text):
    given = three.copy()
    given.obs["same"] = 3.0
    given.obs["lone"] = np.where(given.obs["sample"] == "s1a", "x", given.obs["arm"].astype(str))
    with pytest.raises(hc.InputError, match=text):
        hc.differential(given, **{"condition": "arm", **OPTIONS, **options})


def test_spaces_around_the_name_of_a_test(three):
    found = hc.differential(three, condition="arm", contrast="pairwise ", **OPTIONS).dataset
    assert found.sizes["contrast"] == 3


def test_methods_name_the_tests(three):
    hc2 = hc.differential(three, condition="arm", contrast="pairwise", **HC2, **OPTIONS)
    text = methods_text(hc2)
    assert "approximate Hotelling's T-squared" in text
    assert "adjusted by Holm's procedure" in text
    learnt = methods_text(hc.differential(three, condition="arm", **OPTIONS))
    assert "equality of a, b, c" in learnt
    assert "P-values of the overall test" in learnt
