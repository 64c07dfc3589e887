"""Modules of genes: found, exported, preserved in other data, different between groups."""

from hiercorr.modules.connectivity import differential_connectivity, preservation
from hiercorr.modules.donor_values import centrality, compare_donors, connectivity
from hiercorr.modules.found import Modules, find_modules, write_graphml
from hiercorr.modules.left_out import left_out_preservation, project
from hiercorr.within.differential_modules import differential_correlation

__all__ = [
    "Modules",
    "centrality",
    "compare_donors",
    "connectivity",
    "differential_connectivity",
    "differential_correlation",
    "find_modules",
    "left_out_preservation",
    "preservation",
    "project",
    "write_graphml",
]
