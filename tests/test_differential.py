"""Differences of correlation between samples: against statsmodels, scipy and brute force; truth; refusals."""

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import hiercorr as hc
from hiercorr import kernels, moments
from hiercorr.counts.read import read_counts
from hiercorr.inference.pairs import sample_effects, variance_shares
from hiercorr.simulate import simulate_counts
from hiercorr.within.differential_tests import Shuffles, shuffles

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
OPTIONS = {"sample": "sample", "depth": "depth"}


def two_arms(rho_a, rho_b, n=6, cells=300, genes=12, seed=0, mean=1.5, paired=False):
    """Samples of arm a and arm b, whose pairs of genes (0, 1), (2, 3), ... have these correlations."""
    parts = []
    for k, rho in enumerate((rho_a, rho_b)):
        part, _ = simulate_counts(
            n,
            cells,
            genes,
            mean=mean,
            within=rho,
            cell_imbalance=0.4,
            seed=(seed, k, 7)[k] + 10 * seed,
        )
        part.obs["donor"] = part.obs["sample"].astype(str)
        part.obs["sample"] = part.obs["sample"].astype(str) + "ab"[k]
        part.obs["arm"] = "ab"[k]
        part.obs["batch"] = np.where(part.obs["donor"].str[-1].astype(int) % 2 == 0, "x", "y")
        part.obs["age"] = 40.0 + 3 * part.obs["donor"].str[-1].astype(int) + k
        part.obs_names = "ab"[k] + part.obs_names
        parts.append(part)
    out = ad.concat(parts)
    if not paired:
        out.obs["donor"] = out.obs["sample"]
    return out


@pytest.fixture(scope="module")
def data():
    return two_arms(0.2, 0.7)


def per_sample(data, i, j):
    """L_c and b_c of one pair, from the moments."""
    counts = read_counts(data, **OPTIONS)
    sums = moments.depth_sums(counts, 1e-13)
    fit = moments.within_moments(sums)
    one = [slice(g, g + 1) for g in (i, j)]
    num = moments.numerators(counts, sums, fit, *one, np.empty((counts.n_samples, 1, 1)))
    den = moments.denominators(sums, fit, *one, num, np.empty_like(num))[:, 0, 0]
    num = num[:, 0, 0]
    phi = [fit.variance[g] for g in (i, j)]
    rho = num.sum() / den.sum() / np.sqrt(phi[0] * phi[1])
    effect = [sample_effects(fit.num[[g]], fit.den[[g]])[:, 0] for g in (i, j)]
    share = np.mean(
        [variance_shares(fit.num[[g]], fit.den[[g]], np.array([2.0]))[:, 0] for g in (i, j)], 0
    )
    x = (num - num.sum() / den.sum() * den) / den.sum() / np.sqrt(phi[0] * phi[1]) - rho / 2 * (
        effect[0] + effect[1]
    )
    obs = data.obs.drop_duplicates("sample").set_index("sample").loc[counts.samples]
    return rho + x / share, share, obs


@pytest.mark.parametrize("formula", [None, "~ batch + age"])
def test_weighted_regression_is_that_of_statsmodels(data, formula):
    r = hc.differential(
        data, condition="arm", formula=formula, precision="double", **OPTIONS
    ).dataset
    for i, j in ((0, 1), (3, 8)):
        value, share, obs = per_sample(data, i, j)
        design = np.column_stack([np.ones(len(obs)), obs["arm"] == "b"])
        if formula:
            design = np.column_stack([design, obs["batch"] == "y", obs["age"]]).astype(float)
        fit = sm.WLS(value, design.astype(float), weights=share).fit(cov_type="HC2")
        pair = r.sel(gene=f"gene{i}", partner=f"gene{j}")
        np.testing.assert_allclose(pair["difference"], fit.params[1], rtol=1e-6)
        np.testing.assert_allclose(pair["difference_se"], fit.bse[1], rtol=1e-6)
        t = fit.params[1] / fit.bse[1]
        np.testing.assert_allclose(
            pair["p_value"], 2 * stats.t.sf(abs(t), float(pair["df"])), rtol=1e-5
        )


def kernel(values, design, contrast):
    """The regression of equally weighted per-sample values."""
    s = len(values)
    num, den = values.reshape(s, 1, 1), np.ones((s, 1, 1))
    zero, share, one = np.zeros((s, 1)), np.full((s, 1), 1 / s), np.ones(1)
    found = kernels.differences.difference(
        num, den, one, one, zero, zero, share, share, design, np.array(contrast, float)
    )
    return [float(v[0, 0]) for v in found]


