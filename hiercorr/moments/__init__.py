"""Sums over the cells of each sample, used by all moment estimators: pure functions on arrays."""

from hiercorr.moments.cell_adjustment import CellAdjustment
from hiercorr.moments.depth import DepthSums, Grid, depth_sums
from hiercorr.moments.genes import GeneMoments, pooled_moments, within_moments
from hiercorr.moments.pairs import denominators, numerators, weight_products

__all__ = [
    "CellAdjustment",
    "DepthSums",
    "GeneMoments",
    "Grid",
    "denominators",
    "depth_sums",
    "numerators",
    "pooled_moments",
    "weight_products",
    "within_moments",
]
