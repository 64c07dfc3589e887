"""Text written whole or not at all."""

import os

import pytest

import hiercorr as hc
from hiercorr.runtime.files import write_text


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    assert write_text(path, "first") == path
    write_text(path, "zweite, größere")
    assert path.read_text(encoding="utf-8") == "zweite, größere"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_text(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(hc.InputError, match="no folder"):
        write_text(tmp_path / "nowhere" / "a.txt", "")
