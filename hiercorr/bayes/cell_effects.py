r"""Effects of covariates of cells on the log rates of each gene.

.. math:: \log E\, x_{ij} = \log s_i + a_{c(i)j} + w_i'\gamma_j

The covariates w are centred in each sample, and the intercepts a of the samples are free, so that
the effects are those within samples. They are fitted with gamma-Poisson weights,
:math:`Var\, x = \mu + \phi_j\mu^2`, with normal priors, and are then taken as known:
:math:`w_i'\gamma_j` is added to the log depth of the cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array

_STEPS = 60
_LARGEST_STEP = 1.0  # of a log rate
_DISPERSIONS = 4  # alternations between effects and dispersion


def centred_within(z: Array, starts: NDArray[np.int64]) -> Array:
    """Subtract the mean of each sample from the covariates of its cells, (n_cells, k)."""
    size = np.diff(starts)
    means = np.add.reduceat(z, starts[:-1]) / size[:, None]
    return np.asarray(z - np.repeat(means, size, 0))


def fit_effects(
    x: NDArray[np.int64], log_s: Array, starts: NDArray[np.int64], z: Array, prior_sd: Array
) -> Array:
    """Fit the effects of covariates of cells on each gene.

    Parameters
    ----------
    x : ndarray, shape (n_cells, n_genes)
        Counts, cells grouped by sample.
    log_s : ndarray, shape (n_cells,)
        Log sequencing depth.
    starts : ndarray of int64, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.
    z : ndarray, shape (n_cells, k)
        Covariates, centred in each sample.
    prior_sd : ndarray, shape (k,)
        Standard deviations of the normal priors of the effects.

    Returns
    -------
    ndarray, shape (k, n_genes)
        Posterior modes.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> z, starts = rng.standard_normal((900, 1)), np.array([0, 300, 600, 900])
    >>> x = rng.poisson(np.exp(0.5 * z))
    >>> round(float(fit_effects(x, np.zeros(900), starts, z, np.ones(1))[0, 0]), 1)
    0.5
    """
    out = np.zeros((z.shape[1], x.shape[1]))
    sample = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    for j in range(x.shape[1]):
        counts, phi = x[:, j].astype(float), 0.0
        total = np.add.reduceat(counts, starts[:-1]) + 0.1
        start = np.log(total / np.add.reduceat(np.exp(log_s), starts[:-1]))
        effect = np.zeros(z.shape[1])
        for _ in range(_DISPERSIONS):
            start, effect, mu = _newton(counts, log_s, sample, z, prior_sd, start, effect, phi)
            phi = max(0.0, float(((counts - mu) ** 2 - mu).sum() / (mu**2).sum()))
        out[:, j] = effect
    return out


def _newton(
    x: Array,
    log_s: Array,
    sample: NDArray[np.int64],
    z: Array,
    prior_sd: Array,
    level: Array,
    effect: Array,
    phi: float,
) -> tuple[Array, Array, Array]:
    """Fit the samples' intercepts and the effects by Fisher scoring, given the dispersion."""
    n = len(level)
    for _ in range(_STEPS):
        mu = np.exp(np.minimum(log_s + level[sample] + z @ effect, 30.0))
        w = mu / (1 + phi * mu)
        score = (x - mu) / (1 + phi * mu)
        of_sample = np.bincount(sample, w, n) + 1e-12
        pull = np.bincount(sample, score, n)
        middle = np.stack([np.bincount(sample, w * c, n) for c in z.T], 1) / of_sample[:, None]
        away = z - middle[sample]
        information = (away * w[:, None]).T @ away + np.diag(1 / prior_sd**2)
        step = np.linalg.solve(information, away.T @ score - effect / prior_sd**2)
        moved = pull / of_sample - middle @ step
        largest = max(np.abs(z @ step).max(), np.abs(moved).max())
        share = min(1.0, _LARGEST_STEP / max(largest, 1e-300))
        level, effect = level + share * moved, effect + share * step
        if largest < 1e-8:
            break
    return level, effect, np.exp(np.minimum(log_s + level[sample] + z @ effect, 30.0))
