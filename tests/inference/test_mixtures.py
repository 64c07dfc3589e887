"""Weights of mixtures: maximum likelihood, priors, counts, degenerate cases."""

import numpy as np
import pytest
from scipy import optimize, stats

from hiercorr.inference import mixtures
from hiercorr.inference.mixtures import mixture


def normals(seed, n, sd=(0.0, 0.1, 0.2, 0.5, 1.0), weight=(0.6, 0.0, 0.3, 0.0, 0.1)):
    rng = np.random.default_rng(seed)
    of = rng.choice(len(sd), n, p=weight)
    y = rng.normal(0, np.sqrt(0.2**2 + np.array(sd)[of] ** 2))
    return stats.norm.pdf(y, 0, np.sqrt(0.2**2 + np.array(sd)[:, None] ** 2))


def log_likelihood(weight, likelihood, count=1.0, prior=None, n_prior=0.0):
    found = np.sum(count * np.log(weight @ likelihood))
    if prior is not None:
        known = prior > 0
        found += n_prior * np.sum(prior[known] * np.log(weight[known]))
    return found


def by_softmax(likelihood, **options):
    """Maximise the log likelihood over logits with a general optimiser."""

    def negative(x):
        w = np.exp(x - x.max())
        return -log_likelihood(w / w.sum(), likelihood, **options)

    start = np.zeros(len(likelihood))
    found = optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-6})
    w = np.exp(found.x - found.x.max())
    return w / w.sum()


@pytest.mark.parametrize("seed", range(5))
def test_no_other_weights_are_more_likely(seed):
    likelihood = normals(seed, 3000)
    found = mixture(likelihood)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    best = log_likelihood(by_softmax(likelihood), likelihood)
    assert log_likelihood(found, likelihood) > best - 2e-3


def test_a_long_em_comes_to_the_same_likelihood_at_last():
    likelihood = normals(3, 2000)
    w = np.full(5, 0.2)
    for _ in range(20_000):
        w = w * (likelihood @ (1 / (w @ likelihood))) / 2000
    assert log_likelihood(mixture(likelihood), likelihood) >= log_likelihood(w, likelihood) - 1e-3


def test_counts_are_repeated_pairs():
    likelihood = normals(1, 300)
    count = np.random.default_rng(1).integers(1, 5, 300)
    one = mixture(likelihood, count=count)
    other = mixture(np.repeat(likelihood, count, axis=1))
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_prior_weights_count_as_pairs_of_known_components():
    likelihood, prior = normals(2, 50), np.array([0.5, 0.2, 0.2, 0.1, 0.0])
    found = mixture(likelihood, prior, 20.0)
    wanted = by_softmax(likelihood, prior=prior, n_prior=20.0)
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    assert (found[:4] > 0.01).all()
    np.testing.assert_allclose(mixture(likelihood, prior, 1e8), prior, atol=1e-4)


def test_one_component_and_equal_components():
    assert mixture(np.ones((1, 7))).tolist() == [1.0]
    same = mixture(np.ones((4, 100)))
    np.testing.assert_allclose(same.sum(), 1)
    likelihood = np.repeat(normals(0, 500), 2, axis=0)
    pairs = mixture(likelihood).reshape(5, 2).sum(1)
    gap = log_likelihood(pairs, likelihood[::2]) - log_likelihood(
        mixture(likelihood[::2]), likelihood[::2]
    )
    assert abs(gap) < 2e-3


def test_likelihoods_that_vanish_for_most_components():
    likelihood = np.eye(6)[:, np.repeat(np.arange(6), [500, 300, 100, 50, 49, 1])]
    np.testing.assert_allclose(mixture(likelihood), [0.5, 0.3, 0.1, 0.05, 0.049, 0.001], atol=1e-3)


def test_a_failing_solver_leaves_steps_of_em(monkeypatch):
    likelihood = normals(4, 500)
    wanted = log_likelihood(mixture(likelihood), likelihood)

    def fail(*args):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(mixtures.optimize, "nnls", fail)
    assert log_likelihood(mixture(likelihood), likelihood) > wanted - 3
