"""Exploratory: Pearson and Spearman correlation of log-normalised cells, aware of samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import special, stats

from hiercorr import inference, moments
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.modalities import one_type
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.counts.targets import Pairs, Target, pairs_asked
from hiercorr.design.samples import sample_name
from hiercorr.errors import (
    InputError,
    between_0_and_1,
    one_of,
    true_or_false,
    without_effect,
)
from hiercorr.moments.products import cross_products
from hiercorr.results import tiling
from hiercorr.results.listed import selected_pairs
from hiercorr.results.result import CorrelationResult
from hiercorr.results.specified import Specified, sample_text
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import available_memory
from hiercorr.schema import Flag, build_dataset

CELL_METHODS = ("pearson", "spearman")
LEVELS = ("within", "pooled")
UNCERTAINTIES = ("jackknife", "cluster", "none")
_CONFIDENCE = 0.95
_NOTE = (
    "Exploratory: the correlation of log-normalised counts is distorted by dropout and sequencing "
    "depth. p_value takes samples as the units; cell_p_value treats cells as independent, which "
    "they are not."
)


class CellCorrelation(Specified):
    r"""Correlation of log-normalised expression over cells, for exploration.

    .. math:: v_{ij} = \log(1 + x_{ij}\,m / s_i)

    with m the median depth. It is attenuated by dropout and depends on sequencing depth;
    :class:`hiercorr.CSCore` estimates the correlation of expression itself. Results are marked
    exploratory.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    modalities : str, optional
        Type of the features to analyse, e.g. ``"Antibody Capture"``. None: genes.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> model = hc.CellCorrelation(adata, "sample_id", genes=30, depth="total_counts")
    >>> model.fit(target="FTL").dataset.attrs["exploratory"]
    1
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | tuple[str, str] | None,
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        modalities: str | None = None,
        gene_names: str | None = None,
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
    ) -> None:
        self.sample = sample = sample_name(sample, optional=True)
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            modalities=one_type(modalities),
            gene_names=gene_names,
            min_cells=min_cells,
            small_samples=small_samples,
        )
        self._reader = CountReader(data, selection)
        self.counts: Counts = self._reader.counts

    def _specification(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "cells": counts.n_cells,
            "samples": None if self.sample is None else sample_text(counts.n_samples, self.sample),
            "genes": counts.n_genes,
            "status": "exploratory",
        }

    def fit(
        self,
        method: str = "pearson",
        level: str = "within",
        *,
        target: Target = None,
        pairs: Pairs = None,
        uncertainty: str | None = None,
        precision: str = "single",
        confidence: float = _CONFIDENCE,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlations.

        Parameters
        ----------
        method : {"pearson", "spearman"}
            With level ``"within"``, Spearman ranks cells within each sample.
        level : {"within", "pooled"}
            ``"within"``: sums of products around each sample's mean, added over samples (the
            repeated-measures correlation, Bakdash & Marusich 2017). ``"pooled"``: over all cells,
            ignoring samples.
        target : str or sequence of str, optional
            Estimate this gene, or each of these, against all others only; several targets come
            first among the genes of the result.
        pairs : DataFrame, sequence of (str, str) or mapping, optional
            Estimate these pairs only, as for :meth:`hiercorr.CSCore.fit`; they are the family of
            tests.
        uncertainty : {"jackknife", "cluster", "none"}, optional
            As for :class:`hiercorr.CSCore`. None: ``"jackknife"`` if there are samples.
        precision : {"single", "double"}
            Precision of sums and output.
        confidence : float
            Confidence level of the intervals.
        progress : bool, optional
            Whether to show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult
            With the naive test: ``cell_statistic`` is t on cells - samples - 1 degrees of freedom
            within samples (cells - 2 pooled), ``cell_p_value`` its p-value.

        Raises
        ------
        InputError
            If an option is invalid, has no effect, or needs samples that were not named.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CellCorrelation(adata, "sample_id", **options).fit(target="FTL")
        >>> r.dataset.attrs["model"]
        'CellCorrelation'
        """
        wanted = pairs_asked(target, pairs)
        chosen = self._check(method, level, uncertainty, precision, confidence)
        true_or_false("progress", progress, optional=True)
        wanted = wanted.named(self._reader.named).without_counts(self._reader.without_counts)
        targets, listed = wanted.targets, wanted.listed
        counts = self._reader.with_genes(wanted.genes, first=targets or ())
        rows = tiling.rows_of(targets, counts.genes)
        options = _Options(
            level == "within", chosen, rows, tiling.DTYPE[precision], confidence, progress
        )
        tiling.check_memory(
            counts.n_genes,
            counts.n_samples,
            tiling.n_rows(rows),
            False,
            options.dtype,
            available_memory(),
        )
        values = _transformed(counts, method, options.within)
        pair = _pairs(values, options)
        if "p_value" in pair:
            tiling.add_q_values(pair, rows)
        sums = np.array([values.values[a:b].sum() for a, b in values.offsets[:, [0, -1]]])
        dataset = build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=pair,
            gene={
                "mean_log": sums / counts.n_cells,
                "detection": counts.detection,
                **counts.gene_ids,
            },
            sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
            target=targets,
            attrs={
                "title": f"exploratory: cell-level {method.capitalize()} correlation, {level}",
                "model": "CellCorrelation",
                "estimator": method,
                "level": level,
                "formula": "~ 1",
                "uncertainty": chosen,
                "confidence": confidence,
                "precision": precision,
                "exploratory": 1,
                "n_cells": counts.n_cells,
                "sample_column": self.sample,
                "note": _NOTE,
                **counts.attributes,
            },
        )
        return CorrelationResult(dataset if listed is None else selected_pairs(dataset, listed))

    def _check(
        self,
        method: str,
        level: str,
        uncertainty: str | None,
        precision: str,
        confidence: float,
    ) -> str:
        """Check the options of a fit and return the uncertainty."""
        one_of("method", method, CELL_METHODS)
        one_of("level", level, LEVELS)
        one_of("uncertainty", uncertainty, (None, *UNCERTAINTIES))
        one_of("precision", precision, tiling.DTYPE)
        between_0_and_1("confidence", confidence)
        if self.sample is None:
            for name, value, needed in (
                ("level", level, level == "within"),
                ("uncertainty", uncertainty, uncertainty in ("jackknife", "cluster")),
            ):
                if needed:
                    raise InputError(
                        f"{name}={value!r} needs samples: name the obs column of the samples with "
                        "sample="
                    )
        chosen = uncertainty or ("none" if self.sample is None else "jackknife")
        if chosen == "none":
            needs = "uncertainty='jackknife' or 'cluster'"
            without_effect(confidence=(float(confidence), _CONFIDENCE, needs))
        return chosen


@dataclass(frozen=True)
class _Options:
    """Options of a fit."""

    within: bool
    uncertainty: str
    rows: slice | None  # positions of the targets
    dtype: DTypeLike
    confidence: float
    progress: bool | None


def log_values(counts: Counts) -> NDArray:
    """Compute log(1 + x m / s) of every entry of the counts, with m the median depth."""
    scale = np.median(counts.depth) / counts.depth
    return np.log1p(counts.values * scale[counts.rows])


def _transformed(counts: Counts, method: str, within: bool) -> Counts:
    """Replace counts by log-normalised values or by ranks minus the rank of zero (zeros stay 0)."""
    values = log_values(counts)
    if method == "spearman":
        starts = counts.starts if within else np.array([0, counts.n_cells])
        offsets = counts.offsets if within else counts.offsets[:, [0, -1]]
        ranks = np.empty_like(values)
        for entries in offsets:
            for (a, b), n in zip(itertools.pairwise(entries), np.diff(starts), strict=True):
                zeros = n - (b - a)
                ranks[a:b] = (
                    stats.rankdata(values[a:b].round(12)) + zeros - (zeros + 1) / 2 * (zeros > 0)
                )
        values = ranks
    return replace(counts, values=values, depth=np.ones(counts.n_cells))


def _pairs(values: Counts, options: _Options) -> dict[str, NDArray]:
    """Estimate all pairs, tile by tile."""
    sums = moments.depth_sums(values, 1e-12)
    cells = values.cells_per_sample
    flat = np.zeros(values.n_genes)
    total = sums.first.sum(2)  # (genes, samples)
    mean = (
        total / cells
        if options.within
        else np.repeat(total.sum(1, keepdims=True) / values.n_cells, len(cells), 1)
    )
    squares = sums.second.sum(2) - 2 * mean * total + mean**2 * cells
    size = np.maximum(cells - 1, 0) if options.within else cells
    den = np.repeat(size[None].astype(float), values.n_genes, 0)
    df = values.n_cells - (values.n_samples + 1 if options.within else 2)
    few = options.uncertainty != "none" and values.n_samples < 3
    without_interval = few or options.uncertainty == "none"
    output = tiling.PairOutput(
        values.n_genes, options.rows, options.dtype, without_interval=without_interval
    )
    gene_flag = np.where(squares.sum(1) > 0, 0, Flag.NONPOSITIVE_VARIANCE.bit).astype(np.uint16)
    gene_flag[(np.diff(values.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    tiles = tiling.tiles(values.n_genes, 2 * values.n_samples, options.rows, options.dtype)
    space = [tiling.Workspace(tiles, values.n_samples, options.dtype) for _ in range(2)]
    zero = np.zeros(values.n_genes)
    for left, right in with_progress(tiles, options.progress):
        num, weight = (s.array(left, right) for s in space)
        for c in range(values.n_samples):
            num[c] = cross_products(values, sums, mean[:, c], flat, left, right, c, options.dtype)
            weight[c] = size[c]
        estimate = inference.pair_estimate(
            num,
            weight,
            (squares[left], squares[right]),
            (den[left], den[right]),
            "none" if few else options.uncertainty,
            (zero[left], zero[right]),
        )
        r = estimate.correlation
        tile: dict[str, NDArray] = {"correlation": r}
        if without_interval:
            tile["fisher_z"] = inference.fisher_z(r)
        else:
            tile |= inference.pair_table(estimate, options.confidence, options.dtype)
        with np.errstate(invalid="ignore", divide="ignore"):
            exact = r.astype(np.float64)  # p-values could underflow in float32
            t = exact * np.sqrt(df / (1 - np.minimum(exact**2, 1)))
        tile |= {"cell_statistic": t, "cell_p_value": 2 * special.stdtr(df, -np.abs(t))}
        flag = gene_flag[left, None] | gene_flag[None, right]
        if few:
            flag |= Flag.TOO_FEW_SAMPLES.bit
        elif not without_interval:
            flag[np.isnan(tile["ci_lower"])] |= Flag.NO_INTERVAL.bit
        output.write(left, right, tile, flag)
    return output.finish()
