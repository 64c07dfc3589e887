"""What each estimator estimates, in a sentence: the attribute ``estimand`` of every result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WITHIN = "correlation of expression, not of counts, between the cells of one sample"
_OF_MODULES = (
    "correlation of the weighted sums of the expression of two groups of genes, between the cells "
    "of one sample"
)
_AVERAGES = {
    "adaptive": "averaged over donors with weights 1 / (tau^2 + v), v the sampling variance of a "
    "donor: the average over the population of donors where a donor's correlation does not depend "
    "on its number or depth of cells",
    "equal": "averaged over donors with equal weights",
    "information": "averaged over donors in proportion to their information, which is an average "
    "over cells rather than over donors where donors differ",
}
_BETWEEN = {
    "spearman": "rank correlation over samples of log expression in sums of counts, noise of the "
    "sums included",
    "corrected": "correlation over samples of the means of expression, without the sampling noise "
    "of the means",
}
_PLAIN = "correlation over samples of log expression in sums of counts, noise of the sums included"


def estimand(attrs: Mapping[str, Any]) -> str | None:
    """State what the correlation of a result estimates.

    Parameters
    ----------
    attrs : mapping
        Attributes of the result: ``model``, ``estimator``, ``level``, weights and formula.

    Returns
    -------
    str
        None for a model that is not known.
    """
    model = attrs.get("model")
    if model == "CSCore":
        return _cscore(attrs)
    if model == "direct_partners":
        what = "log expression" if attrs.get("scale") == "log" else "expression"
        return (
            f"partial correlation of {what}, not of counts, between the cells of one sample, given "
            f"the other {attrs['conditioning_genes'] - 2} genes, {_AVERAGES['information']}; "
            "regularised"
        )
    if model == "differential":
        return _difference(attrs)
    if model == "Pseudobulk":
        return _pseudobulk(attrs)
    if model == "AcrossCellTypes":
        return (
            f"{_pseudobulk(attrs)}, of a gene of {attrs['cell_type_a']} with a gene of "
            f"{attrs['cell_type_b']} in the same samples"
        )
    if model == "BayesianCorrelation":
        if attrs.get("level") == "between":
            if attrs.get("sd_per_sample"):
                return (
                    "correlation over donors of the logs of their mean expression, given the "
                    "formula"
                )
            return "correlation over donors of their means of log expression, given the formula"
        if attrs.get("level") == "samples":
            return (
                "correlation over the samples of a donor of their means of log expression, given "
                "the formula"
            )
        typical = "correlation of log expression between the cells of a typical sample"
        if attrs.get("covariates"):
            typical += f" with equal covariates {attrs['covariates']}"
        given = attrs.get("correlation_formula")
        return f"{typical}, at the means of the covariates {given}" if given else typical
    if model == "CellCorrelation":
        within = attrs.get("level") == "within"
        where = "within samples" if within else "over all cells, which mixes levels"
        return f"correlation of log-normalised counts {where}: dropout and depth included"
    if model == "decomposition":
        return (
            "correlation of expression over all cells, and the parts of its covariance within and "
            "between samples"
        )
    return None


def _difference(attrs: Mapping[str, Any]) -> str:
    what = _WITHIN if attrs.get("n_modules") is None else _OF_MODULES
    if attrs.get("method") == "pooled":
        return (
            f"difference between groups of the {what}: each group by the ratio of its own "
            "sums over samples"
        )
    if attrs.get("test") in ("overall", "pairwise"):
        return (
            f"differences between groups, or change along a number, of the {what}: the "
            f"fitted values of a regression of the samples' correlations, {_regression(attrs)}"
        )
    return (
        f"difference between groups, or slope, of the {what}: the contrast of a regression "
        f"of the samples' correlations, {_regression(attrs)}"
    )


def _cscore(attrs: Mapping[str, Any]) -> str:
    if attrs.get("estimator") == "pooled":
        return (
            "correlation of expression, not of counts, over the pooled cells: that within samples "
            "and that of the samples' means mixed"
        )
    what = _WITHIN
    if attrs.get("signature") is not None:
        what = (
            "correlation of a gene's expression with the weighted sum of the expression of a group "
            "of genes, between the cells of one sample"
        )
    elif attrs.get("n_modules") is not None:
        what = _OF_MODULES
    if attrs.get("score") is not None:
        of = "a gene's expression, not of its counts,"
        if attrs.get("n_modules") is not None:
            of = "the weighted sum of the expression, not of the counts, of a group of genes"
        what = (
            f"correlation of {of} with a score of the cells as measured, between the cells of one "
            "sample"
        )
    if attrs.get("cell_terms"):
        what += ", of what the covariates of cells leave of it"
    return f"{what}, {_AVERAGES[attrs.get('donor_weights') or 'information']}"


def _regression(attrs: Mapping[str, Any]) -> str:
    if attrs.get("uncertainty") == "hierarchical":
        return "weighted by 1 / (tau^2 + v)"
    return "weighted by their information"


def _pseudobulk(attrs: Mapping[str, Any]) -> str:
    text = _BETWEEN.get(str(attrs.get("estimator")), _PLAIN)
    if attrs.get("traits") is not None:
        summed = attrs.get("weights") == "expression"
        of = "log expression of the sum" if summed else "mean log expression"
        ranks = "rank " if attrs.get("estimator") == "spearman" else ""
        text = (
            f"{ranks}correlation over samples of a trait with a module, the {of} of its genes in "
            "sums of counts"
        )
    formula = str(attrs.get("formula", "~ 1"))
    return text if formula in ("~ 1", "~1") else f"partial {text}, given {formula}"
