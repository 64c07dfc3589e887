"""A result as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import os
import tempfile
from pathlib import Path

from hiercorr.check import DesignCheck
from hiercorr.errors import InputError
from hiercorr.results import CorrelationResult

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #555; } tbody th { text-align: left; font-weight: 600; } th, td { white-space: nowrap; }
.scroll { overflow-x: auto; } h2 { margin-top: 2.2rem; }
footer { margin-top: 3rem; color: #555; font-size: .9rem; }
"""


def write_report(
    path: str | Path, result: CorrelationResult, design: DesignCheck | None = None, gene: str | None = None, n: int = 25
) -> Path:
    """Write design, estimates, flags, methods and provenance of a result as HTML.

    Parameters
    ----------
    path : str or Path
        Name of the file; written whole or not at all, replacing an earlier report.
    result : CorrelationResult
    design : DesignCheck, optional
    gene : str, optional
        Show this gene's partners; left out: the strongest pairs.
    n : int
        Rows of the table.

    Returns
    -------
    Path
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write the report: there is no folder {str(path.parent)!r}")
    gene = gene or result.target
    a = result.dataset.attrs
    table = result.top(gene, n).rename_axis(None) if gene else result.pairs().head(n)
    flags = result.flag_counts()
    parts = [
        f"<h1>{html.escape(str(a.get('title', 'hiercorr')))}</h1>",
        f"<p>{html.escape(repr(result)[1:-1])}</p>",
    ]
    if design is not None:
        parts += ["<h2>Design</h2>", f"<div class=scroll>{design._repr_html_()}</div>"]
    parts += [
        f"<h2>{'Partners of ' + html.escape(gene) if gene else 'Strongest pairs'}</h2>",
        f"<div class=scroll>{table.to_html(float_format='{:.3g}'.format, border=0)}</div>",
        "<h2>Flags</h2>",
        flags[flags > 0].to_frame().to_html(border=0) if (flags > 0).any() else "<p>No pair is flagged.</p>",
        "<h2>Samples</h2>",
        f"<div class=scroll>{result.sample_table().rename_axis(None).to_html(border=0)}</div>",
        "<h2>Methods</h2>",
        f"<p>{html.escape(methods_text(result))}</p>",
        f"<footer>hiercorr {html.escape(str(a.get('hiercorr_version')))}, {html.escape(str(a.get('created')))}, "
        f"source {html.escape(str(a.get('source')))}</footer>",
    ]
    document = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>hiercorr report</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(document)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path


def methods_text(result: CorrelationResult) -> str:
    """A methods paragraph for what was really run.

    Parameters
    ----------
    result : CorrelationResult

    Returns
    -------
    str
    """
    text = {"Pseudobulk": _between_text, "decomposition": _decomposition_text}
    return text.get(str(result.dataset.attrs.get("model")), _within_text)(result)


def _decomposition_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    return (
        f"Variance and correlation of expression over {a.get('n_cells', 0):,} cells of {a.get('n_samples')} samples were "
        "split into parts within and between samples by the law of total covariance, from CS-CORE moments within samples "
        "(Su et al. 2023, Nat Commun 14:4846) and the covariance of the samples' means less its sampling noise, with "
        f"hiercorr {a.get('hiercorr_version')}; sequencing depth: {a.get('depth')}."
    )


_BETWEEN_METHODS = {
    "pearson": "Pearson correlations were computed of log2 counts per million (prior count 2)",
    "spearman": "Spearman correlations were computed of log2 counts per million",
    "ols": "each gene's log2 counts per million (prior count 2) were regressed on the target's by ordinary least squares",
    "hc3": "each gene's log2 counts per million (prior count 2) were regressed on the target's, with HC3 standard errors",
    "voom": "each gene's log2 counts per million were regressed on the target's with voom precision weights (Law et al. 2014)",
    "negative_binomial": "each gene's sums were regressed on the target's log2 counts per million by negative-binomial "
    "regression with the library as offset and Wald t tests",
    "corrected": "correlations of log expression were computed with the sampling noise of the samples' means, estimated "
    "from their cells, subtracted from variances and covariances; intervals are quantiles of the generalised pivotal quantity",
}
_NORMALIZATION = {
    "tmm": "TMM (Robinson & Oshlack 2010)",
    "median_of_ratios": "medians of ratios (Anders & Huber 2010)",
    "cpm": "none beyond library size",
}
_BLOCK = {
    "fixed": "with an effect for each {block}",
    "correlation": "with a consensus correlation of {rho:.2f} between samples of one {block} (duplicateCorrelation)",
    "cluster": "with errors clustered by {block} (CR2, Satterthwaite degrees of freedom)",
}


def _between_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    blocks = ""
    if a.get("block_method") in _BLOCK:
        rho = float(a.get("block_correlation", float("nan")))
        blocks = ", " + _BLOCK[str(a["block_method"])].format(block=a.get("block"), rho=rho)
    given = "" if a.get("formula") in (None, "~ 1") else f", given the formula {a.get('formula')}"
    permuted = "" if "permutation" not in str(a.get("uncertainty")) else f" p-values: {a.get('uncertainty')}"
    permuted += " (Freedman & Lane 1983)." if permuted and given else "." if permuted else ""
    return (
        f"Counts were summed over the cells of each of {a.get('n_samples')} samples ({a.get('n_cells', 0):,} cells); library "
        f"sizes were normalised by {_NORMALIZATION.get(str(a.get('normalization')), a.get('normalization'))}. Between samples, "
        f"{_BETWEEN_METHODS.get(str(a.get('estimator')), '')}{given}{blocks}; the unit of inference is the sample.{permuted} "
        f"p-values were adjusted by Benjamini-Hochberg. Computed for {len(result.genes):,} genes with hiercorr "
        f"{a.get('hiercorr_version')}."
    )


def _within_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    where = (
        "within samples, from moments centred in each sample and pooled as a ratio of sums"
        if a.get("estimator") == "within"
        else "over all cells, as published"
    )
    how = {
        "jackknife": "leaving one sample out of the sums, with t on (samples carrying the pair) - 1 degrees of freedom",
        "cluster": "the samples' linearised influences, with t on effective-sample degrees of freedom",
        "bootstrap": "resampling samples with replacement, with t on (samples carrying the pair) - 1 degrees of freedom",
    }.get(str(a.get("uncertainty")))
    tail = (
        f"Standard errors of atanh(r) come from {how}; p-values were adjusted by Benjamini-Hochberg over distinct pairs."
        if how
        else "No uncertainty over samples was computed."
    )
    return (
        f"Gene-gene correlation of expression was estimated from raw counts with the CS-CORE moment estimator "
        f"(Su et al. 2023, Nat Commun 14:4846) {where}, in {a.get('n_cells', 0):,} cells of {a.get('n_samples')} samples "
        f"and {len(result.genes):,} genes, with hiercorr {a.get('hiercorr_version')}; sequencing depth: {a.get('depth')}. "
        f"{tail}"
    )
