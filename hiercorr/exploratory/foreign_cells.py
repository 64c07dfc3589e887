r"""Cells of another kind among those analysed: doublets, or a type that was not separated.

A few cells in which many genes are off together make pairs of those genes correlate. No marker
genes are needed to see it: the leading component of the genes' covariance within samples is then
carried by few cells. With residuals r scaled to unit variance and u the leading eigenvector of
their correlations, the part of cell i is

.. math:: q_i = \Big(\sum_j u_j r_{ij}\Big)^2 - \sum_j u_j^2 r_{ij}^2

which adds up to the eigenvalue less the diagonal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts

Array = NDArray[np.float64]

MOST_LOADED = 0.05  # share of the cells whose part is reported
SUSPICIOUS = (
    0.5  # part of the leading component in them; 0.3 to 0.4 where all cells are of one type
)
LEFT_OUT = 0.1  # share of the cells to leave out as a check
_GENES = 200
_LEAST_MEAN = 0.02
_LARGEST_RESIDUAL = 10.0


@dataclass(frozen=True)
class LeadingComponent:
    """Cells that carry the leading component of co-variation.

    Attributes
    ----------
    part : ndarray, shape (n_cells,)
        Part of each cell, q.
    share : float
        Proportion of the squared scores in the 5% of the cells with the largest ones.
    expected : float
        The same with every gene shuffled over the cells of a sample.
    """

    part: Array
    share: float
    expected: float


def leading_component(counts: Counts, rng: np.random.Generator) -> LeadingComponent | None:
    """Find the leading component of co-variation within samples, and the cells that carry it.

    Parameters
    ----------
    counts : Counts
        The 200 genes with the most variable residuals are used, of those with a mean count of at
        least 0.02.
    rng : Generator
        For the shuffled genes.

    Returns
    -------
    LeadingComponent
        None with fewer than 3 such genes.
    """
    residuals = _residuals(counts)
    if len(residuals) < 3:
        return None
    u = np.linalg.eigh(residuals @ residuals.T)[1][:, -1]
    score = u @ residuals
    shuffled = np.zeros(counts.n_cells)
    for weight, row in zip(u, residuals, strict=True):
        for a, b in itertools.pairwise(counts.starts):
            shuffled[a:b] += weight * rng.permutation(row[a:b])
    part = score**2 - (u**2) @ residuals**2
    return LeadingComponent(part, _share(score), _share(shuffled))


def _share(score: Array) -> float:
    squares = np.sort(score**2)[::-1]
    return float(squares[: max(1, int(MOST_LOADED * len(squares)))].sum() / squares.sum())


def _residuals(counts: Counts) -> Array:
    """Compute Pearson residuals within samples, clipped and scaled, (genes, cells)."""
    rows = []
    for j in range(counts.n_genes):
        x = dense(counts, j, counts.values)
        if x.mean() < _LEAST_MEAN:
            continue
        for start, stop in itertools.pairwise(counts.starts):
            depth = counts.depth[start:stop]
            expected = depth * (x[start:stop].sum() / depth.sum())
            x[start:stop] -= expected
            x[start:stop] /= np.sqrt(np.maximum(expected + 0.5 * expected**2, 1e-12))
        rows.append(np.clip(x, -_LARGEST_RESIDUAL, _LARGEST_RESIDUAL))
    if not rows:
        return np.empty((0, counts.n_cells))
    found = np.array(rows)
    sd = found.std(1)
    chosen = np.sort(np.argsort(-sd, kind="stable")[:_GENES])
    chosen = chosen[sd[chosen] > 0]
    return found[chosen] / sd[chosen, None]


def dense(counts: Counts, j: int, values: NDArray) -> Array:
    """Return the values of gene j in every cell."""
    a, b = counts.offsets[j, [0, -1]]
    out = np.zeros(counts.n_cells)
    out[counts.rows[a:b]] = values[a:b]
    return out
