"""Locks between processes and threads."""

import subprocess
import sys

import pytest

from hiercorr.runtime.locks import Busy, Lock


def test_one_at_a_time(tmp_path):
    lock = Lock(tmp_path / "lock")
    with pytest.raises(Busy, match="in use by another process"):
        Lock(tmp_path / "lock")
    lock.release()
    assert list(tmp_path.iterdir()) == []
    Lock(tmp_path / "lock").release()
    lock.release()  # twice


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from hiercorr.runtime.locks import Lock\n"
        "lock = Lock(Path(sys.argv[1])); os._exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")])
    assert done.returncode == 3
    assert (tmp_path / "lock").exists()
    Lock(tmp_path / "lock").release()


def test_file_systems_without_locks(tmp_path, monkeypatch):
    import filelock

    def none(self, *args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    Lock(tmp_path / "lock").release()