def test_two_groups_are_welch():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 4), rng.normal(1, 1, 9)
    design = np.column_stack([np.ones(13), np.repeat([0.0, 1.0], [4, 9])])
    estimate, se, df = kernel(np.concatenate([a, b]), design, [0, 1])
    wanted = stats.ttest_ind(b, a, equal_var=False)
    assert estimate / se == pytest.approx(wanted.statistic)
    v = 1 / np.array([4, 9])  # the working variances are equal
    assert df == pytest.approx(v.sum() ** 2 / (v**2 / np.array([3, 8])).sum())


def test_pairs_in_blocks_are_the_paired_t_test():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 6), rng.normal(0.5, 1, 6)
    donors = np.tile(np.eye(6), (2, 1))
    design = np.column_stack([np.ones(12), donors[:, 1:], np.repeat([0.0, 1.0], 6)])
    estimate, se, df = kernel(np.concatenate([a, b]), design, [0] * 6 + [1])
    wanted = stats.ttest_rel(b, a)
    assert estimate / se == pytest.approx(wanted.statistic)
    assert df == pytest.approx(5)


def test_exact_permutations_by_brute_force(data):
    six = data[data.obs["sample"].str.match("s[123][ab]")].copy()
    r = hc.differential(
        six, condition="arm", permutations=1000, precision="double", **OPTIONS
    ).dataset
    assert r.attrs["permutations"] == 20
    assert r.attrs["smallest_p"] == pytest.approx(0.1)

    def t(y, b, x):
        d = x - (b * x).sum() / b.sum()
        slope = (b * d * y).sum() / (b * d * d).sum()
        e = y - (b * y).sum() / b.sum() - slope * d
        return abs((b * d * y).sum()) / np.sqrt(((b * d * e) ** 2).sum())

    for i, j in ((0, 1), (2, 7)):
        value, share, obs = per_sample(six, i, j)
        observed = t(value, share, (obs["arm"] == "b").to_numpy(float))
        every = [
            t(value, share, np.isin(np.arange(6), c).astype(float))
            for c in itertools.combinations(range(6), 3)
        ]
        wanted = np.mean(np.array(every) >= observed * (1 - 1e-9))
        assert float(r["p_value"].sel(gene=f"gene{i}", partner=f"gene{j}")) == pytest.approx(wanted)


