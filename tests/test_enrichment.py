"""Enrichment of gene sets against scipy and gseapy, planted sets, malformed files."""

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.enrichment import enrich, gene_sets, gsea, read_gmt, sum_gene_sets
from hiercorr.reporting.methods_text import methods_text
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_equals_the_hypergeometric(within):
    table = enrich(within, "FTL", direction="positive")
    top = within.top("FTL", n=300)
    partners = set(top.index[(top["q_value"] < 0.05) & (top["correlation"] > 0)])
    background = set(within.genes) - {"FTL"}
    for name, row in table.iterrows():
        genes = set(hc.datasets.hallmark()[name]) & background
        assert (row["size"], row["overlap"]) == (len(genes), len(genes & partners))
        expected = stats.hypergeom.sf(
            row["overlap"] - 1, len(background), len(genes), len(partners)
        )
        assert row["p_value"] == pytest.approx(expected)
    np.testing.assert_allclose(table["q_value"], stats.false_discovery_control(table["p_value"]))


def test_gsea_equals_gseapy(within):
    import gseapy

    found = gsea(within, "FTL", permutations=100, seed=3)
    row = within.top("FTL", n=300)["statistic"].dropna()
    sets = {k: [g for g in v if g in row.index] for k, v in hc.datasets.hallmark().items()}
    direct = gseapy.prerank(
        rnk=row.sort_values(ascending=False),
        gene_sets=sets,
        min_size=5,
        max_size=500,
        permutation_num=100,
        seed=3,
        threads=1,
        outdir=None,
        no_plot=True,
        verbose=False,
    ).res2d.set_index("Term")
    np.testing.assert_allclose(found["es"], direct.loc[found.index, "ES"].astype(float))
    assert found["p_value"].min() >= 1 / 101


def test_a_planted_set_is_found():
    adata, _ = simulate_counts(8, 250, 40, mean=2.0, within=_block(40, 8, 0.6), seed=2)
    r = hc.CSCore(adata, "sample", depth="depth").fit(target="gene0")
    names = [f"gene{j}" for j in range(40)]
    sets = {"planted": names[1:8], "other": names[15:25]}
    assert (
        enrich(r, sets=sets).loc["planted", "p_value"]
        < 1e-4
        < enrich(r, sets=sets).loc["other", "p_value"]
    )
    assert gsea(r, sets=sets).index[0] == "planted"
    summed = sum_gene_sets(
        adata, {"planted": names[:8], "other": names[15:25]}, keep=["gene0"], depth="depth"
    )
    x = adata.X.toarray()
    np.testing.assert_array_equal(
        summed.X.toarray(), np.stack([x[:, 0], x[:, 1:8].sum(1), x[:, 15:25].sum(1)], 1)
    )
    score = hc.CSCore(summed, "sample", depth="hiercorr_depth").fit(target="gene0").top()
    assert score.index[0] == "planted"
    assert score.loc["planted", "ci_lower"] > 0.3
    pb = hc.Pseudobulk(summed, "sample", depth="hiercorr_depth", normalization="cpm").fit(
        target="gene0"
    )
    assert set(pb.genes) == {"gene0", "planted", "other"}


def test_partners_given(within):
    table = enrich(
        within,
        partners=["CTSB", "CTSD", "CTSL"],
        sets={"cathepsins": ["CTSB", "CTSD", "CTSL", "CD14", "CTSS"]},
        min_size=2,
    )
    assert table.loc["cathepsins", "overlap"] == 3
    with pytest.raises(hc.InputError, match="unknown gene among partners 'nothing'"):
        enrich(within, partners=["nothing"])
    with pytest.raises(hc.InputError, match="partners contains 'FTL', the gene whose"):
        enrich(within, "FTL", partners=["FTL", "CTSB"])


def test_background_of_given_partners_is_that_of_the_partners_of_a_gene(within):
    """The target is no possible partner, by whatever route its partners are given."""
    found = enrich(within, "FTL", direction="positive")
    top = within.top("FTL", n=300)
    partners = list(top.index[(top["q_value"] < 0.05) & (top["correlation"] > 0)])
    pairs = [name for name, v in within.dataset.items() if "partner" in v.dims]
    row = within.dataset[pairs].sel(gene=["FTL"])
    alone = hc.CorrelationResult(row.rename(gene="target").rename(partner="gene"))
    for result, gene in ((within, "FTL"), (alone, None), (alone, "FTL")):
        given = enrich(result, gene, partners=partners)
        assert given.attrs["background"] == len(within.genes) - 1
        np.testing.assert_allclose(given["p_value"].loc[found.index], found["p_value"])
    free = enrich(within, partners=partners)
    assert free.attrs["background"] == len(within.genes)


@pytest.fixture(scope="module")
def some_untested():
    """Result in which CDC6 is tested with 93 of 100 genes (NaN for the others)."""
    return hc.Pseudobulk(hc.datasets.ipsc_cycle(), "donor").fit("corrected")


