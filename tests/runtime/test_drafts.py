"""Drafts of processes that are killed: what had been there is there, and nothing is left behind."""

import os
import signal
import subprocess
import sys

import pytest

import hiercorr as hc
from hiercorr.runtime import drafts
from hiercorr.runtime.drafts import Draft, recover


def complete(path):
    return (path / "complete").exists()


def make(path, text):
    path.mkdir()
    (path / "text").write_text(text)
    (path / "complete").write_text("")


def text_of(path):
    return (path / "text").read_text()


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(drafts, "exchange", lambda a, b: False)
    path = tmp_path / "r.zarr"
    for text in ("first", "second", "third"):
        with Draft(path, complete) as draft:
            make(draft.path, text)
            draft.into_place()
        assert text_of(path) == text
        assert os.listdir(tmp_path) == ["r.zarr"]


def test_an_error_leaves_the_old_folder(tmp_path):
    path = tmp_path / "r.zarr"
    make(path, "old")
    with pytest.raises(FileExistsError), Draft(path, complete) as draft:
        make(draft.path, "new") or make(draft.path, "new")
    assert text_of(path) == "old"
    assert os.listdir(tmp_path) == ["r.zarr"]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from hiercorr.runtime import drafts
from tests.runtime.test_drafts import complete, make
path = Path(sys.argv[1])
drafts.exchange = lambda a, b: False
real, moves = os.replace, []
def replace(a, b):
    if len(moves) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    moves.append(a)
    real(a, b)
os.replace = replace
draft = drafts.Draft(path, complete)
make(draft.path, "new")
if sys.argv[3] == "unfinished":
    (draft.path / "complete").unlink()
draft.into_place()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("moves", "state", "found"),
    [(0, "", "old"), (1, "", "new"), (1, "unfinished", "old"), (2, "", "new")],
)
def test_a_process_killed_between_two_moves_loses_nothing(tmp_path, moves, state, found):
    path = tmp_path / "r.zarr"
    make(path, "old")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), str(moves), state])
    assert done.returncode == -signal.SIGKILL
    if moves == 1:
        assert not path.exists()
        with pytest.warns(hc.DataWarning, match="was interrupted"):
            recover(path, complete)
    assert text_of(path) == found
    with Draft(path, complete) as draft:  # the next write of this name cleans up
        make(draft.path, "next")
        draft.into_place()
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_the_draft_of_a_living_process_is_left_alone(tmp_path):
    path = tmp_path / "r.zarr"
    with Draft(path, complete) as first, Draft(path, complete) as second:
        make(first.path, "first")
        make(second.path, "second")
        first.into_place()
        second.into_place()
    assert text_of(path) == "second"
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_folders_of_the_user_are_left_alone(tmp_path):
    for name in (".r.zarr.backup", ".r.zarr.mine.draft", ".other.zarr.x.draft"):
        make(tmp_path / name, "mine")
    with Draft(tmp_path / "r.zarr", complete) as draft:
        make(draft.path, "new")
        draft.into_place()
    assert len(os.listdir(tmp_path)) == 4
    recover(tmp_path / "none.zarr", complete)
    recover(tmp_path / "nowhere" / "none.zarr", complete)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("door", ["save", "out"])
def test_a_killed_save_or_fit_leaves_no_draft_for_ever(small, tmp_path, door):
    script = (
        "import os, sys, xarray, numpy as np; from pathlib import Path; import hiercorr as hc\n"
        "from hiercorr.results.stream import ZarrOutput\n"
        "xarray.Dataset.to_zarr = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "whole, one = slice(0, 3), np.ones((3, 3))\n"
        "d = xarray.Dataset({n: (('gene', 'partner'), one) for n in ('correlation', 'flag')})\n"
        "d['flag'] = d['flag'].astype('u2')\n"
        "d = d.assign_coords(gene=list('abc'), partner=list('abc'))\n"
        "if sys.argv[1] == 'save': hc.CorrelationResult(d).save('r.zarr')\n"
        "out = ZarrOutput(Path('r.zarr'), [(whole, whole)], 'f4', False)\n"
        "out.write(whole, whole, {'correlation': one}, one.astype('u2'))\n"
        "out.finish(d)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, door],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)) or os.getcwd()},
    )
    assert done.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    from tests.support import fit

    fit(small, target="gene1").save(tmp_path / "r.zarr")
    assert os.listdir(tmp_path) == ["r.zarr"]


@pytest.mark.parametrize("name", ["r.nc", "r.html", "r.csv", "r.xlsx"])
@pytest.mark.usefixtures("undrawn")
def test_a_file_never_replaces_a_folder(small, tmp_path, name):
    from tests.support import fit

    path = tmp_path / name
    make(path, "mine")
    result = fit(small, target="gene1")
    write = {
        "r.nc": lambda: result.save(path, overwrite=True),
        "r.html": lambda: hc.report(path, result),
    }.get(name, lambda: result.to_table(path, overwrite=True))
    with pytest.raises(hc.InputError, match="there is a folder of this name"):
        write()
    assert text_of(path) == "mine"
    assert os.listdir(tmp_path) == [name]
