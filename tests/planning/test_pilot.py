"""Arguments of power from pilot data."""

import warnings

import pytest

import hiercorr as hc
from hiercorr.planning.pilot import pilot
from tests.planning.support import simulated


def test_pilot_gives_arguments():
    adata = simulated(3, 8, 400, 1.5, 0.4, heterogeneity=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pilot(adata, "sample", "gene0", "gene1", depth="depth")
    assert found["mean"] == pytest.approx((1.5, 1.5), rel=0.5)
    assert found["within_sd"] == pytest.approx((0.8, 0.8), rel=0.2)
    assert found["rho"] == pytest.approx(0.4, abs=0.15)
    assert hc.power(**found).power > 0.5
