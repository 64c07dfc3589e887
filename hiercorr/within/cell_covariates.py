r"""Covariates of cells in the within-sample model: each sample's counts are regressed on them by itself.

With covariates Z of cells (an intercept among them), depth s and one weight w0 a cell that all
genes share,

.. math:: \hat\beta_{cj} = (Z' S W_0 Z)^{-1} Z' W_0 x_j, \quad r_j = x_j - S Z\hat\beta_{cj} = (I - H)(x_j - E x_j),
          \quad H = S Z (Z' S W_0 Z)^{-1} Z' W_0 .

H is the same for every gene, so what fitting the covariates takes from a product of residuals is
known: :math:`E\, r_{ij} r_{ik} = \sigma_{jk} v_i` with :math:`v_i = \sum_l (I - H)_{il}^2 s_l^2`
for two genes, to which a gene with itself adds the Poisson noise :math:`\sum_l (I - H)_{il}^2 s_l
z_l`, estimated without bias by the counts in the place of :math:`s_l z_l`. The sums over cells keep
their form with v in the place of s^2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError
from hiercorr.moments.residuals import residual_blocks

if TYPE_CHECKING:
    from hiercorr.moments.depth import DepthSums, Grid
    from hiercorr.moments.genes import GeneMoments
from hiercorr.moments.cell_adjustment import CellAdjustment

Array = NDArray[np.float64]


_BLOCK = 65_536  # cells whose interpolation matrix exists at one time


# part of the largest eigenvalue below which a direction of covariates is not there in a sample
_RANK = 1e-10


def regress_out_covariates(
    counts: Counts, sums: DepthSums, grid: Grid, fit: GeneMoments, z: Array
) -> GeneMoments:
    """The moments within samples with covariates of cells taken out; weights are those of the fit without them.

    Parameters
    ----------
    z : ndarray, shape (n_cells, k)
        Design matrix of cells, intercept first.
    """
    k, s = z.shape[1], counts.n_samples
    small = np.flatnonzero(counts.cells_per_sample < k + 2)
    if len(small):
        c = int(small[0])
        raise InputError(
            f"covariates of cells have {k} coefficients and sample {counts.samples[c]!r} has "
            f"{counts.cells_per_sample[c]} "
            f"cells, of which at least {k + 2} are needed; use fewer covariates or "
            f"min_cells={k + 2}"
        )
    scaled = np.zeros((counts.n_cells, k))
    beta = np.zeros((s, k, counts.n_genes))
    gram = np.zeros((s, len(sums.nodes), len(sums.nodes)))
    num, den = np.empty_like(fit.num), np.empty_like(fit.den)
    found = CellAdjustment(scaled, beta, gram)  # filled sample by sample
    for c in range(s):
        cells = slice(int(counts.starts[c]), int(counts.starts[c + 1]))
        depth = sums.depth[cells]
        w = 1 / (1 + depth * np.median(fit.slope[:, c]))
        u = _turned(z[cells], depth * w)
        wu = w[:, None] * u
        scaled[cells] = depth[:, None] * u
        h = (scaled[cells] * wu).sum(1)
        v = depth**2 * (1 - 2 * h) + _quadratic(scaled[cells], (wu * depth[:, None] ** 2).T @ wu)
        outer = np.zeros((len(sums.nodes), k, k))  # sums of s^2 u u' L
        total = np.zeros(len(sums.nodes))  # sums of v L
        for start in range(0, len(depth), _BLOCK):
            part = slice(start, start + _BLOCK)
            b = grid.basis(depth[part])
            gram[c] += (b * v[part, None]).T @ b
            total += v[part] @ b
            a = scaled[cells][part]
            outer += np.einsum("im,ia,ib->mab", b, a, a, optimize=True)
        f2 = (1 + np.outer(fit.slope[:, c], sums.nodes)) ** -2.0
        per_gene = np.einsum("jm,mab->jab", f2, outer, optimize=True)
        first, last = counts.offsets[:, c], counts.offsets[:, c + 1]
        noise = np.zeros(counts.n_genes)
        kernels.sums.regress_on_cells(
            counts.rows,
            counts.values,
            first,
            last,
            cells.start,
            depth,
            fit.slope[:, c],
            wu,
            h,
            per_gene,
            beta[c],
            noise,
        )
        squares = np.zeros(counts.n_genes)
        every = (
            fit.mu[:, c],
            fit.slope[:, c],
            slice(None),
            c,
            np.float64,
            found.fitted(c, np.float64),
        )
        for _, block in residual_blocks(counts, sums.depth, *every):
            squares += np.einsum("ji,ji->j", block, block)
        num[:, c] = squares - noise
        den[:, c] = _gene_denominator(sums, fit, c, f2, f2 @ total, num[:, c])
    return replace(fit, num=num, den=den, adjustment=found)


def _turned(z: Array, weight: Array) -> Array:
    """Covariates made orthonormal under the weights; directions that these cells do not have are zero."""
    centred = z.copy()
    centred[:, 1:] -= (weight @ z[:, 1:]) / weight.sum()
    scale = np.sqrt((weight[:, None] * centred**2).sum(0))
    flat = scale <= 1e-8 * np.sqrt((weight[:, None] * z**2).sum(0))
    centred = np.where(flat, 0.0, centred / np.where(flat, 1.0, scale))
    value, vector = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    there = value > _RANK * value.max()
    return centred @ (vector * np.where(there, 1 / np.sqrt(np.where(there, value, 1.0)), 0.0))


def _quadratic(x: Array, matrix: Array) -> Array:
    return np.einsum("ia,ab,ib->i", x, matrix, x, optimize=True)


def _gene_denominator(
    sums: DepthSums, fit: GeneMoments, c: int, f2: Array, gain: Array, num: Array
) -> Array:
    """As in :func:`hiercorr.moments.genes.within_moments`: mean^2 less the variance of the estimated mean."""
    mu, f = fit.mu[:, c], np.sqrt(f2)
    total = f @ sums.power[1, c]
    return (
        gain * (mu**2 - mu * (f2 @ sums.power[1, c]) / total**2)
        - num * (f2 @ sums.power[2, c]) / total**2
    )
