"""Damaged and malicious files: refused, no code run, nothing written elsewhere."""

import contextlib
import json
import multiprocessing
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hiercorr as hc
from hiercorr.datasets import read_gmt
from hiercorr.specification import read_specification
from tests.support import fit


class Harm:
    """Unpickled, it writes a file."""

    def __init__(self, where):
        self.where = str(where)

    def __reduce__(self):
        return (os.mkdir, (self.where,))


@pytest.fixture(scope="module")
def result(small_module):
    return fit(small_module)


@pytest.fixture(scope="module")
def small_module():
    from hiercorr.simulate import simulate_counts

    adata, _ = simulate_counts(4, 40, 5, mean=2.0, within=0.4, seed=7)
    return adata


@pytest.mark.parametrize("array", ["correlation", "gene"])
def test_pickles_in_a_result_are_not_run(result, tmp_path, array):
    path, harm = tmp_path / "r.zarr", tmp_path / "harm"
    result.save(path)
    about = json.loads((path / array / ".zarray").read_text()) | {
        "filters": [{"id": "pickle"}],
        "compressor": None,
    }
    (path / array / ".zarray").write_text(json.dumps(about))
    whole = json.loads((path / ".zmetadata").read_text())
    whole["metadata"][f"{array}/.zarray"] = about
    (path / ".zmetadata").write_text(json.dumps(whole))
    for chunk in (path / array).glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Harm(harm)))
    with pytest.raises(hc.InputError, match=r"could run code|is damaged"):
        hc.load(path)
    assert not harm.exists()


def test_pickles_in_counts_are_not_run(small_module, tmp_path):
    path, harm = tmp_path / "d.zarr", tmp_path / "harm"
    small_module.write_zarr(path)
    found = next(
        f for f in path.rglob("*") if f.name in (".zarray", "zarr.json") and "obs" in str(f)
    )
    found.write_text(json.dumps({"id": "pickle", "codecs": [{"name": "pickle"}]}))
    with pytest.raises(hc.InputError, match="could run code"):
        hc.CSCore(path, "sample")
    assert not harm.exists()


