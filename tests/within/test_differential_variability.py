"""Differences of the relative variance of genes between groups of samples."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import hiercorr as hc
from hiercorr import moments
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.inference.variability import VarianceSums, variance_regression
from hiercorr.reporting import methods_text
from hiercorr.simulate import simulate_counts
from hiercorr.within.variance_sums import variance_sums


def two_groups(n=4, cells=150, genes=40, second=None, seed=0, depth=1.0, mean=2.0):
    """Simulate arms a and b; the first half of the genes has another variance in arm b."""
    parts, sd = [], np.full(genes, 0.7)
    for k, arm in enumerate("ab"):
        if k and second is not None:
            sd = np.where(np.arange(genes) < genes // 2, second, sd)
        part, _ = simulate_counts(
            n,
            cells,
            genes,
            mean=mean * (depth if k else 1.0),
            within_sd=sd,
            distribution="gamma",
            cell_imbalance=0.4,
            seed=10 * seed + k,
        )
        part.obs["depth"] *= depth if k else 1.0
        part.obs["donor"] = part.obs["sample"].astype(str)
        part.obs["sample"] = part.obs["donor"] + arm
        part.obs["arm"] = arm
        part.obs["age"] = 40.0 + 3 * part.obs["donor"].str[-1].astype(int) + 1.5 * k
        part.obs["stress"] = np.random.default_rng(seed).normal(size=part.n_obs)
        part.obs_names = arm + part.obs_names
        parts.append(part)
    return ad.concat(parts)


def sums_of(data, **options):
    selection = Selection("sample", min_cells=10, **{"depth": "depth", **options})
    counts = read_counts(data, selection)
    sums = moments.sums_of(counts, 1e-13)
    return counts, sums, moments.within_moments(sums)


OPTIONS = {"sample": "sample", "condition": "arm", "depth": "depth"}


@pytest.fixture(scope="module")
def data():
    return two_groups(second=1.3, seed=1)


def test_sums_equal_plain_numpy():
    data = two_groups(3, 60, 6, seed=2)
    counts, sums, fit = sums_of(data)
    found = variance_sums(counts, sums, fit)
    depth = data.obs["depth"].to_numpy() / data.obs["depth"].mean()
    for j, gene in enumerate(counts.genes):
        x, phi = data[:, gene].X.toarray()[:, 0], fit.num[j].sum() / fit.den[j].sum()
        cells = [np.flatnonzero(data.obs["sample"] == s) for s in counts.samples]
        w = [1 / (1 + fit.slope[j, c] * depth[i]) for c, i in enumerate(cells)]
        mu = np.array(
            [(v * x[i]).sum() / (v * depth[i]).sum() for v, i in zip(w, cells, strict=True)]
        )
        total = np.array([(v * depth[i]).sum() for v, i in zip(w, cells, strict=True)])
        average = (total * mu).sum() / total.sum()
        noise = [
            (v**2 * (depth[i] * average + phi * (depth[i] * average) ** 2)).sum()
            for v, i in zip(w, cells, strict=True)
        ]
        precision = (total * average) ** 2 / np.array(noise)
        relative = mu / average
        middle = (precision * relative).sum() / precision.sum()
        q = (precision * (relative - middle) ** 2).sum() - (len(cells) - 1)
        scale = precision.sum() - (precision**2).sum() / precision.sum()
        between = max(q / scale, 0)
        shrunk = average * (middle + between / (between + 1 / precision) * (relative - middle))
        squares, expected, influence = np.zeros(len(cells)), np.zeros((len(cells), 3)), 0.0
        for c, i in enumerate(cells):
            s, f, m = depth[i], w[c], mu[c]
            y = f * (x[i] - s * m)
            squares[c] = (f**2 * s**2).sum()
            u = y**2 - f**2 * s * m - phi * f**2 * s**2 * m**2
            u -= y * ((f**2 * s).sum() + 2 * phi * m * squares[c]) / (f * s).sum()
            influence += ((u - u.mean()) ** 2).sum()
            noise, biology = f**2 * s * shrunk[c], (f * s * shrunk[c]) ** 2
            expected[c] = 2 * np.array(
                [(noise**2).sum(), 2 * (noise * biology).sum(), (biology**2).sum()]
            )
        factor = max(influence / (expected @ [1, phi, phi**2]).sum(), 1.0)
        np.testing.assert_allclose(found.typical[j], squares * shrunk**2, rtol=1e-6)
        np.testing.assert_allclose(found.parts[:, j].T, expected * factor, rtol=1e-6)


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.2])  # logarithms, both, linear residuals
def test_regression_solves_the_quasi_score(noise):
    rng = np.random.default_rng(4)
    n, age = 9, rng.normal(size=9)
    den = rng.gamma(20, 1 / 20, (1, n)) * rng.gamma(5, 1 / 5, n)
    num = den * np.exp(0.4 * age + rng.normal(0, 0.5, n))
    num[0, 3] = -0.01
    typical = den * rng.gamma(50, 1 / 50, n)
    parts = rng.gamma(5, noise / 5, (3, 1, n)) * den**2
    design, contrast = np.column_stack([np.ones(n), age]), np.array([0.0, 1.0])
    found = variance_regression(VarianceSums(num, den, typical, parts), design, contrast)
    tau2 = found.tau**2
    x, (y,), (d,), (size,) = design, num, den, typical
    a, b, c = parts[:, 0] / size**2

    def variance(phi):
        return a / phi**2 + b / phi + c

    whole = y.sum() / d.sum()

    def between(phi):
        return variance(np.sqrt(whole * phi))

    linear = min(1, 2 * variance(whole).mean() / tau2) if tau2 else 1.0
    ratio = y / size / np.maximum(d / size, 0.2)

    def weights(beta):
        return 1 / (tau2 + between(np.exp(x @ beta)))

    def residual(beta):
        phi = np.exp(x @ beta)
        logarithm = np.log((ratio + np.sqrt(ratio**2 + 4 * a)) / 2) - x @ beta + between(phi) / 2
        return linear * (y / phi - d) / size + (1 - linear) * logarithm

    start = np.array([np.log(whole), 0.0])
    beta = optimize.root(lambda b: x.T @ (weights(b) * residual(b)), start, tol=1e-12).x
    w, r = weights(beta), residual(beta)
    m = np.linalg.inv(x.T @ (w[:, None] * x))
    observed = w * np.maximum(y / np.exp(x @ beta) / size, 1e-3)
    seen = observed * np.diag(x @ np.linalg.inv(x.T @ (observed[:, None] * x)) @ x.T)
    share = linear * (tau2 * w).mean()
    h = (1 - share) * w * np.diag(x @ m @ x.T) + share * seen
    s2 = (w * r**2 / (1 - h)).sum() / n
    assert found.estimate[0] == pytest.approx(beta[1], abs=1e-6)
    assert found.se[0] == pytest.approx(np.sqrt(s2 * m[1, 1]), rel=1e-5)
    assert found.df[0] == n - 2
    if tau2:  # one gene: tau fits
        assert s2 * (n - 2) == pytest.approx(stats.chi2.median(n - 2), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
def test_size_where_variances_differ_much_between_donors(pairs):
    rng = np.random.default_rng(8)
    genes, n, tau, noise = 6000, 20, 0.8, 0.02
    num = np.exp(rng.normal(0, tau, (genes, n)))
    num += num * np.sqrt(noise) * rng.normal(size=num.shape)
    ones = np.ones_like(num)
    sums = VarianceSums(num, ones, ones, np.multiply.outer([0.0, 0.0, noise], ones))
    arm = np.arange(n) % 2
    donors = np.eye(n // 2)[np.arange(n) // 2, 1:] if pairs else np.empty((n, 0))
    design = np.column_stack([np.ones(n), arm, donors])
    found = variance_regression(sums, design, np.eye(design.shape[1])[1])
    p = 2 * stats.t.sf(np.abs(found.estimate / found.se), found.df)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert found.tau == pytest.approx(tau, rel=0.1)


def test_size_of_sparse_genes_in_pairs():
    rng = np.random.default_rng(9)
    p = []
    for _ in range(8):
        donors, genes = 8, 60
        parts = []
        for k in range(2 * donors):
            z = rng.gamma(1.5, 1 / 1.5, (120, genes))
            depth = np.exp(rng.normal(0, 0.3, 120))
            about = {"sample": f"s{k:02d}", "donor": f"d{k // 2}", "arm": "ab"[k % 2]}
            obs = pd.DataFrame({**about, "depth": 1e4 * depth}).rename(
                index=lambda i, k=k: f"{k}-{i}"
            )
            counts = rng.poisson(0.6 * depth[:, None] * z).astype(np.float32)
            parts.append(ad.AnnData(counts, obs=obs))
        table = hc.differential_variability(ad.concat(parts), **OPTIONS, block="donor")
        p.append(table["p_value"].to_numpy())
    p = np.concatenate(p)
    assert np.isfinite(p).mean() > 0.7
    assert (p[np.isfinite(p)] < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_table(data):
    table = hc.differential_variability(data, **OPTIONS, confidence=0.9)
    assert table["p_value"].is_monotonic_increasing
    fold = np.log2(np.expm1(1.3**2) / np.expm1(0.7**2))
    changed = table.index.str[4:].astype(int) < 20
    assert table["log2_fold_change"][changed].median() == pytest.approx(fold, abs=0.3)
    assert abs(table["log2_fold_change"][~changed].median()) < 0.3
    assert (table["q_value"][changed] < 0.05).mean() > 0.7
    assert (table["q_value"][~changed] < 0.05).mean() < 0.1
    half = stats.t.ppf(0.95, table["df"]) * table["se"]
    np.testing.assert_allclose(table["ci_upper"] - table["log2_fold_change"], half)
    np.testing.assert_allclose(
        table["p_value"], 2 * stats.t.sf(np.abs(table["statistic"]), table["df"])
    )
    within = hc.CSCore(data, "sample", depth="depth").fit(target="gene0").gene_table()
    np.testing.assert_allclose(
        table["overdispersion"], within["overdispersion"][table.index], rtol=1e-5
    )
    turned = hc.differential_variability(data, **OPTIONS, contrast=("arm", "a", "b"))
    np.testing.assert_allclose(turned["log2_fold_change"], -table["log2_fold_change"], rtol=1e-5)
    assert "contrast was arm[T.b]" in methods_text(table)


@pytest.mark.slow
def test_depth_is_not_variability():
    p = []
    for seed in range(3):
        data = two_groups(5, 120, 60, seed=20 + seed, depth=0.3)
        table = hc.differential_variability(data, **OPTIONS)
        p.append(table["p_value"].to_numpy())
        assert abs(table["log2_fold_change"].median()) < 0.25
    assert (np.concatenate(p) < 0.05).mean() < 0.09


@pytest.mark.parametrize(
    ("options", "formula", "contrast"),
    [
        ({"block": "donor"}, "~ C(`donor`) + 1 + `arm`", "arm[T.b]"),
        ({"condition": "age"}, "~ 1 + `age`", "age"),
        ({"formula": "~ age + stress"}, "~ age + `arm`", "arm[T.b]"),
        ({"formula": "~ (1 | donor)"}, "~ C(`donor`) + 1 + `arm`", "arm[T.b]"),
    ],
)
def test_designs(data, options, formula, contrast):
    table = hc.differential_variability(data, **OPTIONS | options)
    assert np.isfinite(table["p_value"]).mean() > 0.9
    assert table.attrs["formula"] == formula
    assert table.attrs["contrast"] == contrast
    assert table.attrs["cell_terms"] == ("stress" if "stress" in str(options) else None)


def test_genes_without_variance_are_flagged():
    data = two_groups(4, 100, 12, seed=3)
    rng = np.random.default_rng(0)
    x = data.X.toarray()
    x[:, 0] = rng.poisson(2.0, len(x))
    x[:, 1] = np.where(data.obs["arm"] == "a", rng.binomial(3, 0.7, len(x)), x[:, 1])
    data.X = x
    data.obs["depth"] = 1000.0
    with pytest.warns(hc.EstimationWarning, match="have no difference"):
        table = hc.differential_variability(data, **OPTIONS)
    assert np.isnan(table.loc["gene1", ["log2_fold_change", "se", "p_value"]].astype(float)).all()
    assert "nonpositive_variance" in table.loc["gene1", "flag"]
    assert np.isfinite(table["p_value"]).sum() >= 10


def test_types_of_features_are_as_alone():
    data = two_groups(3, 60, 8, seed=6)
    kinds = ["Gene Expression", "Peaks"]
    data.var["feature_types"] = np.repeat(kinds, 4)
    depth = dict.fromkeys(kinds, "depth")
    both = sums_of(data, depth=depth, modalities="all")
    found = variance_sums(*both)
    for k, kind in enumerate(kinds):
        alone = variance_sums(*sums_of(data, depth={kind: "depth"}, modalities=[kind]))
        for name in ("num", "den", "typical"):
            of_kind = getattr(found, name)[4 * k : 4 * k + 4]
            np.testing.assert_allclose(of_kind, getattr(alone, name), rtol=1e-5)
        np.testing.assert_allclose(found.parts[:, 4 * k : 4 * k + 4], alone.parts, rtol=1e-5)


def test_one_condition_is_refused(data):
    with pytest.raises(hc.InputError, match="nothing to compare"):
        hc.differential_variability(data[data.obs["arm"] == "a"], **OPTIONS)


def test_several_contrasts_are_refused(data):
    several = data.copy()
    several.obs["dose"] = several.obs["sample"].map(lambda s: "xyz"[int(s[1]) % 3])
    options = {**OPTIONS, "condition": "dose"}
    with pytest.raises(hc.InputError, match=r"state one, e.g. contrast=\('dose', 'y', 'x'\)"):
        hc.differential_variability(several, **options)
    table = hc.differential_variability(several, **options, contrast=("dose", "y", "x"))
    assert np.isfinite(table["p_value"]).mean() > 0.9
    with pytest.raises(hc.InputError, match="use condition='age', whose slope"):
        hc.differential_variability(data, **OPTIONS | {"condition": "bs(age, df=3)"})
    several.obs["dose"] = pd.Categorical(several.obs["dose"], list("xyz"), ordered=True)
    trend = hc.differential_variability(several, **options)
    assert trend.attrs["contrast"] == "slope per level of x < y < z"
