"""Pairs in each sample: standard errors from cell influences, heterogeneity from meta-analysis."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import fit
from validation import plain


def test_per_sample_variance_is_the_sum_of_squared_influences():
    adata, _ = simulate_counts(4, 150, 4, mean=2, within=0.5, seed=2)
    ds = fit(adata, per_sample=True, precision="double").dataset
    theta, j, k, c = ds.attrs["theta"], 0, 1, 2
    code = adata.obs["sample"].cat.codes.to_numpy()
    unit = adata.obs["depth"].mean()
    x, s = adata.X.toarray()[code == c], adata.obs["depth"].to_numpy()[code == c] / unit
    num, _, _, own, _, _ = plain.sample_sums(x, s, theta)
    mu = x.sum(0) / s.sum()
    for _ in range(100):
        w = 1 / (1 + np.outer(s, mu) / theta)
        mu = (w * x).sum(0) / (w * s[:, None]).sum(0)
    y = w * (x - np.outer(s, mu))
    q = y**2 - w**2 * s[:, None] * mu
    rho = float(ds["sample_correlation"].values[c, j, k])
    u = rho * (y[:, j] * y[:, k] / num[j, k] - q[:, j] / (2 * own[j]) - q[:, k] / (2 * own[k]))
    assert float(ds["sample_se"].values[c, j, k]) == pytest.approx(
        np.sqrt((u**2).sum()) / (1 - rho**2), rel=1e-6
    )


def test_heterogeneity_is_the_meta_analysis_of_the_samples():
    from hiercorr.inference.meta import meta_analysis

    adata, _ = simulate_counts(6, 200, 4, mean=2, within=0.5, heterogeneity=0.3, seed=2)
    result = fit(adata, per_sample=True, precision="double")
    table = result.sample_table("gene0", "gene1")
    z, v = np.arctanh(table["correlation"].to_numpy()), table["fisher_z_se"].to_numpy() ** 2
    meta = meta_analysis(z, v)
    for name, value in {
        "tau2": meta.tau2,
        "i2": meta.i2,
        "cochran_q": meta.q,
        "cochran_p_value": meta.p_q,
    }.items():
        assert result.matrix(name).loc["gene0", "gene1"] == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster"])
def test_prediction_contains_the_interval_of_the_mean(uncertainty):
    adata, _ = simulate_counts(5, 150, 12, mean=0.6, within=0.5, seed=3)
    ds = fit(adata, per_sample=True, uncertainty=uncertainty, precision="double").dataset
    low, high = ds["prediction_lower"].values, ds["prediction_upper"].values
    known = np.isfinite(low) & np.isfinite(ds["ci_lower"].values)
    assert known.sum() > 20
    assert (low <= ds["ci_lower"].values)[known].all()
    assert (high >= ds["ci_upper"].values)[known].all()
    r = ds["correlation_unclipped"].values
    assert ((low <= np.clip(r, -1, 1)) & (np.clip(r, -1, 1) <= high))[known].all()


def test_prediction_of_target_blocks_and_all_pairs_agree():
    adata, _ = simulate_counts(8, 120, 13, mean=1.0, within=0.5, heterogeneity=0.3, seed=5)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["donor"] = np.array(list("aabbccdd"))[number]
    options = {"per_sample": True, "uncertainty": "jackknife", "precision": "double"}
    for block in (None, "donor"):
        model = hc.CSCore(adata, "sample", depth="depth", block=block)
        every, one = model.fit(**options), model.fit(target="gene3", **options)
        for name in ("prediction_lower", "prediction_upper"):
            whole = every.matrix(name)
            np.testing.assert_allclose(whole.to_numpy(), whole.to_numpy().T, rtol=1e-12)
            row = one.matrix(name).loc["gene3"].drop("gene3")
            np.testing.assert_allclose(row, whole.loc["gene3"].drop("gene3"), rtol=1e-9)
            assert row.notna().any()
