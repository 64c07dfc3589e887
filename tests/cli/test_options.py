"""Options that commands share."""

from tests.cli.support import run


def test_bad_output_is_refused_before_the_work(path, tmp_path):
    done = run("fit", path, "--sample", "sample", "-o", tmp_path / "r.csv")
    assert done.exit_code == 2
    assert "must end in .zarr or .nc" in done.output
