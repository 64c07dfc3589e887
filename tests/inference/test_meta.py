"""Random-effects meta-analysis against metafor (R) and statsmodels."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import inference
from hiercorr.inference.meta import meta_analysis
from tests.support import REFERENCE


def test_meta_analysis_equals_metafor():
    given = pd.read_csv(REFERENCE / "metafor_input.csv")
    expected = pd.read_csv(REFERENCE / "metafor_expected.csv")
    z = given.pivot(index="sample", columns=["gene_a", "gene_b"], values="z")
    v = given.pivot(index="sample", columns=["gene_a", "gene_b"], values="var_z")[z.columns]
    assert len(expected) >= 6 * z.shape[1]
    for (method, knha), rows in expected.groupby(["method", "knha"]):
        rows = rows.set_index(["gene_a", "gene_b"]).loc[z.columns]
        got = meta_analysis(z.values, v.values, method=method, knapp_hartung=bool(knha))
        # metafor solves for tau^2 to its own tolerance: eps^0.25 for PM (uniroot), 1e-5 for REML;
        # DL is closed-form.
        rtol, atol = {"DL": (1e-8, 1e-10), "PM": (1e-3, 1e-3), "REML": (1e-3, 2e-5)}[method]
        for ours, theirs in {
            "estimate": "beta",
            "se": "se",
            "lower": "ci_lb",
            "upper": "ci_ub",
            "tau2": "tau2",
            "q": "QE",
            "p_q": "QEp",
            "prediction_lower": "pi_lb",
            "prediction_upper": "pi_ub",
        }.items():
            np.testing.assert_allclose(
                getattr(got, ours), rows[theirs], rtol=rtol, atol=atol, err_msg=f"{method} {ours}"
            )
        np.testing.assert_allclose(
            100 * got.i2, rows["I2"], atol={"DL": 1e-8, "PM": 0.5, "REML": 0.1}[method]
        )
        if method == "PM":  # what defines it: Q(tau^2) = k - 1, or tau^2 = 0
            w = 1 / (v.values + got.tau2)
            q = (w * (z.values - got.estimate) ** 2).sum(0)
            np.testing.assert_allclose(q[got.tau2 > 0], len(z) - 1, rtol=1e-9)
        if method == "REML":  # its score is 0
            w = 1 / (v.values + got.tau2)
            mean = (w * z.values).sum(0) / w.sum(0)
            score = (w**2 * (z.values - mean) ** 2).sum(0) - w.sum(0) + (w**2).sum(0) / w.sum(0)
            np.testing.assert_allclose(score[got.tau2 > 0], 0, atol=1e-6)


def test_meta_analysis_equals_statsmodels():
    from statsmodels.stats.meta_analysis import combine_effects

    rng = np.random.default_rng(0)
    z, v = rng.normal(0.3, 0.6, (6, 1)), rng.uniform(0.01, 0.05, (6, 1))
    for method, theirs in (("DL", "chi2"), ("PM", "iterated")):
        expected = combine_effects(z[:, 0], v[:, 0], method_re=theirs, use_t=True)
        got = meta_analysis(z, v, method=method, knapp_hartung=True)
        np.testing.assert_allclose(got.tau2[0], expected.tau2, rtol=1e-5)
        np.testing.assert_allclose(got.estimate[0], expected.mean_effect_re, rtol=1e-6)
        np.testing.assert_allclose(got.se[0], expected.sd_eff_w_re_hksj, rtol=1e-5)


def test_meta_analysis_refuses():
    with pytest.raises(hc.InputError, match="at least 2"):
        inference.meta_analysis(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(hc.InputError, match="method must be"):
        inference.meta_analysis(np.ones((3, 3)), np.ones((3, 3)), method="ML")
