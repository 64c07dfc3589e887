"""Gene-gene correlation from single-cell counts as hierarchical models: cells nest in samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiercorr._version import __version__

if TYPE_CHECKING:
    from hiercorr import datasets, enrichment, modules, planning, plotting, simulate
    from hiercorr._cell_types import CellTypes, by_cell_type
    from hiercorr._compare import Comparison, compare
    from hiercorr._differential import differential
    from hiercorr._evidence import Evidence, evidence
    from hiercorr._metacells import metacell_sensitivity, metacells
    from hiercorr._traps import Traps, traps
    from hiercorr.aggregation import aggregate
    from hiercorr.bayes.model import BayesianCorrelation
    from hiercorr.celllevel import CellCorrelation
    from hiercorr.check import DesignCheck, check_design
    from hiercorr.cscore import CSCore
    from hiercorr.decomposition import decompose
    from hiercorr.errors import DataWarning, EstimationWarning, InputError
    from hiercorr.expression import differential_expression
    from hiercorr.planning import power
    from hiercorr.pseudobulk import Pseudobulk
    from hiercorr.reporting import report
    from hiercorr.results import CorrelationResult, load
    from hiercorr.schema import Flag

_WHERE = {
    "BayesianCorrelation": "bayes.model",
    "CSCore": "cscore",
    "CellCorrelation": "celllevel",
    "CellTypes": "_cell_types",
    "Comparison": "_compare",
    "CorrelationResult": "results",
    "DataWarning": "errors",
    "DesignCheck": "check",
    "EstimationWarning": "errors",
    "Evidence": "_evidence",
    "Flag": "schema",
    "InputError": "errors",
    "Pseudobulk": "pseudobulk",
    "Traps": "_traps",
    "aggregate": "aggregation",
    "by_cell_type": "_cell_types",
    "check_design": "check",
    "compare": "_compare",
    "decompose": "decomposition",
    "differential": "_differential",
    "differential_expression": "expression",
    "evidence": "_evidence",
    "datasets": "",
    "enrichment": "",
    "modules": "",
    "plotting": "",
    "load": "results",
    "metacell_sensitivity": "_metacells",
    "metacells": "_metacells",
    "planning": "",
    "power": "planning",
    "report": "reporting",
    "traps": "_traps",
    "simulate": "",
}

__all__ = [
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
    "by_cell_type",
    "check_design",
    "compare",
    "datasets",
    "decompose",
    "differential",
    "differential_expression",
    "enrichment",
    "evidence",
    "load",
    "metacell_sensitivity",
    "metacells",
    "modules",
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
