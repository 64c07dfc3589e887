"""Cells of the Poisson-lognormal model given its parameters: likelihoods and random counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.kernels import bayes as kernels
from hiercorr.runtime.resources import cores

Array = NDArray[np.float64]

_LARGEST_LOG_RATE = 20.0  # of random counts


class Grid(NamedTuple):
    """Uniform grids of the log rates of two genes.

    Attributes
    ----------
    left, spacing : ndarray, shape (n_samples, 2)
        First point of each sample and gene, and distance between its points.
    points : ndarray of int, shape (2,)
    """

    left: Array
    spacing: Array
    points: NDArray[np.int64]


class Parameters(NamedTuple):
    """Draws of the parameters of two genes.

    Attributes
    ----------
    mean, sd : ndarray, shape (n_draws, n_samples, 2)
        Mean, at the mean depth, and standard deviation of the log rates of each sample and gene.
    rho : ndarray, shape (n_draws, n_samples)
        Correlation of log rates within each sample.
    """

    mean: Array
    sd: Array
    rho: Array


def log_likelihood(
    x: NDArray, log_s: Array, starts: NDArray[np.int64], grid: Grid, parameters: Parameters
) -> Array:
    r"""Compute the log likelihood of each cell, its log rates integrated out.

    .. math:: \log \int\int Poisson(x_a | s e^u) Poisson(x_b | s e^v) N_2(u, v) \, du \, dv

    Parameters
    ----------
    x : ndarray, shape (n_cells, 2)
        Counts, cells grouped by sample.
    log_s : ndarray, shape (n_cells,) or (n_cells, 2)
        Log sequencing depth, relative to the mean depth, or log exposure of each gene.
    starts : ndarray of int, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.
    grid : Grid
        Points of the sums that replace the integrals.
    parameters : Parameters

    Returns
    -------
    ndarray, shape (n_draws, n_cells)
    """
    x, log_s = np.asarray(x, float), _of_both(log_s)
    tables, peaks = [], np.zeros(len(x))
    for g in range(2):
        table, peak = kernels.poisson_table(
            *(x[:, g].copy(), log_s[:, g].copy()),
            *(starts, *_of_gene(grid, g), grid.points[g]),
        )
        tables.append(table)
        peaks += peak - special.gammaln(x[:, g] + 1)
    given = (*_of_gene(grid, 0), *_of_gene(grid, 1))

    def some(part: NDArray[np.int64]) -> Array:
        drawn = (np.ascontiguousarray(v[part], dtype=np.float64) for v in parameters)
        return np.asarray(kernels.cell_log_likelihoods(*tables, starts, *drawn, *given))

    parts = np.array_split(np.arange(len(parameters.mean)), cores())
    with ThreadPoolExecutor(len(parts)) as pool:
        return np.concatenate(list(pool.map(some, parts))) + peaks


def _of_both(log_s: Array) -> Array:
    """Return the log exposure of both genes, shape (n_cells, 2)."""
    return log_s if log_s.ndim == 2 else np.repeat(log_s[:, None], 2, 1)


def _of_gene(grid: Grid, g: int) -> tuple[Array, Array]:
    """Return the first points and the spacings of the grids of one gene."""
    return np.ascontiguousarray(grid.left[:, g]), np.ascontiguousarray(grid.spacing[:, g])


def random_counts(
    log_s: Array, starts: NDArray[np.int64], parameters: Parameters, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw counts of two genes in cells of given depths.

    Parameters
    ----------
    log_s, starts, parameters
        As for :func:`log_likelihood`.
    rng : Generator

    Returns
    -------
    ndarray of int, shape (n_draws, n_cells, 2)
    """
    size = np.diff(starts)
    rho = np.repeat(parameters.rho, size, axis=1)
    e = rng.standard_normal((*rho.shape, 2))
    e[..., 1] = rho * e[..., 0] + np.sqrt(1 - rho**2) * e[..., 1]
    mean = np.repeat(parameters.mean, size, axis=1)
    log_rate = _of_both(log_s) + mean + np.repeat(parameters.sd, size, axis=1) * e
    return poisson_counts(log_rate, rng)


def poisson_counts(log_rate: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw counts from log rates, of which those above 20 count as 20."""
    return np.asarray(rng.poisson(np.exp(np.minimum(log_rate, _LARGEST_LOG_RATE))))
