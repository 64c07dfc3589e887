"""Fit a panel of genes jointly: options, sampling, result."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np

from hiercorr.bayes.cost import minutes
from hiercorr.bayes.diagnostics import MIN_ESS
from hiercorr.bayes.joint.likelihood import likelihood_seconds
from hiercorr.bayes.joint.model import JointModel, make_model
from hiercorr.bayes.joint.sampler import (
    MOST,
    SWEEPS,
    JointDraws,
    sample_joint,
    seconds_per_sweep,
)
from hiercorr.bayes.joint.tables import ADVICE, joint_dataset
from hiercorr.bayes.margin import Cells
from hiercorr.bayes.population import cells_of
from hiercorr.bayes.sampling import require
from hiercorr.bayes.setup import MAX_GENES, ROPE, Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning, InputError, true_or_false, valid_seed, whole_number
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.log import LOG
from hiercorr.runtime.user_warnings import warn

FEWEST = 2 * int(MIN_ESS)  # draws of all chains of which enough can be effective ones
_TYPICAL = {True: 300, False: 175}  # draws per gene until convergence, with heterogeneity or not


@dataclass(frozen=True)
class JointOptions:
    """Options of a joint fit, checked; see :meth:`hiercorr.BayesianCorrelation.fit`."""

    draws: int
    tune: int
    chains: int
    intervals: Intervals
    seed: int | np.random.Generator | None
    progress: bool | None

    def __post_init__(self) -> None:
        """Check every option."""
        for name, minimum in (("draws", 100), ("tune", 100), ("chains", 2)):
            whole_number(name, getattr(self, name), minimum)
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)


def fit_joint(counts: Counts, setup: Setup, options: JointOptions) -> CorrelationResult:
    """Sample the joint posterior of a panel; see :meth:`hiercorr.BayesianCorrelation.fit`."""
    _check_genes(counts)
    require("arviz")
    started = time.perf_counter()
    cells = cells_of(counts, setup)
    model = make_model(cells, setup)
    if LOG.isEnabledFor(logging.INFO):
        seconds = _predicted(cells, model, options.draws, options.tune, options.chains)
        LOG.info("BayesianCorrelation.fit: about %s, jointly", minutes(seconds))
    seed = np.random.SeedSequence(int(np.random.default_rng(options.seed).integers(2**63)))
    total = options.draws * options.chains
    drawn = sample_joint(
        *(model, options.draws, options.tune, options.chains, seed, options.progress),
        most=MOST if total >= FEWEST else 1,
    )
    attributes = _attributes(counts, setup, options, drawn)
    dataset = joint_dataset(
        counts, cells, setup, options.intervals, drawn, attributes, options.progress
    ).assign_attrs(seconds=round(time.perf_counter() - started, 2))
    if not drawn.converged:
        least = -(-FEWEST // options.chains)
        advice = (
            f"{total:,} draws are too few for {MIN_ESS:.0f} effective ones: take at least {least}"
            f" per chain (draws={least}, or leave it out)"
        )
        warn(
            f"joint posterior not converged after {drawn.thinning * options.draws:,} sweeps: "
            f"largest R-hat {drawn.r_hat:.3f}, smallest effective sample size {drawn.ess:.0f}; "
            f"{ADVICE if total >= FEWEST else advice}",
            EstimationWarning,
        )
    return CorrelationResult(dataset)


def predicted_joint_time(counts: Counts, setup: Setup, draws: int, tune: int, chains: int) -> float:
    """Predict the time of a fit; see :meth:`hiercorr.BayesianCorrelation.predicted_seconds`."""
    JointOptions(draws, tune, chains, Intervals(0.95, ROPE), None, None)
    _check_genes(counts)
    cells = cells_of(counts, setup)
    return _predicted(cells, make_model(cells, setup), draws, tune, chains)


def _predicted(cells: Cells, model: JointModel, draws: int, tune: int, chains: int) -> float:
    total = draws * chains
    if total >= FEWEST:
        total = max(total, _TYPICAL[model.heterogeneity] * model.n_genes)
    back = np.argsort(model.order)
    mean = np.stack([model.margins[j].m for j in back], 1)
    sd = np.exp([model.margins[j].log_sd for j in back])
    after = likelihood_seconds(cells, mean, sd, chains, draws)
    return seconds_per_sweep(model, chains) * SWEEPS * (tune * chains + total) + after


def _check_genes(counts: Counts) -> None:
    n = counts.n_genes
    if n > MAX_GENES:
        raise InputError(
            f"method='joint' takes 2 to {MAX_GENES} genes, not {n}: name fewer genes with genes=, "
            "or use fit_many(target) for one gene against many"
        )
    empty = [
        str(g) for g, (a, b) in zip(counts.genes, counts.offsets[:, [0, -1]], strict=True) if a == b
    ]
    if empty:
        raise InputError(
            f"{', '.join(empty[:5])}: no counts in the {counts.n_cells:,} cells used; "
            "leave such genes out of genes="
        )


def _attributes(
    counts: Counts, setup: Setup, options: JointOptions, drawn: JointDraws
) -> dict[str, object]:
    return {
        **setup.attributes,
        "estimator": "joint, data augmentation with interweaving",
        "level": "within",
        "uncertainty": "posterior",
        "joint_draws": 1,
        "confidence": options.intervals.confidence,
        "rope": options.intervals.rope,
        "draws": options.draws,
        "tune": options.tune,
        "chains": options.chains,
        "thinning": drawn.thinning,
        "largest_r_hat": drawn.r_hat,
        "smallest_ess": drawn.ess,
        "heterogeneity": int(setup.heterogeneity),
        "n_cells": counts.n_cells,
        "seed": options.seed if isinstance(options.seed, int) else None,
        **{f"prior_{k}": v for k, v in setup.acting("joint").describe().items() if k != "share"},
        **counts.attributes,
    }
