import pandas as pd
import pytest

import hiercorr as hc
from tests.cli.support import run
from tests.support import VEHICLE


@pytest.fixture(scope="module")
def saved(gbm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    model = hc.CSCore(gbm, genes=15, **VEHICLE)
    pairs, target = model.fit(), model.fit(target="FTL")
    pairs.save(folder / "pairs.zarr")
    target.save(folder / "target.nc")
    return folder, pairs, target


def test_messages_on_results(saved, tmp_path):
    result = saved[0] / "target.nc"
    done = run("show", result, "--q", "0")
    assert "No pairs." in done.output
    assert "Empty" not in done.output
    assert "add them with hiercorr shrink" in run("show", result, "--sort", "shrunken").output
    done = run("export", result, "-o", tmp_path / "t.docx")
    assert "--output" in done.output
    assert "path=" not in done.output


def test_show(saved):
    folder, pairs, _ = saved
    done = run("show", folder / "pairs.zarr", "--rows", "3")
    assert done.exit_code == 0, done.output
    assert "all pairs" in done.output
    first = pairs.pairs(n=1).iloc[0]
    assert first["gene_a"] in done.output
    assert len(done.output.strip().splitlines()) == 3 + 4
    done = run("show", folder / "pairs.zarr", "--target", "FTH1", "--q", "0.05")
    assert str(pairs.top("FTH1", n=1).index[0]) in done.output
    done = run("show", folder / "target.nc")
    assert "target FTL" in done.output
    done = run("show", folder / "pairs.zarr", "--target", "FTH11")
    assert done.exit_code == 2
    assert "FTH1" in done.output
    done = run("show", folder / "pairs.zarr", "--sort", "shrunken")
    assert done.exit_code == 2
    assert "shrink" in done.output


def test_export(saved, tmp_path):
    folder, pairs, target = saved
    done = run("export", folder / "pairs.zarr", "-o", tmp_path / "p.csv", "--q", "0.05")
    assert done.exit_code == 0, done.output
    expected = pairs.pairs(q=0.05)
    assert f"({len(expected)} rows)" in done.output
    assert pd.read_csv(tmp_path / "p.csv")["gene_b"].tolist() == expected["gene_b"].tolist()
    done = run("export", folder / "target.nc", "-o", tmp_path / "t.tsv")
    read = pd.read_csv(tmp_path / "t.tsv", sep="\t", index_col=0)
    assert read.index.tolist() == target.top(n=14).index.tolist()
    done = run("export", folder / "target.nc", "-o", tmp_path / "t.tsv")
    assert done.exit_code == 2
    assert "--overwrite" in done.output
    assert run("export", folder / "target.nc", "-o", tmp_path / "t.doc").exit_code == 2


def test_variability(tmp_path):
    given, out = tmp_path / "g.h5ad", tmp_path / "v.csv"
    hc.datasets.glioblastoma().write_h5ad(given)
    options = ["--sample", "sample_id", "--depth", "total_counts", "--genes", "30"]
    chosen = ["--condition", "condition", "--block", "patient_id", "-o", out]
    done = run("variability", given, *options, *chosen, "--rows", "3")
    assert done.exit_code == 0, done.output
    assert "(30 rows)" in done.output
    table = pd.read_csv(out, index_col="gene")
    expected = hc.differential_variability(
        given, "sample_id", "condition", block="patient_id", depth="total_counts", genes=30
    )
    pd.testing.assert_series_equal(table["p_value"], expected["p_value"])
    assert "exists" in run("variability", given, *options, *chosen).output
    turned = ["--contrast", "ctrl,panobinostat", "--overwrite"]
    assert run("variability", given, *options, *chosen, *turned).exit_code == 0
    done = run(
        "variability", given, *options, "--condition", "patient_id", "-o", tmp_path / "o.csv"
    )
    assert "state one, e.g. --contrast PW" in done.output, done.output
    table = pd.read_csv(out, index_col="gene")["log2_fold_change"]
    assert (table + expected["log2_fold_change"].reindex(table.index)).abs().max() < 1e-6
