"""Check what a design can answer: samples, cells, sequencing depth and repeated donors."""

from __future__ import annotations

import html
import re
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
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.modalities import one_type
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection, selected_cells
from hiercorr.design.formulas import fixed_terms
from hiercorr.design.matrix import DesignMatrix, sample_design
from hiercorr.design.nesting import Structure, design_structure, like_codes, quoted
from hiercorr.design.samples import donors_of_samples, sample_columns, sample_name
from hiercorr.errors import InputError, text, true_or_false, unknown_name
from hiercorr.interpretation.decomposition import variances

_ANSWERS = {True: "yes", False: "no", None: "unknown"}


def proportion(value: float) -> str:
    """Format a proportion in percent, with two digits below 1%: cells share much of a little."""
    return f"{value:.0%}" if not 0 < value < 0.01 else f"{100 * value:.2g}%"


@dataclass(frozen=True)
class DesignCheck:
    """The properties of a design and the recommended analysis.

    Attributes
    ----------
    samples : DataFrame
        Cells, median sequencing depth (counts) and detected genes per cell of each sample, with the
        columns of ``obs`` that are constant within samples and differ between them; ``attrs``: what
        was analysed.
    groups : DataFrame or None
        Number of cells per sample (rows) and cell type (columns), if `cell_type` was named.
    facts : dict
        n_samples, n_cells, n_genes, smallest_sample, largest_sample, lowest_depth, highest_depth,
        variance_share (median over genes of the proportion of the variance of expression that lies
        between samples), design_effect (1 + (cells per sample - 1) x that proportion),
        effective_cells (cells / design_effect), n_donors (independent units).
    structure : Structure
        Nesting and crossing of the columns of ``obs`` that group cells: ``sample``, ``block``,
        ``n_donors``, ``random`` (``"(1 | donor/sample)"``), ``within_donors``,
        ``between_donors``, ``within_samples``, ``relations`` (one row per pair of columns).
    repeated : dict
        The donors' column, if they have several samples, with its number of values.
    conditions : DataFrame
        The five conditions for pseudobulk: whether each holds (True, False, or None if unknown)
        and why.
    problems : list of str
        Errors of the formula, confounding, and numbers that are probably codes.
    recommendation : str
        The recommended analysis, in one sentence.
    reasons : list of str
        Reasons and caveats.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> check = hc.check_design(adata, sample="sample_id", depth="total_counts")
    >>> check.structure.block
    'patient_id'
    """

    samples: pd.DataFrame
    groups: pd.DataFrame | None
    facts: dict[str, float]
    structure: Structure
    repeated: dict[str, int]
    conditions: pd.DataFrame
    problems: list[str]
    recommendation: str
    reasons: list[str]

    def table(self) -> pd.DataFrame:
        """Return the facts as a table with one column.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> check = hc.check_design(adata, sample="sample_id", depth="total_counts")
        >>> check.table().columns.tolist()[:2]
        ['value']
        """
        return pd.DataFrame({"value": self.facts})

    def conditions_said(self) -> pd.DataFrame:
        """Return the conditions, with yes, no or "unknown" instead of True, False and None."""
        return self.conditions.assign(holds=[_ANSWERS[h] for h in self.conditions["holds"]])

    def __str__(self) -> str:
        f, selected = self.facts, selected_cells(self.samples.attrs, 60)
        lines = [
            f"{f['n_samples']:,.0f} samples, {f['n_cells']:,.0f} cells"
            f"{f' ({selected})' if selected else ''}, {f['n_genes']:,.0f} genes",
            f"cells per sample {f['smallest_sample']:,.0f} to {f['largest_sample']:,.0f}; "
            f"median depth {f['lowest_depth']:,.0f} to {f['highest_depth']:,.0f} counts",
            f"{proportion(f['variance_share'])} of the variance of expression is between samples "
            f"(median gene): a mean over {f['n_cells']:,.0f} cells is as precise as one over "
            f"{f['effective_cells']:,.0f} independent cells",
            "",
            "Structure:",
            *(f"  {line}" for line in self.structure.lines()),
            f"Recommendation: {self.recommendation}",
            *(f"  - {reason}" for reason in self.reasons),
            *(f"  ! {problem}" for problem in self.problems),
            "Criteria for a pseudobulk analysis (recommended if two or more are met):",
            *(
                f"  {holds:8} {name}: {why}"
                for name, holds, why in self.conditions_said().itertuples()
            ),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = (*self.structure.lines(), *self.reasons, *self.problems)
        items = "".join(f"<li>{html.escape(r)}</li>" for r in lines)
        style = {"border": 0, "float_format": "{:,.0f}".format}
        tables = [
            self.conditions_said().rename_axis(None).to_html(border=0),
            self.samples.rename_axis(None).to_html(**style),
        ]
        if self.groups is not None:
            tables.append(self.groups.rename_axis(None, axis=1).to_html(**style))
        return f"<p><b>{html.escape(self.recommendation)}</b></p><ul>{items}</ul>{''.join(tables)}"


_MANY_DEPENDENT = 0.1  # proportion of genes that follow depth, above which it is mentioned


def check_design(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    cell_type: str | None = None,
    formula: str | None = None,
    *,
    block: str | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    modalities: str | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    main_claim: bool | None = None,
    review: bool | None = None,
) -> DesignCheck:
    """Check samples, cells and sequencing depth before anything is estimated.

    Parameters
    ----------
    data : AnnData or path
        Raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    cell_type : str, optional
        Column of ``obs`` with the cell types, to count the cells per sample and type.
    formula : str, optional
        Covariates of samples that the analysis will adjust for, checked for rank, confounding and
        degrees of freedom.
    block : str, optional
        Column with the donor of each sample. None: found from the names and the nesting of the
        columns.
    layer, depth, subset, gene_names, min_cells
        As for :class:`hiercorr.CSCore`.
    modalities : str, optional
        Type of the features whose depth is described. None: genes.
    main_claim, review : bool, optional
        Whether a test is wanted for the main claim, and whether it must withstand review; the data
        do not contain either.

    Returns
    -------
    DesignCheck
        Prints as text; ``samples``, ``groups``, ``conditions`` and ``table()`` are tables.

    Examples
    --------
    >>> import hiercorr as hc
    >>> d = hc.check_design(hc.datasets.glioblastoma(), sample="sample_id", depth="total_counts")
    >>> d.structure.random, d.structure.block, d.structure.n_donors
    ('(1 | patient_id/sample_id)', 'patient_id', 5)
    >>> d.structure.within_donors
    ('condition', 'treatment')
    """
    sample = sample_name(sample)
    for name, value in (("cell_type", cell_type), ("formula", formula), ("block", block)):
        text(name, value, optional=True)
    true_or_false("main_claim", main_claim, optional=True)
    true_or_false("review", review, optional=True)
    counts = read_counts(
        data,
        Selection(
            sample=sample,
            layer=layer,
            depth=depth,
            subset=subset,
            modalities=one_type(modalities),
            gene_names=gene_names,
            min_cells=min_cells,
        ),
    )
    constant = sample_columns(counts.obs.drop(columns=sample), counts.starts, counts.samples)
    if block is not None:
        donors_of_samples(block, sample, counts.obs, constant)  # raises an error if it is none
    table = _sample_table(counts, constant)
    table.attrs = counts.attributes
    structure = design_structure(counts.obs, sample, block)
    sums = moments.depth_sums(counts, 1e-8)
    fit = moments.within_moments(sums)
    share = median_variance_share(counts, sums, fit)
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
        "n_donors": structure.n_donors,
        "depth_dependent": _depth_dependent(counts, sums, fit, structure, sample),
    }
    units = structure.n_donors
    repeated = {} if structure.block is None else {structure.block: units}
    problems = _problems(counts, constant, formula, sample, repeated)
    conditions = _conditions(facts, units, formula, main_claim, review)
    groups = _groups(counts, cell_type)
    reasons = _reasons(facts, structure, sample)
    if groups is not None and (groups < min_cells).any(axis=None):
        reasons.append(
            f"{int((groups < min_cells).sum().sum())} combinations of sample and type have fewer "
            f"than {min_cells} cells"
        )
    n_conditions = sum(h is not None and bool(h) for h in conditions["holds"])
    recommendation = _recommend(structure, n_conditions)
    return DesignCheck(
        table, groups, facts, structure, repeated, conditions, problems, recommendation, reasons
    )


