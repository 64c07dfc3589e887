"""Direct partners: a known graph, false positives, a plain-numpy reference, refusals."""

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.inference import benjamini_hochberg
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
P, SD = 20, 0.8


def chain(strength=0.42):
    """A chain of genes: correlation and partial correlation of their log expression."""
    precision = np.eye(P) - strength * (np.eye(P, k=1) + np.eye(P, k=-1))
    covariance = np.linalg.inv(precision)
    sd = np.sqrt(np.diag(covariance))
    partial = -precision + 2 * np.eye(P)  # unit diagonal
    return covariance / np.outer(sd, sd), partial


def counts(seed, latent, n_donors=8, n_cells=400, mean=3.0):
    natural = np.expm1(latent * SD**2) / np.expm1(SD**2)
    return simulate_counts(
        n_donors, n_cells, P, mean=mean, within=natural, within_sd=SD, seed=seed
    )[0]


@pytest.fixture(scope="module")
def found():
    latent, partial = chain()
    model = hc.CSCore(counts(1, latent), "sample", depth="depth")
    return model, hc.direct_partners(model, seed=1), partial


def test_a_chain_has_its_edges_and_no_others(found):
    _, result, truth = found
    d = result.dataset
    i, j = np.triu_indices(P, 1)
    edge = (j - i) == 1
    r, q, stable = (d[n].values[i, j] for n in ("correlation", "q_value", "stability"))
    assert (q[edge] < 0.05).mean() > 0.9
    assert (q[~edge] < 0.05).sum() <= 2
    assert np.abs(r[edge] - truth[i, j][edge]).mean() < 0.06
    assert stable[edge].min() > 0.9
    assert stable[~edge].mean() < 0.2
    marginal = d["marginal_correlation"].values
    second = np.abs(np.diag(marginal, 2)).mean()
    assert second > 0.25 > 0.1 > np.abs(np.diag(d["correlation"].values, 2)).mean()


def test_against_plain_numpy(found):
    """The natural scale, from the correlations of a fit; tests from the standard errors."""
    model, _, _ = found
    d = hc.direct_partners(model, "natural", shrinkage=0.1, n_bootstrap=5, seed=1).dataset
    r = model.fit(uncertainty="none", precision="double").dataset["correlation_unclipped"].values
    r = np.where(np.eye(P, dtype=bool), 1, r)
    assert np.linalg.eigvalsh(r)[0] > 1e-3  # nothing to clip
    theta = np.linalg.inv(0.9 * r + 0.1 * np.eye(P))
    t = 2 * theta - theta @ r @ theta
    expected = -t / np.sqrt(np.outer(np.diag(t), np.diag(t)))
    i, j = np.triu_indices(P, 1)
    np.testing.assert_allclose(d["correlation"].values[i, j], expected[i, j], rtol=1e-6)
    np.testing.assert_allclose(d["marginal_correlation"].values[i, j], r[i, j], rtol=1e-6)
    x, se, df = (d[name].values[i, j] for name in ("correlation", "se", "df"))
    p = 2 * stats.t.sf(np.abs(x / se), df)
    np.testing.assert_allclose(d["p_value"].values[i, j], p, rtol=1e-3)
    np.testing.assert_allclose(d["q_value"].values[i, j], benjamini_hochberg(p), rtol=1e-3)
    assert (df > 7).all()  # moderated
    ordinary = d["ordinary_p_value"].values[i, j]
    assert stats.spearmanr(ordinary, p)[0] > 0.9


def test_leaving_out_a_donor_is_a_fit_without_it(found):
    """Its jackknife, from sums of the same moments, is near that of fits to the other donors."""
    model, _, _ = found
    adata = counts(1, chain()[0])
    others = []
    for donor in adata.obs["sample"].unique():
        kept = (adata.obs["sample"] != donor).to_numpy()
        part = hc.CSCore(adata, "sample", depth="depth", subset=kept)
        others.append(
            hc.direct_partners(part, shrinkage=0.05, n_bootstrap=1).dataset["correlation"].values
        )
    i, j = np.triu_indices(P, 1)
    n = len(others)
    se = np.sqrt((n - 1) * np.var(others, axis=0))[i, j]
    d = hc.direct_partners(model, shrinkage=0.05, n_bootstrap=1).dataset
    ordinary = d["ordinary_p_value"].values[i, j]
    p = 2 * stats.t.sf(np.abs(d["correlation"].values[i, j] / se), n - 1)
    assert np.median(np.abs(np.log(ordinary / p))) < 0.05


