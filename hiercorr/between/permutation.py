"""Permutation tests of correlations between samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr.between.residuals import Residuals
from hiercorr.design.permutation import Arrangements

Array = NDArray[np.float64]


def freedman_lane_p(
    left: Array, right: Array, fitted: Residuals, chosen: Arrangements, observed: Array
) -> Array:
    r"""Return the two-sided p-value of each pair (left, right) by Freedman & Lane (1983).

    The residuals of the genes of `left` are permuted over samples, the fit of the formula is
    removed again, and the absolute correlation is compared:

    .. math:: p = \frac{\#\{|r^*| \ge |r|\} + 1}{N + 1}

    where the observed arrangement is one of the N + 1; it is also one of the list where all
    arrangements are listed.

    Parameters
    ----------
    left, right : ndarray, shapes (n_samples, l) and (n_samples, r)
        Unit residuals.
    fitted : Residuals
        Residuals given the formula.
    chosen : Arrangements
        Permutations of the samples.
    observed : ndarray, shape (l, r)
        Observed correlations.
    """
    count = np.zeros(observed.shape, np.int64)
    bound = np.abs(observed) - 1e-9  # ties with the observed value count, whatever the rounding
    for order in chosen.orders:
        moved = fitted.remove(left[order])
        length = np.linalg.norm(moved, axis=0)
        moved /= np.where(length > 0, length, 1.0)
        count += np.abs(moved.T @ right) >= bound
    extra = 0 if chosen.exact else 1
    return np.where(np.isfinite(observed), (count + extra) / (len(chosen.orders) + extra), np.nan)
