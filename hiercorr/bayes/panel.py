"""All pairs of a small panel of genes, by NUTS."""

from __future__ import annotations

import itertools
import time
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import xarray as xr

from hiercorr.bayes import sampling, tables
from hiercorr.bayes.margin import Cells, fit_margin
from hiercorr.bayes.models import latent_model
from hiercorr.bayes.pair import make_pair
from hiercorr.bayes.population import cells_of, minutes, predicted_seconds
from hiercorr.bayes.sampling import Settings
from hiercorr.bayes.setup import MAX_GENES, Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning, InputError, true_or_false, valid_seed
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset

_MAX_LATENT = 30_000  # cells x genes of the latent model


@dataclass(frozen=True)
class PanelOptions:
    """Options of the fit of a panel, checked; see :meth:`hiercorr.BayesianCorrelation.fit`."""

    settings: Settings
    method: str
    intervals: Intervals
    seed: int | np.random.Generator | None
    progress: bool | None

    def __post_init__(self) -> None:
        """Check the options that are not checked by their own class."""
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)


def fit_panel(counts: Counts, setup: Setup, options: PanelOptions) -> CorrelationResult:
    """Sample the posterior of every pair; see :meth:`hiercorr.BayesianCorrelation.fit`."""
    settings = options.settings
    _check_size(counts, settings)
    sampling.require("arviz", settings.sampler)
    seeds = np.random.default_rng(options.seed)
    started = time.perf_counter()
    cells = cells_of(counts)
    if options.method == "latent":
        drawn = _latent(cells, setup, settings, int(seeds.integers(2**31)))
        coarse: set[tuple[int, int]] = set()
    else:
        drawn, coarse = _marginal(cells, setup, options, seeds)
    seconds = round(time.perf_counter() - started, 2)
    dataset = _dataset(counts, setup, options, drawn, coarse).assign_attrs(seconds=seconds)
    failed = int(((dataset["flag"].values & int(Flag.NOT_CONVERGED)) > 0).sum()) // 2
    if failed:
        warn(f"{failed} pairs flagged not_converged: {tables.ADVICE}", EstimationWarning)
    return CorrelationResult(dataset)


def _check_size(counts: Counts, settings: Settings) -> None:
    n = counts.n_genes
    if not 2 <= n <= MAX_GENES:
        seconds = predicted_seconds(counts.n_cells, n, settings.draws + settings.tune)
        raise InputError(
            f"fit takes 2 to {MAX_GENES} genes, not {n}: {n * (n - 1) // 2:,} pairs would take "
            f"about {minutes(seconds)}; name fewer genes with genes=, or use fit_many(target)"
        )


def _marginal(
    cells: Cells, setup: Setup, options: PanelOptions, seeds: np.random.Generator
) -> tuple[xr.Dataset, set[tuple[int, int]]]:
    """Draw from the posterior of each pair; also return the pairs whose grid is too coarse."""
    n = cells.x.shape[1]
    margins = [fit_margin(cells.rows(j), 0, setup.priors.log_sd) for j in range(n)]
    found: dict[tuple[int, int], sampling.Draws] = {}
    coarse = set()
    for i, j in with_progress(list(itertools.combinations(range(n), 2)), options.progress):
        pair = make_pair(cells, (i, j), (margins[i], margins[j]), setup)
        if pair.coarse:
            coarse.add((i, j))
        found[i, j] = sampling.sample_pair(pair, options.settings, int(seeds.integers(2**31)))
    return tables.stack_pairs(found, n), coarse


def _latent(cells: Cells, setup: Setup, settings: Settings, seed: int) -> xr.Dataset:
    """Draw from the posterior of the latent model."""
    if setup.population.blocked or setup.structure != "both":
        raise InputError(
            "method='latent' cannot be combined with block= or structure=: use method='marginal'"
        )
    for name in ("z_within", "z_between"):
        if setup.priors.table[name]["distribution"] != "lkj":
            raise InputError(
                f"method='latent' needs an LKJ prior of {name!r}: use method='marginal'"
            )
    if cells.x.size > _MAX_LATENT:
        raise InputError(
            f"method='latent' has a parameter for each of {len(cells.x):,} cells x "
            f"{cells.x.shape[1]} genes = {cells.x.size:,}, more than {_MAX_LATENT:,}: use "
            "method='marginal', fewer genes, or a subset of cells"
        )
    model = latent_model(cells, setup.population, setup.priors)
    return tables.from_latent(sampling.sample_model(model, settings, settings.target_accept, seed))


def _dataset(
    counts: Counts,
    setup: Setup,
    options: PanelOptions,
    drawn: xr.Dataset,
    coarse: Set[tuple[int, int]],
) -> xr.Dataset:
    """Assemble the result from the draws."""
    levels, attrs = tables.both_levels(drawn, setup, options.intervals)
    gene_flag = tables.gene_flags(counts)
    flag = gene_flag[:, None] | gene_flag[None, :]
    for i, j in coarse:
        flag[i, j] |= Flag.COARSE_GRID.bit
        flag[j, i] |= Flag.COARSE_GRID.bit
    np.fill_diagonal(flag, Flag.SELF.bit | np.diag(flag))
    attrs = {**_attributes(counts, setup, options), **attrs}
    datasets = {}
    for level, table in levels.items():
        table["flag"] = table["flag"] | flag
        np.fill_diagonal(table["flag"], np.diag(flag))
        datasets[level] = build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=table,
            gene=tables.gene_table(counts, gene_flag),
            sample=tables.sample_variables(counts),
            attrs=attrs,
        )
    return tables.joined(datasets, drawn, setup.population.coefficients)


def _attributes(counts: Counts, setup: Setup, options: PanelOptions) -> dict[str, object]:
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
        "heterogeneity": int(setup.heterogeneity and options.method == "marginal"),
        "n_cells": counts.n_cells,
        "seed": options.seed if isinstance(options.seed, int) else None,
        **{f"prior_{k}": v for k, v in setup.priors.describe().items()},
        **counts.attributes,
    }
