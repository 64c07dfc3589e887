import json
import re
import tomllib

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.analysis import run
from tests.within.support import arms

pytestmark = pytest.mark.slow  # docs/analyze.md runs one in the README's suite
OPTIONS = {
    "sample": "sample_id",
    "target": "FTL",
    "subset": {"condition": "ctrl"},
    "depth": "total_counts",
    "genes": 60,
}


@pytest.fixture
def nothing_drawn(monkeypatch):
    """Figures and reports are tested once; they take most of the time."""

    def write(part, plan, shown, folder, found, choices):
        name = run._report_name(part, run._single(plan))
        (folder.path / name).write_text("\n".join([*found, *choices]))

    monkeypatch.setattr(run, "_write", write)


@pytest.fixture
def no_figures(monkeypatch, undrawn):
    """Reports are written without the plots that other tests draw."""
    monkeypatch.setattr(run, "figures", lambda *_: {})


@pytest.fixture(scope="module")
def of_file(gbm, tmp_path_factory):
    """An analysis of a file, and the folder around it."""
    folder = tmp_path_factory.mktemp("analysis")
    gbm.write_h5ad(folder / "gbm.h5ad")
    opened = plt.get_fignums()  # by other tests of this process
    found = hc.analyze(folder / "gbm.h5ad", folder / "out", **OPTIONS)
    assert plt.get_fignums() == opened
    return found, folder


def test_the_folder_has_all_that_a_paper_needs(of_file):
    found, folder = of_file
    out = folder / "out"
    assert found.folder == out
    assert {p.name for p in out.iterdir()} == {
        "analysis.toml",
        "figures",
        "methods.md",
        "progress.json",
        "references.bib",
        "report.html",
        "results",
        "tables",
    }
    assert hc.load(out / "results" / "FTL-within.zarr").target == "FTL"
    table = pd.read_csv(out / "tables" / "FTL-within.csv", index_col=0)
    np.testing.assert_allclose(table["correlation"], found["within"].top(n=59)["correlation"])
    assert len(pd.read_excel(out / "tables" / "tables.xlsx", sheet_name=None)) == len(
        list((out / "tables").glob("*.csv"))
    )
    for kind in ("pdf", "png"):
        assert (out / "figures" / f"FTL-levels.{kind}").stat().st_size > 5000
    assert (
        b"/Type0" in (out / "figures" / "FTL-levels.pdf").read_bytes()
        or b"/FontFile2" in (out / "figures" / "FTL-levels.pdf").read_bytes()
    )  # TrueType: text that can be edited
    pdf = (out / "figures" / "FTL-levels.pdf").read_bytes()
    page = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", pdf)
    assert float(page[1]) / 72 * 25.4 == pytest.approx(89, abs=0.2)
    html = (out / "report.html").read_text()
    assert html.count("<img") == len(re.findall(r"<figcaption>", html)) > 12
    for sentence in [*found.choices, *found.findings]:
        assert sentence.split("(")[0].strip()[:60] in html
    assert html.index("Key findings") < html.index("Evidence at two levels")
    assert "Su et al. 2023" in (out / "methods.md").read_text()
    assert "@article{cscore" in (out / "references.bib").read_text()


def test_the_findings_are_those_of_the_tables(of_file):
    found, _ = of_file
    part = found.parts[0]
    table = part.results["within"].top(n=59)
    called = int((table["q_value"] < 0.05).sum())
    assert f" {called} of 59 genes are correlated with FTL" in found.findings[0]
    assert str(table.index[0]) in found.findings[0]
    both = part.evidence.counts()["both levels"]
    number = f"{both} genes are" if both > 1 else "1 gene is" if both else "No gene is"
    assert any(s.startswith(f"{number} significant both within and") for s in found.findings)
    assert found.findings[0] in str(found)


def test_its_file_repeats_the_analysis(of_file, nothing_drawn):
    found, folder = of_file
    again = hc.analyze(folder / "out" / "analysis.toml", folder / "again")
    for name, result in found.parts[0].results.items():
        other = again.parts[0].results[name].dataset
        for variable in result.dataset.data_vars:
            np.testing.assert_array_equal(
                np.asarray(result.dataset[variable].values),
                np.asarray(other[variable].values),
                err_msg=f"{name}: {variable}",
            )
    assert again.findings == found.findings
    other = hc.analyze(folder / "out" / "analysis.toml", folder / "other", target="FTH1")
    assert other.plan.target == ["FTH1"]


