"""Modules as units: differences, traits, scores, weights, values of donors; bad input at each."""

import inspect
import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr import modules
from hiercorr.modules import (
    centrality,
    compare_donors,
    connectivity,
    differential_correlation,
    left_out_preservation,
    project,
)
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")


def names(*numbers):
    return [f"gene{j}" for j in numbers]


SETS = {"one": names(0, 2, 4), "two": names(1, 3, 5, 7), "three": names(8, 9)}
SMALL = 1e-12


@pytest.fixture(scope="module")
def data():
    cells = [80, 120, 90, 150, 60, 110, 100, 70]
    adata, _ = simulate_counts(8, cells, 14, mean=[3, 2, 1, 2, 1, 3, 2] * 2, within=0.5, seed=3)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["arm"] = np.array(list("abababab"))[number]
    adata.obs["three"] = np.array(list("abcabcab"))[number]
    adata.obs["donor"] = (number // 2).astype(str)
    adata.obs["age"] = np.random.default_rng(0).normal(size=8)[number]
    adata.obs["same"] = 1.0
    adata.obs["gap"] = np.where(number == 2, np.nan, number)
    adata.obs["score"] = np.random.default_rng(1).normal(size=adata.n_obs)
    adata.obs["no score"] = np.where(np.arange(adata.n_obs) == 3, np.nan, 1.0)
    return adata


@pytest.fixture(scope="module")
def model(data):
    return hc.CSCore(data, "sample", depth="depth")


@pytest.fixture(scope="module")
def sums(data):
    return hc.Pseudobulk(data, "sample", depth="depth", normalization="cpm")


@pytest.fixture(scope="module")
def result(model):
    return model.fit(per_sample=True)


@pytest.fixture(scope="module")
def samples(data):
    return data.obs.drop_duplicates("sample").set_index("sample")


def gene_weights(sets):
    """All weight on the first gene of each module."""
    return {name: dict.fromkeys(genes, SMALL) | {genes[0]: 1.0} for name, genes in sets.items()}


# ---- differences of the correlation of modules


@pytest.mark.parametrize(
    "options",
    [
        {"condition": "arm"},
        {"condition": "arm", "block": "donor"},
        {"condition": "arm", "formula": "~ age"},
        {"condition": "three", "contrast": "pairwise"},
        {"condition": "age"},
    ],
    ids=str,
)
def test_difference_of_modules_of_one_gene_is_that_of_the_genes(data, options):
    given = {**options, "sample": "sample", "depth": "depth"}
    r = differential_correlation(data, sets=SETS, weights=gene_weights(SETS), **given)
    genes = hc.differential(data, uncertainty="HC2", precision="double", **given)
    first = {name: of[0] for name, of in SETS.items()}
    for a, b in itertools.combinations(SETS, 2):
        found, wanted = r[a, b], genes[first[a], first[b]]
        same = [n for n in found.index if n in wanted.index and n not in ("q_value", "flag")]
        assert {"p_value", "correlation"} <= set(same)
        np.testing.assert_allclose(
            found[same].to_numpy(float), wanted[same].to_numpy(float), rtol=1e-6
        )
    p = r.pairs()["p_value"].to_numpy()
    np.testing.assert_allclose(r.pairs()["q_value"], stats.false_discovery_control(p), rtol=1e-9)
    if options.get("contrast") == "pairwise":
        wanted = genes.contrasts(gene_a="gene0", gene_b="gene1").set_index("contrast")
        found = r.contrasts(gene_a="one", gene_b="two").set_index("contrast")
        for name in ("difference", "p_value", "adjusted_p_value"):
            np.testing.assert_allclose(found[name], wanted[name].loc[found.index], rtol=1e-6)


def test_difference_of_modules_that_share_genes(data):
    sets = {**SETS, "four": names(0, 2)}
    with pytest.warns(hc.DataWarning, match="1 pair of modules shares genes.* and no correlation"):
        r = differential_correlation(data, "sample", "arm", sets, depth="depth")
    at = r.dataset["flag"].sel(gene="one", partner="four")
    assert int(at) & int(hc.Flag.NONPOSITIVE_VARIANCE)
    assert len(r.pairs()) == 5
    assert "weights=" not in repr(r)


# ---- weights


def test_eigengene_is_the_leading_eigenvector_without_noise(model):
    whole = model.fit(uncertainty="jackknife", precision="double").dataset
    r, over = whole["correlation_unclipped"].values, whole["overdispersion"].values
    weights = model.module_weights(SETS)
    for name, genes in SETS.items():
        at = [int(g[4:]) for g in genes]
        square = np.array(r[np.ix_(at, at)], float)
        np.fill_diagonal(square, 1.0)
        vector = np.linalg.eigh(square)[1][:, -1]
        wanted = vector / np.sqrt(over[at])
        wanted *= np.sign(vector.sum()) / np.abs(wanted).mean()
        assert weights[name].index.to_list() == genes
        np.testing.assert_allclose(weights[name], wanted, rtol=1e-5)
    given = model.module_correlation(SETS, weights=weights)
    direct = model.module_correlation(SETS, weights="eigengene")
    np.testing.assert_allclose(given.matrix(), direct.matrix(), rtol=1e-9)
    member = model.module_membership(weights, weights=weights)
    alone = model.signature(SETS["two"], "two", weights="eigengene")
    np.testing.assert_allclose(member.matrix().loc["two"], alone.matrix().loc["two"], rtol=1e-9)


def test_weights_are_projected_to_data_with_other_genes(data, model):
    other = hc.CSCore(data[:, names(*range(1, 14))].copy(), "sample", depth="depth")
    weights = model.module_weights(SETS)
    with pytest.warns(hc.DataWarning, match=r"1 of 3 modules have genes .* one lacks \d+% of its"):
        kept = project(weights, other)
    assert list(kept) == list(SETS)
    assert kept["one"].index.to_list() == names(2, 4)
    assert kept["one"]["gene4"] == weights["one"]["gene4"]
    assert set(other.module_correlation(kept, weights=kept).genes) == set(SETS)


# ---- scores of cells and traits of samples


def test_score_with_modules_is_the_sum_of_covariances(data, model):
    one = model.score("score", sets=SETS, weights=gene_weights(SETS))
    genes = model.score("score", uncertainty="jackknife")
    for name in ("correlation", "se", "p_value", "ci_lower"):
        wanted = genes.matrix(name)[[of[0] for of in SETS.values()]].to_numpy()
        np.testing.assert_allclose(one.matrix(name).to_numpy(), wanted, rtol=1e-6)
    # equal weights: covariances add up
    r = model.score("score", sets=SETS)
    whole = model.fit(uncertainty="jackknife", precision="double").dataset
    over = whole["overdispersion"].values
    phi = whole["correlation_unclipped"].values * np.sqrt(np.outer(over, over))
    np.fill_diagonal(phi, over)
    with_genes = genes.matrix("correlation_unclipped").loc["score"].to_numpy() * np.sqrt(over)
    for name, of in SETS.items():
        at = [int(g[4:]) for g in of]
        wanted = with_genes[at].sum() / np.sqrt(phi[np.ix_(at, at)].sum())
        assert float(r.matrix().loc["score", name]) == pytest.approx(wanted, rel=1e-5)
    assert r.dataset.attrs["n_modules"] == 3
    assert r.dataset.attrs["uncertainty"] == "jackknife"


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_traits_are_correlated_over_samples(sums, samples, method):
    r = sums.module_traits(SETS, ["age", "arm"], method=method)
    expression = sums.module_expression(SETS)
    np.testing.assert_allclose(
        expression["two"], sums.expression[SETS["two"]].mean(axis=1), rtol=1e-12
    )
    age = samples["age"].loc[expression.index]
    test = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]
    for name in SETS:
        found = test(age, expression[name])
        assert r["age", name]["correlation"] == pytest.approx(found.statistic, rel=1e-6)
        if method == "pearson":
            assert r["age", name]["p_value"] == pytest.approx(found.pvalue, rel=1e-6)
    assert list(r.targets) == ["age", "arm"]
    assert r.dataset.attrs["trait_levels"] == "arm: b"
    assert len(r) == 6


