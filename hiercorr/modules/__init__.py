"""Modules of genes: found, exported, preserved in other data, different between groups."""

from hiercorr.modules.connectivity import differential_connectivity, preservation
from hiercorr.modules.found import Modules, find_modules, write_graphml
from hiercorr.within.differential_modules import differential_correlation

__all__ = [
    "Modules",
    "differential_connectivity",
    "differential_correlation",
    "find_modules",
    "preservation",
    "write_graphml",
]
