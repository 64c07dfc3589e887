"""What a design can answer: samples, cells, depth, repeated donors, and the route that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hiercorr.data import MIN_CELLS, Counts, read_counts
from hiercorr.design import repeated_donors, sample_columns


@dataclass(frozen=True)
class DesignCheck:
    """The facts of a design and what follows from them.

    Attributes
    ----------
    samples : DataFrame
        Cells, median depth (counts) and detected genes per cell of each sample, with the columns of obs that are
        constant within samples.
    facts : dict
        n_samples, n_cells, n_genes, smallest and largest sample, depth ratio.
    repeated : dict
        Columns of obs that may name the donor: each value holds several samples. Name -> number of values.
    recommendation : str
        The route, in one sentence.
    reasons : list of str
        Why, and what to look out for.
    """

    samples: pd.DataFrame
    facts: dict[str, float]
    repeated: dict[str, int]
    recommendation: str
    reasons: list[str]

    def __str__(self) -> str:
        f = self.facts
        lines = [
            f"{f['n_samples']:,.0f} samples, {f['n_cells']:,.0f} cells, {f['n_genes']:,.0f} genes",
            f"cells per sample {f['smallest_sample']:,.0f} to {f['largest_sample']:,.0f}; "
            f"median depth {f['lowest_depth']:,.0f} to {f['highest_depth']:,.0f} counts",
            "",
            f"Recommendation: {self.recommendation}",
            *(f"  - {reason}" for reason in self.reasons),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{r}</li>" for r in self.reasons)
        table = self.samples.rename_axis(None).to_html(border=0, float_format="{:,.0f}".format)
        return f"<p><b>{self.recommendation}</b></p><ul>{items}</ul>{table}"


def check_design(
    data: ad.AnnData | str | Path,
    sample: str,
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
) -> DesignCheck:
    """Look at samples, cells and depth before anything is estimated.

    Parameters
    ----------
    data : AnnData or path
        Raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` that names the sample of each cell.
    layer, depth, subset, min_cells
        As for :class:`hiercorr.CSCore`.

    Returns
    -------
    DesignCheck
        Prints as text; ``samples`` is a table.

    Examples
    --------
    >>> import hiercorr as hc
    >>> d = hc.check_design(hc.datasets.glioblastoma(), sample="sample_id", depth="total_counts")
    >>> d.facts["n_samples"], d.repeated["patient_id"]
    (10, 5)
    """
    counts = read_counts(data, sample=sample, layer=layer, depth=depth, subset=subset, min_cells=min_cells,
                         allow_empty_genes=True)  # fmt: skip
    constant = sample_columns(counts.obs.drop(columns=sample), counts.starts, counts.samples)
    table = _sample_table(counts, constant)
    repeated = repeated_donors(constant, sample)
    facts = {
        "n_samples": counts.n_samples,
        "n_cells": counts.n_cells,
        "n_genes": counts.n_genes,
        "smallest_sample": int(table["n_cells"].min()),
        "largest_sample": int(table["n_cells"].max()),
        "lowest_depth": float(table["median_depth"].min()),
        "highest_depth": float(table["median_depth"].max()),
    }
    units = min([counts.n_samples, *repeated.values()])
    return DesignCheck(table, facts, repeated, _recommend(units), _reasons(facts, repeated, units))


def _sample_table(counts: Counts, constant: dict[str, pd.Series]) -> pd.DataFrame:
    bounds = list(zip(counts.starts[:-1], counts.starts[1:], strict=True))
    table = pd.DataFrame(
        {
            "n_cells": counts.cells_per_sample,
            "median_depth": [float(np.median(counts.depth[a:b])) for a, b in bounds],
            "genes_per_cell": np.diff(counts.offsets, axis=1).sum(0) / counts.cells_per_sample,
        },
        index=pd.Index(counts.samples, name="sample"),
    )
    return table.assign(**{k: v for k, v in constant.items() if v.nunique() <= 20})


def _recommend(units: int) -> str:
    if units < 3:
        return "explore only: fewer than 3 independent units give an estimate but no interval and no test"
    if units < 5:
        return "CSCore(...).fit() within samples for discovery; too few units for a claim between samples"
    return "CSCore(...).fit() within samples for discovery, Pseudobulk(...).fit() between samples for the main claim"


def _reasons(facts: dict[str, float], repeated: dict[str, int], units: int) -> list[str]:
    reasons = [f"n is {units}, not {facts['n_cells']:,.0f}: cells of one sample are not independent replicates"]
    for column, n in repeated.items():
        reasons.append(
            f"{facts['n_samples']:.0f} samples come from {n} values of {column!r}: samples of one donor are not "
            f"independent; between samples use block={column!r}, within them one condition at a time or the donor as sample"
        )
    if facts["largest_sample"] > 5 * facts["smallest_sample"]:
        reasons.append("samples differ more than 5-fold in cells: look at the flag 'dominated'")
    if facts["highest_depth"] > 3 * facts["lowest_depth"]:
        reasons.append("samples differ more than 3-fold in depth: pooled cell-level correlations would follow it")
    return reasons
