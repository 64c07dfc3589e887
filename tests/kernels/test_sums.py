"""Compiled sums over cells against numpy."""

import numpy as np
import pytest
from scipy import sparse

from hiercorr.kernels import sums

RNG = np.random.default_rng(8)
X = RNG.poisson(0.7, (60, 5))  # cells x genes
S = RNG.uniform(0.3, 3, 60)
A = RNG.uniform(0, 2, 5)


def entries(x, first=0):
    """Cells, counts, and the first and last entry of each gene."""
    m = sparse.csc_matrix(x)
    rows = (m.indices + first).astype(np.int32)
    return rows, m.data.astype(np.int32), m.indptr[:-1].astype(np.int64), m.indptr[1:].astype(int)


def test_nodal_sums_add_to_what_is_there():
    basis = RNG.normal(size=(60, 4))
    first, second = np.ones((5, 2, 4)), np.zeros((5, 2, 4))
    sums.nodal_sums(*entries(X), 0, basis, 1, first, second)
    np.testing.assert_allclose(first[:, 1], 1 + X.T @ basis, rtol=1e-12)
    np.testing.assert_allclose(second[:, 1], (X**2).T @ basis, rtol=1e-12)
    assert (first[:, 0] == 1).all()
    assert (second[:, 0] == 0).all()


def test_weighted_residuals_in_the_middle_of_the_cells():
    mu, out = RNG.uniform(0, 2, 5), np.empty((5, 20))
    depth = np.append(np.full(40, np.nan), S[:20])
    sums.weighted_residuals(*entries(X[:20], 40), depth, 40, mu, A, out)
    wanted = (X[:20] - np.outer(S[:20], mu)) / (1 + np.outer(S[:20], A))
    np.testing.assert_allclose(out.T, wanted, rtol=1e-12)
    fitted = RNG.normal(size=(5, 20))
    sums.take_off_weighted(out, fitted, S[:20], A)
    np.testing.assert_allclose(out.T, wanted - fitted.T / (1 + np.outer(S[:20], A)), rtol=1e-10)


@pytest.mark.parametrize("add", [False, True])
def test_narrow_products(add):
    residuals, out = RNG.normal(size=(2, 60)), np.ones((5, 2))
    sums.narrow_products(*entries(X), S, 0, A, residuals, add, out)
    wanted = (X / (1 + np.outer(S, A))).T @ residuals.T
    np.testing.assert_allclose(out, wanted + add, rtol=1e-10, atol=1e-12)


def test_row_products():
    a, b = RNG.normal(size=(70, 6)), RNG.normal(size=(9, 6))
    out = np.empty((70, 9))
    sums.row_products(a, b, False, out)
    np.testing.assert_allclose(out, a @ b.T, rtol=1e-10, atol=1e-12)
    square = np.empty((70, 70))
    sums.row_products(a, a, True, square)
    np.testing.assert_allclose(np.triu(square), np.triu(a @ a.T), rtol=1e-10, atol=1e-12)


def test_centred_denominators():
    a, b = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 6, 4))
    k_left, k_right = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 6, 4))
    left, right = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 6))
    num, out = RNG.normal(size=(2, 3, 6)), np.empty((2, 3, 6))
    sums.centred_denominators(a, b, k_left, k_right, left, right, num, out)
    k = k_left @ k_right.transpose(0, 2, 1)
    wanted = a @ b.transpose(0, 2, 1) + k * (k * left[:, :, None] * right[:, None] - num)
    np.testing.assert_allclose(out, wanted, rtol=1e-10, atol=1e-12)
