"""The demo, check and power commands."""

import numpy as np
import pytest
from click.testing import CliRunner

import hiercorr as hc
from hiercorr.cli import main
from hiercorr.simulate import simulate_counts
from tests.cli.support import run


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("demo")
    assert done.exit_code == 0, done.output
    by_test = {
        line[2:20]: line.split()[-2:] for line in done.output.splitlines() if "units" in line
    }
    assert by_test["6 donors as units,"] == ["75", "89"]  # the last of two: the default
    assert by_test["888 cells as units"] == ["78", "93"]
    assert "pass depth=" not in done.output  # the data have a true depth
    assert (
        done.output.count("'plate' varies within the samples") == 1
    )  # though several fits meet it
    for partner in ("UBE2C", "TOP2A", "KPNA2", "AURKA"):
        assert f"\n {partner}" in done.output
    assert "Partners of CDK1" in (tmp_path / "hiercorr-demo.html").read_text()
    assert "hiercorr analyze" in done.output
    assert (tmp_path / "hiercorr-demo" / "analysis.toml").exists()


def test_check(path):
    done = run("check", path, "--sample", "sample", "--depth", "depth", "--cell-type", "kind=a")
    assert done.exit_code == 0, done.output
    assert "Recommendation:" in done.output
    assert "s4" in done.output


def test_check_of_named_donors(tmp_path):
    data = hc.datasets.path("glioblastoma")
    done = run("check", data, "--sample", "sample_id", "--block", "condition")
    assert "10 samples nested in 2 donors" in done.output
    done = run("check", data, "--sample", "sample_id", "--block", "nothing")
    assert done.exit_code == 2
    assert "unknown block column 'nothing'" in done.output


def test_shrink(tmp_path):
    adata, _ = simulate_counts(5, 100, 14, mean=3.0, within=0.5, seed=1)
    fitted = hc.CSCore(adata, "sample", depth="depth").fit()
    fitted.save(tmp_path / "r.zarr")
    done = run("shrink", tmp_path / "r.zarr", "-o", tmp_path / "s.nc", "--rows", "3")
    assert done.exit_code == 0, done.output
    wanted = fitted.shrink()
    found = hc.load(tmp_path / "s.nc")
    for name in ("lfsr", "shrunken_correlation"):
        np.testing.assert_array_equal(found.dataset[name], wanted.dataset[name])
    best = wanted.pairs(n=3, sort_by="shrunken")
    for a, b in zip(best["gene_a"], best["gene_b"], strict=True):
        assert f"{a}  {b}" in done.output
    assert run("shrink", tmp_path / "r.zarr", "-o", tmp_path / "s.nc").exit_code == 2
    few = hc.CSCore(adata, "sample", depth="depth", genes=8).fit()
    few.save(tmp_path / "few.nc")
    done = run("shrink", tmp_path / "few.nc", "-o", tmp_path / "t.nc")
    assert done.exit_code == 2
    assert "too few to learn how large effects are" in done.output
    assert not (tmp_path / "t.nc").exists()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    hc.by_cell_type(adata, "kind", "sample", depth="depth").save(tmp_path / "types.nc")
    done = run("shrink", tmp_path / "types.nc", "-o", tmp_path / "t.nc")
    assert "has several cell types" in done.output


def test_power(tmp_path):
    done = run("power", "models/power.toml", "--curve", "samples", "--figure", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    assert "5 samples of 300 cells" in done.output
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


def test_command_line():
    done = CliRunner().invoke(
        main,
        ["power", "within", "--cells", "300", "--mean", "0.5", "--rho", "0.3", "--power", "0.9"],
    )
    assert done.exit_code == 0, done.output
    assert "samples of 300 cells" in done.output
    bad = CliRunner().invoke(main, ["power", "within", "--cells", "300"])
    assert bad.exit_code != 0