def test_expression_with_the_weights_of_the_eigengene(model, sums):
    weights = model.module_weights(SETS)
    found = sums.module_expression(SETS, weights)
    for name, of in weights.items():
        wanted = sums.expression[of.index].to_numpy() @ of.to_numpy() / of.abs().sum()
        np.testing.assert_allclose(found[name], wanted)
    assert sums.module_traits(weights, "age", weights=weights).dataset.attrs["weights"] == "given"


def test_traits_given_a_formula_are_partial(data, samples):
    model = hc.Pseudobulk(data, "sample", depth="depth", normalization="cpm", formula="~ arm")
    r = model.module_traits(SETS, "age", weights="expression")
    y, x = model.module_expression(SETS, "expression"), samples.loc[model.samples.obs_names]
    arm = np.column_stack([np.ones(8), x["arm"] == "b"])

    def rest(v):
        return v - arm @ np.linalg.lstsq(arm, v, rcond=None)[0]

    wanted = np.corrcoef(rest(x["age"].to_numpy()), rest(y["one"].to_numpy()))[0, 1]
    assert r["age", "one"]["correlation"] == pytest.approx(wanted, rel=1e-6)
    assert r["age", "one"]["df"] == 8 - 2 - 1


# ---- values of donors


def test_connectivity_and_centrality_are_means_of_pairs(result):
    r = np.asarray(result.dataset["sample_correlation"].values, float)
    values = connectivity(SETS, result)
    assert values.index.to_list() == list(result.dataset["sample"].values)
    at = [1, 3, 5, 7]
    known = [(j, k) for j, k in itertools.combinations(at, 2) if np.isfinite(r[:, j, k]).all()]
    wanted = np.mean([r[:, j, k] for j, k in known], axis=0)
    np.testing.assert_allclose(values["two"], wanted, rtol=1e-6)
    inside = centrality(result, SETS)
    assert inside.columns.names == ["module", "gene"]
    others = [k for k in at if k != 3 and np.isfinite(r[:, 3, k]).all()]
    np.testing.assert_allclose(inside["two", "gene3"], r[:, 3, others].mean(1), rtol=1e-6)
    every = centrality(result)
    others = [k for k in range(14) if k != 3 and np.isfinite(r[:, 3, k]).all()]
    np.testing.assert_allclose(every["gene3"], r[:, 3, others].mean(1), rtol=1e-6)


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(9, 4)), [f"s{k}" for k in range(9)], list("wxyz"))


