"""Exploratory routes: Pearson and Spearman correlation of log-normalised cells, with the samples kept in sight."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from hiercorr import inference, moments
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import CountReader
from hiercorr.counts.selection import Selection
from hiercorr.errors import InputError, one_of
from hiercorr.moments.products import cross_products
from hiercorr.results import tiling
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import available_memory
from hiercorr.schema import Flag, build_dataset

CELL_METHODS = ("pearson", "spearman")
LEVELS = ("within", "pooled")
_NOTE = (
    "Exploratory: correlation of log-normalised counts holds dropout and depth. p_value takes samples as the units; "
    "cell_p_value takes cells as independent, which they are not."
)


class CellCorrelation:
    r"""Correlation of log-normalised expression over cells: a first look, not a claim.

    .. math:: v_{ij} = \log(1 + x_{ij}\,m / s_i)

    with m the median depth. It is attenuated by dropout and follows depth; :class:`hiercorr.CSCore` estimates the
    correlation of expression itself. Results are marked exploratory.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.

    Examples
    --------
    >>> import hiercorr as hc
    >>> model = hc.CellCorrelation(hc.datasets.glioblastoma(), "patient_id", genes=30, depth="total_counts")
    >>> model.fit(target="FTL").dataset.attrs["exploratory"]
    1
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | None,
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        min_cells: int = MIN_CELLS,
        small_samples: str = "exclude",
    ) -> None:
        self.sample = sample
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
        )
        self._reader = CountReader(data, selection)
        self.counts: Counts = self._reader.counts

    def fit(
        self,
        method: str = "pearson",
        level: str = "within",
        *,
        target: str | None = None,
        uncertainty: str | None = None,
        precision: str = "single",
        confidence: float = 0.95,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlations.

        Parameters
        ----------
        method : {"pearson", "spearman"}
            Spearman ranks cells within each sample where the level is within samples.
        level : {"within", "pooled"}
            ``"within"``: sums of products around each sample's mean, added over samples; this is the repeated-measures
            correlation (Bakdash & Marusich 2017). ``"pooled"``: over all cells, whatever their sample.
        target : str, optional
            One gene against all others.
        uncertainty : {"jackknife", "cluster", "none"}, optional
            As for :class:`hiercorr.CSCore`. None: ``"jackknife"`` where there are samples.
        precision : {"single", "double"}
        confidence : float
        progress : bool, optional

        Returns
        -------
        CorrelationResult
            With the naive test beside it: ``cell_statistic`` is t on cells - samples - 1 degrees of freedom within samples
            (cells - 2 pooled), ``cell_p_value`` its p.

        Raises
        ------
        InputError
            If an option is unknown or needs samples that were not named.
        """
        for name, value, known in (
            ("method", method, CELL_METHODS),
            ("level", level, LEVELS),
            ("precision", precision, tiling.DTYPE),
        ):
            one_of(name, value, known)
        if level == "within" and self.sample is None:
            raise InputError(
                "level='within' needs samples: name the obs column that holds them with sample="
            )
        chosen = uncertainty or ("none" if self.sample is None else "jackknife")
        if chosen not in ("jackknife", "cluster", "none"):
            raise InputError(
                f"uncertainty must be 'jackknife', 'cluster' or 'none', not {uncertainty!r}"
            )
        if chosen != "none" and self.sample is None:
            raise InputError(
                f"uncertainty={chosen!r} needs samples: name the obs column that holds them with sample="
            )
        counts = self._reader.with_gene(target)
        dtype = tiling.DTYPE[precision]
        rows = tiling.rows_of(target, counts.genes)
        tiling.check_memory(
            counts.n_genes, counts.n_samples, target is not None, False, dtype, available_memory()
        )
        values = _transformed(counts, method, level == "within")
        pair = _pairs(values, level == "within", chosen, rows, dtype, confidence, progress)
        if "p_value" in pair:
            tiling.add_q_values(pair, rows)
        means = (
            np.array([values.values[a:b].sum() for a, b in values.offsets[:, [0, -1]]])
            / counts.n_cells
        )
        dataset = build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=pair,
            gene={"mean_log": means, "detection": counts.detection},
            sample={
                "n_cells": counts.cells_per_sample,
                "depth": counts.median_depth,
            },
            target=target,
            attrs={
                "title": f"exploratory: cell-level {method} correlation, {level}",
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
                **{k: v for k, v in counts.notes.items() if v},
            },
        )
        return CorrelationResult(dataset)


def log_values(counts: Counts) -> NDArray:
    """log(1 + x m / s) of every entry of the counts, m the median depth; what has no entry is 0."""
    scale = np.median(counts.depth) / counts.depth
    return np.log1p(counts.values * scale[counts.rows])


def _transformed(counts: Counts, method: str, within: bool) -> Counts:
    """Counts with log-normalised values, or ranks less the rank of zero: zeros stay zeros, so it stays sparse."""
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


def _pairs(
    values: Counts,
    within: bool,
    uncertainty: str,
    rows: slice | None,
    dtype: Any,
    confidence: float,
    progress: bool | None,
) -> dict[str, NDArray]:
    sums = moments.depth_sums(values, 1e-12)
    cells = values.cells_per_sample
    flat = np.zeros(values.n_genes)
    total = sums.first.sum(2)  # (genes, samples)
    mean = (
        total / cells
        if within
        else np.repeat(total.sum(1, keepdims=True) / values.n_cells, len(cells), 1)
    )
    own = sums.second.sum(2) - 2 * mean * total + mean**2 * cells
    size = np.maximum(cells - 1, 0) if within else cells
    den = np.repeat(size[None].astype(float), values.n_genes, 0)
    df = values.n_cells - (values.n_samples + 1 if within else 2)
    few = uncertainty != "none" and values.n_samples < 3
    silent = few or uncertainty == "none"
    output = tiling.PairOutput(values.n_genes, rows, dtype, without_interval=silent)
    gene_flag = np.where(own.sum(1) > 0, 0, Flag.NONPOSITIVE_VARIANCE.bit).astype(np.uint16)
    gene_flag[(np.diff(values.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    tiles = tiling.tiles(values.n_genes, 2 * values.n_samples, rows, dtype)
    space = [tiling.Workspace(tiles, values.n_samples, dtype) for _ in range(2)]
    zero = np.zeros(values.n_genes)
    for left, right in with_progress(tiles, progress):
        num, weight = (s.array(left, right) for s in space)
        for c in range(values.n_samples):
            num[c] = cross_products(values, sums, mean[:, c], flat, left, right, c, dtype)
            weight[c] = size[c]
        estimate = inference.pair_estimate(
            num,
            weight,
            (own[left], own[right]),
            (den[left], den[right]),
            "none" if few else uncertainty,
            (zero[left], zero[right]),
        )
        r = estimate.correlation
        tile: dict[str, NDArray] = {"correlation": r}
        if silent:
            tile["fisher_z"] = inference.fisher_z(r)
        else:
            tile |= inference.pair_table(estimate, confidence, dtype)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = r * np.sqrt(df / (1 - np.minimum(r**2, 1)))
        tile |= {"cell_statistic": t, "cell_p_value": 2 * special.stdtr(df, -np.abs(t))}
        flag = gene_flag[left, None] | gene_flag[None, right]
        if few:
            flag |= Flag.TOO_FEW_SAMPLES.bit
        elif not silent:
            flag[np.isnan(tile["ci_lower"])] |= Flag.NO_INTERVAL.bit
        output.write(left, right, tile, flag)
    return output.finish()
