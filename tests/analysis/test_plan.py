import tomllib

import pytest

import hiercorr as hc
from hiercorr.analysis.plan import as_toml, make_plan, read_plan

HOSTILE = 'a "quoted" \\ name\twith\nlines, é and \x7f'


def test_what_is_written_is_read_again(tmp_path):
    options = {
        "sample": "donor",
        "target": ["A", HOSTILE],
        "cell_type": {"cell type": ["B", HOSTILE]},
        "subset": {HOSTILE: "x", "batch": [1, 2], "kept": True},
        "condition": "arm",
        "formula": '~ C(site, Treatment("a"))',
        "genes": 50,
        "depth": {"Gene Expression": "rna", HOSTILE: "adt"},
        "modalities": ["Gene Expression", HOSTILE],
        "q": 0.1,
        "sets": "none",
    }
    plan = make_plan(options)
    path = tmp_path / "analysis.toml"
    path.write_text(as_toml(plan, {"path": "d.h5ad", "n_cells": 5}, {"numpy": "2"}))
    read, data = read_plan(path)
    assert make_plan(read) == plan
    assert data == {"path": "d.h5ad", "n_cells": 5}
    assert tomllib.loads(path.read_text())["versions"] == {"numpy": "2"}


def test_one_name_is_a_list_of_one():
    plan = make_plan({"sample": "s", "target": "A", "cell_type": {"t": "B"}, "condition": "arm"})
    assert plan.target == ["A"]
    assert plan.condition == ["arm"]
    assert plan.types() == ["B"]
    assert plan.cells("B") == {"t": "B"}
    assert make_plan({"sample": "s", "target": "A"}).types() == [None]
    assert make_plan({"sample": "s", "target": "A"}).cells(None) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sample": None}, "sample= is needed"),
        ({"target": None}, "target= is needed"),
        ({"target": []}, "target= is needed"),
        ({"target": ["A", "A"]}, "names 'A' twice"),
        ({"target": 3}, "a name or a list of names"),
        ({"cell_type": "B cells"}, "mapping from a column"),
        ({"cell_type": {"a": "x", "b": "y"}}, "2 columns"),
        ({"cell_type": {"a": "x"}, "subset": {"a": "y"}}, "one of them"),
        ({"subset": [True, False]}, "make it a column"),
        ({"subset": {"a": {"b": 1}}}, "a label or labels"),
        ({"min_cells": 0}, "min_cells"),
        ({"q": 2}, "q "),
        ({"seed": -1}, "seed"),
        ({"sets": 5}, "sets must be"),
        ({"sets": "no-such.gmt"}, "no-such.gmt"),
        ({"genes": 1.5}, "genes must be"),
        ({"depth": [1.0, 2.0]}, "depth must be a column of obs, or a mapping"),
        ({"depth": {"rna": 3}}, "depth must be a column of obs, or a mapping"),
        ({"modalities": 3}, "modalities must be a name or a list of names"),
        ({"formula": 1}, "formula must be"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, said):
    with pytest.raises((hc.InputError, FileNotFoundError), match=said):
        make_plan({"sample": "s", "target": "A", **options})


@pytest.mark.parametrize("text", ["[analysis", "x = 1", "analysis = 3"])
def test_files_that_are_no_analysis_are_refused(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(hc.InputError, match=r"a\.toml"):
        read_plan(path)
    with pytest.raises(hc.InputError, match="no such file"):
        read_plan(tmp_path / "b.toml")
