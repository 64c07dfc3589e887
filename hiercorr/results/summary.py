"""A result as text: statsmodels' Summary with the design on top and the strongest pairs below."""

from __future__ import annotations

import pandas as pd
import xarray as xr
from statsmodels.iolib.summary import Summary
from statsmodels.iolib.table import SimpleTable

_HEADS = {
    "correlation": "corr",
    "ci_lower": "[0.025",
    "ci_upper": "0.975]",
    "se": "se(z)",
    "statistic": "t",
    "df": "df",
    "difference": "diff.",
    "difference_lower": "[0.025 d",
    "difference_upper": "0.975 d]",
    "difference_se": "se(d)",
    "p_value": "P>|t|",
    "q_value": "q",
    "cell_statistic": "cell T",
    "cell_p_value": "cell P",
    "tau2": "tau2",
    "i2": "I2",
    "probability_of_direction": "P(sign)",
    "rope_share": "P(rope)",
    "contraction": "contr.",
    "natural_correlation": "natural",
    "natural_lower": "[nat",
    "natural_upper": "nat]",
    "correlation_projected": "proj.",
    "ess_bulk": "ESS",
    "ess_tail": "tail",
    "r_hat": "R-hat",
    "prediction_lower": "[pred",
    "prediction_upper": "pred]",
    "flag": "flag",
    "gene_a": "gene_a",
    "gene_b": "gene_b",
}


def make_summary(
    dataset: xr.Dataset, flags: pd.Series, table: pd.DataFrame, gene: str | None
) -> Summary:
    """Build the Summary of one dataset and one table of pairs."""
    a = dataset.attrs
    left = [
        ("Model:", a.get("model", "")),
        ("Level:", a.get("level", "")),
        ("Estimator:", a.get("estimator", "")),
        ("Uncertainty:", a.get("uncertainty", "")),
        ("Formula:", a.get("formula", "~ 1")),
    ]
    right = [
        ("No. samples:", str(a.get("n_samples", ""))),
        ("No. cells:", f"{a.get('n_cells', 0):,}"),
        ("No. genes:", f"{dataset.sizes['gene']:,}"),
        ("Target:", gene or "all pairs"),
        ("hiercorr:", a.get("hiercorr_version", "")),
    ]
    top = [[k, v, k2, v2] for (k, v), (k2, v2) in zip(left, right, strict=True)]
    shown = table.reset_index() if gene is not None else table
    body = [[_cell(c, v) for c, v in row.items()] for row in shown.to_dict("records")]
    level = f"{100 * a.get('confidence', 0.95):g}%"
    heads = [_HEADS.get(c, c).replace("0.025", level).replace("0.975", "CI") for c in shown.columns]
    summary = Summary()
    summary.tables.append(
        SimpleTable(
            top, title=f"hiercorr: {a.get('title', 'gene-gene correlation')}", data_aligns="lrlr"
        )
    )
    summary.tables.append(
        SimpleTable(body or [["no pair could be estimated"]], headers=heads if body else None)
    )
    notes = [f"{count:,} pairs {name}" for name, count in flags.items() if count]
    extra = [a["note"]] if a.get("note") else []
    if a.get("cell_terms"):
        rest = (
            f"; sample terms: {a['sample_terms']} (in each sample's own mean)"
            if a.get("sample_terms", "none") != "none"
            else ""
        )
        extra.append(
            f"Taken out of the counts of each sample, cell terms: {a['cell_terms']}{rest}."
        )
    extra += [f"q: {a['q_method']} over {a['q_family']}."] if "q_value" in table else []
    extra += ["Flags: " + "; ".join(notes) + "."] if notes else []
    if extra:
        summary.add_extra_txt(["", *extra])
    return summary


def _cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    if column in ("p_value", "q_value", "cell_p_value"):
        return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
    whole = column in ("ess_bulk", "ess_tail") or (column == "df" and value == round(value))
    return f"{value:.0f}" if whole else f"{value:.3f}"
