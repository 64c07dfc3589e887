"""Correlation without the noise of sample means: by hand and by plain draws."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.between import noise_correction
from hiercorr.simulate import simulate_counts
from tests.between.support import model, pseudobulk


def test_noise_interval_against_plain_draws():
    """The pivotal quantity from Wishart draws of whole matrices, without the kernel's algebra."""
    df, r, noise, reliable = 9, 0.5, 0.1, (0.6, 0.8)
    draws = noise_correction.pivotal_draws(df, None)
    a = np.array([[1, r], [r, 1]])
    nn = np.array([[1 - reliable[0], noise], [noise, 1 - reliable[1]]])
    found = []
    for swap in (False, True):
        p = np.eye(2)[::-1] if swap else np.eye(2)
        la = np.linalg.cholesky(df * p @ a @ p)
        for k in range(noise_correction.DRAWS):
            t11, t22 = np.sqrt(df) / draws[0][k], np.sqrt(df) / draws[2][k]
            root = la @ np.linalg.inv(np.array([[t11, 0], [draws[1][k] * t22, t22]]))
            s = p @ root @ root.T @ p - nn
            if s[0, 0] > 0 and s[1, 1] > 0:
                found.append(np.clip(s[0, 1] / np.sqrt(s[0, 0] * s[1, 1]), -1, 1))
    rho, low, high = noise_correction.corrected(
        np.array([[r]]), np.array([[noise]]), (np.array([0.6]), np.array([0.8])), draws, 0.95
    )
    assert rho[0, 0] == pytest.approx((r - noise) / np.sqrt(0.48))
    np.testing.assert_allclose(
        [low[0, 0], high[0, 0]], np.quantile(found, [0.025, 0.975]), atol=1e-9
    )


@pytest.mark.slow
def test_noise_of_a_mean_by_hand(small):
    from tests.support import read_counts

    counts = read_counts(small, sample="sample", depth="depth")
    counts = counts.take(np.argsort(counts.detection, kind="stable"))
    weight = np.array([0.1, 0.2, 0.3, 0.0, 0.4])
    noise = noise_correction.measure_noise(counts, weight, 1e-13)
    x = counts.toarray()
    expected = np.zeros((counts.n_genes, counts.n_genes))
    for c in range(5):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        part, s = x[cells], counts.depth[cells]
        total, n = part.sum(0), len(s)
        e = part - s[:, None] * (total / s.sum())
        expected += weight[c] * n / (n - 1) * (e.T @ e) / np.outer(total + 0.5, total + 0.5)
    np.testing.assert_allclose(noise.own, np.diag(expected), rtol=1e-9)
    whole = slice(0, counts.n_genes)
    off = ~np.eye(counts.n_genes, dtype=bool)
    np.testing.assert_allclose(
        noise.shared(whole, whole, np.float64)[off], expected[off], rtol=1e-7, atol=1e-12
    )


def test_estimate_by_hand(eight):
    m = pseudobulk(eight[0])
    d = m.fit("corrected", precision="double").dataset
    x, s = eight[0].X.toarray().astype(float), eight[0].obs["depth"].to_numpy()
    code = eight[0].obs["sample"].cat.codes.to_numpy()
    y, noise = np.empty((8, 12)), np.zeros((12, 12))
    for c in range(8):
        part, depth = x[code == c], s[code == c]
        total, n = part.sum(0), len(depth)
        y[c] = np.log((total + 0.5) / depth.sum())
        e = part - depth[:, None] * total / depth.sum()
        noise += n / (n - 1) * (e.T @ e) / np.outer(total + 0.5, total + 0.5) / 8
    v = np.cov(y.T)
    level = v - noise
    rho = level / np.sqrt(np.outer(np.diag(level), np.diag(level)))
    off = ~np.eye(12, dtype=bool)
    known = off & np.isfinite(d["correlation_unclipped"].values)
    np.testing.assert_allclose(d["correlation_unclipped"].values[known], rho[known], rtol=1e-6)
    np.testing.assert_allclose(d["reliability"], 1 - np.diag(noise) / np.diag(v), rtol=1e-9)
    np.testing.assert_allclose(
        d["observed_correlation"].values[off], np.corrcoef(y.T)[off], rtol=1e-7
    )


def test_target_and_all_pairs_agree(eight, quiet):
    m = pseudobulk(eight[0], formula="~ batch")
    whole, one = (
        m.fit("corrected", precision="double").dataset,
        m.fit("corrected", target="gene3").dataset,
    )
    for name in ("correlation_unclipped", "ci_lower", "ci_upper", "p_value"):
        np.testing.assert_allclose(
            one[name].values[0], whole[name].sel(gene="gene3"), rtol=1e-7, err_msg=name
        )
        np.testing.assert_array_equal(whole[name].values, whole[name].values.T)


def test_noise_alone_is_refused():
    adata, _ = simulate_counts(
        8,
        30,
        6,
        mean=[0.3, 0.3, 3, 3, 3, 3],
        between_sd=[0.01, 0.01, 0.5, 0.5, 0.5, 0.5],
        seed=1,
    )
    with pytest.warns(hc.EstimationWarning, match="NaN and flagged"):
        r = pseudobulk(adata).fit("corrected")
    weak = r.dataset["reliability"].values < 0.2
    assert weak[:2].any()
    flagged = (r.dataset["flag"].values & int(hc.Flag.LOW_RELIABILITY)) > 0
    np.testing.assert_array_equal(flagged, weak[:, None] | weak)
    assert np.isnan(r.matrix("ci_lower").values[flagged]).all()
    assert np.isnan(r.matrix("p_value").values[flagged]).all()


def test_refuses(eight, gbm):
    sums = hc.aggregate(eight[0], "sample", depth="depth")
    with pytest.raises(hc.InputError, match="needs the cells"):
        hc.Pseudobulk(sums, "sample").fit("corrected")
    with pytest.raises(hc.InputError, match="3 residual degrees of freedom"):
        model(gbm, subset={"condition": "ctrl"}, formula="~ gender + age").fit("corrected")