def _depth_dependent(
    counts: Counts,
    sums: moments.DepthSums,
    fit: moments.GeneMoments,
    structure: Structure,
    sample: str,
) -> float:
    """Return the proportion of the genes whose expression follows depth within samples.

    Among the genes with variance beyond noise; NaN with fewer than 3 donors.
    """
    units = None
    if structure.block is not None and structure.sample == sample:
        donors = counts.obs[structure.block].to_numpy()[counts.starts[:-1]]
        units = pd.factorize(donors)[0].astype(np.int64)
    found = moments.depth_dependence(sums, fit, units)
    known = (fit.variance > 0) & np.isfinite(found.p_value)
    if not known.any():
        return float("nan")
    return float(found.follows(fit.variance)[known].mean())


def median_variance_share(
    counts: Counts, sums: moments.DepthSums, fit: moments.GeneMoments
) -> float:
    """Compute the median over genes of the proportion of variance that lies between samples."""
    cells = counts.cells_per_sample
    within, between = variances(sums, fit, cells / counts.n_cells)
    known = within > 0
    share = np.clip(between[known] / (between + within)[known], 0, 1)
    return float(np.median(share)) if known.any() else float("nan")


def _groups(counts: Counts, cell_type: str | None) -> pd.DataFrame | None:
    if cell_type is None:
        return None
    if cell_type not in counts.obs:
        raise unknown_column("cell_type column", cell_type, counts.obs)
    sample = pd.Index(np.repeat(counts.samples, counts.cells_per_sample), name="sample")
    types = counts.obs[cell_type].astype(str).to_numpy()
    return pd.crosstab(sample, types, rownames=["sample"], colnames=[cell_type])


