"""Shrinkage of many estimates against quadrature, and its calibration."""

import numpy as np
import pytest
from scipy import integrate, stats

from hiercorr.inference.shrinkage import EffectPrior, learn_effects, normal_scores, shrink


def scores(rng, n=20000, null=0.9, sd=3.0):
    effects = np.where(np.arange(n) < null * n, 0.0, rng.normal(0, sd, n))
    return effects, effects + rng.standard_normal(n)


def test_scores_give_back_the_p_values():
    p = np.array([1.0, 0.5, 0.05, 1e-10, 1e-290, 0.0, np.nan])
    z = normal_scores(p, np.array([1, -1, -1, 1, 1, -1, 1]))
    np.testing.assert_allclose(2 * stats.norm.sf(np.abs(z[:5])), p[:5], rtol=1e-8)
    np.testing.assert_array_equal(np.sign(z[1:4]), [-1, -1, 1])
    assert z[5] == -37.0
    assert np.isnan(z[6])


def test_posterior_equals_quadrature():
    prior = EffectPrior(np.array([0.0, 0.5, 2.0]), np.array([0.7, 0.2, 0.1]))
    for z in (0.0, 0.7, -2.1, 4.3):
        lfsr, factor = shrink(np.array([z]), prior)
        null = prior.weight[0] * stats.norm.pdf(z)
        normals = list(zip(prior.weight[1:], prior.sd[1:], strict=True))

        def density(m, z=z, normals=normals):
            return stats.norm.pdf(z - m) * sum(w * stats.norm.pdf(m, 0, s) for w, s in normals)

        m = np.linspace(-25, 25, 200001)
        every = density(m)
        parts = [
            (
                integrate.trapezoid(np.where(side, every, 0), m),
                integrate.trapezoid(np.where(side, m * every, 0), m),
            )
            for side in (m < 0, m > 0)
        ]
        total = null + sum(p[0] for p in parts)
        wrong = (null + parts[0 if z > 0 else 1][0]) / total
        assert lfsr[0] == pytest.approx(wrong, rel=1e-4)
        if z:
            assert factor[0] == pytest.approx(sum(p[1] for p in parts) / total / z, rel=1e-3)


def test_learnt_effects_are_calibrated():
    effects, z = scores(np.random.default_rng(1))
    prior = learn_effects(z)
    assert prior.weight.sum() == pytest.approx(1)
    assert 0.85 < prior.null_share < 0.95
    lfsr, factor = shrink(z, prior)
    wrong = (effects == 0) | (np.sign(effects) != np.sign(z))
    # small effects and none can hardly be told apart: that matters only where nothing is certain
    for low, high, slack in (
        (0, 0.01, 0.005),
        (0.01, 0.05, 0.005),
        (0.05, 0.2, 0.005),
        (0.5, 1, 0.025),
    ):
        at = (lfsr >= low) & (lfsr < high)
        error = np.sqrt(lfsr[at].mean() * (1 - lfsr[at].mean()) / at.sum())
        assert abs(wrong[at].mean() - lfsr[at].mean()) < 4 * error + slack
    assert np.mean((factor * z - effects) ** 2) < 0.35 * np.mean((z - effects) ** 2)


def test_nothing_is_certain_without_effects():
    z = np.random.default_rng(2).standard_normal(5000)
    lfsr, _ = shrink(z, learn_effects(z))
    assert lfsr.min() > 0.3


def test_order_and_sign_do_not_matter():
    rng = np.random.default_rng(3)
    _, z = scores(rng, 3000)
    a, b = learn_effects(z), learn_effects(-rng.permutation(z))
    np.testing.assert_allclose(a.weight, b.weight, atol=1e-12)
    low, high = (shrink(np.array([x]), a)[0][0] for x in (3.0, 2.0))
    assert low < high
