"""Negative-binomial regression against statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from hiercorr.between.negative_binomial import negative_binomial
from tests.between.support import DESIGN

RNG = np.random.default_rng(3)


def test_negative_binomial_equals_statsmodels_at_its_dispersion():
    library = np.exp(RNG.normal(8, 0.3, 12))
    mu = library * np.exp(-4 + DESIGN @ [0, 0.5, 0.3])
    counts = RNG.negative_binomial(5, 5 / (5 + mu))[:, None].astype(float)
    found, dispersion = negative_binomial(counts, DESIGN, library, np.eye(3))
    family = sm.families.NegativeBinomial(alpha=dispersion[0])
    expected = sm.GLM(counts[:, 0], DESIGN, family=family, offset=np.log(library)).fit()
    assert expected.pearson_chi2 == pytest.approx(9, rel=1e-4)
    np.testing.assert_allclose(found["beta"][:, 0], expected.params, rtol=1e-5)
    np.testing.assert_allclose(found["beta_se"][:, 0], expected.bse, rtol=1e-5)
    np.testing.assert_allclose(
        found["beta_p_value"][:, 0], 2 * stats.t.sf(np.abs(expected.tvalues), 9), rtol=1e-3
    )
