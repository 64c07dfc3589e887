"""Every result of every model states what was analysed, in a file, in its text and in a report."""

import re

import anndata as ad
import numpy as np
import pytest

import hiercorr as hc
from hiercorr.counts.selection import Selection
from hiercorr.exploratory.metacells import METACELLS
from hiercorr.reporting.methods_text import methods_text
from hiercorr.reporting.translations import translate
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def data():
    """6 samples of 3 donors, cells of two kinds, and the counts in X, a layer and raw."""
    adata, _ = simulate_counts(6, 90, 15, mean=2.0, within=0.4, seed=3)
    number = adata.obs["sample"].cat.codes
    adata.obs["donor"] = [f"d{k // 2}" for k in number]
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2 == 0, "a", "b")
    adata.obs["arm"] = [f"arm{k % 2}" for k in number]
    adata.layers["umis"] = adata.X.copy()
    adata.raw = adata.copy()
    return adata


def fitted(model, **options):
    return lambda data, **chosen: model(data, "sample", **options, **chosen).fit(target="gene0")


def bayes(data, *, many, **chosen):
    model = hc.BayesianCorrelation(data, "sample", **{"genes": 2, "depth": "depth"} | chosen)
    if many:
        return model.fit_many("gene0", seed=1)
    return model.fit(draws=100, tune=100, chains=2, seed=1)


def aggregated(data, genes=None, block=None, **chosen):
    sums = hc.aggregate(data, "sample", **chosen)
    return hc.Pseudobulk(sums, "sample", genes=genes, block=block).fit(target="gene0")


BLOCK = {"block": "donor"}
# name -> (model, options of the selection that it has)
ALL = {"subset", "layer", "depth", "genes", "min_cells", "small_samples"}
MODELS = {
    "CSCore": (fitted(hc.CSCore), ALL | {"block"}),
    "CSCore, pooled": (
        lambda d, **c: hc.CSCore(d, "sample", **c).fit("pooled"),
        ALL,
    ),
    "signature": (
        lambda d, **c: hc.CSCore(d, "sample", **c).signature(["gene0", "gene1"]),
        ALL | {"block"},
    ),
    "score": (
        lambda d, **c: hc.CSCore(d, "sample", **c).score("depth"),
        ALL | {"block"},
    ),
    "by_cell_type": (
        lambda d, **c: hc.by_cell_type(d, "arm", "sample", **c)["arm0"],
        ALL - {"mask"},
    ),
    "differential": (
        lambda d, **c: hc.differential(d, "sample", "arm", **c),
        ALL | {"block"},
    ),
    "CellCorrelation": (fitted(hc.CellCorrelation), ALL),
    "decompose": (lambda d, **c: hc.decompose(d, "sample", **c), ALL),
    "Pseudobulk": (fitted(hc.Pseudobulk), ALL | {"block"}),
    "aggregate, Pseudobulk": (aggregated, ALL | {"block"}),
    "BayesianCorrelation.fit": (lambda d, **c: bayes(d, many=False, **c), ALL | {"block"}),
    "BayesianCorrelation.fit_many": (lambda d, **c: bayes(d, many=True, **c), ALL),
}
SLOW = {"BayesianCorrelation.fit"}
# option -> (values, attribute of each, words of the Methods text and of repr)
MASK = np.arange(540) % 3 != 0
FACTORS = np.linspace(900.0, 1100.0, 540)
CHOICES = [
    ({}, {"layer": "X", "depth": "row sums", "min_cells": 10, "small_samples": "exclude"}, ""),
    ({"subset": {"kind": "a"}}, {"subset": "kind: a"}, "kind: a"),
    ({"subset": {"kind": ["a", "b"], "donor": "d0"}}, {"subset": "kind: a, b; donor: d0"}, ""),
    ({"subset": MASK}, {"subset": r"selected by a mask, digest \w{12}"}, "selected by a mask"),
    ({"layer": "umis"}, {"layer": "umis"}, "layer umis"),
    ({"layer": "raw"}, {"layer": "raw"}, "counts of raw"),
    ({"depth": "depth"}, {"depth": "depth"}, "recorded sequencing depths"),
    ({"depth": FACTORS}, {"depth": r"given array, digest \w{12}"}, "user-supplied"),
    ({"genes": 12}, {"genes": "12 most highly expressed"}, "the 12 most highly expressed"),
    (
        {"genes": [f"gene{k}" for k in range(13)]},
        {"genes": "13 named"},
        "selected by name",
    ),
    ({"genes": np.arange(15) < 13}, {"genes": "mask of 13"}, "selected by a mask"),
    ({"min_cells": 20}, {"min_cells": 20}, "at least 20 cells"),
    ({"small_samples": "error"}, {"small_samples": "error"}, ""),
    ({"block": "donor"}, {"block": "donor"}, "donor"),
]


