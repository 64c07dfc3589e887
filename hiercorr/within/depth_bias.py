r"""What depth alone makes of a correlation: dependence of genes on depth, and composition.

The covariance of two genes relative to their means contains

.. math:: b_j b_k V + \big[\textstyle\sum_l p_l^2 \phi_l - p_j\phi_j - p_k\phi_k
          - \overline{1/s}\big],

with b the slopes of log expression on log depth and V the variance of log depth
(:mod:`hiercorr.moments.depth_dependence`), and the bracket where the depth is the sum of the counts
of genes with shares p, whose own expression and noise are part of it: whatever one gene gains, the
others lose. The bracket is that of genes which are otherwise independent, to first order in the
shares: of a gene that holds half of the counts it is up to 1.4 times too large.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.moments.depth_dependence import DepthDependence

Array = NDArray[np.float64]
_QUANTILE = 1.96
_ROUNDS = 20  # of the solution for the variances
_LEAST_REST = 0.05  # of the depth without a gene
LEAST = 0.02  # correlation that depth makes, below which it is not mentioned


@dataclass(frozen=True)
class DepthBias:
    """Correlation that depth alone makes of each pair; arrays are (n_genes,).

    Attributes
    ----------
    along : ndarray
        Slope on log depth times the standard deviation of log depth, relative to the standard
        deviation of the gene.
    own, common : ndarray
        p phi, and the terms of the bracket that all genes of a type share, both divided by the
        standard deviation of the gene.
    root : ndarray
        1 / standard deviation.
    kind : ndarray of int64
        Type of each gene.
    depths : ndarray, shape (n_types, n_types)
        Correlation of the log depths of the types within samples.
    """

    along: Array
    own: Array
    common: Array
    root: Array
    kind: NDArray[np.int64]
    depths: Array

    def take(self, genes: NDArray[np.int64]) -> DepthBias:
        """Return the same for these genes, in this order."""
        names = ("along", "own", "common", "root", "kind")
        return replace(self, **{name: getattr(self, name)[genes] for name in names})

    @property
    def matters(self) -> bool:
        """Whether any pair can get a correlation that is worth a flag."""
        if not len(self.root):
            return False
        by_sum = (np.abs(self.common) + 2 * self.own).max() * self.root.max()
        return bool((np.abs(self.along).max() ** 2 + by_sum) >= LEAST)

    def pairs(self, left: slice, right: slice) -> Array:
        """Return the correlation that depth alone makes, shape (left, right)."""
        out = np.outer(self.along[left], self.along[right])
        if len(self.depths) > 1:
            out *= self.depths[np.ix_(self.kind[left], self.kind[right])]
        if self.common.any() or self.own.any():
            out += self.composition(left, right)
        return out

    def composition(self, left: slice, right: slice) -> Array:
        """Return the part of it that comes from sums as depth, shape (left, right)."""
        out = np.outer(self.common[left] - self.own[left], self.root[right])
        out -= np.outer(self.root[left], self.own[right])
        if len(self.depths) == 1:
            return out
        return np.where(self.kind[left, None] == self.kind[None, right], out, 0.0)

    def explains(
        self, left: slice, right: slice, correlation: NDArray, se: NDArray | None
    ) -> NDArray[np.bool_]:
        """Return the pairs whose correlation does not exceed what depth alone makes.

        Correlations that differ from 0 (by 1.96 standard errors) must differ from it as well.

        Parameters
        ----------
        left, right : slice
        correlation : ndarray, shape (left, right)
        se : ndarray, shape (left, right), optional
        """
        made = self.pairs(left, right).astype(correlation.dtype)
        out = np.abs(made) >= LEAST
        if not out.any():
            return out
        made, r = made[out], correlation[out]
        size = np.abs(r)
        with np.errstate(invalid="ignore"):
            if se is not None:
                margin = _QUANTILE * se[out]
                size = np.where(size > margin, size - margin, size)
            out[out] = (size <= np.abs(made)) & (made * r > 0)
        return out


def depth_bias(
    counts: Counts, dependence: DepthDependence, variance: Array, adjusted: bool
) -> DepthBias:
    """Compute what depth alone makes of the correlations of all genes.

    Parameters
    ----------
    counts : Counts
    dependence : DepthDependence
    variance : ndarray, shape (n_genes,)
        Relative variance of each gene beyond noise.
    adjusted : bool
        Whether log depth is regressed out, so that slopes do not matter.
    """
    n = counts.n_genes
    known = variance > 0
    root = np.where(known, 1 / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    slope = np.zeros(n) if adjusted else dependence.beyond_noise()
    modalities = counts.modalities
    kind = np.zeros(n, np.int64) if modalities is None else modalities.kind
    own, common = np.zeros(n), np.zeros(n)
    for at, part in _types(counts):
        if counts.composition is not None and at.any() and counts.composition.squares[at][0] > 0:
            share, squares = counts.composition.share[at], counts.composition.squares[at][0]
            own[at], total = _true_variances(share, float(squares), variance[at])
            common[at] = total - np.mean(1 / part.depth)
    along = slope * np.sqrt(dependence.spread) * root
    return DepthBias(along, own * root, common * root, root, kind, _depth_correlation(counts))


def _types(counts: Counts) -> list[tuple[NDArray[np.bool_], Counts]]:
    """Return which genes are of each type, and their counts."""
    modalities = counts.modalities
    kind = np.zeros(counts.n_genes, np.int64) if modalities is None else modalities.kind
    return [(kind == t, part) for t, part in enumerate(counts.by_type())]


def _true_variances(share: Array, squares: float, variance: Array) -> tuple[Array, float]:
    r"""Return p phi of genes, and the sum of p^2 phi over all genes of their type.

    The estimated variances are those after division by the sum,
    :math:`(1 - p_j)^2 \phi_j + \sum_{l \ne j} p_l^2 \phi_l`, which is solved for phi. Genes that
    are not among these, or have no estimate, get the median.
    """
    known = variance > 0
    if not known.any():
        return np.zeros_like(variance), 0.0
    rest = max(squares - float((share[known] ** 2).sum()), 0.0)
    seen = np.where(known, variance, np.median(variance[known]))
    phi, total = seen, 0.0
    for _ in range(_ROUNDS):
        part = share**2 * phi
        total = float(part[known].sum() + rest * np.median(phi[known]))
        phi = np.maximum(seen - (total - part), 0.0) / np.maximum(1 - share, _LEAST_REST) ** 2
    return share * np.where(known, phi, 0.0), total


def _depth_correlation(counts: Counts) -> Array:
    parts = [np.log(part.depth) for part in counts.by_type()]
    if len(parts) == 1:
        return np.ones((1, 1))
    centred = np.array(parts)
    for a, b in itertools.pairwise(counts.starts):
        centred[:, a:b] -= centred[:, a:b].mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(centred))


def typical_composition(bias: DepthBias, largest: int = 200) -> float:
    """Return the median over pairs of what sums as depth make of independent genes.

    Over evenly spaced genes with variance, if there are many.
    """
    genes = np.flatnonzero(bias.root > 0)
    if len(genes) < 2 or not (bias.common.any() or bias.own.any()):  # the depth is no sum of counts
        return 0.0
    genes = genes[np.linspace(0, len(genes) - 1, min(len(genes), largest)).astype(int)]
    part = bias.take(genes)
    every = slice(0, len(genes))
    upper = np.triu_indices(len(genes), 1)
    return float(np.median(part.composition(every, every)[upper]))
