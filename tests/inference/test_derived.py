"""Tests and intervals from estimates, standard errors and df."""

import numpy as np
import pytest
from scipy import stats

from hiercorr import inference
from hiercorr.inference import Derivation, PairEstimate, pair_table


def base(dtype=np.float64):
    r = np.array([[0.5, -1.2, 3.0, 0.3, np.nan, 1.0]], dtype)
    se = np.array([[0.1, 0.4, 0.1, np.nan, 0.1, 1e-20]], dtype)
    df = np.array([[6.5, 3.0, 3.0, np.nan, 2.0, 4.0]], dtype)
    return {"correlation_unclipped": r, "se": se, "df": df}


def test_students_t_equals_scipy():
    given = base()
    r, se, df = (given[k][0, :2] for k in ("correlation_unclipped", "se", "df"))
    found = {k: v[0, :2] for k, v in Derivation("t", 0.9, 7)(given).items()}
    half = stats.t.ppf(0.95, df) * se
    np.testing.assert_allclose(found["ci_lower"], np.maximum(r - half, -1), rtol=1e-6)
    np.testing.assert_allclose(found["ci_upper"], np.minimum(r + half, 1), rtol=1e-6)
    np.testing.assert_allclose(found["p_value"], 2 * stats.t.sf(np.abs(r / se), df), rtol=1e-6)
    np.testing.assert_allclose(found["statistic"], r / se, rtol=1e-12)
    np.testing.assert_allclose(found["fisher_z"], [np.arctanh(0.5), np.nan])


def test_the_normal_distribution_equals_scipy():
    found = {k: v[0] for k, v in Derivation("normal", 0.9)(base()).items()}
    half = stats.norm.ppf(0.95) * 0.1
    np.testing.assert_allclose(found["ci_lower"][[0, 2]], [0.5 - half, np.nan])
    np.testing.assert_allclose(found["fisher_z_se"][:2], [0.1 / 0.75, np.nan])
    assert found["df"][:4].tolist()[:3] == [np.inf] * 3
    assert np.isnan(found["df"][3])


def test_p_values_of_cells_equal_scipy():
    z = np.array([[0.0, -1.0, 5.0, 30.0, np.nan]])
    given = {"correlation_unclipped": np.zeros_like(z), "cell_statistic": z}
    found = Derivation(cells=True)(given)["cell_p_value"]
    np.testing.assert_allclose(found, 2 * stats.norm.sf(np.abs(z)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("test", ["t", "normal"])
def test_pairs_without_an_interval_are_found_without_the_intervals(test, dtype):
    follow, given = Derivation(test, 0.95, 7), base(dtype)
    wanted = np.isnan(follow(given)["ci_lower"]) & ~np.isnan(given["correlation_unclipped"])
    known = ~np.isnan(given["correlation_unclipped"])
    np.testing.assert_array_equal(follow.without_limits(given) & known, wanted)
    assert wanted[0].tolist() == [False, False, True, True, False, True]


def test_pairs_without_a_test_have_no_standard_error():
    given = {k: v.copy() for k, v in base().items()}
    given["df"][0, 0] = 0.01  # too few for an interval
    rest = np.zeros(given["se"].shape)
    estimate = PairEstimate(
        given["correlation_unclipped"], given["se"], given["df"], rest, rest, rest
    )
    found = inference.errors_and_df(estimate)
    assert np.isnan(found["se"])[0].tolist() == [True, False, False, True, True, False]
    np.testing.assert_array_equal(np.isnan(found["se"]), np.isnan(found["df"]))
    table = pair_table(estimate, 0.95)
    np.testing.assert_array_equal(np.isnan(table["p_value"]), np.isnan(table["se"]))
