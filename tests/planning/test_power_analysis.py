"""Power against simulation and the size of the test; refusals."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.planning.support import GENES, simulated


@pytest.mark.sampled(6)
@pytest.mark.parametrize("uncertainty", ["hierarchical", "jackknife"])
@pytest.mark.parametrize(
    ("samples", "cells", "mean", "rho", "tau"),
    [(6, 200, 1.0, 0.3, 0.0), (10, 150, 0.4, 0.4, 0.1), (8, 300, 3.0, 0.2, 0.1)],
)
def test_power_within_is_that_of_simulation(samples, cells, mean, rho, tau, uncertainty):
    said = hc.power(
        samples=samples,
        cells=cells,
        mean=mean,
        rho=rho,
        heterogeneity=tau,
        uncertainty=uncertainty,
    )
    found, spread = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(8):
            adata = simulated(seed, samples, cells, mean, rho, heterogeneity=tau)
            r = hc.CSCore(adata, "sample", depth="depth").fit(uncertainty=uncertainty).dataset
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("cells", "rho", "tau"),
    [((400,) * 3, 0.35, 0.0), ((900, 250, 120, 120), 0.4, 0.1), ((260,) * 7, 0.3, 0.1)],
)
def test_power_of_screens_is_that_of_simulation(cells, rho, tau):
    genes, found = 80, []
    screen = {"tests": genes * (genes - 1) // 2, "correlated": genes // 2}
    said = hc.power(cells=cells, mean=1.2, rho=rho, heterogeneity=tau, **screen)
    i = np.arange(0, genes, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(8):
            adata, _ = simulate_counts(
                len(cells), cells, genes, mean=1.2, within=rho, heterogeneity=tau, seed=700 + seed
            )
            q = hc.CSCore(adata, "sample", depth="depth").fit().dataset["q_value"].values
            found.append(q[i, i + 1] < 0.05)
    assert 0.2 < np.mean(found) < 0.98
    assert np.mean(found) == pytest.approx(said.power, abs=0.12)


def test_size_is_alpha():
    for question, options in (
        ("within", {"uncertainty": "jackknife"}),
        ("between", {}),
        ("differential", {}),
    ):
        tiny = hc.power(question, samples=9, cells=500, rho=1e-9, alpha=0.03, **options)
        assert tiny.power == pytest.approx(0.03, rel=1e-3)
    tiny = hc.power(samples=9, cells=500, rho=1e-9, alpha=0.03, heterogeneity=0)
    assert 0.025 < tiny.power < 0.031


def test_unequal_donors_samples_per_donor_and_screens():
    equal = hc.power(cells=[300] * 5)
    assert equal.power == pytest.approx(hc.power(samples=5, cells=300).power)
    assert equal.samples == 5
    assert hc.power(samples=5, cells=100, samples_per_donor=3).power == pytest.approx(equal.power)
    jackknife = hc.power(cells=[2000, 150, 150, 150], uncertainty="jackknife")
    assert jackknife.df < 1
    assert hc.power(cells=[2000, 150, 150, 150]).power > 2 * jackknife.power
    assert "2,000, 150, 150, 150 cells" in str(jackknife)
    assert "donors of 3 samples of" in str(hc.power(samples=5, cells=100, samples_per_donor=3))
    strict = hc.power(samples=5, cells=300, tests=1000)
    screen = hc.power(samples=5, cells=300, tests=1000, correlated=50)
    assert strict.power < screen.power < equal.power
    assert "1,000 tests of 50 such pairs" in str(screen)
    assert hc.power(cells=[300] * 5, rho=None, power=0.9).rho < equal.rho


def test_pairs_need_whole_donors_and_more_tests_more_samples():
    found = hc.power("differential", cells=200, rho=0.3, paired=True, power=0.8)
    assert found.samples % 2 == 0
    many = hc.power("differential", cells=200, rho=0.3, paired=True, power=0.8, tests=1000)
    assert many.samples > found.samples
    assert "in pairs" in str(many)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"question": "causal"}, "question must be one of"),
        ({}, "exactly one of samples, cells"),
        ({"samples": 8, "cells": 100, "power": 0.8}, "exactly one of"),
        ({"cells": [300, 300]}, "cells has 2 numbers, one per donor"),
        ({"cells": [300] * 4, "samples": 5}, "as many as samples=5"),
        ({"cells": [300, 300, 1]}, "cells must be a number of at least 2"),
        ({"question": "between", "cells": [300] * 4}, "cells must be one number"),
        ({"samples": 8, "cells": 100, "tests": 5, "correlated": 9}, "more than tests=5"),
        ({"samples": 8, "cells": 100, "uncertainty": "cluster"}, "uncertainty must be one of"),
        ({"samples": 2, "cells": 100}, "samples must be a number from 3 to 10,000,000, not 2"),
        ({"samples": 8, "cells": 100, "rho": 1.5}, "rho must be a number from -1 to 1, not 1.5"),
        (
            {"samples": 8, "cells": 100, "mean": 0.0},
            "mean must be positive and no more than 10,000,000, not 0.0",
        ),
        ({"samples": 8, "cells": 100, "tests": 0}, "tests must be a number of at least 1, not 0"),
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
