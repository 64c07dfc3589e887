"""Convergence of the draws, over every parameter that is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array
from hiercorr.runtime.optional import optional
from hiercorr.schema import Flag

MAX_R_HAT, MIN_ESS, MIN_BFMI = 1.01, 400.0, 0.3


@dataclass(frozen=True)
class Diagnostics:
    """Convergence of the parameters on which a level's results rest.

    Attributes
    ----------
    table : dict
        ``ess_bulk`` and ``ess_tail``, the smallest, and ``r_hat``, the largest over the parameters
        of each pair, shape (n_pairs,).
    flag : ndarray of uint16, shape (n_pairs,)
        ``NOT_CONVERGED`` where a diagnostic fails.
    worst : str
        The parameter with the smallest effective sample size of all.
    """

    table: dict[str, Array]
    flag: NDArray[np.uint16]
    worst: str


def diagnose(parameters: Mapping[str, Array], stats: Mapping[str, Array]) -> Diagnostics:
    """Compute convergence diagnostics over every parameter that is reported.

    Parameters
    ----------
    parameters : mapping
        Draws, shape (n_chains, n_draws, n_pairs, ...).
    stats : mapping
        ``energy`` and ``diverging``, shape (n_chains, n_draws, n_pairs).

    Returns
    -------
    Diagnostics
    """
    az = optional("arviz", "Bayesian models")
    n_pairs = stats["energy"].shape[-1]
    worst = ("", np.inf)
    lowest = {name: np.full(n_pairs, np.inf) for name in ("ess_bulk", "ess_tail")}
    highest = np.full(n_pairs, -np.inf)
    for name, values in parameters.items():
        flat = values.reshape(*values.shape[:3], -1)
        data = xr.Dataset({"x": (("chain", "draw", "pair", "entry"), np.asarray(flat, float))})
        for kind in lowest:
            found = _worst(az.ess(data, method=kind.removeprefix("ess_"))["x"].values, np.fmin)
            lowest[kind] = np.fmin(lowest[kind], found)
            if found.size and np.nanmin(found) < worst[1]:
                worst = (name, float(np.nanmin(found)))
        highest = np.fmax(highest, _worst(az.rhat(data)["x"].values, np.fmax))
    step = np.diff(stats["energy"], axis=1)
    bfmi = (step**2).mean(1) / stats["energy"].var(1)
    failed = ~(highest <= MAX_R_HAT) | (bfmi < MIN_BFMI).any(0) | stats["diverging"].any((0, 1))
    for values in lowest.values():
        failed |= ~(values >= MIN_ESS)
    flag = np.where(failed, Flag.NOT_CONVERGED.bit, np.uint16(0)).astype(np.uint16)
    return Diagnostics({**lowest, "r_hat": highest}, flag, worst[0])


def _worst(values: Array, choose: Any) -> Array:
    """Return the worst value of each pair; NaN only where all are (a parameter that is fixed)."""
    return np.asarray(choose.reduce(values, axis=-1))
