"""The estimators against the same equations in plain numpy."""

import numpy as np
import pytest
from scipy import stats

from hiercorr.simulate import simulate_counts
from tests.support import fit
from validation import plain


def plain_sums(adata, theta=None):
    code = adata.obs["sample"].cat.codes.to_numpy()
    x, s = adata.X.toarray(), adata.obs["depth"].to_numpy()
    return plain.within([(x[code == c], s[code == c]) for c in np.unique(code)], theta)


def influences_by_hand(sums, j, k, noise=2.0):
    """Return rho of a pair, the influence of each sample and its share of the variances."""
    num, den, own, own_den = (
        sums["num"][:, j, k],
        sums["den"][:, j, k],
        sums["own"],
        sums["own_den"],
    )
    f = own.sum(0) / own_den.sum(0)
    noise = np.broadcast_to(noise, f.shape)
    rho = num.sum() / den.sum() / np.sqrt(f[j] * f[k])
    x, b = np.empty(len(num)), np.zeros(len(num))
    for c in range(len(num)):
        x[c] = (num[c] - num.sum() / den.sum() * den[c]) / den.sum() / np.sqrt(f[j] * f[k])
        x[c] -= (
            rho
            / 2
            * sum((own[c, g] - f[g] * own_den[c, g]) / (f[g] * own_den[:, g].sum()) for g in (j, k))
        )
    for g in (j, k):
        q = own_den[:, g] / own_den[:, g].sum()
        off = np.maximum(own[:, g], 0) / np.maximum(own[:, g], 0).sum() - q
        by_chance = noise[g] / (own_den[:, g].sum() * f[g] ** 2)
        b += 0.5 * (q + np.sqrt(max(1 - by_chance / (off**2).sum(), 0)) * off)
    return rho, x, b


def jackknife_by_hand(sums, j, k, noise=2.0):
    rho, x, b = influences_by_hand(sums, j, k, noise)
    d, n = x / (1 - b), len(x)
    return rho, np.sqrt((n - 1) / n * ((d - d.mean()) ** 2).sum()), 1 / (b**2).sum() - 1


def test_estimates_equal_plain_numpy(small):
    result = fit(small, precision="double")
    sums = plain_sums(small)
    assert result.dataset.attrs["theta"] == pytest.approx(sums["theta"], rel=1e-3)
    sums = plain_sums(small, result.dataset.attrs["theta"])
    expected = plain.correlation(sums["num"], sums["den"], sums["own"], sums["own_den"])
    np.fill_diagonal(expected, np.where(np.isfinite(np.diag(expected)), 1, np.nan))
    got = result.matrix("correlation_unclipped").values
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9, equal_nan=True)
    phi = sums["own"].sum(0) / sums["own_den"].sum(0)
    np.testing.assert_allclose(result.dataset["overdispersion"].values, phi, rtol=1e-7)


def test_jackknife_equals_plain_numpy(small):
    ds = fit(small, precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    for j, k in ((0, 1), (2, 3), (0, 8), (3, 4)):
        rho, se, df = jackknife_by_hand(sums, j, k)
        assert ds["df"].values[j, k] == pytest.approx(df, rel=1e-6)
        assert ds["se"].values[j, k] == pytest.approx(se, rel=1e-6)
        assert ds["fisher_z_se"].values[j, k] == pytest.approx(se / (1 - rho**2), rel=1e-6)
        margin = stats.t.ppf(0.975, df) * se
        assert ds["ci_lower"].values[j, k] == pytest.approx(max(rho - margin, -1), rel=1e-6)
        assert ds["ci_upper"].values[j, k] == pytest.approx(min(rho + margin, 1), rel=1e-6)
        assert ds["p_value"].values[j, k] == pytest.approx(
            2 * stats.t.sf(abs(rho / se), df), rel=1e-5
        )


def test_jackknife_is_close_to_the_exact_one_for_rich_genes():
    adata, _ = simulate_counts(8, 300, 6, mean=3, within=0.5, seed=3)
    result = fit(adata)
    sums = plain_sums(adata, result.dataset.attrs["theta"])
    left = np.arctanh(
        plain.leave_one_out(*(sums[k] for k in ("num", "den", "own", "own_den")))[:, 0, 1]
    )
    exact = np.sqrt(7 / 8 * ((left - left.mean()) ** 2).sum())
    assert result.dataset["fisher_z_se"].values[0, 1] == pytest.approx(exact, rel=0.1)


def test_cluster_equals_plain_numpy(small):
    ds = fit(small, uncertainty="cluster", precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    _, x, b = influences_by_hand(sums, 2, 3)
    assert ds["se"].values[2, 3] == pytest.approx(np.sqrt((x**2 / (1 - b)).sum()), rel=1e-5)
    assert ds["df"].values[2, 3] == pytest.approx(1 / (b**2).sum() - 1, rel=1e-4)


def test_bootstrap_equals_plain_numpy(small):
    from hiercorr.inference.pairs import bootstrap_draws

    ds = fit(small, uncertainty="bootstrap", n_bootstrap=200, seed=5, precision="double").dataset
    sums = plain_sums(small, ds.attrs["theta"])
    draws = bootstrap_draws(5, 200, 5)
    j, k = 0, 1
    phi = (draws @ sums["own"]) / (draws @ sums["own_den"])
    whole = sums["own"].sum(0) / sums["own_den"].sum(0)
    rho = ds["correlation"].values[j, k]
    cross = (
        draws @ sums["num"][:, j, k] / (draws @ sums["den"][:, j, k]) / np.sqrt(whole[j] * whole[k])
    )
    linear = cross - rho * np.sqrt(phi[:, j] * phi[:, k] / (whole[j] * whole[k]))
    expected = np.std(linear, ddof=1) * np.sqrt(5 / 4)
    assert ds["se"].values[j, k] == pytest.approx(expected, rel=1e-5)
    again = fit(small, uncertainty="bootstrap", n_bootstrap=200, seed=5, precision="double").dataset
    assert ds.drop_attrs().identical(again.drop_attrs())


def test_pooled_jackknife_equals_plain_numpy(small):
    from hiercorr import moments
    from tests.support import read_counts

    ds = fit(small, estimator="pooled", precision="double").dataset
    counts = read_counts(small, sample="sample", depth="depth")
    genes = moments.pooled_moments(
        moments.depth_sums(counts, 1e-13)
    )  # its variances are held against R
    x, s = counts.toarray(), counts.depth / counts.depth.mean()
    mu, slope = genes.mu[:, 0], genes.slope[:, 0]
    y = (x - np.outer(s, mu)) / (1 + np.outer(s, slope))
    f = s[:, None] / (1 + np.outer(s, slope))
    cells = [slice(a, b) for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True)]
    sums = {
        "num": np.array([y[c].T @ y[c] for c in cells]),
        "den": np.array([f[c].T @ f[c] for c in cells]),
    }
    sums |= {"own": genes.num.T, "own_den": genes.den.T}
    for j, k in ((0, 1), (2, 3), (0, 8)):
        rho, se, df = jackknife_by_hand(sums, j, k, 2 * mu**2)
        assert ds["correlation"].values[j, k] == pytest.approx(rho, rel=1e-8)
        assert ds["se"].values[j, k] == pytest.approx(se, rel=1e-6)
        assert ds["fisher_z_se"].values[j, k] == pytest.approx(se / (1 - rho**2), rel=1e-6)
        assert ds["df"].values[j, k] == pytest.approx(df, rel=1e-6)
