"""Sums of the relative variances of genes by sample, with their sampling variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.counts.counts import Counts
from hiercorr.inference.variability import VarianceSums
from hiercorr.within.sides import typed_side

Array = NDArray[np.float64]

_GENES = 500  # per dense block of residuals


def variance_sums(counts: Counts, sums: moments.Sums, fit: moments.GeneMoments) -> VarianceSums:
    r"""Compute the sums of the relative variances by sample, with their sampling variances.

    Under Gaussian residuals the variance of N_c is :math:`2\sum_i e_i^2` with the expected squared
    weighted residual :math:`e_i = w_i^2(s_i\mu_c + \phi s_i^2\mu_c^2)`. Expression is not Gaussian:
    the sum is therefore multiplied by a factor for each gene, the squared influences of the cells
    (:func:`squared_influence`) divided by this sum, both added over all samples. A factor for each
    sample would be correlated with that sample's estimate.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums or ModalitySums
    fit : GeneMoments
        Moments within samples.
    """
    phi = np.where(fit.variance > 0, fit.variance, 0.0)
    s = sums.nodes
    w = 1 / (1 + fit.slope[:, :, None] * s)
    depth, squares = sums.over_cells(w, 1), sums.over_cells(w**2, 2)
    mean = _shrunken_means(sums, fit, w, depth, phi)
    noise, biology = w**2 * mean[:, :, None], w**2 * s * mean[:, :, None] ** 2  # divided by depth
    first = sums.squared_over_cells(noise).T
    second = sums.squared_over_cells(biology).T
    both = sums.squared_over_cells(noise + biology).T - first - second
    parts = 2 * np.array([first, both, second])
    expected = parts[0] + parts[1] * phi[:, None] + parts[2] * phi[:, None] ** 2
    found = squared_influence(counts, sums, fit, depth, squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.maximum(np.nan_to_num(found.sum(1) / expected.sum(1), nan=1.0), 1.0)
    return VarianceSums(fit.num, fit.den, squares * mean**2, parts * factor[:, None])


def _shrunken_means(
    sums: moments.Sums, fit: moments.GeneMoments, w: Array, depth: Array, phi: Array
) -> Array:
    """Shrink the means of samples to their average by their reliability, (n_genes, n_samples)."""
    s = sums.nodes
    with np.errstate(divide="ignore", invalid="ignore"):
        average = (depth * fit.mu).sum(1) / depth.sum(1)
        level = average[:, None, None] * s
        variance = sums.over_cells(w**2 * (level + phi[:, None, None] * level**2), 0)
        precision = (depth * average[:, None]) ** 2 / variance
        relative = fit.mu / average[:, None] - 1
        total = precision.sum(1)
        middle = (precision * relative).sum(1) / total
        q = (precision * (relative - middle[:, None]) ** 2).sum(1)
        scale = total - (precision**2).sum(1) / total
        between = np.clip((q - (fit.mu.shape[1] - 1)) / scale, 0, None)[:, None]
        shrunk = between / (between + 1 / precision) * (relative - middle[:, None])
    relative = 1 + middle[:, None] + np.nan_to_num(shrunk)
    return average[:, None] * np.maximum(relative, 0.01)


def squared_influence(
    counts: Counts, sums: moments.Sums, fit: moments.GeneMoments, depth: Array, squares: Array
) -> Array:
    r"""Sum the squared influences of the cells of each sample on :math:`N_c - \phi D_c`.

    .. math:: u_i = w_i^2(r_i^2 - s_i\mu_c) - \phi w_i^2 s_i^2 \mu_c^2
              - w_i r_i\,\frac{\sum w^2 s + 2\phi\mu_c\sum w^2 s^2}{\sum w s}

    whose last term is the influence through the mean.

    Parameters
    ----------
    counts, sums, fit
        As for :func:`variance_sums`.
    depth, squares : ndarray, shape (n_genes, n_samples)
        Sums of w s and of w^2 s^2.

    Returns
    -------
    ndarray, shape (n_genes, n_samples)
    """
    phi = np.nan_to_num(fit.variance)
    w2 = 1 / (1 + fit.slope[:, :, None] * sums.nodes) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = sums.over_cells(w2, 1) + 2 * phi[:, None] * fit.mu * squares
        slope = np.nan_to_num(slope / depth)
    out = np.zeros(fit.num.shape)
    for start in range(0, counts.n_genes, _GENES):
        genes = slice(start, min(start + _GENES, counts.n_genes))
        for block, _ in moments.pair_blocks(sums, genes, genes):
            if block.types[0] != block.types[1]:
                continue
            for c in range(counts.n_samples):
                side = typed_side(counts, sums, fit, block.types[0], block.own_left, c, np.float64)
                of = phi[block.left, None] * fit.mu[block.left, c, None]
                total = np.zeros((2, block.left.stop - block.left.start))
                for cells, y in side.residuals(c, np.float64):
                    noise = side.noise(cells, np.float64)
                    u = y**2 - noise * (1 + of * side.depth[cells])
                    u -= slope[block.left, c, None] * y
                    total += u.sum(1), (u**2).sum(1)
                n = max(int(counts.cells_per_sample[c]), 1)
                out[block.left, c] = total[1] - total[0] ** 2 / n
    return out
