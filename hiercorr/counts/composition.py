"""Shares of genes in the sums of counts that pass as depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """What each gene contributes to the depth, where that is a sum of counts.

    Attributes
    ----------
    share : ndarray, shape (n_genes,)
        Proportion of the depth that are counts of the gene; 0 if it does not count.
    squares : ndarray, shape (n_genes,)
        Sum of the squared shares of all genes of the same type; 0 if the depth is no sum.
    """

    share: Array
    squares: Array

    def take(self, genes: Any) -> Composition:
        """Return the same for these genes, in this order."""
        return replace(self, share=self.share[genes], squares=self.squares[genes])


def composition(
    total: Array, parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Composition:
    """Compute the shares of all genes in the depth of their type.

    Parameters
    ----------
    total : ndarray, shape (n_vars,)
        Counts of each gene.
    parts : list of (ndarray of int64, ndarray of int64)
        For each type, its genes, and those of them that count as depth; none if depth is no sum.
    """
    share, squares = np.zeros(len(total)), np.zeros(len(total))
    for of_type, counted in parts:
        everything = total[counted].sum()
        if everything > 0:
            share[counted] = total[counted] / everything
            squares[of_type] = (share[counted] ** 2).sum()
    return Composition(share, squares)
