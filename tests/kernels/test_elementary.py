"""Logarithm and exponential of the kernels against those of numpy."""

import numba
import numpy as np

from hiercorr.kernels import elementary


def values_of(function, x):
    @numba.njit(fastmath={"contract"}, error_model="numpy")
    def every(x, out):
        for k in range(len(x)):
            out[k] = function(x[k])

    out = np.empty_like(x)
    every(x, out)
    return out


def test_logarithm_and_exponential_are_those_of_numpy():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            10.0 ** rng.uniform(-300, 300, 20_000),
            1 + rng.normal(0, 1e-3, 2_000),
            [1.0, 2.0, 0.5, np.nan],
        ]
    )
    np.testing.assert_allclose(values_of(elementary.log, x), np.log(x), rtol=5e-16, atol=1e-18)
    x = np.concatenate(
        [-rng.exponential(100, 20_000), rng.uniform(-1, 1, 2_000), [0.0, -700.0, 5.0, np.nan]]
    )
    np.testing.assert_allclose(values_of(elementary.exp, x), np.exp(x), rtol=5e-16, atol=1e-323)
    small = np.array([-710.0, -740.0, -745.0, -746.0, -900.0, -np.inf])
    np.testing.assert_allclose(
        values_of(elementary.exp, small), np.exp(small), rtol=1e-2, atol=5e-324
    )


def test_hyperbolic_functions_are_those_of_numpy():
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [
            rng.uniform(-1, 1, 20_000),
            rng.normal(0, 1e-3, 2_000),
            1 - 10.0 ** -rng.uniform(1, 15, 1_000),
            [0.0],
        ]
    )
    np.testing.assert_allclose(values_of(elementary.atanh, x), np.arctanh(x), rtol=3e-14)
    assert np.isnan(values_of(elementary.atanh, np.array([1.0, -1.0, 1.5, np.inf, np.nan]))).all()
    x = np.concatenate([10.0 ** rng.uniform(-8, 140, 20_000), [0.0]])
    np.testing.assert_allclose(
        values_of(elementary.asinh, x), np.arcsinh(x), rtol=1e-14, atol=2e-15
    )
    assert np.isnan(values_of(elementary.asinh, np.array([np.nan]))).all()
    assert np.isfinite(values_of(elementary.asinh, np.array([np.inf]))).all()
