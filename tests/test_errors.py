"""Exceptions, warnings and the checks that raise them."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr import errors
from hiercorr.errors import between_0_and_1, one_of, unknown_name


def test_kinds():
    assert issubclass(hc.InputError, ValueError)
    assert issubclass(hc.DataWarning, UserWarning)
    assert issubclass(hc.EstimationWarning, UserWarning)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("FTH", ["FTH1", "FTL"], "did you mean 'FTH1'"),
        ("ftl", ["FTH1", "FTL"], "did you mean 'FTL'"),
        ("conditoin", ["age", "condition"], "did you mean 'condition'"),
        ("zzz", ["a", "b"], "'a', 'b'"),
    ],
)
def test_unknown_names_come_with_the_nearest_ones(name, known, hint):
    message = str(unknown_name("gene", name, known))
    assert message.startswith(f"unknown gene {name!r}")
    assert hint in message


def test_choices():
    one_of("method", "bh", ("bh", "by"))
    one_of("method", None, ("bh", None))
    with pytest.raises(hc.InputError, match=r"method must be one of .*'bh', 'by'.*'fdr'"):
        one_of("method", "fdr", ("bh", "by", None))


def test_levels():
    between_0_and_1("confidence", 0.95)
    for value in (0, 1, -0.1, float("nan")):
        with pytest.raises(hc.InputError, match="confidence must lie between 0 and 1"):
            between_0_and_1("confidence", value)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda v: errors.between_0_and_1("x", v), [0.1, 0.5], [True, "0.5", None, 95]),
        (lambda v: errors.number("x", v), [0, -2.5, np.float32(1)], [NAN, INF, "1", None, True]),
        (lambda v: errors.number("x", v, 1, 2), [1, 1.5, 2], [0.99, 2.01]),
        (lambda v: errors.number("x", v, optional=True), [None, 3], ["3"]),
        (lambda v: errors.whole_number("x", v), [1, np.int64(7)], [0, 1.0, "1", True, None]),
        (lambda v: errors.whole_number("x", v, 3, True), [3, None], [2]),
        (lambda v: errors.true_or_false("x", v), [True, False, np.bool_(True)], [1, "yes", None]),
        (lambda v: errors.text("x", v), ["", "name"], [1, None, ["name"]]),
        (lambda v: errors.text("x", v, True), [None], [b"name"]),
        (errors.valid_seed, [None, 0, np.random.default_rng()], [-1, 1.5, True, "1"]),
        (lambda v: errors.without_effect(x=(v, 1000, "y=")), [1000], [100, None, "1000"]),
    ],
)
def test_values_of_options(check, good, bad):
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(hc.InputError) as caught:
            check(value)
        assert str(caught.value).startswith(("x", "seed"))
        assert repr(value) in str(caught.value)
