"""Disks that are full or read-only: every door names the file or folder and leaves nothing."""

import os
import subprocess
import sys

import pytest

import hiercorr as hc
from tests.support import TESTS, fit

SCRIPT = """
import os, resource, sys, warnings
import hiercorr as hc
from hiercorr.analysis import run
from hiercorr.simulate import simulate_counts
warnings.simplefilter("ignore")
run.figures = lambda *_: {}  # plots are drawn elsewhere, and take most of the time
page = sys.modules["hiercorr.reporting.report"]
page.save = lambda figure, file, *_, **__: file.write(b"<svg/>")
data, _ = simulate_counts(4, 30, 60, mean=2, within=0.4, seed=1)
model = hc.CSCore(data, "sample", depth="depth")
every, one = model.fit(), model.fit(target="gene0")
data.write_h5ad("data.h5ad")
options = {"sample": "sample", "depth": "depth", "target": "gene0", "sets": "none"}
doors = {
    "r.nc": lambda: every.save("r.nc"),
    "r.zarr": lambda: every.save("r.zarr"),
    "streamed.zarr": lambda: model.fit(out="streamed.zarr"),
    "parts": lambda: model.fit(checkpoint="parts"),
    "r.html": lambda: hc.report("r.html", one),
    "t.csv": lambda: every.to_table("t.csv"),
    "t.xlsx": lambda: every.to_table("t.xlsx"),
    "t.parquet": lambda: every.to_table("t.parquet"),
    "analysis": lambda: hc.analyze("data.h5ad", "analysis", progress=False, **options),
}
kind = resource.RLIMIT_FSIZE
hard = resource.getrlimit(kind)[1]
for name, door in doors.items():
    resource.setrlimit(kind, (3_000, hard))  # bytes
    try:
        door()
        raise AssertionError(f"{name} was written")
    except OSError as error:
        assert f"cannot write '{name}" in str(error), (name, error)
    finally:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, hard))
    left = set(os.listdir()) - {"data.h5ad", "parts", "analysis"}
    assert not left, (name, left)
for name, door in doors.items():
    door()
    assert name == "parts" or os.path.exists(name), name
same = hc.load("analysis/results/gene0-within.zarr").matrix()
assert same.equals(one.matrix())
print("every door")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "every door" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "door", ["save", "save zarr", "fit", "report", "table", "analyze", "cli fit", "cli export"]
)
def test_a_folder_without_permission_is_named_before_the_work(small, tmp_path, monkeypatch, door):
    from click.testing import CliRunner

    from hiercorr.cli import main

    small.write_h5ad(tmp_path / "data.h5ad")
    result = fit(small, target="gene1")
    saved, folder = result.save(tmp_path / "saved.zarr"), tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(folder)))
    options = {"sample": "sample", "target": "gene1", "sets": "none"}
    doors = {
        "save": lambda: result.save(folder / "r.nc"),
        "save zarr": lambda: result.save(folder / "r.zarr"),
        "fit": lambda: fit(small, out=folder / "r.zarr"),
        "report": lambda: hc.report(folder / "r.html", result),
        "table": lambda: result.to_table(folder / "t.csv"),
        "analyze": lambda: hc.analyze(tmp_path / "data.h5ad", folder / "a", **options),
    }
    if door in doors:
        with pytest.raises(PermissionError, match=f"no permission to write to .*{folder.name}"):
            doors[door]()
    else:
        given = {
            "cli fit": ["fit", "nowhere.h5ad", "--sample", "sample", "-o", folder / "r.zarr"],
            "cli export": ["export", saved, "-o", folder / "t.csv"],
        }[door]
        done = CliRunner().invoke(main, [str(a) for a in given])
        assert done.exit_code == 2
        assert "no permission to write to the folder" in done.output
    assert list(folder.iterdir()) == []
