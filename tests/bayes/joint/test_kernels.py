"""Kernels of the joint model: the prior of the root, its gradient, conditional draws."""

import numpy as np
import pytest
from scipy import stats

from hiercorr.kernels import bayes, joint, roots

LOGNORMAL = np.array([bayes.LOGNORMAL, np.log(0.6), 0.6])


def root_of(seed, n):
    x = np.random.default_rng(seed).standard_normal((n + 3, n))
    return np.linalg.cholesky(x.T @ x / 5)


def test_exponential():
    x = np.linspace(-39, 39, 2001)
    lam = np.empty((1, len(x)))
    joint.expected(np.ones(len(x)), x[None], lam)
    np.testing.assert_allclose(lam[0], np.exp(x), rtol=1e-11)


@pytest.mark.parametrize("eta", [1.0, 2.0, 4.0])
def test_prior_of_two_genes_is_lkj(eta):
    def density(rho, sd):
        root = np.linalg.cholesky(
            [[sd[0] ** 2, rho * sd[0] * sd[1]], [rho * sd[0] * sd[1], sd[1] ** 2]]
        )
        jacobian = np.log(sd[0]) * 1 + 2 * np.log(root[0, 0]) + np.log(root[1, 1])
        # from the root (dL) to (log sd, rho): dL = dW / (4 L11^2 L22), dW = 4 s1^3 s2^3 dlog s drho
        jacobian = 3 * np.log(sd).sum() - 2 * np.log(root[0, 0]) - np.log(root[1, 1])
        return roots.log_prior_root(root, np.linalg.inv(root), eta, LOGNORMAL) + jacobian

    points = [(0.3, [0.5, 0.9]), (-0.8, [1.2, 0.4]), (0.95, [0.7, 0.7])]
    expected = [
        (eta - 1) * np.log(1 - r * r) + stats.norm.logpdf(np.log(sd), np.log(0.6), 0.6).sum()
        for r, sd in points
    ]
    found = [density(r, sd) for r, sd in points]
    np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=1e-9)


def test_gradient_of_a_row():
    root = root_of(1, 4)
    for j in range(4):
        out = np.empty(j + 1)
        roots.row_gradient(root, np.linalg.inv(root), 2.0, LOGNORMAL, j, out)
        for t in range(j + 1):
            step = np.zeros_like(root)
            step[j, t] = 1e-6
            up, down = (
                roots.log_prior_root(r, np.linalg.inv(r), 2.0, LOGNORMAL)
                for r in (root + step, root - step)
            )
            assert out[t] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["draw_covariance", "draw_covariance_rows"])
@pytest.mark.parametrize("genes", [2, 4])
def test_prior_is_recovered_without_data(step, genes):
    """With no vectors, draws are those of the prior: (1 - rho^2)^(eta - 1), lognormal sds."""
    rng, root, eta = np.random.default_rng(3), root_of(2, genes), 2.0
    rho, sd = [], []
    for k in range(24_000):
        getattr(joint, step)(rng, np.zeros((genes, genes)), 0, root, eta, LOGNORMAL)
        joint.move_scales(rng, np.zeros((genes, genes)), 0, root, LOGNORMAL)
        if k % 12 == 0:
            w = root @ root.T
            rho.append(w[0, 1] / np.sqrt(w[0, 0] * w[1, 1]))
            sd.append(np.sqrt(w[-1, -1]))
    uniform = stats.beta(eta, eta).cdf((np.array(rho) + 1) / 2)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest((np.log(sd) - np.log(0.6)) / 0.6, "norm").pvalue > 1e-3


@pytest.mark.slow
def test_covariance_given_vectors():
    """Rows and whole matrices agree with importance weights of prior draws (independent)."""
    rng, eta = np.random.default_rng(4), 2.0
    e = rng.standard_normal((5, 2)) @ np.array([[0.6, 0.4], [0.0, 0.5]])
    around = e.T @ e
    r = 2 * rng.beta(eta, eta, 400_000) - 1
    a, b = np.exp(np.log(0.6) + 0.6 * rng.standard_normal((2, len(r))))
    det = (a * b) ** 2 * (1 - r * r)
    q = (around[0, 0] * b**2 - 2 * around[0, 1] * r * a * b + around[1, 1] * a**2) / det
    w = np.exp(-2.5 * np.log(det) - q / 2)
    expected = [(w * v).sum() / w.sum() for v in (r, np.log(a), np.log(b))]
    for step in (joint.draw_covariance, joint.draw_covariance_rows):
        root, found = np.eye(2), []
        for _ in range(20_000):
            step(rng, around, 5, root, eta, LOGNORMAL)
            joint.move_scales(rng, around, 5, root, LOGNORMAL)
            c = root @ root.T
            found.append([c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]), *0.5 * np.log(np.diag(c))])
        np.testing.assert_allclose(np.mean(found, 0), expected, atol=0.02)
