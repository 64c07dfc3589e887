"""Text summaries: a statsmodels Summary with the design and the pairs with most evidence."""

from __future__ import annotations

import copy
import html
from collections.abc import Mapping
from typing import Any

import pandas as pd
import xarray as xr
from statsmodels.iolib.summary import Summary
from statsmodels.iolib.table import SimpleTable

from hiercorr.counts.selection import selected_cells
from hiercorr.results.layout import of_modules, spans_types
from hiercorr.results.pairs import effect_name
from hiercorr.results.text import format_cell
from hiercorr.schema import AGREES

_HEADS = {
    "correlation": "corr",
    "correlation_unclipped": "unclipped",
    "ci_lower": "[0.025",
    "ci_upper": "0.975]",
    "se": "std err",
    "statistic": "t",
    "df": "df",
    "difference": "diff.",
    "difference_lower": "[0.025 d",
    "difference_upper": "0.975 d]",
    "difference_se": "se(d)",
    "largest_difference": "largest d",
    "f_statistic": "F",
    "df_denominator": "df 2",
    "p_value": "P>|t|",
    "q_value": "q",
    "ordinary_p_value": "ord. P",
    "cell_statistic": "cell T",
    "cell_p_value": "cell P",
    "marginal_correlation": "marginal",
    "stability": "stab.",
    "tau": "tau",
    "jackknife_p_value": "jack. P",
    "tau2": "tau2",
    "i2": "I2",
    "probability_of_direction": "P(sign)",
    "rope_share": "P(rope)",
    "contraction": "contr.",
    "natural_correlation": "natural",
    "natural_lower": "[nat",
    "natural_upper": "nat]",
    "partial_correlation": "partial",
    "partial_lower": "[part",
    "partial_upper": "part]",
    "correlation_projected": "proj.",
    "ess_bulk": "ESS",
    "ess_tail": "tail",
    "r_hat": "R-hat",
    "prediction_lower": "[pred",
    "prediction_upper": "pred]",
    "difference_unclipped": "unclipped d",
    "hc2_p_value": "HC2 P",
    "local_fdr": "lfdr",
    "bayesian_fdr": "FDR",
    "lfsr": "lfsr",
    "shrunken_correlation": "shrunken",
    "shrunken_difference": "shrunken d",
    "flag": "flag",
    "gene_a": "gene_a",
    "gene_b": "gene_b",
}
_OF_SCORES = {"statistic": "z", "p_value": "P>|z|"}  # normal scores of calibrated p-values


class EscapedSummary(Summary):
    """Summary whose HTML shows names as they are written; they may contain markup."""

    def as_html(self) -> str:
        """Return the tables and notes as HTML."""
        shown = Summary()
        for table in copy.deepcopy(self.tables):
            table.title = html.escape(str(table.title)) if table.title else table.title
            for row in table:
                for cell in row:
                    if isinstance(cell.data, str):
                        cell.data = html.escape(cell.data)
            shown.tables.append(table)
        shown.extra_txt = html.escape(self.extra_txt) if self.extra_txt else self.extra_txt
        return str(shown.as_html())

    def _repr_html_(self) -> str:
        return self.as_html()


def make_summary(
    dataset: xr.Dataset,
    flags: pd.Series,
    table: pd.DataFrame,
    gene: str | None,
    scope: str = "all pairs",
) -> Summary:
    """Build a Summary from a result and a table of its pairs.

    Parameters
    ----------
    dataset : xarray.Dataset
    flags : Series
        Number of pairs with each flag.
    table : DataFrame
        Pairs to show, indexed by partner if `gene` is given.
    gene : str or None
    scope : str
        Which pairs the result has.

    Returns
    -------
    statsmodels.iolib.summary.Summary
    """
    a = dataset.attrs
    left = [
        ("Model:", a.get("model", "")),
        ("Level:", a.get("level", "")),
        ("Estimator:", a.get("estimator", "")),
        ("Uncertainty:", a.get("uncertainty", "")),
        ("Formula:", a.get("formula", "~ 1")),
        ("Cells:", selected_cells(a, 50) or "all"),
        ("Genes:", a.get("genes", "")),
        ("Min. cells:", _min_cells(a)),
    ]
    right = [
        ("No. samples:", str(a.get("n_samples", ""))),
        ("No. donors:", str(a.get("n_donors", "as samples" if a.get("sample_column") else ""))),
        ("No. cells:", f"{a.get('n_cells', 0):,}"),
        (_unit(dataset), f"{dataset.sizes['gene']:,}{_type(dataset, 'b')}"),
        ("Target:", gene or _targets(dataset, scope)),
        ("Depth:", a.get("depth", "")),
        ("Block:", a.get("block", "none")),
        ("hiercorr:", a.get("hiercorr_version", "")),
    ]
    top = [[k, v, k2, v2] for (k, v), (k2, v2) in zip(left, right, strict=True)]
    shown = table.reset_index() if gene is not None else table
    body = [[format_cell(c, v) for c, v in row.items()] for row in shown.to_dict("records")]
    level = f"{100 * a.get('confidence', 0.95):g}%"
    names = _HEADS | (_OF_SCORES if a.get("uncertainty") == "hierarchical" else {})
    names = names | ({"p_value": "P>F"} if "df_numerator" in a else {})
    heads = [names.get(c, c).replace("0.025", level).replace("0.975", "CI") for c in shown.columns]
    summary = EscapedSummary()
    summary.tables.append(
        SimpleTable(
            top, title=f"hiercorr: {a.get('title', 'gene-gene correlation')}", data_aligns="lrlr"
        )
    )
    summary.tables.append(
        SimpleTable(body or [["no pair could be estimated"]], headers=heads if body else None)
    )
    notes = _notes(dataset, flags, "q_value" in table)
    if notes:
        summary.add_extra_txt(["", *notes])
    return summary


