r"""Covariates of cells within samples: the counts of each sample are regressed on them separately.

With covariates Z of cells (including an intercept), depth s and one weight w0 per cell that all
genes share,

.. math:: \hat\beta_{cj} = (Z' S W_0 Z)^{-1} Z' W_0 x_j, \quad
          r_j = x_j - S Z\hat\beta_{cj} = (I - H)(x_j - E x_j), \quad
          H = S Z (Z' S W_0 Z)^{-1} Z' W_0 .

H is identical for all genes, so that the effect of fitting the covariates on products of residuals
is known: :math:`E\, r_{ij} r_{ik} = \sigma_{jk} v_i` with
:math:`v_i = \sum_l (I - H)_{il}^2 s_l^2` for two genes. For the variance of a gene, the Poisson
noise :math:`\sum_l (I - H)_{il}^2 s_l z_l` is added, which is estimated without bias by the counts
instead of :math:`s_l z_l`. The sums over cells keep their form, with v instead of s^2.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError
from hiercorr.moments.cell_adjustment import CellAdjustment, ModalityAdjustment
from hiercorr.moments.depth import DepthSums, Grid
from hiercorr.moments.genes import GeneMoments, joined
from hiercorr.moments.modalities import ModalitySums, Sums, shared_grid
from hiercorr.moments.residuals import residual_blocks

Array = NDArray[np.float64]

_BLOCK = 65_536  # cells per block of the interpolation matrix

# Directions of the covariates with a smaller proportion of the largest eigenvalue are absent.
_RANK = 1e-10


@dataclass(frozen=True)
class Projection:
    """Covariates of the cells of one sample, rotated so that u' S W0 u is the identity.

    Attributes
    ----------
    cells : slice
        Cells of the sample.
    depth : ndarray, shape (n,)
    scaled, weighted : ndarray, shape (n, k)
        s u, and w0 u.
    leverage : ndarray, shape (n,)
        Diagonal of H.
    v : ndarray, shape (n,)
        See the module.
    """

    cells: slice
    depth: Array
    scaled: Array
    weighted: Array
    leverage: Array
    v: Array


def regress_out_covariates(
    counts: Counts, sums: Sums, tolerance: float, fit: GeneMoments, z: Array
) -> GeneMoments:
    """Estimate the moments within samples with covariates of cells regressed out.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums or ModalitySums
    tolerance : float
        Maximum interpolation error of a weight.
    fit : GeneMoments
        Moments without covariates, whose weights are used.
    z : ndarray, shape (n_cells, k)
        Design matrix of cells, intercept first.

    Returns
    -------
    GeneMoments

    Raises
    ------
    InputError
        If a sample has too few cells.
    """
    if isinstance(sums, ModalitySums):
        return _of_types(counts, sums, tolerance, fit, z)
    return _of_one_type(counts, sums, Grid.over(counts.depth, tolerance), fit, z)


def _of_types(
    counts: Counts, sums: ModalitySums, tolerance: float, fit: GeneMoments, z: Array
) -> GeneMoments:
    r"""Fit the features of each type with their own depth; H then differs between types.

    For two of them, :math:`v_i = \sum_l (I - H)_{il} (I - H')_{il} s_l t_l`.
    """
    grid = shared_grid(counts, tolerance)
    parts = [
        _of_one_type(of_type, part, grid, fit.take(np.arange(a, b)), z)
        for of_type, part, a, b in zip(
            counts.by_type(), sums.parts, sums.edges[:-1], sums.edges[1:], strict=True
        )
    ]
    projections = [
        [
            projection(of_type, part, own, z, c)
            for of_type, part, own in zip(counts.by_type(), sums.parts, parts, strict=True)
        ]
        for c in range(counts.n_samples)
    ]
    cross = {
        (a, b): np.array([_cross_gram(each[a], each[b], grid) for each in projections])
        for a, b in itertools.combinations(range(len(parts)), 2)
    }
    adjustments = tuple(p.adjustment for p in parts if isinstance(p.adjustment, CellAdjustment))
    return replace(joined(parts), adjustment=ModalityAdjustment(adjustments, sums.edges, cross))


def _cross_gram(one: Projection, two: Projection, grid: Grid) -> Array:
    """Sum v L L'^T over the cells of a sample, for features of two types."""
    both = one.depth * two.depth
    noise = np.einsum(
        "ia,ab,ib->i",
        one.scaled,
        (one.weighted * both[:, None]).T @ two.weighted,
        two.scaled,
        optimize=True,
    )
    v = both * (1 - one.leverage - two.leverage) + noise
    out = np.zeros((grid.size, grid.size))
    for start in range(0, len(v), _BLOCK):
        part = slice(start, start + _BLOCK)
        left, right = grid.basis(one.depth[part]), grid.basis(two.depth[part])
        out += (left * v[part, None]).T @ right
    return out


