import pytest
from click.testing import CliRunner

from hiercorr.analysis import run
from hiercorr.cli import main


@pytest.fixture(scope="module")
def data(gbm, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "gbm.h5ad"
    gbm.write_h5ad(path)
    return str(path)


def called(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_one_command_from_file_to_report_and_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "figures", lambda *_: {})
    monkeypatch.setattr(run, "report", lambda path, *_, **__: path.write_text("drawn elsewhere"))
    options = ["--sample", "patient_id", "--cell-type", "condition=ctrl", "--target", "FTL"]
    options += ["--genes", "30", "--depth", "total_counts", "--sets", "none"]
    done = called("analyze", data, "-o", tmp_path / "a", *options)
    assert done.exit_code == 0, done.output
    assert "of 29 genes are correlated with FTL" in done.output
    assert "FTL: within" in done.output
    assert (tmp_path / "a" / "report.html").exists()
    again = called("analyze", tmp_path / "a" / "analysis.toml", "-o", tmp_path / "b", "--quiet")
    assert again.exit_code == 0, again.output
    assert "FTL: within" not in again.output
    tables = [(tmp_path / d / "tables" / "ctrl-FTL-within.csv").read_text() for d in "ab"]
    assert tables[0] == tables[1]


def test_messages_are_those_of_the_command_line(data, tmp_path):
    done = called("analyze", data, "-o", tmp_path / "a", "--target", "FTL")
    assert done.exit_code == 2
    assert "--sample" in done.output
    done = called(
        "analyze", data, "-o", tmp_path / "a", "--sample", "patient_id", "--cell-type", "ctrl"
    )
    assert done.exit_code == 2
    assert "--cell-type 'ctrl' must be COLUMN=VALUE, such as 'kind=B cells'" in done.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    done = called(
        "analyze", data, "-o", tmp_path / "mine", "--sample", "patient_id", "--target", "FTL"
    )
    assert done.exit_code == 2
    assert "--output" in done.output