@pytest.fixture(scope="module")
def table(values):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "arm": list("aaaabbbbb"),
            "age": rng.normal(size=9),
            "donor": list("001122334"),
            "pair": list("012301234"),
            "three": list("aaabbbccc"),
            "gap": [np.nan, *range(8)],
            "lone": list("abbbbbbbb"),
        },
        index=values.index,
    )


def test_groups_are_compared_by_welch_over_donors(values, table):
    found = compare_donors(values, table, "arm")
    welch = stats.ttest_ind(values[4:], values[:4], equal_var=False)
    np.testing.assert_allclose(found["statistic"], welch.statistic)
    np.testing.assert_allclose(found["p_value"], welch.pvalue)
    assert found.attrs["test"] == "Welch"
    np.testing.assert_allclose(found["mean[b]"], values[4:].mean())
    assert (found["donors"] == 9).all()
    np.testing.assert_allclose(
        found["q_value"], stats.false_discovery_control(found["p_value"].to_numpy())
    )
    half = (found["difference_upper"] - found["difference_lower"]) / 2 / found["difference_se"]
    np.testing.assert_allclose(half, stats.t.ppf(0.975, found["df"]))
    paired = compare_donors(values[:8], table[:8], "arm", block="pair")
    wanted = stats.ttest_rel(values[4:8], values[:4])
    np.testing.assert_allclose(paired["p_value"], wanted.pvalue)
    assert (paired["samples"] == 8).all()


def test_samples_of_a_donor_are_averaged_if_the_condition_is_the_donors(values, table):
    found = compare_donors(values[:8], table[:8], "arm", block="donor")
    means = values[:8].groupby(table["donor"][:8].to_numpy()).mean()
    wanted = stats.ttest_ind(means[2:], means[:2], equal_var=False)
    np.testing.assert_allclose(found["statistic"], wanted.statistic)
    assert (found["donors"] == 4).all()
    assert found.attrs["n_donors"] == 4
    with pytest.raises(hc.InputError, match="'age' varies within values of block 'donor'"):
        compare_donors(values[:8], table[:8], "arm", "~ age", block="donor")


