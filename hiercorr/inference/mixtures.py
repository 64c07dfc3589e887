r"""Weights of a mixture of known components, by maximum likelihood.

.. math:: \max_w \; \sum_i n_i \log \sum_k w_k L_{ki}, \quad w_k \ge 0, \; \sum_k w_k = 1

is a concave problem. EM takes thousands of steps where neighbouring components are alike, as those
of a grid are; sequential quadratic programming takes about five.

References
----------
Kiefer & Wolfowitz 1956; Koenker & Mizera 2014; Kim, Carbonetto, Stephens & Anitescu 2020 (mix-SQP).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]

_LOSS = 1e-3  # of the log likelihood, at most
_FIRST_STEPS, _MOST_STEPS = 5, 100
_RIDGE = 1e-10  # of the mean of the diagonal
_LEAST = 1e-300


def mixture(
    likelihood: Array,
    prior: Array | None = None,
    n_prior: float = 0.0,
    count: NDArray | None = None,
) -> Array:
    """Estimate the weights of a mixture by maximum likelihood.

    Parameters
    ----------
    likelihood : ndarray, shape (components, pairs)
        At least one component of each pair is positive.
    prior : ndarray, shape (components,), optional
        Weights that count as much as `n_prior` pairs whose component is known.
    n_prior : float
    count : ndarray, shape (pairs,), optional
        How often each column of the likelihood occurs, once if it is not given.

    Returns
    -------
    ndarray, shape (components,)
        The log likelihood of all pairs is at most 0.001 below its maximum.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import stats
    >>> y = np.random.default_rng(1).normal(0, np.repeat([1.0, 3.0], [8000, 2000]))
    >>> mixture(stats.norm.pdf(y, 0, [[1.0], [2.0], [3.0]])).round(1).tolist()
    [0.8, 0.0, 0.2]
    """
    often = np.ones(likelihood.shape[1]) if count is None else np.asarray(count, float)
    if prior is not None and n_prior > 0:
        known = np.flatnonzero(prior)
        likelihood = np.hstack([likelihood, np.eye(len(likelihood))[:, known]])
        often = np.concatenate([often, n_prior * prior[known]])
    n = often.sum()
    weight = np.full(len(likelihood), 1 / len(likelihood))
    total = weight @ likelihood
    for step in range(_FIRST_STEPS + _MOST_STEPS):
        gradient = likelihood @ (often / total) / n
        if n * (gradient.max() - 1) < _LOSS:  # bounds the loss, as the problem is concave
            break
        target = (
            None if step < _FIRST_STEPS else _best_quadratic(likelihood, often, total, gradient)
        )
        if target is None:
            target = weight * gradient  # a step of EM
        weight = _line_search(likelihood, often, weight, target, total, gradient)
        total = weight @ likelihood
    return weight


def _best_quadratic(likelihood: Array, often: Array, total: Array, gradient: Array) -> Array | None:
    """Maximise the quadratic approximation of the log likelihood; None if that fails."""
    scaled = likelihood * (np.sqrt(often / often.sum()) / total)
    hessian = scaled @ scaled.T
    ridge = _RIDGE * np.trace(hessian) / len(hessian)
    try:
        root = np.linalg.cholesky(hessian + ridge * np.eye(len(hessian)))
        found, _ = optimize.nnls(root.T, np.linalg.solve(root, 2 * gradient - 1))
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    size = found.sum()
    return np.asarray(found / size, np.float64) if size > 0 else None


def _line_search(
    likelihood: Array, often: Array, weight: Array, target: Array, total: Array, gradient: Array
) -> Array:
    """Go from one set of weights towards another as far as the log likelihood rises."""
    change = target - weight
    start, rise = often @ np.log(total), often.sum() * (gradient @ change)
    of_change = change @ likelihood
    length = 1.0
    while length > 1e-6:
        reached = total + length * of_change
        if (reached > _LEAST).all() and often @ np.log(reached) >= start + 1e-4 * length * rise:
            break
        length /= 2
    new = np.maximum(weight + length * change, 0.0)
    return np.asarray(new / new.sum(), np.float64)
