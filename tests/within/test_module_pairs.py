"""Modules as units: sums of genes with each other and with every gene."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.modules import find_modules
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="module")
def data():
    adata, _ = simulate_counts(
        6, [80, 120, 90, 150, 60, 110], 14, mean=[3, 2, 1, 2, 1, 3, 2] * 2, within=0.5, seed=3
    )
    return adata


@pytest.fixture(scope="module")
def model(data):
    return hc.CSCore(data, "sample", depth="depth")


def names(*numbers):
    return [f"gene{j}" for j in numbers]


SETS = {"one": names(0, 2, 4), "two": names(1, 3, 5, 7), "three": names(8, 9)}


def value(result, a, b, name="correlation_unclipped"):
    return float(result.dataset[name].sel(gene=a, partner=b))


@pytest.mark.parametrize("weights", ["equal", "expression", "given"])
def test_estimate_is_the_bilinear_sum_of_covariances(model, weights):
    whole = model.fit(precision="double", uncertainty="jackknife").dataset
    over, mean = whole["overdispersion"].values, whole["mean"].values
    phi = whole["correlation_unclipped"].values * np.sqrt(np.outer(over, over))
    given = {f"gene{j}": (-1.0) ** (j > 8) * (1 + j) for j in range(14)}
    r = model.module_correlation(
        SETS, given if weights == "given" else weights, uncertainty="jackknife"
    )
    a = {}
    for module, genes in SETS.items():
        at = [int(g[4:]) for g in genes]
        a[module] = np.zeros(14)
        a[module][at] = {
            "equal": 1.0,
            "expression": mean[at],
            "given": [given[g] for g in genes],
        }[weights]
    for x in SETS:
        for y in SETS:
            if x == y:
                continue
            wanted = a[x] @ phi @ a[y] / np.sqrt(a[x] @ phi @ a[x] * (a[y] @ phi @ a[y]))
            assert value(r, x, y) == pytest.approx(wanted, rel=1e-6)
            assert value(r, x, y) == value(r, y, x)


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster", "hierarchical"])
def test_one_gene_with_all_the_weight_is_that_gene(model, uncertainty):
    one = model.fit(precision="double", uncertainty=uncertainty)
    weights = dict.fromkeys(model.counts.genes, 1e-12) | {"gene0": 1.0, "gene1": 1.0, "gene9": 1.0}
    r = model.module_correlation(SETS, weights, uncertainty)
    assert r.dataset.attrs["uncertainty"] == one.dataset.attrs["uncertainty"]
    for name in ("correlation_unclipped", "se", "ci_lower", "p_value"):
        for x, y, a, b in (("one", "two", 0, 1), ("one", "three", 0, 9), ("two", "three", 1, 9)):
            wanted = value(one, f"gene{a}", f"gene{b}", name)
            assert value(r, x, y, name) == pytest.approx(wanted, rel=1e-5), name


def test_standard_error_is_that_of_leaving_out_samples(data, model):
    r = model.module_correlation(SETS, uncertainty="jackknife")
    left_out = []
    for s in model.counts.samples:
        part = hc.CSCore(data[data.obs["sample"] != s].copy(), "sample", depth="depth")
        left_out.append(
            part.module_correlation(SETS, uncertainty="none").matrix("correlation_unclipped")
        )
    left_out = np.array(left_out)
    k = len(left_out)
    brute = np.sqrt((k - 1) / k * ((left_out - left_out.mean(0)) ** 2).sum(0))
    upper = np.triu_indices(3, 1)
    np.testing.assert_allclose(r.dataset["se"].values[upper], brute[upper], rtol=0.3)


def test_common_genes_are_left_out_of_both(model):
    shared = {"one": names(0, 2, 4, 6), "two": names(1, 3, 6), "inside": names(1, 3)}
    with pytest.warns(hc.DataWarning, match="2 pairs of modules share genes"):
        r = model.module_correlation(shared)
    apart = model.module_correlation({"one": names(0, 2, 4), "two": names(1, 3)})
    for name in ("correlation_unclipped", "se", "p_value", "flag"):
        np.testing.assert_allclose(value(r, "one", "two", name), value(apart, "one", "two", name))
    assert np.isnan(value(r, "two", "inside"))
    assert int(value(r, "two", "inside", "flag")) & hc.Flag.NONPOSITIVE_VARIANCE
    assert "fewer than 2 genes of a module in 1 of them" in r.dataset.attrs["note"]
    assert "share genes" in r.dataset.attrs["note"]


def test_modules_of_the_same_genes_are_not_estimable(model):
    match = "1 pair of modules shares genes, .* fewer than 2 genes of a module in it"
    with pytest.warns(hc.DataWarning, match=match):
        r = model.module_correlation({"A": names(0, 1), "B": names(1, 0)})
    assert np.isnan(value(r, "A", "B"))
    assert r.flag_counts()["nonpositive_variance"] == 1
    assert "100.0% not estimable" in repr(r)


def test_common_genes_do_not_correlate_modules():
    """Genes are independent: modules that share most of their genes are, too."""
    adata, _ = simulate_counts(6, 300, 20, mean=2.0, seed=2)
    model = hc.CSCore(adata, "sample", depth="depth")
    with pytest.warns(hc.DataWarning, match="shares? genes"):
        r = model.module_correlation({"a": names(*range(12)), "b": names(*range(4, 16))})
    assert abs(value(r, "a", "b")) < 0.3
    assert value(r, "a", "b", "p_value") > 0.001


def test_membership_is_that_of_each_signature(model):
    r = model.module_membership(SETS)
    assert list(r.targets) == list(SETS)
    for module, genes in SETS.items():
        one = model.signature(genes, module).dataset
        for name in ("correlation", "se", "p_value"):
            np.testing.assert_array_equal(
                r.dataset[name].sel(target=module).values, one[name].values[0]
            )
    assert r.dataset.attrs["q_family"] == "pairs of the targets"
    assert r.dataset.attrs["n_modules"] == 3


def test_donors_are_the_units(data):
    data.obs["donor"] = (data.obs["sample"].cat.codes // 2).astype(str)
    model = hc.CSCore(data, "sample", depth="depth", block="donor")
    for uncertainty in ("jackknife", "hierarchical"):
        r = model.module_correlation(SETS, uncertainty=uncertainty)
        assert np.isfinite(value(r, "one", "two", "p_value"))
    r = model.module_correlation(SETS, uncertainty="jackknife")
    assert value(r, "one", "two", "df") <= 2 + 1e-9


def test_modules_that_differ_between_donors_keep_their_level():
    """The factors of two modules correlate in each donor, and on average do not."""
    p, size, names_ = [], 5, names(*range(20))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        counts, samples, depth = [], [], []
        for c in range(4):
            rho = np.clip(rng.normal(0, 0.3), -0.9, 0.9)
            factor = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 150)
            latent = rng.normal(size=(150, 20)) * 0.5
            for k in range(2):
                latent[:, k * size : (k + 1) * size] += 0.6 * factor[:, [k]]
            depth.append(np.exp(rng.normal(0, 0.4, 150)))
            counts.append(rng.poisson(depth[-1][:, None] * np.exp(latent - 0.3)))
            samples += [f"s{c}"] * 150
        obs = pd.DataFrame({"sample": samples, "depth": np.concatenate(depth) * 1e4})
        obs.index = [f"cell{i}" for i in range(600)]
        adata = ad.AnnData(np.vstack(counts), obs=obs, var=pd.DataFrame(index=names_))
        model = hc.CSCore(adata, "sample", depth="depth")
        sets = {"a": names(*range(5)), "b": names(*range(5, 10))}
        p.append(value(model.module_correlation(sets), "a", "b", "p_value"))
    assert np.mean(np.array(p) < 0.05) < 0.15  # the hierarchical model: 0.28


def test_two_samples_have_no_interval(data):
    part = data[data.obs["sample"].cat.codes < 2].copy()
    r = hc.CSCore(part, "sample", depth="depth").module_correlation(SETS, uncertainty="jackknife")
    assert np.isfinite(value(r, "one", "two", "correlation_unclipped"))
    assert np.isnan(value(r, "one", "two", "p_value"))
    assert int(value(r, "one", "two", "flag")) & hc.Flag.TOO_FEW_SAMPLES


def test_modules_that_were_found(model, tmp_path):
    found = find_modules(model.fit(), "hierarchical", q=None, n_modules=4, min_size=2)
    r = model.module_correlation(found)
    assert list(r.genes) == [f"M{m}" for m in found.table.index]
    pd.testing.assert_frame_equal(r.matrix(), model.module_correlation(found.to_dict()).matrix())
    r.save(tmp_path / "r.zarr")
    again = hc.load(tmp_path / "r.zarr")
    pd.testing.assert_frame_equal(again.matrix(), r.matrix())
    assert "weighted sums" in again.dataset.attrs["estimand"]


def test_gmt_file(model, tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text(
        "one\t-\tgene0\tgene2\tELSEWHERE\ntwo\t-\tgene1\tgene3\nabsent\t-\tX1\tX2\tgene5\n"
    )
    with pytest.warns(hc.DataWarning, match="1 of 3 sets of the file"):
        r = model.module_correlation(path)
    wanted = model.module_correlation({"one": names(0, 2), "two": names(1, 3)})
    pd.testing.assert_frame_equal(r.matrix(), wanted.matrix())
    path.write_text("absent\t-\tX1\tX2\n")
    with pytest.raises(hc.InputError, match="none of the 1 sets"):
        model.module_membership(path)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"one": names(0, 1), "two": ["gene2", "GENE3"]}, "did you mean 'gene3'"),
        ({"one": names(0, 1), "two": names(2)}, "module 'two' has 1 gene; a module needs at least"),
        ({"one": names(0, 1), "two": names(2, 2)}, "has 1 gene"),
        ({"one": names(0, 1), "two": []}, "module 'two' has 0 genes"),
        ({"one": names(0, 1), "two": "gene2"}, "give a list of genes"),
        ({"one": names(0, 1), "gene5": names(2, 3)}, "is the name of a gene"),
        ({1: names(0, 1), "two": names(2, 3)}, "must be strings"),
        ({}, "no module"),
        (3, "sets must be a mapping"),
        ({"one": names(0, 1)}, "there is one module"),
    ],
)
def test_bad_modules(model, sets, message):
    with pytest.raises(hc.InputError, match=message):
        model.module_correlation(sets)


def test_what_cannot_be_done(data, model):
    with pytest.raises(hc.InputError, match="bootstrap"):
        model.module_correlation(SETS, uncertainty="bootstrap")
    with pytest.raises(hc.InputError, match="a module needs samples"):
        hc.CSCore(data, None, depth="depth").module_membership(SETS)
    with pytest.raises(hc.InputError, match="no weight of gene 'gene2'"):
        model.module_membership(SETS, {"gene0": 1.0})


def test_methods_text_names_modules(model):
    from hiercorr.reporting.methods_text import methods_text

    text = methods_text(model.module_correlation(SETS))
    assert "between 3 modules" in text
    assert "No. modules:" in str(model.module_correlation(SETS).summary())
    assert "left out of both" in text
    text = methods_text(model.module_membership(SETS))
    assert "between 3 modules and 14 genes" in text
