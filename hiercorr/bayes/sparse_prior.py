r"""Prior of the correlations of many pairs, learnt from all of them: mostly none, some of any size.

.. math:: (\zeta, \tau) \sim \sum_t \Big\{\pi_{0t}\,\delta_0(\zeta)
          + \sum_k \pi_{kt}\, N(\zeta; c_k, s_k^2)\Big\}\, \delta_t(\tau)

with centres c from -1.3 to 1.3, without those near 0, so that correlations of any size and sign may
be frequent or rare. The weights maximise the marginal likelihood of all pairs, with ten pairs
added that have no correlation. What pairs without a correlation differ in between samples is learnt
alike, and decides how much evidence is needed. Normals around 0, as in adaptive shrinkage, would
leave 6 to 9% of the pairs too few without a correlation where there are no small ones.

References
----------
Efron 2008 (local false discovery rates); Stephens 2017 (adaptive shrinkage).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.inference.mixtures import mixture

Array = NDArray[np.float64]

CENTRES = np.array([0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3])  # of zeta, with both signs
LEAST_PAIRS = 60
_NULL_PAIRS = 10.0
_LEAST = 1e-300


@dataclass(frozen=True)
class SparsePrior:
    """Distribution of zeta and tau over the pairs of a target.

    Attributes
    ----------
    zeta : ndarray, shape (n_zetas,)
        Grid of zeta.
    component : ndarray, shape (n_components, n_zetas)
        Mass of each component on the grid; the first is at 0.
    weight : ndarray, shape (n_taus, n_components)
        Proportions of the pairs.
    n_pairs : int
        Number of pairs from which they were learnt.
    """

    zeta: Array
    component: Array
    weight: Array
    n_pairs: int

    @property
    def null_share(self) -> float:
        """Proportion of the pairs without a correlation."""
        return float(self.weight[:, 0].sum())

    @property
    def mass(self) -> Array:
        """Distribution of zeta over the grid."""
        return self.weight.sum(0) @ self.component

    @property
    def variance(self) -> float:
        """Variance of zeta."""
        mass = self.mass
        mean = mass @ self.zeta
        return float(mass @ (self.zeta - mean) ** 2)

    def limits(self, share: float) -> tuple[float, float]:
        """Return the central interval of the correlation that contains this share of the pairs."""
        cumulated = np.cumsum(self.mass)
        low, high = np.searchsorted(cumulated, [(1 - share) / 2, (1 + share) / 2])
        last = len(self.zeta) - 1
        return float(np.tanh(self.zeta[low])), float(np.tanh(self.zeta[min(high, last)]))

    def describe(self) -> str:
        """Describe the prior in a sentence."""
        slab = self.mass.copy()
        slab[self.component[0] > 0] = 0.0
        total = max(slab.sum(), _LEAST)
        mean = slab @ self.zeta / total
        sd = np.sqrt(slab @ (self.zeta - mean) ** 2 / total)
        return (
            f"0 for {100 * self.null_share:.0f}% of the pairs, otherwise mean {mean:.3g} and sd "
            f"{sd:.3g}, estimated from {self.n_pairs} pairs"
        )


@dataclass(frozen=True)
class SparsePosterior:
    """Posterior of the pairs of a target under their common prior.

    Attributes
    ----------
    null : ndarray, shape (n_pairs,)
        Local false discovery rate: the posterior probability that the pair is uncorrelated.
    log_slab : ndarray, shape (n_pairs, n_zetas)
        Log mass of zeta if there is a correlation.
    tau : ndarray, shape (n_pairs, n_taus)
        Mass of tau.
    """

    null: Array
    log_slab: Array
    tau: Array


def components(zeta: Array) -> Array:
    """Return the components of the prior on a grid with 0 in the middle, shape (n, n_zetas)."""
    centre = np.concatenate([-CENTRES, CENTRES])[:, None]
    slab = np.exp(-0.5 * ((zeta - centre) / (0.03 + 0.07 * np.abs(centre))) ** 2)
    slab[:, zeta == 0] = 0.0
    return np.concatenate([(zeta == 0)[None].astype(float), slab / slab.sum(1, keepdims=True)])


def learn(log_likelihood: NDArray, zeta: Array) -> SparsePrior:
    """Learn the distribution of zeta and tau over pairs.

    Parameters
    ----------
    log_likelihood : ndarray, shape (n_pairs, n_taus, n_zetas)
        Log likelihood of each pair, up to a constant of the pair.
    zeta : ndarray, shape (n_zetas,)
        Grid of zeta, symmetric around 0.

    Returns
    -------
    SparsePrior

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> zeta, truth = np.linspace(-1, 1, 201), np.repeat([0.0, 0.4], [900, 100])
    >>> estimate = truth + 0.1 * rng.standard_normal(1000)
    >>> curves = -0.5 * ((zeta - estimate[:, None]) / 0.1) ** 2
    >>> round(learn(curves[:, None], np.round(zeta, 9)).null_share, 1)
    0.9
    """
    n, n_taus, _ = log_likelihood.shape
    part = components(zeta)
    found = np.empty((n_taus, len(part), n))
    for i, curve in enumerate(log_likelihood):
        found[:, :, i] = np.exp(curve - curve.max()).astype(float) @ part.T
    flat = np.maximum(found.reshape(-1, n), _LEAST)
    first = mixture(flat).reshape(n_taus, -1)
    null = np.zeros_like(first)
    null[:, 0] = first.sum(1)  # null pairs differ between samples as all do
    weight = mixture(flat, null.ravel(), _NULL_PAIRS)
    return SparsePrior(zeta, part, weight.reshape(n_taus, -1), n)


def posterior(log_likelihood: NDArray, prior: SparsePrior) -> SparsePosterior:
    """Compute the posterior of every pair.

    Parameters
    ----------
    log_likelihood : ndarray, shape (n_pairs, n_taus, n_zetas)
        As for :func:`learn`.
    prior : SparsePrior
    """
    n, n_taus, n_zetas = log_likelihood.shape
    null = np.empty(n)
    log_slab, tau = np.empty((n, n_zetas)), np.empty((n, n_taus))
    at_zero, slab = prior.weight[:, 0], prior.weight[:, 1:] @ prior.component[1:]
    zero = int(np.flatnonzero(prior.component[0])[0])
    with np.errstate(divide="ignore"):
        for i, curve in enumerate(log_likelihood):
            like = np.exp(curve - curve.max()).astype(float)
            spike = at_zero * like[:, zero]
            rest = slab * like
            total = max(spike.sum() + rest.sum(), _LEAST)
            null[i] = spike.sum() / total
            log_slab[i] = np.log(rest.sum(0))
            tau[i] = (spike + rest.sum(1)) / total
    return SparsePosterior(null, log_slab, tau / tau.sum(1, keepdims=True))


def averaged(local_fdr: Array) -> Array:
    """Average the local false discovery rates of a pair and of all with smaller ones.

    Examples
    --------
    >>> averaged(np.array([0.3, 0.0, 0.1])).round(3).tolist()
    [0.133, 0.0, 0.05]
    """
    order = np.argsort(local_fdr, kind="stable")
    out = np.empty_like(local_fdr)
    out[order] = np.cumsum(local_fdr[order]) / np.arange(1, len(local_fdr) + 1)
    return out


def log_density(posterior: SparsePosterior) -> Array:
    """Return log densities of the correlated part for :func:`hiercorr.bayes.many.grid_draws`."""
    top = special.logsumexp(posterior.log_slab, axis=1, keepdims=True)
    return np.where(np.isfinite(top), posterior.log_slab - top, 0.0)