def _of_one_type(
    counts: Counts, sums: DepthSums, grid: Grid, fit: GeneMoments, z: Array
) -> GeneMoments:
    k, s, m = z.shape[1], counts.n_samples, len(sums.nodes)
    _check_cells(counts, k)
    found = CellAdjustment(
        np.zeros((counts.n_cells, k)), np.zeros((s, k, counts.n_genes)), np.zeros((s, m, m))
    )
    num, den = np.empty_like(fit.num), np.empty_like(fit.den)
    for c in range(s):
        sample = projection(counts, sums, fit, z, c)
        found.scaled[sample.cells] = sample.scaled
        outer, total = _node_sums(sample, grid, found.gram[c])
        f2 = (1 + np.outer(fit.slope[:, c], sums.nodes)) ** -2.0
        per_gene = np.einsum("jm,mab->jab", f2, outer, optimize=True)
        noise = np.zeros(counts.n_genes)
        kernels.sums.regress_on_cells(
            counts.rows,
            counts.values,
            counts.offsets[:, c],
            counts.offsets[:, c + 1],
            sample.cells.start,
            sample.depth,
            fit.slope[:, c],
            sample.weighted,
            sample.leverage,
            per_gene,
            found.beta[c],
            noise,
        )
        num[:, c] = _squared_residuals(counts, sums, fit, found, c) - noise
        den[:, c] = _gene_denominator(sums, fit, c, f2, f2 @ total, num[:, c])
    return replace(fit, num=num, den=den, adjustment=found)


def _check_cells(counts: Counts, k: int) -> None:
    small = np.flatnonzero(counts.cells_per_sample < k + 2)
    if len(small):
        c = int(small[0])
        raise InputError(
            f"covariates of cells have {k} coefficients and sample {counts.samples[c]!r} has "
            f"{counts.cells_per_sample[c]} cells, of which at least {k + 2} are needed; use fewer "
            f"covariates or min_cells={k + 2}"
        )


def projection(
    counts: Counts, sums: DepthSums, fit: GeneMoments, z: Array, sample: int
) -> Projection:
    """Rotate the covariates of the cells of one sample.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums
    fit : GeneMoments
        Moments whose weights are used.
    z : ndarray, shape (n_cells, k)
    sample : int
        Position of the sample.
    """
    cells = slice(int(counts.starts[sample]), int(counts.starts[sample + 1]))
    depth = sums.depth[cells]
    w = 1 / (1 + depth * np.median(fit.slope[:, sample]))
    u = _orthonormal(z[cells], depth * w)
    weighted, scaled = w[:, None] * u, depth[:, None] * u
    leverage = (scaled * weighted).sum(1)
    noise = _quadratic(scaled, (weighted * depth[:, None] ** 2).T @ weighted)
    v = depth**2 * (1 - 2 * leverage) + noise
    return Projection(cells, depth, scaled, weighted, leverage, v)


def _node_sums(sample: Projection, grid: Grid, gram: Array) -> tuple[Array, Array]:
    """Return the sums of s^2 u u' L and of v L, and add those of v L L' to `gram`."""
    m, k = len(gram), sample.scaled.shape[1]
    outer, total = np.zeros((m, k, k)), np.zeros(m)
    for start in range(0, len(sample.depth), _BLOCK):
        part = slice(start, start + _BLOCK)
        b = grid.basis(sample.depth[part])
        gram += (b * sample.v[part, None]).T @ b
        total += sample.v[part] @ b
        a = sample.scaled[part]
        outer += np.einsum("im,ia,ib->mab", b, a, a, optimize=True)
    return outer, total


def _squared_residuals(
    counts: Counts, sums: DepthSums, fit: GeneMoments, found: CellAdjustment, sample: int
) -> Array:
    squares = np.zeros(counts.n_genes)
    for _, block in residual_blocks(
        counts,
        sums.depth,
        fit.mu[:, sample],
        fit.slope[:, sample],
        slice(None),
        sample,
        np.float64,
        found.fitted(sample, np.float64),
    ):
        squares += np.einsum("ji,ji->j", block, block)
    return squares


def _orthonormal(z: Array, weight: Array) -> Array:
    """Make covariates orthonormal under the weights; directions without variation become zero."""
    centred = z.copy()
    centred[:, 1:] -= (weight @ z[:, 1:]) / weight.sum()
    scale = np.sqrt((weight[:, None] * centred**2).sum(0))
    flat = scale <= 1e-8 * np.sqrt((weight[:, None] * z**2).sum(0))
    centred = np.where(flat, 0.0, centred / np.where(flat, 1.0, scale))
    value, vector = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    present = value > _RANK * value.max()
    return centred @ (vector * np.where(present, 1 / np.sqrt(np.where(present, value, 1.0)), 0.0))


def _quadratic(x: Array, matrix: Array) -> Array:
    return np.einsum("ia,ab,ib->i", x, matrix, x, optimize=True)


def _gene_denominator(
    sums: DepthSums, fit: GeneMoments, c: int, f2: Array, gain: Array, num: Array
) -> Array:
    """Compute mean^2 less the variance of the estimated mean.

    See :func:`hiercorr.moments.genes.within_moments`.
    """
    mu, f = fit.mu[:, c], np.sqrt(f2)
    total = f @ sums.power[1, c]
    return (
        gain * (mu**2 - mu * (f2 @ sums.power[1, c]) / total**2)
        - num * (f2 @ sums.power[2, c]) / total**2
    )
