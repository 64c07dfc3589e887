"""ExpectedCounts covariates of cells, which the sums over cells take out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr.moments.residuals import ExpectedCounts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellAdjustment:
    """ExpectedCounts covariates of cells.

    Attributes
    ----------
    scaled : ndarray, shape (n_cells, k)
        s u, u the covariates of a cell turned so that ``u' S W0 u`` is the identity in each sample.
    beta : ndarray, shape (n_samples, k, n_genes)
        Coefficients of u.
    gram : ndarray, shape (n_samples, m, m)
        Sums of v L L^T.
    """

    scaled: Array
    beta: Array
    gram: Array

    def fitted(self, sample: int, dtype: DTypeLike) -> ExpectedCounts:
        """Expected counts of cells of one sample."""
        return partial(_means, self.scaled, self.beta[sample], np.dtype(dtype))


def _means(
    scaled: Array, beta: Array, dtype: np.dtype, genes: slice | NDArray, cells: slice
) -> NDArray:
    return beta[:, genes].T.astype(dtype) @ scaled[cells].T.astype(dtype)
