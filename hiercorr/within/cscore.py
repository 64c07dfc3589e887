"""CS-CORE: co-expression within a cell type, with uncertainty whose n is the number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from hiercorr.counts.backend import LocalBackend
from hiercorr.counts.counts import METACELLS, MIN_CELLS, Counts
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.design.matrix import make_design
from hiercorr.design.samples import sample_columns, warn_of_repeated_donors
from hiercorr.design.terms import split_terms
from hiercorr.errors import EstimationWarning, InputError, unknown_name
from hiercorr.results import stream, tiling
from hiercorr.results.result import CorrelationResult, load
from hiercorr.runtime import blas
from hiercorr.runtime.resources import memory_bytes, threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import build_dataset
from hiercorr.within import fitting, pooled_covariates
from hiercorr.within.checkpoint import Checkpoint, fingerprint
from hiercorr.within.options import Plan, make_plan
from hiercorr.within.signature import fit_signature

if TYPE_CHECKING:
    from hiercorr.within.dask import Cluster


class CSCore:
    r"""Correlation of genes between the cells of one type, from raw counts.

    Counts are Poisson around expression, :math:`x_{ij} | z_{ij} \sim Poisson(s_i z_{ij})`; the correlation is that of z,
    so neither dropout nor depth is part of it. ``"within"`` (default) centres every sample at its own mean and pools the
    moments of the samples; ``"pooled"`` is CS-CORE as published, over all cells. In both, the uncertainty comes from the
    samples.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts of ONE cell type (see `subset`); AnnData in memory or backed, .h5ad, .zarr, 10x .h5.
    sample : str or None
        Column of ``obs`` with the sample (donor, mouse) of each cell; None only with ``estimator="pooled"``.
    genes : sequence of str, bool mask or int, optional
        Names, mask, or N for the N most highly expressed. None: all expressed genes.
    layer : str, optional
        Layer with the raw counts, ``"raw"`` for ``adata.raw``; None for ``X``.
    depth : str or array, shape (n_obs,), optional
        Sequencing depth in counts: obs column or array. None: row sums over all genes, before `genes` is applied.
    covariates : str or sequence of str, optional
        Formula (``"~ percent_mito + phase"``) or columns of obs. ``"within"``: terms that vary between the cells of a sample
        are regressed out of the counts in each sample by itself (:mod:`hiercorr.within.cell_covariates`), so that the correlation is that
        of cells alike in them; terms with one value a sample are part of the samples' own means already. ``"pooled"``:
        adjusted for in the mean, variance and covariance regressions, as published.
    subset : bool array or mapping, optional
        Cells to use, e.g. ``{"cell_type": "B cells"}``.
    min_cells : int
        Samples with fewer cells are left out (``small_samples="exclude"``) or refused (``"error"``).
    small_samples : {"exclude", "error"}
    memory_limit : int or str, optional
        Memory that counts and result may take, in bytes or as text (``"4GiB"``); None: what is free. Work that needs more
        is refused with the amount.
    scratch : path, optional
        Folder for a file (8 bytes a non-zero count) that holds the counts in the place of memory; it is gone when the
        model is.
    scheduler : dask.distributed.Client or str, optional
        Where the sums over cells are made: a Dask client, or a name as ``dask.compute`` takes it. The data may be any of
        the above; of a Dask-backed AnnData each chunk stays on the worker that has it. See :mod:`hiercorr.within.dask`.

    Attributes
    ----------
    counts : Counts
        The validated counts.

    References
    ----------
    Su et al. 2023, Nature Communications 14:4846.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> vehicle = {"condition": "ctrl"}  # one sample a patient
    >>> genes = ["FTL", "FTH1", "SPP1"]
    >>> model = hc.CSCore(adata, sample="sample_id", depth="total_counts", genes=genes, subset=vehicle)
    >>> r = model.fit()
    >>> round(float(r.matrix().loc["FTL", "FTH1"]), 1)
    0.6
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | None,
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        covariates: str | Sequence[str] | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
        memory_limit: int | str | None = None,
        scratch: str | Path | None = None,
        scheduler: Any = None,
    ) -> None:
        self.sample = sample
        self.covariates = covariates
        self.memory_limit = memory_limit
        self._metacells = isinstance(data, ad.AnnData) and METACELLS in data.uns
        memory_bytes(memory_limit)
        self._cluster: Cluster | None = None
        if scheduler is not None and (scratch is not None or covariates is not None):
            raise InputError(
                "scheduler= cannot be combined with scratch= or covariates=: the workers store the counts"
            )
        if scheduler is not None:
            from hiercorr.within.dask import Cluster

            self._cluster = Cluster(data, layer, scheduler)
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
        )
        backend = self._cluster or LocalBackend(memory_bytes(memory_limit), scratch)
        self._reader = CountReader(data, selection, backend=backend)
        self.counts = self._reader.counts
        columns = sample_columns(self.counts.obs, self.counts.starts, self.counts.samples)
        self._of_cells: list[
            str
        ] = []  # terms of the covariates that vary between cells of a sample, and those that do not
        self._of_samples: list[str] = []
        if covariates is not None:
            make_design(covariates, self.counts.obs)
            known = [str(c) for c in self.counts.obs.columns]
            self._of_cells, self._of_samples = split_terms(covariates, columns, known)
        if sample is not None:
            columns.pop(sample, None)
            warn_of_repeated_donors(
                columns,
                sample,
                self.counts.n_samples,
                "intervals are too narrow",
                "sample={column}",
            )

    def fit(
        self,
        estimator: str = "within",
        uncertainty: str | None = None,
        *,
        target: str | None = None,
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
            ``"within"``: moments centred in each sample, :math:`\phi_{jk} = \sum_c N_c / \sum_c D_c`,
            :math:`\rho = \phi_{jk}/\sqrt{\phi_{jj}\phi_{kk}}`. ``"pooled"``: CS-CORE as published, with its cell-level
            test as ``cell_statistic`` and ``cell_p_value``.
        uncertainty : {"jackknife", "cluster", "bootstrap", "none"}, optional
            How samples give the standard error (see :func:`hiercorr.inference.pairs.pair_estimate`). None: ``"jackknife"``,
            or ``"none"`` where there are no samples, and for ``"pooled"`` with covariates.
        target : str, optional
            Estimate this gene against all others only; it joins the genes if it is not among them.
        per_sample : bool
            Also estimate every pair in every sample, with tau^2 (Paule-Mandel), I^2 and a 95% prediction interval where
            every sample can (estimator ``"within"``).
        precision : {"single", "double"}
            Of the large sums and outputs.
        standardize : bool
            Pooled: centre and scale covariates before the regressions, as the front end of the R package does.
        covariate_level : {"cell", "count"}
            Pooled: covariates act on expression or on the observed counts.
        adjust : sequence of {"mean", "variance", "covariance"}
            Pooled: regressions that the covariates enter.
        n_bootstrap : int
            Resamples of the samples for ``uncertainty="bootstrap"``.
        confidence : float
            Level of the intervals.
        seed : int or Generator, optional
            For the bootstrap.
        out : path, optional
            Name of a ``.zarr`` result that all pairs are written to as they are made, so that it need not fit in memory;
            the result that is returned reads from there. q-values are then exact to 3e-5 of themselves.
        overwrite : bool
            Replace what is at `out`.
        checkpoint : path, optional
            Folder in which the sums of each sample and tile are kept until the result is whole: the same call after an
            interruption, also after the death of the process, goes on from there and ends with the same numbers.
        n_jobs : int, optional
            Threads. None: what BLAS and numba may use (``OMP_NUM_THREADS``, ``NUMBA_NUM_THREADS``, threadpoolctl).
        progress : bool, optional
            Show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult

        Raises
        ------
        InputError
            If an option is unknown or does not fit the data.

        Warns
        -----
        EstimationWarning
            If some of the result could not be estimated.
        """
        counts = self._reader.with_gene(target)
        published = self.covariates is not None and estimator == "pooled"
        plan = make_plan(
            counts,
            estimator,
            uncertainty,
            target,
            precision,
            confidence,
            n_bootstrap,
            seed,
            progress,
            sampled=self.sample is not None,
            published=published,
            apart=out is not None or self._cluster is not None,
        )
        if estimator == "within" and self.covariates is not None:
            plan = replace(plan, cells=self._cell_design(counts))
        self._refuse_combinations(estimator, target, per_sample, out, checkpoint)
        limit = memory_bytes(self.memory_limit)
        if out is None:
            tiling.check_memory(
                counts.n_genes,
                counts.n_samples,
                target is not None,
                per_sample,
                plan.dtype,
                limit,
                streams=target is None,
            )
        with threads(n_jobs):
            if self.covariates is not None and published:
                design = make_design(self.covariates, counts.obs, standardize)
                fitted = fitting.fit_covariates(
                    counts, plan, design, covariate_level, tuple(adjust)
                )
                return CorrelationResult(self._dataset(counts, plan, fitted, target, seed))
            kept = None
            if checkpoint is not None:
                key = fingerprint(
                    counts, (plan.estimator, plan.precision, plan.uncertainty == "none", plan.tiles)
                )
                kept = Checkpoint(Path(checkpoint), key)
            if out is None:
                silent = plan.silent(counts.n_samples)
                output = tiling.PairOutput(
                    counts.n_genes, plan.rows, plan.dtype, without_interval=silent
                )
                problem = self._run(counts, plan, output, kept, per_sample)
                fitted = problem.fitted(output.finish())
                result = CorrelationResult(self._dataset(counts, plan, fitted, target, seed))
            else:
                with stream.opened(Path(out), plan.tiles, plan.dtype, overwrite) as streamed:
                    problem = self._run(counts, plan, streamed, kept, per_sample)
                    streamed.q_values()
                    rest = self._dataset(
                        counts, plan, problem.fitted({}), target, seed, missing=streamed.missing
                    )
                    result = load(streamed.finish(rest), lazy=True)
            if kept is not None:
                kept.finish()
            return result

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
        r"""Correlation within samples of a group of genes, as one target, with every gene.

        The group's expression is the weighted sum of its genes' expression; noise of counts is taken out as from a gene's.
        A gene of the group is compared with the others of the group.

        Parameters
        ----------
        genes : sequence of str
            At least 2 of the model's genes.
        name : str
            Of the group, as the result's target.
        weights : {"equal", "expression"} or mapping
            ``"equal"``: every gene counts the same relative to its mean, as in a module score. ``"expression"``: the plain
            sum of expression, in which highly expressed genes weigh most, and which is the more precise for sparse genes. A
            mapping gives each gene its weight on relative expression; genes that go down have negative ones.
        uncertainty : {"jackknife", "cluster", "none"}, optional
            As for :meth:`fit`.
        confidence, n_jobs, progress
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            One target; ``signature_weight`` is each gene's weight.

        Raises
        ------
        InputError
            If a gene is not in the model or its counts are too few to be part of the group.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> model = hc.CSCore(adata, "sample_id", depth="total_counts", genes=50, subset={"condition": "ctrl"})
        >>> r = model.signature(["FTL", "FTH1"], name="ferritin")
        >>> r.target, r.dataset.sizes["gene"]
        ('ferritin', 50)
        """
        chosen = list(dict.fromkeys(genes))
        if self.sample is None or self._cluster is not None:
            raise InputError(
                "a signature needs samples, named with sample=, and the counts in this process"
            )
        if uncertainty == "bootstrap":
            raise InputError(
                "uncertainty='bootstrap' is not available for a signature: use 'jackknife' or 'cluster'"
            )
        if len(chosen) < 2:
            raise InputError(
                f"a signature needs at least 2 genes; {len(chosen)} given: use fit(target=)"
            )
        if name in self.counts.genes:
            raise InputError(
                f"name={name!r} is the name of a gene; choose another for the signature"
            )
        for gene in chosen:
            if gene not in self.counts.genes:
                raise unknown_name("gene of the signature", gene, self.counts.genes)
        given = _signature_weights(weights, chosen)
        plan = make_plan(
            self.counts,
            "within",
            uncertainty,
            None,
            "double",
            confidence,
            progress=progress,
            sampled=True,
        )
        cells = None if self.covariates is None else self._cell_design(self.counts)
        plan = replace(plan, rows=slice(0, 1), cells=cells)
        with threads(n_jobs), blas.at_most(1):
            members = self.counts.genes.get_indexer(chosen).astype(np.int64)
            fitted, extra = fit_signature(self.counts, members, given, plan)
        fitted.gene |= extra
        said = f"{name}: {', '.join(chosen[:20])}{', ...' if len(chosen) > 20 else ''}"
        fitted.note = f"{said}; a gene of the group is compared with the others of the group."
        dataset = self._dataset(self.counts, plan, fitted, name, None)
        return CorrelationResult(
            dataset.assign_attrs(
                signature=name, weights=weights if isinstance(weights, str) else "given"
            )
        )

    def _run(
        self,
        counts: Counts,
        plan: Plan,
        output: fitting.Output,
        kept: Checkpoint | None,
        per_sample: bool,
    ) -> fitting.WithinProblem:
        if self._cluster is None:
            also = [fitting.each_sample(counts)] if per_sample else []
            return fitting.fit_here(counts, plan, output, kept, also)
        return self._cluster.fit(counts, plan, output)

    def _refuse_combinations(
        self, estimator: str, target: str | None, per_sample: bool, out: Any, checkpoint: Any
    ) -> None:
        if out is not None:
            for unfit, why in (
                (
                    target is not None,
                    "one gene against all fits in memory: leave out= and use save()",
                ),
                (
                    per_sample,
                    "per_sample=True keeps every sample's estimates, which are not streamed: use target=",
                ),
                (
                    self.covariates is not None and estimator == "pooled",
                    "covariates= of the pooled estimator are fitted in memory: choose fewer genes (genes=N)",
                ),
            ):
                if unfit:
                    raise InputError(f"out= is for all pairs of a large fit; {why}")
        if per_sample and estimator != "within":
            raise InputError("per_sample=True goes with estimator='within'")
        if checkpoint is not None and (self.covariates is not None or self._cluster is not None):
            raise InputError(
                "checkpoint= keeps sums of this process without covariates: leave it out"
            )
        if self._cluster is not None and per_sample:
            raise InputError(
                "per_sample=True needs the cells in this process: leave out scheduler=, e.g. with fewer genes (genes=)"
            )

    def _terms(self, plan: Plan) -> dict[str, str]:
        """What the covariates were taken for."""
        if plan.cells is None:
            return {}
        return {
            "formula": "~ " + " + ".join(self._of_cells + self._of_samples),
            "cell_terms": " + ".join(self._of_cells),
            "sample_terms": " + ".join(self._of_samples) or "none",
        }

    def _cell_design(self, counts: Counts) -> np.ndarray:
        """Design matrix of the terms that vary between the cells of a sample."""
        if not self._of_cells:
            raise InputError(
                f"covariates {self.covariates!r} have one value in each sample, which cannot change a correlation within "
                "samples: leave them out, or compare samples with hc.differential; or fit(estimator='pooled')"
            )
        return make_design("~ " + " + ".join(self._of_cells), counts.obs).matrix

    def _dataset(
        self,
        counts: Counts,
        plan: Plan,
        fitted: fitting.WithinEstimates,
        target: str | None,
        seed: Any,
        missing: int | None = None,
    ) -> xr.Dataset:
        """The result in the schema; with `missing` (entries without a correlation), all but its pair variables."""
        if "p_value" in fitted.pair:
            tiling.add_q_values(fitted.pair, plan.rows)
        if not fitted.converged:
            warn(
                f"the mean and variance regressions still changed after {fitted.iterations} rounds of reweighting "
                "(attribute converged is 0); genes near zero variance cause this: choose fewer with genes=N",
                EstimationWarning,
            )
        share = (
            missing / counts.n_genes**2
            if missing is not None
            else float(np.mean(np.isnan(fitted.pair["correlation"])))
        )
        if share > 0:
            warn(
                f"{share:.1%} of the pairs could not be estimated (no variance beyond noise, or an estimate outside "
                "-1..1); they are NaN and flagged, see result.flag_counts()",
                EstimationWarning,
            )
        dataset = build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=fitted.pair,
            gene=fitted.gene,
            sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
            target=target,
            tested=not plan.silent(counts.n_samples),
            attrs={
                "title": ("exploratory: metacells, " if self._metacells else "")
                + "CS-CORE, "
                + ("within samples" if plan.estimator == "within" else "pooled over samples"),
                "model": "CSCore",
                "estimator": plan.estimator,
                "level": "within" if plan.estimator == "within" else "pooled",
                "formula": fitted.formula,
                **self._terms(plan),
                "uncertainty": plan.uncertainty,
                "confidence": plan.confidence,
                "precision": plan.precision,
                "n_cells": counts.n_cells,
                "sample_column": self.sample,
                "theta": fitted.theta,
                "iterations": fitted.iterations,
                "converged": int(fitted.converged),
                "seed": seed if isinstance(seed, int) else None,
                "note": fitted.note,
                "exploratory": 1 if self._metacells else None,
                **{k: v for k, v in counts.notes.items() if v},
            },
        )
        return dataset.assign(fitted.extra)


def _signature_weights(weights: str | Mapping[str, float], genes: list[str]) -> np.ndarray | str:
    if isinstance(weights, str):
        if weights not in ("equal", "expression"):
            raise InputError(
                f"weights must be 'equal', 'expression' or a mapping from gene to weight, not {weights!r}"
            )
        return weights
    for gene in genes:
        if gene not in weights:
            raise InputError(f"weights= has no weight of gene {gene!r}")
    given = np.array([weights[g] for g in genes], float)
    if not np.isfinite(given).all() or not given.all():
        k = int(np.flatnonzero(~np.isfinite(given) | (given == 0))[0])
        raise InputError(f"the weight of {genes[k]!r} is {given[k]}: weights are finite and not 0")
    return given
