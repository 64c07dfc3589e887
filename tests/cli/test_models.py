"""Commands that fit models and save results."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.schema import Flag
from hiercorr.simulate import simulate_counts
from tests.cli.support import run


@pytest.mark.usefixtures("undrawn")
def test_fit_and_report(path, tmp_path):
    out = tmp_path / "r.zarr"
    done = run(
        "fit",
        path,
        "--sample",
        "sample",
        "--depth",
        "depth",
        "--target",
        "gene0",
        "--genes",
        "5",
        "-o",
        out,
    )
    assert done.exit_code == 0, done.output
    assert "Saved:" in done.output
    assert hc.load(out).target == "gene0"
    again = run("fit", path, "--sample", "sample", "--depth", "depth", "-o", out)
    assert again.exit_code == 2
    assert "overwrite" in again.output
    done = run("report", out, "-o", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r.html").exists()


def test_fit_from_a_specification(path, tmp_path):
    out = tmp_path / "r.nc"
    done = run(
        "fit", "models/within.toml", path, "--sample", "sample", "--depth", "depth", "-o", out
    )
    assert done.exit_code == 0, done.output
    assert hc.load(out).dataset.attrs["estimator"] == "within"
    own = tmp_path / "mine.toml"
    own.write_text(
        "model = 'CSCore'\n[data]\nsample = 'sample'\ndepth = 'depth'\n"
        f"genes = ['gene1', 'gene2']\n"
        f"[fit]\nestimator = 'pooled'\n# {path}\n"
    )
    done = run("fit", own, path, "-o", tmp_path / "p.zarr", "--uncertainty", "none", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.output == ""
    ds = hc.load(tmp_path / "p.zarr").dataset
    assert ds.attrs["estimator"] == "pooled"
    assert list(ds["gene"].values) == ["gene1", "gene2"]


@pytest.mark.usefixtures("undrawn")
def test_pseudobulk(path, tmp_path):
    out = tmp_path / "between.zarr"
    common = ("--sample", "sample", "--depth", "depth")
    done = run(
        "fit",
        path,
        *common,
        "--model",
        "pseudobulk",
        "--normalization",
        "cpm",
        "--target",
        "gene0",
        "-o",
        out,
    )
    assert done.exit_code == 0, done.output
    assert "Pseudobulk" in done.output
    assert hc.load(out).dataset.attrs["normalization"] == "cpm"
    done = run("fit", "pseudobulk", path, *common, "--permutations", "50", "-o", tmp_path / "p.nc")
    assert done.exit_code == 0, done.output
    assert "exact permutation, 24 arrangements" in done.output
    done = run("report", tmp_path / "p.nc", "-o", tmp_path / "p.html")
    assert "Counts were summed" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("kind", "attribute"), [("plain", "plain"), ("trend+robust", "trend+robust"), ("none", None)]
)
def test_moderated(path, tmp_path, kind, attribute):
    out = tmp_path / "between.nc"
    options = ("--sample", "sample", "--depth", "depth", "--target", "gene0", "--moderated", kind)
    done = run("fit", "pseudobulk", path, *options, "--method", "ols", "-o", out)
    assert done.exit_code == 0, done.output
    assert hc.load(out).dataset.attrs.get("moderated") == attribute


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formula", "~ kind"], "--formula does not apply to this model"),
        (["--moderated", "plain"], "--moderated does not apply to this model"),
        (
            ["--model", "pseudobulk", "--uncertainty", "cluster"],
            "--uncertainty does not apply to this model",
        ),
        (
            ["--model", "pseudobulk", "--formula", "~ kind"],
            "column 'kind' is constant ('a' in all 4 rows)",
        ),
        (["--model", "pseudobulk", "--method", "kendall"], "method must be one of"),
    ],
)
def test_pseudobulk_refusals(path, tmp_path, arguments, message):
    done = run(
        "fit", path, "--sample", "sample", "--depth", "depth", *arguments, "-o", tmp_path / "r.zarr"
    )
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.slow
def test_differential(path, tmp_path):
    import anndata as ad

    adata = ad.read_h5ad(path)
    adata.obs["arm"] = (
        adata.obs["sample"]
        .astype(str)
        .map({"s1": "a", "s2": "a", "s3": "b", "s4": "b"})
        .astype(str)
    )
    given = tmp_path / "arms.h5ad"
    adata.write_h5ad(given)
    options = ["--sample", "sample", "--depth", "depth", "--genes", "6"]
    done = run(
        "differential",
        given,
        *options,
        "--condition",
        "arm",
        "--target",
        "gene0",
        "-o",
        tmp_path / "d.zarr",
    )
    assert done.exit_code == 0, done.output
    assert "Saved:" in done.output
    assert hc.load(tmp_path / "d.zarr").dataset.attrs["condition"] == "arm"
    chosen = ["--condition", "arm", "--uncertainty", "HC2", "-o", tmp_path / "h.zarr"]
    assert run("differential", given, *options, *chosen).exit_code == 0
    assert hc.load(tmp_path / "h.zarr").dataset.attrs["uncertainty"] == "HC2"
    refused = run(
        "differential", given, *options, *chosen[:3], "cluster", "-o", tmp_path / "i.zarr"
    )
    assert "is not available with --method regression" in refused.output
    for contrast, test in (("b,a", "contrast"), ("pairwise", "pairwise"), ("arm[T.b]", "contrast")):
        out = tmp_path / f"{test}{len(contrast)}.zarr"
        chosen = ["--condition", "arm", "--contrast", contrast, "-o", out]
        assert run("differential", given, *options, *chosen).exit_code == 0
        assert hc.load(out).dataset.attrs["test"] == test
    assert (
        "at least"
        in run(
            "differential",
            given,
            *options,
            "--condition",
            "arm",
            "--permutations",
            "3",
            "-o",
            tmp_path / "e.zarr",
        ).output
    )
    stated = tmp_path / "stated.toml"
    text = Path("models/differential.toml").read_text()
    stated.write_text(text.replace("\n[data]\n", '\n[data]\ncondition = "arm"\n'))
    done = run("fit", stated, given, *options, "-o", tmp_path / "f.zarr")
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_cell_types_and_signature(path, tmp_path):
    import xarray as xr

    adata = hc.datasets.glioblastoma()
    where = tmp_path / "g.h5ad"
    adata.write_h5ad(where)
    common = ("--sample", "patient_id", "--depth", "total_counts", "--genes", "12")
    out = tmp_path / "types.zarr"
    done = run(
        "cell-types",
        where,
        *common,
        "--types",
        "condition",
        "--target",
        "FTL",
        "--rows",
        "3",
        "-o",
        out,
    )
    assert done.exit_code == 0, done.output
    assert "ctrl (5 samples)" in done.output
    with xr.open_zarr(out) as saved:
        assert saved.sizes["cell_type"] == 2
    done = run("cell-types", where, *common, "--types", "condition", "-o", tmp_path / "all.nc")
    assert done.exit_code == 0, done.output
    assert "gene_b" in done.output
    out = tmp_path / "s.zarr"
    members = tmp_path / "genes.txt"
    members.write_text("FTL\nFTH1\n")
    done = run("signature", where, *common, "--members", members, "--name", "ferritin", "-o", out)
    assert done.exit_code == 0, done.output
    assert hc.load(out).target == "ferritin"
    done = run("fit", "models/signature.toml", where, *common[:4], "-o", tmp_path / "t.zarr")
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "t.zarr").target == "ferritin"
    column = ("--score", "total_counts", "--name", "size", "--uncertainty", "jackknife")
    done = run("score", where, *common, *column, "-o", tmp_path / "v.zarr")
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "v.zarr").target == "size"
    done = run("fit", "models/score.toml", where, *common[:4], "-o", tmp_path / "w.zarr")
    assert done.exit_code == 2
    assert "unknown score column 'pseudotime'" in done.output
    done = run("fit", "models/cell_types.toml", where, *common[:4], "-o", tmp_path / "u.zarr")
    assert done.exit_code == 2
    assert "unknown cell_type column 'cell_type'" in done.output
    stated = tmp_path / "mine.toml"
    stated.write_text('model = "by_cell_type"\n[data]\ncell_type = "condition"\ngenes = 5\n')
    done = run("fit", stated, where, *common[:4], "-o", tmp_path / "u.zarr")
    assert done.exit_code == 0, done.output


def test_within_adjusted_and_interaction_specifications(tmp_path):
    adata = hc.datasets.glioblastoma()
    adata.obs["percent_mito"] = np.random.default_rng(0).random(adata.n_obs)
    adata.obs["phase"] = np.random.default_rng(1).choice(["G1", "S"], adata.n_obs)
    where = tmp_path / "g.h5ad"
    adata.write_h5ad(where)
    common = (where, "--sample", "sample_id", "--depth", "total_counts", "--target", "FTL")
    done = run(
        "fit", "models/within_adjusted.toml", *common, "--genes", "8", "-o", tmp_path / "a.zarr"
    )
    assert done.exit_code == 0, done.output
    assert "cell terms: percent_mito + phase" in done.output
    done = run("fit", "models/pseudobulk_interaction.toml", *common, "-o", tmp_path / "b.zarr")
    assert done.exit_code == 0, done.output
    assert any(
        "FTL:condition" in str(c)
        for c in hc.load(tmp_path / "b.zarr").dataset["coefficient"].values
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")
def test_command_line(tmp_path):
    from click.testing import CliRunner

    from hiercorr.cli import main

    adata, _ = simulate_counts(4, 50, 3, mean=2.0, within=0.5, seed=1)
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    args = [
        "fit",
        "models/bayesian.toml",
        str(path),
        "--sample",
        "sample",
        "--depth",
        "depth",
        "--genes",
        "gene0,gene1",
    ]
    done = CliRunner().invoke(
        main,
        [*args, "--draws", "150", "--chains", "2", "--seed", "1", "-o", str(tmp_path / "b.zarr")],
    )
    assert done.exit_code == 0, done.output
    back = hc.load(tmp_path / "b.zarr")
    assert back.dataset.attrs["draws"] == 150
    assert json.dumps(back.dataset.attrs["prior_tau"])
    args = [
        "fit",
        str(path),
        "--model",
        "bayesian",
        "--sample",
        "sample",
        "--depth",
        "depth",
        "--target",
        "gene0",
    ]
    grids = [*args, "--method", "grids"]
    done = CliRunner().invoke(main, [*grids, "--seed", "1", "-o", str(tmp_path / "m.nc")])
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "m.nc").target == "gene0"
    assert isinstance(hc.load(tmp_path / "m.nc").top(), pd.DataFrame)
    out = ["-o", str(tmp_path / "n.nc")]
    done = CliRunner().invoke(main, [*grids, *out, "--chains", "2"])
    assert "--chains has no effect with --method grids" in done.output
    done = CliRunner().invoke(main, [*args[:-2], *out, "--method", "grids"])
    assert "--method grids needs --target" in done.output
    # --target alone is that of fit(target=): the same posterior by Markov chains
    short = ["--draws", "100", "--chains", "2", "--seed", "1", "--sd-per-sample"]
    done = CliRunner().invoke(main, [*args, *short, "-o", str(tmp_path / "t.nc")])
    assert done.exit_code == 0, done.output
    found = hc.load(tmp_path / "t.nc")
    assert found.target == "gene0"
    assert found.dataset.attrs["estimator"].startswith("marginal")
    assert "sample_natural_correlation" in found.dataset
    done = CliRunner().invoke(main, [*args, *out, "--correlation-formula", "~ nothing"])
    assert "unknown column in the formula 'nothing'" in done.output
    assert int(Flag.NOT_CONVERGED) == 2048


@pytest.mark.slow
def test_block_weights_and_uncertainty(tmp_path):
    adata, _ = simulate_counts(8, 60, 14, mean=2, within=0.5, seed=1)
    adata.obs["donor"] = [f"d{k // 2}" for k in adata.obs["sample"].cat.codes]
    adata.obs["kind"] = "a"
    adata.obs["log_depth"] = np.log(adata.obs["depth"])
    where = tmp_path / "nested.h5ad"
    adata.write_h5ad(where)
    common = (where, "--sample", "sample", "--depth", "depth", "--block", "donor")
    options = ("--uncertainty", "hierarchical", "--weights", "equal")
    done = run("fit", *common, *options, "-o", tmp_path / "r.nc")
    assert done.exit_code == 0, done.output
    attrs = hc.load(tmp_path / "r.nc").dataset.attrs
    assert (attrs["block"], attrs["n_donors"], attrs["uncertainty"]) == ("donor", 4, "hierarchical")
    done = run("cell-types", *common, *options, "--types", "kind", "-o", tmp_path / "t.nc")
    assert done.exit_code == 0, done.output
    done = run("signature", *common, "--members", "gene0,gene1", "-o", tmp_path / "s.nc")
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "s.nc").dataset.attrs["n_donors"] == 4
    done = run("score", *common, "--score", "log_depth", "--depth-adjust", "-o", tmp_path / "d.nc")
    assert done.exit_code == 2
    assert "explained by the covariates of cells" in done.output
    own = tmp_path / "mine.toml"
    own.write_text(
        "model = 'CSCore'\n[data]\nsample = 'sample'\ndepth = 'depth'\nblock = 'donor'\n"
        "[fit]\nuncertainty = 'hierarchical'\nweights = 'information'\n"
    )
    done = run("fit", own, where, "-o", tmp_path / "own.nc")
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "own.nc").dataset.attrs["block"] == "donor"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_across_cell_types(path, tmp_path):
    import anndata as ad

    data = ad.read_h5ad(path)
    data.obs["type"] = np.where(np.arange(data.n_obs) % 2, "A", "B")
    where, genes = tmp_path / "typed.h5ad", tmp_path / "ligands.txt"
    data.write_h5ad(where)
    genes.write_text("gene0\ngene1\n")
    common = ("--sample", "sample", "--depth", "depth", "--min-cells", "5")
    types = ("--types", "type", "--type-a", "A", "--type-b", "B")
    lists = ("--genes-a", genes, "--genes-b", "gene1,gene2")
    out = tmp_path / "a.zarr"
    done = run("across", where, *common, *types, *lists, "--normalization", "cpm", "-o", out)
    assert done.exit_code == 0, done.output
    assert "2 genes (A)" in done.output
    options = {"depth": "depth", "min_cells": 5, "normalization": "cpm"}
    lists = {"genes_a": ["gene0", "gene1"], "genes_b": ["gene1", "gene2"]}
    model = hc.AcrossCellTypes(data, "sample", "type", ("A", "B"), **options, **lists)
    saved = hc.load(out)
    assert saved.matrix().equals(model.fit().matrix())
    assert "gene_b" in run("show", out).output
    table = tmp_path / "a.csv"
    assert run("export", out, "-o", table).exit_code == 0
    assert len(pd.read_csv(table)) == 4
    report = run("report", out, "-o", tmp_path / "a.html")
    assert report.exit_code == 0, report.output
    assert "no plot" not in report.output
    stated = tmp_path / "mine.toml"
    stated.write_text(
        'model = "AcrossCellTypes"\n[data]\ncell_type = "type"\ntypes = ["A", "B"]\n'
        'pairs = [["gene0", "gene2"]]\nnormalization = "cpm"\n[fit]\nmethod = "spearman"\n'
    )
    done = run("fit", stated, where, *common, "-o", tmp_path / "b.zarr")
    assert done.exit_code == 0, done.output
    assert len(hc.load(tmp_path / "b.zarr")) == 1
    listed = tmp_path / "pairs.tsv"
    listed.write_text("gene_a\tgene_b\ngene0\tgene2\ngene1\tgene2\n")
    done = run("across", where, *common, *types, "--pairs", listed, "-o", tmp_path / "d.zarr")
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "d.zarr").dataset.sizes["pair"] == 2
    done = run("across", where, *common, *types[:4], "--type-b", "a", "-o", tmp_path / "c.zarr")
    assert done.exit_code == 2
    assert "unknown cell type" in done.output
