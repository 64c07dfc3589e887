"""The likelihood of the cells of a pair at draws, and how much finer grids would change it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array
from hiercorr.bayes.pair import Pair
from hiercorr.bayes.sampling import Draws
from hiercorr.inference.poisson_lognormal import Grid, Parameters, log_likelihood

LARGEST_ERROR = 0.1  # nats; pairs with more are flagged
_DRAWS = 8
_WIDER = 0.1  # of the grid that is added to both ends


def refined(grid: Grid) -> Grid:
    """Return a grid with half the spacing that reaches further on both sides."""
    more = np.ceil(_WIDER * grid.points).astype(np.int64)
    points = 2 * (grid.points + 2 * more) - 1
    return Grid(grid.left - more * grid.spacing, grid.spacing / 2, points)


def cell_log_likelihood(
    pair: Pair, draws: Draws, at: NDArray[np.int64], grid: Grid | None = None
) -> Array:
    """Compute the log likelihood of each cell.

    Parameters
    ----------
    pair : Pair
    draws : Draws
    at : ndarray of int
        Draws to use, chains in one dimension.
    grid : Grid, optional
        None: that of the pair.

    Returns
    -------
    ndarray, shape (n_draws, n_cells)
    """
    mean, sd, z = (draws.flat(name, at) for name in ("mean", "sd_of_samples", "z_sample"))
    rho = np.tanh(z) if pair.structure != "independent" else np.zeros_like(z)
    used, starts = pair.grid if grid is None else grid, pair.cells.starts
    return log_likelihood(pair.x, pair.exposure, starts, used, Parameters(mean, sd, rho))


def grid_error(pair: Pair, draws: Draws) -> float:
    """Measure the error of the likelihood that comes from the grids over log rates.

    The log likelihood of all cells is computed at 8 draws, evenly spaced, on the grids of the pair
    and on refined ones. A change that all draws have in common has no effect on the posterior.

    Parameters
    ----------
    pair : Pair
    draws : Draws

    Returns
    -------
    float
        Standard deviation of the change over the draws, in nats: no posterior mean is further off
        than this number of posterior standard deviations, if it is small.
    """
    at = np.linspace(0, draws.zeta.size - 1, _DRAWS).astype(int)
    used, finer = (
        cell_log_likelihood(pair, draws, at, grid).sum(1) for grid in (None, refined(pair.grid))
    )
    return float(np.std(finer - used, ddof=1))
