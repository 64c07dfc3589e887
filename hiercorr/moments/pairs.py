"""Numerators and denominators of the covariances of gene pairs, per sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.moments.depth import Array, DepthSums
from hiercorr.moments.genes import GeneMoments
from hiercorr.moments.products import adjusted_products, cross_products

Cache = Callable[[str, Callable[[], NDArray]], NDArray]  # (name, compute) -> stored or new array


def weight_products(
    sums: DepthSums,
    slope: Array,
    left: slice,
    right: slice,
    sample: int,
    dtype: DTypeLike,
    out: NDArray | None = None,
) -> NDArray:
    """Sum s^2 f_j f_k over the cells of one sample for all pairs of two slices of genes.

    Parameters
    ----------
    sums : DepthSums
    slope : ndarray, shape (n_genes,)
        a of the weights f = 1 / (1 + a s).
    left, right : slice
        Genes of the two sides.
    sample : int
        Position of the sample.
    dtype : dtype
        Precision of the result.
    out : ndarray, shape (left, right), optional
        Array for the result.

    Returns
    -------
    ndarray, shape (left, right)
    """

    def weights(genes: slice) -> Array:
        return 1 / (1 + np.outer(slope[genes], sums.nodes))

    precise = sums.precise(dtype)
    a = (weights(left) @ sums.gram[0, sample]).astype(precise)
    b = weights(right).astype(precise)
    if out is None:
        out = np.empty((len(a), len(b)), dtype)
    kernels.sums.row_products(a, b, left == right, out)
    if left == right:
        kernels.squares.mirror(out)
    return out


def numerators(
    counts: Counts,
    sums: DepthSums,
    fit: GeneMoments,
    left: slice,
    right: slice,
    out: NDArray,
    cache: Cache | None = None,
    upper: bool = False,
) -> NDArray:
    r"""Compute each sample's sum :math:`N_c` for all pairs of two slices of genes.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums
    fit : GeneMoments
    left, right : slice
        Genes of the two sides.
    out : ndarray, shape (n_samples, left, right)
        Array for the result.
    cache : callable, optional
        Returns arrays stored by an interrupted run and stores new ones.
    upper : bool
        Leave the entries below the diagonal undefined if both slices are equal.

    Returns
    -------
    ndarray
        `out`.
    """
    for c in range(counts.n_samples):
        k = c if fit.centred else 0

        def product(c: int = c, k: int = k) -> NDArray:
            if fit.adjustment is not None:
                fitted = fit.adjustment.fitted(c, out.dtype)
                return adjusted_products(
                    counts, sums.depth, fit.slope[:, c], left, right, c, fitted, out[c]
                )
            return cross_products(
                counts,
                sums,
                fit.mu[:, k],
                fit.slope[:, k],
                left,
                right,
                c,
                out.dtype,
                out[c],
                upper,
            )

        if cache is None:
            product()
        else:
            out[c] = cache(f"{left.start}-{right.start}-{c}", product)
    return out


def denominators(
    sums: DepthSums, fit: GeneMoments, left: slice, right: slice, num: NDArray, out: NDArray
) -> NDArray:
    r"""Compute each sample's sum :math:`D_c` of the pairs by quadrature.

    The covariance is the sum of N over samples divided by the sum of D. If centred at each sample's
    mean, :math:`D_c = \mu_j\mu_k B - N K / (W_j W_k)` with :math:`K = \sum w_j w_k s^2` and
    :math:`B = K - \sum w_j w_k^2 s^3/W_k - \sum w_j^2 w_k s^3/W_j + K^2/(W_j W_k)`, so that
    :math:`E N_c = \sigma_{jk} B`; with covariates of cells, :math:`B = \sum w_j w_k v`
    (:mod:`hiercorr.within.cell_covariates`). If not centred, :math:`D_c = K`.

    Parameters
    ----------
    sums : DepthSums
    fit : GeneMoments
    left, right : slice
        Genes of the two sides.
    num : ndarray, shape (n_samples, left, right)
        See :func:`numerators`.
    out : ndarray, shape (n_samples, left, right)
        Array for the result.

    Returns
    -------
    ndarray
        `out`.
    """
    if not fit.centred:
        for c in range(len(num)):
            weight_products(sums, fit.slope[:, 0], left, right, c, num.dtype, out[c])
        return out
    if fit.adjustment is not None:
        for c in range(len(num)):
            f, g = (1 / (1 + np.outer(fit.slope[genes, c], sums.nodes)) for genes in (left, right))
            k = (f @ sums.gram[0, c] / (f @ sums.power[1, c])[:, None]) @ (
                g / (g @ sums.power[1, c])[:, None]
            ).T
            b = (fit.mu[left, c, None] * f @ fit.adjustment.gram[c]) @ (
                fit.mu[right, c, None] * g
            ).T
            out[c] = b - num[c] * k
        return out
    dtype = sums.precise(num.dtype)
    a, k_left, w_left = _centred_side(sums, fit, left, dtype, True)
    b, k_right, w_right = _centred_side(sums, fit, right, dtype, False)
    kernels.sums.centred_denominators(a, b, k_left, k_right, w_left, w_right, num, out)
    return out


def _centred_side(
    sums: DepthSums, fit: GeneMoments, genes: slice, dtype: DTypeLike, left: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Compute one side's factors of B mu mu without its K^2 term and of K / (W_j W_k), and W mu.

    The first two axes of each are (n_samples, genes).
    """
    f = (1 / (1 + fit.slope[genes].T[:, :, None] * sums.nodes)).astype(dtype)
    power, (g2, g3) = sums.power[1].astype(dtype), sums.gram.astype(dtype)
    mu = fit.mu[genes].T.astype(dtype)[:, :, None]
    w = np.matmul(f, power[:, :, None])
    if left:
        f2 = np.matmul(f, g2)
        parts = [mu * f2, -mu * np.matmul(f, g3), -(mu / w) * np.matmul(f * f, g3)]
        k = f2 / w
    else:
        parts = [mu * f, (mu / w) * f * f, mu * f]
        k = f / w
    return np.concatenate(parts, axis=2), k, (w * mu)[:, :, 0]
