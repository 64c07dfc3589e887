"""Fitted covariates of cells, removed from the sums over cells."""

from __future__ import annotations

from dataclasses import dataclass
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


def _expected_counts(
    scaled: Array, beta: Array, dtype: np.dtype, genes: slice | NDArray, cells: slice
) -> NDArray:
    return beta[:, genes].T.astype(dtype) @ scaled[cells].T.astype(dtype)
