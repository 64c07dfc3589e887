"""Plots of a result as methods."""

import inspect

import matplotlib
import matplotlib.pyplot as plt
import pytest

from hiercorr import plotting


def test_every_method_is_a_function_of_plotting(result):
    names = dir(result.plot)
    assert "volcano" in names
    for name in names:
        first = next(iter(inspect.signature(getattr(plotting, name)).parameters))
        assert first == "result"
        assert getattr(result.plot, name).args == (result,)


def test_arguments_are_passed_on(result):
    matplotlib.use("Agg")
    _, ax = plt.subplots()
    assert result.plot.ranked("gene0", n=3, ax=ax) is ax
    assert len(ax.get_yticklabels()) == 3
    plt.close("all")


def test_other_names_are_refused_with_those_there_are(result):
    with pytest.raises(AttributeError, match=r"no plot 'violin'; there are: .*volcano"):
        result.plot.violin  # noqa: B018
