"""q-values over other families and by other procedures; the target's slope over groups of samples."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests

import hiercorr as hc
from hiercorr.inference.multiplicity import hierarchical, simes, storey
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def result():
    adata, _ = simulate_counts(6, 200, 14, mean=np.geomspace(0.02, 3, 14), within=0.5, seed=2)
    return hc.CSCore(adata, "sample", depth="depth").fit(precision="double")


@pytest.mark.parametrize(("method", "theirs"), [("bh", "fdr_bh"), ("by", "fdr_by")])
def test_procedures_are_those_of_statsmodels(result, method, theirs):
    p, q = (r.values for r in (result.dataset["p_value"], result.adjust(method).dataset["q_value"]))
    upper = np.triu_indices(len(p), 1)
    known = np.isfinite(p[upper])
    np.testing.assert_allclose(
        q[upper][known], multipletests(p[upper][known], method=theirs)[1], rtol=1e-6
    )
    np.testing.assert_array_equal(q, q.T)
    assert np.isnan(np.diag(q)).all()
    for gene in (1, 9):
        row = result.adjust(method, family="gene").dataset["q_value"].values[gene]
        known = np.isfinite(p[gene])
        np.testing.assert_allclose(
            row[known], multipletests(p[gene][known], method=theirs)[1], rtol=1e-6
        )


def test_storey_uses_the_share_of_true_nulls():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(3000), rng.random(1000) * 1e-3])
    ratio = storey(p) / multipletests(p, method="fdr_bh")[1]
    assert ratio.max() == pytest.approx(0.75, abs=0.05)
    assert storey(rng.random(500) ** 0.2).max() <= 1  # never beyond BH


def test_simes_and_choice_of_genes():
    rng = np.random.default_rng(1)
    p = rng.random((30, 30))
    p[:5, 10:20] = 1e-6
    np.fill_diagonal(p, np.nan)
    for k in (0, 7):
        row = p[k][np.isfinite(p[k])]
        assert simes(p)[k] == pytest.approx(
            min(np.sort(row) * len(row) / np.arange(1, len(row) + 1))
        )
    q = hierarchical(p, 0.05)
    chosen = stats.false_discovery_control(simes(p)) <= 0.05
    assert chosen[:5].all()
    for k in range(30):
        row = np.isfinite(p[k])
        wanted = (
            np.minimum(stats.false_discovery_control(p[k][row]) * 30 / chosen.sum(), 1)
            if chosen[k]
            else 1.0
        )
        np.testing.assert_allclose(q[k][row], wanted)


def test_family_is_stated(result):
    assert result.dataset.attrs["q_method"] == "Benjamini-Hochberg"
    assert "q: Benjamini-Hochberg over all distinct pairs." in str(result.summary())
    other = result.adjust("hierarchical", level=0.1)
    assert other.dataset.attrs["q_method"] == "Benjamini-Bogomolov"
    assert "pairs of each of the genes chosen at 0.1" in str(other.summary())
    assert (
        result.dataset.attrs["q_method"] == "Benjamini-Hochberg"
    )  # the first result stays as it was


def test_refusals(result):
    for options, text in (
        ({"method": "qvalue"}, "method must be"),
        ({"family": "pathway"}, "family must be"),
        ({"level": 2}, "level must lie"),
    ):
        with pytest.raises(hc.InputError, match=text):
            result.adjust(**options)
    adata, _ = simulate_counts(4, 60, 5, seed=1)
    model = hc.CSCore(adata, "sample", depth="depth")
    with pytest.raises(hc.InputError, match="no p-values"):
        model.fit(uncertainty="none").adjust("by")
    with pytest.raises(hc.InputError, match="genes first"):
        model.fit(target="gene0").adjust("hierarchical")


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
    with pytest.raises(hc.InputError, match="unknown interaction: column of the formula 'age'"):
        pb.fit(target="gene0", interaction="age")
    inside = hc.Pseudobulk(
        sums, "sample", formula="~ np.log(age)", depth="depth", normalization="cpm"
    )
    with pytest.raises(hc.InputError, match="only inside other terms; add it by itself"):
        inside.fit(target="gene0", interaction="age")
    with pytest.raises(hc.InputError, match="permutations do not go with"):
        pb.fit(target="gene0", interaction="arm", permutations=99)


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
