"""How long a fit takes: predicted from the number of cells, or measured on a few draws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hiercorr.bayes.pair import Pair
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.runtime import blas

GRADIENTS = 17  # per draw, typically: trees of depth 4, and the search for the step size
_SECONDS = 4e-10  # per row, pair of grid points and gradient, on one 2 GHz core
_PER_DRAW = 60e-6  # seconds of a draw outside the density
_MEASURED = 0.15  # seconds of measurement per pair


def predicted_seconds(n_cells: int, n_pairs: int, iterations: int, chains: int = 4) -> float:
    """Predict the time of a fit on two cores if no two cells have equal counts.

    Parameters
    ----------
    n_cells, n_pairs : int
    iterations : int
        Draws and adaptation steps per chain.
    chains : int

    Returns
    -------
    float
        Seconds.
    """
    return n_pairs * chains * iterations * GRADIENTS * n_cells * 25**2 * _SECONDS / 2


def gradients_per_draw(pair: Pair) -> float:
    """Measure the length of the trajectories of a pair in a short run of two chains.

    It ranges from 15 to over 100: with the strength of the correlation, the number of samples and
    whether standard deviations vary between samples.
    """
    settings = Settings(draws=100, tune=100, chains=2)
    return float(sample_pair(pair, settings, 0).n_steps.mean())


def measured_seconds(
    pairs: Sequence[Pair], settings: Settings, n_pairs: int, pilot: bool = True
) -> float:
    """Predict the time of sampling from the time of a few gradients on this machine.

    The gradients are evaluated in as many threads as chains will run, so that the prediction
    includes what these take from each other and what other processes take now.

    Parameters
    ----------
    pairs : sequence of Pair
        Some of the pairs.
    settings : Settings
    n_pairs : int
        Number of pairs to sample.
    pilot : bool
        Measure the number of gradients per draw as well, in a short run, which takes about 7% of
        the default fit of a pair; otherwise a typical number is used.

    Returns
    -------
    float
        Seconds, without compilation, which precedes the measurement.
    """
    seconds = [
        (gradients_per_draw(p) if pilot else GRADIENTS) / _gradients_per_second(p, settings.cores)
        for p in pairs
    ]
    iterations = settings.chains * (settings.draws + settings.tune)
    return n_pairs * iterations * (float(np.mean(seconds)) + _PER_DRAW / settings.cores)


def _gradients_per_second(pair: Pair, threads: int) -> float:
    """Measure how many gradients of a pair all threads together evaluate per second."""
    pair.log_density(pair.initial)  # compiled, and in the cache

    def evaluate(_: int) -> int:
        done, end = 0, time.perf_counter() + _MEASURED
        while time.perf_counter() < end:
            pair.log_density(pair.initial)
            done += 1
        return done

    start = time.perf_counter()
    with blas.at_most(1), ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(evaluate, range(threads)))
    return total / (time.perf_counter() - start)


def minutes(seconds: float) -> str:
    """Format a duration in minutes, or in seconds below 90 s."""
    return f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
