"""BayesianCorrelation: both levels at once, with priors that are data and diagnostics that are not optional."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hiercorr.bayes import predictive, sampling, tables
from hiercorr.bayes.margin import Cells, Margin, fit_margin
from hiercorr.bayes.pair import STRUCTURES, Pair, make_pair
from hiercorr.bayes.population import (
    cells_of,
    chosen_cells,
    minutes,
    population_of,
    predicted_seconds,
)
from hiercorr.bayes.priors import Priors, read_priors
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.errors import EstimationWarning, InputError, between_0_and_1, one_of, unknown_name
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset

MAX_GENES = 20
POSTERIOR_METHODS = ("marginal", "latent")
MANY_CELLS = ("refuse", "subsample", "all")
_MAX_LATENT = 30_000  # cells x genes that the latent model takes


class BayesianCorrelation:
    r"""Correlation of a few genes within and between samples at once, from a Poisson-lognormal hierarchical model.

    .. math::
        x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad u_i \sim N(b_c, \Sigma_{W,c}),\quad b_c \sim N(x_c\Gamma, \Sigma_B),\quad
        \operatorname{atanh}\rho_{W,c} = \zeta + \tau\eta_c

    Every pair of genes has its own posterior, in which the cells are summed out on a grid: what is sampled are the samples'
    means, the four standard deviations and the correlations, which mix well also for sparse genes. ``correlation`` is that
    of log expression; ``natural_correlation`` is the one of expression itself, which :class:`hiercorr.CSCore` estimates.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of ONE cell type, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; at least 3 samples.
    genes : sequence of str, bool mask or int, optional
        2 to 20 genes for :meth:`fit`; any number for :meth:`fit_many`. None: all expressed genes.
    formula : str
        Covariates of the samples' means, e.g. ``"~ condition"``.
    priors : mapping or path, optional
        In the place of those of ``models/bayesian.toml``, e.g.
        ``{"z_between": {"distribution": "normal", "mu": 0, "sigma": 0.5}}``; or a TOML file with a table ``[priors]``.
    block : str, optional
        Column of ``obs`` whose values hold several samples each (the donor): their means share part of their variance, and
        they have one correlation within.
    heterogeneity : bool
        The correlation within varies over samples (tau); with it come predictions for a new sample.
    structure : {"both", "within", "independent"}
        What may correlate: ``"within"`` has no correlation between samples, ``"independent"`` none at all. For comparison.
    layer, depth, subset, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    many_cells : {"refuse", "subsample", "all"}
        What happens where there are more than 20,000 cells: refused with the predicted time, a random subset with the same
        share of each sample, or all.
    seed : int or Generator, optional
        For the subset.

    Attributes
    ----------
    counts : Counts
    design : DesignMatrix
        Of the formula over samples.
    priors : Priors

    References
    ----------
    Aitchison & Ho 1989, Biometrika 76:643 (Poisson-lognormal).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> vehicle = {"condition": "ctrl"}
    >>> b = hc.BayesianCorrelation(adata, "sample_id", ["FTL", "FTH1"], depth="total_counts", subset=vehicle)
    >>> b.priors.describe()["z_between"]
    'lkj(eta=2)'
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str,
        genes: Sequence[str] | ArrayLike | int | None = None,
        formula: str = "~ 1",
        priors: Mapping[str, Any] | str | Path | None = None,
        block: str | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        heterogeneity: bool = True,
        structure: str = "both",
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
        many_cells: str = "refuse",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        one_of("structure", structure, STRUCTURES)
        one_of("many_cells", many_cells, MANY_CELLS)
        if sample is None:
            raise InputError("sample= is needed: the obs column that names the sample of each cell")
        self.sample, self.block, self.heterogeneity, self.structure = (
            sample,
            block,
            bool(heterogeneity),
            structure,
        )
        self.priors: Priors = read_priors(priors)
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
            block=block,
        )
        self._reader = CountReader(data, selection)
        self._cells = chosen_cells(self._reader.counts, many_cells, seed)
        self.counts: Counts = self._with(None)
        n = self.counts.n_samples
        if n < 3:
            raise InputError(
                f"{n} samples: correlation between samples and its uncertainty need at least 3; for 2 samples "
                "hiercorr.CSCore gives an estimate within samples, without an interval"
            )
        self.design, self._population = population_of(self.counts, sample, formula, block)

    def fit(
        self,
        draws: int = 1000,
        tune: int = 400,
        chains: int = 4,
        seed: int | np.random.Generator | None = None,
        sampler: str = "nutpie",
        target_accept: float = 0.95,
        *,
        method: str = "marginal",
        confidence: float = 0.95,
        rope: float = tables.ROPE,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Sample the posterior of every pair of the panel.

        Parameters
        ----------
        draws, tune, chains : int
            Draws kept and steps of adaptation of each chain.
        seed : int or Generator, optional
        sampler : {"nutpie", "pymc"}
            ``"nutpie"`` samples the compiled density; ``"pymc"`` the same model as PyMC states it
            (:func:`hiercorr.bayes.models.marginal_model`), which is slow.
        target_accept : float
            A pair whose trajectories diverge is sampled once more at 0.99.
        method : {"marginal", "latent"}
            ``"latent"``: one model of all genes with the expression of every cell as a parameter, a reference for small
            panels.
        confidence : float
            Of the highest-density intervals.
        rope : float
            Correlations up to this size count as practically none.
        progress : bool, optional

        Returns
        -------
        CorrelationResult
            Level within; ``.at("between")`` is the other. ``correlation`` is the posterior mean, ``sd`` and ``se`` the
            posterior standard deviations of it and of ``fisher_z``, ``ci_lower`` and ``ci_upper`` the interval; with
            ``.idata`` the draws.

        Raises
        ------
        InputError
            If an option is unknown or the work is too large.
        ImportError
            If nutpie, PyMC or ArviZ is missing.

        Warns
        -----
        EstimationWarning
            If draws of some pair are not to be trusted.
        """
        settings = self._settings(draws, tune, chains, sampler, target_accept, confidence, rope)
        one_of("method", method, POSTERIOR_METHODS)
        n_genes = self.counts.n_genes
        if not 2 <= n_genes <= MAX_GENES:
            raise InputError(
                f"fit takes 2 to {MAX_GENES} genes, not {n_genes}: {n_genes * (n_genes - 1) // 2:,} pairs would take about "
                f"{minutes(self._predicted(settings))}; name fewer with genes=, or use fit_many(target)"
            )
        sampling.require("arviz", settings.sampler)
        seeds = np.random.default_rng(seed)
        started = time.perf_counter()
        cells = cells_of(self.counts)
        if method == "latent":
            drawn = self._latent(cells, settings, int(seeds.integers(2**31)))
            coarse: set[tuple[int, int]] = set()
        else:
            margins = self._margins(cells)
            found: dict[tuple[int, int], sampling.Draws] = {}
            coarse = set()
            for i, j in with_progress(list(itertools.combinations(range(n_genes), 2)), progress):
                pair = self._pair(cells, (i, j), margins)
                if pair.coarse:
                    coarse.add((i, j))
                found[i, j] = sampling.sample_pair(pair, settings, int(seeds.integers(2**31)))
            drawn = tables.stack_pairs(found, n_genes)
        seconds = time.perf_counter() - started
        return self._result(drawn, coarse, settings, method, confidence, rope, seed, seconds)

    def fit_many(
        self,
        target: str,
        genes: Sequence[str] | None = None,
        *,
        shrink: bool = False,
        draws: int = 1000,
        confidence: float = 0.95,
        rope: float = tables.ROPE,
        seed: int | np.random.Generator | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""One gene against many: the same model by empirical Bayes on grids, some 20 ms a pair, without a Markov chain.

        Each gene's standard deviation and sample means are fitted once; the correlations, their heterogeneity and the errors
        of the standard deviations are then summed over grids (see :mod:`hiercorr.bayes.many` for equations).

        Parameters
        ----------
        target : str
        genes : sequence of str, optional
            Partners; None: all genes of the model.
        shrink : bool
            The prior of zeta is a normal whose mean and standard deviation are estimated from all the pairs.
        draws : int
            Independent draws from each posterior that are kept. They are not MCMC: there is no R-hat.
        confidence, rope : float
        seed : int or Generator, optional
        n_jobs : int, optional
            Threads. None: as many as there are cores.
        progress : bool, optional

        Returns
        -------
        CorrelationResult
            Target x genes; level within, with ``.at("between")``.
        """
        from hiercorr.bayes.many import fit_many

        return fit_many(
            self,
            target,
            genes,
            shrink=shrink,
            draws=draws,
            confidence=confidence,
            rope=rope,
            seed=seed,
            n_jobs=n_jobs,
            progress=progress,
        )

    def _settings(
        self,
        draws: int,
        tune: int,
        chains: int,
        sampler: str,
        target_accept: float,
        confidence: float,
        rope: float,
    ) -> sampling.Settings:
        one_of("sampler", sampler, sampling.SAMPLERS)
        for name, value, least in (
            ("draws", draws, 100),
            ("tune", tune, 100),
            ("chains", chains, 2),
        ):
            if not isinstance(value, int | np.integer) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        for name, x in (
            ("target_accept", target_accept),
            ("confidence", confidence),
            ("rope", rope),
        ):
            between_0_and_1(name, x)
        return sampling.Settings(int(draws), int(tune), int(chains), sampler, float(target_accept))

    def _predicted(self, settings: sampling.Settings) -> float:
        return predicted_seconds(
            self.counts.n_cells, self.counts.n_genes, settings.draws + settings.tune
        )

    def _margins(self, cells: Cells) -> list[Margin]:
        return [
            fit_margin(cells.rows(j), 0, self.priors.log_sd) for j in range(self.counts.n_genes)
        ]

    def _pair(self, cells: Cells, at: tuple[int, int], margins: Sequence[Margin]) -> Pair:
        return make_pair(
            cells,
            at,
            (margins[at[0]], margins[at[1]]),
            self._population,
            self.priors,
            heterogeneity=self.heterogeneity,
            structure=self.structure,
        )

    def pair(
        self, gene_a: str, gene_b: str, structure: str | None = None, priors: Priors | None = None
    ) -> Pair:
        """The posterior of one pair as a function of its parameters, for :mod:`hiercorr.bayes.models` and for study.

        Parameters
        ----------
        gene_a, gene_b : str
        structure : str, optional
            None: that of the model.
        priors : Priors, optional
            None: those of the model.
        """
        positions = [self._position(g) for g in (gene_a, gene_b)]
        cells = cells_of(self.counts)
        margins = {j: fit_margin(cells.rows(j), 0, self.priors.log_sd) for j in positions}
        return make_pair(
            cells,
            (positions[0], positions[1]),
            (margins[positions[0]], margins[positions[1]]),
            self._population,
            priors or self.priors,
            heterogeneity=self.heterogeneity,
            structure=structure or self.structure,
        )

    def _with(self, target: str | None) -> Counts:
        """Return the counts of the model's cells, with the target among the genes."""
        counts = self._reader.with_gene(target)
        return counts if self._cells is None else counts.cells_where(self._cells)

    def _position(self, gene: str) -> int:
        if gene not in self.counts.genes:
            raise unknown_name("gene", gene, self.counts.genes)
        return int(self.counts.genes.get_loc(gene))

    def _latent(self, cells: Cells, settings: sampling.Settings, seed: int) -> xr.Dataset:
        from hiercorr.bayes.models import latent_model

        if self._population.blocked or self.structure != "both":
            raise InputError(
                "method='latent' has no block= and no structure=: use method='marginal'"
            )
        size = cells.x.size
        if size > _MAX_LATENT:
            raise InputError(
                f"method='latent' has a parameter for each of {len(cells.x):,} cells x {cells.x.shape[1]} genes = {size:,}; it "
                f"takes {_MAX_LATENT:,} at most: use method='marginal', fewer genes, or a subset of cells"
            )
        trace = sampling.sample_model(
            latent_model(cells, self._population, self.priors),
            settings,
            settings.target_accept,
            seed,
        )
        return tables.from_latent(trace)

    def _result(
        self,
        drawn: xr.Dataset,
        coarse: Iterable[tuple[int, int]],
        settings: sampling.Settings,
        method: str,
        confidence: float,
        rope: float,
        seed: Any,
        seconds: float,
    ) -> CorrelationResult:
        counts = self.counts
        levels, attrs = tables.both_levels(drawn, self.priors, confidence, rope, self.structure)
        flag = tables.gene_flags(counts)
        both = flag[:, None] | flag[None, :]
        for i, j in coarse:
            both[i, j] |= Flag.COARSE_GRID.bit
            both[j, i] |= Flag.COARSE_GRID.bit
        np.fill_diagonal(both, Flag.SELF.bit | np.diag(both))
        datasets = {}
        for level, table in levels.items():
            table["flag"] = table["flag"] | both
            np.fill_diagonal(table["flag"], np.diag(both))
            datasets[level] = build_dataset(
                genes=counts.genes,
                samples=counts.samples,
                pair=table,
                gene=tables.gene_table(counts, flag),
                sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
                attrs={
                    "model": "BayesianCorrelation",
                    "estimator": f"{method}, NUTS ({settings.sampler})",
                    "level": "within",
                    "formula": self.design.formula,
                    "uncertainty": "posterior",
                    "confidence": confidence,
                    "rope": rope,
                    "draws": settings.draws,
                    "tune": settings.tune,
                    "chains": settings.chains,
                    "heterogeneity": int(self.heterogeneity and method == "marginal"),
                    "structure": self.structure,
                    "n_cells": counts.n_cells,
                    "sample_column": self.sample,
                    "block": self.block,
                    "seed": seed if isinstance(seed, int) else None,
                    "seconds": round(seconds, 2),
                    **{f"prior_{k}": v for k, v in self.priors.describe().items()},
                    **attrs,
                    **{k: v for k, v in counts.notes.items() if v},
                },
            )
        dataset = tables.joined(datasets, drawn, self.design.names)
        failed = int(((dataset["flag"].values & int(Flag.NOT_CONVERGED)) > 0).sum()) // 2
        if failed:
            warn(
                f"{failed} pairs flagged not_converged: {tables.ADVICE}",
                EstimationWarning,
            )
        return CorrelationResult(dataset)

    def prior_predictive(
        self, draws: int = 500, seed: int | np.random.Generator | None = None
    ) -> xr.Dataset:
        """What the priors say of data like these, before any is seen.

        Parameters
        ----------
        draws : int
        seed : int or Generator, optional

        Returns
        -------
        xarray.Dataset
            Draws of ``zeros``, ``log_mean``, ``variance_ratio`` (draw, gene) of the cells, and of the correlations
            ``within``, ``between`` and ``observed`` (draw, pair), beside the data's own (``data_...``). ``observed`` is the
            correlation over cells of log-normalised counts, within samples.
        """
        return predictive.prior(self, draws, np.random.default_rng(seed))

    def posterior_predictive(
        self,
        result: CorrelationResult,
        draws: int = 200,
        seed: int | np.random.Generator | None = None,
    ) -> xr.Dataset:
        """Data that the fitted model would give, to hold the observed ones against.

        Parameters
        ----------
        result : CorrelationResult
            Of :meth:`fit` of this model.
        draws : int
            Draws of the posterior that data are made from.
        seed : int or Generator, optional

        Returns
        -------
        xarray.Dataset
            As from :meth:`prior_predictive`, with posterior predictive p-values ``p_zeros``, ``p_variance_ratio``,
            ``p_observed`` (two-sided; near 0 says that the model misses this side of the data).
        """
        return predictive.posterior(self, result, draws, np.random.default_rng(seed))

    def compare_structures(
        self,
        gene_a: str,
        gene_b: str,
        seed: int | np.random.Generator | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Comparison of both levels, within only and independent, for one pair, by leave-one-out and WAIC.

        The unit left out is a cell, so that this speaks of the correlation within samples; there are too few samples for a
        comparison of what they have in common.

        Parameters
        ----------
        gene_a, gene_b : str
        seed : int or Generator, optional
        **options
            For :meth:`fit`.

        Returns
        -------
        DataFrame
            ArviZ's comparison table by leave-one-out, best model first, with ``elpd_waic``, ``se_waic`` and ``p_waic``
            beside it (:func:`hiercorr.bayes.predictive.waic`).
        """
        return predictive.compare_structures(self, gene_a, gene_b, seed, options)

    def prior_sensitivity(
        self,
        gene_a: str,
        gene_b: str,
        priors: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int | np.random.Generator | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """The correlations of a pair under several priors: with few samples the one between samples is mostly its prior.

        Parameters
        ----------
        gene_a, gene_b : str
        priors : mapping, optional
            Name -> priors, as for the model. None: for the z between samples LKJ with eta 1, 2 and 4, and a normal of sd 0.5.
        seed : int or Generator, optional
        **options
            For :meth:`fit`.

        Returns
        -------
        DataFrame
            One row a set of priors and level: mean, sd and interval of the posterior, the interval of the prior, and
            ``contraction``, the share of the prior's variance that the data took away.
        """
        return predictive.prior_sensitivity(self, gene_a, gene_b, priors, seed, options)
