"""Pairs in each sample: standard errors from cell influences, heterogeneity from meta-analysis."""

import numpy as np
import pytest

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
    from hiercorr.inference.prediction import predict_new_sample

    adata, _ = simulate_counts(6, 200, 4, mean=2, within=0.5, heterogeneity=0.3, seed=2)
    result = fit(adata, per_sample=True, precision="double")
    table = result.sample_table("gene0", "gene1")
    z, v = np.arctanh(table["correlation"].to_numpy()), table["fisher_z_se"].to_numpy() ** 2
    meta = meta_analysis(z, v)
    _, upper = predict_new_sample(z[:, None], v[:, None])
    for name, value in {
        "tau2": meta.tau2,
        "i2": meta.i2,
        "cochran_q": meta.q,
        "cochran_p_value": meta.p_q,
        "prediction_upper": np.tanh(max(upper[0], meta.upper)),
    }.items():
        assert result.matrix(name).loc["gene0", "gene1"] == pytest.approx(float(value), rel=1e-6)
