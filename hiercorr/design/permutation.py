"""Orders of the samples under which a null hypothesis is exchangeable: all of them or a random sample, within blocks."""

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
    """Orders of the samples under which the null is exchangeable.

    Attributes
    ----------
    orders : ndarray of int, shape (n, n_samples)
        Without the observed order where they were drawn; with it where they are all there are.
    exact : bool
    possible : int
        How many there are.
    mirrored : bool
        No block has more than two samples: each arrangement has a mirror image with the same size of correlation.
    """

    orders: NDArray[np.int64]
    exact: bool
    possible: int
    mirrored: bool

    @property
    def smallest_p(self) -> float:
        """The smallest p-value these arrangements can give."""
        return (1 + (self.exact and self.mirrored)) / (len(self.orders) + (not self.exact))


def arrangements(
    n_samples: int,
    n_permutations: int,
    blocks: NDArray[np.int64] | None,
    seed: int | np.random.Generator | None,
) -> Arrangements:
    """All arrangements where there are at most `n_permutations`, else that many at random.

    Parameters
    ----------
    blocks : ndarray of int, shape (n_samples,), optional
        Samples change places within blocks only.
    """
    codes = np.zeros(n_samples, np.int64) if blocks is None else blocks
    groups = [np.flatnonzero(codes == b) for b in np.unique(codes)]
    mirrored = max(len(g) for g in groups) <= 2
    possible = math.prod(math.factorial(len(g)) for g in groups)
    if possible == 1:
        raise InputError(
            "no sample can change places: every block holds one sample; permutations need larger blocks"
        )
    if possible <= n_permutations:
        parts = [list(itertools.permutations(g)) for g in groups]
        orders = np.empty((possible, n_samples), np.int64)
        for k, chosen in enumerate(itertools.product(*parts)):
            for g, order in zip(groups, chosen, strict=True):
                orders[k, g] = order
        return Arrangements(orders, True, possible, mirrored)
    return Arrangements(
        random_orders(codes, n_permutations, np.random.default_rng(seed)), False, possible, mirrored
    )


def random_orders(strata: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random orders of the samples (n, n_samples) in which samples change places within strata only."""
    orders = np.tile(np.arange(len(strata)), (n, 1))
    for s in np.unique(strata):
        at = np.flatnonzero(strata == s)
        orders[:, at] = rng.permuted(orders[:, at], axis=1)
    return orders


def distinct_orders(values: Array, strata: NDArray[np.int64], most: int) -> Array | None:
    """Every distinct arrangement of `values` within strata, the observed one among them; None if there are more than `most`.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
    strata : ndarray of int, shape (n_samples,)
    most : int

    Returns
    -------
    ndarray, shape (n, n_samples), or None
    """
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    possible = 1
    for g in groups:
        counts = np.unique(values[g], return_counts=True)[1]
        possible *= math.factorial(len(g)) // math.prod(math.factorial(int(c)) for c in counts)
        if possible > most:
            return None
    out = np.empty((possible, len(values)))
    for k, chosen in enumerate(itertools.product(*(_multiset(list(values[g])) for g in groups))):
        for g, part in zip(groups, chosen, strict=True):
            out[k, g] = part
    return out


def _multiset(values: list[float]) -> list[tuple[float, ...]]:
    """Distinct orders of a few values of which some are equal."""
    if not values:
        return [()]
    return [
        (first, *rest)
        for first in dict.fromkeys(values)
        for rest in _multiset([v for k, v in enumerate(values) if k != values.index(first)])
    ]
