"""Tables of an analysis, for CSV files and one Excel file."""

from __future__ import annotations

import pandas as pd

from hiercorr.analysis.folder import file_name, name_of
from hiercorr.analysis.steps import Part
from hiercorr.results.pairs import ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.results.tables import id_by_name, with_ids


def tables(part: Part) -> dict[str, pd.DataFrame]:
    """List the tables of one part.

    Parameters
    ----------
    part : Part

    Returns
    -------
    dict of DataFrame
        By the name of their files: all partners of each result, the samples, the evidence at both
        levels and the gene sets.
    """
    out: dict[str, pd.DataFrame] = {}
    if part.evidence is not None:
        out["evidence"] = _with_ids(part.evidence.table, part.results["within"])
    for name, result in part.results.items():
        out[name] = _with_ids(result.top(part.target, n=len(result.genes)), result)
    if "within" in part.results:
        out["samples"] = part.results["within"].sample_table()
    if part.design is not None:
        out["design"] = part.design.samples
    for caption, table in part.enrichment.items():
        out[file_name(caption.replace("the ", "")).lower()] = table
    return {name_of(part, name): table for name, table in out.items()}


def _with_ids(table: pd.DataFrame, result: CorrelationResult) -> pd.DataFrame:
    """Add the ids of the genes in the rows, where a column of the data names the genes."""
    if ids_of(result.dataset) is None:
        return table
    return with_ids(table, id_by_name(result.dataset))