def test_covariates_slopes_several_groups_and_missing_values(values, table):
    adjusted = compare_donors(values, table, "arm", "~ age")
    x = np.column_stack([np.ones(9), table["arm"] == "b", table["age"]])
    bread = np.linalg.inv(x.T @ x)
    hat = np.diag(x @ bread @ x.T)
    for name in values:
        e = values[name] - x @ (beta := bread @ x.T @ values[name])
        hc2 = bread @ (x.T * (e**2 / (1 - hat)).to_numpy()) @ x @ bread
        assert adjusted.loc[name, "difference"] == pytest.approx(beta[1])
        assert adjusted.loc[name, "difference_se"] == pytest.approx(hc2[1, 1] ** 0.5)
    three = compare_donors(values, table, "three", contrast="pairwise")
    assert three["largest_difference"].iloc[0] == pytest.approx(
        np.ptp(values["w"].groupby(table["three"]).mean())
    )
    pairs = ("b - a", "c - a", "c - b")
    for name in values:
        p = []
        for pair in pairs:
            level = pair.split(" - ")
            one = compare_donors(values[[name]], table, "three", contrast=("three", *level))
            sides = [values[name][table["three"] == g] for g in level]
            welch = stats.ttest_ind(*sides, equal_var=False)
            assert one["p_value"].item() == pytest.approx(welch.pvalue)
            p.append(one["p_value"].item())
            assert three.loc[name, f"difference[{pair}]"] == pytest.approx(one["difference"].item())
        order = np.argsort(p)
        holm = np.minimum(np.maximum.accumulate(np.sort(p) * [3, 2, 1]), 1)
        wanted = dict(zip(np.array(pairs)[order], holm, strict=True))
        for pair in pairs:
            assert three.loc[name, f"adjusted_p_value[{pair}]"] == pytest.approx(wanted[pair])
    holes = values.copy()
    holes.iloc[0, 0] = np.nan
    holes.iloc[:3, 1] = np.nan
    message = "1 of 4 units have too few values .*'x', .* 6 of 9 donors and none in 's0'"
    with pytest.warns(hc.EstimationWarning, match=message):
        found = compare_donors(holes, table, "arm")
    assert found["donors"].tolist() == [8, 6, 9, 9]
    wanted = stats.ttest_ind(values["w"][4:], values["w"][1:4], equal_var=False)
    assert found.loc["w", "statistic"] == pytest.approx(wanted.statistic)
    assert np.isnan(found.loc["x", "p_value"])  # one value is left in the first group


@pytest.mark.slow
def test_nulls_with_unequal_variances_are_rejected_as_often_as_stated():
    """Donors of unequal groups whose values differ in variance."""
    rng = np.random.default_rng(3)
    for sizes, sd in (((3, 5), (1.0, 1.0)), ((4, 4), (0.5, 1.5)), ((4, 6), (1.5, 0.7))):
        n = sum(sizes)
        table = pd.DataFrame({"arm": np.repeat(["a", "b"], sizes), "x": rng.normal(size=n)})
        values = pd.DataFrame(rng.normal(size=(n, 1200)) * np.repeat(sd, sizes)[:, None])
        for formula, most in ((None, 0.065), ("~ x", 0.1)):
            p = compare_donors(values, table, "arm", formula)["p_value"]
            assert 0.01 < (p < 0.05).mean() < most, (sizes, sd, formula)


@pytest.mark.slow
def test_null_differences_of_modules_that_vary_between_donors():
    """The correlation of two modules has mean 0 and varies between donors, in both groups."""
    rng, p = np.random.default_rng(8), []
    of = {"A": names(*range(6)), "B": names(*range(6, 12))}
    for _ in range(100):
        parts = []
        for c in range(8):
            rho = np.full((12, 12), np.clip(0.3 * rng.normal(), -0.13, 0.13))
            rho[:6, :6] = rho[6:, 6:] = np.clip(0.4 + 0.15 * rng.normal(), 0.15, 0.7)
            np.fill_diagonal(rho, 1)
            seed, n = int(rng.integers(1 << 30)), int(rng.choice([100, 160, 240]))
            part, _ = simulate_counts(1, n, 12, mean=[1, 2, 3] * 4, within=rho, seed=seed)
            part.obs["sample"], part.obs["arm"] = f"d{c}", "ab"[c >= 4]
            parts.append(part)
        data = ad.concat(parts, index_unique="_")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            r = differential_correlation(data, "sample", "arm", of, depth="depth")
        p.append(r["A", "B"]["p_value"])
    assert np.mean(np.array(p) < 0.05) < 0.12
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.15)


