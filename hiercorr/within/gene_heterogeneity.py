"""How much the correlations of each gene differ between donors, from its pairs with a few genes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.inference.gene_factors import TEACHERS, learn_factors
from hiercorr.inference.random_effects import ABSENT
from hiercorr.moments.genes import GeneMoments
from hiercorr.within.heterogeneity import RICH, DonorModel

Index = NDArray[np.int64]

_VALUES = 1_000_000  # of an array (n_samples, teachers, genes)
_LEAST = 16  # genes that are worth a pass


def with_gene_factors(
    model: DonorModel,
    sums: moments.Sums,
    fit: GeneMoments,
    information: NDArray,
    panel: Index,
    numerators: Callable[[Index, int], NDArray],
) -> DonorModel:
    """Let the prior of a pair depend on its genes.

    Parameters
    ----------
    model : DonorModel
        With the prior of the panel.
    sums : DepthSums
    fit : GeneMoments
        Moments within samples.
    information : ndarray, shape (n_genes,)
        Sparse genes do not tell tau: their factors are 1.
    panel : ndarray of int
        Positions of the panel's genes, in ascending order.
    numerators : callable
        Returns N of each sample for the pairs of the first k of some genes with the others.

    Returns
    -------
    DonorModel
    """
    assert model.prior is not None
    prior = model.prior
    factor = np.ones((len(prior.tau) + len(prior.flip), len(fit.variance)))
    told = (fit.variance > 0) & (information >= RICH)
    told[panel] = True
    usable = np.flatnonzero(told)
    for start, stop in _types(sums, factor.shape[1]):
        teachers, genes = (g[(g >= start) & (g < stop)] for g in (panel, usable))
        teachers = teachers[:: -(-len(teachers) // TEACHERS)] if len(teachers) else teachers
        if len(teachers) < _LEAST:
            continue
        for some in _parts(genes, fit.num.shape[1] * len(teachers)):
            both = np.concatenate([teachers, some])
            num = numerators(both, len(teachers))
            part, of_genes = model.take(both), (sums.take(both), fit.take(both))
            left, right = slice(0, len(teachers)), slice(len(teachers), len(both))
            den = moments.denominators(*of_genes, left, right, num, np.empty_like(num))
            x, v = part.donor_effects(of_genes[0], left, right, num, den)
            v = np.where(np.isfinite(x) & (v > 0), v, ABSENT)
            x = np.where(v < ABSENT, x, 0.0)
            factor[:, some] = learn_factors(x, v, prior, teachers[:, None] != some)
    return replace(model, genes=replace(model.genes, factor=factor))


def _types(sums: moments.Sums, n_genes: int) -> list[tuple[int, int]]:
    """Return the first and last position of the features of each type."""
    if isinstance(sums, moments.ModalitySums):
        return [(int(a), int(b)) for a, b in itertools.pairwise(sums.edges)]
    return [(0, n_genes)]


def _parts(genes: Index, values: int) -> Iterator[Index]:
    """Split genes so that arrays with `values` entries for each gene stay small."""
    size = max(_LEAST, _VALUES // max(values, 1))
    for start in range(0, len(genes), size):
        yield genes[start : start + size]
