"""Messages of the logger ``hiercorr``: silent by default, steps and times when asked for."""

import logging

import hiercorr as hc
from tests.cli.support import run
from tests.support import fit


def test_silent_unless_asked(small, capfd):
    fit(small)
    out, err = capfd.readouterr()
    assert out == err == ""


def test_steps_and_times(small, caplog):
    with caplog.at_level(logging.INFO, logger="hiercorr"):
        fit(small)
        hc.Pseudobulk(small, "sample", depth="depth").fit()
    texts = [r.getMessage() for r in caplog.records]
    assert any("read" in t and "samples" in t for t in texts)
    assert any("all pairs" in t and "done in" in t for t in texts)
    assert any(t.startswith("Pseudobulk.fit(method='pearson')") for t in texts)


def test_the_command_line_logs_on_request(tmp_path):
    arguments = ("fit", "--sample", "donor", "--depth", "depth", "--target", "CDK1")
    arguments = (arguments[0], hc.datasets.path("ipsc_cycle"), *arguments[1:])
    quiet = run(*arguments, "-o", tmp_path / "a.zarr")
    told = run(*arguments, "-o", tmp_path / "b.zarr", "--verbose")
    assert quiet.exit_code == told.exit_code == 0
    assert "pairs of CDK1" in told.stderr
    assert "pairs of CDK1" not in quiet.stderr
    assert logging.getLogger("hiercorr").level == logging.NOTSET