def test_an_interrupted_analysis_goes_on(of_file, monkeypatch, nothing_drawn):
    found, folder = of_file

    def fit(*_):
        raise AssertionError("everything is there")

    monkeypatch.setattr(run.Steps, "fit", fit)
    again = hc.analyze(folder / "gbm.h5ad", folder / "out", **OPTIONS)
    assert again.findings == found.findings
    with pytest.raises(hc.InputError, match="overwrite=True"):
        hc.analyze(folder / "gbm.h5ad", folder / "out", **{**OPTIONS, "genes": 50})


def test_a_damaged_result_is_computed_again(of_file, nothing_drawn):
    found, folder = of_file
    damaged = folder / "out" / "results" / "FTL-cells.zarr"
    next(p for p in damaged.rglob("*") if p.is_file() and p.name == "0").write_bytes(b"")
    with pytest.warns(hc.DataWarning, match="computed again"):
        again = hc.analyze(folder / "gbm.h5ad", folder / "out", **OPTIONS)
    assert again.findings == found.findings
    assert hc.load(damaged).target == "FTL"


def test_other_data_of_the_same_name_are_noticed(of_file, gbm, nothing_drawn):
    _, folder = of_file
    text = (folder / "out" / "analysis.toml").read_text()
    (folder / "changed.toml").write_text(re.sub("n_cells = .*", "n_cells = 7", text))
    with pytest.warns(hc.DataWarning, match="n_cells was 7 and is 5000"):
        hc.analyze(folder / "changed.toml", folder / "changed")


def test_each_cell_type_and_target_has_a_report(gbm, tmp_path, nothing_drawn):
    found = hc.analyze(
        gbm,
        tmp_path / "out",
        sample="patient_id",
        target=["FTL", "FTH1"],
        cell_type={"condition": ["ctrl", "panobinostat"]},
        depth="total_counts",
        genes=30,
        sets="none",
        progress=False,
    )
    assert [(p.cell_type, p.target) for p in found.parts] == [
        ("ctrl", "FTL"),
        ("ctrl", "FTH1"),
        ("panobinostat", "FTL"),
        ("panobinostat", "FTH1"),
    ]
    html = (tmp_path / "out" / "report.html").read_text()
    for part in found.parts:
        name = f"{part.cell_type}-{part.target}-report.html"
        assert f'href="{name}"' in html
        assert (tmp_path / "out" / name).exists()
        expected = hc.CSCore(
            gbm,
            "patient_id",
            genes=30,
            depth="total_counts",
            subset={"condition": part.cell_type},
        ).fit(target=part.target)
        np.testing.assert_allclose(
            part.results["within"].matrix("p_value"), expected.matrix("p_value")
        )
    with pytest.raises(hc.InputError, match="4 parts"):
        found["within"]
    assert "path" not in tomllib.loads((tmp_path / "out" / "analysis.toml").read_text())["data"]
    with pytest.raises(hc.InputError, match="in memory"):
        hc.analyze(tmp_path / "out" / "analysis.toml", tmp_path / "again")