def test_moderated_tests_are_those_of_limma(values, table):
    from hiercorr.inference import squeeze_variances

    found = compare_donors(values, table, "arm", moderated=True)
    x = np.column_stack([np.ones(9), table["arm"] == "b"])
    beta, residual, *_ = np.linalg.lstsq(x, values.to_numpy(), rcond=None)
    squeezed = squeeze_variances(residual / 7, np.full(4, 7.0))
    se = np.sqrt(squeezed.posterior * np.linalg.inv(x.T @ x)[1, 1])
    np.testing.assert_allclose(found["difference_se"], se)
    p = 2 * stats.t.sf(np.abs(beta[1] / se), squeezed.total_df)
    np.testing.assert_allclose(found["p_value"], p)
    assert found.attrs["test"] == "moderated t"


# ---- traits


def test_traits_of_donors_need_correlated_blocks(data):
    of_donor = data.copy()
    of_donor.obs["sex"] = of_donor.obs["donor"].map(dict(zip("0123", "mmff", strict=True)))
    options = {"depth": "depth", "block": "donor", "normalization": "cpm"}
    with pytest.raises(hc.InputError, match=r"'sex' has one value in each.*block_method='corr"):
        hc.Pseudobulk(of_donor, "sample", **options).module_traits(SETS, ["age", "sex"])
    options["block_method"] = "correlation"
    r = hc.Pseudobulk(of_donor, "sample", **options).module_traits(SETS, "sex")
    assert r.pairs()["p_value"].notna().all()


# ---- left-out donors


def test_modules_are_found_and_tested_in_different_donors():
    rho = np.eye(40)
    rho[:8, :8] = 0.6
    np.fill_diagonal(rho, 1)
    adata, _ = simulate_counts(6, 150, 40, mean=[1.0, 3.0] * 20, within=rho, seed=4)
    asked = []

    def fit(some):
        asked.append(sorted(some))
        chosen = adata[adata.obs["sample"].isin(some)].copy()
        return hc.CSCore(chosen, "sample", depth="depth").fit()

    every = sorted(adata.obs["sample"].unique())
    options = {"q": None, "min_correlation": 0.35, "permutations": 200}
    found = left_out_preservation(fit, every, folds=3, **options)
    assert asked[0] == every
    for others, left_out in zip(asked[1::2], asked[2::2], strict=True):
        assert sorted(others + left_out) == every
        assert len(left_out) == 2
    top = found.loc["M1"]
    assert top["size"] == 8
    assert top[["folds", "found", "preserved"]].tolist() == [3, 1, 1]
    assert top["excess"] == pytest.approx(top["connectivity"] - top["random_mean"])
    assert top["excess"] > 0.3


