"""Terms that vary between cells and terms that are constant within samples."""

import pytest

import hiercorr as hc
from hiercorr.design.terms import split_terms

KNOWN = ["age", "arm", "state", "phase", "cell size"]


@pytest.mark.parametrize(
    ("formula", "cells", "samples"),
    [
        ("~ age + arm", [], ["age", "arm"]),
        ("state + phase", ["state", "phase"], []),
        (["age", "cell size"], ["`cell size`"], ["age"]),
        ("~ arm * state", ["state", "arm:state"], ["arm"]),
        ("~ 0 + np.log(age)", [], ["np.log(age)"]),
    ],
)
def test_terms_go_with_the_columns_they_use(formula, cells, samples):
    assert split_terms(formula, ["age", "arm"], KNOWN) == (cells, samples)


def test_unknown_columns_are_named():
    with pytest.raises(hc.InputError, match="unknown column in the formula 'ages'; did you mean"):
        split_terms("~ ages", ["age"], KNOWN)