def test_what_the_data_do_not_allow_is_said_and_the_rest_is_done(tmp_path, nothing_drawn):
    kang = hc.datasets.kang_pbmc()
    found = hc.analyze(
        kang,
        tmp_path / "out",
        sample="donor",
        target="ISG15",
        cell_type={"cell_type": "CD14+ Monocytes"},
        condition="condition",
        depth="total_counts",
        genes=40,
        sets="none",
    )
    part = found.parts[0]
    assert part.results["within"].dataset.attrs["n_donors"] == 2
    assert "differential_condition" in part.results
    assert any("no partner of ISG15 could be tested" in s for s in found.findings)
    assert any(s.startswith("Not done: between") for s in found.findings)
    assert "Not done: between" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_a_cell_type_that_cannot_be_analysed_does_not_end_the_others(gbm, tmp_path, no_figures):
    data = gbm.copy()
    data.obs["type"] = np.where(data.obs["sample_id"] == data.obs["sample_id"].iloc[0], "a", "b")
    options = {"sample": "patient_id", "condition": "condition", "target": "FTL", "sets": "none"}
    options |= {"depth": "total_counts", "genes": 20}
    found = hc.analyze(data, tmp_path / "out", cell_type={"type": ["a", "b"]}, **options)
    first, second = found.parts
    assert first.results == {}
    assert any("b, FTL: Within 9 samples of 5 donors" in s for s in found.findings)
    (why,) = (s for s in found.findings if s.startswith("a, FTL: "))
    assert why.startswith("a, FTL: Not done: design, traps, within, between, cells")
    assert second.design.structure.block == "patient_id"
    assert second.design.facts["n_donors"] == 5
    assert second.design.structure.confounding == ()
    assert {"a-FTL-report.html", "b-FTL-report.html"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    with pytest.raises(hc.InputError, match=r"no correlation could be estimated: .*one sample"):
        hc.analyze(data, tmp_path / "a", cell_type={"type": "a"}, **options)


def test_figures_with_names_of_genes_from_a_column(gbm, tmp_path, monkeypatch, undrawn):
    data = gbm[gbm.obs["condition"] == "ctrl"].copy()
    data.var["symbol"] = data.var_names
    data.var_names = [f"ENSG{j:011d}" for j in range(data.n_vars)]
    options = {**OPTIONS, "gene_names": "symbol", "genes": 20, "sets": "none", "subset": None}
    every = run.figures
    monkeypatch.setattr(run, "figures", lambda *a: {"cells": every(*a)["cells"]})
    found = hc.analyze(data, tmp_path / "a", **options)
    assert {f"FTL-cells.{kind}" for kind in ("pdf", "png")} <= {
        p.name for p in (tmp_path / "a" / "figures").iterdir()
    }
    assert not any(s.startswith("Not done: figure") for s in found.findings)

    def fails(*_, **__):
        raise hc.InputError("no figure today")

    monkeypatch.setattr(every.__globals__["plotting"], "pair_scatter", fails)
    found = hc.analyze(data, tmp_path / "b", **options)
    assert "Not done: figure 'cells'. Reason: no figure today" in found.findings
    assert "no figure today" in (tmp_path / "b" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "FTX"}, "FTX"),
        ({"sample": "patient"}, "patient"),
        ({"cell_type": {"condition": "control"}, "subset": None}, "control"),
        ({"subset": {"condition": "no"}}, "no"),
        ({"sample": None}, "sample= is needed"),
    ],
)
def test_bad_input_leaves_no_folder(gbm, tmp_path, options, said):
    with pytest.raises(hc.InputError, match=said):
        hc.analyze(gbm, tmp_path / "out", **{**OPTIONS, **options})
    assert not (tmp_path / "out").exists()


def test_names_of_genes_and_cell_types_may_hold_anything(tmp_path):
    rng = np.random.default_rng(1)
    names = ["../up", "<script>alert(1)</script>", "$\\frac{$", "=1+1", *map(str, range(16))]
    obs = pd.DataFrame(
        {"donor": np.repeat(list("abcd"), 60), "type": "T/NK <b>"}, index=map(str, range(240))
    )
    adata = ad.AnnData(
        rng.poisson(3.0, (240, 20)).astype(float), obs=obs, var=pd.DataFrame(index=names)
    )
    out = tmp_path / "out"
    hc.analyze(
        adata, out, sample="donor", target="../up", cell_type={"type": "T/NK <b>"}, sets="none"
    )
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert "<script>alert" not in (out / "report.html").read_text()
    assert json.loads((out / "progress.json").read_text())["key"]


KINDS = ["Gene Expression", "Antibody Capture"]


@pytest.fixture(scope="module")
def of_two_types():
    """Genes and proteins; protein j follows gene j."""
    rng = np.random.default_rng(8)
    n, genes, proteins = 480, 20, 5
    z = rng.normal(size=(n, genes))
    own = 0.8 * z[:, :proteins] + 0.6 * rng.normal(size=(n, proteins))
    rna, adt = np.exp(0.3 * rng.normal(size=(2, n, 1)))
    x = np.hstack(
        [rng.poisson(rna * 4 * np.exp(0.6 * z)), rng.poisson(adt * 9 * np.exp(0.6 * own))]
    )
    obs = pd.DataFrame(
        {
            "donor": np.repeat(list("abcdef"), 80),
            "rna": 2000 * rna[:, 0],
            "adt": 90 * adt[:, 0],
        },
        index=[f"cell{i}" for i in range(n)],
    )
    names = [f"g{j}" for j in range(genes)] + [f"p{j}" for j in range(proteins)]
    var = pd.DataFrame({"feature_types": np.repeat(KINDS, [genes, proteins])}, index=names)
    return ad.AnnData(x.astype(np.float32), obs=obs, var=var)


