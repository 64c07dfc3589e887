"""Several cell types in one call: each as fitted alone, one family of tests."""

import warnings

import anndata as ad
import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def typed():
    parts = []
    for k, (name, samples) in enumerate({"B": 5, "T": 6, "rare": 1}.items()):
        part, _ = simulate_counts(max(samples, 2), 90, 8, mean=2.0, within=0.6, seed=60 + k)
        part.obs["kind"] = name
        part = part[part.obs["sample"].isin([f"s{i + 1}" for i in range(samples)])].copy()
        part.obs_names = name + part.obs_names
        parts.append(part)
    return ad.concat(parts)


def test_cell_types_in_one_call(typed):
    with pytest.warns(hc.DataWarning, match="1 cell types are left out: 'rare'"):
        found = hc.by_cell_type(typed, "kind", "sample", depth="depth")
    assert list(found) == ["B", "T"]
    assert "one sample" in found.left_out["rare"]
    ds = found.dataset
    assert ds["correlation"].dims == ("cell_type", "gene", "partner")
    alone = hc.CSCore(typed, "sample", depth="depth", subset={"kind": "T"}).fit()
    np.testing.assert_array_equal(
        ds["correlation"].sel(cell_type="T"), alone.dataset["correlation"]
    )
    upper = np.triu_indices(8, 1)
    p = np.concatenate([found[t].dataset["p_value"].values[upper] for t in found])
    q = np.concatenate([found[t].dataset["q_value"].values[upper] for t in found])
    known = np.isfinite(p)
    np.testing.assert_allclose(
        q[known], multipletests(p[known].astype(float), method="fdr_bh")[1], rtol=1e-5
    )
    assert found["B"].dataset.attrs["q_family"] == "all distinct pairs of 2 cell types"
    assert "6 samples" in repr(found)
    own = hc.by_cell_type(typed, "kind", "sample", ["T"], family="type", depth="depth")
    np.testing.assert_array_equal(own["T"].dataset["q_value"], alone.dataset["q_value"])


def test_cell_types_with_a_target(typed):
    found = hc.by_cell_type(
        typed, "kind", "sample", ["B", "T"], fit={"target": "gene0"}, depth="depth"
    )
    table = found.top(n=4)
    assert table["cell_type"].iloc[0] in ("B", "T")
    assert table["p_value"].is_monotonic_increasing
    assert found.dataset["correlation"].dims == ("cell_type", "target", "gene")


def test_cell_type_refusals(typed):
    for arguments, options, text in (
        (("kinds", "sample"), {}, "unknown cell_type column 'kinds'; did you mean 'kind'"),
        (("kind", "sample", ["C"]), {}, "unknown cell type 'C'"),
        (("kind", "sample"), {"family": "gene"}, "family must be"),
        (("kind", "sample", ["rare"]), {}, "no cell type could be fitted; 'rare'"),
    ):
        with pytest.raises(hc.InputError, match=text):
            hc.by_cell_type(typed, *arguments, depth="depth", **options)
    with pytest.raises(hc.InputError, match="unknown cell type 'X'"):
        hc.by_cell_type(typed, "kind", "sample", ["B"], depth="depth")["X"]


@pytest.fixture(scope="module")
def nested():
    """Six donors with two samples each; donors gave cells of type "rare" in one sample."""
    adata, _ = simulate_counts(12, 100, 14, mean=2.0, within=0.5, seed=11)
    number = adata.obs["sample"].cat.codes.to_numpy()
    adata.obs["donor"] = [f"d{k // 2}" for k in number]
    kind = np.resize(np.array(["B", "T"], object), adata.n_obs)
    kind[(np.arange(adata.n_obs) % 4 == 0) & (number % 2 == 0)] = "rare"
    adata.obs["kind"] = kind
    return adata


