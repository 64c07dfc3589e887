"""Covariates of cells within samples: sums, correlations adjusted for them, refusals."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import moments
from hiercorr.design.matrix import make_design
from hiercorr.design.terms import split_terms
from hiercorr.within import cell_covariates
from tests.support import fit, read_counts
from validation import plain


@pytest.fixture(scope="module")
def states():
    """5 samples of cells whose expression of all genes moves with a state and a phase."""
    rng = np.random.default_rng(4)
    import anndata as ad

    parts, tables = [], []
    for c, n in enumerate([70, 90, 130, 160, 60]):
        state, phase = rng.standard_normal(n), rng.integers(0, 3, n)
        f = (1 + 0.6 * np.tanh(state) + 0.5 * (phase == 1))[:, None]
        s = np.exp(rng.normal(0, 0.4, n))
        mean = np.array([4, 2, 2, 1, 1, 0.5, 0.2, 3.0])
        parts.append(rng.poisson(s[:, None] * mean * f * rng.gamma(2, 0.5, (n, 8))))
        tables.append(
            pd.DataFrame(
                {
                    "sample": f"s{c}",
                    "state": np.tanh(state),
                    "phase": np.array(["G1", "S", "G2M"])[phase],
                    "arm": "ab"[c % 2],
                    "age": 40.0 + c,
                    "depth": s * 1e4,
                }
            )
        )
    obs = pd.concat(tables, ignore_index=True)
    obs.index = obs.index.astype(str)
    return ad.AnnData(
        np.vstack(parts), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(8)])
    )


def adjusted(data, covariates="~ state + phase", **options):
    return fit(data, model={"covariates": covariates}, **options)


def test_sums_equal_whole_hat_matrices(states):
    counts = read_counts(states, sample="sample", depth="depth")
    sums = moments.depth_sums(counts, 1e-13)
    z = make_design("~ state + phase", counts.obs).matrix
    bare = moments.within_moments(sums)
    found = cell_covariates.regress_out_covariates(counts, sums, 1e-13, bare, z)
    genes, x = slice(0, 8), counts.toarray()
    num = moments.numerators(counts, sums, found, genes, genes, np.empty((5, 8, 8)))
    den = moments.denominators(sums, found, genes, genes, num, np.empty((5, 8, 8)))
    left = slice(0, 3)
    part = moments.numerators(counts, sums, found, left, genes, np.empty((5, 3, 8)))
    np.testing.assert_allclose(part, num[:, :3], rtol=1e-10, atol=1e-10)
    for c in range(5):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        wanted = plain.adjusted_sums(
            x[cells], sums.depth[cells], z[cells], found.mu[:, c], found.slope[:, c]
        )
        for got, want in zip(
            (num[c], den[c], found.num[:, c], found.den[:, c]), wanted, strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


def test_shared_state_leaves_no_correlation(states):
    off = ~np.eye(8, dtype=bool)
    before = fit(states).matrix().values[off]
    after = adjusted(states).matrix().values[off]
    assert np.nanmedian(before) > 0.15
    assert abs(np.nanmedian(after)) < 0.05


def test_recoding_changes_nothing(states):
    other = states.copy()
    other.obs["state"] = 100 - 7 * other.obs["state"]
    other.obs["phase"] = other.obs["phase"].map({"G1": "z", "S": "y", "G2M": "x"})
    a, b = (adjusted(d, precision="double").dataset for d in (states, other))
    for name in ("correlation_unclipped", "se", "p_value"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-7, atol=1e-9)
    mixed = states[np.random.default_rng(0).permutation(states.n_obs)].copy()
    np.testing.assert_allclose(
        adjusted(mixed, precision="double").dataset["se"], a["se"], rtol=1e-7, atol=1e-9
    )


def test_levels_are_told_apart_and_shown(states):
    r = adjusted(states, "~ state + phase + arm + age")
    assert r.dataset.attrs["cell_terms"] == "state + phase"
    assert r.dataset.attrs["sample_terms"] == "arm + age"
    assert "cell terms: state + phase" in str(r.summary("g0"))
    np.testing.assert_array_equal(r.matrix(), adjusted(states).matrix())
    with pytest.raises(hc.InputError, match="have one value in each sample"):
        adjusted(states, "~ arm")
    assert split_terms(
        "~ state:arm + poly(age, 2) + `my age`", ["arm", "age", "my age"], [*states.obs, "my age"]
    ) == (
        ["state:arm"],
        ["poly(age, 2)", "`my age`"],
    )


def test_every_route_takes_them(states, tmp_path):
    whole = adjusted(states, uncertainty="cluster")
    one = adjusted(states, target="g3", uncertainty="cluster")
    np.testing.assert_allclose(one.matrix().loc["g3"], whole.matrix().loc["g3"], rtol=1e-5)
    streamed = adjusted(states, uncertainty="cluster", out=tmp_path / "r.zarr")
    np.testing.assert_allclose(streamed.matrix(), whole.matrix(), rtol=1e-5)


def test_each_sample_is_its_own_residuals(states):
    """Estimate and standard error of one sample from cell influences, with hat matrices."""
    ds = adjusted(states, per_sample=True, precision="double").dataset
    counts = read_counts(states, sample="sample", depth="depth")
    sums = moments.depth_sums(counts, 1e-13)
    z = make_design("~ state + phase", counts.obs).matrix
    fitted = moments.within_moments(sums)
    checked = 0
    for c in range(5):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        x, s, mu, slope = (
            counts.toarray()[cells],
            sums.depth[cells],
            fitted.mu[:, c],
            fitted.slope[:, c],
        )
        num, den, own, own_den = plain.adjusted_sums(x, s, z[cells], mu, slope)
        w, shared = 1 / (1 + np.outer(s, slope)), 1 / (1 + s * np.median(slope))
        design = s[:, None] * z[cells]
        beta = np.linalg.solve(
            z[cells].T @ (shared[:, None] * design), z[cells].T @ (shared[:, None] * x)
        )
        y = w * (x - design @ beta)
        q = y**2 - w**2 * (design @ beta)
        with np.errstate(invalid="ignore", divide="ignore"):
            phi = own / own_den
            rho = num / den / np.sqrt(np.outer(phi, phi))
        for j, k in zip(*np.triu_indices(8, 1), strict=True):
            if np.isfinite(rho[j, k]) and abs(rho[j, k]) < 1:
                u = rho[j, k] * (
                    y[:, j] * y[:, k] / num[j, k] - q[:, j] / (2 * own[j]) - q[:, k] / (2 * own[k])
                )
                wanted = np.sqrt((u**2).sum()) / (1 - rho[j, k] ** 2)
                assert ds["sample_correlation"].values[c, j, k] == pytest.approx(
                    rho[j, k], rel=1e-6
                )
                assert ds["sample_se"].values[c, j, k] == pytest.approx(wanted, rel=1e-6)
                checked += 1
    assert checked > 80


def test_a_covariate_that_a_sample_lacks_is_left_out_there(states):
    flat = states.copy()
    flat.obs.loc[flat.obs["sample"] == "s2", "state"] = 0.3
    r = adjusted(flat, "~ state")
    assert np.isfinite(r.matrix().values).mean() > 0.9


def test_too_many_covariates_for_a_sample(states):
    few = states[np.r_[0:12, 70 : states.n_obs]].copy()
    few.obs["batch"] = np.arange(few.n_obs).astype(str)
    few.obs["well"] = (np.arange(few.n_obs) % 12).astype(str)
    with pytest.raises(
        hc.InputError,
        match=r"have 12 coefficients and sample 's0' has 12 cells, of which at least 14",
    ):
        adjusted(few, "~ well")


def test_differential_takes_both_levels(states):
    options = {"sample": "sample", "condition": "arm", "depth": "depth"}
    bare = hc.differential(states, **options)
    r = hc.differential(states, formula="~ state + phase", **options)
    assert r.dataset.attrs["cell_terms"] == "state + phase"
    assert "state" not in r.dataset.attrs["formula"]
    off = ~np.eye(8, dtype=bool)
    assert np.nanmedian(r.matrix().values[off]) < np.nanmedian(bare.matrix().values[off]) - 0.1
