"""Plots of power curves and designs."""

import numpy as np
import pytest

import hiercorr as hc

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.slow
def test_plots_of_designs_show_their_tables():
    from hiercorr.planning.best_design import best_design
    from hiercorr.planning.power_analysis import around, power_curve

    design = hc.power(samples=8, cells=300, mean=0.5)
    curve = power_curve(design, "samples", around(design, "samples"))
    ax = hc.plotting.power_curve({"a": curve, "b": curve}, goal=0.9)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), curve["power"])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    table = best_design(design, donor_cost=1500, cell_cost=0.15)
    ax = hc.plotting.designs(table)
    assert ax.lines[1].get_xydata().tolist() == [[table["samples"][0], table["cost"][0]]]
    bought = best_design(design, donor_cost=1500, cell_cost=0.15, budget=9000)
    ax = hc.plotting.designs(bought)
    assert ax.get_ylabel() == "power"
    with pytest.raises(hc.InputError, match="no curve is given"):
        hc.plotting.power_curve({})
    for over in ("cells", "mean", "rho", "heterogeneity"):
        assert power_curve(design, over, around(design, over))["power"].between(0, 1).all()
    with pytest.raises(hc.InputError, match="over must be"):
        around(design, "alpha")
