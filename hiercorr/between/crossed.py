r"""Consensus correlations of samples in two groupings, such as donors and batches.

With random intercepts of both, the samples of a gene have the correlation matrix

.. math:: V = I + \rho_1 (B_1 - I) + \rho_2 (B_2 - I),

where :math:`B_i` is 1 for pairs of samples of one group. :math:`\rho_i` is the proportion of the
residual variance that samples of one group share. Each gene's :math:`\rho` maximises the restricted
likelihood, and the consensus over genes is that of
:func:`hiercorr.between.normalization.block_correlation`, for each grouping.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hiercorr.between.normalization import lowest_correlation
from hiercorr.errors import InputError
from hiercorr.runtime.blas import at_most

Array = NDArray[np.float64]
_HIGH = 0.99  # of the sum of both correlations
_GRID = 21  # points of the starting grid in each direction
_STEPS = 40
_MIN_EIGENVALUE = 1e-9
_ENTRIES = 4_000_000  # of the matrices of the genes that are refined at one time


def correlation_matrix(
    groupings: Sequence[NDArray[np.int64]], correlations: Sequence[float]
) -> Array:
    """Return the correlation matrix (n_samples, n_samples) of samples in one or more groupings."""
    matrix = np.eye(len(groupings[0]))
    for codes, rho in zip(groupings, correlations, strict=True):
        matrix += rho * ((codes[:, None] == codes) - np.eye(len(codes)))
    return matrix


@at_most(1)  # many matrices of the size of the samples: further threads of BLAS only wait
def crossed_correlations(
    expression: Array,
    design: Array,
    groupings: Sequence[NDArray[np.int64]],
    weights: Array | None = None,
) -> tuple[float, ...]:
    """Estimate the consensus correlations of two groupings by REML.

    Parameters
    ----------
    expression : ndarray, shape (n_samples, n_genes)
    design : ndarray, shape (n_samples, n_coefficients)
    groupings : sequence of ndarray of int, shape (n_samples,)
        Group of each sample in each of the two groupings.
    weights : ndarray, shape (n_samples, n_genes), optional
        Precision weights.

    Returns
    -------
    tuple of float

    Raises
    ------
    InputError
        If every gene is constant given the design.

    References
    ----------
    Smyth, Michaud & Scott 2005, Bioinformatics 21:2067 (one grouping).
    """
    s, k = design.shape
    apart = np.array([(g[:, None] == g) - np.eye(s) for g in groupings])
    q = np.linalg.qr(design, mode="complete")[0][:, k:]
    z = q.T @ expression
    alive = (z**2).sum(0) > 1e-12
    if not alive.any():
        raise InputError(
            "the correlations within groups cannot be estimated: every gene is constant given the "
            "formula"
        )
    low = np.array([lowest_correlation(g) for g in groupings])
    a = q.T @ apart @ q
    rho = _best_of_grid(z[:, alive], a, low)
    part = max(1, _ENTRIES // (s - k) ** 2)
    genes = np.flatnonzero(alive)
    for start in range(0, len(genes), part):
        at = slice(start, start + part)
        if weights is None:
            rho[at] = _refine(z.T[genes[at]], a[:, None], rho[at], low)
        else:
            root = np.sqrt(weights.T[genes[at]])
            own = np.linalg.qr(root[:, :, None] * design, mode="complete")[0][:, :, k:]
            y = np.swapaxes(own, 1, 2) @ (root * expression.T[genes[at]])[:, :, None]
            of_gene = np.swapaxes(own, 1, 2) @ apart[:, None] @ own
            rho[at] = _refine(y[:, :, 0], of_gene, rho[at], low)
    consensus = np.tanh(stats.trim_mean(np.arctanh(rho), 0.15, axis=0))
    return tuple(float(c) for c in _inside(consensus, groupings))


def _inside(rho: Array, groupings: Sequence[NDArray[np.int64]]) -> Array:
    """Shrink correlations until their matrix is positive definite."""
    while np.linalg.eigvalsh(correlation_matrix(groupings, list(rho)))[0] < 0.005:
        rho = 0.98 * rho
    return rho


def _best_of_grid(z: Array, a: Array, low: Array) -> Array:
    """Return the best pair of correlations of each gene (n_genes, 2) on a grid."""
    best, rho = np.full(z.shape[1], np.inf), np.zeros((z.shape[1], 2))
    first, second = (np.linspace(bound, _HIGH, _GRID) for bound in low)
    for x in first:
        for y in second[x + second <= _HIGH]:
            values, vectors = np.linalg.eigh(np.eye(len(z)) + x * a[0] + y * a[1])
            if values[0] <= _MIN_EIGENVALUE:
                continue
            rotated = (vectors.T @ z) ** 2
            loss = np.log(values).sum() + len(z) * np.log((rotated / values[:, None]).sum(0))
            better = loss < best
            best[better], rho[better] = loss[better], (x, y)
    return rho


def _decomposed(z: Array, a: Array, rho: Array) -> tuple[Array, Array, Array]:
    """Return the loss of each gene, infinite if not valid, and the eigenvectors of its matrix."""
    m = z.shape[1]
    matrix = np.eye(m) + (rho.T[:, :, None, None] * a).sum(0)
    values, vectors = np.linalg.eigh(matrix)
    bad = (values[:, 0] <= _MIN_EIGENVALUE) | (rho.sum(1) > _HIGH)
    values = np.where(bad[:, None], 1.0, values)
    rotated = (np.swapaxes(vectors, 1, 2) @ z[:, :, None])[:, :, 0]
    loss = np.log(values).sum(1) + m * np.log((rotated**2 / values).sum(1))
    return np.where(bad, np.inf, loss), values, vectors


def _refine(z: Array, a: Array, rho: Array, low: Array) -> Array:
    """Maximise the restricted likelihood of each gene from a start, by Fisher scoring.

    Parameters
    ----------
    z : ndarray, shape (n_genes, m)
        Error contrasts.
    a : ndarray, shape (2, n_genes or 1, m, m)
    rho : ndarray, shape (n_genes, 2)
    low : ndarray, shape (2,)
    """
    rho, m = rho.copy(), z.shape[1]
    loss = _decomposed(z, a, rho)[0]
    active = np.arange(len(z))
    for _ in range(_STEPS):
        a_, z_, r_ = (a if a.shape[1] == 1 else a[:, active]), z[active], rho[active]
        _, values, vectors = _decomposed(z_, a_, r_)
        inverse = (vectors / values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
        u = (inverse @ z_[:, :, None])[:, :, 0]
        scale = (z_ * u).sum(1) / m
        wa = inverse @ a_  # (2, n, m, m)
        trace = np.trace(wa, axis1=2, axis2=3)
        au = (a_ @ u[:, :, None])[..., 0]
        gradient = trace - (au * u).sum(2) / scale
        h = np.einsum("ingk,jnkg->nij", wa, wa) - np.einsum("in,jn->nij", trace, trace) / m
        h += 1e-9 * (1 + np.trace(h, axis1=1, axis2=2))[:, None, None] * np.eye(2)
        step = -np.linalg.solve(h, gradient.T[:, :, None])[:, :, 0]
        moved = np.zeros(len(active), bool)
        change = np.zeros(len(active))
        for halving in range(12):
            left = np.flatnonzero(~moved)
            if not len(left):
                break
            trial = np.clip(r_[left] + 0.5**halving * step[left], low, _HIGH)
            found = _decomposed(z_[left], a_ if a_.shape[1] == 1 else a_[:, left], trial)[0]
            better = found < loss[active[left]]
            taken = left[better]
            change[taken] = np.abs(trial[better] - r_[taken]).max(1)
            rho[active[taken]], loss[active[taken]] = trial[better], found[better]
            moved[taken] = True
        active = active[moved & (change > 1e-7)]
        if not len(active):
            break
    return rho
