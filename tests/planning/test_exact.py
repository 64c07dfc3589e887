"""Power by quadrature against scipy, simulation and the size of the test."""

import itertools

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.planning.exact import correlation_test_power, t_test_power

LEVELS = np.array([0.05, 0.01, 1e-4, 1e-8])


@pytest.mark.parametrize("df", [0.7, 1, 2, 3.5, 9, 60, 199, 201, 2000, 20000])
def test_t_tests_against_scipy(df):
    for shift in (0, 0.5, 2, 5):
        c = stats.t.isf(LEVELS / 2, df)
        expected = stats.nct.sf(c, df, shift) + stats.nct.cdf(-c, df, shift)
        known = np.isfinite(expected)
        found = t_test_power(LEVELS, df, shift)
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-5, atol=1e-9)
        assert np.isfinite(found).all()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("df", [1, 2, 3, 12, 80, 3000])
def test_correlation_has_the_level_and_is_a_mixture_of_t_tests(df):
    np.testing.assert_allclose(correlation_test_power(LEVELS, df, 0.0), LEVELS, rtol=1e-8)
    squares = stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df + 1)
    for rho in (-0.3, 0.6, 0.95):
        shifts = rho / np.sqrt(1 - rho**2) * np.sqrt(squares)
        mixture = np.mean([t_test_power(LEVELS, df, s) for s in shifts], 0)
        np.testing.assert_allclose(correlation_test_power(LEVELS, df, rho), mixture, atol=2e-5)


@pytest.mark.parametrize(
    ("samples", "rho", "covariates"),
    [(4, 0.9, 0), (5, 0.9, 0), (6, 0.8, 0), (10, 0.8, 2), (12, 0.7, 0), (30, 0.4, 1), (60, 0.3, 4)],
)
def test_correlation_is_that_of_simulation(samples, rho, covariates):
    rng, n = np.random.default_rng(samples), 100_000
    df = samples - 2 - covariates
    x = rng.normal(size=(samples - 1 - covariates, n))  # residuals, in a basis of their space
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    r = (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))
    p = 2 * stats.t.sf(np.abs(r) * np.sqrt(df / (1 - r**2)), df)
    for level in (0.05, 0.001):
        said = correlation_test_power(np.array([level]), df, rho)[0]
        assert np.mean(p < level) == pytest.approx(said, abs=0.006)


@pytest.mark.parametrize("question", ["between", "within", "differential"])
def test_no_design_is_nan(question):
    """scipy's non-central t was NaN for a quarter of these designs."""
    unequal = {"uncertainty": "jackknife"} if question == "within" else {}
    for samples, cells, mean, rho in itertools.product(
        (6, 20, 50, 400), (50, 2000), (0.2, 5.0), (0.05, 0.4, 0.8, 0.97)
    ):
        options = {"samples": samples, "cells": cells, "mean": mean, "rho": rho, **unequal}
        if question == "between":
            options["between_sd"] = 0.8
        found = hc.power(question, **options).power
        assert 0.05 < found <= 1 + 1e-9, options
        rich = hc.power(question, **options, tests=20000, correlated=50).power
        assert 0 <= rich <= found + 1e-9, options


def test_samples_for_a_power():
    rich = {"cells": 1e6, "mean": 500.0, "between_sd": 5.0}
    assert hc.power("between", rho=0.7, power=0.8, **rich).samples == 13
    assert hc.power("between", samples=5, rho=0.9, **rich).power == pytest.approx(0.673, abs=2e-3)
    ten = hc.power("between", samples=10, rho=0.8, covariates=2, **rich)
    assert ten.power == pytest.approx(0.755, abs=2e-3)