def test_types_of_features_have_their_own_depths(of_two_types, nothing_drawn, tmp_path):
    options = {"sample": "donor", "sets": "none", "modalities": "all"}
    depth = dict(zip(KINDS, ["rna", "adt"], strict=True))
    of_two_types.write_h5ad(tmp_path / "d.h5ad")
    found = hc.analyze(
        tmp_path / "d.h5ad", tmp_path / "a", target=["g1", "p1"], depth=depth, **options
    )
    gene, protein = found.parts
    with_depths = {"modalities": "all", "depth": depth}
    right = hc.CSCore(of_two_types, "donor", **with_depths).fit(target="p1", per_sample=True)
    np.testing.assert_array_equal(
        protein.results["within"].dataset["correlation"], right.dataset["correlation"]
    )
    assert protein.results["within"].top(n=1).index[0] == "g1"
    kinds = protein.results["between"].dataset["feature_type"].values
    assert list(kinds) == list(of_two_types.var["feature_types"])
    assert set(protein.skipped) == {"traps", "cells"}
    assert "is of genes, and 'p1' is another feature" in protein.skipped["cells"]
    alone = hc.CellCorrelation(of_two_types[:, :20].copy(), "donor", depth="rna").fit(target="g1")
    np.testing.assert_array_equal(
        gene.results["cells"].dataset["correlation"], alone.dataset["correlation"]
    )
    assert gene.skipped == {}
    assert gene.design is not None
    assert gene.traps is not None
    assert any("20 features" in line or "24 features" in line for line in found.findings)
    again = hc.analyze(tmp_path / "a" / "analysis.toml", tmp_path / "b", target="p1")
    assert again.plan.depth == depth
    np.testing.assert_array_equal(again["within"].dataset["p_value"], right.dataset["p_value"])
    one = hc.analyze(
        of_two_types,
        tmp_path / "c",
        **{**options, "modalities": KINDS[1]},
        target="p1",
        depth={KINDS[1]: "adt"},
    )
    assert set(one.parts[0].skipped) == {"design", "traps", "cells"}
    with pytest.raises(hc.InputError, match="'p1' is of type 'Antibody Capture', whose features"):
        hc.analyze(of_two_types, tmp_path / "d", sample="donor", target="p1")


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_findings_count_what_depth_alone_explains(tmp_path, nothing_drawn, capsys):
    """Independent genes, one with 4% of the counts: negative correlations with it are of depth."""
    rng = np.random.default_rng(0)
    mean = np.append(np.exp(rng.normal(-1, 1, 79)), 8.0)
    rate = rng.gamma(2, 0.5, (2400, 80)) * mean
    adata = ad.AnnData(
        rng.poisson(rate).astype(np.float32),
        obs=pd.DataFrame({"donor": np.repeat(list("abcdef"), 400)}, [str(k) for k in range(2400)]),
        var=pd.DataFrame(index=[f"g{k}" for k in range(79)] + ["large"]),
    )
    options = {"sample": "donor", "target": "large", "sets": "none", "progress": True}
    found = hc.analyze(adata, tmp_path / "o", **options)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("1 analysis of 2,400 cells x 80 genes: about 10 s, and")
    within = next(s for s in found.findings if s.startswith("Within"))
    assert "no stronger than sequencing depth alone would make them (depth_dependent)" in within


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_a_condition_within_donors_and_one_between_them(gbm, tmp_path, nothing_drawn):
    data = gbm.copy()
    data.obs["sex"] = np.where(
        data.obs["patient_id"].isin(sorted(set(gbm.obs["patient_id"]))[:2]), "f", "m"
    )
    data.obs["third"] = data.obs["patient_id"].cat.codes.map("abcab".__getitem__).astype(str)
    options = {"sample": "patient_id", "target": "FTL", "depth": "total_counts", "genes": 30}
    conditions = ["condition", "sex", "third"]
    found = hc.analyze(data, tmp_path / "a", condition=conditions, sets="none", **options)
    part = found.parts[0]
    assert {"within", "between", "differential_condition", "differential_sex"} <= set(part.results)
    options.pop("sample")
    expected = hc.differential(data, "patient_id", "sex", formula="~ condition", **options)
    np.testing.assert_array_equal(
        part.results["differential_sex"].dataset["p_value"], expected.dataset["p_value"]
    )
    assert "has one sample in group 'c'" in part.skipped["differential_third"]


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_a_condition_of_three_groups_is_tested_as_a_whole(tmp_path, nothing_drawn):
    data = arms((0.1, 0.1, 0.7))
    options = {"sample": "sample", "target": "gene0", "depth": "depth", "sets": "none"}
    found = hc.analyze(data, tmp_path / "a", condition="arm", **options)
    part = found.parts[0]
    assert part.results["differential_arm"].dataset.attrs["test"] == "overall"
    assert any("differs by arm for 1 of 13 genes" in s for s in found.findings)