def name_of(choice):
    return "-".join(f"{k}={type(v).__name__}" for k, v in choice[0].items()) or "defaults"


def has(options, choice, model):
    few_samples = choice[0].get("subset", {}) if isinstance(choice[0].get("subset"), dict) else {}
    if model == "by_cell_type" and isinstance(choice[0].get("subset"), np.ndarray):
        return False
    if model.startswith("Bayesian") and "genes" in choice[0]:
        return "fit_many" in model
    if "donor" in few_samples:
        return model in ("CSCore", "decompose", "CellCorrelation")
    return set(choice[0]) <= options


CASES = [
    pytest.param(model, choice, id=f"{model}-{name_of(choice)}")
    for model, (_, options) in MODELS.items()
    for choice in CHOICES
    if has(options, choice, model)
    and not (model in SLOW and name_of(choice) not in ("subset=dict", "block=str"))
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("model", "choice"), CASES)
def test_what_was_analysed_is_recorded(data, model, choice):
    chosen, wanted, words = choice
    result = MODELS[model][0](data, **chosen)
    attrs = result.dataset.attrs
    for name, value in wanted.items():
        if model == "by_cell_type" and name == "subset":
            value += "; arm: arm0"
        if model.startswith("Bayesian") and name == "depth" and "depth" not in chosen:
            value = "depth"
        assert re.fullmatch(str(value), str(attrs[name])), (name, attrs[name])
    assert {"layer", "depth", "genes", "min_cells", "small_samples"} <= set(attrs)
    assert ("subset" in attrs) == ("subset" in chosen or model == "by_cell_type")
    assert ("block" in attrs) == ("block" in chosen)
    text = methods_text(result)
    assert words in text
    assert "digest" not in text
    if "subset" in attrs:
        assert attrs["subset"] in repr(result)
        assert attrs["subset"] in str(result.summary(n=1))
    if "layer" in chosen:
        assert f"layer {chosen['layer']}" in repr(result)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "pair",
    [
        ({"subset": {"kind": "a"}}, {"subset": {"kind": "b"}}),
        ({"subset": MASK}, {"subset": ~MASK}),
        ({"subset": MASK}, {"subset": MASK[::-1]}),
        ({"depth": FACTORS}, {"depth": FACTORS[::-1]}),
        ({"layer": "umis"}, {"layer": "raw"}),
    ],
)
def test_files_of_two_subsets_are_told_apart(data, pair, tmp_path):
    loaded = []
    for k, chosen in enumerate(pair):
        hc.CSCore(data, "sample", **chosen).fit().save(tmp_path / f"{k}.nc")
        attrs = hc.load(tmp_path / f"{k}.nc").dataset.attrs
        loaded.append({name: attrs.get(name) for name in Selection("sample").attributes | chosen})
    assert loaded[0] != loaded[1]


def test_the_same_arrays_have_the_same_digest():
    def digests(subset, depth):
        chosen = Selection("sample", subset=subset, depth=depth).attributes
        return chosen["subset"], chosen["depth"]

    assert digests(MASK, FACTORS) == digests(MASK.tolist(), FACTORS.tolist())
    assert digests(MASK, FACTORS) != digests(~MASK, FACTORS)


def test_sets_are_listed_in_one_order():
    listed = Selection("sample", subset={"kind": {"b", "a", "c"}}).attributes["subset"]
    assert listed == "kind: a, b, c"


