"""CS-CORE: co-expression within a cell type, with uncertainty whose n is the number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts.backend import LocalBackend
from hiercorr.counts.cell_scores import cell_score
from hiercorr.counts.counts import METACELLS, MIN_CELLS, Counts
from hiercorr.counts.gene_groups import Sets
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.counts.targets import (
    PairList,
    Pairs,
    Target,
    given_pairs,
    given_targets,
    not_both,
    public_target,
    without_counts,
)
from hiercorr.design.formulas import random_blocks
from hiercorr.design.matrix import make_design
from hiercorr.design.samples import (
    donors_of_samples,
    sample_columns,
    sample_name,
    warn_of_repeated_donors,
    warn_of_varying_conditions,
)
from hiercorr.design.terms import split_terms
from hiercorr.errors import DataWarning, InputError, listed, text, true_or_false
from hiercorr.results import CorrelationResult, stream, tiling
from hiercorr.results.checkpoint import Checkpoint, fingerprint
from hiercorr.results.listed import stacked
from hiercorr.results.result import open_result
from hiercorr.results.specified import Specified, sample_text
from hiercorr.runtime import blas
from hiercorr.runtime.log import LOG, logged, pairs_of
from hiercorr.runtime.resources import memory_bytes, threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.within import fitting, pooled_covariates
from hiercorr.within.dataset import Provenance, within_dataset
from hiercorr.within.each_sample import each_sample
from hiercorr.within.listed_pairs import fit_list
from hiercorr.within.module_pairs import Weights, check_modules, fit_modules, module_units
from hiercorr.within.options import FitOptions, ModelFacts, Plan, make_plan
from hiercorr.within.score import fit_module_score, fit_score
from hiercorr.within.signature import check_signature, fit_signature

if TYPE_CHECKING:
    from hiercorr.within.dask import Cluster

_OF = {"signature": "of", "module": "of", "score": "compared with"}  # its features


class CSCore(Specified):
    r"""Correlation of genes between the cells of one type, from raw counts.

    Counts are Poisson given expression, :math:`x_{ij} | z_{ij} \sim Poisson(s_i z_{ij})`; the
    estimand is the correlation of z, which is free of dropout and sequencing depth. ``"within"``
    (default) centres every sample at its own mean and pools the moments of the samples;
    ``"pooled"`` is CS-CORE as published, over all cells. In both cases the uncertainty comes from
    the samples.

    Parameters
    ----------
    data : AnnData, MuData or path
        Cells x genes raw counts of ONE cell type (see `subset`); AnnData in memory or backed,
        MuData, .h5ad, .h5mu, .zarr, 10x .h5 or folder.
    sample : str or None
        Column of ``obs`` with the sample (donor, mouse) of each cell; None only with
        ``estimator="pooled"``.
    genes : sequence of str, bool mask or int, optional
        Names, mask, or N for the N most highly expressed genes. None: all expressed genes.
    layer : str, optional
        Layer with the raw counts, ``"raw"`` for ``adata.raw``; None for ``X``.
    depth : str, array, shape (n_obs,), or mapping, optional
        Sequencing depth in counts: obs column or array. None: row sums over all genes, before
        `genes` is applied, but without genes that dominate them (more than 10% of all counts each
        and 20% together), with a warning (``"trimmed"``); ``"total"``: with them. With several
        `modalities`, a mapping from the type of features to one of these; types that it does not
        name have the default.
    covariates : str or sequence of str, optional
        Formula (``"~ percent_mito + phase"``) or columns of obs. ``"within"``: terms that vary
        between the cells of a sample are regressed out of the counts of each sample separately
        (:mod:`hiercorr.within.cell_covariates`), so that the correlation is that of cells with
        equal covariates; terms with one value per sample are already part of the sample means.
        Expected counts are linear in the terms: a state w that multiplies expression needs a
        spline, ``"~ bs(w, df=4)"``.
        ``"pooled"``: adjusted for in the mean, variance and covariance regressions, as published.
    subset : bool array or mapping, optional
        Cells to use, e.g. ``{"cell_type": "B cells"}``.
    modalities : str or sequence of str, optional
        Types of features (``var["feature_types"]``, or the names of the modalities of a MuData) to
        analyse, e.g. ``["Gene Expression", "Antibody Capture"]``, or ``"all"``. Each type has its
        own depth, and pairs of two types (gene and protein, gene and peak) have both in their
        moments. Features are ordered by type; ``genes=N`` is N of each. None: genes alone.
    gene_names : str, optional
        Column of ``var`` with the names of the genes, e.g. symbols where ``var_names`` are Ensembl
        ids. The ids are kept, as the gene variable ``gene_id`` of the result, and name a gene as
        well. A gene without a name has its id; several genes with one name are told apart by
        theirs, as in ``"TBCE (ENSG00000285053)"``, with a warning. None: ``var_names``.
    depth_adjust : bool
        Regress log depth out of the counts of each sample, like a covariate of cells, so that genes
        whose expression changes with depth (variable ``depth_slope``, flag ``depth_dependent``) do
        not correlate through it. With several types of features, the log depth of each. True
        differences that go along with depth, as of cell size or cycle, are removed as well.
    block : str, optional
        Column of ``obs`` with the donor of each sample, where donors have several samples (time
        points, treatments, regions): moments are centred in each sample, and the donors are the
        units of the inference. ``covariates="~ (1 | donor)"`` is the same.
    min_cells : int
        Minimum number of cells per sample.
    small_samples : {"exclude", "error"}
        Whether samples with fewer cells are excluded or raise an error.
    memory_limit : int or str, optional
        Maximum memory for counts and result, in bytes or as text (``"4GiB"``); None: the memory
        that is free. Work that needs more raises an error that states the amount.
    scratch : path, optional
        Folder for a temporary file (8 bytes per non-zero count) that holds the counts instead of
        memory; deleted with the model.
    scheduler : dask.distributed.Client, str or callable, optional
        Where the sums over cells are computed: a Dask client, or a name or function that
        ``dask.compute`` accepts. The data may be any of the above; the chunks of a Dask-backed
        AnnData stay on their workers. See :mod:`hiercorr.within.dask`.

    Attributes
    ----------
    counts : Counts
        The validated counts.

    Notes
    -----
    A model answers from the data that it read. A target outside `genes` is read from the same
    matrix, and raises an error if its counts have changed since.

    References
    ----------
    Su et al. 2023, Nature Communications 14:4846.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> vehicle = {"condition": "ctrl"}  # one sample per patient
    >>> genes = ["FTL", "FTH1", "SPP1"]
    >>> options = {"depth": "total_counts", "genes": genes, "subset": vehicle}
    >>> model = hc.CSCore(adata, sample="sample_id", **options)
    >>> r = model.fit()
    >>> round(float(r.matrix().loc["FTL", "FTH1"]), 1)
    0.6
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | tuple[str, str] | None,
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | Mapping[str, Any] | None = None,
        covariates: str | Sequence[str] | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        modalities: str | Sequence[str] | None = None,
        gene_names: str | None = None,
        depth_adjust: bool = False,
        block: str | None = None,
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
        memory_limit: int | str | None = None,
        scratch: str | Path | None = None,
        scheduler: Any = None,
    ) -> None:
        covariates, block = _with_block(_copied(covariates), block)
        sample = sample_name(sample, optional=True)
        true_or_false("depth_adjust", depth_adjust)
        self.depth_adjust = depth_adjust
        self.sample, self.block, self.covariates = sample, block, covariates
        self.memory_limit = memory_limit
        self._metacells = isinstance(data, ad.AnnData) and METACELLS in data.uns
        limit = memory_bytes(memory_limit)
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
            block=block,
            modalities=modalities,
            gene_names=gene_names,
        )
        self._cluster: Cluster | None = None
        if scheduler is not None:
            if scratch is not None or covariates is not None or depth_adjust:
                raise InputError(
                    "scheduler= cannot be combined with scratch=, covariates= or depth_adjust=: "
                    "the workers store the counts"
                )
            if modalities is not None:
                raise InputError(
                    "scheduler= cannot be combined with modalities=: the workers know one depth of "
                    "each cell; leave out scheduler="
                )
            from hiercorr.within.dask import Cluster

            self._cluster = Cluster(data, layer, scheduler)
        backend = self._cluster or LocalBackend(limit, scratch)
        self._reader = CountReader(data, selection, backend=backend)
        self.counts = self._reader.counts
        LOG.info(
            "CSCore: read %d cells of %d samples, %d genes",
            self.counts.n_cells,
            self.counts.n_samples,
            self.counts.n_genes,
        )
        columns = sample_columns(self.counts.obs, self.counts.starts, self.counts.samples)
        self._cell_terms: list[str] = []
        self._sample_terms: list[str] = []
        if covariates is not None:
            make_design(covariates, self.counts.obs)
            known = [str(c) for c in self.counts.obs.columns]
            self._cell_terms, self._sample_terms = split_terms(covariates, columns, known)
        self._units: NDArray[np.int64] | None = None
        if block is not None:
            self._units = donors_of_samples(block, sample, self.counts.obs, columns)
            if self._units is None:
                self.block = block = None
        elif sample is not None:
            columns.pop(sample, None)
            warn_of_repeated_donors(
                columns,
                sample,
                self.counts.n_samples,
                "intervals are too narrow",
                "block={column}",
            )
        if sample is not None:
            warn_of_varying_conditions(
                self.counts.obs, self.counts.starts, sample, block, covariates
            )

    def _specification(self) -> dict[str, Any]:
        counts, donors = self.counts, None if self.block is None else self.n_donors
        return {
            "cells": counts.n_cells,
            "samples": None if self.sample is None else sample_text(counts.n_samples, self.sample),
            "donors": None if donors is None else sample_text(donors, self.block),
            "genes": counts.n_genes,
            "covariates of cells": self.covariates,
            "adjusted for depth": "yes" if self.depth_adjust else None,
        }

    @property
    def n_donors(self) -> int:
        """Number of donors, which are the samples unless `block` names others.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> hc.CSCore(adata, "sample_id", block="patient_id", depth="total_counts").n_donors
        5
        """
        return self.counts.n_samples if self._units is None else int(self._units.max()) + 1

    @property
    def _facts(self) -> ModelFacts:
        return ModelFacts(
            self.sample is not None,
            self.covariates is not None,
            self._cluster is not None,
            self.n_donors,
            None if self.memory_limit is None else memory_bytes(self.memory_limit),
            self.depth_adjust,
        )

    def fit(
        self,
        estimator: str = "within",
        uncertainty: str | None = None,
        *,
        weights: str | None = None,
        target: Target = None,
        pairs: Pairs = None,
        per_sample: bool = False,
        precision: str = "single",
        standardize: bool = True,
        covariate_level: str = "cell",
        adjust: Sequence[str] = pooled_covariates.PARTS,
        n_bootstrap: int = 1000,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
        out: str | Path | None = None,
        overwrite: bool = False,
        checkpoint: str | Path | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlations.

        Parameters
        ----------
        estimator : {"within", "pooled"}
            ``"within"``: moments centred in each sample, :math:`\phi_{jk} = \sum_c N_c / \sum_c
            D_c`, :math:`\rho = \phi_{jk}/\sqrt{\phi_{jj}\phi_{kk}}`. ``"pooled"``: CS-CORE as
            published, with its cell-level test as ``cell_statistic`` and ``cell_p_value``.
        uncertainty : {"hierarchical", "jackknife", "cluster", "bootstrap", "none"}, optional
            Inference over donors (samples, or their blocks). ``"hierarchical"``: each donor's
            sampling variance follows from its cells, and the pairs of a panel together show how
            much donors differ (:mod:`hiercorr.inference.random_effects`); powerful from 3 donors
            on, calibrated over the null pairs of a panel. ``"jackknife"``, ``"cluster"``,
            ``"bootstrap"``: standard error of each pair from its donors alone
            (:func:`hiercorr.inference.pairs.pair_estimate`). None: ``"hierarchical"`` for
            ``"within"``, and ``"jackknife"`` with fewer than 12 genes to learn from, fewer than 3
            donors or ``"pooled"``; ``"none"`` without samples and for ``"pooled"`` with covariates.
        weights : {"adaptive", "equal", "information"}, optional
            Weights of the donors, which define the average that is estimated. ``"adaptive"``
            (default of ``"hierarchical"``): :math:`1 / (\tau^2 + v_c)`, the average over the
            population of donors where a donor's correlation does not depend on its number or depth
            of cells; pairs where equal weights give another average are flagged
            ``weights_matter``. ``"equal"``: the average over donors whatever it depends on, with
            wider intervals where donors are unequal; other uncertainties than ``"hierarchical"``
            equalise the information of the donors for the median gene of the model only.
            ``"information"`` (default of the others): proportional to D, the average over cells.
        target : str or sequence of str, optional
            Estimate this gene, or each of these, against all others only; added to the genes if
            they are not among them. Several targets come first among the genes of the result, and
            share one family of tests: their distinct pairs.
        pairs : DataFrame, sequence of (str, str), mapping or path, optional
            Estimate these pairs only, at the cost of these pairs: a table with the columns
            ``gene_a`` and ``gene_b``, a list of pairs of names, a mapping from genes (regulators)
            to lists of partners, or a file (``.csv``, ``.tsv``, or ``.gmt``: the name of a set and
            its genes). They are the family of tests; how donors differ is learnt from the pairs of
            all genes of the model, as without `pairs`. See :func:`hiercorr.nearby_pairs` for genes
            and peaks.
        per_sample : bool
            Also estimate every pair in every sample, with tau^2 (Paule-Mandel), I^2 and Cochran's Q
            where every sample can be estimated, and a 95% prediction interval (estimator
            ``"within"``). The interval is that of the hierarchical model for a new donor
            (:meth:`hiercorr.CorrelationResult.prediction_interval`) where it is used; otherwise it
            averages over the confidence distribution of tau^2
            (:func:`hiercorr.inference.prediction.predict_new_sample`).
        precision : {"single", "double"}
            Precision of the large sums and of the output.
        standardize : bool
            Centre and scale covariates before the pooled regressions, as the front end of the R
            package does.
        covariate_level : {"cell", "count"}
            Whether covariates of the pooled estimator act on expression or on the observed counts.
        adjust : sequence of {"mean", "variance", "covariance"}
            Pooled regressions that include the covariates.
        n_bootstrap : int
            Number of resamples for ``uncertainty="bootstrap"``.
        confidence : float
            Confidence level of the intervals.
        seed : int or Generator, optional
            Seed of the bootstrap.
        out : path, optional
            Name of a ``.zarr`` result to which all pairs are written during the fit, so that they
            need not fit in memory; the returned result reads from it. q-values then have a relative
            error of at most 3e-5.
        overwrite : bool
            Replace an existing `out`.
        checkpoint : path, optional
            Folder for the sums of each sample and tile until the result is complete: after an
            interruption, or the death of the process, the same call resumes the fit and gives
            identical results.
        n_jobs : int, optional
            Number of threads. None: as many as BLAS and numba may use (``OMP_NUM_THREADS``,
            ``NUMBA_NUM_THREADS``, threadpoolctl).
        progress : bool, optional
            Whether to show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult

        Raises
        ------
        InputError
            If an option is not valid, does not fit the data, or has no effect with the others.

        Warns
        -----
        EstimationWarning
            If part of the result could not be estimated.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> r.top(n=3)["correlation"].round(2).to_dict()
        {'FTH1': 0.65, 'RPLP0': -0.49, 'RPS2': -0.47}
        >>> r.dataset.attrs["n_samples"]
        5
        """
        not_both(target, pairs)
        options = FitOptions(
            estimator=estimator,
            uncertainty=uncertainty,
            weights=weights,
            target=given_targets(target),
            pairs=given_pairs(pairs),
            per_sample=per_sample,
            precision=precision,
            standardize=standardize,
            covariate_level=covariate_level,
            adjust=adjust,
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            seed=seed,
            out=out,
            overwrite=overwrite,
            checkpoint=checkpoint,
            progress=progress,
        )
        options.check(self._facts)
        if options.published(self._facts) and self.counts.modalities is not None:
            raise InputError(
                "covariates of estimator='pooled' enter regressions with one depth, and the "
                "features are of several types: use estimator='within'"
            )
        options, counts = self._asked(options)
        plan = make_plan(counts, options, self._facts, self._units)
        if estimator == "within":
            plan = self._with_cells(plan, counts)
        if out is None:
            tiling.check_memory(
                counts.n_genes,
                counts.n_samples,
                tiling.n_rows(plan.rows),
                per_sample,
                plan.dtype,
                memory_bytes(self.memory_limit),
                streams=target is None,
                computed=True,
            )
        work = "CSCore.fit(estimator=%r, uncertainty=%r): %s of %d genes in %d tiles"
        with (
            threads(n_jobs),
            logged(
                work,
                estimator,
                plan.uncertainty,
                pairs_of(options.target),
                counts.n_genes,
                len(plan.tiles),
            ),
        ):
            if options.published(self._facts):
                return self._fit_published(counts, plan, options)
            return self._fit_pairs(counts, plan, options)

    def _asked(self, options: FitOptions) -> tuple[FitOptions, Counts]:
        """Return the options with the names of the data, and the counts with all genes asked."""
        if options.pairs is not None:
            pairs = options.pairs.named(self._reader.named)
            pairs = without_counts(pairs, self._reader.without_counts(pairs.genes))
            return replace(options, pairs=pairs), self._reader.with_genes(pairs.genes)
        if options.target is None:
            return options, self._reader.counts
        named = given_targets([str(self._reader.named(t)) for t in options.target])
        counts = self._reader.with_genes(options.target, first=named or ())
        return replace(options, target=named), counts

    def signature(
        self,
        genes: Sequence[str],
        name: str = "signature",
        weights: str | Mapping[str, float] = "equal",
        uncertainty: str | None = None,
        *,
        confidence: float = 0.95,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation within samples of a group of genes with every gene.

        The group is one target. Its expression is the weighted sum of the expression of its genes,
        corrected for the noise of counts as that of a gene. A gene of the group is compared with
        the others of the group.

        Parameters
        ----------
        genes : sequence of str
            At least 2 of the model's genes.
        name : str
            Name of the group, as the target of the result.
        weights : {"equal", "expression", "eigengene"} or mapping
            ``"equal"``: equal weights relative to the mean of each gene, as in a module score.
            ``"expression"``: the plain sum of expression, in which highly expressed genes weigh
            most, and which is more precise for sparse genes. ``"eigengene"``: the first principal
            component of standardised expression, from the noise-corrected correlations of the
            genes. A mapping gives the weight of each
            gene on relative expression; genes that go down have negative weights.
        uncertainty : {"hierarchical", "jackknife", "cluster", "none"}, optional
            Uncertainty over donors, as for :meth:`fit`: the distribution of what donors differ in
            is learnt from the pairs of the model's genes.
        confidence : float
            Confidence level of the intervals.
        n_jobs, progress
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            One target; ``signature_weight`` is the weight of each gene.

        Raises
        ------
        InputError
            If a gene is not in the model or has too few counts to be part of the group.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 50, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> r = model.signature(["FTL", "FTH1"], name="ferritin")
        >>> r.target, r.dataset.sizes["gene"]
        ('ferritin', 50)
        """
        self._check_constructed("signature", uncertainty)
        text("name", name)
        members, given = check_signature(genes, name, weights, self._reader.names)
        options, plan = self._one_target(uncertainty, confidence, progress)
        with threads(n_jobs), blas.at_most(1):
            at = self.counts.genes.get_indexer(members).astype(np.int64)
            fitted, extra = fit_signature(self.counts, at, given, plan)
        fitted.gene |= extra
        listed = f"{', '.join(members[:20])}{', ...' if len(members) > 20 else ''}"
        fitted.note = (
            f"{name}: {listed}; a gene of the group is compared with the others of the group."
        )
        provenance = self._provenance(plan, options)
        of_group = {
            "signature": name,
            "signature_size": len(members),
            "weights": weights if isinstance(weights, str) else "given",
        }
        provenance = replace(provenance, options=provenance.options | of_group)
        return CorrelationResult(within_dataset(self.counts, plan, fitted, name, provenance))

    def module_membership(
        self,
        sets: Sets,
        weights: Weights = "equal",
        uncertainty: str | None = None,
        *,
        confidence: float = 0.95,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation within samples of several modules with every gene.

        This is the membership of genes in modules (kME of WGCNA), with the noise of counts taken
        out and uncertainty over donors. Each module is a target, as by :meth:`signature`; a gene of
        a module is compared with the others of it. The pairs of all modules and genes are one
        family of tests.

        Parameters
        ----------
        sets : mapping, Modules or path
            Genes by name of the module, the modules of :func:`hiercorr.modules.find_modules`, or a
            GMT file, whose genes that are not in the model are left out.
        weights : {"equal", "expression", "eigengene"} or mapping
            As for :meth:`signature`; a mapping has the weights of the genes of all modules, or
            those of each module by its name, such as :meth:`module_weights` of other data.
        uncertainty : {"hierarchical", "jackknife", "cluster", "none"}, optional
            As for :meth:`signature`.
        confidence : float
            Confidence level of the intervals.
        n_jobs, progress
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            One target for each module.

        Raises
        ------
        InputError
            If a module has fewer than 2 genes, or a gene is not in the model.

        References
        ----------
        Langfelder & Horvath 2008, BMC Bioinformatics 9:559.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 50, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> sets = {"ferritin": ["FTL", "FTH1"], "ribosome": ["RPS2", "RPLP0"]}
        >>> r = model.module_membership(sets)
        >>> list(r.targets)
        ['ferritin', 'ribosome']
        """
        self._check_constructed("module", uncertainty)
        named, given = check_modules(sets, weights, self._reader.names)
        results = []
        for (name, genes), of_module in zip(named.items(), given, strict=True):
            each = (
                of_module
                if isinstance(of_module, str)
                else dict(zip(genes, of_module, strict=True))
            )
            results.append(
                self.signature(
                    genes,
                    name,
                    each,
                    uncertainty,
                    confidence=confidence,
                    n_jobs=n_jobs,
                    progress=progress,
                ).dataset
            )
        return CorrelationResult(stacked(results).assign_attrs(n_modules=len(named)))

    def module_correlation(
        self,
        sets: Sets,
        weights: Weights = "equal",
        uncertainty: str = "jackknife",
        *,
        confidence: float = 0.95,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation within samples of modules with each other.

        The expression of a module is the weighted sum of that of its genes, corrected for the noise
        of counts: covariances add up over the genes of both modules,

        .. math:: \rho_{AB} = \frac{\sum_{jk} a_j b_k \phi_{jk}}{\sqrt{\sum_{jl} a_j a_l \phi_{jl}
                  \sum_{km} b_k b_m \phi_{km}}},

        and the influences of the samples add up with them. A gene of two modules would be
        correlated with itself: it is left out of both for their pair, and a pair of which one
        module then has fewer than 2 genes is not estimated (flag ``nonpositive_variance``).

        Parameters
        ----------
        sets, weights
            As for :meth:`module_membership`; at least 2 modules.
        uncertainty : {"jackknife", "cluster", "hierarchical", "none"}
            ``"jackknife"``, ``"cluster"``: standard error of each pair from its donors alone.
            ``"hierarchical"`` takes from the pairs of genes how much donors differ. What genes of a
            module share does not average out in their sum, so that modules can differ more between
            donors than pairs of genes do, and p-values are then too small.
        confidence : float
            Confidence level of the intervals.
        n_jobs, progress
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            All pairs of modules, which take the place of genes.

        Raises
        ------
        InputError
            If there are fewer than 2 modules, a module has fewer than 2 genes, or a gene is not in
            the model.

        Warns
        -----
        DataWarning
            If modules share genes.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 50, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> sets = {"ferritin": ["FTL", "FTH1"], "ribosome": ["RPS2", "RPLP0"]}
        >>> r = model.module_correlation(sets)
        >>> bool(r.matrix().loc["ferritin", "ribosome"] < 0)
        True
        """
        text("uncertainty", uncertainty)
        self._check_constructed("module", uncertainty)
        named, given = check_modules(sets, weights, self._reader.names)
        if len(named) < 2:
            raise InputError(
                f"there is one module, {next(iter(named))!r}, and none to correlate it with: name "
                "another, or use module_membership() for its genes"
            )
        options, plan = self._one_target(uncertainty, confidence, progress)
        plan = replace(plan, rows=None)
        with threads(n_jobs), blas.at_most(1):
            at = [self.counts.genes.get_indexer(g).astype(np.int64) for g in named.values()]
            fitted, overlaps = fit_modules(self.counts, at, given, plan)
        note = overlaps.note()
        if note is not None:
            fitted.note = note
            warn(note, DataWarning)
        provenance = self._provenance(plan, options)
        of_modules = {
            "n_modules": len(named),
            "weights": weights if isinstance(weights, str) else "given",
        }
        provenance = replace(provenance, options=provenance.options | of_modules)
        return CorrelationResult(
            within_dataset(self.counts, plan, fitted, None, provenance, modules=list(named))
        )

    def module_weights(
        self, sets: Sets, weights: Weights = "eigengene", *, progress: bool | None = None
    ) -> dict[str, pd.Series]:
        r"""Compute the weights of the genes of modules on relative expression.

        The weights of one data set are used in another, which is a projection of its modules:
        ``other.module_correlation(sets, weights=model.module_weights(sets))``.

        Parameters
        ----------
        sets, weights
            As for :meth:`module_membership`. ``"eigengene"``: the leading eigenvector of the
            noise-corrected correlations within samples.
        progress
            As for :meth:`fit`.

        Returns
        -------
        dict of Series
            Weights by gene, for each module.

        Raises
        ------
        InputError
            If a module has fewer than 2 genes, or a gene is not in the model or has no variance.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 50, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> sets = {"ribosome": ["RPS2", "RPLP0", "RPS18"], "ferritin": ["FTL", "FTH1"]}
        >>> weights = model.module_weights(sets)
        >>> weights["ribosome"].index.to_list()
        ['RPS2', 'RPLP0', 'RPS18']
        >>> options["subset"] = {"condition": "panobinostat"}
        >>> other = hc.CSCore(adata, "sample_id", **options)
        >>> list(other.module_correlation(sets, weights=weights).genes)
        ['ribosome', 'ferritin']
        """
        self._check_constructed("module", None)
        named, given = check_modules(sets, weights, self._reader.names)
        _, plan = self._one_target("none", 0.95, progress)
        with blas.at_most(1):
            at = [self.counts.genes.get_indexer(g).astype(np.int64) for g in named.values()]
            problem = fitting.prepare(self.counts, plan)
            units = module_units(self.counts, problem, at, given)
        return {
            name: pd.Series(unit.weights, pd.Index(genes, name="gene"), name="weight")
            for (name, genes), unit in zip(named.items(), units, strict=True)
        }

    def score(
        self,
        score: str | ArrayLike | pd.Series,
        name: str | None = None,
        uncertainty: str | None = None,
        *,
        sets: Sets | None = None,
        weights: Weights | None = None,
        confidence: float = 0.95,
        n_jobs: int | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation within samples of a number per cell with every gene.

        The score, e.g. pseudotime, a protein, an area or an inferred activity, is one target. It is
        taken as measured, and expression is corrected for the noise of counts, so that sparse and
        rich genes can be compared. With y scaled in each sample to mean 0 and variance 1,

        .. math:: \rho_j = \frac{\sum_c N_c}{\sum_c D_c \sqrt{\phi_{jj}}}, \quad
                  N_c = \sum_i w_{ij} (x_{ij} - s_i \mu_{cj})\, y_i, \quad
                  E N_c = D_c \operatorname{cov}(z_j, y) / \mu_{cj},

        also if y follows depth (:mod:`hiercorr.within.score`). Measurement error of the score is
        part of it, and makes correlations smaller.

        Parameters
        ----------
        score : str, Series or array, shape (n_obs,)
            Column of ``obs``; a Series is aligned by its index, the names of the cells; other
            arrays are in the order of the data. Numbers; or booleans or two categories, of which
            the second (``True``) is 1 and the other 0.
        name : str, optional
            Name of the score, as the target of the result. None: that of the column or Series, else
            ``"score"``.
        uncertainty : {"hierarchical", "jackknife", "cluster", "none"}, optional
            Uncertainty over donors, as for :meth:`fit`: the distribution of what donors differ in
            is learnt from the pairs of the score with 60 or more genes, else from the pairs of the
            model's genes. With `sets`, ``"jackknife"`` (None), ``"cluster"`` or ``"none"``.
        sets : mapping, Modules or path, optional
            Modules that are compared with the score instead of genes, as for
            :meth:`module_membership`.
        weights : {"equal", "expression", "eigengene"} or mapping, optional
            Weights of the genes of the modules, as for :meth:`module_membership`; None:
            ``"equal"``.
        confidence : float
            Confidence level of the intervals.
        n_jobs, progress
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            One target, the score; with `sets`, modules take the place of genes. The attribute
            ``score_level`` is the category that is 1.

        Raises
        ------
        InputError
            If the score is missing in a cell, is not a number and has not two levels, or has the
            same value in all cells of every sample, or its name is that of a gene; or if a module
            is not valid.

        Warns
        -----
        DataWarning
            If the score is constant in some samples, which then have no information.

        Notes
        -----
        Covariates of cells (``covariates=``, ``depth_adjust=True``) are regressed out of the score
        as well: the correlation is that of cells with equal covariates. A score that was computed
        from the same counts contains their noise, and correlates through it with the genes it was
        computed from; use :meth:`signature` for a group of genes.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.ipsc_cycle()
        >>> model = hc.CSCore(adata, "donor", depth="depth", covariates="~ plate")
        >>> r = model.score("gfp")  # fluorescence of geminin, a protein of S, G2 and M
        >>> r.top(n=3).index.to_list()
        ['CDK1', 'TOP2A', 'UBE2C']
        """
        self._check_constructed("score", uncertainty)
        given = cell_score(self.counts, score, name)
        modules: dict[str, list[str]] | None = None
        if sets is not None:
            modules, of_genes = check_modules(
                sets, "equal" if weights is None else weights, self._reader.names
            )
            if given.name in modules:
                raise InputError(
                    f"{given.name!r} is the name of a module; choose another for the score (name=)"
                )
            if uncertainty == "hierarchical":
                raise InputError(
                    "uncertainty='hierarchical' takes from pairs of genes how much donors differ, "
                    "which is not known of modules: use 'jackknife' or 'cluster'"
                )
            uncertainty = "jackknife" if uncertainty is None else uncertainty
        elif weights is not None:
            raise InputError("weights= has no effect without sets=, the modules: leave it out")
        options, plan = self._one_target(uncertainty, confidence, progress)
        with threads(n_jobs), blas.at_most(1):
            if modules is None:
                fitted = fit_score(self.counts, given, plan)
            else:
                at = [self.counts.genes.get_indexer(g).astype(np.int64) for g in modules.values()]
                fitted = fit_module_score(self.counts, given, at, of_genes, plan)
        provenance = self._provenance(plan, options)
        of_score: dict[str, Any] = {
            "score": given.name,
            "score_source": given.source,
            "score_level": given.level,
        }
        if modules is not None:
            how = weights if isinstance(weights, str) else "equal" if weights is None else "given"
            of_score |= {"n_modules": len(modules), "weights": how}
        provenance = replace(provenance, options=provenance.options | of_score)
        names = None if modules is None else list(modules)
        return CorrelationResult(
            within_dataset(self.counts, plan, fitted, given.name, provenance, modules=names)
        )

    def _check_constructed(self, kind: str, uncertainty: str | None) -> None:
        """Raise an error if this model cannot estimate a target that is not a gene."""
        if self.sample is None or self._cluster is not None:
            raise InputError(
                f"a {kind} needs samples, named with sample=, and the counts in this process"
            )
        if self.counts.modalities is not None:
            raise InputError(
                f"a {kind} is {_OF[kind]} features with one depth, and this model has several "
                f"types ({', '.join(self.counts.modalities.names)}): make a model of one of them "
                "with modalities="
            )
        text("uncertainty", uncertainty, optional=True)
        if uncertainty == "bootstrap":
            raise InputError(
                f"uncertainty='bootstrap' is not available for a {kind}: use 'hierarchical', "
                "'jackknife' or 'cluster'"
            )

    def _one_target(
        self, uncertainty: str | None, confidence: float, progress: bool | None
    ) -> tuple[FitOptions, Plan]:
        """Return options and plan of a target that is not a gene."""
        options = FitOptions(
            uncertainty=uncertainty,
            precision="double",
            confidence=confidence,
            progress=progress,
        )
        options.check(self._facts)
        plan = make_plan(self.counts, options, self._facts, self._units)
        return options, self._with_cells(replace(plan, rows=slice(0, 1)), self.counts)

    def _fit_published(self, counts: Counts, plan: Plan, options: FitOptions) -> CorrelationResult:
        """Fit the pooled regressions with covariates."""
        assert self.covariates is not None
        design = make_design(self.covariates, counts.obs, options.standardize)
        fitted = fitting.fit_covariates(
            counts, plan, design, options.covariate_level, tuple(options.adjust)
        )
        provenance = self._provenance(plan, options)
        target = public_target(options.target)
        return CorrelationResult(within_dataset(counts, plan, fitted, target, provenance))

    def _fit_pairs(self, counts: Counts, plan: Plan, options: FitOptions) -> CorrelationResult:
        """Fit all pairs, or the target's, and keep the sums until they are complete if asked to."""
        if options.checkpoint is None:
            return self._fit_tiles(counts, plan, options, None)
        listed = () if options.pairs is None else (list(options.pairs.a), list(options.pairs.b))
        asked = (plan.estimator, plan.precision, plan.uncertainty == "none", plan.tiles, *listed)
        stored = Checkpoint(Path(options.checkpoint), fingerprint(counts, asked))
        try:
            result = self._fit_tiles(counts, plan, options, stored)
            stored.finish()
        finally:
            stored.close()
        return result

    def _fit_tiles(
        self, counts: Counts, plan: Plan, options: FitOptions, stored: Checkpoint | None
    ) -> CorrelationResult:
        """Fit in memory, or stream to disk."""
        provenance = self._provenance(plan, options)
        if options.pairs is not None:
            return self._fit_list(counts, plan, options, options.pairs, stored)
        target = public_target(options.target)
        if options.out is None:
            output = tiling.PairOutput(
                counts.n_genes,
                plan.rows,
                plan.dtype,
                without_interval=plan.silent(counts.n_samples),
            )
            problem = self._run(counts, plan, output, stored, options.per_sample)
            fitted = problem.fitted(output.finish())
            result = CorrelationResult(within_dataset(counts, plan, fitted, target, provenance))
        else:
            folder = Path(options.out)
            given = (folder, plan.tiles, plan.dtype, options.overwrite, plan.rows, counts.n_genes)
            with stream.opened(*given) as streamed:
                problem = self._run(counts, plan, streamed, stored, options.per_sample)
                streamed.q_values()
                rest = within_dataset(
                    counts, plan, problem.fitted({}), target, provenance, streamed.missing
                )
                result = open_result(streamed.finish(rest))
        return result

    def _fit_list(
        self,
        counts: Counts,
        plan: Plan,
        options: FitOptions,
        pairs: PairList,
        stored: Checkpoint | None,
    ) -> CorrelationResult:
        """Fit listed pairs."""

        def also(part: Counts) -> list[fitting.Also]:
            return [each_sample(part)] if options.per_sample else []

        problem = fitting.prepare(counts, plan)
        found = fit_list(counts, problem, pairs.positions(counts.genes), also, stored)
        fitted = replace(problem.fitted(found), follow=None)
        provenance = self._provenance(plan, options)
        return CorrelationResult(
            within_dataset(counts, plan, fitted, None, provenance, listed=(pairs.a, pairs.b))
        )

    def _run(
        self,
        counts: Counts,
        plan: Plan,
        output: fitting.Output,
        stored: Checkpoint | None,
        per_sample: bool,
    ) -> fitting.WithinProblem:
        if self._cluster is None:
            also = [each_sample(counts)] if per_sample else []
            return fitting.fit_here(counts, plan, output, stored, also)
        return self._cluster.fit(counts, plan, output)

    def _provenance(self, plan: Plan, options: FitOptions) -> Provenance:
        """Collect what the attributes of the result record."""
        recorded: dict[str, Any] = {}
        if self.covariates is not None and plan.cells is not None:
            recorded = {
                "formula": "~ " + " + ".join(self._cell_terms + self._sample_terms),
                "cell_terms": " + ".join(self._cell_terms),
                "sample_terms": " + ".join(self._sample_terms) or "none",
            }
        if plan.depth_adjusted:
            recorded["depth_adjust"] = 1
        if options.published(self._facts):
            recorded |= {
                "adjusted_parts": ", ".join(options.adjust) or "none",
                "covariate_level": options.covariate_level,
                "standardized": int(options.standardize),
            }
        if plan.draws is not None:
            recorded["n_bootstrap"] = len(plan.draws)
        seed = options.seed
        return Provenance(
            self.sample,
            self._metacells,
            {**recorded, "seed": seed if isinstance(seed, int) else None},
        )

    def _with_cells(self, plan: Plan, counts: Counts) -> Plan:
        """Add the design matrix of covariates of cells, and of log depth, to a plan."""
        parts = [] if self.covariates is None else [self._cell_design(counts)]
        if self.depth_adjust:
            parts = parts or [np.ones((counts.n_cells, 1))]
            depth = [np.log(part.depth) for part in counts.by_type()]
            parts.append(np.column_stack(depth))
        if not parts:
            return plan
        return replace(plan, cells=np.hstack(parts), depth_adjusted=self.depth_adjust)

    def _cell_design(self, counts: Counts) -> np.ndarray:
        """Build the design matrix of the terms that vary between the cells of a sample."""
        if not self._cell_terms:
            raise InputError(
                f"covariates {self.covariates!r} have one value in each sample, which cannot "
                "change a correlation within samples: leave them out, or compare samples with "
                "hc.differential; or fit(estimator='pooled')"
            )
        return make_design("~ " + " + ".join(self._cell_terms), counts.obs).matrix


def _with_block(
    covariates: str | list[str] | None, block: str | None
) -> tuple[str | list[str] | None, str | None]:
    """Take a random intercept out of a formula: it names the block."""
    text("block", block, optional=True)
    if not isinstance(covariates, str):
        return covariates, block
    fixed, columns = random_blocks(covariates, block)
    if not columns:
        return covariates, block
    return (None if fixed is None or fixed.replace(" ", "") in ("~", "~1") else fixed), columns[0]


def _copied(covariates: str | Sequence[str] | None) -> str | list[str] | None:
    """Check the type of the covariates, and copy a list of columns."""
    if covariates is None or (isinstance(covariates, str) and covariates.strip()):
        return covariates
    expected = "a formula or a list of obs columns"
    names = listed("covariates", covariates, expected)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"covariates must be {expected}, not {covariates!r}")
    return names