def _problems(
    counts: Counts,
    constant: dict[str, pd.Series],
    formula: str | None,
    sample: str,
    donors: Mapping[str, int],
) -> list[str]:
    """List the errors of the formula and the columns that are confounded with its terms."""
    if formula is None:
        return []
    columns = pd.DataFrame({sample: counts.samples.to_numpy(), **constant}, index=counts.samples)
    varying = [str(c) for c in counts.obs.columns if str(c) not in columns]
    try:
        fixed, random = fixed_terms(formula)
        for column in random:
            if column not in columns and column not in varying:
                raise unknown_name("grouping column", column, [*columns, *varying])
        design = sample_design(fixed, columns, varying, None)
    except InputError as error:
        return [str(error)]
    s, k = design.matrix.shape
    out = []
    if s < k + 2:
        out.append(
            f"{formula!r} has {k} coefficients and needs at least {k + 2} samples; there are {s}"
        )
    return [*out, *_codes(design), *_confounded(design.table, constant, donors)]


def _codes(design: DesignMatrix) -> list[str]:
    """List the columns whose whole numbers are probably codes but enter the formula as a slope."""
    out = []
    for column, values in design.table.items():
        name = str(column)
        if like_codes(name, values) and any(_as_number(name, term) for term in design.names):
            out.append(
                f"{name!r} has whole numbers ({values.min():g} to {values.max():g}) and enters the "
                f"formula as a slope; if they are codes, write C({quoted(name)})"
            )
    return out


def _as_number(column: str, term: str) -> bool:
    """Return whether a column enters a coefficient, such as ``np.log(batch):age``, as a number."""
    rest = re.sub(r"C\([^()]*\)(\[[^\]]*\])?", "", term)
    return re.search(rf"(?<![\w.]){re.escape(column)}(?![\w.(])", rest) is not None