def test_metacells_and_sums_keep_what_they_were_made_of(data, tmp_path):
    options = {"subset": {"kind": "a"}, "layer": "umis", "depth": "depth"}
    made = hc.metacells(data, "sample", 5, seed=1, **options)
    sums = hc.aggregate(data, "sample", **options)
    for key, adata in ((METACELLS, made), ("hiercorr_pseudobulk", sums)):
        adata.write_h5ad(tmp_path / "a.h5ad")
        kept = ad.read_h5ad(tmp_path / "a.h5ad").uns[key]
        assert (kept["subset"], kept["layer"], kept["depth"]) == ("kind: a", "umis", "depth")
    result = hc.CSCore(made, "sample", depth="depth", min_cells=2).fit()
    assert result.dataset.attrs["metacell_subset"] == "kind: a"
    assert "among those with kind: a; layer umis" in methods_text(result)


def test_tables_and_checks_name_the_cells(data):
    options = {"subset": {"kind": "a"}, "depth": "depth"}
    design = hc.check_design(data, "sample", **options)
    traps = hc.traps(data, "sample", "gene0", **options)
    for found, table in ((design, design.samples), (traps, traps.genes)):
        assert "(kind: a)" in str(found).splitlines()[0]
        assert table.attrs["subset"] == "kind: a"
        assert table.attrs["depth"] == "depth"


def test_differential_expression_names_the_cells(data):
    pytest.importorskip("pydeseq2")
    options = {"subset": {"kind": "a"}, "depth": "depth", "block": "donor"}
    table = hc.differential_expression(data, "sample", "~ arm", ("arm", "arm1", "arm0"), **options)
    assert (table.attrs["subset"], table.attrs["block"]) == ("kind: a", "donor")
    assert "cells (kind: a)" in methods_text(table)


def test_cell_types_of_one_analysis(data, tmp_path):
    types = hc.by_cell_type(data, "arm", "sample", subset={"kind": "a"}, layer="umis")
    attrs = types.dataset.attrs
    assert attrs["subset"] == "kind: a; arm: arm0 | kind: a; arm: arm1"
    assert attrs["cell_type_column"] == "arm"
    assert "2 cell types separately among cells with kind: a; layer umis (" in methods_text(types)
    types.save(tmp_path / "types.nc")


@pytest.mark.usefixtures("undrawn")
def test_sections_of_a_report_have_different_titles(data, tmp_path):
    types = hc.by_cell_type(data, "arm", "sample", fit={"target": "gene0"})
    again = hc.CSCore(data, "sample", 5, subset={"kind": "a"}).fit(target="gene0")
    path = hc.report(tmp_path / "r.html", *types.values(), again, again)
    titles = re.findall(r'<h2 id="result-\d-title">([^<]*)</h2>', path.read_text())
    assert titles == [
        "CS-CORE, within samples (arm: arm0)",
        "CS-CORE, within samples (arm: arm1)",
        "CS-CORE, within samples (kind: a)",
        "CS-CORE, within samples (kind: a), no. 2",
    ]
    assert translate(titles[0], "zh") == "CS-CORE(样本内) (arm: arm0)"
    assert translate(titles[3], "zh") == "CS-CORE(样本内) (kind: a), no. 2"


@pytest.mark.usefixtures("undrawn")
def test_titles_tell_methods_apart(data, tmp_path):
    model = hc.Pseudobulk(data, "sample", genes=5, depth="depth")
    results = [model.fit(target="gene0", method=m) for m in ("ols", "spearman", "spearman")]
    path = hc.report(tmp_path / "r.html", *results)
    titles = re.findall(r'<h2 id="result-\d-title">([^<]*)</h2>', path.read_text())
    assert [t.removeprefix("Correlation between samples") for t in titles] == [
        ", estimator ols",
        ", estimator spearman",
        ", estimator spearman, no. 2",
    ]
    assert translate(titles[1], "zh") == "样本间相关, estimator spearman"


@pytest.mark.usefixtures("undrawn")
def test_the_title_of_a_report_names_the_cells(data, tmp_path):
    options = {"subset": {"kind": "a"}, "depth": "depth"}
    within = hc.CSCore(data, "sample", **options).fit(target="gene0")
    between = hc.Pseudobulk(data, "sample", **options).fit(target="gene0")
    both = hc.evidence("gene0", within, between)
    page = hc.report(tmp_path / "r.html", within, between, evidence=both).read_text()
    assert "<h1>Correlation with gene0 (kind: a)</h1>" in page
    page = hc.report(tmp_path / "r.html", within).read_text()
    assert "<h1>CS-CORE, within samples (kind: a)</h1>" in page
