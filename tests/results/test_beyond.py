"""Pairs whose estimate lies beyond -1 or 1 but is tested are in every table, network and plot."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.enrichment import enrich
from hiercorr.modules import find_modules
from hiercorr.results.pairs import estimates
from hiercorr.simulate import simulate_counts
from tests.within.support import two_arms

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def adata():
    """Twelve samples, in which all genes are highly correlated between samples."""
    between = np.full((30, 30), 0.95)
    np.fill_diagonal(between, 1)
    return simulate_counts(12, 60, 30, mean=0.5, between=between, between_sd=0.6, seed=2)[0]


@pytest.fixture(scope="module")
def corrected(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm")
        return model.fit("corrected", seed=1)


def test_rows_follow_p(corrected):
    ds = corrected.dataset
    upper = np.triu_indices(30, 1)
    p = ds["p_value"].values[upper]
    beyond = np.isnan(ds["correlation"].values[upper]) & np.isfinite(p)
    assert beyond.sum() > 20
    table = corrected.pairs()
    assert len(table) == np.isfinite(p).sum()  # the family of the q-values
    np.testing.assert_array_equal(table["p_value"], np.sort(p[np.isfinite(p)]))
    rows = table[table["correlation"].isna()]
    assert len(rows) == beyond.sum()
    assert (rows["correlation_unclipped"].abs() >= 1).all()
    assert rows["flag"].str.contains("out_of_range").all()
    few = corrected.pairs(n=30)
    np.testing.assert_array_equal(few["p_value"], table["p_value"].head(30))
    assert len(corrected.pairs(q=0.05)) == int((table["q_value"] <= 0.05).sum())
    assert len(corrected.pairs(min_correlation=0.99)) >= beyond.sum()


def test_top_is_in_the_order_of_p(corrected):
    table = corrected.top("gene0", n=30)
    assert table["p_value"].dropna().is_monotonic_increasing
    assert table["p_value"].notna().to_numpy()[: table["p_value"].notna().sum()].all()
    assert "correlation_unclipped" in table
    table = hc.CorrelationResult(
        corrected.dataset.assign(correlation=corrected.dataset["correlation_unclipped"])
    ).top("gene0")
    assert "correlation_unclipped" not in table  # none was withheld


def test_network_enrichment_and_modules(corrected):
    graph = corrected.to_networkx(q=0.05)
    table = corrected.pairs(q=0.05)
    assert graph.number_of_edges() == len(table)
    assert table["correlation"].isna().any()
    assert all(abs(d["weight"]) <= 1 for _, _, d in graph.edges(data=True))
    gene = table.loc[table["correlation"].isna(), "gene_a"].iloc[0]
    top = corrected.top(gene, n=30)
    partners = top.index[top["q_value"] < 0.05]
    sets = {"partners": list(partners), "others": list(top.index.difference(partners))}
    found = enrich(corrected, gene, sets, min_size=1)
    assert found.attrs["partners"] == len(partners)
    positive = enrich(corrected, gene, sets, min_size=1, direction="positive")
    r = top.loc[partners]
    wanted = (r["correlation"].fillna(r["correlation_unclipped"]) > 0).sum()
    assert positive.attrs["partners"] == wanted
    weight = np.abs(estimates(corrected.dataset)[corrected.dataset["q_value"].values <= 0.05])
    assert np.nanmax(weight) == 1
    assert len(find_modules(corrected, q=0.05).table)


def test_plots_show_them_at_the_boundary(corrected):
    pytest.importorskip("matplotlib")
    table = corrected.top("gene0", n=10)
    ax = corrected.plot.ranked("gene0", n=10)
    assert len(ax.get_yticklabels()) == 10
    beyond = int(table["correlation"].isna().sum())
    assert beyond > 0
    text = f"estimate beyond -1 or 1 ({beyond:,})"
    assert text in [c.get_label() for c in ax.collections]
    volcano = corrected.plot.volcano()
    points = sum(len(c.get_offsets()) for c in volcano.collections[:3])
    assert points == len(corrected.pairs())
    assert np.isfinite(
        corrected.plot.heatmap(genes=["gene0", *table.index]).images[0].get_array()
    ).all()


def test_evidence_keeps_their_sign(corrected, adata):
    within = hc.CSCore(adata, "sample", depth="depth").fit(target="gene0", uncertainty="jackknife")
    found = hc.evidence("gene0", within=within, between=corrected)
    table = found.table
    beyond = table["between_correlation"].isna() & table["between_p_value"].notna()
    assert beyond.any()
    rows = table[beyond & table["within_correlation"].notna()]
    agree = np.sign(rows["within_correlation"]) == np.sign(rows["between_correlation_unclipped"])
    np.testing.assert_array_equal(rows["sign_agreement"], agree)
    from hiercorr import plotting

    ax = plotting.levels(found)
    assert any("beyond" in c.get_label() for c in ax.collections)


@pytest.mark.parametrize("method", ["regression", "pooled"])
def test_groups_of_a_difference(method):
    data = two_arms(0.0, 0.9, n=4, cells=60, genes=10, seed=2, mean=0.4)
    r = hc.differential(data, "sample", "arm", depth="depth", method=method)
    ds = r.dataset
    shown, unclipped = ds["group_correlation"].values, ds["group_correlation_unclipped"].values
    assert (np.abs(unclipped) >= 1).any()
    assert not (np.abs(shown) >= 1).any()
    inside = np.abs(unclipped) < 1
    np.testing.assert_array_equal(shown[inside], unclipped[inside])
    within = r.dataset.copy(deep=True)
    within["group_correlation_unclipped"] = within["group_correlation"]
    columns = hc.CorrelationResult(within).pairs(q=None).columns
    assert "correlation[a]" in columns
    assert not [c for c in columns if "unclipped[" in c]  # where nothing is withheld
    table = r.pairs()
    assert len(table) >= np.isfinite(ds["p_value"].values[np.triu_indices(10, 1)]).sum()
    for group in "ab":
        needed = table[f"correlation[{group}]"].isna()
        assert (table.loc[needed, f"correlation_unclipped[{group}]"].dropna().abs() >= 1).all()
