"""CS-CORE: co-expression within a cell type, with uncertainty whose n is the number of samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiercorr import _covariates, _estimates, _tiles, inference
from hiercorr.data import METACELLS, MIN_CELLS, Counts, read_counts
from hiercorr.design import make_design, sample_columns, warn_of_repeated_donors
from hiercorr.errors import EstimationWarning, InputError
from hiercorr.results import CorrelationResult
from hiercorr.schema import build_dataset


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
        Formula (``"~ age + condition"``) or columns of obs, adjusted for in the mean, variance and covariance
        regressions of the pooled estimator.
    subset : bool array or mapping, optional
        Cells to use, e.g. ``{"cell_type": "B cells"}``.
    min_cells : int
        Samples with fewer cells are left out (``small_samples="exclude"``) or refused (``"error"``).
    small_samples : {"exclude", "error"}

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
    ) -> None:
        self.sample = sample
        self.covariates = covariates
        self._metacells = isinstance(data, ad.AnnData) and METACELLS in data.uns
        self._read: Callable[[Sequence[str]], Counts] = lambda always: read_counts(
            data, sample=sample, genes=genes, layer=layer, depth=depth, subset=subset, min_cells=min_cells,
            small_samples=small_samples, always=always,
        )  # fmt: skip
        self.counts = self._read(())
        if covariates is not None:
            make_design(covariates, self.counts.obs)
        if sample is not None:
            columns = sample_columns(self.counts.obs.drop(columns=sample), self.counts.starts, self.counts.samples)
            warn_of_repeated_donors(
                columns, sample, self.counts.n_samples, "intervals are too narrow", "sample={column}"
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
        adjust: Sequence[str] = _covariates.PARTS,
        n_bootstrap: int = 1000,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
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
            How samples give the standard error (see :func:`hiercorr.inference.pair_estimate`). None: ``"jackknife"``,
            or ``"none"`` where there are no samples or there are covariates.
        target : str, optional
            Estimate this gene against all others only; it joins the genes if it is not among them.
        per_sample : bool
            Also estimate every pair in every sample, with tau^2 (Paule-Mandel), I^2 and a 95% prediction interval where
            every sample can (estimator ``"within"``).
        precision : {"single", "double"}
            Of the large sums and outputs.
        standardize : bool
            Centre and scale covariates before the regressions, as the front end of the R package does.
        covariate_level : {"cell", "count"}
            Covariates act on expression or on the observed counts.
        adjust : sequence of {"mean", "variance", "covariance"}
            Regressions that the covariates enter.
        n_bootstrap : int
            Resamples of the samples for ``uncertainty="bootstrap"``.
        confidence : float
            Level of the intervals.
        seed : int or Generator, optional
            For the bootstrap.
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
        named = self._with_target(target)
        # Sparse genes first: of two genes, the sparser one decides how a pair is computed.
        order = np.argsort(named.detection, kind="stable")
        counts = named.take(order)
        plan = self._plan(counts, estimator, uncertainty, target, per_sample, precision, confidence, n_bootstrap, seed,
                          progress, order)  # fmt: skip
        _tiles.check_memory(counts.n_genes, counts.n_samples, target is not None, per_sample, plan.dtype)
        if self.covariates is not None:
            design = make_design(self.covariates, counts.obs, standardize)
            fitted = _estimates.fit_covariates(counts, plan, design, covariate_level, tuple(adjust))
        elif estimator == "pooled":
            fitted = _estimates.fit_pooled(counts, plan)
        else:
            fitted = _estimates.fit_within(counts, plan)
        return self._result(named, plan, fitted, target, seed)

    def _with_target(self, target: str | None) -> Counts:
        if target is not None and target not in self.counts.genes:
            return self._read((target,))
        return self.counts

    def _plan(
        self, counts: Counts, estimator: str, uncertainty: str | None, target: str | None, per_sample: bool,
        precision: str, confidence: float, n_bootstrap: int, seed: Any, progress: bool | None,
        order: NDArray[np.int64],
    ) -> _estimates.Plan:  # fmt: skip
        if estimator not in ("within", "pooled"):
            raise InputError(f"estimator must be 'within' or 'pooled', not {estimator!r}")
        if uncertainty is not None and uncertainty not in inference.UNCERTAINTIES:
            raise InputError(f"uncertainty must be one of {inference.UNCERTAINTIES}, not {uncertainty!r}")
        if precision not in _tiles.DTYPE:
            raise InputError(f"precision must be 'single' or 'double', not {precision!r}")
        if not 0 < confidence < 1:
            raise InputError(f"confidence must lie between 0 and 1, not {confidence!r}")
        if estimator == "within" and self.sample is None:
            raise InputError("estimator='within' needs samples: name the obs column that holds them with sample=")
        if self.covariates is not None and estimator == "within":
            raise InputError(
                "covariates adjust the pooled estimator: use fit(estimator='pooled'), or leave covariates out; what is "
                "constant within a sample (condition, sex, batch) cannot change a correlation within samples"
            )
        if per_sample and estimator != "within":
            raise InputError("per_sample=True goes with estimator='within'")
        if uncertainty not in (None, "none"):
            if self.covariates is not None:
                raise InputError(
                    f"uncertainty={uncertainty!r} is not available with covariates; use uncertainty='none'"
                )
            if self.sample is None:
                raise InputError(f"uncertainty={uncertainty!r} needs samples: name their obs column with sample=")
        chosen = uncertainty or ("none" if self.sample is None or self.covariates is not None else "jackknife")
        if chosen != "none" and counts.n_samples < 3:
            warnings.warn(
                f"{counts.n_samples} samples give an estimate but no interval: at least 3 are needed; se, p_value and "
                "q_value are NaN and flagged too_few_samples",
                EstimationWarning,
                stacklevel=3,
            )
        draws = None
        if chosen == "bootstrap" and counts.n_samples >= 3:
            if n_bootstrap < 100:
                raise InputError(f"n_bootstrap={n_bootstrap}: at least 100 resamples are needed for a standard error")
            draws = inference.bootstrap_draws(counts.n_samples, n_bootstrap, seed)
        rows = None
        if target is not None:
            at = int(counts.genes.get_loc(target))
            rows = slice(at, at + 1)
        return _estimates.Plan(estimator, chosen, precision, confidence, per_sample, rows, draws, progress, order)

    def _result(
        self, counts: Counts, plan: _estimates.Plan, fitted: _estimates.Fitted, target: str | None, seed: Any
    ) -> CorrelationResult:
        if "p_value" in fitted.pair:
            _tiles.add_q_values(fitted.pair, plan.rows)
        if not fitted.converged:
            warnings.warn(
                f"the mean and variance regressions still changed after {fitted.iterations} rounds of reweighting "
                "(attribute converged is 0); genes near zero variance cause this: choose fewer with genes=N",
                EstimationWarning,
                stacklevel=3,
            )
        missing = float(np.mean(np.isnan(fitted.pair["correlation"])))
        if missing > 0:
            warnings.warn(
                f"{missing:.1%} of the pairs could not be estimated (no variance beyond noise, or an estimate outside "
                "-1..1); they are NaN and flagged, see result.flag_counts()",
                EstimationWarning,
                stacklevel=3,
            )
        dataset = build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=fitted.pair,
            gene={k: v[np.argsort(plan.order)] for k, v in fitted.gene.items()},
            sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
            target=target,
            attrs={
                "title": ("exploratory: metacells, " if self._metacells else "")
                + "CS-CORE, "
                + ("within samples" if plan.estimator == "within" else "pooled over samples"),
                "model": "CSCore",
                "estimator": plan.estimator,
                "level": "within" if plan.estimator == "within" else "pooled",
                "formula": fitted.formula,
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
        return CorrelationResult(dataset.assign(fitted.extra))