def test_a_fold_may_be_one_donor_with_several_samples(data):
    options = {"depth": "depth", "block": "donor"}

    def fit(some):
        return hc.CSCore(data, "sample", subset={"sample": some}, **options).fit()

    donors = data.obs.drop_duplicates("sample").set_index("sample")["donor"]
    samples = [s for s in donors.index if s != donors.index[1]]  # the first donor has one sample
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        find = {"q": None, "min_correlation": 0.05, "permutations": 100}
        found = left_out_preservation(fit, samples, donors=donors, folds=9, **find)
    assert (found["folds"] == 4).all()
    with pytest.raises(hc.InputError, match="has one value"):
        fit(list(donors.index[2:4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one_each = left_out_preservation(
            fit, list(donors.index[[0, 1, 2, 4, 6]]), donors=donors, folds=9, **find
        )
    assert (one_each["folds"] == 4).all()  # without the first donor, all have one sample


# ---- bad input at every door


def doors(data, model, sums, result, samples, values, table):
    """Return every function that takes modules, with valid arguments."""
    given = {"data": data, "sample": "sample", "depth": "depth"}
    return {
        "module_correlation": (model.module_correlation, {"sets": SETS}),
        "module_membership": (model.module_membership, {"sets": SETS}),
        "module_weights": (model.module_weights, {"sets": SETS}),
        "score": (model.score, {"score": "score", "sets": SETS}),
        "differential_correlation": (
            differential_correlation,
            {**given, "condition": "arm", "sets": SETS},
        ),
        "module_expression": (sums.module_expression, {"sets": SETS}),
        "module_traits": (sums.module_traits, {"sets": SETS, "traits": "age"}),
        "connectivity": (connectivity, {"modules": SETS, "result": result}),
        "centrality": (centrality, {"modules": SETS, "result": result}),
        "preservation": (modules.preservation, {"modules": SETS, "result": result}),
        "differential_connectivity": (
            modules.differential_connectivity,
            {"modules": SETS, "result": result, "groups": samples["arm"]},
        ),
        "compare_donors": (
            compare_donors,
            {"values": values, "samples": table, "condition": "arm"},
        ),
        "project": (project, {"weights": gene_weights(SETS), "model": model}),
    }


MODULES = [
    ({"one": ["gene1"]}, "module 'one' has 1 gene; a module needs at least 2"),
    ({"one": []}, "module 'one' has 0 genes"),
    ({}, "no module is given"),
    ({"one": "gene1"}, "give a list of genes"),
    ({"one": [1, 2]}, "list of gene names"),
    ("nowhere.gmt", "nowhere.gmt"),
    ({"one": ["Gene1", "gene2"]}, r"unknown gene.*'Gene1'.*did you mean 'gene1'"),
]
OF_SETS = [
    *("module_correlation", "module_membership", "module_weights", "score"),
    *("differential_correlation", "module_expression", "module_traits", "connectivity"),
    *("centrality", "preservation", "differential_connectivity"),
]
BAD = [
    ("module_correlation", {"sets": {"one": names(0, 1)}}, "there is one module, 'one'"),
    ("module_correlation", {"uncertainty": "bootstrap"}, "not available for a module"),
    ("module_membership", {"weights": {"one": {"gene0": 1}}}, "no weight"),
    ("module_membership", {"sets": {**SETS, "gene3": names(0, 1)}}, "is the name of a gene"),
    ("module_weights", {"weights": "equl"}, "weights must be 'equal', 'expression', 'eigengene'"),
    ("score", {"score": "no score"}, "'no score' is missing for 1 of"),
    ("score", {"score": "same"}, "constant in every sample"),
    ("score", {"uncertainty": "hierarchical"}, "use 'jackknife' or 'cluster'"),
    ("score", {"name": "one"}, "'one' is the name of a module"),
    ("score", {"sets": None, "weights": "equal"}, "weights= has no effect without sets="),
    ("differential_correlation", {"condition": "arn"}, "unknown condition column 'arn'.*'arm'"),
    ("differential_correlation", {"sets": {"one": names(0, 1)}}, "there is one module"),
    ("differential_correlation", {"condition": "same"}, "has one value"),
    ("differential_correlation", {"condition": "score"}, "varies within samples"),
    ("differential_correlation", {"condition": "gap"}, "missing for sample"),
    ("module_traits", {"traits": "agee"}, "unknown trait 'agee'; did you mean 'age'"),
    ("module_traits", {"traits": ["age", "age"]}, "names 'age' twice"),
    ("module_traits", {"traits": []}, "traits must be"),
    ("module_traits", {"traits": "same"}, "'same' has the same value in all samples"),
    ("module_traits", {"traits": "gap"}, "'gap' is missing for sample 's3'"),
    ("module_traits", {"traits": "three"}, "3 levels"),
    ("module_traits", {"traits": "score"}, r"varies within samples.*CSCore.score\(sets=\)"),
    ("module_traits", {"method": "kendall"}, "method must be"),
    ("module_expression", {"weights": "eigengene"}, "weights must be"),
    ("module_expression", {"weights": {"one": 3}}, "module 'one' has 3"),
    ("module_expression", {"weights": {"one": {"gene0": 1.0}}}, "of gene 'gene2' in module 'one'"),
    ("module_traits", {"weights": {n: dict.fromkeys(g, 0.0) for n, g in SETS.items()}}, "are 0"),
    ("connectivity", {"result": 3}, "must be a CorrelationResult"),
    ("compare_donors", {"condition": "arn"}, "unknown condition column 'arn'.*'arm'"),
    ("compare_donors", {"condition": "gap"}, "'s0'; leave it out by dropping rows of samples="),
    ("compare_donors", {"condition": "lone"}, "one sample in group 'a'"),
    ("compare_donors", {"formula": "~ sex"}, "sex"),
    ("compare_donors", {"block": "doner"}, "unknown block column 'doner'.*'donor'"),
    ("compare_donors", {"values": [1, 2]}, "values must be a table"),
    ("compare_donors", {"samples": {"arm": 1}}, "samples must be a table"),
    ("compare_donors", {"samples": pd.DataFrame({"arm": ["a"]}, ["t1"])}, "no row of sample 's0'"),
    ("compare_donors", {"moderated": "yes"}, "moderated"),
    ("compare_donors", {"confidence": 95}, "confidence"),
    ("project", {"weights": {"one": {"GENE": 1.0, "X": 2.0}}}, "none of the 1 modules has 2 genes"),
    ("project", {"weights": {"one": 3}}, "must be weights by gene"),
    ("project", {"model": 3}, "model must be a CSCore model"),
]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        *(
            (
                name,
                {
                    "modules"
                    if name in ("connectivity", "centrality", "preservation")
                    or name == "differential_connectivity"
                    else "sets": sets
                },
                message,
            )
            for name in OF_SETS
            for sets, message in MODULES
        ),
        *BAD,
    ],
)
def test_bad_input_is_refused(
    data, model, sums, result, samples, values, table, name, change, message
):
    call, given = doors(data, model, sums, result, samples, values, table)[name]
    if name == "preservation" and "Gene1" in message:
        message = "none has 2 genes in the result"  # modules of other data need not be here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(hc.InputError, match=message):
            call(**{**given, **change})


def test_every_door_is_tried(data, model, sums, result, samples, values, table):
    known = doors(data, model, sums, result, samples, values, table)
    public = {n for n in modules.__all__ if not inspect.isclass(getattr(modules, n))}
    assert public - set(known) == {"find_modules", "write_graphml", "left_out_preservation"}
    for name, (call, given) in known.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert call(**given) is not None, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit": 3}, "fit must be a function"),
        ({"fit": lambda some: 3}, "must be a CorrelationResult"),
        ({"samples": ["s01"] * 4}, "names 's01' twice"),
        ({"samples": ["s01", "s02"]}, "there are 2 donors: at least 4"),
        ({"folds": 1}, "folds"),
        ({"donors": {"s1": "a"}}, "names no donor of sample 's2'"),
        ({"method": "louvain", "fit": lambda some: 1 / 0}, "method must be one of"),
        ({"bogus": 1, "fit": lambda some: 1 / 0}, "unknown option of find_modules.* 'bogus'"),
        ({"min_sise": 4, "fit": lambda some: 1 / 0}, "did you mean 'min_size'"),
    ],
)
def test_left_out_donors_refuse(data, change, message):
    def fit(some):
        chosen = data[data.obs["sample"].isin(some)].copy()
        return hc.CSCore(chosen, "sample", depth="depth").fit()

    given = {"fit": fit, "samples": sorted(data.obs["sample"].unique()), "permutations": 100}
    with pytest.raises(hc.InputError, match=message):
        left_out_preservation(**{**given, **change})


