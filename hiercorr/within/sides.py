"""Cells of one sample as one side of a tile: the residuals of genes of one type."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from hiercorr import moments
from hiercorr.counts.counts import Counts
from hiercorr.moments.products import TypedSide


def typed_side(
    counts: Counts,
    sums: moments.Sums,
    fit: moments.GeneMoments,
    kind: int,
    genes: slice,
    sample: int,
    dtype: DTypeLike,
) -> TypedSide:
    """Return genes of one type with the depth of this type, the sample's means and covariates.

    Parameters
    ----------
    counts : Counts
    sums : DepthSums or ModalitySums
    fit : GeneMoments
    kind : int
        Position of the type; 0 if there is one.
    genes : slice
        Genes among those of the type.
    sample : int
        Position of the sample.
    dtype : dtype
        Precision of expected counts.
    """
    mu, slope = fit.mu[:, sample], fit.slope[:, sample]
    adjustment = fit.adjustment
    if isinstance(sums, moments.ModalitySums):
        mu, slope, depth = sums.split(mu)[kind], sums.split(slope)[kind], sums.parts[kind].depth
    else:
        depth = sums.depth
    if isinstance(adjustment, moments.ModalityAdjustment):
        adjustment = adjustment.parts[kind]
    fitted = None if adjustment is None else adjustment.fitted(sample, np.dtype(dtype))
    return TypedSide(counts.by_type()[kind], depth, mu, slope, genes, fitted)
