"""Permutations of the samples within blocks: all of them, or a random subset."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Arrangements:
    """Orders of the samples that are exchangeable under the null hypothesis.

    Attributes
    ----------
    orders : ndarray of int, shape (n, n_samples)
        Include the observed order only if `exact`.
    exact : bool
        Whether these are all possible orders.
    possible : int
        Number of possible orders.
    mirrored : bool
        Whether no block has more than two samples: each order then has a mirror image with the
        same absolute correlation.
    """

    orders: NDArray[np.int64]
    exact: bool
    possible: int
    mirrored: bool

    @property
    def smallest_p(self) -> float:
        """Smallest p-value that these arrangements can give."""
        return (1 + (self.exact and self.mirrored)) / (len(self.orders) + (not self.exact))


def arrangements(
    n_samples: int,
    n_permutations: int,
    blocks: NDArray[np.int64] | None,
    seed: int | np.random.Generator | None,
) -> Arrangements:
    """Return all arrangements if there are no more than `n_permutations`, else a random subset.

    Parameters
    ----------
    n_samples : int
    n_permutations : int
    blocks : ndarray of int, shape (n_samples,), optional
        Samples are permuted only within blocks.
    seed : int, Generator or None

    Returns
    -------
    Arrangements

    Raises
    ------
    InputError
        If every block contains only one sample.
    """
    codes = np.zeros(n_samples, np.int64) if blocks is None else blocks
    groups = [np.flatnonzero(codes == b) for b in np.unique(codes)]
    mirrored = max(len(g) for g in groups) <= 2
    possible = math.prod(math.factorial(len(g)) for g in groups)
    if possible == 1:
        raise InputError(
            "no permutation is possible: every block contains only one sample; permutations need "
            "larger blocks"
        )
    if possible <= n_permutations:
        parts = [list(itertools.permutations(g)) for g in groups]
        orders = np.empty((possible, n_samples), np.int64)
        for k, chosen in enumerate(itertools.product(*parts)):
            for g, order in zip(groups, chosen, strict=True):
                orders[k, g] = order
        return Arrangements(orders, True, possible, mirrored)
    orders = random_orders(codes, n_permutations, np.random.default_rng(seed))
    return Arrangements(orders, False, possible, mirrored)


def random_orders(strata: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `n` random orders of the samples within strata, shape (n, n_samples)."""
    orders = np.tile(np.arange(len(strata)), (n, 1))
    for s in np.unique(strata):
        members = np.flatnonzero(strata == s)
        orders[:, members] = rng.permuted(orders[:, members], axis=1)
    return orders


def distinct_orders(values: Array, strata: NDArray[np.int64], maximum: int) -> Array | None:
    """Return all distinct arrangements of `values` within strata, including the observed one.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
    strata : ndarray of int, shape (n_samples,)
    maximum : int
        Maximum number of arrangements.

    Returns
    -------
    ndarray, shape (n, n_samples), or None
        None if there are more than `maximum`.
    """
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    possible = 1
    for g in groups:
        counts = np.unique(values[g], return_counts=True)[1]
        possible *= math.factorial(len(g)) // math.prod(math.factorial(int(c)) for c in counts)
        if possible > maximum:
            return None
    out = np.empty((possible, len(values)))
    for k, chosen in enumerate(itertools.product(*(_multiset(list(values[g])) for g in groups))):
        for g, part in zip(groups, chosen, strict=True):
            out[k, g] = part
    return out


def _multiset(values: list[float]) -> list[tuple[float, ...]]:
    """Return the distinct orders of a few values, some of which are equal."""
    if not values:
        return [()]
    return [
        (first, *rest)
        for first in dict.fromkeys(values)
        for rest in _multiset([v for k, v in enumerate(values) if k != values.index(first)])
    ]
