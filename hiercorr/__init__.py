"""Gene-gene correlation from single-cell counts as hierarchical models: cells nest in samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiercorr._version import __version__

if TYPE_CHECKING:
    from hiercorr import datasets, enrichment, modules, planning, plotting, simulate
    from hiercorr.analysis.run import Analysis, analyze
    from hiercorr.bayes.model import BayesianCorrelation
    from hiercorr.between.across import AcrossCellTypes
    from hiercorr.between.deseq2 import differential_expression
    from hiercorr.between.pseudobulk import Pseudobulk
    from hiercorr.counts.aggregate import aggregate
    from hiercorr.errors import DataWarning, EstimationWarning, InputError
    from hiercorr.exploratory.cells import CellCorrelation
    from hiercorr.exploratory.metacells import metacell_sensitivity, metacells
    from hiercorr.exploratory.traps import Traps, traps
    from hiercorr.interpretation.compare import Comparison, compare
    from hiercorr.interpretation.decomposition import decompose
    from hiercorr.interpretation.evidence import Evidence, evidence
    from hiercorr.planning.check import DesignCheck, check_design
    from hiercorr.planning.power_analysis import power
    from hiercorr.reporting.report import report
    from hiercorr.results.cell_types import CellTypes
    from hiercorr.results.result import CorrelationResult, load
    from hiercorr.schema import Flag
    from hiercorr.within.cell_types import by_cell_type
    from hiercorr.within.cscore import CSCore
    from hiercorr.within.differential import differential
    from hiercorr.within.differential_variability import differential_variability
    from hiercorr.within.direct_partners import direct_partners

_WHERE = {
    "AcrossCellTypes": "between.across",
    "Analysis": "analysis.run",
    "analyze": "analysis.run",
    "BayesianCorrelation": "bayes.model",
    "CSCore": "within.cscore",
    "CellCorrelation": "exploratory.cells",
    "CellTypes": "results.cell_types",
    "Comparison": "interpretation.compare",
    "CorrelationResult": "results",
    "DataWarning": "errors",
    "DesignCheck": "planning.check",
    "EstimationWarning": "errors",
    "Evidence": "interpretation.evidence",
    "Flag": "schema",
    "InputError": "errors",
    "Pseudobulk": "between.pseudobulk",
    "Traps": "exploratory.traps",
    "aggregate": "counts.aggregate",
    "bayes": "",
    "by_cell_type": "within.cell_types",
    "check_design": "planning.check",
    "compare": "interpretation.compare",
    "decompose": "interpretation.decomposition",
    "differential": "within.differential",
    "differential_expression": "between.deseq2",
    "differential_variability": "within.differential_variability",
    "direct_partners": "within.direct_partners",
    "evidence": "interpretation.evidence",
    "datasets": "",
    "enrichment": "",
    "modules": "",
    "nearby_pairs": "counts.pair_files",
    "plotting": "",
    "load": "results",
    "metacell_sensitivity": "exploratory.metacells",
    "metacells": "exploratory.metacells",
    "planning": "",
    "power": "planning",
    "report": "reporting",
    "traps": "exploratory.traps",
    "simulate": "",
}

__all__ = [
    "AcrossCellTypes",
    "Analysis",
    "BayesianCorrelation",
    "CSCore",
    "CellCorrelation",
    "CellTypes",
    "Comparison",
    "CorrelationResult",
    "DataWarning",
    "DesignCheck",
    "EstimationWarning",
    "Evidence",
    "Flag",
    "InputError",
    "Pseudobulk",
    "Traps",
    "__version__",
    "aggregate",
    "analyze",
    "by_cell_type",
    "check_design",
    "compare",
    "datasets",
    "decompose",
    "differential",
    "differential_expression",
    "differential_variability",
    "direct_partners",
    "enrichment",
    "evidence",
    "load",
    "metacell_sensitivity",
    "metacells",
    "modules",
    "nearby_pairs",
    "planning",
    "plotting",
    "power",
    "report",
    "simulate",
    "traps",
]


def __getattr__(name: str) -> Any:  # heavy libraries are imported where they are used
    if name not in _WHERE:
        raise AttributeError(f"module 'hiercorr' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"hiercorr.{_WHERE[name] or name}")
    value = getattr(module, name) if _WHERE[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
