"""Estimates of every pair in every sample, with their variance and their heterogeneity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.counts.counts import Counts
from hiercorr.inference.meta import meta_analysis
from hiercorr.inference.pairs import fisher_z
from hiercorr.moments.products import TypedSide
from hiercorr.within.sides import typed_side

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """Genes of the two sides of a tile, and the sums of its pairs.

    Attributes
    ----------
    left, right : slice
    num, den : ndarray, shape (n_samples, left, right)
        N and D of each sample.
    """

    left: slice
    right: slice
    num: NDArray
    den: NDArray


class FourthMoments(NamedTuple):
    """Sums over the cells of one sample, with q = y^2 - w^2 s mu.

    Attributes
    ----------
    squares : ndarray, shape (left, right)
        Sums of y_j^2 y_k^2.
    left_mixed, right_mixed : ndarray, shape (left, right)
        Sums of q_j y_j y_k, and of y_j y_k q_k.
    product : ndarray, shape (left, right)
        Sums of q_j q_k.
    left_square, right_square : ndarray, shape (left,), (right,)
        Sums of q_j^2, and of q_k^2.
    """

    squares: Array
    left_mixed: Array
    right_mixed: Array
    product: Array
    left_square: Array
    right_square: Array


def per_sample_pairs(
    counts: Counts, sums: moments.Sums, fit: moments.GeneMoments, tile: Tile
) -> tuple[dict[str, NDArray], NDArray[np.bool_]]:
    r"""Estimate the correlation in each sample, the variance of its z, and the heterogeneity.

    With y = w r and q = y^2 - w^2 s mu, the influence of a cell on the correlation of a sample is
    :math:`u = \rho\,[\,y_j y_k / N_{jk} - q_j / (2 N_{jj}) - q_k / (2 N_{kk})]`, which sums to
    zero; the delta-method variance is :math:`\sum u^2`, expanded into four cross products.

    Returns
    -------
    dict
        ``sample_correlation``, ``sample_se`` (samples, left, right), ``tau2``, ``i2``,
        ``cochran_q``, ``cochran_p_value`` (left, right).
    ndarray of bool
        Pairs that cannot be estimated in some sample: their heterogeneity is NaN.
    """
    rho = np.full(tile.num.shape, np.nan)
    var = np.full(tile.num.shape, np.nan)
    for c in range(counts.n_samples):
        rho[c] = _correlation(fit, tile, c)
        if np.isfinite(rho[c]).any():
            for block, _ in moments.pair_blocks(sums, tile.left, tile.right):
                part = Tile(
                    block.left,
                    block.right,
                    tile.num[:, block.rows, block.columns],
                    tile.den[:, block.rows, block.columns],
                )
                dtype = tile.num.dtype
                sides = [
                    typed_side(counts, sums, fit, t, genes, c, dtype)
                    for t, genes in zip(block.types, (block.own_left, block.own_right), strict=True)
                ]
                fourth = _fourth_moments(sides, c, dtype)
                at = block.rows, block.columns
                var[c, *at] = _variance(rho[c, *at], fit, part, fourth, c)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.abs(rho) < 1
        z = fisher_z(rho)
        v = np.where(inside & (var > 0), var, np.nan) / (1 - rho**2) ** 2
    complete = np.isfinite(z).all(0) & np.isfinite(v).all(0)
    out = {"sample_correlation": np.where(inside, rho, np.nan), "sample_se": np.sqrt(v)}
    return out | _heterogeneity(z, v, complete), ~complete


def _correlation(fit: moments.GeneMoments, tile: Tile, sample: int) -> Array:
    gene_num, gene_den = fit.num[:, sample], fit.den[:, sample]
    num, den = tile.num[sample], tile.den[sample]
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = gene_num / gene_den
        phi = np.where((phi > 0) & (gene_den > 0), phi, np.nan)
        scale = np.sqrt(np.outer(phi[tile.left], phi[tile.right]))
        return np.asarray(num / np.where(den > 0, den, np.nan) / scale, np.float64)


def _variance(
    rho: Array, fit: moments.GeneMoments, tile: Tile, fourth: FourthMoments, sample: int
) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        half = 0.5 / fit.num[:, sample]
        b, d = half[tile.left, None], half[None, tile.right]
        inverse = 1 / tile.num[sample].astype(np.float64)
        # Multiplied out, so that rho = 0 (N = 0) does not lead to a division by zero.
        genes = b**2 * fourth.left_square[:, None] + d**2 * fourth.right_square
        var = rho**2 * (genes + 2 * b * d * fourth.product)
        scale = rho * inverse  # 1 / (D sqrt(phi phi)), finite for every N
        mixed = b * fourth.left_mixed + d * fourth.right_mixed
        var += scale**2 * fourth.squares - 2 * scale * rho * mixed
    return var


def _heterogeneity(z: Array, v: Array, complete: NDArray[np.bool_]) -> dict[str, NDArray]:
    """Estimate tau^2, I^2 and Cochran's Q of pairs that are estimated in every sample."""
    names = ("tau2", "i2", "cochran_q", "cochran_p_value")
    out = {name: np.full(complete.shape, np.nan) for name in names}
    if complete.any() and len(z) >= 3:
        z, v = z[:, complete], v[:, complete]
        meta = meta_analysis(z, v, method="PM")
        found = meta.tau2, meta.i2, meta.q, meta.p_q
        for name, values in zip(names, found, strict=True):
            out[name][complete] = values
    return out


def _fourth_moments(sides: list[TypedSide], sample: int, dtype: np.dtype) -> FourthMoments:
    total: list[NDArray] | None = None
    blocks = (side.residuals(sample, dtype) for side in sides)
    for (cells, x), (_, y) in zip(*blocks, strict=True):
        noise = [side.noise(cells, dtype) for side in sides]
        x2, y2 = x * x, y * y
        qx, qy = x2 - noise[0], y2 - noise[1]
        part = [
            x2 @ y2.T,
            (qx * x) @ y.T,
            x @ (qy * y).T,
            qx @ qy.T,
            (qx**2).sum(1),
            (qy**2).sum(1),
        ]
        part = [p.astype(np.float64) for p in part]
        total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
    assert total is not None
    return FourthMoments(*total)