def test_independent_genes_have_the_stated_level():
    p = []
    for seed in range(3):
        model = hc.CSCore(counts(seed, np.eye(P), 6, 200), "sample", depth="depth")
        d = hc.direct_partners(model, n_bootstrap=1).dataset
        p.append(d["p_value"].values[np.triu_indices(P, 1)])
        assert np.nanmin(d["q_value"].values) > 0.02
    assert 0.02 < np.mean(np.concatenate(p) < 0.05) < 0.08


def test_genes_without_information_have_no_partners():
    latent, _ = chain()
    mean = np.full(P, 3.0)
    mean[4] = 0.003
    model = hc.CSCore(counts(2, latent, mean=mean), "sample", depth="depth")
    with pytest.warns(hc.EstimationWarning, match=r"1 of 20 genes .*\(gene4\)"):
        d = hc.direct_partners(model, n_bootstrap=2).dataset
    assert d.attrs["conditioning_genes"] == P - 1
    assert np.isnan(np.delete(d["correlation"].values[4], 4)).all()
    assert (d["flag"].values[4, 5] & (hc.Flag.LOW_INFORMATION | hc.Flag.NONPOSITIVE_VARIANCE)) > 0
    assert np.isfinite(d["p_value"].values[0, 1])


def test_donors_of_several_samples_are_the_units(found):
    adata = counts(1, chain()[0])
    number = adata.obs["sample"].cat.codes.to_numpy()
    adata.obs["donor"] = np.array([f"d{k // 2}" for k in number])
    model = hc.CSCore(adata, "sample", depth="depth", block="donor")
    d = hc.direct_partners(model, n_bootstrap=1, shrinkage=0.05).dataset
    p, t = d["ordinary_p_value"].values[0, 1], d.attrs["n_donors"]
    assert t == 4
    assert 0 < p < 0.2
    np.testing.assert_allclose(  # the same cells
        d["correlation"],
        hc.direct_partners(found[0], n_bootstrap=1, shrinkage=0.05).dataset["correlation"],
        rtol=1e-6,
    )


def test_saved_and_loaded(found, tmp_path):
    _, result, _ = found
    again = hc.load(result.save(tmp_path / "r.nc") or tmp_path / "r.nc")
    np.testing.assert_array_equal(again.dataset["stability"], result.dataset["stability"])
    assert "stab." in str(result.summary("gene0"))


def test_what_has_no_direct_partners_is_refused(found):
    latent, _ = chain()
    adata = counts(3, latent, 2, 60)
    with pytest.raises(hc.InputError, match="at least 3 donors, and the model has 2"):
        hc.direct_partners(hc.CSCore(adata, "sample", depth="depth"))
    with pytest.raises(hc.InputError, match=r"CSCore\(sample=\)"):
        hc.direct_partners(hc.CSCore(adata, None, depth="depth"))
    adata = counts(3, latent, 3, 60)
    with pytest.raises(hc.InputError, match=r"3 to 500 genes, and the model has 2: .*genes="):
        hc.direct_partners(hc.CSCore(adata, "sample", ["gene0", "gene1"], depth="depth"))
    wide = simulate_counts(3, 20, 501, seed=1)[0]
    with pytest.raises(hc.InputError, match="the model has 501"):
        hc.direct_partners(hc.CSCore(wide, "sample", depth="depth"))
    poor = simulate_counts(3, 100, 8, mean=0.05, seed=2)[0]
    with pytest.raises(hc.InputError, match=r"only \d of \d genes have enough counts"):
        hc.direct_partners(hc.CSCore(poor, "sample", depth="depth"))


def test_more_shrinkage_calls_more_edges_where_cells_are_few():
    latent, truth = chain(0.35)
    model = hc.CSCore(counts(5, latent, 6, 120, 1.5), "sample", depth="depth")
    i, j = np.triu_indices(P, 1)
    edge = truth[i, j] > 0.1
    called = {}
    for shrinkage in (None, 0.8):
        q = hc.direct_partners(model, shrinkage=shrinkage, n_bootstrap=1).dataset["q_value"]
        called[shrinkage] = (q.values[i, j] < 0.1)[edge].sum()
    assert called[0.8] > called[None]
    with pytest.raises(hc.InputError, match="shrinkage"):
        hc.direct_partners(model, shrinkage=0.96)
