"""Preservation of modules in other data, and their connectivity in two groups of donors."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.modules import differential_connectivity, preservation
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")


def names(*numbers):
    return [f"gene{j}" for j in numbers]


SETS = {"real": names(0, 1, 2, 3), "none": names(10, 12, 14, 16)}


@pytest.fixture(scope="module")
def data():
    rho = np.eye(30)
    rho[:6, :6] = 0.5
    np.fill_diagonal(rho, 1)
    adata, _ = simulate_counts(6, 250, 30, mean=[1.0, 3.0] * 15, within=rho, seed=4)
    return adata


@pytest.fixture(scope="module")
def result(data):
    return hc.CSCore(data, "sample", depth="depth").fit(per_sample=True)


def mean_pair(matrix, genes):
    at = [int(g[4:]) for g in genes]
    return np.mean([matrix[j, k] for j, k in itertools.combinations(at, 2)])


def test_connectivity_is_compared_with_random_sets(result):
    table = preservation(SETS, result, permutations=4000)
    r = result.matrix().to_numpy()
    for name, genes in SETS.items():
        assert table.loc[name, "connectivity"] == pytest.approx(mean_pair(r, genes), rel=1e-5)
    assert table.loc["real", "z"] > 4
    assert table.loc["real", "q_value"] < 0.01
    assert table.loc["none", "p_value"] > 0.05
    # 30 genes are one bin: the mean over all sets is the mean over all pairs
    every = np.nanmean(r[np.triu_indices(30, 1)])
    assert table.loc["none", "random_mean"] == pytest.approx(every, abs=0.004)


def test_p_value_of_a_pair_is_its_rank_among_all_pairs(result):
    r = result.matrix().to_numpy()
    table = preservation({"pair": names(9, 11)}, result, permutations=5000)
    exact = np.mean(r[np.triu_indices(30, 1)] >= r[9, 11])
    assert table["p_value"].item() == pytest.approx(exact, abs=0.025)


def test_random_sets_have_the_same_mean_expression(data):
    """Genes of one bin correlate, and a module of them is not special."""
    rho = np.eye(60)
    rho[:20, :20] = 0.4
    np.fill_diagonal(rho, 1)
    mean = np.r_[np.linspace(8, 12, 20), np.linspace(0.5, 1, 40)]
    adata, _ = simulate_counts(4, 200, 60, mean=mean, within=rho, seed=1)
    r = hc.CSCore(adata, "sample", depth="depth").fit()
    table = preservation({"m": names(0, 5, 9, 13)}, r)
    assert table["connectivity"].item() > 0.3
    assert table["p_value"].item() > 0.05


def test_excess_is_tested_over_donors(data, result):
    table = preservation(SETS, result, permutations=2000)
    layers = result.dataset["sample_correlation"].values
    for name in SETS:
        own = np.array([mean_pair(layer, SETS[name]) for layer in layers])
        centre = np.array([np.nanmean(layer[np.triu_indices(30, 1)]) for layer in layers])
        test = stats.ttest_1samp(own - centre, 0, alternative="greater")
        assert table.loc[name, "excess"] == pytest.approx(np.mean(own - centre), abs=0.01)
        assert table.loc[name, "excess_p_value"] == pytest.approx(test.pvalue, rel=0.5, abs=0.05)
    assert (table["donors"] == 6).all()
    donors = {s: f"d{k // 2}" for k, s in enumerate(result.dataset["sample"].values)}
    assert (preservation(SETS, result, donors=donors)["donors"] == 3).all()


def test_modules_that_are_absent(result):
    with pytest.warns(hc.DataWarning, match="fewer than 2 genes in the result are NaN: lost"):
        table = preservation({**SETS, "lost": ["X", "gene3"]}, result)
    assert table.loc["lost", ["size", "genes"]].tolist() == [2, 1]
    assert np.isnan(table.loc["lost", "p_value"])
    assert np.isnan(table.loc["lost", "q_value"])
    with pytest.raises(hc.InputError, match=r"none has 2 genes.*did you mean 'gene1'"):
        preservation({"m": ["Gene1", "X"]}, result)


def test_a_module_of_all_genes_has_nothing_to_compare_with(result):
    sets = {"all": list(result.genes), "real": names(0, 1, 2)}
    with pytest.warns(hc.DataWarning, match="can be compared with all: the tests are NaN"):
        table = preservation(sets, result, permutations=100)
    assert table.loc["all", "connectivity"] > 0
    tests = ["random_sd", "z", "p_value", "q_value", "excess_p_value", "excess_q_value"]
    assert table.loc["all", tests].isna().all()
    assert table.loc["real", tests].notna().all()


def test_seed_repeats_the_random_sets(result):
    one, two = (preservation(SETS, result, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def groups_of(result, text="aaabbb"):
    return dict(zip(result.dataset["sample"].values, text, strict=True))


def connectivity(result, genes):
    return np.array(
        [
            mean_pair(layer, genes)
            for layer in result.dataset["sample_correlation"].values.astype(float)
        ]
    )


def test_difference_is_welch_test_of_the_donors(result):
    table = differential_connectivity(SETS, result, groups_of(result))
    for name, genes in SETS.items():
        values = connectivity(result, genes)
        test = stats.ttest_ind(values[3:], values[:3], equal_var=False)
        row = table.loc[name]
        assert row["p_value"] == pytest.approx(test.pvalue)
        assert row["df"] == pytest.approx(test.df)
        assert row["difference"] == pytest.approx(values[3:].mean() - values[:3].mean())
        assert row["connectivity_a"] == pytest.approx(values[:3].mean())
        assert row["difference"] / row["difference_se"] == pytest.approx(test.statistic)
        low, high = test.confidence_interval(0.95)
        assert (row["difference_lower"], row["difference_upper"]) == pytest.approx((low, high))
    assert table.attrs["test"] == "Welch"


def test_donors_in_both_groups_are_paired(result):
    donors = dict(zip(result.dataset["sample"].values, "xyzxyz", strict=True))
    table = differential_connectivity(SETS, result, groups_of(result), donors=donors)
    values = connectivity(result, SETS["real"])
    test = stats.ttest_rel(values[3:], values[:3])
    assert table.loc["real", "p_value"] == pytest.approx(test.pvalue)
    assert table.attrs["test"] == "paired t"


def test_samples_of_one_donor_are_averaged(result):
    donors = dict(zip(result.dataset["sample"].values, "xxyzzw", strict=True))
    table = differential_connectivity(SETS, result, groups_of(result), donors=donors)
    v = connectivity(result, SETS["real"])
    test = stats.ttest_ind([v[3:5].mean(), v[5]], [v[:2].mean(), v[2]], equal_var=False)
    assert table.loc["real", "p_value"] == pytest.approx(test.pvalue)


def test_order_of_groups_and_samples_left_out(result):
    samples = result.dataset["sample"].values
    given = pd.Series(pd.Categorical([*"aabb", None, "b"], ["b", "a"]), samples)
    table = differential_connectivity(SETS, result, given)
    v = connectivity(result, SETS["real"])
    assert table.loc["real", "difference"] == pytest.approx(v[:2].mean() - v[[2, 3, 5]].mean())


def test_a_module_that_differs_is_found():
    parts = []
    for k, size in enumerate((0.0, 0.5)):
        rho = np.eye(12)
        rho[:5, :5] = size
        np.fill_diagonal(rho, 1)
        part, _ = simulate_counts(5, 300, 12, mean=2.0, within=rho, seed=k)
        part.obs["sample"] = [f"{k}{s}" for s in part.obs["sample"]]
        parts.append(part)
    import anndata as ad

    adata = ad.concat(parts, index_unique="-")
    r = hc.CSCore(adata, "sample", depth="depth").fit(per_sample=True)
    groups = {s: s[0] for s in r.dataset["sample"].values}
    sets = {"real": names(0, 1, 2, 3), "none": names(6, 7, 8, 9)}
    table = differential_connectivity(sets, r, groups)
    assert table.loc["real", "difference"] == pytest.approx(0.5, abs=0.12)
    assert table.loc["real", "q_value"] < 0.01
    assert table.loc["none", "p_value"] > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modules": {"m": ["gene1", "GENE2"]}}, "did you mean 'gene2'"),
        ({"modules": {"m": ["gene1"]}}, "has 1 gene"),
        ({"groups": "aaaaaa"}, "groups must be two, not 1"),
        ({"groups": "aabbcc"}, "groups must be two, not 3"),
        ({"groups": "aaaaab"}, "has 1 donor"),
        ({"donors": "xyzxuv"}, "donor 'x' is in both groups"),
    ],
)
def test_bad_input(result, change, message):
    options = {"modules": SETS, "groups": "aaabbb", **change}
    for name in ("groups", "donors"):
        if name in options:
            options[name] = groups_of(result, options[name])
    with pytest.raises(hc.InputError, match=message):
        differential_connectivity(result=result, **options)


def test_results_that_cannot_be_used(data, result):
    model = hc.CSCore(data, "sample", depth="depth")
    groups = groups_of(result)
    with pytest.raises(hc.InputError, match="per_sample=True"):
        differential_connectivity(SETS, model.fit(), groups)
    with pytest.raises(hc.InputError, match="needs all pairs"):
        preservation(SETS, model.fit(target="gene0"))
    data.obs["donor"] = (data.obs["sample"].cat.codes // 2).astype(str)
    blocked = hc.CSCore(data, "sample", depth="depth", block="donor").fit(per_sample=True)
    for call in (preservation, lambda m, r: differential_connectivity(m, r, groups)):
        with pytest.raises(hc.InputError, match="pass the donor of each sample"):
            call(SETS, blocked)
    data.obs["arm"] = data.obs["sample"].map(groups).astype(str)
    change = hc.differential(data, "sample", condition="arm", depth="depth")
    with pytest.raises(hc.InputError, match="is of differences"):
        preservation(SETS, change)


def test_pairs_that_a_sample_lacks(result):
    dataset = result.dataset.copy(deep=True)
    values = dataset["sample_correlation"].values.copy()
    values[2, 0, :] = values[2, :, 0] = np.nan
    dataset["sample_correlation"] = dataset["sample_correlation"].copy(data=values)
    thinner = hc.CorrelationResult(dataset)
    with pytest.warns(hc.DataWarning, match=f"fewest in '{dataset['sample'].values[2]}'"):
        table = differential_connectivity(
            {"m": names(0, 1, 2), "p": names(0, 1)}, thinner, groups_of(result)
        )
    sample = dataset["sample"].values[2]
    with pytest.warns(hc.DataWarning, match=f"of m, p could be .* fewest in '{sample}'"):
        values_of = hc.modules.connectivity({"m": names(0, 1, 2), "p": names(0, 1)}, thinner)
    assert values_of["p"].isna().all()
    assert table["pairs_used"].tolist() == [1, 0]
    assert np.isnan(table.loc["p", "p_value"])
    v = values[:, 1, 2]
    assert table.loc["m", "difference"] == pytest.approx(v[3:].mean() - v[:3].mean())
