"""The decomposition of pooled correlation against the simulated truth."""

import numpy as np

import hiercorr as hc
from hiercorr.reporting.methods_text import methods_text
from hiercorr.simulate import simulate_counts


def test_parts_add_up_and_equal_the_truth():
    adata, truth = simulate_counts(
        20, 400, 30, mean=3.0, within=0.5, between=-0.8, cell_imbalance=0.3, seed=2
    )
    r = hc.decompose(adata, "sample", depth="depth")
    d = r.dataset
    off = ~np.eye(30, dtype=bool)
    total = (d["within_part"] + d["between_part"]).values
    np.testing.assert_allclose(total[off], d["correlation"].values[off], atol=1e-9)
    share = adata.obs["sample"].value_counts(sort=False).to_numpy() / len(adata)
    mu, cv2 = truth["mu"].values, truth["overdispersion"].values
    centred = mu - share @ mu
    between = np.einsum("c,cj,ck->jk", share, centred, centred)
    within = (
        truth["within"].values
        * np.sqrt(np.outer(cv2, cv2))
        * np.einsum("c,cj,ck->jk", share, mu, mu)
    )
    sd = np.sqrt(np.diag(between) + np.diag(within))
    assert np.abs(d["between_part"].values - between / np.outer(sd, sd))[off].max() < 0.02
    assert (
        np.sqrt(
            np.mean((d["correlation"].values - (between + within) / np.outer(sd, sd))[off] ** 2)
        )
        < 0.03
    )
    np.testing.assert_allclose(d["variance_share"], np.diag(between) / sd**2, atol=0.03)
    model = hc.CSCore(adata, "sample", depth="depth")
    within_only = model.fit(uncertainty="jackknife", precision="double").matrix()
    np.testing.assert_allclose(
        d["within_correlation"].values[off], within_only.values[off], rtol=1e-6
    )


def test_sign_reversal_and_target():
    adata, _ = simulate_counts(
        8, 400, 6, mean=4.0, within=0.3, between=-0.9, between_sd=0.9, seed=3
    )
    r = hc.decompose(adata, "sample", depth="depth")
    at = r.dataset.sel(gene="gene0", partner="gene1")
    assert at["within_correlation"] > 0 > at["correlation"]
    assert int(at["flag"]) & hc.Flag.SIGN_REVERSAL
    one = hc.decompose(adata, "sample", depth="depth", target="gene0").dataset
    np.testing.assert_allclose(
        one["between_part"].values[0, 1:],
        r.dataset["between_part"].sel(gene="gene0").values[1:],
        rtol=1e-9,
    )
    assert r.top("gene0", n=1).index[0] == "gene1"
    assert "law of total covariance" in methods_text(r)
