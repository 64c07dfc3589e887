"""Plots of results (Matplotlib), safe for colour-blind readers.

Every function takes ``ax`` and returns it; ``result.plot.volcano()`` is short for
``hiercorr.plotting.volcano(result)``. :func:`figure_style` sets widths and letters for a journal.
"""

from __future__ import annotations

from hiercorr.plotting.calibration import ranks
from hiercorr.plotting.cells import pair_scatter
from hiercorr.plotting.levels import comparison, levels, traps
from hiercorr.plotting.look import figure_style
from hiercorr.plotting.network import network
from hiercorr.plotting.pairs import heatmap, module_heatmap, p_histogram, qq, ranked, volcano
from hiercorr.plotting.planning import designs, power_curve
from hiercorr.plotting.samples import diagnostics, forest, sample_scatter, strip

__all__ = [
    "comparison",
    "designs",
    "diagnostics",
    "figure_style",
    "forest",
    "heatmap",
    "levels",
    "module_heatmap",
    "network",
    "p_histogram",
    "pair_scatter",
    "power_curve",
    "qq",
    "ranked",
    "ranks",
    "sample_scatter",
    "strip",
    "traps",
    "volcano",
]