def damage(path, where, length, cut):
    """Bytes of a file, or of one of a folder's files, cut off or overwritten."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    file = files[int(where * (len(files) - 1))]
    content = bytearray(file.read_bytes())
    at = int(where * max(len(content) - 1, 0))
    file.write_bytes(
        content[:at] if cut else content[:at] + b"\x00\xff" * length + content[at + 2 * length :]
    )


def copied(folder, name, write):
    """Return a new copy of what is written once."""
    whole, path = folder / f"whole-{name}", folder / name
    if not whole.exists():
        write(whole)
    if path.is_dir():
        shutil.rmtree(path)
    (shutil.copytree if whole.is_dir() else shutil.copy)(whole, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(where=st.floats(0, 1), length=st.integers(1, 400), cut=st.booleans())
def test_damaged_results_are_refused_or_read(result, tmp_path, suffix, where, length, cut):
    """Bytes cut off or overwritten: our refusal, or a dataset (where the damage hit a value)."""
    path = copied(tmp_path, f"r{suffix}", result.save)
    damage(path, where, length, cut)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert "correlation" in hc.load(path).dataset
    except hc.InputError as error:
        assert "cannot read" in str(error) or "is damaged" in str(error)  # noqa: PT017


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(where=st.floats(0, 1), length=st.integers(1, 400), cut=st.booleans())
def test_damaged_counts_are_refused_or_read(small_module, tmp_path, suffix, where, length, cut):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write = small_module.write_h5ad if suffix == ".h5ad" else small_module.write_zarr
        path = copied(tmp_path, f"d{suffix}", write)
        damage(path, where, length, cut)
        try:
            hc.CSCore(path, "sample", depth="depth")
        except hc.InputError as error:
            assert str(error)  # noqa: PT017


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=300))
def test_any_bytes_as_gene_sets(tmp_path, content):
    path = tmp_path / "sets.gmt"
    path.write_bytes(content)
    try:
        sets = read_gmt(path)
        assert sets
        assert all(isinstance(g, str) for v in sets.values() for g in v)
    except hc.InputError as error:
        assert "sets.gmt" in str(error)  # noqa: PT017


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.text(max_size=200)
    | st.sampled_from(
        ["model = 5", 'model = "CSCore"\nfit = 3', 'model = "CSCore"\n[fit]\ntarget = []']
    )
)
def test_any_text_as_a_specification(tmp_path, content):
    path = tmp_path / "m.toml"
    path.write_text(content, encoding="utf-8", errors="replace")
    try:
        assert read_specification(path).model
    except hc.InputError as error:
        assert str(error)  # noqa: PT017


def test_a_specification_runs_no_code(small_module, tmp_path):
    from click.testing import CliRunner

    from hiercorr.cli import main

    small_module.write_h5ad(tmp_path / "d.h5ad")
    harm = tmp_path / "harm"
    stated = tmp_path / "m.toml"
    for formula in (
        f"~ I(__import__('os').mkdir('{harm}'))",
        f"~ {{open('{harm}', 'w')}}",
        f"~ np.load('{harm}')",
    ):
        stated.write_text(f'model = "Pseudobulk"\n[data]\nformula = "{formula}"\n')
        done = CliRunner().invoke(
            main,
            [
                "fit",
                str(stated),
                str(tmp_path / "d.h5ad"),
                "--sample",
                "sample",
                "--depth",
                "depth",
                "-o",
                str(tmp_path / "r.zarr"),
            ],
        )
        assert done.exit_code == 2
        assert "only columns, arithmetic and functions" in done.output
    assert not harm.exists()
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.usefixtures("undrawn")
def test_names_are_not_paths_and_not_markup(small_module, tmp_path):
    """Names from files neither leave the folder of a result nor become part of a page."""
    hostile = small_module.copy()
    hostile.var_names = ["../../up", "<script>alert(1)</script>", "a/b", "g3", "g4"]
    hostile.obs["sample"] = hostile.obs["sample"].astype(str).map(lambda s: f"../{s}<b>")
    inside = tmp_path / "in"
    inside.mkdir()
    r = fit(hostile, target="../../up", per_sample=True)
    r.save(inside / "r.zarr")
    assert hc.load(inside / "r.zarr").target == "../../up"
    page = hc.report(inside / "r.html", r).read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def _save(arguments):
    path, table = arguments
    import hiercorr as hc

    hc.CorrelationResult(table).save(path, overwrite=True)
    return float(table["correlation"].values[0, 1])


@pytest.fixture(scope="module")
def processes():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_concurrent_saves_leave_one_whole_result(result, tmp_path, suffix, processes):
    path = tmp_path / f"r{suffix}"
    tables = [
        result.dataset.assign(correlation=result.dataset["correlation"] * 0 + k / 10)
        for k in range(4)
    ]
    outcomes = [processes.apply_async(_save, ((path, t),)) for t in tables]
    for outcome in outcomes:
        with contextlib.suppress(OSError):  # another one was moving its result into place
            outcome.get()
    values = hc.load(path).dataset["correlation"].values
    assert len(np.unique(values)) == 1  # of one writer, not of several
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save_into_places_that_cannot_be_written(result):
    for place in ("/proc/r.zarr", "/proc/r.nc"):
        if Path("/proc").is_dir():
            with pytest.raises((OSError, hc.InputError)):
                result.save(place)


@pytest.mark.slow
def test_a_killed_save_leaves_what_was_there(result, tmp_path):
    """The process dies in the middle of writing: the old result stays whole."""
    import subprocess
    import sys

    path = tmp_path / "r.zarr"
    result.save(path)
    before = result.dataset["correlation"].values.copy()
    code = f"""
import os, signal, hiercorr as hc
from hiercorr.runtime.drafts import Draft
Draft.into_place = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
hc.load({str(path)!r}).save({str(path)!r}, overwrite=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -9
    pd.testing.assert_frame_equal(hc.load(path).matrix(), result.matrix())
    np.testing.assert_array_equal(hc.load(path).dataset["correlation"].values, before)
