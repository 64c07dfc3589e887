"""Compiled integrals of the Bayesian models."""

import itertools

import numpy as np
import pytest
from scipy import stats

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_known_noise_between_samples():
    """The restricted likelihood is that of a multivariate normal with flat coefficients."""
    from hiercorr.kernels import bayes as kernels

    rng = np.random.default_rng(0)
    n = 7
    mean, design = rng.normal(size=(n, 2)), np.column_stack([np.ones(n), rng.normal(size=n)])
    noise = np.column_stack(
        [rng.uniform(0.1, 0.3, n), rng.uniform(-0.05, 0.05, n), rng.uniform(0.1, 0.3, n)]
    )
    out = kernels.between_posterior(
        mean, noise, design, np.log([0.5, 0.9]), np.log([0.4]), np.array([-0.5, 0.7])
    )

    def direct(a, b, z):
        cov = np.zeros((2 * n, 2 * n))
        for c in range(n):
            cross = np.tanh(z) * a * b + noise[c, 1]
            cov[2 * c : 2 * c + 2, 2 * c : 2 * c + 2] = [
                [a * a + noise[c, 0], cross],
                [cross, b * b + noise[c, 2]],
            ]
        x = np.kron(design, np.eye(2))
        wide = cov + 1e8 * x @ x.T  # flat coefficients
        return stats.multivariate_normal.logpdf(mean.ravel(), cov=wide, allow_singular=True)

    got = [out[p, 0, r] for p, r in itertools.product(range(2), range(2))]
    wanted = [direct(a, 0.4, z) for a, z in itertools.product((0.5, 0.9), (-0.5, 0.7))]
    np.testing.assert_allclose(np.diff(got), np.diff(wanted), atol=1e-4)
