"""Formulas: the columns they use, and expressions that are refused."""

import pytest

import hiercorr as hc
from hiercorr.design import formulas


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("~ age + sex", ["age", "sex"]),
        ("~ 1", []),
        ("~ age * arm", ["age", "arm"]),
        ("~ C(arm, contr.treatment(base='a')) + np.log(age)", ["age", "arm"]),
        ("~ poly(age, 2) + `batch no. 1`", ["age", "batch no. 1"]),
        ("~ I(age ** 2 + weight)", ["age", "weight"]),
    ],
)
def test_columns(text, columns):
    assert formulas.columns(text) == columns


@pytest.mark.parametrize(
    "text",
    [
        "~ open('file')",
        "~ I(age.__class__)",
        "~ np.load('file')",
        "~ I([a for a in age])",
        "~ I((lambda: age)())",
        "~ {age[0]}",
    ],
)
def test_code_is_refused(text):
    with pytest.raises(hc.InputError, match="only columns, arithmetic and functions"):
        formulas.parse(text)


@pytest.mark.parametrize("text", ["~ age +", "y ~ age", "~ age | sex"])
def test_what_is_no_right_side_is_refused(text):
    with pytest.raises(hc.InputError, match="cannot read formula"):
        formulas.parse(text)
