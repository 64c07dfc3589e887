"""Pairs of a small panel of genes, by NUTS."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes import sampling, tables
from hiercorr.bayes.collected import DrawnPair, from_latent, joined, observed, stack_pairs
from hiercorr.bayes.cost import measured_seconds, minutes, predicted_seconds
from hiercorr.bayes.margin import Cells
from hiercorr.bayes.models import latent_model
from hiercorr.bayes.pair import Pair, make_pair, margin_of
from hiercorr.bayes.population import cells_of
from hiercorr.bayes.refinement import LARGEST_ERROR
from hiercorr.bayes.sampling import Draws, Settings
from hiercorr.bayes.setup import MAX_GENES, Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.errors import (
    EstimationWarning,
    InputError,
    text,
    true_or_false,
    valid_seed,
)
from hiercorr.results.checkpoint import Checkpoint, fingerprint
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.log import LOG
from hiercorr.runtime.progress import counted
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset

MAX_PAIRS = MAX_GENES * (MAX_GENES - 1) // 2
_MEASURED_PAIRS = 3  # of which gradients are timed before a fit
_MAX_LATENT = 30_000  # cells x genes of the latent model


@dataclass(frozen=True)
class PanelOptions:
    """Options of the fit of a panel, checked; see :meth:`hiercorr.BayesianCorrelation.fit`."""

    settings: Settings
    method: str
    intervals: Intervals
    seed: int | np.random.Generator | None
    progress: bool | None
    target: str | None = None
    checkpoint: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the options that are not checked by their own class."""
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)
        text("target", self.target, optional=True)
        if not isinstance(self.checkpoint, str | Path | None):
            raise InputError(
                f"checkpoint must be the path of a folder, not {type(self.checkpoint).__name__}"
            )
        if self.method == "latent" and (self.target is not None or self.checkpoint is not None):
            raise InputError(
                "method='latent' is one model of all genes: leave out target= and checkpoint="
            )
        if self.checkpoint is not None and not isinstance(self.seed, int | np.integer):
            raise InputError(
                "checkpoint= resumes a fit with the same draws, which need a whole number as seed="
            )


def fit_panel(counts: Counts, setup: Setup, options: PanelOptions) -> CorrelationResult:
    """Sample the posterior of every pair; see :meth:`hiercorr.BayesianCorrelation.fit`."""
    target = None if options.target is None else int(counts.genes.get_loc(options.target))
    pairs = chosen_pairs(counts, options.settings, target)
    if options.method == "latent":
        check_latent(counts, setup)
    sampling.require("arviz", options.settings.sampler)
    started = time.perf_counter()
    cells = cells_of(counts, setup)
    if options.method == "latent":
        seed = int(np.random.default_rng(options.seed).integers(2**31))
        drawn, error = _latent(cells, setup, options, seed), np.zeros(len(pairs))
    else:
        found = _stored_or_drawn(counts, cells, setup, options, pairs)
        drawn = stack_pairs(found, setup)
        error = np.array([p.grid_error for p in found])
    seconds = round(time.perf_counter() - started, 2)
    drawn = drawn.merge(observed(counts, cells, setup.population))
    dataset = _dataset(counts, setup, options, _Drawn(pairs, target, drawn, error))
    failed = int(((dataset["flag"].values & int(Flag.NOT_CONVERGED)) > 0).sum())
    if failed:
        failed //= 1 if target is not None else 2
        worst = dataset.attrs["worst_parameter"]
        some = "1 pair" if failed == 1 else f"{failed} pairs"
        warn(
            f"{some} flagged not_converged (fewest effective draws: {worst}): {tables.ADVICE}",
            EstimationWarning,
        )
    if options.method == "marginal":
        dataset = dataset.assign_attrs(grid_error=float(error.max()))
    return CorrelationResult(dataset.assign_attrs(seconds=seconds))


