"""Regressions and their robust errors against statsmodels and scipy."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from hiercorr.between import crossed, regression
from tests.between.support import BLOCKS, DESIGN, Y

RNG = np.random.default_rng(3)


def test_classical_and_hc3_equal_statsmodels():
    weights = np.vstack([np.eye(3), [0, 1, -2]])
    for errors, kind in (("classical", "nonrobust"), ("hc3", "HC3")):
        found = regression.least_squares(Y, DESIGN, errors=errors).test(weights)
        for j in range(5):
            expected = sm.OLS(Y[:, j], DESIGN).fit(cov_type=kind, use_t=True)
            test = expected.t_test(weights)
            np.testing.assert_allclose(found["beta"][:, j], test.effect, rtol=1e-9)
            np.testing.assert_allclose(found["beta_se"][:, j], test.sd, rtol=1e-9)
            np.testing.assert_allclose(found["beta_p_value"][:, j], test.pvalue, rtol=1e-8)


def test_precision_weights_equal_statsmodels():
    w = RNG.uniform(0.2, 3, Y.shape)
    found = regression.least_squares(Y, DESIGN, w).test(np.eye(3))
    for j in range(5):
        expected = sm.WLS(Y[:, j], DESIGN, w[:, j]).fit()
        np.testing.assert_allclose(found["beta_se"][:, j], expected.bse, rtol=1e-9)
        np.testing.assert_allclose(found["beta_statistic"][:, j], expected.tvalues, rtol=1e-8)


def test_correlated_blocks_equal_generalised_least_squares():
    white = regression.whitener(crossed.correlation_matrix([BLOCKS], [0.6]))
    sigma = np.where(BLOCKS[:, None] == BLOCKS, 0.6, 0.0) + 0.4 * np.eye(12)
    found = regression.least_squares(white @ Y, white @ DESIGN).test(np.eye(3))
    for j in range(5):
        expected = sm.GLS(Y[:, j], DESIGN, sigma).fit()
        np.testing.assert_allclose(found["beta"][:, j], expected.params, rtol=1e-9)
        np.testing.assert_allclose(found["beta_se"][:, j], expected.bse, rtol=1e-9)


def test_cluster_errors():
    # Clusters of one sample: CR2 is HC2.
    found = regression.least_squares(Y, DESIGN, errors="cluster", clusters=np.arange(12)).test(
        np.eye(3)
    )
    for j in range(5):
        np.testing.assert_allclose(
            found["beta_se"][:, j], sm.OLS(Y[:, j], DESIGN).fit(cov_type="HC2").bse, rtol=1e-9
        )
    # Two arms of equal clusters: the difference is a t test of cluster means
    # on (number of clusters - 2) degrees of freedom.
    arm = np.repeat([0.0, 0, 1, 1], 3)
    y = RNG.normal(size=(12, 1)) + RNG.normal(size=4)[BLOCKS][:, None]
    found = regression.least_squares(
        y, np.column_stack([np.ones(12), arm]), errors="cluster", clusters=BLOCKS
    ).test(np.eye(2))
    means = pd.Series(y[:, 0]).groupby(BLOCKS).mean().to_numpy()
    expected = stats.ttest_ind(means[2:], means[:2])
    assert found["beta_df"][1, 0] == pytest.approx(2)
    assert found["beta_statistic"][1, 0] == pytest.approx(expected.statistic)
    assert found["beta_p_value"][1, 0] == pytest.approx(expected.pvalue)
