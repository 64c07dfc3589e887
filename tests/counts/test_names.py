"""Names of genes from a column of var."""

import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.counts.names import FeatureNames, are_identifiers, name_of, names_from
from tests.support import read_counts

IDS = [f"ENSG{k:011d}" for k in range(6)]


def named(values, index=IDS, kinds=None, **columns):
    var = pd.DataFrame({"symbol": values, **columns}, index=index)
    return names_from(var, "symbol", kinds)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (list("ABCDEF"), list("ABCDEF")),
        (["A", None, np.nan, "", " ", "F "], ["A", *IDS[1:5], "F"]),
        (pd.Categorical(["A", "B", None, "D", "E", "F"]), ["A", "B", IDS[2], "D", "E", "F"]),
        (pd.array(["A", pd.NA, "C", "D", "E", "F"], "string"), ["A", IDS[1], *"CDEF"]),
        (
            ["A", "A", "C", "D", "E", "A"],
            [f"A ({IDS[0]})", f"A ({IDS[1]})", *"CDE", f"A ({IDS[5]})"],
        ),
        (["nan", "nan", "C", "D", "E", "F"], [*IDS[:2], *"CDEF"]),
        (["nan", "B", "C", "D", "E", "F"], ["nan", *"BCDEF"]),  # a gene of the fly
        ([983, 1017, 3, 4, 5, 6], ["983", "1017", "3", "4", "5", "6"]),
        ([983.0, np.nan, 3, 4, 5, 6], ["983", IDS[1], "3", "4", "5", "6"]),
        (pd.Categorical([983, 1017, 3, 4, 5, 6]), ["983", "1017", "3", "4", "5", "6"]),
        (pd.array([983, None, 3, 4, 5, 6], "Int64"), ["983", IDS[1], "3", "4", "5", "6"]),
        ([b"A", b"B", b"C", b"D", b"E", b"F"], list("ABCDEF")),
        ([IDS[1], None, "C", "D", "E", "F"], [f"{IDS[1]} ({IDS[0]})", IDS[1], *"CDEF"]),
    ],
)
def test_columns_of_every_kind(values, wanted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = named(values)
    assert list(found.names) == wanted
    assert len(set(found.names)) == len(IDS)
    shared = {k: v for k, v in found.shared.items() if len(v) > 1}
    assert all(set(v) <= set(wanted) for v in shared.values())


def test_features_of_several_types_may_have_one_name():
    values, kinds = ["CD4", "CD8A", "CD4", "D", "D", "F"], ["gene"] * 2 + ["antibody"] * 4
    found = named(values, kinds=kinds)
    assert list(found.names) == ["CD4", "CD8A", "CD4", f"D ({IDS[3]})", f"D ({IDS[4]})", "F"]
    assert found.shared == {"D": [f"D ({IDS[3]})", f"D ({IDS[4]})"]}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["GRCh38"] * 6, "has 1 different values for 6 genes and does not name them; columns that"),
        ([None] * 6, "has only missing values for 6 genes and does not name them"),
        ([0.5, 1.5, 2, 3, 4, 5], "has numbers, which are not whole and do not name genes"),
        ([1, 1, 2, 3, 4, 5], "has numbers, which repeat and do not name genes"),
        ([True, False, True, True, True, False], "has numbers, which repeat"),
    ],
)
def test_columns_that_name_no_genes(values, text):
    with pytest.raises(hc.InputError, match=rf"gene_names='symbol'.*{text}"):
        named(values, feature_name=list("ABCDEF"), length=3.5)
    with pytest.raises(hc.InputError, match=r"columns that do: 'feature_name'$"):
        named(values, feature_name=list("ABCDEF"), length=3.5)


def test_columns_that_are_not_there():
    var = pd.DataFrame({"gene_symbols": list("ABCDEF")}, index=pd.Index(IDS, name="gene_ids"))
    with pytest.raises(hc.InputError, match=r"gene_names='gene_symbol': unknown column of var '"):
        names_from(var, "gene_symbol")
    with pytest.raises(hc.InputError, match="is the index of var, whose names are used without it"):
        names_from(var, "gene_ids")
    with pytest.raises(hc.InputError, match="var has several columns of this name"):
        names_from(pd.concat([var, var], axis=1), "gene_symbols")


def test_name_of_an_id():
    genes, ids = pd.Index(["A", "B", "C"]), pd.Index(["1", "2", "2"])
    assert [name_of(g, genes, ids) for g in ("A", "1", "2", "D", 3)] == ["A", "A", "2", "D", 3]
    assert name_of("1", genes, None) == "1"
    # a name comes before an id
    assert name_of("A", genes, pd.Index(["1", "A", "2"])) == "A"


@pytest.mark.parametrize(
    ("names", "are"),
    [
        (["ENSG00000141510", "ENSG00000012048.23"], True),
        (["ENSMUSG00000059552", "Trp53", "ENSMUSG00000017146"], True),
        (["TP53", "BRCA1"], False),
        ([], False),
    ],
)
def test_ensembl_ids(names, are):
    assert are_identifiers(pd.Index(names)) is are


