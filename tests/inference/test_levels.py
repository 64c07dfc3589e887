"""Heterogeneity between samples of one donor against brute force and simulation."""

import numpy as np
import pytest

from hiercorr.inference.levels import learn_within_donors, tau_within_donors
from hiercorr.inference.random_effects import ABSENT, TAU


def draw(rng, units, n, between, within, se):
    donors = rng.normal(0, between, (units.max() + 1, n))[units]
    spread = rng.uniform(0.5, 1.5, (len(units), n)) * se
    return donors + rng.normal(0, np.hypot(within, spread)), spread**2


@pytest.mark.parametrize("within", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("between", [0.0, 0.4])
def test_samples_are_told_from_donors(within, between):
    units = np.array([0, 0, 1, 1, 1, 2, 2, 3])
    x, v = draw(np.random.default_rng(1), units, 3000, between, within, 0.08)
    weight = learn_within_donors(x, v, units)
    assert np.sqrt(weight @ TAU**2) == pytest.approx(within, abs=0.025)
    tau = tau_within_donors(x, v, units, weight)
    assert np.sqrt(np.mean(tau**2)) == pytest.approx(within, abs=0.025)


def test_posterior_is_that_of_the_restricted_likelihood():
    """A normal likelihood of the contrasts within donors, an orthonormal basis of them."""
    units = np.array([0, 0, 0, 1, 1, 2])
    rng = np.random.default_rng(2)
    x, v = draw(rng, units, 5, 0.3, 0.2, 0.1)
    weight = rng.dirichlet(np.ones(len(TAU)))
    density = np.zeros((len(TAU), 5))
    for a, tau in enumerate(TAU):
        for j in range(5):
            for unit in (0, 1):
                own = units == unit
                k = own.sum()
                basis = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]
                cov = basis.T @ np.diag(v[own, j] + tau**2) @ basis
                y = basis.T @ x[own, j]
                log_det = np.linalg.slogdet(cov)[1]
                density[a, j] += -0.5 * (log_det + y @ np.linalg.solve(cov, y))
    post = weight[:, None] * np.exp(density - density.max(0))
    wanted = np.sqrt((post * TAU[:, None] ** 2).sum(0) / post.sum(0))
    np.testing.assert_allclose(tau_within_donors(x, v, units, weight), wanted, rtol=1e-8)


def test_nothing_to_learn():
    rng = np.random.default_rng(3)
    x, v = draw(rng, np.arange(4), 100, 0.1, 0.1, 0.1)
    assert learn_within_donors(x, v, np.arange(4)) is None
    units = np.array([0, 0, 1, 1])
    v[[0, 2]] = ABSENT  # one sample of each donor has the gene
    assert learn_within_donors(x, v, units) is None
    assert learn_within_donors(x[:, :20], v[:, :20], units) is None


def test_precise_samples_of_one_donor_are_needed():
    rng, units = np.random.default_rng(4), np.array([0, 0, 1, 1, 2])
    x, v = draw(rng, units, 1000, 0.1, 0.2, 0.08)
    weight = learn_within_donors(x, v, units)
    v[:4, :100] = 0.5**2
    v[[0, 2], 100:200] = ABSENT
    v[4, 200:300] = ABSENT  # a donor with one sample does not matter
    tau = tau_within_donors(x, v, units, weight)
    np.testing.assert_array_equal(np.isnan(tau), np.arange(1000) < 200)
    assert np.isnan(learn_within_donors(x, np.full(v.shape, 0.5**2), units)).all()
