"""Fitted covariates of cells, removed from the sums over cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr.moments.residuals import ExpectedCounts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellAdjustment:
    """Regression of each gene's counts on covariates of cells, by sample.

    Attributes
    ----------
    scaled : ndarray, shape (n_cells, k)
        s u: depth times the covariates u, rotated so that ``u' S W0 u`` is the identity in each
        sample.
    beta : ndarray, shape (n_samples, k, n_genes)
        Coefficients of u.
    gram : ndarray, shape (n_samples, m, m)
        Sums of v L L^T (see :mod:`hiercorr.within.cell_covariates`), m the number of nodes.
    """

    scaled: Array
    beta: Array
    gram: Array

    def fitted(self, sample: int, dtype: DTypeLike) -> ExpectedCounts:
        """Return a function of (genes, cells) that gives the expected counts of one sample."""
        return partial(_expected_counts, self.scaled, self.beta[sample], np.dtype(dtype))

    def take(self, genes: NDArray[np.int64]) -> CellAdjustment:
        """Return the same for these genes, in this order."""
        return replace(self, beta=self.beta[:, :, genes])


@dataclass(frozen=True)
class ModalityAdjustment:
    """Regression of the counts of features of several types on covariates of cells.

    Attributes
    ----------
    parts : tuple of CellAdjustment
        Regressions of the features of each type.
    edges : ndarray of int64, shape (n_types + 1,)
        First feature of each type, and the number of features.
    cross : dict of (int, int) to ndarray, shape (n_samples, m, m)
        Sums of v L L^T for pairs of features of types a < b.
    """

    parts: tuple[CellAdjustment, ...]
    edges: NDArray[np.int64]
    cross: dict[tuple[int, int], Array]

    def take(self, genes: NDArray[np.int64]) -> ModalityAdjustment:
        """Return the same for these features; those of a type must stay together."""
        at = np.searchsorted(genes, self.edges)
        own = [genes[a:b] - e for a, b, e in zip(at[:-1], at[1:], self.edges, strict=False)]
        parts = tuple(part.take(g) for part, g in zip(self.parts, own, strict=True))
        return replace(self, parts=parts, edges=at.astype(np.int64))

    def gram(self, a: int, b: int) -> Array:
        """Return the sums of v L_a L_b^T, shape (n_samples, m, m)."""
        if a == b:
            return self.parts[a].gram
        return self.cross[a, b] if a < b else self.cross[b, a].swapaxes(1, 2)


Adjustment = CellAdjustment | ModalityAdjustment


def _expected_counts(
    scaled: Array, beta: Array, dtype: np.dtype, genes: slice | NDArray, cells: slice
) -> NDArray:
    return beta[:, genes].T.astype(dtype) @ scaled[cells].T.astype(dtype)