def test_what_is_said_of_unknown_names():
    var = pd.DataFrame(
        {"length": 1.0, "feature_types": "Gene Expression", "feature_name": ["CDK1", "FTL"]},
        index=IDS[:2],
    )
    names = FeatureNames(var.index, var=var)
    for asked in ("CDK1", "cdk1"):
        with pytest.raises(hc.InputError) as raised:
            raise names.unknown("target gene", asked)
        assert str(raised.value) == (
            f"unknown target gene {asked!r}, but 'CDK1' is in the column 'feature_name' of var, "
            "which can name the genes: pass gene_names='feature_name'"
        )
    assert "gene_names" not in str(names.unknown("gene", "Gene Expression"))
    shared = FeatureNames(pd.Index(["A (1)", "A (2)"]), shared={"A": ["A (1)", "A (2)"]})
    assert "is the name of several genes: name one of them, as 'A (1)' or 'A (2)'" in str(
        shared.unknown("gene", "A")
    )


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    x = rng.poisson(3, (40, 6)).astype(np.float32)
    var = pd.DataFrame({"symbol": ["A", "B", "B", "D", "E", "F"]}, index=IDS)
    obs = pd.DataFrame({"sample": np.repeat(["s1", "s2"], 20)}, index=[f"c{i}" for i in range(40)])
    return ad.AnnData(x, obs=obs, var=var)


def read(adata, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read_counts(adata, sample="sample", gene_names="symbol", **options)
    return found, [str(w.message) for w in caught if "column 'symbol'" in str(w.message)]


def test_shared_names_are_told_once(small):
    counts, said = read(small)
    assert list(counts.genes) == ["A", f"B ({IDS[1]})", f"B ({IDS[2]})", "D", "E", "F"]
    assert list(counts.ids) == IDS
    assert said == [
        "1 name in the column 'symbol' of var belongs to several genes (B): these genes are told "
        f"apart by their ids, as in 'B ({IDS[1]})' and 'B ({IDS[2]})'"
    ]
    small.var["symbol"] = ["A", "A", "B", "B", "E", "F"]
    _, said = read(small)
    assert re.match(r"2 names in the column .* belong to several genes each \(A, B\)", said[0])


@pytest.mark.parametrize(
    "genes",
    [
        ["D", "A"],
        [IDS[3], IDS[0]],
        ["D", IDS[0]],
        np.array([True, False, False, True, False, False]),
        pd.Series([True, False, False, True, False, False], IDS),
        pd.Series(
            [True, False, True, False, False, False], [IDS[3], IDS[5], IDS[0], *IDS[1:3], IDS[4]]
        ),
        pd.Series(
            [True, False, False, True, False, False],
            ["A", f"B ({IDS[1]})", f"B ({IDS[2]})", "D", "E", "F"],
        ),
    ],
    ids=["names", "ids", "both", "mask", "mask by id", "in another order", "mask by name"],
)
def test_genes_by_name_id_and_mask(small, genes):
    counts, _ = read(small, genes=genes)
    assert sorted(counts.genes) == ["A", "D"]
    assert dict(zip(counts.genes, counts.ids, strict=True)) == {"A": IDS[0], "D": IDS[3]}
    x = counts.toarray()[:, list(counts.genes).index("D")]
    np.testing.assert_array_equal(x, small.X[:, 3])


def test_the_data_are_not_changed_and_later_changes_do_not_matter(small):
    before = small.copy()
    model = hc.CSCore(small, "sample", genes=["A", "D"], gene_names="symbol")
    small.var["symbol"] = list("UVWXYZ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = model.fit(target="E")
    assert (r.target, list(r.genes)) == ("E", ["A", "D", "E"])
    assert r.gene_table()["gene_id"].tolist() == [IDS[0], IDS[3], IDS[4]]
    assert list(before.var_names) == list(small.var_names) == IDS


def test_a_file_renamed_after_the_fact_is_noticed(small, tmp_path):
    small.write_h5ad(tmp_path / "d.h5ad")
    model = hc.CSCore(tmp_path / "d.h5ad", "sample", genes=["A", "D"], gene_names="symbol")
    small.var["symbol"] = ["A", "B", "C", "D", "E", "G"]
    small.write_h5ad(tmp_path / "d.h5ad")
    with pytest.raises(hc.InputError, match="the cells or genes are not the same"):
        model.fit(target="E")


def test_identifiers_that_repeat_are_refused(small):
    small.var_names = [*IDS[:2], IDS[1], *IDS[3:]]
    with pytest.raises(hc.InputError, match="1 gene names occur more than once"):
        read(small)
    small.var["symbol"] = list("ABCDEF")
    counts, _ = read(small)
    assert list(counts.genes) == list("ABCDEF")
    with pytest.raises(hc.InputError, match="unknown gene"):
        read(small, genes=[IDS[1], "A"])


def test_types_of_features(small):
    small.var["feature_types"] = ["Gene Expression"] * 4 + ["Antibody Capture"] * 2
    small.var["symbol"] = ["A", "B", "CD4", "D", "CD4", "F"]
    counts, said = read(small, modalities="all")
    assert said == []
    assert list(counts.genes) == ["A", "B", "CD4", "D", "CD4 (Antibody Capture)", "F"]
    assert list(counts.ids) == IDS
    assert [list(c.ids) for c in counts.by_type()] == [IDS[:4], IDS[4:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone, _ = read(small)
        assert list(alone.genes) == ["A", "B", "CD4", "D"]
        with pytest.raises(hc.InputError, match="'F' is of type 'Antibody Capture', whose"):
            read(small, genes=["A", "F"])
        proteins, _ = read(small, modalities="Antibody Capture")
    assert (list(proteins.genes), list(proteins.ids)) == (["CD4", "F"], IDS[4:])
