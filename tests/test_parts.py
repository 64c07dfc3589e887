"""The smaller parts: quadrature, t distribution, FDR, simulation, check, specification, data sets, report."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import fit
from scipy import stats

import hiercorr as hc
from hiercorr import inference, kernels, moments
from hiercorr.counts.read import read_counts
from hiercorr.simulate import natural_correlation, simulate_counts
from hiercorr.specification import read_specification, shipped_models


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_depth_quadrature_is_exact_to_its_tolerance(spread):
    adata, _ = simulate_counts(3, 200, 5, mean=2, depth_sd=spread, seed=1)
    counts = read_counts(adata, sample="sample", depth="depth")
    for tolerance in (1e-8, 1e-13):
        sums = moments.depth_sums(counts, tolerance)
        x, s = counts.toarray(), counts.depth / counts.depth.mean()
        for a in (0.01, 1.0, 50.0):
            direct = (x / (1 + a * s)[:, None]).sum(0)
            through = (sums.first.sum(1) / (1 + a * sums.nodes)).sum(1)
            np.testing.assert_allclose(through, direct, rtol=30 * tolerance + 1e-12)


def test_constant_depth():
    adata, _ = simulate_counts(3, 50, 4, mean=2, depth_sd=0, depth_shift=0, within=0.5, seed=1)
    assert np.isfinite(fit(adata).matrix().iloc[0, 1])


@pytest.mark.parametrize("most", [1.0, 2.0, 19.0, 499.0])
def test_pair_table_equals_scipy_for_any_df(most):
    rng = np.random.default_rng(2)
    shape = (300, 200)
    df = np.exp(rng.uniform(np.log(inference.LEAST_DF), np.log(most), shape))
    df[0], df[1, 0], df[1, 1] = most, inference.LEAST_DF, inference.LEAST_DF * 0.99
    rho, se = rng.normal(0, 0.6, shape), np.exp(rng.normal(-2, 1.5, shape))
    rho[2, :3], se[2, 3] = (1.2, -1.0, np.nan), np.nan
    zeros = np.zeros(shape, np.int32)
    out = inference.pair_table(inference.PairEstimate(rho, se, df, zeros, zeros), 0.9)
    inside = np.where(np.abs(rho) < 1, rho, np.nan)
    np.testing.assert_allclose(out["fisher_z"], np.arctanh(inside), rtol=1e-12)
    nothing = np.isnan(rho) | np.isnan(se) | (df < inference.LEAST_DF)
    np.testing.assert_allclose(
        out["se"], np.where(nothing, np.nan, se / (1 - inside**2)), rtol=1e-9
    )
    t = np.where(nothing, np.nan, rho / se)
    np.testing.assert_allclose(out["p_value"], 2 * stats.t.sf(np.abs(t), df), rtol=2e-6, atol=1e-60)
    margin = stats.t.ppf(0.95, df) * se
    low, high = np.maximum(rho - margin, -1), np.minimum(rho + margin, 1)
    assert (low > high).any()  # an estimate far beyond 1 leaves nothing of the interval
    for name, value in (("ci_lower", low), ("ci_upper", high)):
        np.testing.assert_allclose(
            out[name], np.where(nothing | (low >= high), np.nan, value), rtol=1e-5, atol=2e-6
        )
    for name, value in (("statistic", t), ("df", df)):
        np.testing.assert_allclose(out[name], np.where(nothing, np.nan, value), rtol=1e-12)


def test_benjamini_hochberg():
    p = np.random.default_rng(0).uniform(size=1000) ** 2
    p[::7] = np.nan
    q = inference.benjamini_hochberg(p)
    known = np.isfinite(p)
    np.testing.assert_allclose(q[known], stats.false_discovery_control(p[known]))
    assert np.isnan(q[~known]).all()
    assert np.isnan(inference.benjamini_hochberg(np.full(3, np.nan))).all()
    single = p.astype(np.float32)  # sorted in another way
    single[:50] = single[50]  # ties
    known = np.isfinite(single)
    found = inference.benjamini_hochberg(single)
    np.testing.assert_allclose(
        found[known], stats.false_discovery_control(single[known]), rtol=1e-6
    )
    assert np.isnan(found[~known]).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("left", "right"), [(slice(3, 140), slice(140, 210)), (slice(50, 190), slice(50, 190))]
)
def test_a_tile_goes_to_both_triangles(left, right):
    whole = np.random.default_rng(0).random((230, 230))
    whole = np.triu(whole) + np.triu(whole, 1).T
    tile = whole[left, right].copy()
    if left == right:
        tile[np.tril_indices(len(tile), -1)] = np.nan  # below the diagonal nothing is read
    out = np.full_like(whole, -1)
    kernels.squares.place(tile, left.start, right.start, out)
    np.testing.assert_array_equal(out[left, right], whole[left, right])
    np.testing.assert_array_equal(out[right, left], whole[right, left])
    assert (out == -1).sum() == whole.size - (1 if left == right else 2) * tile.size


def test_bootstrap_draws():
    draws = inference.bootstrap_draws(3, 500, 1)
    assert (draws.sum(1) == 3).all()
    assert draws.max() < 3
    np.testing.assert_array_equal(
        draws, inference.bootstrap_draws(3, 500, np.random.default_rng(1))
    )


def test_meta_analysis_refuses():
    with pytest.raises(hc.InputError, match="at least 2"):
        inference.meta_analysis(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(hc.InputError, match="method must be"):
        inference.meta_analysis(np.ones((3, 3)), np.ones((3, 3)), method="ML")


@pytest.mark.parametrize("distribution", ["lognormal", "gamma"])
def test_simulated_moments_are_the_truth(distribution):
    adata, truth = simulate_counts(
        2,
        40_000,
        4,
        mean=[2, 5, 0.5, 1],
        within=0.5,
        within_sd=0.6,
        distribution=distribution,
        depth_sd=0.2,
        seed=1,
    )
    code = adata.obs["sample"].cat.codes.to_numpy() == 0
    x, s = adata.X.toarray()[code].astype(float), adata.obs["depth"].to_numpy()[code] / 10_000
    mu = (x / s[:, None]).mean(0)
    np.testing.assert_allclose(mu, truth["mu"][0], rtol=0.05)
    r = x - np.outer(s, mu)
    weight = (s**2).sum()
    variance = ((r**2 - x) * 1.0).sum(0) / weight
    np.testing.assert_allclose(variance / mu**2, truth["overdispersion"], rtol=0.15)
    covariance = (r[:, 0] * r[:, 1]).sum() / weight
    assert covariance / np.sqrt(variance[0] * variance[1]) == pytest.approx(
        float(truth["within"][0, 1]), abs=0.06
    )
    assert float(truth["within"][0, 1]) == pytest.approx(0.5, abs=1e-3)
    assert float(truth["within"][0, 2]) == 0


def test_simulated_between_heterogeneity_covariates():
    matrix = 0.3 * np.ones((4, 4)) + 0.7 * np.eye(4)
    adata, truth = simulate_counts(
        400,
        2,
        4,
        mean=3,
        within=matrix,
        between=0.8,
        heterogeneity=0.2,
        cell_imbalance=0.5,
        covariates={
            "arm": (np.tile(["a", "b"], 200), [1.0, 0, 0, 0]),
            "age": (np.arange(400.0), 0.0),
        },
        seed=2,
    )
    log_mu = np.log(truth["mu"].values)
    arm = np.tile([0, 1], 200)
    assert log_mu[arm == 1, 0].mean() - log_mu[arm == 0, 0].mean() == pytest.approx(1, abs=0.15)
    assert np.corrcoef(log_mu[:, 2], log_mu[:, 3])[0, 1] == pytest.approx(0.8, abs=0.06)
    assert truth["sample_within"].values[:, 0, 1].std() > 0.1
    assert {"arm", "age"} <= set(adata.obs)
    again, _ = simulate_counts(3, 20, 4, seed=9)
    same, _ = simulate_counts(3, 20, 4, seed=np.random.default_rng(9))
    assert (again.X != same.X).nnz == 0


def test_natural_correlation():
    rng = np.random.default_rng(0)
    g = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 400_000)
    assert np.corrcoef(np.exp(0.5 * g).T)[0, 1] == pytest.approx(
        float(natural_correlation(0.5, 0.5, 0.5)), abs=0.01
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"within": 1.0}, "between -1 and 1"),
        ({"within": -0.9}, "out of reach"),
        ({"distribution": "normal"}, "lognormal' or 'gamma"),
        ({"n_genes": 1}, "at least 2 genes"),
        ({"mean": [1, 2]}, "mean needs one number or 40"),
        ({"mean": 0.0}, "positive"),
        ({"n_cells": [5, 5]}, "8 positive numbers"),
        ({"between": np.ones((2, 2))}, "symmetric 40 x 40"),
        (
            {"n_genes": 3, "within": np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])},
            "positive semi-definite",
        ),
        ({"covariates": {"age": ([1, 2], 0.1)}}, "8 values"),
    ],
)
def test_simulation_refuses(options, text):
    with pytest.raises(hc.InputError, match=text):
        simulate_counts(**options)


def test_check_design(gbm, tmp_path):
    design = hc.check_design(gbm, sample="sample_id", depth="total_counts")
    assert design.repeated == {"patient_id": 5}
    assert design.samples.loc["PW030-701", "n_cells"] == 500
    assert "n is 5, not 5,000" in str(design)
    assert "patient_id" in design._repr_html_()
    two, _ = simulate_counts(2, 300, 4, seed=1)
    assert "explore only" in hc.check_design(two, sample="sample", depth="depth").recommendation
    uneven, _ = simulate_counts(4, [20, 200, 100, 100], 4, depth_shift=1.5, seed=1)
    reasons = " ".join(hc.check_design(uneven, sample="sample", depth="depth").reasons)
    assert "5-fold in cells" in reasons
    assert "3-fold in depth" in reasons


def test_specifications(tmp_path):
    assert shipped_models() == [
        "bayesian",
        "cell_types",
        "differential",
        "pooled_cscore",
        "power",
        "pseudobulk",
        "pseudobulk_adjusted",
        "pseudobulk_interaction",
        "signature",
        "within",
        "within_adjusted",
    ]
    for name in shipped_models():
        spec = read_specification(f"models/{name}.toml")
        assert spec.name == name
        assert spec.text["references"][0]["text"]
    assert read_specification("within").fit["estimator"] == "within"
    for text, message in (
        ("name = ", "not valid TOML"),
        ("nome = 'a'", "unknown key .*'nome'; did you mean 'name'"),
        ("model = 'CSCore'\n[fit]\nestimater = 'within'", "did you mean 'estimator'"),
        (
            "model = 'Magic'",
            "unknown model .*'Magic'; there are: 'BayesianCorrelation', 'CSCore', 'Pseudobulk'",
        ),
        ("model = 'Pseudobulk'\n[fit]\nestimator = 'within'", "unknown key in .fit.*'estimator'"),
        ("title = 'no model'", "unknown model in .*None"),
    ):
        path = tmp_path / "m.toml"
        path.write_text(text)
        with pytest.raises(hc.InputError, match=message):
            read_specification(path)
    with pytest.raises(hc.InputError, match="unknown model specification"):
        read_specification("withim")


def test_data_sets():
    assert hc.datasets.kang_pbmc().shape == (1556, 1267)
    sets = hc.datasets.hallmark()
    assert len(sets) == 50
    assert "HALLMARK_HYPOXIA" in sets


def test_report(small, tmp_path):
    result = fit(small, target="gene0")
    design = hc.check_design(small, sample="sample", depth="depth")
    text = hc.report(tmp_path / "r.html", result, design=design).read_text()
    assert "Partners of gene0" in text
    assert "leaving one sample out" in text
    assert "http" not in text
    none = fit(small, estimator="pooled", uncertainty="none")
    assert "No uncertainty" in hc.report(tmp_path / "r.html", none).read_text()
    with pytest.raises(hc.InputError, match="no folder"):
        hc.report(tmp_path / "x" / "r.html", result)


def test_public_names():
    for name in hc.__all__:
        assert getattr(hc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hc.nothing  # noqa: B018
    assert set(dir(hc)) == set(hc.__all__)


def test_readme_code_runs(tmp_path, monkeypatch, quiet):
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    text = (Path(__file__).parent.parent / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 3
    code = "\n".join(blocks).replace(
        "draws=500", "draws=100, tune=100"
    )  # what is sampled is tested elsewhere
    exec(code, {})
    plt.close("all")
    assert (tmp_path / "ftl.html").exists()
