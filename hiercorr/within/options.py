"""What one call of fit is asked for: options checked and turned into what the estimates need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import inference
from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning, InputError, between_0_and_1, one_of
from hiercorr.results import tiling
from hiercorr.runtime.user_warnings import warn

_TOLERANCE = {"single": 1e-8, "double": 1e-13}  # of the depth interpolation


@dataclass(frozen=True)
class Plan:
    """What one call of fit was asked for, checked."""

    estimator: str
    uncertainty: str
    precision: str
    confidence: float
    rows: slice | None  # the target's position, or None for all pairs
    draws: NDArray[np.int64] | None
    progress: bool | None
    tiles: list[tuple[slice, slice]]
    cells: NDArray[np.float64] | None = (
        None  # design matrix of cells, whose covariates are taken out within samples
    )

    @property
    def dtype(self) -> DTypeLike:
        return tiling.DTYPE[self.precision]

    @property
    def tolerance(self) -> float:
        return _TOLERANCE[self.precision]

    def few(self, n_samples: int) -> bool:
        """An interval was asked for and there are too few samples for one."""
        return self.uncertainty != "none" and n_samples < 3

    def silent(self, n_samples: int) -> bool:
        """The result has no interval."""
        return self.uncertainty == "none" or n_samples < 3


def make_plan(
    counts: Counts,
    estimator: str,
    uncertainty: str | None,
    target: str | None,
    precision: str,
    confidence: float,
    n_bootstrap: int = 1000,
    seed: Any = None,
    progress: bool | None = None,
    *,
    sampled: bool,
    published: bool = False,
    apart: bool = False,
) -> Plan:
    """Check the options of a fit, as :meth:`hiercorr.CSCore.fit` takes them.

    Parameters
    ----------
    sampled : bool
        The cells have samples.
    published : bool
        Covariates of cells enter the pooled regressions, which have no uncertainty over samples.
    apart : bool
        A tile is a chunk on disk, or a task.
    """
    if estimator not in ("within", "pooled"):
        raise InputError(f"estimator must be 'within' or 'pooled', not {estimator!r}")
    one_of("uncertainty", uncertainty, (None, *inference.UNCERTAINTIES))
    one_of("precision", precision, tiling.DTYPE)
    between_0_and_1("confidence", confidence)
    if estimator == "within" and not sampled:
        raise InputError(
            "estimator='within' needs samples: name the obs column that holds them with sample="
        )
    if uncertainty not in (None, "none"):
        if published:
            raise InputError(
                f"uncertainty={uncertainty!r} is not available for 'pooled' with covariates; use uncertainty='none', or "
                "estimator='within'"
            )
        if not sampled:
            raise InputError(
                f"uncertainty={uncertainty!r} needs samples: name their obs column with sample="
            )
    chosen = uncertainty or ("none" if not sampled or published else "jackknife")
    if chosen != "none" and counts.n_samples < 3:
        warn(
            f"{counts.n_samples} samples give an estimate but no interval: at least 3 are needed; se, p_value and "
            "q_value are NaN and flagged too_few_samples",
            EstimationWarning,
        )
    draws = None
    if chosen == "bootstrap" and counts.n_samples >= 3:
        if n_bootstrap < 100:
            raise InputError(
                f"n_bootstrap={n_bootstrap}: at least 100 resamples are needed for a standard error"
            )
        draws = inference.bootstrap_draws(counts.n_samples, n_bootstrap, seed)
    dtype = tiling.DTYPE[precision]
    rows = tiling.rows_of(target, counts.genes)
    layers = 1 if estimator == "pooled" and chosen == "none" else counts.n_samples
    if apart:
        tiles = tiling.tiles(counts.n_genes, 2 * counts.n_samples, rows, dtype)
    else:
        tiles = tiling.tiles(counts.n_genes, layers, rows, dtype, tiling.WIDE)
    return Plan(estimator, chosen, precision, confidence, rows, draws, progress, tiles)
