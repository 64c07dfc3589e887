"""Plots of evidence and of traps."""

import pytest

import hiercorr as hc
from hiercorr import plotting
from tests.plotting.support import ink
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_levels_and_traps(gbm, result):
    between = hc.Pseudobulk(gbm, **VEHICLE, genes=30).fit()
    e = hc.evidence("FTL", within=result, between=between)
    ax = plotting.levels(e)
    assert sum(len(c.get_offsets()) for c in ax.collections) == 29
    figure = hc.traps(gbm, target="FTL", genes=30, **VEHICLE).plot()
    assert len(figure.axes) == 4  # three panels and a colour bar
    assert ink(figure) > 0.02
