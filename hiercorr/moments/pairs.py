"""Numerators and denominators of the covariances of gene pairs, per sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.moments.cell_adjustment import CellAdjustment, ModalityAdjustment
from hiercorr.moments.depth import Array, DepthSums
from hiercorr.moments.genes import GeneMoments
from hiercorr.moments.modalities import ModalitySums, PairBlock
from hiercorr.moments.products import (
    TypedSide,
    adjusted_products,
    cross_products,
    products_of_types,
    sides_of,
)

Cache = Callable[[str, Callable[[], NDArray]], NDArray]  # (name, compute) -> stored or new array


def weight_products(
    sums: DepthSums | ModalitySums,
    slope: Array,
    left: slice,
    right: slice,
    sample: int,
    dtype: DTypeLike,
    out: NDArray | None = None,
) -> NDArray:
    """Sum s t f_j f_k over the cells of one sample for all pairs of two slices of genes.

    Parameters
    ----------
    sums : DepthSums or ModalitySums
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

    if out is None:
        out = np.empty((left.stop - left.start, right.stop - right.start), dtype)
    if isinstance(sums, ModalitySums):
        for block in sums.blocks(left, right):
            f = weights(block.left) @ sums.pair_gram(block)[sample]
            out[block.rows, block.columns] = f @ weights(block.right).T
        return out
    precise = sums.precise(dtype)
    a = (weights(left) @ sums.gram[0, sample]).astype(precise)
    b = weights(right).astype(precise)
    kernels.sums.row_products(a, b, left == right, out)
    if left == right:
        kernels.squares.mirror(out)
    return out


def numerators(
    counts: Counts,
    sums: DepthSums | ModalitySums,
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
    sums : DepthSums or ModalitySums
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
    sides = None if isinstance(sums, ModalitySums) else sides_of(counts, left, right)
    for c in range(counts.n_samples):
        k = c if fit.centred else 0

        def product(c: int = c, k: int = k) -> NDArray:
            if isinstance(sums, ModalitySums):
                return _of_types(counts, sums, fit, left, right, c, out[c], upper)
            if isinstance(fit.adjustment, CellAdjustment):
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
                sides,
            )

        if cache is None:
            product()
        else:
            out[c] = cache(f"{left.start}-{right.start}-{c}", product)
    return out


def _of_types(
    counts: Counts,
    sums: ModalitySums,
    fit: GeneMoments,
    left: slice,
    right: slice,
    sample: int,
    out: NDArray,
    upper: bool,
) -> NDArray:
    """Compute the numerators of one sample of features of several types."""
    of_type = counts.by_type()
    k = sample if fit.centred else 0
    mu, slope = sums.split(fit.mu[:, k]), sums.split(fit.slope[:, k])

    def side(t: int, genes: slice) -> TypedSide:
        fitted = None
        if isinstance(fit.adjustment, ModalityAdjustment):
            fitted = fit.adjustment.parts[t].fitted(sample, out.dtype)
        return TypedSide(of_type[t], sums.parts[t].depth, mu[t], slope[t], genes, fitted)

    for block in sums.blocks(left, right):
        a, b = block.types
        if left == right and a > b:  # the mirror image of another block
            continue
        own = block.own_left, block.own_right
        if a == b and fit.adjustment is None:
            found = cross_products(
                of_type[a], sums.parts[a], mu[a], slope[a], *own, sample, out.dtype, None, upper
            )
        else:
            found = products_of_types(side(a, own[0]), side(b, own[1]), sample, out.dtype)
        out[block.rows, block.columns] = found
        if left == right and a != b:
            out[block.columns, block.rows] = found.T
    return out


