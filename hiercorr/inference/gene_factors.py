r"""How much more or less the correlations of a gene differ between donors than those of others.

What a panel teaches of the heterogeneity is an average over its genes. The prior of a pair takes
both of its genes into account,

.. math:: \Pr(\tau_a \mid j, k) \propto \pi_a\, r_{ja}\, r_{ka}, \quad
          r_{ja} = \frac{\sum_k \Pr(\tau_a \mid jk) + n_0 \pi_a}{(n_j + n_0)\, \pi_a},

where the sum runs over the pairs of gene j with the teachers, some genes of the panel, and
:math:`n_0` pairs as all others are added: 10, or 60 / (k - 1) for k < 7 donors, of which each pair
tells less. A gene whose correlations vary around 0 from donor to donor needs more evidence, and the
others do not pay for it.

References
----------
Morris 1983 (empirical Bayes of several groups); Efron 2008 (mixtures by relevance).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr.inference.posterior import INFORMATIVE
from hiercorr.inference.random_effects import (
    ABSENT,
    HeterogeneityPrior,
    likelihood_of_pairs,
)

Array = NDArray[np.float64]

TEACHERS = 64  # genes
_AS_ALL = 10.0  # pairs, of many donors;
_FEW = 60.0  # of k donors this over k - 1, if that is more
_LEAST_PAIRS = 20
_STEPS = 20
_BLOCK = 4096  # pairs


def learn_factors(
    effects: Array, variances: Array, prior: HeterogeneityPrior, other: NDArray[np.bool_]
) -> Array:
    """Learn the factors of genes from their pairs with the teachers.

    Parameters
    ----------
    effects, variances : ndarray, shape (n_donors, n_teachers, n_genes)
        Correlations, 0 where a donor has no information, and their sampling variances.
    prior : HeterogeneityPrior
    other : ndarray of bool, shape (n_teachers, n_genes)
        False where the teacher is the gene itself.

    Returns
    -------
    ndarray, shape (n_taus + n_flips, n_genes)
        1 for genes with fewer than 20 pairs that can tell tau.
    """
    n_donors, teachers, n = effects.shape
    x, v = effects.reshape(n_donors, -1), variances.reshape(n_donors, -1)
    with np.errstate(divide="ignore"):
        typical = n_donors / (1 / v).sum(0)
    told = ((v < ABSENT).sum(0) >= 3) & (typical <= INFORMATIVE) & other.ravel()
    base = np.concatenate([prior.weight, prior.flip_weight])
    points = np.flatnonzero(base)
    kept = prior.tau[prior.weight > 0], prior.flip[prior.flip_weight > 0]
    flat = np.zeros((len(points), x.shape[1]))
    at = np.flatnonzero(told)
    for start in range(0, len(at), _BLOCK):
        some = at[start : start + _BLOCK]
        flat[:, some] = likelihood_of_pairs(x[:, some], v[:, some], prior.inflation, *kept)
    likelihood = flat.reshape(-1, teachers, n)
    as_all = base[points, None]
    added = max(_AS_ALL, _FEW / (n_donors - 1))
    weight = np.broadcast_to(as_all, (len(points), n)).copy()
    for _ in range(_STEPS):
        total = np.einsum("an,amn->mn", weight, likelihood)
        each = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        found = weight * np.einsum("amn,mn->an", likelihood, each)
        weight = (found + added * as_all) / (found.sum(0) + added)
    factor = np.ones((len(base), n))
    number = told.reshape(teachers, n).sum(0)
    factor[points] = np.where(number >= _LEAST_PAIRS, weight / as_all, 1.0)
    return factor
