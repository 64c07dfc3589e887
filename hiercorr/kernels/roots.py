r"""Roots of covariance matrices: lower Cholesky factors, their inverses, prior and its gradient.

The prior of a covariance matrix is stated in :mod:`hiercorr.bayes.joint.model`; its density is that
of the entries of the root. `prior` is the family and the parameters of the standard deviations,
`eta` that of the correlations.
"""

from __future__ import annotations

import numpy as np

from hiercorr.kernels.bayes import log_prior
from hiercorr.runtime.compile import compiled

_TARGET = 0.75  # acceptance that the step of a row is adapted to


@compiled()
def cholesky(a, out):
    """Fill `out` with the lower Cholesky factor; return whether `a` is positive definite."""
    n = len(a)
    for i in range(n):
        for j in range(i + 1):
            v = a[i, j]
            for k in range(j):
                v -= out[i, k] * out[j, k]
            if i == j:
                if not v > 0:
                    return False
                out[i, i] = np.sqrt(v)
            else:
                out[i, j] = v / out[j, j]
        for j in range(i + 1, n):
            out[i, j] = 0.0
    return True


@compiled()
def invert_root(root, out):
    """Fill `out` with the inverse of a lower triangular matrix."""
    n = len(root)
    for j in range(n):
        for i in range(n):
            if i < j:
                out[i, j] = 0.0
                continue
            v = 1.0 if i == j else 0.0
            for k in range(j, i):
                v -= root[i, k] * out[k, j]
            out[i, j] = v / root[i, i]


@compiled()
def gram(inverse_root, out):
    """Fill `out` with the inverse of the covariance matrix, from that of its root."""
    n = len(inverse_root)
    for i in range(n):
        for j in range(i + 1):
            v = 0.0
            for k in range(i, n):
                v += inverse_root[k, i] * inverse_root[k, j]
            out[i, j] = v
            out[j, i] = v


@compiled()
def precision(root):
    """Return the inverse of the covariance matrix with this root."""
    inverse, out = np.empty_like(root), np.empty_like(root)
    invert_root(root, inverse)
    gram(inverse, out)
    return out


@compiled()
def draw_gaussian(rng, q, h):
    """Draw from the normal distribution with precision matrix `q` and mean ``q^-1 h``."""
    n = len(q)
    c = np.empty_like(q)
    cholesky(q, c)
    out = np.empty(n)
    for i in range(n):
        v = h[i]
        for k in range(i):
            v -= c[i, k] * out[k]
        out[i] = v / c[i, i]
    for i in range(n):
        out[i] += rng.standard_normal()
    for i in range(n - 1, -1, -1):
        v = out[i]
        for k in range(i + 1, n):
            v -= c[k, i] * out[k]
        out[i] = v / c[i, i]
    return out


@compiled()
def prior_sd(root, family, a, b):
    """Return the log prior density of the log standard deviations of a root's covariance."""
    value = 0.0
    for k in range(len(root)):
        v = 0.0
        for t in range(k + 1):
            v += root[k, t] ** 2
        value += log_prior(0.5 * np.log(v), family, a, b)[0]
    return value


@compiled()
def log_prior_root(root, inverse, eta, prior):
    """Return the log prior density of a root, up to a constant; `inverse` is the root's inverse."""
    g = len(root)
    df = 2 * eta + g - 1
    value = prior_sd(root, int(prior[0]), prior[1], prior[2])
    for k in range(g):
        w = 0.0
        for i in range(k, g):
            w += inverse[i, k] ** 2
        value -= (df + k + 1) * np.log(root[k, k]) + 0.5 * df * np.log(w)
    return value


@compiled()
def row_gradient(root, inverse, eta, prior, j, out):
    """Fill `out` with the gradient of the log prior density with respect to row j of the root."""
    g = len(root)
    df = 2 * eta + g - 1
    v = 0.0
    for t in range(j + 1):
        v += root[j, t] ** 2
    slope = log_prior(0.5 * np.log(v), int(prior[0]), prior[1], prior[2])[1]
    for t in range(j + 1):
        out[t] = slope * root[j, t] / v
    out[j] -= (df + j + 1) / root[j, j]
    for k in range(j + 1):
        kk, kj = 0.0, 0.0
        for i in range(k, g):
            kk += inverse[i, k] ** 2
            if i >= j:
                kj += inverse[i, k] * inverse[i, j]
        for t in range(k, j + 1):
            out[t] += df * kj / kk * inverse[t, k]


@compiled()
def solve_root(root, v):
    """Replace `v` by ``root^-1 v``."""
    for i in range(len(v)):
        for k in range(i):
            v[i] -= root[i, k] * v[k]
        v[i] /= root[i, i]


@compiled()
def solve_root_transposed(root, v):
    """Replace `v` by ``root'^-1 v``."""
    for i in range(len(v) - 1, -1, -1):
        for k in range(i + 1, len(v)):
            v[i] -= root[k, i] * v[k]
        v[i] /= root[i, i]


@compiled()
def adapt_row(adapt, accept, grad, j, step, metric, weight, root):
    """Adapt the proposal of row j: its step to the acceptance, its metric to the gradient.

    Parameters
    ----------
    adapt : float
        Rate at which the log of the step changes.
    accept : float
        Probability with which the last proposal was accepted.
    grad : ndarray, shape (k,)
        Gradient of the log density where the proposal began.
    j : int
    step, metric, weight : ndarray, shape (rows,), (rows, k', k') with k' >= k, and (rows,)
        Changed: step, sum of the outer products of gradients, and their number.
    root : ndarray, shape (k, k)
        Result: Cholesky factor of the mean of these products.
    """
    k = len(grad)
    step[j] = min(max(step[j] * np.exp(adapt * (accept - _TARGET)), 0.02), 1.0)
    weight[j] += 1
    average = np.empty((k, k))
    for t in range(k):
        for i in range(k):
            metric[j, t, i] += grad[t] * grad[i]
            average[t, i] = metric[j, t, i] / weight[j]
    cholesky(average, root)
