"""What a design can answer: samples, cells, depth, repeated donors, and the route that follows."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hiercorr import moments
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.design.matrix import sample_design
from hiercorr.design.samples import repeated_donors, sample_columns
from hiercorr.errors import InputError, unknown_name
from hiercorr.interpretation.decomposition import variances

_MARKS = {True: "yes", False: "no", None: "not said"}


@dataclass(frozen=True)
class DesignCheck:
    """The facts of a design and what follows from them.

    Attributes
    ----------
    samples : DataFrame
        Cells, median depth (counts) and detected genes per cell of each sample, with the columns of obs that are
        constant within samples.
    groups : DataFrame or None
        Cells of each sample (rows) and cell type (columns), where `cell_type` was named.
    facts : dict
        n_samples, n_cells, n_genes, smallest_sample, largest_sample, lowest_depth, highest_depth, variance_share (median
        over genes of the share of the variance of expression that lies between samples), design_effect
        (1 + (cells per sample - 1) x that share), effective_cells (cells / design_effect).
    repeated : dict
        Columns of obs that may name the donor: each value holds several samples. Name -> number of values.
    conditions : DataFrame
        The five conditions for pseudobulk: whether each holds (True, False, or None where nobody said) and why.
    problems : list of str
        What is wrong with the formula, or confounded.
    recommendation : str
        The route, in one sentence.
    reasons : list of str
        Why, and what to look out for.
    """

    samples: pd.DataFrame
    groups: pd.DataFrame | None
    facts: dict[str, float]
    repeated: dict[str, int]
    conditions: pd.DataFrame
    problems: list[str]
    recommendation: str
    reasons: list[str]

    def table(self) -> pd.DataFrame:
        """The facts as a table of one column."""
        return pd.DataFrame({"value": self.facts})

    def conditions_said(self) -> pd.DataFrame:
        """The conditions with yes, no or not said for whether they hold."""
        return self.conditions.assign(holds=[_MARKS[h] for h in self.conditions["holds"]])

    def __str__(self) -> str:
        f = self.facts
        lines = [
            f"{f['n_samples']:,.0f} samples, {f['n_cells']:,.0f} cells, {f['n_genes']:,.0f} genes",
            f"cells per sample {f['smallest_sample']:,.0f} to {f['largest_sample']:,.0f}; "
            f"median depth {f['lowest_depth']:,.0f} to {f['highest_depth']:,.0f} counts",
            f"{f['variance_share']:.0%} of the variance of expression between samples (median gene): for a mean, "
            f"{f['n_cells']:,.0f} cells are worth {f['effective_cells']:,.0f}",
            "",
            f"Recommendation: {self.recommendation}",
            *(f"  - {reason}" for reason in self.reasons),
            *(f"  ! {problem}" for problem in self.problems),
            "Conditions for pseudobulk (two or more: use it):",
            *(
                f"  {holds:8} {name}: {why}"
                for name, holds, why in self.conditions_said().itertuples()
            ),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(r)}</li>" for r in (*self.reasons, *self.problems))
        style = {"border": 0, "float_format": "{:,.0f}".format}
        tables = [
            self.conditions_said().rename_axis(None).to_html(border=0),
            self.samples.rename_axis(None).to_html(**style),
        ]
        if self.groups is not None:
            tables.append(self.groups.rename_axis(None, axis=1).to_html(**style))
        return f"<p><b>{html.escape(self.recommendation)}</b></p><ul>{items}</ul>{''.join(tables)}"


def check_design(
    data: ad.AnnData | str | Path,
    sample: str,
    cell_type: str | None = None,
    formula: str | None = None,
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    main_claim: bool | None = None,
    review: bool | None = None,
) -> DesignCheck:
    """Look at samples, cells and depth before anything is estimated.

    Parameters
    ----------
    data : AnnData or path
        Raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` that names the sample of each cell.
    cell_type : str, optional
        Column of ``obs``: also count the cells of each sample and type.
    formula : str, optional
        Covariates of samples that the analysis will adjust for: checked for rank, confounding and degrees of freedom.
    layer, depth, subset, min_cells
        As for :class:`hiercorr.CSCore`.
    main_claim, review : bool, optional
        What the data cannot say: is a test wanted for the main claim, must it withstand review?

    Returns
    -------
    DesignCheck
        Prints as text; ``samples``, ``groups``, ``conditions`` and ``table()`` are tables.

    Examples
    --------
    >>> import hiercorr as hc
    >>> d = hc.check_design(hc.datasets.glioblastoma(), sample="sample_id", depth="total_counts")
    >>> d.facts["n_samples"], d.repeated["patient_id"]
    (10, 5)
    """
    counts = read_counts(
        data,
        Selection(sample=sample, layer=layer, depth=depth, subset=subset, min_cells=min_cells),
        allow_empty_genes=True,
    )
    constant = sample_columns(counts.obs.drop(columns=sample), counts.starts, counts.samples)
    table = _sample_table(counts, constant)
    repeated = repeated_donors(constant, sample)
    share = median_variance_share(counts)
    effect = 1 + (counts.n_cells / counts.n_samples - 1) * share
    facts = {
        "n_samples": counts.n_samples,
        "n_cells": counts.n_cells,
        "n_genes": counts.n_genes,
        "smallest_sample": int(table["n_cells"].min()),
        "largest_sample": int(table["n_cells"].max()),
        "lowest_depth": float(table["median_depth"].min()),
        "highest_depth": float(table["median_depth"].max()),
        "variance_share": share,
        "design_effect": effect,
        "effective_cells": counts.n_cells / effect,
    }
    units = min([counts.n_samples, *repeated.values()])
    problems = _problems(counts, constant, formula, sample)
    conditions = _conditions(facts, units, formula, main_claim, review)
    groups = _groups(counts, cell_type)
    reasons = _reasons(facts, repeated, units)
    if groups is not None and (groups < min_cells).any(axis=None):
        reasons.append(
            f"{int((groups < min_cells).sum().sum())} pairs of sample and type have fewer than {min_cells} cells"
        )
    recommendation = _recommend(units, int((conditions["holds"] == True).sum()))  # noqa: E712 - None is not False
    return DesignCheck(
        table, groups, facts, repeated, conditions, problems, recommendation, reasons
    )


def median_variance_share(counts: Counts) -> float:
    """Median over genes of the share of the variance of expression that lies between samples."""
    sums = moments.depth_sums(counts, 1e-8)
    cells = counts.cells_per_sample
    within, between = variances(sums, moments.within_moments(sums), cells / counts.n_cells)
    known = within > 0
    share = np.clip(between[known] / (between + within)[known], 0, 1)
    return float(np.median(share)) if known.any() else float("nan")


def _groups(counts: Counts, cell_type: str | None) -> pd.DataFrame | None:
    if cell_type is None:
        return None
    if cell_type not in counts.obs:
        raise unknown_name("cell_type column", cell_type, counts.obs.columns)
    of = pd.Index(np.repeat(counts.samples, counts.cells_per_sample), name="sample")
    return pd.crosstab(of, counts.obs[cell_type].astype(str).to_numpy())


def _problems(
    counts: Counts, constant: dict[str, pd.Series], formula: str | None, sample: str
) -> list[str]:
    """What the formula cannot do, and columns of samples that say the same thing."""
    out = []
    if formula is not None:
        columns = pd.DataFrame(
            {sample: counts.samples.to_numpy(), **constant}, index=counts.samples
        )
        varying = [str(c) for c in counts.obs.columns if str(c) not in columns]
        try:
            design = sample_design(formula, columns, varying, None)
        except InputError as error:
            return [str(error)]
        s, k = design.matrix.shape
        if s < k + 2:
            out.append(
                f"{formula!r} has {k} coefficients and needs at least {k + 2} samples; there are {s}"
            )
        named = [
            c for c in design.table.columns if not pd.api.types.is_numeric_dtype(design.table[c])
        ]
        donors = repeated_donors(constant, sample)
        for a in named:
            for b, values in constant.items():
                other = (
                    b not in named and b not in donors and not pd.api.types.is_numeric_dtype(values)
                )
                together = other and 1 < values.nunique() < s
                if together and pd.crosstab(design.table[a], values).gt(0).sum(0).max() == 1:
                    out.append(
                        f"every {b!r} has one {a!r} only: the effects of {a!r} cannot be told from those of {b!r}"
                    )
    return out


def _conditions(
    facts: dict[str, float],
    units: int,
    formula: str | None,
    main_claim: bool | None,
    review: bool | None,
) -> pd.DataFrame:
    asked = "not in the data: pass {}= to say"
    differ = facts["design_effect"] > 2 or formula is not None
    rows = {
        "several samples": (units >= 3, f"{units} independent units"),
        "few samples but many cells": (
            units <= 12 and facts["n_cells"] / facts["n_samples"] >= 100,
            f"{facts['n_cells'] / facts['n_samples']:,.0f} cells a sample",
        ),
        "a test is wanted for the main claim": (
            main_claim,
            asked.format("main_claim") if main_claim is None else "as said",
        ),
        "individual or batch differences matter": (
            differ,
            f"design effect {facts['design_effect']:,.0f}"
            + (f"; formula {formula}" if formula else ""),
        ),
        "it must withstand review": (
            review,
            asked.format("review") if review is None else "as said",
        ),
    }
    holds = pd.Series([h for h, _ in rows.values()], list(rows), dtype=object)  # None stays None
    return pd.DataFrame({"holds": holds, "why": [why for _, why in rows.values()]})


def _sample_table(counts: Counts, constant: dict[str, pd.Series]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "n_cells": counts.cells_per_sample,
            "median_depth": counts.median_depth,
            "genes_per_cell": np.diff(counts.offsets, axis=1).sum(0) / counts.cells_per_sample,
        },
        index=pd.Index(counts.samples, name="sample"),
    )
    return table.assign(**{k: v for k, v in constant.items() if v.nunique() <= 20})


def _recommend(units: int, conditions: int) -> str:
    if units < 3:
        return "explore only: fewer than 3 independent units give an estimate but no interval and no test"
    if units < 5:
        return (
            "CSCore(...).fit() within samples for discovery; too few units for a claim between samples, where Pseudobulk "
            "describes"
        )
    claim = "Pseudobulk(...).fit() between samples for the main claim"
    if conditions < 2:
        return f"CSCore(...).fit() within samples for discovery; {claim} if one is to be made"
    return f"CSCore(...).fit() within samples for discovery, {claim}"


def _reasons(facts: dict[str, float], repeated: dict[str, int], units: int) -> list[str]:
    reasons = [
        f"n is {units}, not {facts['n_cells']:,.0f}: cells of one sample are not independent replicates"
    ]
    for column, n in repeated.items():
        reasons.append(
            f"{facts['n_samples']:.0f} samples come from {n} values of {column!r}: samples of one donor are not "
            f"independent; between samples use block={column!r}, within them one condition at a time or the donor as sample"
        )
    if facts["largest_sample"] > 5 * facts["smallest_sample"]:
        reasons.append("samples differ more than 5-fold in cells: look at the flag 'dominated'")
    if facts["highest_depth"] > 3 * facts["lowest_depth"]:
        reasons.append(
            "samples differ more than 3-fold in depth: pooled cell-level correlations would follow it"
        )
    return reasons
