r"""Heterogeneity between the samples of one donor, the level below that between donors.

.. math:: L_s = \rho_{c(s)} + \delta_s + e_s, \quad \delta_s \sim N(0, \omega^2), \quad
          e_s \sim N(0, v_s)

for sample s of donor c. The restricted likelihood of :math:`\omega` takes a mean for each donor
out, so that what donors have does not matter; its distribution over pairs is learnt from a panel,
as that of :math:`\tau` is (:mod:`hiercorr.inference.random_effects`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr.inference.mixtures import mixture
from hiercorr.inference.posterior import shows_tau
from hiercorr.inference.random_effects import (
    ABSENT,
    TAU,
    informative,
    likelihood_at_every_tau,
    pruned,
    tell_tau,
)

Array = NDArray[np.float64]

LEAST_PAIRS = 60
_BLOCK = 100_000  # pairs at a time


def learn_within_donors(effects: Array, variances: Array, units: NDArray[np.int64]) -> Array | None:
    """Learn how much the correlations of the samples of one donor differ.

    Parameters
    ----------
    effects, variances : ndarray, shape (n_samples, n_pairs)
        Correlation of each pair in each sample, and its sampling variance; at least 1e30 where a
        sample has no information.
    units : ndarray of int, shape (n_samples,)
        Donor of each sample.

    Returns
    -------
    ndarray, shape (n_taus,), or None
        Distribution of the standard deviation over :data:`~hiercorr.inference.random_effects.TAU`;
        NaN if :func:`~hiercorr.inference.random_effects.tell_tau` is false;
        None if no donor has two samples, or fewer than 60 pairs can be estimated in two samples of
        one donor.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> units = np.repeat(np.arange(4), 3)
    >>> donors = rng.normal(0, 0.3, (4, 2000))[units]
    >>> effects = donors + rng.normal(0, np.hypot(0.1, 0.05), (12, 2000))
    >>> weight = learn_within_donors(effects, np.full((12, 2000), 0.05**2), units)
    >>> bool(abs(np.sqrt(weight @ TAU**2) - 0.1) < 0.01)
    True
    """
    known = variances < ABSENT
    twice = np.zeros(effects.shape[1], bool)
    for unit in np.unique(units):
        twice |= known[units == unit].sum(0) >= 2
    at = np.flatnonzero(twice)
    if len(at) < LEAST_PAIRS:
        return None
    at = at[informative(np.where(known, variances, ABSENT)[:, at])]
    if not tell_tau(_of_siblings(variances[:, at], units)):
        return np.full(len(TAU), np.nan)
    level = _levels(effects[:, at], variances[:, at], units)
    return pruned(mixture(np.exp(level - level.max(0))))


def tau_within_donors(
    effects: Array, variances: Array, units: NDArray[np.int64], weight: Array
) -> Array:
    """Estimate the standard deviation between the samples of one donor, pair by pair.

    Parameters
    ----------
    effects, variances, units
        As for :func:`learn_within_donors`.
    weight : ndarray, shape (n_taus,)
        What was learnt from a panel.

    Returns
    -------
    ndarray, shape (n_pairs,)
        Root of the posterior mean of the variance; NaN where the correlations of samples have
        standard errors above 0.3, or no donor has two.
    """
    out = np.empty(effects.shape[1])
    for start in range(0, len(out), _BLOCK):
        at = slice(start, start + _BLOCK)
        level = _levels(effects[:, at], variances[:, at], units)
        posterior = weight[:, None] * np.exp(level - level.max(0))
        tau = np.sqrt((posterior * TAU[:, None] ** 2).sum(0) / posterior.sum(0))
        v = _of_siblings(variances[:, at], units)
        several = (v < ABSENT).sum(0)
        out[at] = np.where((several > 0) & shows_tau(several, (1 / v).sum(0)), tau, np.nan)
    return out


def _of_siblings(variances: Array, units: NDArray[np.int64]) -> Array:
    """Leave out samples without another one of their donor, pair by pair."""
    known = variances < ABSENT
    of_donor = np.array([known[units == u].sum(0) for u in range(units.max() + 1)])[units]
    return np.where(known & (of_donor >= 2), variances, ABSENT)


def _levels(effects: Array, variances: Array, units: NDArray[np.int64]) -> Array:
    """Add the restricted log likelihoods of the donors that have two samples or more."""
    total = np.zeros((len(TAU), effects.shape[1]))
    for unit in np.unique(units):
        own = units == unit
        if own.sum() > 1:
            total += likelihood_at_every_tau(effects[own], variances[own])
    return total