def _unit(dataset: xr.Dataset) -> str:
    """Say what the genes of a result are."""
    return "No. modules:" if of_modules(dataset) else "No. genes:"


def _targets(dataset: xr.Dataset, scope: str) -> str:
    """Return the pairs of a result without one target."""
    if not spans_types(dataset):
        return scope
    return f"{dataset.sizes['target']:,} genes{_type(dataset, 'a')}"


def _type(dataset: xr.Dataset, side: str) -> str:
    """Return the cell type of the genes of one side in brackets, if there are two types."""
    return f" ({dataset.attrs[f'cell_type_{side}']})" if spans_types(dataset) else ""


def _min_cells(attrs: Mapping[str, Any]) -> str:
    """Return the minimum number of cells per sample, and what became of smaller samples."""
    excluded = " (smaller excluded)" if attrs.get("small_samples") == "exclude" else ""
    return f"{attrs['min_cells']}{excluded}" if "min_cells" in attrs else ""


def _notes(dataset: xr.Dataset, flags: pd.Series, has_q: bool) -> list[str]:
    """Return the sentences below the tables."""
    attrs = dataset.attrs
    notes = [attrs["note"]] if attrs.get("note") else []
    if attrs.get("cell_terms"):
        rest = (
            f"; sample terms: {attrs['sample_terms']} (absorbed by the sample means)"
            if attrs.get("sample_terms", "none") != "none"
            else ""
        )
        notes.append(
            f"Regressed out of the counts of each sample, cell terms: {attrs['cell_terms']}{rest}."
        )
    if attrs.get("depth_adjust"):
        notes.append("Log depth was regressed out of the counts of each sample.")
    if abs(attrs.get("composition", 0)) >= 0.02:
        notes.append(
            "Depth is a sum of counts, so that what one gene gains others lose: independent genes "
            f"would correlate at {attrs['composition']:.2f} (median); pairs that do not exceed it "
            "are flagged depth_dependent."
        )
    if attrs.get("uncertainty") == "hierarchical":
        notes.append(_hierarchical(attrs, dataset))
    if "tau2" in dataset and "i2" in dataset:
        notes.append(
            "tau2, i2: of Fisher's z over samples (Paule-Mandel)"
            + ("; tau is of the correlation." if "tau" in dataset else ".")
        )
    if attrs.get("tau_within_donors_distribution"):
        notes.append(
            "tau_within_donors: standard deviation between the samples of one donor "
            f"({attrs['tau_within_donors_distribution']})."
        )
    if attrs.get("interval", AGREES) != AGREES:
        notes.append(f"Interval: {attrs['interval']}.")
    if has_q:
        notes.append(f"q: {attrs['q_method']} over {attrs['q_family']}.")
    if "local_fdr" in dataset:
        notes.append(
            "lfdr: local false discovery rate, the posterior probability that a pair is "
            f"uncorrelated (as {attrs['null_share']:.0%} of all pairs are); FDR: expected share "
            "of false pairs in the list that ends with this pair."
        )
    if "shrunken_pairs" in attrs:
        notes.append(
            "lfsr: local false sign rate, the probability that the sign is wrong or that there is "
            f"no effect; learnt, as the shrunken estimates, from {attrs['shrunken_pairs']:,} pairs "
            f"({attrs['null_share']:.0%} without an effect). Intervals are not shrunk."
        )
    flagged = [f"{count:,} pairs {name}" for name, count in flags.items() if count]
    if flagged:
        notes.append("Flags: " + "; ".join(flagged) + ".")
    return notes


def _hierarchical(attrs: Mapping[str, Any], dataset: xr.Dataset) -> str:
    """Explain what was learnt from all pairs, and which columns go together."""
    alone = "hc2_p_value" if "hc2_p_value" in dataset else "jackknife_p_value"
    if "group_tau" in dataset:
        learnt = "group_tau: standard deviation between the samples of a group"
    elif effect_name(dataset.data_vars) != "correlation":
        learnt = "tau: standard deviation between samples given the design"
    else:
        learnt = "tau: standard deviation between donors"
    share = attrs.get("heterogeneous_share")
    known = (
        "the counts are too few to estimate how many pairs differ"
        if share is None
        else f"{share:.0%} of the pairs differ by 0.15 or more"
    )
    statistic = "The statistic is the normal score of the p-value"
    if "df_numerator" in attrs:
        statistic = (
            f"The F statistic, with {attrs['df_numerator']} and infinite degrees of freedom, is "
            "that of the p-value"
        )
    return (
        f"{learnt}, missing where the counts are too few for it; {known} (learnt from "
        f"{attrs['prior_pairs']:,} pairs). {statistic}, "
        "which is calibrated over the null pairs of the panel; standard errors are "
        f"posterior standard deviations. {alone} uses each pair alone."
    )
