"""References of the methods: every one is cited somewhere, short forms are unambiguous."""

import ast
import re
from pathlib import Path

import hiercorr.reporting
from hiercorr.reporting.references import DOIS, REFERENCES, bibtex, cite, cited


def keys_in_use():
    for path in Path(hiercorr.reporting.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            constant = isinstance(node, ast.Constant) and path.stem != "references"
            if constant and node.value in REFERENCES:
                yield node.value


def test_every_reference_is_used():
    assert set(REFERENCES) == set(keys_in_use())


def test_short_forms_are_unambiguous():
    short = [form for form, _ in REFERENCES.values()]
    assert len(set(short)) == len(short)
    assert not [(a, b) for a in short for b in short if a != b and a in b]
    for form, full in REFERENCES.values():
        assert form.split()[-1].isdigit()  # the year
        assert len(full) > 30


def test_full_references_follow_the_text():
    assert cite("cscore", "jackknife") == "Su et al. 2023; Miller 1974"
    found = cited(["as in Miller 1974", "and Su et al. 2023, again Miller 1974"])
    assert [f.split(",")[0] for f in found] == ["Miller 1974", "Su et al. 2023"]
    assert cited(["no reference"]) == []


def test_bibtex_has_the_dois_that_are_known():
    assert set(DOIS) <= set(REFERENCES)
    assert len(set(DOIS.values())) == len(DOIS)
    assert all(re.fullmatch(r"10\.\d{4,5}/\S+", doi) for doi in DOIS.values())
    text = bibtex(["as in Su et al. 2023"])
    assert "doi = {10.1038/s41467-023-40503-7}" in text
    assert text.count("@") == 2  # the package and the paper
