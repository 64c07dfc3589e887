"""Random-effects regressions of many pairs: against statsmodels, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from hiercorr.inference.meta_regression import (
    RegressionDesign,
    RegressionPrior,
    SampleEffects,
    learn_regression_prior,
    regression_estimate,
)
from hiercorr.inference.random_effects import ABSENT, FLIP, SIGMA


def two_groups(a, b):
    group = np.repeat([0, 1], [a, b])
    matrix = np.column_stack([np.ones(a + b), group]).astype(float)
    return RegressionDesign(matrix, np.array([0.0, 1.0]), group, np.where(group == 1, 1.0, -1.0))


def effects(value, variance, related=None):
    n = value.shape[1]
    none = np.zeros_like(value)
    related = np.zeros(n, bool) if related is None else related
    return SampleEffects(value, variance, none, none, related)


def world(rng, design, n, sd=0.1, tau=(0.0, 0.0), heterogeneous=0.0, true=0.1, delta=0.4, flip=0.0):
    """Pairs with their own means, of which some differ between groups and some between samples."""
    s = len(design.group)
    variance = sd**2 * np.exp(rng.normal(0, 0.3, (s, n)))
    y = rng.normal(0, 0.2, n) + rng.normal(size=(s, n)) * np.sqrt(variance)
    mixed = rng.random(n) < heterogeneous
    if flip:
        y += mixed * flip * rng.choice([-1, 1], (s, n))
    else:
        y += mixed * np.take(tau, design.group)[:, None] * rng.normal(size=(s, n))
    differs = rng.random(n) < true
    truth = differs * delta * rng.choice([-1, 1], n)
    return effects(y + design.group[:, None] * truth, variance), truth


@pytest.mark.parametrize("design", [two_groups(3, 4), two_groups(2, 2)])
def test_known_variances_give_weighted_least_squares(design):
    rng = np.random.default_rng(1)
    found, _ = world(rng, design, 40)
    one = np.eye(1, 6)[0]
    tau = np.array([[0.15, 0.3]])
    prior = RegressionPrior(
        tau,
        np.ones((2, 1)),
        FLIP,
        np.zeros((2, len(FLIP))),
        SIGMA,
        np.broadcast_to(one, (2, 1, 6)),
        np.ones(len(design.group)),
        0.0,
        40,
        1.0,
    )
    out = regression_estimate(found, design, prior)
    for k in range(40):
        v = found.variance[:, k] + tau[0][design.group] ** 2
        fit = sm.WLS(found.value[:, k], design.matrix, weights=1 / v).fit(cov_type="fixed scale")
        assert out["difference"][k] == pytest.approx(fit.params[1], rel=1e-9)
        assert out["se"][k] == pytest.approx(fit.bse[1], rel=1e-9)
        p = 2 * stats.norm.sf(abs(fit.params[1] / fit.bse[1]))
        assert out["p_value"][k] == pytest.approx(p, rel=1e-6)


def test_restricted_likelihood_is_that_of_the_residual_contrasts():
    """Learnt from pairs of one variance and one tau, the mode of the prior is that tau."""
    rng = np.random.default_rng(2)
    design = two_groups(4, 5)
    found, _ = world(rng, design, 3000, tau=(0.3, 0.06), heterogeneous=1.0, true=0)
    prior = learn_regression_prior(found, design)
    weight = prior.joint[0].sum(1)
    mean = (weight[:, None] * prior.tau).sum(0)
    np.testing.assert_allclose(mean, [0.3, 0.06], atol=0.03)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 3), {}),
        ((3, 3), {"tau": (0.0, 0.3), "heterogeneous": 0.5}),
        ((2, 2), {"tau": (0.1, 0.1), "heterogeneous": 0.5}),
        ((3, 10), {"tau": (0.3, 0.05), "heterogeneous": 0.5}),
        ((6, 6), {"tau": (0.1, 0.1), "heterogeneous": 0.5}),
    ],
)
def test_nulls_are_kept_and_differences_found(sizes, options):
    design = two_groups(*sizes)
    null, false, calls, covered = [], 0, 0, []
    for seed in range(4):
        found, truth = world(np.random.default_rng(seed), design, 2000, **options)
        out = regression_estimate(found, design, learn_regression_prior(found, design))
        p = out["p_value"]
        null.append(p[truth == 0])
        called = multipletests(p, method="fdr_bh")[1] < 0.05
        false, calls = false + (called & (truth == 0)).sum(), calls + called.sum()
        covered.append(np.abs(out["difference"] - truth) < 1.96 * out["se"])
    null = np.concatenate(null)
    assert 0.035 < np.mean(null < 0.05) < 0.06
    assert np.mean(null < 0.001) < 0.002
    assert false <= 0.06 * calls + 3 * np.sqrt(0.06 * max(calls, 1))
    assert 0.93 < np.mean(covered) < 0.995  # conservative with few samples
    if not options:
        assert calls > 300


@pytest.mark.slow
def test_signs_by_chance_are_no_difference():
    """Correlations of +-0.4 by chance agree within, and differ between, 3 and 3 samples."""
    design = two_groups(3, 3)
    calls = 0
    for seed in range(5):
        found, _ = world(
            np.random.default_rng(seed), design, 2000, flip=0.4, heterogeneous=0.2, true=0
        )
        out = regression_estimate(found, design, learn_regression_prior(found, design))
        calls += (multipletests(out["p_value"], method="fdr_bh")[1] < 0.05).sum()
    assert calls <= 2


def test_units_of_the_condition_do_not_matter():
    rng = np.random.default_rng(3)
    x = rng.normal(size=8)
    tables = []
    for unit in (1.0, 100.0):
        matrix = np.column_stack([np.ones(8), unit * x])
        design = RegressionDesign(matrix, np.array([0.0, 1.0]), np.zeros(8, int))
        found, _ = world(np.random.default_rng(4), two_groups(4, 4), 800, true=0.2)
        out = regression_estimate(found, design, learn_regression_prior(found, design))
        tables.append((unit * out["difference"], unit * out["se"], out["p_value"]))
    for one, other in zip(*tables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)


def test_absent_samples_and_singular_designs():
    rng = np.random.default_rng(5)
    design = two_groups(3, 3)
    found, _ = world(rng, design, 400)
    prior = learn_regression_prior(found, design)
    variance = found.variance.copy()
    variance[:3, 0] = ABSENT  # no sample of the first group
    variance[:2, 1] = ABSENT  # two residual degrees of freedom are left
    variance[:4, 2] = ABSENT
    value = np.where(variance < ABSENT, found.value, 0.0)
    out = regression_estimate(effects(value, variance), design, prior)
    assert np.isnan(out["p_value"][[0, 2]]).all()
    assert np.isnan(out["difference"][[0, 2]]).all()
    assert np.isfinite(out["p_value"][1])
    assert np.isfinite(out["p_value"][3:]).all()
    none = effects(np.zeros((6, 5)), np.full((6, 5), ABSENT))
    assert learn_regression_prior(none, design) is None


def test_groups_show_tau_where_their_samples_are_precise():
    """Two groups: in the first half of the pairs, the samples of the second one are noisy."""
    design, rng = two_groups(4, 4), np.random.default_rng(9)
    noisy = (np.arange(1000) < 300) & (design.group[:, None] == 1)
    v = np.where(noisy, 0.4**2, 0.1**2)
    found = effects(rng.normal(0, np.sqrt(v)), v)
    prior = learn_regression_prior(found, design)
    assert prior.heterogeneous < 0.1
    tau = regression_estimate(found, design, prior)["tau"]
    np.testing.assert_array_equal(np.isnan(tau[0]), False)
    np.testing.assert_array_equal(np.isnan(tau[1]), noisy[-1])
    sparse = effects(rng.normal(0, 0.4, v.shape), np.full(v.shape, 0.4**2))
    prior = learn_regression_prior(sparse, design)
    assert prior.heterogeneous is None
    assert np.isnan(regression_estimate(found, design, prior)["tau"]).all()


def rich_world(rng, n_samples, k, grouped, n=700):
    """Pairs of samples with covariates, skewness, related pairs and samples without information."""
    group = np.arange(n_samples) % 2
    matrix = np.column_stack([np.ones(n_samples), group, rng.normal(size=(n_samples, k - 2))])
    signs = np.where(group == 1, 1.0, -1.0)
    if not grouped:
        signs, matrix[:, 1] = None, rng.normal(size=n_samples)
    design = RegressionDesign(matrix, np.eye(k)[1], group * grouped, signs)
    found, _ = world(rng, design, n, tau=(0.2, 0.1), heterogeneous=0.3)
    absent = rng.random(found.value.shape) < 0.03
    skewness = rng.normal(0.3, 0.2, absent.shape)
    parts = (
        np.where(absent, other, part)
        for part, other in (
            (found.value, 0.0),
            (found.variance, ABSENT),
            (skewness, 0.0),
            (0.1 * rng.random(absent.shape), 0.0),
        )
    )
    return SampleEffects(*parts, rng.random(n) < 0.2), design


@pytest.mark.parametrize(
    ("n_samples", "k", "grouped"), [(5, 2, True), (8, 2, False), (20, 4, True)]
)
def test_compiled_loops_equal_array_operations(n_samples, k, grouped):
    found, design = rich_world(np.random.default_rng(n_samples), n_samples, k, grouped)
    prior = learn_regression_prior(found, design)
    plain = regression_estimate(found, design, prior)
    compiled = regression_estimate(found, design, prior, compiled=True)
    for name in ("difference", "se", "tau"):
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-7, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(compiled["p_value"], plain["p_value"], rtol=1e-5, atol=1e-300)
    assert np.isfinite(plain["p_value"]).mean() > 0.9
    assert np.nanmin(plain["p_value"]) < 0.01
