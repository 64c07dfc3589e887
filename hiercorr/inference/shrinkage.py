r"""Shrinkage of the estimates of many pairs towards zero, and local false sign rates.

The signed normal score z of a calibrated p-value is standard normal for a null pair. Over all
pairs the expected scores are taken to follow a mixture of normals around zero, one of which is
zero itself; its weights are learnt from the scores of all pairs (Stephens 2017):

.. math:: z \sim N(\mu, 1), \quad \mu \sim \pi_0 \delta_0 + \sum_k \pi_k N(0, \sigma_k^2)

The posterior of :math:`\mu` given z gives the probability that the sign of an estimate is wrong,
and the factor :math:`E(\mu \mid z) / z` by which the estimate shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.inference.mixtures import mixture

Array = NDArray[np.float64]

LARGEST_SCORE = 37.0  # of a p-value that is not 0 in double precision
_BIN = 0.02  # width of the bins of |z| from which the weights are learnt
_STEP = 0.01  # of the tables of the posterior
_SMALLEST_SD, _RATIO = 0.25, 2**0.5
_NULL_PAIRS = 10.0  # pairs that are added to those without an effect: pi_0 errs to the safe side


@dataclass(frozen=True)
class EffectPrior:
    """Distribution of the expected scores of the pairs of a panel.

    Attributes
    ----------
    sd : ndarray, shape (n,)
        Standard deviations of the normals; the first is 0.
    weight : ndarray, shape (n,)
        Their proportions.
    """

    sd: Array
    weight: Array

    @property
    def null_share(self) -> float:
        """Proportion of the pairs without an effect, pi_0."""
        return float(self.weight[0])


def normal_scores(p: NDArray, sign: NDArray) -> Array:
    """Turn two-sided p-values into signed normal scores.

    Parameters
    ----------
    p, sign : ndarray
        p-values, and estimates whose signs are taken.
    """
    with np.errstate(divide="ignore"):
        size = -special.ndtri(0.5 * np.asarray(p, float))
    return np.copysign(np.minimum(size, LARGEST_SCORE), sign)


def learn_effects(z: NDArray) -> EffectPrior:
    """Learn how large the effects of many pairs are.

    The weights maximise the likelihood of all scores, with ten null pairs added.

    Parameters
    ----------
    z : ndarray
        Normal scores of distinct pairs; NaN is left out.

    Returns
    -------
    EffectPrior

    References
    ----------
    Stephens 2017, Biostatistics 18:275.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> effects = np.where(np.arange(5000) < 4000, 0, rng.normal(0, 4, 5000))
    >>> bool(abs(learn_effects(effects + rng.normal(size=5000)).null_share - 0.8) < 0.05)
    True
    """
    size = np.abs(np.asarray(z, float).ravel())
    size = size[np.isfinite(size)]
    index, count = np.unique(np.rint(size / _BIN).astype(np.int64), return_counts=True)
    largest = max(float(size.max(initial=0.0)), 1.0)
    steps = int(np.ceil(np.log(1.5 * largest / _SMALLEST_SD) / np.log(_RATIO))) + 1
    sd = np.concatenate([[0.0], _SMALLEST_SD * _RATIO ** np.arange(steps)])
    null = np.where(sd == 0, 1.0, 0.0)
    density = _density(index * _BIN, sd).T
    return EffectPrior(sd, mixture(density, null, _NULL_PAIRS, count))


def shrink(z: NDArray, prior: EffectPrior) -> tuple[Array, Array]:
    """Compute local false sign rates, and the factors by which estimates shrink.

    Parameters
    ----------
    z : ndarray
        Normal scores.
    prior : EffectPrior

    Returns
    -------
    lfsr : ndarray
        Posterior probability that the effect is 0 or has the other sign.
    factor : ndarray
        Posterior mean of the expected score, divided by z; 0 to 1.
    """
    size = np.abs(np.asarray(z, float))
    largest = float(np.nanmax(size, initial=1.0))
    grid = np.arange(0.0, largest + 2 * _STEP, _STEP)
    share = _density(grid, prior.sd) * prior.weight
    share /= share.sum(1, keepdims=True)
    kept = prior.sd**2 / (1 + prior.sd**2)
    other = np.where(prior.sd > 0, special.ndtr(-grid[:, None] * np.sqrt(kept)), 1.0)
    log_wrong = np.log(np.maximum((share * other).sum(1), 1e-300))
    return np.exp(np.interp(size, grid, log_wrong)), np.interp(size, grid, share @ kept)


def _density(z: Array, sd: Array) -> Array:
    """Compute the density of each score under each normal, relative to the largest of the score."""
    variance = 1 + sd**2
    log = -0.5 * (z[:, None] ** 2 / variance + np.log(variance))
    return np.exp(log - log.max(1, keepdims=True))
