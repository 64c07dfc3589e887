"""Power: against simulation, against known formulas, and back from what it solves."""

import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import hiercorr as hc
from hiercorr.cli import main
from hiercorr.planning.best_design import best_design
from hiercorr.planning.designs import reliability
from hiercorr.planning.pilot import pilot
from hiercorr.planning.power_analysis import power_curve
from hiercorr.planning.variances import cell_variance
from hiercorr.simulate import simulate_counts

GENES = 60


def simulated(seed, samples, cells, mean, rho, **options):
    adata, _ = simulate_counts(samples, cells, GENES, mean=mean, within=rho, seed=seed, **options)
    return adata


@pytest.mark.parametrize(
    ("samples", "cells", "mean", "rho", "tau"),
    [(6, 200, 1.0, 0.3, 0.0), (10, 150, 0.4, 0.4, 0.1), (8, 300, 3.0, 0.2, 0.1)],
)
def test_power_within_is_that_of_simulation(samples, cells, mean, rho, tau):
    said = hc.power(samples=samples, cells=cells, mean=mean, rho=rho, heterogeneity=tau)
    found, spread = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(8):
            adata = simulated(seed, samples, cells, mean, rho, heterogeneity=tau)
            r = hc.CSCore(adata, "sample", depth="depth").fit().dataset
            i = np.arange(0, GENES, 2)
            found.append(r["p_value"].values[i, i + 1] < 0.05)
            spread.append(r["correlation_unclipped"].values[i, i + 1] - rho)
    assert np.mean(found) == pytest.approx(said.power, abs=0.12)
    assert np.std(spread) == pytest.approx(said.standard_error, rel=0.25)


def test_power_between_is_that_of_simulation():
    said = hc.power("between", samples=12, cells=200, mean=0.5, rho=0.7)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(12):
            adata, _ = simulate_counts(12, 200, GENES, mean=0.5, between=0.7, seed=seed)
            p = (
                hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm")
                .fit()
                .dataset["p_value"]
                .values
            )
            i = np.arange(0, GENES, 2)
            found.append(p[i, i + 1] < 0.05)
    assert np.mean(found) == pytest.approx(said.power, abs=0.1)


def test_size_is_alpha():
    for question in ("within", "between", "differential"):
        tiny = hc.power(question, samples=9, cells=500, rho=1e-9, alpha=0.03)
        assert tiny.power == pytest.approx(0.03, rel=1e-3)


def test_cell_variance_of_rich_normal_like_genes():
    # many counts, little spread: expression is seen itself, and a correlation has variance (1 - rho^2)^2 a cell
    for rho in (0.0, 0.5):
        assert cell_variance((1e6, 1e6), (0.05, 0.05), rho, 0.0) == pytest.approx(
            (1 - rho**2) ** 2, rel=0.05
        )


@pytest.mark.parametrize("question", ["within", "between", "differential"])
@pytest.mark.parametrize("solved", ["samples", "cells", "rho", "mean"])
def test_what_is_solved_reaches_the_power(question, solved):
    rho = 0.6 if question == "between" else 0.25
    given = {"samples": 16, "cells": 150, "mean": 0.8, "rho": rho}
    found = hc.power(question, **{**given, solved: None}, power=0.6)
    assert found.power >= 0.6 - 0.02
    value = getattr(found, solved)
    if solved in ("samples", "cells"):
        assert isinstance(value, int)
        assert hc.power(question, **{**given, solved: value - 1}).power < 0.6
    else:
        assert found.power == pytest.approx(
            0.6, abs=0.02
        )  # what a cell tells comes from a draw of counts


def test_pairs_need_whole_donors_and_more_tests_more_samples():
    found = hc.power("differential", cells=200, rho=0.3, paired=True, power=0.8)
    assert found.samples % 2 == 0
    many = hc.power("differential", cells=200, rho=0.3, paired=True, power=0.8, tests=1000)
    assert many.samples > found.samples
    assert "in pairs" in str(many)


def test_heterogeneity_that_is_tolerated():
    found = hc.power(samples=10, cells=400, mean=1.0, rho=0.3, heterogeneity=None, power=0.8)
    assert 0 < found.heterogeneity < 0.5


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


def test_pilot_gives_arguments():
    adata = simulated(3, 8, 400, 1.5, 0.4, heterogeneity=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pilot(adata, "sample", "gene0", "gene1", depth="depth")
    assert found["mean"] == pytest.approx((1.5, 1.5), rel=0.5)
    assert found["within_sd"] == pytest.approx((0.8, 0.8), rel=0.2)
    assert found["rho"] == pytest.approx(0.4, abs=0.15)
    assert hc.power(**found).power > 0.5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"question": "causal"}, "question must be one of"),
        ({}, "exactly one of samples, cells"),
        ({"samples": 8, "cells": 100, "power": 0.8}, "exactly one of"),
        ({"samples": 2, "cells": 100}, "samples=2 must lie between 3"),
        ({"samples": 8, "cells": 100, "rho": 1.5}, "rho=1.5 must lie"),
        ({"samples": 8, "cells": 100, "mean": 0.0}, "mean=0.0 must be positive"),
        ({"samples": 8, "cells": 100, "tests": 0}, "tests=0"),
        (
            {"question": "differential", "samples": 8, "cells": 100, "rho": 0.6, "baseline": 0.7},
            "is no correlation",
        ),
        ({"samples": 3, "power": 0.99, "rho": 0.05}, "more samples are needed"),
        (
            {"question": "between", "samples": 6, "cells": 100, "covariates": 3},
            "degrees of freedom",
        ),
        (
            {"question": "between", "samples": 6, "cells": 100, "heterogeneity": None},
            "no part between",
        ),
    ],
)
def test_refusals(options, text):
    with pytest.raises(hc.InputError, match=text):
        hc.power(**options)


def test_costs_and_axes_are_checked():
    base = hc.power(samples=8, cells=300)
    with pytest.raises(hc.InputError, match="costs must be positive"):
        best_design(base, donor_cost=-1, cell_cost=1)
    with pytest.raises(hc.InputError, match="the budget buys no design"):
        best_design(base, donor_cost=100, cell_cost=1, budget=10)
    with pytest.raises(hc.InputError, match="over must be"):
        power_curve(base, "alpha", [0.1])


def test_command_line():
    done = CliRunner().invoke(
        main,
        ["power", "within", "--cells", "300", "--mean", "0.5", "--rho", "0.3", "--power", "0.9"],
    )
    assert done.exit_code == 0, done.output
    assert "samples of 300 cells" in done.output
    bad = CliRunner().invoke(main, ["power", "within", "--cells", "300"])
    assert bad.exit_code != 0


def test_reliability_is_that_of_the_sums():
    base = hc.power("between", samples=400, cells=100, mean=0.5, rho=0.8)
    said = 0.8 * reliability(0.5, 0.8, base, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata, _ = simulate_counts(400, 100, 8, mean=0.5, between=0.8, depth_shift=0.0, seed=2)
        found = (
            hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm")
            .fit()
            .dataset["correlation"]
            .values
        )
    i = np.arange(0, 8, 2)
    assert said < 0.75
    assert found[i, i + 1].mean() == pytest.approx(said, abs=0.06)
    assert base.df == 398
