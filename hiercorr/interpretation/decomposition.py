r"""Decomposition of the correlation over pooled cells into its parts within and between samples.

By the law of total covariance, with a proportion :math:`\pi_c` of the cells in sample c,

.. math:: \underbrace{\Sigma_{jk}}_{total}
          = \underbrace{\phi_{jk}\sum_c \pi_c\,\mu_{cj}\mu_{ck}}_{within}
          + \underbrace{\sum_c \pi_c(\mu_{cj} - \mu_j)(\mu_{ck} - \mu_k)}_{between}

with :math:`\phi` the covariance within samples on the squared-CV scale (:mod:`hiercorr.moments`).
Estimated means have sampling noise :math:`N_c` (Poisson and cell to cell); its expectation,
:math:`\sum_c \pi_c N_c` in the products of means and :math:`\sum_c \pi_c (1 - \pi_c) N_c` between
samples, is subtracted. Divided by the total standard deviations, the two parts add up to the total
correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiercorr import moments
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.counts.targets import Pairs, Target, pairs_asked, targets_first
from hiercorr.design.samples import sample_name
from hiercorr.errors import InputError, true_or_false
from hiercorr.results import tiling
from hiercorr.results.listed import selected_pairs
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import available_memory
from hiercorr.schema import Flag, build_dataset

Array = NDArray[np.float64]


def decompose(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    *,
    target: Target = None,
    pairs: Pairs = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    progress: bool | None = None,
) -> CorrelationResult:
    """Decompose the variances and correlations over cells into parts within and between samples.

    This describes the given samples, without p-values. Use :class:`hiercorr.CSCore` and
    :class:`hiercorr.Pseudobulk` for inference at the two levels.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, gene_names, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    target : str or sequence of str, optional
        Estimate this gene, or each of these, against all others only; several targets come first
        among the genes of the result.
    pairs : DataFrame, sequence of (str, str) or mapping, optional
        Estimate these pairs only, as for :meth:`hiercorr.CSCore.fit`; they are the family of tests.
    progress : bool, optional
        Whether to show a progress bar. None: in a terminal, for long work.

    Returns
    -------
    CorrelationResult
        Pairs: ``correlation`` (total), ``within_part`` and ``between_part`` (which add up to it),
        ``between_share`` (between_part / correlation), ``within_correlation`` (as estimated by
        :class:`hiercorr.CSCore`) and ``between_correlation`` of the samples' means; flag
        ``sign_reversal`` if the total and the within-sample correlation differ in sign. Genes:
        ``within_variance``, ``between_variance``, ``variance_share``.

    Raises
    ------
    InputError
        If an option is invalid or there are fewer than 2 samples.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.decompose(adata, "sample_id", genes=["FTL", "FTH1", "SPP1"], depth="total_counts")
    >>> d = r.dataset.sel(gene="FTL", partner="FTH1")
    >>> bool(abs(d["within_part"] + d["between_part"] - d["correlation"]) < 1e-6)
    True
    """
    sample = sample_name(sample)
    wanted = pairs_asked(target, pairs)
    true_or_false("progress", progress, optional=True)
    counts = read_counts(
        data,
        Selection(
            sample=sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            gene_names=gene_names,
            min_cells=min_cells,
            small_samples=small_samples,
        ),
        always=wanted.genes,
    )
    wanted = wanted.named(counts.named)
    targets, listed = wanted.targets, wanted.listed
    counts = targets_first(counts, targets)
    if counts.n_samples < 2:
        raise InputError("a decomposition needs at least 2 samples")
    rows = tiling.rows_of(targets, counts.genes)
    tiling.check_memory(
        counts.n_genes, counts.n_samples, tiling.n_rows(rows), False, np.float64, available_memory()
    )
    parts = _Decomposition.of(counts)
    dataset = build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=_pairs(parts, rows, progress),
        gene=_genes(parts),
        sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
        target=targets,
        attrs={
            "title": "decomposition of the correlation over pooled cells",
            "model": "decomposition",
            "estimator": "moments",
            "level": "total",
            "formula": "~ 1",
            "uncertainty": "none",
            "n_cells": counts.n_cells,
            "sample_column": sample,
            "note": "A description of these samples, without inference.",
            **counts.attributes,
        },
    )
    return CorrelationResult(dataset if listed is None else selected_pairs(dataset, listed))


@dataclass(frozen=True)
class _Decomposition:
    """Counts, moments of genes and the proportion of cells in each sample."""

    counts: Counts
    sums: moments.DepthSums
    fit: moments.GeneMoments
    share: Array  # (samples,)
    within: Array  # variance within samples of each gene
    between: Array
    flag: NDArray[np.uint16]

    @classmethod
    def of(cls, counts: Counts) -> _Decomposition:
        sums = moments.depth_sums(counts, 1e-8)
        fit = moments.within_moments(sums)
        share = counts.cells_per_sample / counts.n_cells
        within, between = variances(sums, fit, share)
        flag = np.where(within > 0, 0, Flag.NONPOSITIVE_VARIANCE.bit).astype(np.uint16)
        flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
        return cls(counts, sums, fit, share, within, between, flag)


def _positive(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)


def _genes(d: _Decomposition) -> dict[str, NDArray]:
    mean = d.fit.mu @ d.share
    square = _positive(mean) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "mean": mean / d.sums.unit,
            "detection": d.counts.detection,
            **d.counts.gene_ids,
            "within_variance": d.within / square,
            "between_variance": d.between / square,
            "variance_share": d.between / (d.within + d.between),
            "gene_flag": d.flag,
        }


def _pairs(d: _Decomposition, rows: slice | None, progress: bool | None) -> dict[str, NDArray]:
    n_genes, n_samples = d.counts.n_genes, d.counts.n_samples
    total = d.within + d.between
    output = tiling.PairOutput(n_genes, rows, np.float64)
    tiles = tiling.tiles(n_genes, 2 * n_samples, rows, np.float64)
    space = [tiling.Workspace(tiles, n_samples, np.float64) for _ in range(2)]

    def scale(variance: Array, left: slice, right: slice) -> Array:
        return np.sqrt(np.outer(_positive(variance)[left], _positive(variance)[right]))

    for left, right in with_progress(tiles, progress):
        arrays = (space[0].array(left, right), space[1].array(left, right))
        phi, inner, outer = _covariances(d, left, right, arrays)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho_within = phi / scale(d.fit.variance, left, right)
            rho_between = outer / scale(d.between, left, right)
            sd = scale(total, left, right)
            tile = {
                "correlation_unclipped": (inner + outer) / sd,
                "within_part": inner / sd,
                "between_part": outer / sd,
                "between_share": outer / (inner + outer),
                "within_correlation": np.where(np.abs(rho_within) < 1, rho_within, np.nan),
                "between_correlation": np.where(np.abs(rho_between) < 1, rho_between, np.nan),
            }
        bits = d.flag[left, None] | d.flag[None, right]
        bits[np.sign(inner) * np.sign(inner + outer) < 0] |= Flag.SIGN_REVERSAL.bit
        output.write(left, right, tile, bits)
    return output.finish()


def variances(
    sums: moments.DepthSums, fit: moments.GeneMoments, share: Array
) -> tuple[Array, Array]:
    """Compute the variance within and between samples of each gene, in units of mean depth.

    Parameters
    ----------
    sums : DepthSums
        Sums over the cells of each sample.
    fit : GeneMoments
        Means and variances within samples.
    share : ndarray, shape (n_samples,)
        Proportion of the cells in each sample.

    Returns
    -------
    within, between : ndarray, shape (n_genes,)
    """
    f = 1 / (1 + fit.slope[:, :, None] * sums.nodes)
    weight = np.einsum("jck,ck->jc", f, sums.power[1])
    poisson = np.einsum("jck,ck->jc", f**2, sums.power[1])
    spread = np.einsum("jck,ck->jc", f**2, sums.power[2])
    phi = np.where(np.isfinite(fit.variance), fit.variance, 0.0)[:, None]
    noise = (fit.mu * poisson + np.maximum(phi, 0) * fit.mu**2 * spread) / weight**2
    centred = fit.mu - (fit.mu @ share)[:, None]
    within = phi[:, 0] * ((fit.mu**2 - noise) @ share)
    between = (centred**2) @ share - noise @ (share * (1 - share))
    return within, between


def _covariances(
    d: _Decomposition, left: slice, right: slice, out: tuple[NDArray, NDArray]
) -> tuple[Array, Array, Array]:
    """Compute covariances of a tile.

    Returns
    -------
    phi, within, between : ndarray
        Covariance within samples on the squared-CV scale, and covariances within and between
        samples on the scale of expression.
    """
    counts, sums, fit, share = d.counts, d.sums, d.fit, d.share
    num = moments.numerators(counts, sums, fit, left, right, out[0])
    den = moments.denominators(sums, fit, left, right, num, out[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = num.sum(0) / den.sum(0)
    products, between = np.zeros(num.shape[1:]), np.zeros(num.shape[1:])
    mean = fit.mu @ share
    for c, n in enumerate(counts.cells_per_sample):
        m = fit.mu[:, c]
        weight = (1 / (1 + np.outer(fit.slope[:, c], sums.nodes))) @ sums.power[1, c]
        noise = num[c] / np.outer(weight[left], weight[right]) * (n / max(n - 1, 1))
        products += share[c] * (np.outer(m[left], m[right]) - noise)
        between += share[c] * (
            np.outer((m - mean)[left], (m - mean)[right]) - (1 - share[c]) * noise
        )
    return phi, phi * products, between