def _confounded(
    table: pd.DataFrame, constant: dict[str, pd.Series], donors: Mapping[str, int]
) -> list[str]:
    """List categorical columns outside the formula that are nested in one of its terms."""
    named = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    out = []
    for a in named:
        for b, values in constant.items():
            categorical = not pd.api.types.is_numeric_dtype(values)
            if b in named or b in donors or not categorical:
                continue
            groups = 1 < values.nunique() < len(table)
            if groups and pd.crosstab(table[a], values).gt(0).sum(0).max() == 1:
                out.append(
                    f"every {b!r} has only one {a!r}: the effects of {a!r} cannot be told from "
                    f"those of {b!r}"
                )
    return out


def _conditions(
    facts: dict[str, float],
    units: int,
    formula: str | None,
    main_claim: bool | None,
    review: bool | None,
) -> pd.DataFrame:
    ask = "not in the data: set {}="
    differ = facts["design_effect"] > 2 or formula is not None
    rows = {
        "several samples": (units >= 3, f"{units} independent units"),
        "few samples but many cells": (
            units <= 12 and facts["n_cells"] / facts["n_samples"] >= 100,
            f"{facts['n_cells'] / facts['n_samples']:,.0f} cells per sample",
        ),
        "the main claim requires a test": (
            main_claim,
            ask.format("main_claim") if main_claim is None else "as stated",
        ),
        "differences between individuals or batches matter": (
            differ,
            f"design effect {facts['design_effect']:,.0f}"
            + (f"; formula {formula}" if formula else ""),
        ),
        "the analysis will be peer-reviewed": (
            review,
            ask.format("review") if review is None else "as stated",
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
    several = {k: v for k, v in constant.items() if 1 < v.nunique(dropna=False) <= 20}
    return table.assign(**(several if len(table) > 1 else constant))


def _recommend(structure: Structure, conditions: int) -> str:
    units = structure.n_donors
    if units < 3:
        return (
            "explore only: fewer than 3 independent units give an estimate but no interval and "
            "no test"
        )
    options = "..." if structure.block is None else f"..., {structure.options}"
    within = f"CSCore({options}).fit() within samples for discovery"
    if units < 5:
        return (
            f"{within}; too few units for a claim between samples, where Pseudobulk is descriptive"
        )
    claim = f"Pseudobulk({options}).fit() between samples for the main claim"
    if conditions < 2:
        return f"{within}; {claim} if one is to be made"
    return f"{within}, {claim}"


def _reasons(facts: dict[str, float], structure: Structure, sample: str) -> list[str]:
    units = structure.n_donors
    reasons = [
        f"the sample size is {units}, not {facts['n_cells']:,.0f}: cells of one sample are not "
        "independent replicates"
    ]
    if structure.sample != sample:
        reasons.append(
            f"sample={sample!r} merges {structure.n_samples} samples of {structure.sample!r}: "
            f"use {structure.options}"
        )
    if structure.block is not None:
        reasons.append(
            f"{structure.n_samples} samples come from {units} values of {structure.block!r}: "
            f"samples of one donor are not independent; with block={structure.block!r} moments "
            f"are centred in each sample, and the inference is over {units} donors"
        )
    if structure.confounding:
        listed = " and ".join(map(repr, structure.confounding))
        terms = " + ".join(map(quoted, structure.confounding))
        verb = "varies" if len(structure.confounding) == 1 else "vary"
        reasons.append(
            f"{listed} {verb} within samples of {structure.sample!r}: the effect on mean "
            "expression becomes correlation within samples; take a column with one value of it per "
            f"sample as sample=, with block={structure.block or structure.sample!r}, or adjust for "
            f"it with covariates='~ {terms}'"
        )
    if facts["depth_dependent"] > _MANY_DEPENDENT:
        reasons.append(
            f"expression of {facts['depth_dependent']:.0%} of the genes follows depth within "
            "samples: they correlate through it; see depth_slope in the result, and compare with "
            "CSCore(depth_adjust=True)"
        )
    if facts["largest_sample"] > 5 * facts["smallest_sample"]:
        reasons.append(
            "numbers of cells per sample differ more than 5-fold: see the flag 'dominated'"
        )
    if facts["highest_depth"] > 3 * facts["lowest_depth"]:
        reasons.append(
            "samples differ more than 3-fold in sequencing depth, which would inflate correlations "
            "over pooled cells"
        )
    return reasons
