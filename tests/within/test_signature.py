"""A group of genes as target."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="module")
def data():
    adata, _ = simulate_counts(
        6, [80, 120, 90, 150, 60, 110], 8, mean=[3, 2, 1, 2, 1, 3, 0.5, 2], within=0.5, seed=3
    )
    return adata


@pytest.fixture(scope="module")
def model(data):
    return hc.CSCore(data, "sample", depth="depth")


def matrix(result, name):
    return result.dataset[name].values[0]


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster"])
def test_one_gene_with_all_the_weight_is_that_gene(model, uncertainty):
    a, b, c = model.counts.genes[:3]
    one = model.fit(target=a, precision="double", uncertainty=uncertainty)
    r = model.signature([a, b, c], weights={a: 1.0, b: 1e-12, c: 1e-12}, uncertainty=uncertainty)
    rest = slice(3, None)
    for name in ("correlation_unclipped", "se", "df", "ci_lower", "p_value"):
        np.testing.assert_allclose(matrix(r, name)[rest], matrix(one, name)[rest], rtol=1e-7)
    # a gene of the group is compared with the others: here with gene a alone
    np.testing.assert_allclose(
        matrix(r, "correlation_unclipped")[1], matrix(one, "correlation_unclipped")[1], rtol=1e-7
    )


def test_hierarchical_inference_of_one_gene_is_that_of_the_gene():
    """The sampling variances of the signature are those of the gene that has all the weight."""
    adata, _ = simulate_counts(
        6, [80, 120, 90, 150, 60, 110], 16, mean=[3, 2, 1, 2] * 4, within=0.5, seed=3
    )
    model = hc.CSCore(adata, "sample", depth="depth")
    a, b, c = model.counts.genes[:3]
    one = model.fit(target=a, precision="double")
    r = model.signature([a, b, c], weights={a: 1.0, b: 1e-12, c: 1e-12})
    assert r.dataset.attrs["uncertainty"] == one.dataset.attrs["uncertainty"] == "hierarchical"
    for name in ("correlation_unclipped", "se", "ci_lower", "p_value", "tau", "jackknife_p_value"):
        np.testing.assert_allclose(matrix(r, name)[3:], matrix(one, name)[3:], rtol=1e-6)


def test_genes_that_do_not_go_with_the_group_keep_their_level():
    """The genes of the group go together, and means differ between donors."""
    p = []
    for seed in range(4):
        rho = np.eye(120)
        rho[:5, :5] += 0.4 * (1 - np.eye(5))
        adata, _ = simulate_counts(6, 150, 120, mean=[0.5, 1.5] * 60, within=rho, seed=seed)
        model = hc.CSCore(adata, "sample", depth="depth")
        r = model.signature(list(model.counts.genes[:5]))
        assert r.dataset.attrs["uncertainty"] == "hierarchical"
        p.append(matrix(r, "p_value"))
    p = np.array(p)
    assert (p[:, :5] < 1e-3).mean() > 0.7  # each with the others of the group
    null = p[:, 5:][np.isfinite(p[:, 5:])]
    assert 0.025 < (null < 0.05).mean() < 0.075
    assert (null < 0.001).mean() < 0.008


def test_estimate_is_the_sum_of_covariances(model):
    names = list(model.counts.genes[:3])
    weights = {names[0]: 1.0, names[1]: -0.5, names[2]: 2.0}
    r = model.signature(names, weights=weights)
    whole = model.fit(precision="double").dataset
    rho, over = whole["correlation_unclipped"].values, whole["overdispersion"].values
    phi = rho * np.sqrt(np.outer(over, over))
    a = np.zeros(8)
    a[:3] = list(weights.values())
    for k in range(8):
        own = np.where(np.arange(8) == k, 0, a)
        wanted = own @ phi[:, k] / np.sqrt(own @ phi @ own * phi[k, k])
        assert matrix(r, "correlation_unclipped")[k] == pytest.approx(wanted, rel=1e-6)
    assert r.dataset["signature_weight"].values[:4].tolist() == [1.0, -0.5, 2.0, 0.0]


def test_influence_is_that_of_the_whole_estimator(data, model):
    """Its standard error is, to first order, that of leaving out one sample at a time."""
    names = list(model.counts.genes[:3])
    r = model.signature(names)
    left_out = []
    for s in model.counts.samples:
        part = data[data.obs["sample"] != s].copy()
        left_out.append(
            matrix(
                hc.CSCore(part, "sample", depth="depth").signature(names), "correlation_unclipped"
            )
        )
    left_out = np.array(left_out)
    k = len(left_out)
    brute = np.sqrt((k - 1) / k * ((left_out - left_out.mean(0)) ** 2).sum(0))
    se = matrix(r, "se")
    np.testing.assert_allclose(se[3:], brute[3:], rtol=0.3)


def test_result_is_one_of_all_others(model, tmp_path):
    names = list(model.counts.genes[2:5])
    r = model.signature(names, name="module", weights="expression")
    assert r.target == "module"
    assert "module" in str(r.summary())
    assert set(r.top(n=3).index) <= set(model.counts.genes)
    r.save(tmp_path / "r.zarr")
    again = hc.load(tmp_path / "r.zarr")
    np.testing.assert_array_equal(matrix(again, "correlation"), matrix(r, "correlation"))
    assert again.dataset.attrs["signature"] == "module"
    import matplotlib

    matplotlib.use("Agg")
    r.plot.volcano()


def test_two_samples_give_no_interval(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = hc.CSCore(data, "sample", depth="depth", subset=two_samples(data))
        r = two.signature(list(two.counts.genes[:2]))
    assert np.isnan(matrix(r, "p_value")).all()
    assert np.isfinite(matrix(r, "correlation")).any()
    assert "too_few_samples" in r.flag_counts().index[r.flag_counts() > 0]


def two_samples(data):
    return data.obs["sample"].isin(data.obs["sample"].unique()[:2]).to_numpy()


@pytest.mark.parametrize(
    ("genes", "options", "text"),
    [
        (["a"], {}, "at least 2 genes; 1 given"),
        (["nope", "other"], {}, "unknown gene of the signature 'nope'"),
        (
            None,
            {"weights": "most"},
            "weights must be 'equal', 'expression', 'eigengene' or a mapping",
        ),
        (None, {"weights": {}}, "has no weight of gene"),
        (None, {"weights": 0.0}, "weights must be finite and not 0"),
        (None, {"uncertainty": "bootstrap"}, "not available for a signature"),
        (None, {"name": 1}, "is the name of a gene"),
    ],
)
def test_refusals(model, genes, options, text):
    names = list(model.counts.genes[:2])
    if options.get("weights") == 0.0:
        options = {"weights": dict.fromkeys(names, 0.0)}
    if options.get("name") == 1:
        options = {"name": names[0]}
    with pytest.raises(hc.InputError, match=text):
        model.signature(names if genes is None else genes, **options)