def chosen_pairs(counts: Counts, settings: Settings, target: int | None) -> list[tuple[int, int]]:
    """Return the positions of the genes of each pair; raise an error if there are too many."""
    n = counts.n_genes
    if n < 2:
        raise InputError(f"fit takes 2 to {MAX_GENES} genes, not {n}: name more with genes=")
    if target is not None:
        pairs = [(target, j) for j in range(n) if j != target]
    else:
        pairs = list(itertools.combinations(range(n), 2))
    if len(pairs) > MAX_PAIRS:
        seconds = predicted_seconds(counts.n_cells, len(pairs), settings.draws + settings.tune)
        known = (
            f"up to {MAX_PAIRS} partners of a target"
            if target is not None
            else (f"2 to {MAX_GENES} genes")
        )
        raise InputError(
            f"fit takes {known}, not {n - (target is not None)}: {len(pairs):,} pairs would take "
            f"about {minutes(seconds)}; name fewer genes with genes=, or use fit_many(target) "
            "(hiercorr fit: --method grids)"
        )
    return pairs


def predicted_time(counts: Counts, setup: Setup, settings: Settings, target: str | None) -> float:
    """Predict the time of a fit; see :meth:`hiercorr.BayesianCorrelation.predicted_seconds`."""
    position = None if target is None else int(counts.genes.get_loc(target))
    pairs = chosen_pairs(counts, settings, position)
    cells, some = cells_of(counts, setup), []
    for k in np.unique(np.linspace(0, len(pairs) - 1, _MEASURED_PAIRS).astype(int)):
        i, j = pairs[k]
        margins = tuple(margin_of(cells, g, setup) for g in (i, j))
        some.append(make_pair(cells, (i, j), (margins[0], margins[1]), setup))
    return measured_seconds(some, settings, len(pairs))


def check_latent(counts: Counts, setup: Setup) -> None:
    """Raise an error if the latent model is too large or cannot have this setup."""
    size = counts.n_cells * counts.n_genes
    if size > _MAX_LATENT:
        raise InputError(
            f"method='latent' has a parameter for each of {counts.n_cells:,} cells x "
            f"{counts.n_genes} genes = {size:,}, more than {_MAX_LATENT:,}: use "
            "method='marginal', fewer genes, or a subset of cells"
        )
    setup.check_latent()


def _stored_or_drawn(
    counts: Counts,
    cells: Cells,
    setup: Setup,
    options: PanelOptions,
    pairs: Sequence[tuple[int, int]],
) -> list[DrawnPair]:
    """Sample every pair, or read those that an interrupted fit has sampled."""
    if options.checkpoint is None:
        return _marginal(cells, setup, options, pairs, None)
    asked = (
        "BayesianCorrelation",
        setup.priors.table,
        setup.heterogeneity,
        setup.structure,
        setup.sd_per_sample,
        None if setup.population.z is None else setup.population.z.design.tolist(),
        setup.population.design.tolist(),
        setup.population.block.tolist(),
        None if setup.covariates is None else setup.covariates.design.tolist(),
        options.settings,
        options.seed,
        list(pairs),
    )
    stored = Checkpoint(Path(options.checkpoint), fingerprint(counts, asked))
    try:
        found = _marginal(cells, setup, options, pairs, stored)
        stored.finish()
    finally:
        stored.close()
    return found


def _marginal(
    cells: Cells,
    setup: Setup,
    options: PanelOptions,
    pairs: Sequence[tuple[int, int]],
    stored: Checkpoint | None,
) -> list[DrawnPair]:
    """Draw from the posterior of each pair."""
    settings = options.settings
    seeds = np.random.default_rng(options.seed).integers(2**31, size=len(pairs))
    genes = sorted({g for pair in pairs for g in pair})
    margins = {g: margin_of(cells, g, setup) for g in genes}
    found: list[DrawnPair] = []
    each = settings.chains * (settings.draws + settings.tune)
    with counted(len(pairs) * each, options.progress, "draws of gene pairs") as bar:
        for k, ((i, j), seed) in enumerate(zip(pairs, seeds, strict=True)):
            pair = make_pair(cells, (i, j), (margins[i], margins[j]), setup)
            if k == 0:
                _announce(pair, settings, len(pairs))
            draws = _one(pair, settings, int(seed), stored, f"{i}-{j}", bar.at(k * each))
            bar.at((k + 1) * each)(0)
            found.append(DrawnPair.of((i, j), pair, draws))
    return found