# ---- results of modules are results


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_results_of_modules_are_saved_summarised_and_reported(data, model, sums, tmp_path):
    given = {"depth": "depth"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {
            "with each other": model.module_correlation(SETS),
            "with genes": model.module_membership(SETS),
            "with a score": model.score("score", sets=SETS),
            "between groups": differential_correlation(data, "sample", "arm", SETS, **given),
            "with traits": sums.module_traits(SETS, ["age", "arm"]),
        }
        for name, r in results.items():
            for kind in (".zarr", ".nc"):
                back = hc.load(r.save(tmp_path / f"{name}{kind}"))
                pd.testing.assert_frame_equal(back.pairs(), r.pairs())
            counted = "No. genes:" if name == "with genes" else "No. modules:"
            assert counted in str(r.summary()), name
        html = hc.report(tmp_path / "r.html", *results.values()).read_text(encoding="utf-8")
    estimands = [r.dataset.attrs["estimand"] for r in results.values()]
    assert len(set(estimands)) == 5
    assert estimands[0].startswith("correlation of the weighted sums of the expression of two")
    assert "a group of genes with a score of the cells" in estimands[2]
    assert "difference between groups, or slope, of the correlation of the weighted" in estimands[3]
    assert "of a trait with a module, the mean log expression of its genes" in estimands[4]
    assert "3 modules in 780 cells" in html
    assert "3 partners of score" in html
