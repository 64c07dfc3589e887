"""The command line: same names as the functions, one-line errors, nothing written on failure."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import hiercorr as hc
from hiercorr.cli import main
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    adata, _ = simulate_counts(4, 60, 8, mean=2, within=0.5, seed=1)
    adata.obs["kind"] = "a"
    where = tmp_path_factory.mktemp("data") / "a.h5ad"
    adata.write_h5ad(where)
    return where


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("demo")
    assert done.exit_code == 0, done.output
    assert "5 patients as units" in done.output
    assert (
        done.output.count("sum over only 300 genes") == 1
    )  # said once, though several fits meet it
    assert "Partners of FTL" in (tmp_path / "hiercorr-demo.html").read_text()


def test_check(path):
    done = run("check", path, "--sample", "sample", "--depth", "depth", "--cell-type", "kind=a")
    assert done.exit_code == 0, done.output
    assert "Recommendation:" in done.output
    assert "s4" in done.output


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
        f"model = 'CSCore'\n[data]\nsample = 'sample'\ndepth = 'depth'\ngenes = ['gene1', 'gene2']\n"
        f"[fit]\nestimator = 'pooled'\n# {path}\n"
    )
    done = run("fit", own, path, "-o", tmp_path / "p.zarr", "--uncertainty", "none", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.output == ""
    ds = hc.load(tmp_path / "p.zarr").dataset
    assert ds.attrs["estimator"] == "pooled"
    assert list(ds["gene"].values) == ["gene1", "gene2"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sample", "sampl"], "unknown sample column 'sampl'; did you mean 'sample'"),
        ([], "--sample is needed"),
        (["--sample", "sample", "--cell-type", "kind"], "must be COLUMN=VALUE"),
        (["--sample", "sample", "--cell-type", "kind=b"], "unknown value"),
        (["--sample", "sample", "--target", "GENE0"], "did you mean 'gene0'"),
        (["--sample", "sample", "--genes", "gene1,gene99"], "unknown gene 'gene99'"),
    ],
)
def test_errors_are_one_line_and_write_nothing(path, tmp_path, arguments, text):
    out = tmp_path / "r.zarr"
    done = run("fit", path, *arguments, "-o", out)
    assert done.exit_code == 2
    errors = [line for line in done.output.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert text in errors[0]
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_bad_output_is_refused_before_the_work(path, tmp_path):
    done = run("fit", path, "--sample", "sample", "-o", tmp_path / "r.csv")
    assert done.exit_code == 2
    assert "must end in .zarr or .nc" in done.output


def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hiercorr.cli",
            "check",
            str(tmp_path / "no.h5ad"),
            "--sample",
            "s",
            "--debug",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "no such file" in done.stderr


def test_import_is_quick():
    code = "import sys, time; t = time.time(); import hiercorr; print(time.time() - t, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split()
    assert float(seconds) < 1
    assert heavy == "False"


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
    ("arguments", "message"),
    [
        (["--formula", "~ kind"], "--formula does not go with this model"),
        (
            ["--model", "pseudobulk", "--uncertainty", "cluster"],
            "--uncertainty does not go with this model",
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


def test_power(tmp_path):
    done = run("power", "models/power.toml", "--curve", "samples", "--figure", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    assert "9 samples of 300 cells" in done.output
    assert (tmp_path / "p.png").stat().st_size > 5000
    options = ("--cells", "300", "--mean", "0.5", "--rho", "0.3", "--power", "0.9")
    done = run("power", "within", *options, "--donor-cost", "1500", "--cell-cost", "0.15")
    assert done.exit_code == 0, done.output
    assert "cost" in done.output
    adata = hc.datasets.glioblastoma()
    adata.write_h5ad(tmp_path / "g.h5ad")
    pilot = (
        "--pilot",
        tmp_path / "g.h5ad",
        "--pair",
        "FTL,FTH1",
        "--sample",
        "sample_id",
        "--depth",
        "total_counts",
    )
    done = run("power", *pilot, "--power", "0.9")
    assert done.exit_code == 0, done.output
    done = run(
        "fit",
        "models/power.toml",
        tmp_path / "g.h5ad",
        "--sample",
        "sample_id",
        "-o",
        tmp_path / "x.zarr",
    )
    assert done.exit_code == 2
    assert "hiercorr power models/power.toml" in done.output
    for bad, text in (
        (("models/within.toml",), "not a question of power"),
        ((*options[:-2], "--samples", "9", "--donor-cost", "5"), "go together"),
        (("--pilot", tmp_path / "g.h5ad"), "needs --pair"),
        (("--samples", "9"), "must be None to be solved for"),
    ):
        done = run("power", *bad)
        assert done.exit_code == 2
        assert text in done.output
