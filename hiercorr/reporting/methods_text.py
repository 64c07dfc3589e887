"""The Methods paragraph of a result, and the references for what it used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pandas as pd

from hiercorr.errors import unknown_name
from hiercorr.interpretation.evidence import Evidence
from hiercorr.reporting import bayes_text, between_text, table_text, within_text
from hiercorr.reporting.references import cited
from hiercorr.reporting.wording import Facts, facts_of
from hiercorr.results.cell_types import CellTypes
from hiercorr.results.result import CorrelationResult

Described: TypeAlias = CorrelationResult | CellTypes | Evidence | pd.DataFrame

MODELS: dict[str, Callable[[Facts], str]] = {
    "CSCore": within_text.cscore,
    "differential": within_text.differential,
    "differential_variability": within_text.differential_variability,
    "CellCorrelation": within_text.cell_correlation,
    "decomposition": within_text.decomposition,
    "direct_partners": within_text.direct_partners,
    "Pseudobulk": between_text.pseudobulk,
    "AcrossCellTypes": between_text.across_cell_types,
    "BayesianCorrelation": bayes_text.bayesian,
    "differential_expression": between_text.differential_expression,
    "enrich": table_text.enrich,
    "gsea": table_text.gsea,
    "find_modules": table_text.modules,
    "compare_donors": table_text.compared_donors,
    "preservation": table_text.preserved,
}


def methods_text(result: Described) -> str:
    """Write a Methods paragraph for a result from its attributes.

    Parameters
    ----------
    result : CorrelationResult, CellTypes, Evidence or DataFrame
        A result of any model, or a table of :func:`hiercorr.differential_expression`,
        :func:`hiercorr.differential_variability`, :func:`hiercorr.enrichment.enrich`,
        :func:`hiercorr.enrichment.gsea`, :func:`hiercorr.modules.find_modules` (its ``table``),
        :func:`hiercorr.modules.preservation` or :func:`hiercorr.modules.compare_donors`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the model that made the result is unknown.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.reporting import methods_text
    >>> adata = hc.datasets.glioblastoma()
    >>> model = hc.CSCore(adata, "sample_id", genes=20, depth="total_counts", block="patient_id")
    >>> "hierarchical model" in methods_text(model.fit(target="FTL"))
    True
    """
    if isinstance(result, Evidence):
        return table_text.evidence(result)
    facts = facts_of(result)
    model = str(facts.get("model"))
    if model not in MODELS:
        raise unknown_name("model of a result", model, MODELS)
    return MODELS[model](facts)


def citations(result: Described) -> list[str]:
    """List the references for what a result used, in the order of its Methods paragraph.

    Parameters
    ----------
    result : CorrelationResult, CellTypes, Evidence or DataFrame
        As for :func:`methods_text`.

    Returns
    -------
    list of str
    """
    return cited([methods_text(result)])
