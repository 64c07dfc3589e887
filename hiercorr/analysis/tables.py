"""Tables of an analysis, for CSV files and one Excel file."""

from __future__ import annotations

import pandas as pd

from hiercorr.analysis.folder import file_name, name_of
from hiercorr.analysis.steps import Part


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
        out["evidence"] = part.evidence.table
    for name, result in part.results.items():
        out[name] = result.top(part.target, n=len(result.genes))
    if "within" in part.results:
        out["samples"] = part.results["within"].sample_table()
    if part.design is not None:
        out["design"] = part.design.samples
    for caption, table in part.enrichment.items():
        out[file_name(caption.removeprefix("Gene sets ").replace("the ", "")).lower()] = table
    return {name_of(part, name): table for name, table in out.items()}
