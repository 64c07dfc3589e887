"""The cheapest design and the best one within a budget."""

import pytest

import hiercorr as hc
from hiercorr.planning.best_design import best_design
from hiercorr.planning.power_analysis import power_curve


@pytest.mark.slow
def test_curve_and_cheapest_design():
    base = hc.power(samples=8, cells=300)
    curve = power_curve(base, "cells", [50, 100, 400])
    assert curve["power"].is_monotonic_increasing
    cheap = best_design(base, donor_cost=500, cell_cost=0.1)
    assert (cheap["power"] >= 0.8).all()
    assert cheap["cost"].is_monotonic_increasing
    dear = best_design(base, donor_cost=5000, cell_cost=0.1)
    assert dear["samples"].iloc[0] <= cheap["samples"].iloc[0]
    bought = best_design(base, donor_cost=500, cell_cost=0.1, budget=6000)
    assert (bought["cost"] <= 6000).all()
    assert bought["power"].is_monotonic_decreasing


def test_costs_and_axes_are_checked():
    base = hc.power(samples=8, cells=300)
    with pytest.raises(hc.InputError, match="donor_cost must be a number of at least 0"):
        best_design(base, donor_cost=-1, cell_cost=1)
    with pytest.raises(hc.InputError, match="the budget buys no design"):
        best_design(base, donor_cost=100, cell_cost=1, budget=10)
    with pytest.raises(hc.InputError, match="over must be"):
        power_curve(base, "alpha", [0.1])


def test_cost_of_several_samples_per_donor():
    base = hc.power(samples=8, cells=300, samples_per_donor=2)
    first = best_design(base, donor_cost=500, cell_cost=0.1).iloc[0]
    assert first["cost"] == pytest.approx(first["samples"] * (500 + 2 * first["cells"] * 0.1))
    bought = best_design(base, donor_cost=500, cell_cost=0.1, budget=6000)
    assert (bought["cost"] <= 6000).all()
