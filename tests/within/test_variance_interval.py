"""Confidence intervals over donors of the variances of genes."""

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.inference import variance_interval
from hiercorr.schema import Flag
from hiercorr.simulate import simulate_counts
from tests.support import fit
from validation import plain


def by_hand(num, den, noise=2.0, confidence=0.95):
    """Standard error and limits of sum(num) / sum(den) of one gene, donor by donor."""
    k, phi, off = len(num), num.sum() / den.sum(), np.maximum(num, 0) / np.maximum(num, 0).sum()
    q = den / den.sum()
    by_chance = noise / (den.sum() * phi**2)
    b = q + np.sqrt(max(1 - by_chance / ((off - q) ** 2).sum(), 0)) * (off - q)
    d = np.array([(num[c] - phi * den[c]) / (phi * den.sum()) / (1 - b[c]) for c in range(k)])
    s = np.sqrt((k - 1) / k * sum((d[c] - d.mean()) ** 2 for c in range(k)))
    t = stats.t.ppf(0.5 + confidence / 2, 1 / (b**2).sum() - 1)
    return phi * s, phi * np.exp(-t * s), phi * np.exp(t * s)


@pytest.fixture(scope="module")
def cells():
    return simulate_counts(6, 80, 10, mean=2.0, within=0.4, cell_imbalance=0.5, seed=3)[0]


@pytest.mark.parametrize("uncertainty", ["jackknife", "bootstrap"])
def test_interval_equals_plain_numpy(cells, uncertainty):
    options = {"uncertainty": uncertainty, "confidence": 0.9, "precision": "double", "seed": 1}
    ds = fit(cells, **options).dataset
    code = cells.obs["sample"].cat.codes.to_numpy()
    x, s = cells.X.toarray(), cells.obs["depth"].to_numpy()
    groups = [(x[code == c], s[code == c]) for c in np.unique(code)]
    sums = plain.within(groups, ds.attrs["theta"])
    names = [f"overdispersion_{part}" for part in ("se", "lower", "upper")]
    for j, gene in enumerate(cells.var_names):
        expected = by_hand(sums["own"][:, j], sums["own_den"][:, j], confidence=0.9)
        at = list(ds["gene"].values).index(gene)
        np.testing.assert_allclose([ds[n].values[at] for n in names], expected, rtol=1e-6)


def test_donors_are_the_units(cells):
    data = cells.copy()
    data.obs["donor"] = (data.obs["sample"].cat.codes // 2).astype(str)
    blocked = hc.CSCore(data, "sample", depth="depth", block="donor").fit(uncertainty="jackknife")
    alone = fit(data, uncertainty="jackknife")
    np.testing.assert_allclose(blocked.dataset["overdispersion"], alone.dataset["overdispersion"])
    assert not np.allclose(
        blocked.dataset["overdispersion_se"], alone.dataset["overdispersion_se"], rtol=0.01
    )


def test_too_few_donors_are_flagged(cells):
    model = hc.CSCore(cells, "sample", depth="depth", subset={"sample": ["s1", "s2"]})
    with pytest.warns(hc.EstimationWarning, match="no interval"):
        ds = model.fit().dataset
    assert np.isnan(ds["overdispersion_se"]).all()
    assert (ds["gene_flag"].values & Flag.TOO_FEW_SAMPLES.bit > 0).all()
    assert "overdispersion_se" not in fit(cells, uncertainty="none").dataset


def test_genes_without_variance_have_no_interval():
    num, den = np.array([[1.0, 2.0, -4.0], [1.0, 2.0, 4.0]]), np.ones((2, 3))
    found = variance_interval(num, den, np.full(2, 2.0), 0.95)
    for values in found.values():
        np.testing.assert_array_equal(np.isfinite(values), [False, True])


def test_absent_donors_do_not_count():
    num, den = np.array([[1.0, 2.0, 4.0, 0.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])
    with_absent, without = (
        variance_interval(num[:, :k], den[:, :k], np.full(1, 2.0), 0.95) for k in (4, 3)
    )
    assert with_absent == without


def test_covariance_is_the_ratio_of_its_sums(cells):
    r = fit(cells, uncertainty="jackknife", precision="double")
    code = cells.obs["sample"].cat.codes.to_numpy()
    x, s = cells.X.toarray(), cells.obs["depth"].to_numpy()
    groups = [(x[code == c], s[code == c]) for c in np.unique(code)]
    sums = plain.within(groups, r.dataset.attrs["theta"])
    expected = sums["num"].sum(0) / sums["den"].sum(0)
    np.fill_diagonal(expected, sums["own"].sum(0) / sums["own_den"].sum(0))
    found = r.covariance().loc[cells.var_names, cells.var_names]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    one = fit(cells, uncertainty="jackknife", precision="double", target="gene1").covariance()
    np.testing.assert_allclose(one.loc["gene1", found.columns], found.loc["gene1"], rtol=1e-6)


def test_covariance_needs_variances(cells):
    options = {"normalization": "cpm", "depth": "depth"}
    between = hc.Pseudobulk(cells, "sample", **options).fit(target="gene0")
    with pytest.raises(hc.InputError, match="Pseudobulk does not have: fit CSCore"):
        between.covariance()
