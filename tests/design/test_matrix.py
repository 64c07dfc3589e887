"""Design matrices: refused formulas."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.design.matrix import make_design


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


def test_dates_and_nearly_constant_columns_are_refused():
    table = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=6), "age": np.arange(6.0)})
    table["far"] = 30 * table["age"] + 1e17
    with pytest.raises(hc.InputError, match=r"'day' has dates: use a number, e\.g\. \(obs\['day'"):
        make_design("~ day", table)
    with pytest.raises(hc.InputError, match=r"'far' is nearly constant, from 1e\+17"):
        make_design("~ far", table)


def test_contrasts_take_the_names_of_coefficients_as_printed():
    table = pd.DataFrame(
        {
            "age": np.linspace(20, 70, 12),
            "arm": list("xxyy") * 3,
            "type": list("TMTMTMTTTMMM"),
            "my col": list("ababbaababab"),
        }
    )
    design = make_design("~ arm * type + bs(age, df=3) + `my col`", table)
    for k, name in enumerate(design.names):
        for written in (name, f"`{name}`", f"{name} / 1", f"1e0*({name})"):
            np.testing.assert_array_equal(
                design.contrasts({"c": written})[0], np.eye(len(design.names))[k]
            )
    found = design.contrasts({"c": "2*arm[T.y]:type[T.T] - arm[T.y]/4"})[0]
    assert found[design.names.index("arm[T.y]:type[T.T]")] == 2
    assert found[design.names.index("arm[T.y]")] == -0.25


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("arm[T.q]", r"unknown coefficient 'arm\[T.q\]'; did you mean 'arm\[T.y\]'"),
        ("arm[T.y]:type[T.M]", r"did you mean 'arm\[T.y\]:type\[T.T\]'"),
        ("ages", "did you mean 'age'.*the coefficients are Intercept"),
        ("arm[T.y] ++ 3 age", "is not a sum of coefficients times numbers"),
        ("arm[T.y] = 1", "one linear combination"),
    ],
)
def test_contrasts_that_cannot_be_read(expression, message):
    table = pd.DataFrame({"arm": list("xxyy") * 3, "type": list("TMTMTMTTTMMM"), "age": range(12)})
    design = make_design("~ arm * type + age", table)
    with pytest.raises(hc.InputError, match=message) as error:
        design.contrasts({"c": expression})
    assert "\x1b" not in str(error.value)
