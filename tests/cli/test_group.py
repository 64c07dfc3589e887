"""Errors in one line, and the traceback on request."""

import subprocess
import sys

import pytest

from tests.cli.support import run


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


@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hiercorr",
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
