"""Design matrices: refused formulas."""

import numpy as np
import pytest

import hiercorr as hc


def test_formula_errors(gbm, quiet):
    def make(covariates):
        return hc.CSCore(
            gbm, sample="patient_id", depth="total_counts", genes=5, covariates=covariates
        )

    for formula, text in (
        ("~ ages", "unknown column in the formula 'ages'; did you mean 'age'"),
        ("~ age +", "cannot read formula"),
        ("~ condition + treatment", "not of full rank: 'treatment"),
        ("~ 0 + age", "no intercept"),
    ):
        with pytest.raises(hc.InputError, match=text):
            make(formula)
    make(["age", "gender"])
    gap = gbm.copy()
    gap.obs["age"] = gap.obs["age"].astype(float).where(np.arange(gap.n_obs) > 3)
    with pytest.raises(hc.InputError, match="column 'age' is missing for 4 rows"):
        hc.CSCore(gap, sample="patient_id", depth="total_counts", genes=5, covariates="~ age")
