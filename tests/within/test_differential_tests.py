"""Differences of correlation against statsmodels, brute force and separate sums."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import hiercorr as hc
from hiercorr import moments
from hiercorr.inference.pairs import sample_effects, variance_shares
from hiercorr.reporting import methods_text
from hiercorr.simulate import simulate_counts
from hiercorr.within.differential_tests import Shuffles, shuffles
from tests.support import OPTIONS, read_counts
from tests.within.support import two_arms

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


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
        data,
        condition="arm",
        formula=formula,
        precision="double",
        uncertainty="HC2",
        **OPTIONS,
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


@pytest.mark.slow
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


def test_unreachable_p_is_said(data):
    three = data[data.obs["sample"].str.match("s[123][ab]")].copy()
    with pytest.warns(
        hc.EstimationWarning, match=r"20 arrangements of 'arm' can give no p-value below 0.1"
    ):
        hc.differential(three, condition="arm", permutations=99, **OPTIONS)


@pytest.mark.parametrize("uncertainty", ["jackknife", "cluster"])
def test_pooled_groups_are_those_of_separate_sums(uncertainty):
    """Each group alone, with the means and weights of all samples, compared on Fisher's z."""
    from scipy import stats

    from hiercorr import inference, moments
    from tests.support import read_counts

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
        ({"block": "donor"}, "cannot be combined with block="),
        ({"formula": "~ age"}, "cannot be combined with covariates"),
        ({"permutations": 99}, "cannot be combined with permutations="),
        ({"condition": "age"}, "cannot be combined with a numeric condition"),
        ({"method": "exact"}, "method must be one of"),
        ({"uncertainty": "bootstrap"}, "'jackknife', 'cluster'"),
        ({"condition": "few"}, "at least 3 samples in each group of 'few', and the smallest has 2"),
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


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("order", "contrast", "scale"),
    [
        ("ab", None, 1),
        ("ba", None, -1),
        ("ab", ("arm", "b", "a"), 1),
        ("ab", ("arm", "a", "b"), -1),
        ("ba", ("arm", "b", "a"), 1),
        ("ba", ("arm", "a", "b"), -1),
        ("ab", "arm[T.b]", 1),
        ("ab", "-arm[T.b]", -1),
        ("ba", "2 * arm[T.a]", -2),
    ],
)
@pytest.mark.parametrize(
    "method", [{}, {"uncertainty": "HC2"}, {"method": "pooled"}, {"permutations": 99}]
)
def test_contrast_and_order_of_levels_hold_for_every_method(order, contrast, scale, method):
    data = two_arms(0.0, 0.8, n=6, cells=200, genes=14, seed=3, mean=3.0)
    data.obs["arm"] = pd.Categorical(data.obs["arm"], categories=list(order))
    options = {"condition": "arm", "target": "gene0", "precision": "double", **OPTIONS, **method}
    pair = hc.differential(data, contrast=contrast, **options).dataset.isel(target=0)
    pair = pair.sel(gene="gene1")
    a, b = (float(pair["group_correlation"].sel(group=g)) for g in "ab")
    # regression weighs samples otherwise than separate sums do
    assert float(pair["difference"]) == pytest.approx(scale * (b - a), abs=0.1 * abs(scale))
    assert float(pair["difference"]) * scale > 0.5
    assert float(pair["statistic"]) * scale > 0
    lower, upper = float(pair["difference_lower"]), float(pair["difference_upper"])
    assert lower < float(pair["difference"]) < upper <= 2 * abs(scale)
    if method:  # the normal score of a calibrated p-value otherwise
        np.testing.assert_allclose(pair["statistic"], pair["difference"] / pair["difference_se"])
    else:
        assert pair.attrs["uncertainty"] == "hierarchical"


def test_difference_of_groups_is_at_most_2_whatever_it_is_adjusted_for():
    from hiercorr.within.differential_tests import Question

    groups = np.array([0, 0, 0, 1, 1, 1])
    one, arm, age = np.ones(6), groups.astype(float), np.array([1.0, 2, 4, 1, 3, 5])
    for columns, contrast, weights in (
        ((one, arm), (0, 1), (-1, 1)),
        ((one, arm, age), (0, -1, 0), (1, -1)),
        ((one, age, arm), (0, 0, 2), (-2, 2)),
        ((one, arm), (1, 0), (1, 0)),
        ((one, arm, age), (0, 0, 1), None),
    ):
        question = Question(np.column_stack(columns), np.array(contrast, float), groups, ["a", "b"])
        if weights is None:
            assert question.group_weights is None
            assert question.largest == np.inf
        else:
            np.testing.assert_allclose(question.group_weights, weights, atol=1e-12)
            assert question.largest == pytest.approx(np.abs(weights).sum())


def test_slope_has_no_bound(data):
    """A condition in small units: its slope and limits are those in large units, scaled."""
    arm = (data.obs["arm"] == "b").astype(float)
    large, small = (data.copy() for _ in range(2))
    large.obs["dose"], small.obs["dose"] = arm, arm / 1000
    found = [hc.differential(d, condition="dose", **OPTIONS).dataset for d in (large, small)]
    for name in ("difference", "difference_lower", "difference_upper", "p_value"):
        values = found[1][name] / (1 if name == "p_value" else 1000)
        np.testing.assert_allclose(values, found[0][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"contrast": "Intercept"}, "contrast='Intercept' contains the intercept.*use.*arm"),
        ({"contrast": "Intercept + arm[T.b]"}, "it is not a difference"),
        (
            {"contrast": "arm[T.x] + 1"},
            r"cannot read contrast=: 'arm\[T.x\] \+ 1' has an unknown coefficient",
        ),
        (
            {"permutations": 99, "condition": "age", "formula": "~ age + I(age**2)"},
            "valid for the condition and blocks only",
        ),
    ],
)
def test_contrasts_that_a_test_cannot_answer(data, options, text):
    with pytest.raises(hc.InputError, match=text):
        hc.differential(data, **{"condition": "arm", **OPTIONS, **options})


def test_permutations_of_unbalanced_groups_are_warned_of(data):
    six = data[data.obs["sample"].str.match("s[123][ab]")].copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        equal = hc.differential(six, condition="arm", permutations=99, **OPTIONS)
    assert not any("exchangeable" in str(w.message) for w in caught)
    assert equal.dataset.attrs["uncertainty"] == "permutation, exact under exchangeability"
    assert "taken as exchangeable" in methods_text(equal)
    unequal = data[(data.obs["arm"] == "b") | data.obs["sample"].isin(["s1a", "s2a", "s3a"])].copy()
    with pytest.warns(
        hc.EstimationWarning, match="groups of 3 and 6 samples of 'arm' are permuted"
    ):
        hc.differential(unequal, condition="arm", permutations=99, **OPTIONS)


@pytest.mark.parametrize(("smaller", "warned"), [(3, True), (4, False)])
def test_pooled_warns_of_unbalanced_groups(smaller, warned):
    adata, _ = simulate_counts(10, 60, 4, mean=3.0, within=0.5, seed=7)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["arm"] = np.where(number < smaller, "a", "b")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        hc.differential(adata, "sample", "arm", method="pooled", depth="depth")
    said = [str(w.message) for w in seen if "unbalanced" in str(w.message)]
    assert bool(said) is warned
    if warned:
        assert "3 and 7 samples" in said[0]
        assert "use method='regression'" in said[0]