def test_shuffles_stay_within_blocks():
    values, strata = np.array([0.0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    exact = shuffles(values, strata, 100, 0)
    assert exact.exact
    assert len(exact.values) == 8
    assert len(np.unique(exact.values, axis=0)) == 8
    assert exact.smallest_p == pytest.approx(2 / 8)
    drawn = shuffles(np.tile(values, 4), np.repeat(np.arange(12), 2), 50, 0)
    assert not drawn.exact
    np.testing.assert_array_equal(drawn.values.reshape(50, 12, 2).sum(2), 1)
    assert drawn.smallest_p == pytest.approx(1 / 51)
    assert isinstance(drawn, Shuffles)


@pytest.mark.parametrize("options", [{}, {"permutations": 500, "seed": 1}])
def test_truth_is_found(options):
    r = hc.differential(
        two_arms(0.2, 0.7, n=8, cells=500, seed=3), condition="arm", **OPTIONS, **options
    )
    pairs = [(f"gene{k}", f"gene{k + 1}") for k in range(0, 12, 2)]
    ds = r.dataset
    at = {"gene": ("pair", [a for a, _ in pairs]), "partner": ("pair", [b for _, b in pairs])}
    import xarray as xr

    at = {k: xr.DataArray(v[1], dims="pair") for k, v in at.items()}
    assert float(ds["difference"].sel(at).mean()) == pytest.approx(0.5, abs=0.06)
    assert ((ds["difference_lower"] < 0.5) & (ds["difference_upper"] > 0.5)).sel(at).mean() > 0.6
    assert (ds["p_value"].sel(at) < 0.05).all()
    groups = ds["group_correlation"].sel(at).mean("pair")
    np.testing.assert_allclose(groups, [0.2, 0.7], atol=0.06)
    assert list(ds["group"].values) == ["a", "b"]


def test_null_is_kept_at_few_samples():
    """Type-I error over 1,500 pairs of no difference, correlated and not; the study in validation/ is the real one."""
    rejected = []
    for seed in range(6):
        for paired in (False, True):
            null = two_arms(0.4, 0.4, n=5, cells=120, genes=24, seed=20 + seed, paired=paired)
            block = "donor" if paired else None
            p = (
                hc.differential(null, condition="arm", block=block, **OPTIONS)
                .dataset["p_value"]
                .values
            )
            rejected.append(np.mean(p[np.triu_indices(24, 1)] < 0.05))
    assert 0.025 < np.mean(rejected) < 0.07


def test_recoding_and_relabelling(data):
    base = hc.differential(data, condition="arm", **OPTIONS).dataset
    turned = data.copy()
    turned.obs["arm"] = turned.obs["arm"].map({"a": "z", "b": "c"}).astype(str)
    turned.obs["sample"] = pd.Categorical(turned.obs["sample"].astype(str).map(lambda s: s[::-1]))
    other = hc.differential(turned, condition="arm", **OPTIONS).dataset
    np.testing.assert_allclose(other["difference"], -base["difference"], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(other["p_value"], base["p_value"], rtol=2e-3, atol=1e-6)
    number = data.copy()
    number.obs["arm"] = (number.obs["arm"] == "b").astype(float) * 10
    slope = hc.differential(number, condition="arm", **OPTIONS).dataset
    np.testing.assert_allclose(10 * slope["difference"], base["difference"], rtol=2e-4, atol=2e-6)
    assert "group_correlation" not in slope


def test_condition_is_not_taken_for_a_column_whose_name_holds_its_own(data):
    named = data.copy()
    named.obs["arm_2"] = named.obs["batch"]
    found = hc.differential(named, condition="arm", formula="~ arm_2 + arm", **OPTIONS).dataset
    wanted = hc.differential(data, condition="arm", formula="~ batch", **OPTIONS).dataset
    assert found.attrs["contrast"] == "arm[T.b]"
    np.testing.assert_allclose(found["difference"], wanted["difference"], rtol=1e-5, atol=1e-7)


def test_result_is_saved_and_shown(data, tmp_path):
    r = hc.differential(data, condition="arm", target="gene0", **OPTIONS)
    assert r.top(n=1).index[0] == "gene1"
    assert {"difference", "correlation[a]", "correlation[b]"} <= set(r.top().columns)
    assert "diff." in str(r.summary())
    for name in ("r.zarr", "r.nc"):
        loaded = hc.load(r.save(tmp_path / name))
        xr_equal = loaded.dataset.equals(r.dataset)
        assert xr_equal
    full = hc.differential(data, condition="arm", **OPTIONS)
    assert {"correlation[a]", "difference"} <= set(full.pairs(n=3).columns)
    np.testing.assert_allclose(
        full.matrix("difference").loc["gene0"],
        r.matrix("difference").loc["gene0"],
        rtol=1e-4,
        atol=1e-6,
    )


def test_contrast_of_three_groups(data):
    three = data.copy()
    third = three.obs["sample"].str.match("s[12]a")
    three.obs["arm"] = np.where(third, "c", three.obs["arm"].astype(str))
    with pytest.raises(hc.InputError, match=r"has 2 coefficients .* contrast=\('arm', 'b', 'a'\)"):
        hc.differential(three, condition="arm", **OPTIONS)
    r = hc.differential(three, condition="arm", contrast=("arm", "b", "c"), **OPTIONS)
    back = hc.differential(three, condition="arm", contrast=("arm", "c", "b"), **OPTIONS)
    np.testing.assert_allclose(
        r.matrix("difference"), -back.matrix("difference"), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        ({}, {"condition": "arms"}, "unknown condition column 'arms'; did you mean 'arm'"),
        (
            {"arm": lambda o: ["a", "b"] * (len(o) // 2)},
            {},
            "condition 'arm' varies within samples",
        ),
        ({"arm": lambda o: "a"}, {}, "has one value, 'a'"),
        (
            {"arm": lambda o: np.where(o["sample"] == o["sample"].iloc[0], "b", "a")},
            {},
            "one sample in group 'b'",
        ),
        ({"batch": lambda o: o["arm"]}, {"formula": "~ batch"}, "not of full rank"),
        ({}, {"block": "age"}, "nothing can be compared within blocks"),
        ({}, {"permutations": 5}, "at least 19"),
        ({}, {"permutations": 99, "formula": "~ age"}, "name a covariate with levels as block="),
        ({}, {"confidence": 5}, "confidence must lie"),
        ({}, {"precision": "half"}, "precision must be"),
        ({}, {"block": "donors"}, "unknown block column"),
    ],
)
def test_refusals(data, change, options, text):
    given = data.copy()
    for name, make in change.items():
        given.obs[name] = make(given.obs)
    with pytest.raises(hc.InputError, match=text):
        hc.differential(given, **{"condition": "arm", **OPTIONS, **options})


def test_unreachable_p_is_said(data):
    three = data[data.obs["sample"].str.match("s[123][ab]")].copy()
    with pytest.warns(
        hc.EstimationWarning, match=r"20 arrangements of 'arm' can give no p-value below 0.1"
    ):
        hc.differential(three, condition="arm", permutations=99, **OPTIONS)


def test_real_data_paired_by_patient():
    adata = hc.datasets.glioblastoma()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.differential(
            adata, "sample_id", "condition", block="patient_id", target="FTL", depth="total_counts"
        )
    assert r.dataset["df"].max() <= 4 + 1e-6  # 5 patients
    assert list(r.dataset["group"].values) == ["ctrl", "panobinostat"]


def test_condition_within_samples_is_compared_within_them():
    parts = []
    for k, rho in enumerate((0.2, 0.7)):
        part, _ = simulate_counts(7, 250, 12, mean=1.5, within=rho, seed=30 + k)
        part.obs["cell_type"] = ["T cells", "B cells"][k]
        part.obs_names = f"{k}" + part.obs_names
        parts.append(part)
    adata = ad.concat(parts)
    with pytest.raises(
        hc.InputError, match="compare the conditions within samples, with block='sample'"
    ):
        hc.differential(adata, condition="cell_type", **OPTIONS)
    r = hc.differential(adata, condition="cell_type", block="sample", target="gene0", **OPTIONS)
    assert r.dataset.sizes["sample"] == 14
    assert list(r.dataset["group"].values) == ["B cells", "T cells"]
    assert r.top(n=1).index[0] == "gene1"
    assert float(r.top(n=1)["difference"].iloc[0]) == pytest.approx(-0.5, abs=0.15)
    assert float(r.top(n=1)["df"].iloc[0]) <= 6 + 1e-6


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster"])
def test_pooled_groups_are_those_of_separate_sums(uncertainty):
    """Each group by itself, with the means and weights of all samples: its correlation, error and df, compared on z."""
    from scipy import stats

    from hiercorr import inference, moments
    from hiercorr.counts.read import read_counts

    adata, _ = simulate_counts(9, 120, 6, mean=3.0, within=0.5, seed=5)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["arm"] = np.where(number < 4, "a", "b")
    options = {"depth": "depth", "precision": "double"}
    ds = hc.differential(
        adata, "sample", "arm", method="pooled", uncertainty=uncertainty, **options
    ).dataset
    counts = read_counts(adata, sample="sample", depth="depth")
    sums = moments.depth_sums(counts, 1e-13)
    found = moments.within_moments(sums)
    every = slice(0, 6)
    num = moments.numerators(counts, sums, found, every, every, np.empty((9, 6, 6)))
    den = moments.denominators(sums, found, every, every, num, np.empty((9, 6, 6)))
    z, s, df, r = [], [], [], []
    for own in (slice(0, 4), slice(4, 9)):
        n, d = found.num[:, own], found.den[:, own]
        e = inference.pair_estimate(
            num[own], den[own], (n, n), (d, d), uncertainty, (np.full(6, 2.0), np.full(6, 2.0))
        )
        (
            r.append(e.correlation),
            df.append(e.df),
            z.append(np.arctanh(e.correlation)),
            s.append(e.se / (1 - e.correlation**2)),
        )
    t = (z[1] - z[0]) / np.hypot(*s)
    welch = (s[0] ** 2 + s[1] ** 2) ** 2 / (s[0] ** 4 / df[0] + s[1] ** 4 / df[1])
    off = ~np.eye(6, dtype=bool) & np.isfinite(t)
    assert off.sum() > 10
    np.testing.assert_allclose(ds["difference"].values[off], (r[1] - r[0])[off], rtol=1e-9)
    np.testing.assert_allclose(
        ds["p_value"].values[off], 2 * stats.t.sf(np.abs(t), welch)[off], rtol=1e-6
    )
    other = hc.differential(adata, "sample", "arm", **options).dataset  # to first order the same
    assert np.corrcoef(ds["statistic"].values[off], other["statistic"].values[off])[0, 1] > 0.95


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"block": "donor"}, "does not go with block="),
        ({"formula": "~ age"}, "does not go with covariates"),
        ({"permutations": 99}, "does not go with permutations="),
        ({"condition": "age"}, "does not go with a number"),
        ({"method": "exact"}, "method must be one of"),
        ({"uncertainty": "bootstrap"}, "'jackknife' or 'cluster'"),
        ({"condition": "few"}, "at least 3 samples in each group of 'few', one has 2"),
    ],
)
def test_pooled_groups_refuse(options, text, quiet):
    adata, _ = simulate_counts(8, 40, 4, mean=3.0, within=0.5, seed=5)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["arm"], adata.obs["age"] = np.where(number % 2 == 0, "a", "b"), 30.0 + number**1.5
    adata.obs["donor"], adata.obs["few"] = (
        np.array(["d0", "d1", "d2", "d3"])[number // 2],
        np.where(number < 2, "a", "b"),
    )
    with pytest.raises(hc.InputError, match=text):
        hc.differential(
            adata, "sample", **{"condition": "arm", "depth": "depth", "method": "pooled", **options}
        )