def _one(
    pair: Pair,
    settings: Settings,
    seed: int,
    stored: Checkpoint | None,
    name: str,
    report: Callable[[int], object],
) -> Draws:
    def sampled() -> Draws:
        return sampling.sample_pair(pair, settings, seed, report)

    if stored is None:
        return sampled()
    return Draws.restored(stored(name, lambda: sampled().stored()))


def _announce(pair: Pair, settings: Settings, n_pairs: int) -> None:
    """Log the predicted time, if somebody reads it: the measurement takes a moment."""
    if LOG.isEnabledFor(logging.INFO):
        seconds = measured_seconds([pair], settings, n_pairs, pilot=False)
        LOG.info("BayesianCorrelation.fit: about %s for %d pairs", minutes(seconds), n_pairs)


def _latent(cells: Cells, setup: Setup, options: PanelOptions, seed: int) -> xr.Dataset:
    """Draw from the posterior of the latent model."""
    settings = options.settings
    model = latent_model(cells, setup.population, setup.priors)
    trace = sampling.sample_model(model, settings, settings.target_accept, seed)
    return from_latent(trace, setup.population)


@dataclass(frozen=True)
class _Drawn:
    """Draws of all pairs, or of those of a target."""

    pairs: list[tuple[int, int]]
    target: int | None
    draws: xr.Dataset
    grid_error: NDArray[np.float64]


def _dataset(counts: Counts, setup: Setup, options: PanelOptions, found: _Drawn) -> xr.Dataset:
    """Assemble the result from the draws."""
    latent, z = options.method == "latent", setup.z_regression
    acting = setup.acting(options.method, counts.n_genes if latent else 2)
    levels, attrs = tables.both_levels(found.draws, setup, acting, options.intervals)
    gene_flag = tables.gene_flags(counts, setup.priors)
    first, second = np.array(found.pairs).T
    exact = found.grid_error <= LARGEST_ERROR
    coarse = np.where(exact, np.uint16(0), Flag.COARSE_GRID.bit)
    for table in levels.values():
        table["flag"] = table["flag"] | coarse | gene_flag[first] | gene_flag[second]
    arranged, more = tables.arranged(levels, counts.n_genes, found.target, gene_flag)
    attrs = {**_attributes(counts, setup, options, acting.describe()), **attrs, **more}
    for level in levels:
        suffix = "" if level == "within" else f"_{level}"
        if not more.get(f"positive_definite_{level}", 1):
            attrs[f"note{suffix}"] += f" {tables.NOT_DEFINITE}"
    datasets = {
        level: build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=table,
            gene=tables.gene_table(counts, setup.priors, gene_flag),
            sample=tables.sample_variables(counts),
            target=options.target,
            attrs=attrs,
            groups=None if z is None or not z.groups else z.groups,
            terms=None if z is None else ("Intercept", *z.names),
        )
        for level, table in arranged.items()
    }
    names = [(counts.genes[i], counts.genes[j]) for i, j in found.pairs]
    return joined(datasets, found.draws, names, setup.population.coefficients)


def _attributes(
    counts: Counts, setup: Setup, options: PanelOptions, priors: dict[str, str]
) -> dict[str, Any]:
    settings = options.settings
    return {
        **setup.attributes,
        "estimator": f"{options.method}, NUTS ({settings.sampler})",
        "level": "within",
        "uncertainty": "posterior",
        "joint_draws": int(options.method == "latent" or counts.n_genes == 2),
        "confidence": options.intervals.confidence,
        "rope": options.intervals.rope,
        "draws": settings.draws,
        "tune": settings.tune,
        "chains": settings.chains,
        "target_accept": settings.target_accept,
        "heterogeneity": int(setup.heterogeneity),
        "n_cells": counts.n_cells,
        "seed": options.seed if isinstance(options.seed, int) else None,
        **{f"prior_{k}": v for k, v in priors.items()},
        **counts.attributes,
    }
