"""Compiled loops: numbers, names, and the folder of the machine code."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hiercorr
from hiercorr.runtime.compile import _own_folder, parallel
from hiercorr.runtime.workers import compiled_threads


@parallel("out")
def squares(begin, end, x, out):
    """Square every number."""
    for k in range(begin, end):
        out[k] = x[k] * x[k]


@pytest.mark.parametrize("threads", [1, 3])
def test_loops_keep_their_name_and_give_the_numbers_of_numpy(threads):
    assert (squares.__name__, squares.__doc__) == ("squares", "Square every number.")
    x = np.random.default_rng(0).normal(size=1000)
    out = np.empty_like(x)
    with compiled_threads(threads):
        squares(x, out)
    np.testing.assert_array_equal(out, x**2)


CODE = """
import warnings
import numpy as np
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    from hiercorr import kernels
    out = np.empty((3, 3), np.float32)
    kernels.squares.mirror(out)
    import hiercorr.kernels.bayes
print([str(w.message) for w in found if "NUMBA_CACHE_DIR" in str(w.message)])
"""


@pytest.mark.slow
def test_without_a_folder_to_write_the_code_is_kept_in_a_temporary_one(tmp_path):
    package, temporary = tmp_path / "lib" / "hiercorr", tmp_path / "temporary"
    temporary.mkdir()
    source = Path(hiercorr.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    for folder in (package / "runtime", package / "kernels"):
        (folder / "__pycache__").touch()  # a file: not even root can make a folder there
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    env |= {
        "PYTHONPATH": str(tmp_path / "lib"),
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": os.devnull,
    }

    def run():
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, env=env, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    said = run()
    assert said.count("compiled loops are kept in") == 1
    (folder,) = temporary.iterdir()
    assert str(folder) in said
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = sorted(folder.rglob("*.nbc"))
    assert kept
    run()
    assert sorted(folder.rglob("*.nbc")) == kept  # used again


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_a_folder_that_others_can_write_is_not_used(tmp_path):
    mine = _own_folder(tmp_path)
    assert _own_folder(tmp_path) == mine
    mine.chmod(0o777)
    other = _own_folder(tmp_path)
    assert other != mine
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    mine.rmdir()
    mine.symlink_to(other)
    assert _own_folder(tmp_path) not in (mine, other)
