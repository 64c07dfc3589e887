"""Slopes on a target compared between groups of samples."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multicomp import pairwise_tukeyhsd

import hiercorr as hc
from hiercorr.inference import multiplicity
from hiercorr.inference.multiplicity import holm_layers, tukey_kramer

OPTIONS = {"sample": "donor", "depth": "depth", "normalization": "cpm"}


def donors(sizes=(6, 6, 6), slopes=(0.0, 0.0, 1.5), genes=30, seed=0, noise=0.3):
    """Sums of donors; gene0 is the target, the first ten of the others follow it by group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group)
    log = rng.normal(6, 0.1, genes) + noise * rng.normal(size=(n, genes))
    log[:, 1:11] += np.asarray(slopes)[group, None] * (log[:, [0]] - log[:, 0].mean())
    x = np.repeat(rng.poisson(np.exp(log)) // 10, 10, axis=0)  # ten cells of each donor
    obs = pd.DataFrame(
        {
            "donor": np.repeat([f"d{k:02d}" for k in range(n)], 10),
            "arm": np.repeat(np.array(list("abcd"))[group], 10),
            "age": np.repeat(rng.normal(50, 10, n), 10),
            "site": np.repeat(np.array(["u", "v"])[np.arange(n) % 2], 10),
            "depth": 1e4,
        }
    ).rename(index=str)
    names = pd.DataFrame(index=[f"gene{j}" for j in range(genes)])
    return ad.AnnData(x.astype(np.float32), obs=obs, var=names)


@pytest.mark.parametrize("formula", ["~ arm", "~ arm + age"])
def test_equals_statsmodels(formula):
    model = hc.Pseudobulk(donors((5, 6, 8)), formula=formula, **OPTIONS)
    table = model.compare_slopes("gene0", "arm", moderated=False)
    y = model.expression
    about = model.samples.obs[["arm", "age"]].assign(x=y["gene0"])
    for gene in ("gene3", "gene20"):
        fit = smf.ols(f"y {formula} + x + x:arm", about.assign(y=y[gene])).fit()
        b, c = "x:arm[T.b]", "x:arm[T.c]"
        whole = fit.f_test(f"({b} = 0), ({c} = 0)")
        found = table.loc[gene]
        assert found["f_statistic"].iloc[0] == pytest.approx(float(whole.fvalue), rel=1e-6)
        assert found["f_p_value"].iloc[0] == pytest.approx(float(whole.pvalue), rel=1e-6)
        assert (found["df_denominator"] == fit.df_resid).all()
        for contrast, stated in {"b - a": b, "c - a": c, "c - b": f"{c} - {b}"}.items():
            test = fit.t_test(stated)
            row = found.loc[contrast]
            assert row["slope_difference"] == pytest.approx(test.effect[0], rel=1e-6)
            assert row["p_value"] == pytest.approx(float(test.pvalue), rel=1e-5)
            limits = row[["ci_lower", "ci_upper"]].astype(float)
            np.testing.assert_allclose(limits, test.conf_int()[0], rtol=1e-5)
        holm = holm_layers(found["p_value"].to_numpy())
        np.testing.assert_allclose(found["adjusted_p_value"], holm)
    assert table.attrs["df_numerator"] == 2
    assert "gene0" not in table.index.get_level_values("gene")


def test_tukey_kramer_equals_statsmodels():
    rng = np.random.default_rng(1)
    group = np.repeat(list("abcd"), [4, 6, 7, 9])
    y = rng.normal(size=26) + 0.8 * (group == "d")
    reference = pairwise_tukeyhsd(y, group)
    means = {g: y[group == g].mean() for g in "abcd"}
    size = {g: (group == g).sum() for g in "abcd"}
    s2 = sum(((y[group == g] - means[g]) ** 2).sum() for g in "abcd") / 22
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    t = np.array(
        [(means[j] - means[i]) / np.sqrt(s2 * (1 / size[i] + 1 / size[j])) for i, j in pairs]
    )
    found = tukey_kramer(t, 4, np.full(6, 22.0))
    np.testing.assert_allclose(found, reference.pvalues, atol=1e-6)
    two = tukey_kramer(t, 2, np.full(6, 22.0))
    np.testing.assert_allclose(two, 2 * stats.t.sf(np.abs(t), 22), rtol=1e-4)


@pytest.mark.slow
def test_many_ranges_are_interpolated():
    t = np.random.default_rng(0).standard_t(9, 3000)
    t[5] = np.nan
    found = tukey_kramer(t, 3, np.full(3000, 9.0))
    some = np.r_[0:30, np.nanargmax(np.abs(t))]
    exact = stats.studentized_range.sf(np.sqrt(2) * np.abs(t[some]), 3, 9)
    np.testing.assert_allclose(found[some], exact, rtol=2e-3, atol=1e-6)
    assert np.isnan(found[5])


@pytest.mark.slow
def test_size_of_the_family(monkeypatch):
    """Slopes that are equal in 4 unequal groups: some pair is called in at most 5% of the genes."""
    monkeypatch.setattr(multiplicity, "_EXACT_RANGES", 60)  # most of the time are their integrals
    any_call = {"holm": [], "tukey": [], "none": [], "F": []}
    for seed in range(12):
        data = donors((4, 5, 7, 9), (0.5,) * 4, 60, seed)
        model = hc.Pseudobulk(data, formula="~ arm", **OPTIONS)
        for adjustment in ("holm", "tukey"):
            table = model.compare_slopes("gene0", "arm", adjustment=adjustment, moderated=False)
            smallest = table.groupby(level="gene")["adjusted_p_value"].min()
            any_call[adjustment].extend(smallest < 0.05)
        any_call["none"].extend(table.groupby(level="gene")["p_value"].min() < 0.05)
        any_call["F"].extend(table.groupby(level="gene")["f_p_value"].first() < 0.05)
    share = {k: np.mean(v) for k, v in any_call.items()}
    error = np.sqrt(0.05 * 0.95 / len(any_call["F"]))  # one target in each panel: somewhat more
    assert share["holm"] <= share["tukey"] < 0.05 + 5 * error
    assert abs(share["F"] - 0.05) < 5 * error
    assert share["none"] > 0.12


def test_moderated_tests_find_the_changed_slopes():
    data = donors(slopes=(0.0, 0.0, 3.0), genes=60)
    model = hc.Pseudobulk(data, formula="~ arm", **OPTIONS)
    table = model.compare_slopes("gene0", "arm", adjustment="tukey")
    assert table.attrs["moderated"] == "plain"
    f = table.groupby(level="gene")["f_p_value"].first()
    changed = [f"gene{j}" for j in range(1, 11)]
    assert (f[changed] < 0.01).mean() > 0.9
    assert (f.drop(changed) < 0.05).mean() < 0.2
    ordinary = model.compare_slopes("gene0", "arm", moderated=False)
    assert (table["df"] > ordinary["df"].max()).all()
    whole = model.fit(target="gene0", interaction="arm", moderated=True)
    beta = whole.coefficients("gene0:arm[T.c]")
    np.testing.assert_allclose(
        table.xs("c - a", level="contrast")["slope_difference"].loc[changed],
        beta["beta"].loc[changed],
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("~ arm + age", {"adjustment": "tukey"}, "has other terms"),
        (
            "~ arm",
            {"condition": "site"},
            "condition= unknown column of the formula 'site'.*add it to formula=",
        ),
        ("~ arm + age", {"condition": "age"}, "is a number"),
        ("~ arm", {"adjustment": "scheffe"}, "adjustment"),
        ("~ arm", {"target": ["gene0", "gene1"]}, "one gene"),
    ],
)
def test_refusals(formula, options, message):
    model = hc.Pseudobulk(donors(), formula=formula, **OPTIONS)
    with pytest.raises(hc.InputError, match=message):
        model.compare_slopes(**{"target": "gene0", "condition": "arm"} | options)


def test_small_groups_and_blocks_are_refused():
    model = hc.Pseudobulk(donors((6, 6, 2)), formula="~ arm", **OPTIONS)
    with pytest.raises(hc.InputError, match=r"group 'c' of 'arm' has 2 samples"):
        model.compare_slopes("gene0", "arm")
    blocks = {"formula": "~ arm", **OPTIONS, "data": donors()}
    correlated = hc.Pseudobulk(**blocks, block="site", block_method="correlation")
    with pytest.raises(hc.InputError, match="samples have blocks"):
        correlated.compare_slopes("gene0", "arm", adjustment="tukey")
    assert len(correlated.compare_slopes("gene0", "arm"))
    clustered = hc.Pseudobulk(
        _people(), block="person", block_method="cluster", formula="~ arm", **OPTIONS
    )
    with pytest.raises(hc.InputError, match="no common residual variance"):
        clustered.compare_slopes("gene0", "arm")


def _people():
    data = donors()
    data.obs["person"] = (data.obs["donor"].str[1:].astype(int) // 2).astype(str)
    return data