@pytest.mark.parametrize("options", [{"block": "donor"}, {"covariates": "~ (1 | donor)"}])
def test_block_reaches_every_type(nested, options):
    found = hc.by_cell_type(nested, "kind", "sample", depth="depth", **options)
    assert list(found) == ["B", "T", "rare"]
    alone = hc.CSCore(nested, "sample", depth="depth", block="donor", subset={"kind": "T"}).fit()
    assert alone.dataset.attrs["n_donors"] == 6
    for name in ("correlation", "p_value"):
        np.testing.assert_array_equal(found["T"].dataset[name].values, alone.dataset[name].values)
    assert found["T"].dataset.attrs["block"] == "donor"
    assert found["rare"].dataset.attrs["n_samples"] == 6  # one per donor: no block is needed
    assert "block" not in found["rare"].dataset.attrs
    assert found.dataset.sizes["cell_type"] == 3


def test_block_refusals(nested):
    copy = nested.copy()
    copy.obs["name"] = copy.obs["sample"].astype(str)
    copy.obs["part"] = copy.obs["sample"].astype(str) + np.resize(["a", "b"], copy.n_obs)
    copy.obs["cell"] = np.resize(["x", "y", "z"], copy.n_obs)
    for block, options, text in (
        ("doner", {}, "unknown block column 'doner'; did you mean 'donor'"),
        ("name", {}, "block='name' has a different value in each sample"),
        ("part", {}, "names are swapped; use sample='part', block='sample'"),
        ("cell", {}, "no cell type could be fitted; .* varies within samples"),
        ("donor", {"covariates": "~ (1 | sample)"}, "block='donor' and the random intercepts"),
        ("donor", {"fit": {"weights": "adaptive", "uncertainty": "jackknife"}}, "weights="),
    ):
        with pytest.raises(hc.InputError, match=text):
            hc.by_cell_type(copy, "kind", "sample", depth="depth", block=block, **options)


def test_weights_of_donors_are_options_of_the_fit(nested):
    fit = {"weights": "equal", "uncertainty": "hierarchical"}
    found = hc.by_cell_type(nested, "kind", "sample", ["B", "T"], depth="depth", fit=fit)
    assert found.dataset.attrs["uncertainty"] == "hierarchical"


def test_warnings_name_the_cell_types(typed):
    few = typed.copy()
    few.X[(few.obs["kind"] == "T").to_numpy(), 0] = 0  # gene0 is absent in one type
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hc.by_cell_type(few, "kind", "sample", depth="depth")
    texts = [str(w.message) for w in caught if "cell types are left out" not in str(w.message)]
    assert texts
    assert all(text.startswith(("cell type 'B'", "cell type 'T'")) for text in texts)


def test_pairs_are_those_of_the_results(typed):
    found = hc.by_cell_type(typed, "kind", "sample", depth="depth")
    tables = [r.pairs() for r in found.values()]
    every = found.pairs()
    assert len(every) == sum(map(len, tables)) > 20
    assert every["p_value"].dropna().is_monotonic_increasing
    strong = found.pairs(q=0.5, min_correlation=0.2)
    expected = (every["q_value"] <= 0.5) & (every["correlation"].abs() >= 0.2)
    beyond = (every["q_value"] <= 0.5) & every["correlation"].isna()
    assert len(strong) == (expected | beyond).sum()
    assert len(found.pairs(n=3)) == 3


def test_order_without_p_values(typed):
    two = typed[typed.obs["sample"].isin(["s1", "s2"]) & (typed.obs["kind"] != "rare")].copy()
    found = hc.by_cell_type(two, "kind", "sample", depth="depth")
    table = found.pairs(n=200)
    weak = table["flag"].str.contains("low_information").to_numpy()
    assert (np.diff(weak.astype(int)) >= 0).all()  # large by chance: after the others
    size = table["correlation"].abs()[~weak]
    assert size.is_monotonic_decreasing
    r = found["T"]
    flagged = r.dataset["flag"].copy()
    flagged[0] = 0
    flagged[0, 1:4] = int(hc.Flag.LOW_INFORMATION)
    top = hc.CorrelationResult(r.dataset.assign(flag=flagged)).top("gene0")
    top = top[top["correlation"].notna()]
    weak = (top["flag"] == "low_information").to_numpy()
    assert weak.any()
    assert (np.diff(weak.astype(int)) >= 0).all()
