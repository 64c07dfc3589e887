"""Sums over the cells of each sample, used by all moment estimators: pure functions on arrays."""

from hiercorr.moments.cell_adjustment import CellAdjustment, ModalityAdjustment
from hiercorr.moments.depth import DepthSums, Grid, depth_sums
from hiercorr.moments.depth_dependence import DepthDependence, depth_dependence
from hiercorr.moments.genes import GeneMoments, pooled_moments, within_moments
from hiercorr.moments.modalities import ModalitySums, PairBlock, Sums, pair_blocks, sums_of
from hiercorr.moments.pairs import denominators, numerators, weight_products

__all__ = [
    "CellAdjustment",
    "DepthDependence",
    "DepthSums",
    "GeneMoments",
    "Grid",
    "ModalityAdjustment",
    "ModalitySums",
    "PairBlock",
    "Sums",
    "denominators",
    "depth_dependence",
    "depth_sums",
    "numerators",
    "pair_blocks",
    "pooled_moments",
    "sums_of",
    "weight_products",
    "within_moments",
]
