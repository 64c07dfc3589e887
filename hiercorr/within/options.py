"""Options of a fit within samples: checked, and translated into a plan for the estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import inference
from hiercorr.counts.counts import Counts
from hiercorr.counts.targets import PairList, Targets, public_target
from hiercorr.errors import (
    MAX_REPEATS,
    EstimationWarning,
    InputError,
    between_0_and_1,
    listed,
    one_of,
    true_or_false,
    valid_seed,
    whole_number,
    without_effect,
)
from hiercorr.results import tiling
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.pooled_covariates import LEVELS, PARTS

ESTIMATORS = ("within", "pooled")
_TOLERANCE = {"single": 1e-8, "double": 1e-13}  # relative error of the depth interpolation
_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Plan:
    """What the estimates need to know of a fit.

    Attributes
    ----------
    estimator, uncertainty, precision : str
    confidence : float
        Confidence level of the intervals.
    rows : slice or None
        Position of the target, or None for all pairs.
    draws : ndarray of int or None
        Bootstrap weights of the samples.
    progress : bool or None
    tiles : list of (slice, slice)
        Tiles of gene pairs.
    cells : ndarray, shape (n_cells, k), optional
        Design matrix of the covariates of cells that are regressed out within samples.
    weights : str
        Weights of the donors.
    units : ndarray of int, shape (n_samples,), optional
        Donor of each sample; None: every sample is a donor.
    asked : bool
        Whether the uncertainty, or weights that only it has, were asked for rather than chosen.
    depth_adjusted : bool
        Whether log depth is among the covariates of cells.
    """

    estimator: str
    uncertainty: str
    precision: str
    confidence: float
    rows: slice | None
    draws: NDArray[np.int64] | None
    progress: bool | None
    tiles: list[tuple[slice, slice]]
    cells: NDArray[np.float64] | None = None
    weights: str = "information"
    units: NDArray[np.int64] | None = None
    asked: bool = False
    depth_adjusted: bool = False

    @property
    def dtype(self) -> DTypeLike:
        """Floating-point type of the large sums and outputs."""
        return tiling.DTYPE[self.precision]

    @property
    def tolerance(self) -> float:
        """Relative error of the depth interpolation."""
        return _TOLERANCE[self.precision]

    def few(self, n_samples: int) -> bool:
        """Return whether an interval was requested but there are too few samples."""
        return self.uncertainty != "none" and self.n_donors(n_samples) < 3

    def silent(self, n_samples: int) -> bool:
        """Return whether the result has no interval."""
        return self.uncertainty == "none" or self.n_donors(n_samples) < 3

    @property
    def compares_averages(self) -> bool:
        """Return whether to test if equal weights of the donors give another correlation."""
        tested = self.estimator == "within" and self.uncertainty != "none"
        return tested and self.weights != "equal"

    def n_donors(self, n_samples: int) -> int:
        """Return the number of donors."""
        return n_samples if self.units is None else int(self.units.max()) + 1


@dataclass(frozen=True)
class ModelFacts:
    """Properties of a model that limit the options of its fits.

    Attributes
    ----------
    sampled : bool
        Whether samples were named.
    covariates : bool
        Whether covariates of cells were given.
    remote : bool
        Whether the counts are on a cluster.
    n_donors : int
        Number of donors: of samples, or of the blocks of samples.
    memory : int, optional
        Bytes that the user allows for counts and results.
    depth_adjust : bool
        Whether log depth is regressed out.
    """

    sampled: bool
    covariates: bool = False
    remote: bool = False
    n_donors: int = 0
    memory: int | None = None
    depth_adjust: bool = False


@dataclass(frozen=True)
class FitOptions:
    """Options of :meth:`hiercorr.CSCore.fit`, which documents them.

    Raises
    ------
    InputError
        If an option has a wrong type or value, or has no effect with the others.
    """

    estimator: str = "within"
    uncertainty: str | None = None
    weights: str | None = None
    target: Targets | None = None
    pairs: PairList | None = None
    per_sample: bool = False
    precision: str = "single"
    standardize: bool = True
    covariate_level: str = "cell"
    adjust: Sequence[str] = PARTS
    n_bootstrap: int = _BOOTSTRAP
    confidence: float = 0.95
    seed: Any = None
    out: str | Path | None = None
    overwrite: bool = False
    checkpoint: str | Path | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        """Check every option alone."""
        one_of("estimator", self.estimator, ESTIMATORS)
        one_of("uncertainty", self.uncertainty, (None, *inference.UNCERTAINTIES))
        one_of("weights", self.weights, (None, *inference.WEIGHTS))
        for name in ("per_sample", "standardize", "overwrite"):
            true_or_false(name, getattr(self, name))
        true_or_false("progress", self.progress, optional=True)
        one_of("precision", self.precision, tiling.DTYPE)
        one_of("covariate_level", self.covariate_level, LEVELS)
        parts = listed("adjust", self.adjust, f"a sequence of any of {PARTS}")
        if not all(isinstance(p, str) and p in PARTS for p in parts):
            raise InputError(f"adjust must be a sequence of any of {PARTS}, not {self.adjust!r}")
        object.__setattr__(self, "adjust", tuple(p for p in PARTS if p in parts))
        whole_number("n_bootstrap", self.n_bootstrap, maximum=MAX_REPEATS)
        between_0_and_1("confidence", self.confidence)
        valid_seed(self.seed)
        for name in ("out", "checkpoint"):
            path = getattr(self, name)
            if not isinstance(path, str | Path | None) or path == "":
                raise InputError(f"{name} must be a path, not {path!r}")

    def published(self, model: ModelFacts) -> bool:
        """Return whether covariates enter the pooled regressions, as published."""
        return model.covariates and self.estimator == "pooled"

    def chosen_uncertainty(self, model: ModelFacts) -> str:
        """Return the uncertainty, with the default for the model filled in."""
        if self.uncertainty is not None:
            return self.uncertainty
        if not model.sampled or self.published(model):
            return "none"
        learns = self.estimator == "within" and model.n_donors >= 3
        return "hierarchical" if learns else "jackknife"

    def chosen_weights(self, model: ModelFacts) -> str:
        """Return the weights of the donors, with the default for the uncertainty filled in."""
        learns = self.chosen_uncertainty(model) == "hierarchical"
        return self.weights or ("adaptive" if learns else "information")

    def check(self, model: ModelFacts) -> None:
        """Raise an error for options that do not fit the model or each other."""
        published = self.published(model)
        if self.estimator == "within" and not model.sampled:
            raise InputError(
                "estimator='within' needs samples: name the obs column that holds them with sample="
            )
        if model.depth_adjust and self.estimator != "within":
            raise InputError(
                "depth_adjust=True regresses log depth out within samples: use estimator='within'"
            )
        if self.uncertainty not in (None, "none"):
            if published:
                raise InputError(
                    f"uncertainty={self.uncertainty!r} is not available for 'pooled' with "
                    "covariates; use uncertainty='none', or estimator='within'"
                )
            if not model.sampled:
                raise InputError(
                    f"uncertainty={self.uncertainty!r} needs samples: name their obs column with "
                    "sample="
                )
        self._check_output(model)
        if not published:
            needs = "covariates= and estimator='pooled'"
            without_effect(
                standardize=(self.standardize, True, needs),
                covariate_level=(self.covariate_level, "cell", needs),
                adjust=(tuple(self.adjust), PARTS, needs),
            )
        chosen = self.chosen_uncertainty(model)
        if chosen != "bootstrap":
            without_effect(n_bootstrap=(self.n_bootstrap, _BOOTSTRAP, "uncertainty='bootstrap'"))
        self._check_weights(chosen)
        if chosen == "none":
            without_effect(confidence=(self.confidence, 0.95, "an uncertainty"))

    def _check_weights(self, chosen: str) -> None:
        if chosen == "hierarchical" and self.estimator == "pooled":
            raise InputError(
                "uncertainty='hierarchical' is for estimator='within': over all cells a donor's "
                "covariance contains that of the donors' means; use uncertainty='jackknife'"
            )
        if self.weights == "adaptive" and chosen != "hierarchical":
            raise InputError(
                "weights='adaptive' follow from the heterogeneity between donors, which "
                f"uncertainty={chosen!r} does not estimate: use uncertainty='hierarchical', or "
                "weights='equal' or 'information'"
            )
        if self.weights == "equal" and self.estimator == "pooled":
            raise InputError(
                "weights='equal' is for estimator='within': over all cells no donor has a "
                "correlation of its own"
            )

    def _check_output(self, model: ModelFacts) -> None:
        published = self.published(model)
        if self.out is None:
            without_effect(overwrite=(self.overwrite, False, "out="))
        else:
            for refused, why in (
                (
                    self.target is not None and len(self.target) == 1,
                    "one gene against all fits in memory: leave out out= and use save()",
                ),
                (
                    self.pairs is not None,
                    "listed pairs fit in memory: leave out out= and use save()",
                ),
                (
                    self.per_sample,
                    "per_sample=True keeps the estimates of every sample, which are not streamed: "
                    "use target=",
                ),
                (
                    published,
                    "covariates= of the pooled estimator are fitted in memory: choose fewer genes "
                    "(genes=N)",
                ),
            ):
                if refused:
                    raise InputError(f"out= is for all pairs, or those of many targets; {why}")
        if self.per_sample and self.estimator != "within":
            raise InputError("per_sample=True requires estimator='within'")
        if self.checkpoint is not None and (model.covariates or model.remote or model.depth_adjust):
            raise InputError(
                "checkpoint= stores sums of this process without covariates: leave it out"
            )
        if self.pairs is not None and (published or model.remote):
            raise InputError(
                "pairs= is estimated in this process without pooled regressions: leave out "
                "scheduler= and covariates of estimator='pooled', or use target="
            )
        if model.remote and self.per_sample:
            raise InputError(
                "per_sample=True needs the cells in this process: leave out scheduler=, e.g. with "
                "fewer genes (genes=)"
            )


def make_plan(
    counts: Counts,
    options: FitOptions,
    model: ModelFacts,
    units: NDArray[np.int64] | None = None,
) -> Plan:
    """Translate the options of a fit into the plan of its estimates.

    Parameters
    ----------
    counts : Counts
        Counts with the target among the genes.
    options : FitOptions
        Options that passed :meth:`FitOptions.check`.
    model : ModelFacts
    units : ndarray of int, shape (n_samples,), optional
        Donor of each sample; None: every sample is a donor.

    Returns
    -------
    Plan

    Warns
    -----
    EstimationWarning
        If there are too few samples for an interval.
    """
    chosen = options.chosen_uncertainty(model)
    n = model.n_donors
    if chosen != "none" and n < 3:
        warn(
            f"{n} {'samples' if units is None else 'donors'} give an estimate but no interval: at "
            "least 3 are needed; se, p_value and q_value are NaN and flagged too_few_samples",
            EstimationWarning,
        )
    draws = None
    if chosen == "bootstrap" and n >= 3:
        if options.n_bootstrap < 100:
            raise InputError(
                f"n_bootstrap={options.n_bootstrap}: at least 100 resamples are needed for a "
                "standard error"
            )
        draws = inference.bootstrap_draws(n, options.n_bootstrap, options.seed)
    dtype = tiling.DTYPE[options.precision]
    rows = tiling.rows_of(public_target(options.target), counts.genes)
    layers = 1 if options.estimator == "pooled" and chosen == "none" else counts.n_samples
    if options.out is not None or model.remote:  # a tile is a chunk on disk, or a task
        left = None if model.memory is None else model.memory - counts.rows.nbytes * 2
        tiles = tiling.tiles(counts.n_genes, 2 * counts.n_samples, rows, dtype, memory=left)
    else:
        tiles = tiling.tiles(counts.n_genes, layers, rows, dtype, tiling.WIDE)
    return Plan(
        options.estimator,
        chosen,
        options.precision,
        options.confidence,
        rows,
        draws,
        options.progress,
        tiles,
        weights=options.chosen_weights(model),
        units=units,
        asked=options.uncertainty is not None or options.weights == "adaptive",
    )