def test_genes_without_a_test_are_not_in_the_background(some_untested):
    r = some_untested
    tested = r.top("CDC6", n=200)["p_value"].dropna().index
    assert len(tested) < len(r.genes) - 1
    partners = list(tested[:12])
    sets = {"half": list(r.genes[::2]), "untested": [*r.genes.difference(tested), *tested[:9]]}
    found = enrich(r, "CDC6", sets, q=0.9)
    given = enrich(r, "CDC6", sets, partners=partners)
    for table in (found, given):
        assert table.attrs["background"] == len(tested)
        assert table.attrs["without"] == "CDC6"
        assert table.loc["untested", "size"] == 9
    m = found.attrs["partners"]
    inside = set(sets["half"]) & set(tested)
    expected = stats.hypergeom.sf(found.loc["half", "overlap"] - 1, len(tested), len(inside), m)
    assert found.loc["half", "p_value"] == pytest.approx(expected)
    assert gsea(r, "CDC6", sets, permutations=10).loc["untested", "size"] == 9
    other = next(g for g in r.genes if g not in tested and g != "CDC6")
    with pytest.raises(hc.InputError, match=f"contains {other!r}, of which no pair with 'CDC6'"):
        enrich(r, "CDC6", sets, partners=[other, *partners])
    free = enrich(r, None, sets, partners=partners)
    estimated = set(r.pairs()["gene_a"]) | set(r.pairs()["gene_b"])
    assert free.attrs["background"] == len(estimated)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a\tb\tG1\nc\td\n", r"line 2 of 's.gmt' is not"),
        ("a\tb\tG1\na\tb\tG2\n", "line 2 of 's.gmt' repeats the set 'a'"),
        ("\n", "contains no gene set"),
    ],
)
def test_malformed_gmt(tmp_path, text, match):
    path = tmp_path / "s.gmt"
    path.write_text(text)
    with pytest.raises(hc.InputError, match=match):
        read_gmt(path)


def test_sets_that_cannot_serve(within, tmp_path):
    with pytest.raises(hc.InputError, match="are the identifiers of one kind"):
        enrich(within, "FTL", sets={"ensembl": ["ENSG01", "ENSG02"]})
    with pytest.raises(hc.InputError, match="is one string"):
        gene_sets({"a": "FTL"})
    with pytest.raises(hc.InputError, match="no such file"):
        gene_sets(tmp_path / "nothing.gmt")
    with pytest.raises(hc.InputError, match="no gene is a partner"):
        enrich(within, "FTL", q=1e-300)
    assert gene_sets({"a": ["x", "x", "y"]}) == {"a": ["x", "y"]}


def _block(n, size, r):
    out = np.eye(n)
    out[:size, :size] = r
    np.fill_diagonal(out, 1)
    return out


def test_layer_of_summed_sets_is_recorded(tmp_path, gbm):
    adata = gbm[:, :60].copy()
    adata.layers["counts"] = adata.X.copy()
    names = list(adata.var_names)
    sets = {"a": names[:20], "b": names[20:40]}
    options = {"keep": names[50:52], "depth": "total_counts"}
    summed = sum_gene_sets(adata, sets, layer="counts", **options)
    summed.write_h5ad(tmp_path / "summed.h5ad")
    for data in (summed, tmp_path / "summed.h5ad"):
        r = hc.CSCore(data, "sample_id", depth="hiercorr_depth").fit()
        assert r.dataset.attrs["gene_sets_layer"] == "counts"
        assert "gene sets entered as summed counts of layer counts: 2" in str(methods_text(r))
    plain = hc.CSCore(sum_gene_sets(adata, sets, **options), "sample_id", depth="hiercorr_depth")
    assert "gene sets entered as summed counts: 2" in str(methods_text(plain.fit()))


def test_antibodies_are_not_genes_of_a_set():
    adata, _ = simulate_counts(5, 60, 30, mean=3, within=0.5, seed=3)
    genes = adata.var_names
    adata.var["feature_types"] = ["Gene Expression"] * 20 + ["Antibody Capture"] * 10
    r = hc.CSCore(adata, "sample", modalities="all").fit(target=genes[25])
    sets = {"a": list(genes[:12]), "b": list(genes[8:30])}
    for table in (
        enrich(r, sets=sets, partners=list(genes[:6])),
        enrich(r, sets=sets, q=1.0),
        gsea(r, sets=sets, permutations=20),
    ):
        assert table.loc["b", "size"] == 12
    with pytest.raises(hc.InputError, match="which is not a gene"):
        enrich(r, sets=sets, partners=[genes[0], genes[22]])
    adata.var["feature_types"] = ["Peaks"] * 20 + ["Antibody Capture"] * 10
    r = hc.CSCore(adata, "sample", modalities="all").fit(target=genes[25])
    for test in (enrich, gsea):
        with pytest.raises(hc.InputError, match="none of the types of features, Peaks, Antibody"):
            test(r, sets=sets)
