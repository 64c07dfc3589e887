r"""How much of the correlation over pooled cells lies within samples, and how much between them.

By the law of total covariance, with cells of sample c a share :math:`\pi_c` of all,

.. math:: \underbrace{\Sigma_{jk}}_{total} = \underbrace{\phi_{jk}\sum_c \pi_c\,\mu_{cj}\mu_{ck}}_{within}
          + \underbrace{\sum_c \pi_c(\mu_{cj} - \mu_j)(\mu_{ck} - \mu_k)}_{between}

with :math:`\phi` the covariance within samples on the squared-CV scale (:mod:`hiercorr.moments`). Estimated means carry
noise :math:`N_c` (both Poisson and cell to cell); its expected part, :math:`\sum_c \pi_c N_c` in the products of means and
:math:`\sum_c \pi_c (1 - \pi_c) N_c` between samples, is subtracted. Divided by the total standard deviations the two parts
add up to the total correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiercorr import moments
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.errors import InputError
from hiercorr.results import tiling
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import available_memory
from hiercorr.schema import Flag, build_dataset

Array = NDArray[np.float64]


def decompose(
    data: ad.AnnData | str | Path,
    sample: str,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    *,
    target: str | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    progress: bool | None = None,
) -> CorrelationResult:
    """Split variance and correlation over the cells at hand into their parts within and between samples.

    A description of these samples: it has no p-value. Ask :class:`hiercorr.CSCore` and :class:`hiercorr.Pseudobulk` for
    inference on the two levels.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, min_cells, small_samples
        As for :class:`hiercorr.CSCore`.
    target : str, optional
        One gene against all others.
    progress : bool, optional
        Show a progress bar. None: in a terminal, for long work.

    Returns
    -------
    CorrelationResult
        Pairs: ``correlation`` (total), ``within_part`` and ``between_part`` (they add up to it), ``between_share``
        (between_part / correlation), ``within_correlation`` (as :class:`hiercorr.CSCore` estimates it) and
        ``between_correlation`` of the samples' means; flag ``sign_reversal`` where the
        total and the within-sample correlation differ in sign. Genes: ``within_variance``, ``between_variance``,
        ``variance_share``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.decompose(adata, "sample_id", genes=["FTL", "FTH1", "SPP1"], depth="total_counts")
    >>> d = r.dataset.sel(gene="FTL", partner="FTH1")
    >>> bool(abs(d["within_part"] + d["between_part"] - d["correlation"]) < 1e-6)
    True
    """
    counts = read_counts(
        data,
        Selection(
            sample=sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
        ),
        always=() if target is None else (target,),
    )
    if counts.n_samples < 2:
        raise InputError("a decomposition needs at least 2 samples")
    rows = tiling.rows_of(target, counts.genes)
    tiling.check_memory(
        counts.n_genes, counts.n_samples, target is not None, False, np.float64, available_memory()
    )
    sums = moments.depth_sums(counts, 1e-8)
    fit = moments.within_moments(sums)
    share = counts.cells_per_sample / counts.n_cells
    within, between = variances(sums, fit, share)
    total = within + between
    mean = fit.mu @ share
    flag = np.where(within > 0, 0, Flag.NONPOSITIVE_VARIANCE.bit).astype(np.uint16)
    flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    output = tiling.PairOutput(counts.n_genes, rows, np.float64)
    tiles = tiling.tiles(counts.n_genes, 2 * counts.n_samples, rows, np.float64)
    space = [tiling.Workspace(tiles, counts.n_samples, np.float64) for _ in range(2)]
    positive = lambda v: np.where(v > 0, v, np.nan)  # noqa: E731
    for left, right in with_progress(tiles, progress):
        phi, inner, outer = _covariances(
            counts,
            sums,
            fit,
            share,
            left,
            right,
            (space[0].array(left, right), space[1].array(left, right)),
        )
        scale = np.sqrt(np.outer(positive(total)[left], positive(total)[right]))
        with np.errstate(invalid="ignore", divide="ignore"):
            rho_w = phi / np.sqrt(
                np.outer(positive(fit.variance)[left], positive(fit.variance)[right])
            )
            rho_b = outer / np.sqrt(np.outer(positive(between)[left], positive(between)[right]))
            tile = {
                "correlation_unclipped": (inner + outer) / scale,
                "within_part": inner / scale,
                "between_part": outer / scale,
                "between_share": outer / (inner + outer),
                "within_correlation": np.where(np.abs(rho_w) < 1, rho_w, np.nan),
                "between_correlation": np.where(np.abs(rho_b) < 1, rho_b, np.nan),
            }
        bits = flag[left, None] | flag[None, right]
        bits[np.sign(inner) * np.sign(inner + outer) < 0] |= Flag.SIGN_REVERSAL.bit
        output.write(left, right, tile, bits)
    square = positive(mean) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        gene = {
            "mean": mean / sums.unit,
            "detection": counts.detection,
            "within_variance": within / square,
            "between_variance": between / square,
            "variance_share": between / total,
            "gene_flag": flag,
        }
    dataset = build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=output.finish(),
        gene=gene,
        sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
        target=target,
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
            **{k: v for k, v in counts.notes.items() if v},
        },
    )
    return CorrelationResult(dataset)


def variances(
    sums: moments.DepthSums, fit: moments.GeneMoments, share: Array
) -> tuple[Array, Array]:
    """Variance within and between samples of each gene, in units of mean depth."""
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
    counts: Counts,
    sums: moments.DepthSums,
    fit: moments.GeneMoments,
    share: Array,
    left: slice,
    right: slice,
    out: tuple[NDArray, NDArray],
) -> tuple[Array, Array, Array]:
    """Covariance within samples on the squared-CV scale, and within and between samples on that of expression."""
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
