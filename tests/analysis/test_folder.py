import pytest

import hiercorr as hc
from hiercorr.analysis.folder import Folder, file_name


def test_a_folder_is_taken_up_again_by_the_same_analysis_only(tmp_path):
    path = tmp_path / "a"
    Folder(path, "one", False).close()
    Folder(path, "one", False).close()
    Folder(path, "zero", False).close()  # nothing was estimated: nothing to lose
    Folder(path, "one", False).close()
    (path / "results" / "a.zarr").mkdir()
    with pytest.raises(hc.InputError, match="other options"):
        Folder(path, "two", False)
    kept = path / "notes.txt"
    kept.write_text("mine")
    (path / "tables" / "old.csv").write_text("")
    Folder(path, "one", False, ["B-report.html"]).close()
    (path / "B-report.html").write_text("")
    Folder(path, "two", True).close()
    assert not (path / "B-report.html").exists()
    assert kept.read_text() == "mine"
    assert not (path / "tables" / "old.csv").exists()


def test_files_of_others_are_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(hc.InputError, match=r"mine\.txt"):
            Folder(tmp_path, "one", overwrite)
    with pytest.raises(hc.InputError, match="is a file"):
        Folder(tmp_path / "mine.txt", "one", False)
    with pytest.raises(hc.InputError, match="there is no folder"):
        Folder(tmp_path / "no" / "folder", "one", False)


def test_two_processes_do_not_share_a_folder(tmp_path):
    folder = Folder(tmp_path / "a", "one", False)
    with pytest.raises(hc.InputError, match="another process"):
        Folder(tmp_path / "a", "one", False)
    folder.close()
    Folder(tmp_path / "a", "one", False).close()


def test_names_of_files_are_safe_and_different():
    assert file_name("CD14+ Monocytes") == "CD14+_Monocytes"
    assert "/" not in file_name("../../etc/passwd")
    assert not file_name("..").startswith(".")
    hostile = ["a/b", "a\\b", "a:b", "x" * 200, "x" * 201, "", "T/NK", "T\\NK"]
    assert len({file_name(n) for n in hostile}) == len(hostile)
    assert max(len(file_name(n)) for n in hostile) < 100