def denominators(
    sums: DepthSums | ModalitySums,
    fit: GeneMoments,
    left: slice,
    right: slice,
    num: NDArray,
    out: NDArray,
) -> NDArray:
    r"""Compute each sample's sum :math:`D_c` of the pairs by quadrature.

    The covariance is the sum of N over samples divided by the sum of D. If centred at each sample's
    mean, :math:`D_c = \mu_j\mu_k B - N K / (W_j W_k)` with :math:`K = \sum w_j w_k s t`,
    :math:`W_j = \sum w_j s`, :math:`W_k = \sum w_k t` and
    :math:`B = K - \sum w_j w_k^2 s t^2/W_k - \sum w_j^2 w_k s^2 t/W_j + K^2/(W_j W_k)`, so that
    :math:`E N_c = \sigma_{jk} B`; s is the depth of j and t that of k, the same for genes of one
    type. With covariates of cells, :math:`B = \sum w_j w_k v`
    (:mod:`hiercorr.within.cell_covariates`). If not centred, :math:`D_c = K`.

    Parameters
    ----------
    sums : DepthSums or ModalitySums
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
    if isinstance(sums, ModalitySums):
        for block in sums.blocks(left, right):
            part = np.ascontiguousarray(num[:, block.rows, block.columns])
            out[:, block.rows, block.columns] = _of_block(sums, fit, block, part)
        return out
    if isinstance(fit.adjustment, CellAdjustment):
        sides = (sums, left), (sums, right)
        return _adjusted(sides, sums.gram[0], fit.adjustment.gram, fit, num, out)
    grams = sums.gram[[0, 1, 1]]
    return _centred((sums, left), (sums, right), grams, fit, num, out)


_Genes = tuple[DepthSums, slice]  # sums of a type, and positions among all genes


def _of_block(sums: ModalitySums, fit: GeneMoments, block: PairBlock, num: NDArray) -> NDArray:
    """Compute the denominators of features of one type with those of one type."""
    a, b = block.types
    left, right = (sums.parts[a], block.left), (sums.parts[b], block.right)
    out = np.empty_like(num)
    if isinstance(fit.adjustment, ModalityAdjustment):
        gram = sums.pair_gram(block)
        return _adjusted((left, right), gram, fit.adjustment.gram(a, b), fit, num, out)
    return _centred(left, right, sums.grams(a, b), fit, num, out)


def _adjusted(
    sides: tuple[_Genes, _Genes],
    gram: NDArray,
    adjusted_gram: NDArray,
    fit: GeneMoments,
    num: NDArray,
    out: NDArray,
) -> NDArray:
    """Compute the denominators with covariates of cells; `gram` is of s t, (n_samples, m, m)."""
    (one, left), (two, right) = sides
    for c in range(len(num)):
        f, g = (1 / (1 + np.outer(fit.slope[genes, c], part.nodes)) for part, genes in sides)
        k = (f @ gram[c] / (f @ one.power[1, c])[:, None]) @ (g / (g @ two.power[1, c])[:, None]).T
        b = (fit.mu[left, c, None] * f @ adjusted_gram[c]) @ (fit.mu[right, c, None] * g).T
        out[c] = b - num[c] * k
    return out


def _centred(
    left: _Genes, right: _Genes, grams: NDArray, fit: GeneMoments, num: NDArray, out: NDArray
) -> NDArray:
    """Compute the denominators of centred sums; `grams` as :meth:`ModalitySums.grams`."""
    dtype = np.result_type(*(part.precise(num.dtype) for part, _ in (left, right)))
    a, k_left, w_left = _centred_side(*left, fit, dtype, grams)
    b, k_right, w_right = _centred_side(*right, fit, dtype, None)
    kernels.sums.centred_denominators(a, b, k_left, k_right, w_left, w_right, num, out)
    return out


def _centred_side(
    sums: DepthSums, genes: slice, fit: GeneMoments, dtype: DTypeLike, grams: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Compute one side's factors of B mu mu without its K^2 term and of K / (W_j W_k), and W mu.

    The first two axes of each are (n_samples, genes). `grams` is given for the left side.
    """
    f = (1 / (1 + fit.slope[genes].T[:, :, None] * sums.nodes)).astype(dtype)
    power = sums.power[1].astype(dtype)
    mu = fit.mu[genes].T.astype(dtype)[:, :, None]
    w = np.matmul(f, power[:, :, None])
    if grams is not None:
        st, stt, sst = grams.astype(dtype)
        weighted = np.matmul(f, st)
        parts = [mu * weighted, -mu * np.matmul(f, stt), -(mu / w) * np.matmul(f * f, sst)]
        k = weighted / w
    else:
        parts = [mu * f, (mu / w) * f * f, mu * f]
        k = f / w
    return np.concatenate(parts, axis=2), k, (w * mu)[:, :, 0]
