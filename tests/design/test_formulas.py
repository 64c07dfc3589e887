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


@pytest.mark.parametrize(
    ("text", "fixed", "columns"),
    [
        (None, None, []),
        ("~ age + C(arm)", "~ age + C(arm)", []),
        ("~ condition + (1 | donor)", "~ condition", ["donor"]),
        ("~(1|donor)+condition", "~ condition", ["donor"]),
        ("condition + ( 1 |donor )", "~ condition", ["donor"]),
        ("~ (1 | donor)", "~ 1", ["donor"]),
        ("~ 1 + (1 | donor)", "~ 1", ["donor"]),
        ("~ a * b - a + (1 | donor) + (1 | batch)", "~ a * b - a", ["donor", "batch"]),
        ("~ poly(age, 2) + (1 | `donor (a|b)`)", "~ poly(age, 2)", ["donor (a|b)"]),
        ("~ `a|b` + I((a == 1) | (b == 2))", "~ `a|b` + I((a == 1) | (b == 2))", []),
        ("~ (a + b):c + (1 | Spender)", "~ (a + b):c", ["Spender"]),
        ("~ C(x, levels=['(1 | a)', 'b']) + (1 | d)", "~ C(x, levels=['(1 | a)', 'b'])", ["d"]),
        ("y ~ a + (1 | d)", "y ~ a", ["d"]),
        ("~ a + (1 | größe.x)", "~ a", ["größe.x"]),
    ],
)
def test_random_intercepts_are_split(text, fixed, columns):
    assert formulas.random_intercepts(text) == (fixed, columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("~ a + (a | donor)", r"random effect 'a'; only .* write \(1 \| donor\), and 'a' among"),
        ("~ a + (1 + a | donor)", "random effect '1 \\+ a'"),
        ("~ a + (0 + a | donor)", "random effect '0 \\+ a'"),
        ("~ a + (1 || donor)", r"double bar.*\(1 \| donor\)"),
        ("~ a + (1 | site/donor)", r"nests donor in site; write \(1 \| site\) \+ \(1 \| column\)"),
        ("~ a + (1 | site:donor)", "more than one column; name a column of obs with one label"),
        ("~ a + (1 | site + donor)", "more than one column"),
        ("~ a + (1 | C(donor))", "not a column; name a column of obs"),
        ("~ a + (1 | )", "not a column"),
        ("~ a + ( | donor)", "random effect ''"),
        ("~ a + 1 | donor", r"cannot read formula .*parentheses, as in \(1 \| donor\)"),
        ("~ a - (1 | donor)", "is subtracted"),
        ("~ a:(1 | donor)", "write it as a term of its own"),
        ("~ a * (1 | donor)", "write it as a term of its own"),
        ("~ (a + (1 | donor))", "outside of parentheses"),
        ("~ (1 | donor) + (1 | `donor`)", "two random intercepts of 'donor'"),
        ("~ a + (1 | donor", "cannot read formula"),
        ("~ a) + (1 | donor)", "cannot read formula"),
        ("~ a + + (1 | donor)", "cannot read formula"),
        ("~ a + (1 | donor) +", "cannot read formula"),
    ],
)
def test_other_terms_with_bars_are_refused(text, words):
    with pytest.raises(hc.InputError, match=words):
        formulas.random_intercepts(text)


def test_a_formula_of_fixed_terms_refuses_random_intercepts():
    with pytest.raises(hc.InputError, match=r"random intercept \(1 \| donor\), and only fixed"):
        formulas.parse("~ a + (1 | donor)")
