"""The hierarchical model: both routes against plain numpy, its prior, calibration of its tests."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import special, stats

import hiercorr as hc
from hiercorr import inference
from hiercorr.inference import random_effects
from hiercorr.inference.random_effects import FLIP, SIGMA, TAU, HeterogeneityPrior


def genes(n_donors, n, rng, phi=1.0):
    return inference.DonorGenes(
        np.full(n, phi),
        rng.uniform(0.8, 1.3, (n_donors, n)),
        rng.uniform(0, 1, (n_donors, n)),
        rng.uniform(0, 0.3, (n_donors, n)),
        rng.uniform(0, 0.02, n),
    )


def sums(n_donors, left, right, rng, rho=0.0, tau=0.0):
    """N, D and the variance of N of donors with 50 to 5,000 cells."""
    den = rng.uniform(50, 5000, n_donors)[:, None, None] * rng.uniform(0.8, 1.2, (1, left, right))
    noise = den * rng.uniform(2, 6, (1, left, right))
    truth = rho + tau * rng.standard_normal((n_donors, left, right))
    num = truth * den + np.sqrt(noise) * rng.standard_normal(den.shape)
    return num, den, noise


def some_prior(rng, n_donors):
    joint = rng.dirichlet(np.ones(TAU.size * SIGMA.size)).reshape(TAU.size, SIGMA.size)
    joint[2] = joint[5] = 0  # points without probability are left out of the loops
    weight = rng.dirichlet(np.ones(TAU.size + FLIP.size))
    return HeterogeneityPrior(
        TAU,
        weight[: TAU.size],
        FLIP,
        weight[TAU.size :],
        SIGMA,
        joint / joint.sum(),
        rng.uniform(1, 3, n_donors),
        1000,
        0.5,
    )


def plain(num, den, noise, a, b, prior, weights="adaptive"):
    """The equations of the docstring, pair by pair."""
    out = {k: np.full(num.shape[1:], np.nan) for k in ("r", "sd", "tau", "p", "share")}
    for j in range(num.shape[1]):
        for k in range(num.shape[2]):
            d, e = den[:, j, k], noise[:, j, k]
            known = (d > 0) & (e > 0)
            if known.sum() < 3 or a.phi[j] <= 0 or b.phi[k] <= 0:
                continue
            scale = np.sqrt(a.phi[j] * b.phi[k]) / (a.scale[known, j] * b.scale[known, k])
            x = num[known, j, k] / d[known] / scale
            v = e[known] / d[known] ** 2 / scale**2
            factor = prior.inflation[known]
            r = (x / v).sum() / (1 / v).sum()
            spread = 1 / (1 / v).sum()
            square = np.clip(r * r - spread, 0, 0.9)
            v = v * (1 + square * a.share[known, j] * b.share[known, k])
            third = a.skewness[known, j] * b.skewness[known, k] * (v * factor) ** 1.5
            level, mean, variance, tail, best, least = [], [], [], [], [], []
            for tau in prior.tau:
                total = factor * (v + tau**2)
                w = 1 / total
                g = {"adaptive": w, "equal": np.ones(len(w)), "information": d[known]}[weights]
                m = (w * x).sum() / w.sum()
                level.append(
                    -0.5 * (np.log(total).sum() + np.log(w.sum()) + (w * (x - m) ** 2).sum())
                )
                best.append(m)
                least.append(1 / w.sum())
                mean.append((g * x).sum() / g.sum())
                variance.append((g**2 * total).sum() / g.sum() ** 2)
                skew = (g**3 * third).sum() / g.sum() ** 3 / variance[-1] ** 1.5
                z = mean[-1] / np.sqrt(variance[-1])
                root = np.cbrt(max(1 + skew * z / 2, 1e-12))
                tail.append(2 * special.ndtr(-abs(6 / skew * (root - 1) + skew / 6)))
            level, mean, variance = np.array(level), np.array(mean), np.array(variance)
            best, least = np.array(best), np.array(least)
            likelihood = np.exp(level - level.max())
            alone = prior.weight * likelihood
            total, tail = list(alone), list(tail)
            w = 1 / (factor * v)
            g = {"adaptive": w, "equal": np.ones(len(w)), "information": d[known]}[weights]
            for b_size, probability in zip(prior.flip, prior.flip_weight, strict=True):
                ones = np.ones(len(x))
                for signs in map(np.array, {tuple(q) for q in (ones, -ones, np.sign(x))}):
                    rest = x - b_size * signs
                    m = (w * rest).sum() / w.sum()
                    own = 0.5 * (np.log(w).sum() - np.log(w.sum()) - (w * (rest - m) ** 2).sum())
                    # the pattern of the data and its mirror are one: only one of them is near
                    twice = 1 if abs(signs.sum()) == len(signs) else 2
                    chance = twice * 0.5 ** len(signs)
                    total.append(probability * chance * np.exp(own - level.max()))
                    there = abs(b_size * (g * signs).sum() / g.sum())
                    size, spread = abs(mean[0]), np.sqrt(variance[0])
                    tail.append(
                        special.ndtr((there - size) / spread)
                        + special.ndtr(-(size + there) / spread)
                    )
            out["p"][j, k] = np.dot(total, tail) / np.sum(total)
            wide = least[:, None] + prior.sigma**2
            density = (prior.joint * np.exp(-(best[:, None] ** 2) / wide / 2) / np.sqrt(wide)).sum(
                1
            )
            post = likelihood * density
            post /= post.sum()
            m = (post * mean).sum()
            of_phi = 0.25 * min(m * m, 1) * (a.noise[j] + b.noise[k])
            out["r"][j, k] = m
            out["sd"][j, k] = np.sqrt((post * (variance + mean**2)).sum() - m * m + of_phi)
            tau2 = (post * prior.tau**2).sum()
            n = known.sum()
            if np.mean(1 / (factor * v)) >= 1 / 0.3**2:
                out["tau"][j, k] = np.sqrt(tau2)
            w = 1 / (factor * (v + tau2))
            g = {"adaptive": w, "equal": np.ones(n), "information": d[known]}[weights]
            out["share"][j, k] = g.max() / g.sum()
    return out


@lru_cache
def case(weights, n_donors):
    """Input of an estimate, and what the equations make of it."""
    rng = np.random.default_rng(n_donors)
    given = sums(n_donors, 6, 150, rng, rho=0.2, tau=0.1)
    given[1][1, 2, 5] = -1.0  # one donor without information on a pair
    a, b = genes(n_donors, 6, rng), genes(n_donors, 150, rng, 0.8)
    b.phi[7] = -1.0
    prior = some_prior(rng, n_donors)
    return (given, (a, b), prior), plain(*given, a, b, prior, weights)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("weights", inference.WEIGHTS)
@pytest.mark.parametrize("n_donors", [3, 8, 40])
@pytest.mark.parametrize("compiled", [False, True])
def test_both_routes_equal_the_equations(weights, n_donors, compiled, monkeypatch):
    monkeypatch.setattr(random_effects, "COMPILED_FROM", 0 if compiled else np.inf)
    given, wanted = case(weights, n_donors)
    found = inference.hierarchical_estimate(*given, weights)
    t = found.table
    np.testing.assert_allclose(found.correlation, wanted["r"], rtol=1e-9)
    np.testing.assert_allclose(t["p_value"], wanted["p"], rtol=5e-5)
    np.testing.assert_allclose(t["tau"], wanted["tau"], rtol=1e-9)
    np.testing.assert_allclose(t["se"], wanted["sd"], rtol=1e-9)
    inside = np.abs(wanted["r"]) < 1
    fisher = (wanted["sd"] / (1 - wanted["r"] ** 2))[inside]
    np.testing.assert_allclose(t["fisher_z_se"][inside], fisher, rtol=1e-9)
    np.testing.assert_allclose(found.largest_share, wanted["share"], rtol=1e-5)
    known = np.isfinite(wanted["r"])
    for name, values in t.items():
        np.testing.assert_array_equal(np.isnan(values[~known]), True, err_msg=name)
    assert known.sum() == known.size - 6 - (n_donors == 3)
    half = stats.norm.ppf(0.975) * wanted["sd"]
    np.testing.assert_allclose(t["ci_lower"], np.maximum(wanted["r"] - half, -1), rtol=1e-9)
    score = stats.norm.isf(wanted["p"] / 2) * np.sign(wanted["r"])
    inside = known & (wanted["p"] < 0.99)
    np.testing.assert_allclose(t["statistic"][inside], score[inside], rtol=1e-4, atol=1e-4)


def test_symmetric_tiles_are_mirrored():
    rng = np.random.default_rng(1)
    num, den, noise = sums(5, 300, 300, rng)
    num, den, noise = (x + x.transpose(0, 2, 1) for x in (num, den, noise))
    side = genes(5, 300, rng)
    prior = some_prior(rng, 5)
    whole = inference.hierarchical_estimate((num, den, noise), (side, side), prior)
    half = inference.hierarchical_estimate((num, den, noise), (side, side), prior, symmetric=True)
    for name, values in whole.table.items():
        np.testing.assert_allclose(half.table[name], values, rtol=1e-12)


def test_p_values_underflow_quietly_and_scores_stay_finite():
    rng = np.random.default_rng(2)
    num, den, noise = sums(4, 3, 3, rng, rho=0.9)
    side = genes(4, 3, rng)
    prior = HeterogeneityPrior(
        TAU,
        np.eye(9)[0],
        FLIP,
        np.zeros(6),
        SIGMA,
        np.outer(np.eye(9)[0], np.ones(6) / 6),
        np.ones(4),
        1000,
        0.0,
    )
    found = inference.hierarchical_estimate((num, den, noise / 1e6), (side, side), prior)
    assert (found.table["p_value"] < 1e-200).all()
    assert np.isfinite(found.table["statistic"]).all()


@pytest.mark.parametrize("n_donors", [3, 6, 20])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_null_pairs_are_calibrated_with_the_learnt_prior(n_donors, share):
    rng = np.random.default_rng(3)
    v = rng.uniform(0.02, 0.15, (n_donors, 1)) ** 2 * rng.uniform(0.5, 2, (1, 6000))
    tau = np.where(np.arange(6000) < share * 6000, 0.2, 0.0)
    x = rng.normal(0, np.sqrt(v + tau**2))
    prior = hc.inference.learn_prior(x, v)
    side = inference.DonorGenes(
        np.ones(1), np.ones((n_donors, 1)), *(np.zeros((n_donors, 1)),) * 2, np.zeros(1)
    )
    other = inference.DonorGenes(
        np.ones(6000),
        np.ones((n_donors, 6000)),
        *(np.zeros((n_donors, 6000)),) * 2,
        np.zeros(6000),
    )
    given = (x[:, None], np.ones((n_donors, 1, 6000)), v[:, None])
    p = inference.hierarchical_estimate(given, (side, other), prior).table["p_value"][0]
    assert 0.03 < (p < 0.05).mean() < 0.062
    assert (p < 0.001).mean() < 0.0025
    assert abs(prior.heterogeneous - share) < 0.08 + 0.5 * (n_donors == 3)


def test_a_deviating_donor_is_recognised_and_others_are_not():
    rng = np.random.default_rng(4)
    v = np.full((6, 3000), 0.05**2)
    x = rng.normal(0, np.sqrt(v))
    assert hc.inference.learn_prior(x, v).inflation.max() < 1.15
    x[2] += rng.normal(0, 0.15, 3000)
    found = hc.inference.learn_prior(x, v)
    assert 6 < found.inflation[2] < 15
    assert np.delete(found.inflation, 2).max() < 1.3
    assert found.weight[0] > 0.8


@pytest.mark.parametrize("se", [0.1, 0.25, 0.4, 1.0])
def test_a_panel_tells_how_many_pairs_differ_only_with_precise_donors(se):
    rng = np.random.default_rng(6)
    tau = np.where(np.arange(2000) < 500, 0.3, 0.0)
    found = hc.inference.learn_prior(
        rng.normal(0, np.hypot(tau, se), (6, 2000)), np.full((6, 2000), se**2)
    )
    if se > 0.3:
        assert found.heterogeneous is None
    else:
        assert found.heterogeneous == pytest.approx(0.25, abs=0.1)


def test_prior_of_pairs_that_some_donors_lack():
    rng = np.random.default_rng(5)
    v = np.full((10, 1000), 0.05**2)
    x = rng.normal(0, 0.05, v.shape)
    lacking = rng.random(v.shape) < 0.4
    found = hc.inference.learn_prior(np.where(lacking, np.nan, x), np.where(lacking, np.nan, v))
    assert found.weight[0] > 0.7
    assert found.inflation.max() < 1.3
    with pytest.raises(hc.InputError, match="at least 3 donors"):
        hc.inference.learn_prior(x[:2], v[:2])


@pytest.mark.parametrize("n_donors", [3, 4])
def test_signs_that_agree_by_chance_are_not_called(n_donors):
    """Of pairs of +-0.4 in every donor, one in 4 or 8 agrees in sign: those are not called."""
    false, found = [], []
    for share in (0.0, 0.02):
        rng = np.random.default_rng(6)
        v = rng.uniform(0.05, 0.1, (n_donors, 1)) ** 2 * np.ones((1, 4000))
        truth = np.where(np.arange(4000) < 100, 0.35, 0.0)
        chance = (np.arange(4000) >= 3000) & (np.arange(4000) < 3000 + share * 4000)
        x = truth + np.where(chance, 0.4 * rng.choice([-1, 1], v.shape), 0)
        x = x + rng.normal(0, np.sqrt(v))
        prior = hc.inference.learn_prior(x, v)
        assert abs(prior.flip_weight[prior.flip >= 0.3].sum() - share) < 0.012
        side, other = (
            inference.DonorGenes(
                np.ones(n),
                np.ones((n_donors, n)),
                np.zeros((n_donors, n)),
                np.zeros((n_donors, n)),
                np.zeros(n),
            )
            for n in (1, 4000)
        )
        given = (x[:, None], np.ones((n_donors, 1, 4000)), v[:, None])
        p = inference.hierarchical_estimate(given, (side, other), prior).table["p_value"][0]
        q = hc.inference.benjamini_hochberg(p)
        false.append((q[100:] < 0.05).sum() / max((q < 0.05).sum(), 1))
        found.append((q[:100] < 0.05).mean())
    assert false[0] < 0.15
    assert false[1] < 0.1
    assert found[0] > 0.8


def test_the_pairs_of_the_whole_fit_decide_whether_loops_are_compiled(monkeypatch):
    """Tiles of many donors are small, also those of fits with millions of pairs."""
    used = []
    monkeypatch.setattr(
        random_effects.kernels.heterogeneity, "posterior", lambda *args: used.append(1)
    )
    rng = np.random.default_rng(4)
    given = sums(5, 6, 20, rng)
    given = given, (genes(5, 6, rng), genes(5, 20, rng)), some_prior(rng, 5)
    inference.average_over_donors(*given)
    assert not used
    inference.average_over_donors(*given, n_pairs=random_effects.COMPILED_FROM)
    assert len(used) == 1
    inference.average_over_donors(*given, n_pairs=random_effects.VALUES_FROM // 5)  # 5 donors
    assert len(used) == 2
