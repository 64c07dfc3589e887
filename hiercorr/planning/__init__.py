"""Planning: what a design can answer, its power, and the cheapest design for a question."""

from hiercorr.planning.best_design import best_design
from hiercorr.planning.designs import Design
from hiercorr.planning.pilot import pilot
from hiercorr.planning.power_analysis import around, power, power_curve

__all__ = ["Design", "around", "best_design", "pilot", "power", "power_curve"]
