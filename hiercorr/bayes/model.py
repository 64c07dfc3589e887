"""BayesianCorrelation: correlation of a few genes within and between samples at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hiercorr.bayes import predictive
from hiercorr.bayes.calibration import CalibrationOptions, calibration
from hiercorr.bayes.joint.fit import JointOptions, fit_joint, predicted_joint_time
from hiercorr.bayes.many import ManyOptions, fit_many, partner_names
from hiercorr.bayes.models import latent_model, marginal_model
from hiercorr.bayes.pair import Pair
from hiercorr.bayes.panel import PanelOptions, check_latent, fit_panel, predicted_time
from hiercorr.bayes.population import (
    cell_covariates,
    cells_of,
    chosen_cells,
    coordinates_of,
    named_pair,
    population_of,
)
from hiercorr.bayes.priors import Priors, read_priors
from hiercorr.bayes.sampling import Settings
from hiercorr.bayes.setup import ROPE, STRUCTURES, Intervals, Setup
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.design.formulas import random_blocks
from hiercorr.design.samples import sample_name
from hiercorr.errors import InputError, one_of, text, true_or_false, valid_seed, without_effect
from hiercorr.results.result import CorrelationResult
from hiercorr.results.specified import Specified, sample_text
from hiercorr.runtime.log import logged

METHODS = ("marginal", "joint", "latent")
MANY_CELLS = ("refuse", "subsample", "all")


class BayesianCorrelation(Specified):
    r"""Poisson-lognormal hierarchical model of the correlation within and between samples.

    .. math::
        x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad u_i \sim N(b_c, \Sigma_{W,c}),\quad
        b_c \sim N(x_c\Gamma, \Sigma_B),\quad
        \operatorname{atanh}\rho_{W,c} = \zeta + \tau\eta_c

    Every pair of genes has its own posterior, in which the cells are summed out on a grid: only the
    samples' means, the four standard deviations and the correlations are sampled, which mix well
    even for sparse genes. ``correlation`` is the correlation of log expression;
    ``natural_correlation`` is that of unlogged expression, which :class:`hiercorr.CSCore`
    estimates.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of one cell type, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell, or two columns whose combinations are the
        samples; at least 3 samples.
    genes : sequence of str, bool mask or int, optional
        2 to 20 genes for :meth:`fit`; any number for :meth:`fit_many`. None: all expressed genes.
    formula : str
        Covariates of the samples' means, e.g. ``"~ condition"``. A random intercept,
        ``"~ condition + (1 | donor)"``, is ``block="donor"``.
    priors : mapping or path, optional
        Priors that replace those of ``models/bayesian.toml``, e.g.
        ``{"z_between": {"distribution": "normal", "mu": 0, "sigma": 0.5}}``, or a TOML file with a
        table ``[priors]``.
    block : str, optional
        Column of ``obs`` with the donor of each sample. Means of samples of one donor share part of
        their variance, and these samples have the same correlation within samples.
    covariates : str or sequence of str, optional
        Formula (``"~ percent_mito + phase"``) or columns of obs: covariates of cells, whose effects
        on the log rates of each gene within samples are removed, so that the correlation is that of
        cells with equal covariates. The effects are posterior modes under the prior of coefficients
        and are taken as known (:mod:`hiercorr.bayes.cell_effects`). Only fits by pairs have it.
    correlation_formula : str, optional
        Covariates of the correlation within samples, with one value per sample, e.g.
        ``"~ condition"``: its Fisher z is :math:`\zeta_c = \zeta + (v_c - \bar v)'\delta +
        \tau\eta_c`, so that a coefficient is the difference of z between groups, or the change of
        z per unit. ``correlation`` is that of the average sample. Coefficients:
        ``result.coefficients()``; correlation of each group: ``group_correlation``. With `block`,
        samples of one donor share :math:`\eta`, unless a covariate varies within donors: every
        sample then has its own, so that the difference between samples of one donor has an error
        beyond that of the cells.
    heterogeneity : bool
        Let the correlation within samples vary between samples (tau); needed for predictions for a
        new sample.
    sd_per_sample : bool
        Let the standard deviation of a gene's log expression over the cells differ between samples:
        :math:`\log\sigma_{gc} = \log\sigma_g + \omega_g\xi_{gc}`. The correlation between samples
        is then that of the logs of the samples' mean expression, as of pseudobulk, and
        ``result.samples("A", "B")`` has the correlation of expression within each sample.
    structure : {"both", "within", "independent"}
        Levels at which genes may correlate: ``"within"`` fixes the correlation between samples at
        0, ``"independent"`` fixes both. For model comparison.
    layer, depth, subset, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    many_cells : {"refuse", "subsample", "all"}
        Treatment of more than 20,000 cells: an error with the predicted time, a random subset with
        the same proportion of each sample, or all cells.
    seed : int or Generator, optional
        Seed of the random subset.

    Attributes
    ----------
    counts : Counts
        Counts of the selected cells and genes.
    design : DesignMatrix
        Design matrix of the formula over samples.
    priors : Priors
        Priors of all parameters.

    References
    ----------
    Aitchison & Ho 1989, Biometrika 76:643 (Poisson-lognormal).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> b = hc.BayesianCorrelation(adata, "sample_id", ["FTL", "FTH1"], **options)
    >>> b.priors.describe()["z_between"]
    'lkj(eta=2)'
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | tuple[str, str],
        genes: Sequence[str] | ArrayLike | int | None = None,
        formula: str = "~ 1",
        priors: Mapping[str, Any] | str | Path | None = None,
        block: str | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        gene_names: str | None = None,
        covariates: str | Sequence[str] | None = None,
        correlation_formula: str | None = None,
        heterogeneity: bool = True,
        sd_per_sample: bool = False,
        structure: str = "both",
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
        many_cells: str = "refuse",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if sample is None:
            raise InputError("sample= is needed: the obs column with the sample of each cell")
        sample = sample_name(sample)
        text("formula", formula, optional=True)
        text("correlation_formula", correlation_formula, optional=True)
        true_or_false("heterogeneity", heterogeneity)
        true_or_false("sd_per_sample", sd_per_sample)
        one_of("structure", structure, STRUCTURES)
        one_of("many_cells", many_cells, MANY_CELLS)
        valid_seed(seed)
        if many_cells != "subsample":
            without_effect(seed=(seed, None, "many_cells='subsample'"))
        fixed, random = random_blocks(formula, block)
        if random:
            formula, block = fixed or "~ 1", random[0]
        self.sample, self.block = sample, block
        self.heterogeneity, self.structure = bool(heterogeneity), structure
        self.priors: Priors = read_priors(priors)
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            gene_names=gene_names,
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
                f"{n} samples: correlation between samples and its uncertainty need at least 3; "
                "for 2 samples hiercorr.CSCore estimates the correlation within samples, without "
                "an interval"
            )
        self.design, population = population_of(
            self.counts, sample, formula, block, correlation_formula
        )
        if population.z is not None and structure == "independent":
            raise InputError(
                "structure='independent' fixes the correlation within samples at 0, which cannot "
                f"depend on correlation_formula={correlation_formula!r}: leave one of them out"
            )
        self.sd_per_sample = bool(sd_per_sample)
        self._setup = Setup(
            population,
            self.priors,
            self.heterogeneity,
            self.structure,
            sample,
            self.sd_per_sample,
            cell_covariates(self.counts, covariates),
        )
        self._setup.check_priors()

    def _specification(self) -> dict[str, Any]:
        counts, z, of_cells = self.counts, self._setup.population.z, self._setup.covariates
        return {
            "cells": counts.n_cells,
            "samples": sample_text(counts.n_samples, self.sample),
            "block": self.block,
            "genes": counts.n_genes,
            "structure": self.structure,
            "heterogeneity": "yes" if self.heterogeneity else "no",
            "correlation": None if z is None else z.formula,
            "covariates of cells": None if of_cells is None else of_cells.formula,
            "sd per sample": "yes" if self.sd_per_sample else None,
        }

    def fit(
        self,
        draws: int = 1000,
        tune: int = 400,
        chains: int = 4,
        seed: int | np.random.Generator | None = None,
        sampler: str = "nutpie",
        target_accept: float = 0.95,
        *,
        target: str | None = None,
        method: str = "marginal",
        confidence: float = 0.95,
        rope: float = ROPE,
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Sample the posterior of a panel: of every pair, of those of one gene, or jointly.

        By default every pair has its own posterior and chains, so that draws of different pairs are
        independent: comparisons of pairs, ranks and eigenvalues need ``method="joint"``.

        Parameters
        ----------
        draws, tune, chains : int
            Draws and adaptation steps per chain, and number of chains.
        seed : int or Generator, optional
            Seed of the chains.
        sampler : {"nutpie", "pymc"}
            ``"nutpie"`` samples the compiled density; ``"pymc"`` samples the same model stated in
            PyMC (:func:`hiercorr.bayes.models.marginal_model`), which is slow.
        target_accept : float
            Target acceptance probability. Pairs with divergences are sampled again at 0.99.
        target : str, optional
            Gene whose pairs are sampled, with up to 190 others. None: all pairs of 2 to 20 genes.
        method : {"marginal", "joint", "latent"}
            ``"marginal"``: every pair by itself, so that draws of two pairs are independent of each
            other. ``"joint"``: one posterior of all genes, whose draws are correlation matrices:
            within samples, between samples and, with `block`, between donors (``.at("between")``)
            and between the samples of a donor (``.at("samples")``). With ``heterogeneity=True`` the
            matrix within samples varies between donors, with one tau for all its correlations
            (``hiercorr.bayes.joint.model``). A step of its `tune` is 5
            sweeps; it goes on, thinning the draws, until R-hat is at most 1.01 and the effective
            sample size at least 400 for every parameter, at most 64 times as long; not with fewer
            than 800 draws in all chains, which cannot have as many effective ones. ``"latent"``:
            one model of all genes with the expression of every cell as a parameter, by NUTS,
            without blocks, for models with ``heterogeneity=False``; a reference for small panels.
        confidence : float
            Probability of the highest-density intervals, also of those that predict the
            correlation within a new sample.
        rope : float
            Largest absolute correlation that counts as practically zero.
        checkpoint : path, optional
            Folder for the draws of each pair until the result is complete: after an interruption,
            the same call resumes the fit and gives identical results. Needs a seed.
        progress : bool, optional
            Show a progress bar. None: only in a terminal.

        Returns
        -------
        CorrelationResult
            Level within; ``.at("between")`` returns the other. ``correlation`` is the posterior
            mean, ``sd`` and ``se`` are the posterior standard deviations of the correlation and of
            ``fisher_z``, ``ci_lower`` and ``ci_upper`` the interval. ``ess_bulk``, ``ess_tail`` and
            ``r_hat`` are the worst over all parameters on which the level's results rest:
            correlations, heterogeneity, standard deviations, means of samples and predictions.
            The flag ``coarse_grid`` marks pairs whose log likelihood, where the grids over log
            rates are refined, changes with a standard deviation over draws of more than 0.1;
            attribute ``grid_error`` has the largest.
            ``.idata`` returns the draws.
            A joint fit adds ``partial_correlation`` (given the other genes), and standard
            deviations and coefficients with intervals (``gene_table()``, ``coefficients()``);
            attributes ``tau``, ``tau_lower`` and ``tau_upper``; draws of the matrix in every sample
            and in one of a new donor (``posterior_within_sample``, ``posterior_new_sample``).

        Raises
        ------
        InputError
            If an option is not valid or the work is too large.
        ImportError
            If nutpie, PyMC or ArviZ is missing.

        Warns
        -----
        EstimationWarning
            If the draws of some pair are unreliable.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
        >>> r.dataset.attrs["model"], bool(r["gene0", "gene1"]["correlation"] > 0)
        ('BayesianCorrelation', True)
        """
        one_of("method", method, METHODS)
        if method == "joint":
            others = "method='marginal' or 'latent'"
            without_effect(
                sampler=(sampler, "nutpie", others),
                target_accept=(target_accept, 0.95, others),
                target=(target, None, "method='marginal'"),
                checkpoint=(checkpoint, None, "method='marginal'"),
            )
            self._setup.check_pairs_only("method='joint'")
            of_joint = JointOptions(
                draws, tune, chains, Intervals(confidence, rope), seed, progress
            )
            with logged("BayesianCorrelation.fit: joint, %d genes", self.counts.n_genes):
                return fit_joint(self.counts, self._setup, of_joint)
        settings = Settings(draws, tune, chains, sampler, target_accept)
        if target is not None:
            text("target", target)
            target = str(self._reader.named(target))
        intervals = Intervals(confidence, rope)
        options = PanelOptions(settings, method, intervals, seed, progress, target, checkpoint)
        counts = self._with(target)
        work = "BayesianCorrelation.fit: %d genes, %d chains of %d draws"
        with logged(work, counts.n_genes, chains, draws):
            return fit_panel(counts, self._setup, options)

    def predicted_seconds(
        self,
        draws: int = 1000,
        tune: int = 400,
        chains: int = 4,
        *,
        target: str | None = None,
        method: str = "marginal",
    ) -> float:
        """Predict the time of :meth:`fit` on this machine, from a short run.

        Parameters
        ----------
        draws, tune, chains : int
            As for :meth:`fit`.
        target : str, optional
            As for :meth:`fit`.
        method : {"marginal", "joint"}
            ``"marginal"``: some gradients of up to 3 pairs are timed. ``"joint"``: some sweeps are
            timed; how many are needed until convergence is typical of the number of genes.

        Returns
        -------
        float
            Seconds, mostly right within a factor of 2 if the load of the machine does not change.
            A joint fit can take several times as long where counts are in the thousands or nearly
            all 0. The first prediction on a machine compiles the loops, which takes up to a minute
            that is not part of it.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 3, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> 0.1 < model.predicted_seconds() < 1000
        True
        """
        one_of("method", method, ("marginal", "joint"))
        if method == "joint":
            without_effect(target=(target, None, "method='marginal'"))
            self._setup.check_pairs_only("method='joint'")
            return predicted_joint_time(self.counts, self._setup, draws, tune, chains)
        if target is not None:
            text("target", target)
            target = str(self._reader.named(target))
        settings = Settings(draws, tune, chains)
        return predicted_time(self._with(target), self._setup, settings, target)

    def fit_many(
        self,
        target: str,
        genes: Sequence[str] | None = None,
        *,
        shrink: bool | str = False,
        draws: int = 1000,
        confidence: float = 0.95,
        rope: float = ROPE,
        seed: int | np.random.Generator | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation of one gene with many, by empirical Bayes on grids.

        The model is that of :meth:`fit`. Each gene's standard deviation and sample means are fitted
        once; the correlations, their heterogeneity and the errors of the standard deviations are
        then summed over grids, in about 20 ms per pair (equations: :mod:`hiercorr.bayes.many`).

        Parameters
        ----------
        target : str
            Gene to correlate with all others.
        genes : sequence of str, optional
            Partners. None: all genes of the model.
        shrink : bool or "sparse"
            Use a prior of zeta that is estimated from all pairs. True: a normal distribution.
            ``"sparse"``: none for some pairs and any size for the others, together with the
            distribution of their heterogeneity (:mod:`hiercorr.bayes.sparse_prior`; from 60
            partners). It adds ``local_fdr``, the probability that a pair is uncorrelated,
            and ``bayesian_fdr``, the mean ``local_fdr`` of all pairs up to this one.
        draws : int
            Independent draws from each posterior. They are not MCMC: there is no R-hat.
        confidence : float
            Probability of the highest-density intervals.
        rope : float
            Largest absolute correlation that counts as practically zero.
        seed : int or Generator, optional
            Seed of the draws.
        n_jobs : int, optional
            Number of threads. None: number of cores.
        progress : bool, optional
            Show a progress bar. None: only in a terminal.

        Returns
        -------
        CorrelationResult
            Target x genes; level within, with ``.at("between")``.

        Raises
        ------
        InputError
            If an option is not valid, or the model has blocks or a restricted structure.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit_many("gene0", seed=1)
        >>> r.target, round(float(r.params["gene1"]), 1)
        ('gene0', 0.7)
        """
        text("target", target)
        options = ManyOptions(shrink, draws, Intervals(confidence, rope), seed, n_jobs, progress)
        partners = partner_names(genes)
        self._setup.check_grids()
        target = str(self._reader.named(target))
        with logged("BayesianCorrelation.fit_many: partners of %s", target):
            counts, names = self._with(target), self._reader.names
            return fit_many(counts, self._setup, target, partners, options, names)

    def pair(
        self, gene_a: str, gene_b: str, structure: str | None = None, priors: Priors | None = None
    ) -> Pair:
        """Build the posterior density of one pair, e.g. for :mod:`hiercorr.bayes.models`.

        Parameters
        ----------
        gene_a, gene_b : str
            Names of two genes of the model.
        structure : str, optional
            None: that of the model.
        priors : Priors, optional
            None: those of the model.

        Returns
        -------
        Pair

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> pair = model.pair("gene0", "gene1")
        >>> bool(pair.log_density(pair.initial)[0] < 0)
        True
        """
        text("gene_a", gene_a)
        text("gene_b", gene_b)
        one_of("structure", structure, (None, *STRUCTURES))
        if not isinstance(priors, Priors | None):
            raise InputError(
                "priors must be a Priors object, as returned by hiercorr.bayes.priors.read_priors, "
                f"not {type(priors).__name__}"
            )
        setup = replace(
            self._setup,
            priors=priors or self._setup.priors,
            structure=structure or self._setup.structure,
        )
        return named_pair(self.counts, setup, gene_a, gene_b)

    def pymc_model(
        self,
        gene_a: str | None = None,
        gene_b: str | None = None,
        *,
        method: str = "marginal",
    ) -> Any:
        """State the model in PyMC, to read, to extend or to sample with any of its samplers.

        The model has coordinates (gene, sample, coefficient, cell) and the observed variable
        ``counts`` (cell, gene), so that ``pm.compute_log_likelihood`` and
        ``pm.sample_posterior_predictive`` work. Its ``beta`` belong to columns of the formula that
        are centred and divided by their range: the intercept is that of the average sample.

        Parameters
        ----------
        gene_a, gene_b : str, optional
            The pair of ``method="marginal"``. None: the genes of a model of two.
        method : {"marginal", "latent"}
            ``"marginal"``: the posterior that :meth:`fit` samples, of one pair, its cells summed
            out (:func:`hiercorr.bayes.models.marginal_model`). ``"latent"``: all genes, with the
            expression of every cell as a parameter (:func:`hiercorr.bayes.models.latent_model`).

        Returns
        -------
        pymc.Model

        Raises
        ------
        InputError
            If the pair is not stated, or the latent model cannot have this setup.
        ImportError
            If PyMC is missing.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth").pymc_model()
        >>> [v.name for v in model.observed_RVs], len(model.coords["cell"])
        (['counts'], 240)
        """
        one_of("method", method, METHODS)
        names = coordinates_of(self.counts, self._setup.population)
        if method == "latent":
            without_effect(
                gene_a=(gene_a, None, "method='marginal'"),
                gene_b=(gene_b, None, "method='marginal'"),
            )
            check_latent(self.counts, self._setup)
            population = self._setup.population
            return latent_model(cells_of(self.counts, self._setup), population, self.priors, names)
        pair = self.pair(*self._two(gene_a, gene_b, "pymc_model(method='marginal')"))
        genes = [self.counts.genes[j] for j in pair.genes]
        return marginal_model(pair, replace(names, gene=genes))

    def sbc(
        self,
        n: int,
        gene_a: str | None = None,
        gene_b: str | None = None,
        *,
        ranks: int = 99,
        draws: int = 250,
        tune: int = 300,
        chains: int = 4,
        seed: int | np.random.Generator | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Calibrate the posterior in this design by simulation.

        Parameters are drawn from the model's priors, with intercepts around the means of the two
        genes; counts are drawn for the model's cells, with their depths, samples and blocks; and
        the model is fitted to them. The rank of each parameter among draws of its posterior is
        then uniform, if the posterior is right. One replicate takes as long as a fit of one pair.

        Parameters
        ----------
        n : int
            Number of replicates; 100 or more show deviations that matter.
        gene_a, gene_b : str, optional
            The genes whose means are used. None: the genes of a model of two.
        ranks : int
            Number of draws among which each parameter is ranked, evenly spaced over the chains.
        draws, tune, chains : int
            As for :meth:`fit`.
        seed : int or Generator, optional
            Seed of the parameters, counts and chains.
        progress : bool, optional
            Show a progress bar. None: only in a terminal.

        Returns
        -------
        xarray.Dataset
            ``rank`` (0 to `ranks`) and ``truth`` (replicate, parameter), and ``divergences``
            (replicate): correlations, heterogeneity, standard deviations, intercepts and means of
            the first sample, of genes ``[0]`` and ``[1]``. ``hiercorr.plotting.ranks`` draws it.

        References
        ----------
        Talts et al. 2018, arXiv:1804.06788.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> found = model.sbc(2, draws=100, tune=100, chains=2, seed=1)
        >>> found["rank"].sizes["replicate"], int(found["rank"].max()) <= 99
        (2, True)
        """
        settings = Settings(draws, tune, chains)
        options = CalibrationOptions(n, settings, ranks, seed, progress)
        return calibration(self.pair(*self._two(gene_a, gene_b, "sbc")), self._setup, options)

    def _two(self, gene_a: str | None, gene_b: str | None, what: str) -> tuple[str, str]:
        """Return the names of a pair, by default those of a model of two genes."""
        if gene_a is None and gene_b is None and self.counts.n_genes == 2:
            return str(self.counts.genes[0]), str(self.counts.genes[1])
        if gene_a is None or gene_b is None:
            raise InputError(
                f"{what} needs one pair, and the model has {self.counts.n_genes} genes: name "
                "gene_a= and gene_b="
            )
        return gene_a, gene_b

    def _with(self, target: str | None) -> Counts:
        """Return the counts of the model's cells, with the target among the genes."""
        counts = self._reader.with_gene(target)
        if self._cells is None:
            return counts
        notes = counts.notes | {"subsampled_from": counts.n_cells}
        return replace(counts.cells_where(self._cells), notes=notes)

    def prior_predictive(
        self, draws: int = 500, seed: int | np.random.Generator | None = None
    ) -> xr.Dataset:
        """Draw from the prior predictive distribution.

        Parameters
        ----------
        draws : int
            Number of data sets.
        seed : int or Generator, optional
            Seed of the draws.

        Returns
        -------
        xarray.Dataset
            Draws of ``zeros``, ``log_mean`` and ``variance_ratio`` (draw, gene) over cells, and of
            the correlations ``within``, ``between`` and ``observed`` (draw, pair), together with
            the values in the data (``data_...``). ``observed`` is the correlation of
            log-normalised counts over cells within samples.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> model.prior_predictive(draws=20, seed=1).sizes["draw"]
        20
        """
        return predictive.prior(self.counts, self._setup, draws, seed)

    def posterior_predictive(
        self,
        result: CorrelationResult,
        draws: int = 200,
        seed: int | np.random.Generator | None = None,
    ) -> xr.Dataset:
        """Draw from the posterior predictive distribution and compare with the data.

        Parameters
        ----------
        result : CorrelationResult
            Result of :meth:`fit` of this model.
        draws : int
            Number of data sets, each from one draw of the posterior.
        seed : int or Generator, optional
            Seed of the draws.

        Returns
        -------
        xarray.Dataset
            As from :meth:`prior_predictive`, with two-sided posterior predictive p-values
            ``p_zeros``, ``p_variance_ratio`` and ``p_observed``; values near 0 indicate that the
            model does not reproduce this feature of the data.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
        >>> model.posterior_predictive(r, draws=20, seed=1)["p_zeros"].sizes["gene"]
        2
        """
        return predictive.posterior(self.counts, self._setup, result, draws, seed)

    def compare_structures(
        self,
        gene_a: str,
        gene_b: str,
        seed: int | np.random.Generator | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Compare the structures of one pair by leave-one-out cross-validation and WAIC.

        The structures are both levels, within only, and independent. The table is about cells that
        are left out: it concerns the correlation within samples. ``elpd_donor`` is about donors of
        whom all cells are left out (samples, without ``block=``): how well the population predicts
        a new donor, which concerns both levels; with few donors its standard error is large.

        Parameters
        ----------
        gene_a, gene_b : str
            Names of two genes of the model.
        seed : int or Generator, optional
            Seed of the chains.
        **options
            Options of :meth:`fit`: `draws` (default 500), `tune`, `chains`, `sampler`,
            `target_accept`.

        Returns
        -------
        DataFrame
            ArviZ's comparison table by leave-one-out, best model first, with columns ``elpd_waic``,
            ``se_waic`` and ``p_waic`` (:func:`hiercorr.bayes.predictive.waic`), and with
            ``elpd_donor``, ``se_donor`` and ``refitted_donors``, the number of donors that were
            left out of a fit of their own because importance sampling was unreliable
            (:mod:`hiercorr.bayes.left_out`).

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> model.compare_structures("gene0", "gene1", seed=1)  # doctest: +SKIP
        """
        text("gene_a", gene_a)
        text("gene_b", gene_b)
        return predictive.compare_structures(
            self.counts, self._setup, (gene_a, gene_b), seed, options
        )

    def prior_sensitivity(
        self,
        gene_a: str,
        gene_b: str,
        priors: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int | np.random.Generator | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Fit one pair under several priors.

        With few samples, the posterior of the correlation between samples is mostly its prior.

        Parameters
        ----------
        gene_a, gene_b : str
            Names of two genes of the model.
        priors : mapping, optional
            Name -> priors, as for the model. None: LKJ with eta 1, 2 and 4, and a normal with
            sigma 0.5, for the z between samples.
        seed : int or Generator, optional
            Seed of the chains.
        **options
            Options of :meth:`fit`: `draws` (default 500), `tune`, `chains`, `sampler`,
            `target_accept`, `confidence`.

        Returns
        -------
        DataFrame
            One row per set of priors and level: mean, standard deviation and interval of the
            posterior, interval of the prior, and ``contraction``, the proportion by which the data
            reduced the prior variance.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> model.prior_sensitivity("gene0", "gene1", seed=1)  # doctest: +SKIP
        """
        text("gene_a", gene_a)
        text("gene_b", gene_b)
        return predictive.prior_sensitivity(
            self.counts, self._setup, (gene_a, gene_b), priors, seed, options
        )
