"""Methods paragraphs of the models between samples."""

from __future__ import annotations

import re

from hiercorr.between.noise_correction import DRAWS
from hiercorr.between.residuals import is_exact
from hiercorr.reporting import wording
from hiercorr.reporting.references import cite
from hiercorr.reporting.wording import Facts, listed, paragraph, percent, software


def pseudobulk(f: Facts) -> str:
    """Describe a fit of :class:`hiercorr.Pseudobulk`."""
    return paragraph(
        f"Counts were summed over the cells of each of {_units(f)} ({wording.cells(f)}, "
        f"{wording.depth(f)}), and {_normalization(f)}.",
        wording.excluded(f),
        wording.metacells(f),
        _traits(f) if f.get("traits") else _METHODS[str(f.get("estimator"))](f),
        _interaction(f),
        _permutation(f),
        _contrasts(f),
        wording.adjustment(f),
        f"The sample is the unit of inference; computations used {software(f)}.",
    )


def _traits(f: Facts) -> str:
    """Describe :meth:`hiercorr.Pseudobulk.module_traits`."""
    how = (
        f"the {_EXPRESSION} of the sum of its genes"
        if f.get("weights") == "expression"
        else f"the mean of the {_EXPRESSION} of its genes"
    )
    if f.get("weights") == "given":
        how += ", with user-supplied weights"
    kind = {"spearman": "Spearman"}.get(str(f.get("estimator")), "Pearson")
    partial = "partial " if _terms(f) else ""
    levels = str(f.get("trait_levels") or "")
    coded = f" (two-level traits were coded as 1 for {levels})" if levels else ""
    names = listed(str(f.get("traits")).split(", "))
    return (
        f"The expression of each of {f.get('n_modules')} modules in a sample was {how} "
        f"{_PRIOR_COUNT}. Its {partial}{kind} correlations with {names}{coded} were computed over "
        f"samples{_given(f)}, with two-sided tests and {percent(f)} confidence intervals."
    )


def across_cell_types(f: Facts) -> str:
    """Describe a fit of :class:`hiercorr.AcrossCellTypes`."""
    a, b = f.get("cell_type_a"), f.get("cell_type_b")
    how = {**_METHODS, **dict.fromkeys(("ols", "hc3"), _across), "corrected": _across_corrected}
    return paragraph(
        f"Counts were summed over the cells of {a} and, separately, of {b} in each of "
        f"{_units(f)} that had both ({wording.cells(f)}, {wording.depth(f)}), and "
        f"{_normalization(f)}, for each cell type from its own genes.",
        wording.excluded(f),
        how[str(f.get("estimator"))](f),
        _permutation(f),
        wording.adjustment(f),
        "Pairs of genes within one cell type were not tested. The sample is the unit of "
        f"inference; computations used {software(f)}.",
    )


def _across(f: Facts) -> str:
    errors = ""
    if f.get("estimator") == "hc3":
        errors = (
            f", with HC3 heteroscedasticity-consistent standard errors ({cite('mackinnon_white')})"
        )
    return (
        f"Across samples, the {_EXPRESSION} {_PRIOR_COUNT} of each gene of {f.get('cell_type_b')} "
        f"was regressed on that of each gene of {f.get('cell_type_a')}{_given(f)}{errors}; "
        f"{_partial(f)}"
    )


def _across_corrected(f: Facts) -> str:
    return (
        f"Correlations between samples, {wording.between_genes(f)}, were computed from "
        f"log((counts + 1/2) / library size){_given(f)}, after subtracting the sampling noise of "
        "the sample means, estimated from the cells, from their variances (the noise of two cell "
        "types comes from different cells and is independent); two-sided p-values are from t tests "
        f"and {percent(f)} confidence intervals are quantiles of a generalised pivotal quantity "
        f"({cite('pivotal')}; {DRAWS} quasi-random draws{wording.seeded(f)})."
    )


def _units(f: Facts) -> str:
    n = f"{f.get('n_samples', 0):,}"
    return f"{n} combinations of sample and {c}" if (c := f.get("cell_type")) else f"{n} samples"


def _normalization(f: Facts) -> str:
    method = str(f.get("normalization"))
    return {
        "tmm": "library sizes were normalised by the trimmed mean of M-values "
        f"(TMM; {cite('tmm')})",
        "median_of_ratios": "library sizes were normalised by the median of ratios "
        f"({cite('median_of_ratios')})",
        "cpm": "the samples' total depths were used as library sizes (counts per million, without "
        "further normalisation)",
    }.get(method, f"library sizes were normalised by {method}")


_EXPRESSION = "log2 counts per million"
_PRIOR_COUNT = f"(prior count 2; {cite('edger')})"


def _terms(f: Facts) -> list[str]:
    block, target = f.get("block"), f.target
    formula = str(f.get("formula", "~ 1")).partition(f" + {target}:")[0]
    return wording.covariates(formula, without=(block,) if _fixed(f) else ())


def _fixed(f: Facts) -> bool:
    return f.get("block_method") == "fixed"


def _given(f: Facts) -> str:
    """Return covariates and blocks as an addition to a phrase."""
    terms, block = _terms(f), f.get("block")
    out = f", adjusting for {listed(terms)}" if terms else ""
    if _fixed(f):
        out += f", with fixed effects of {block}"
    if f.get("block_method") == "correlation":
        found = f.get("block_correlation", float("nan"))
        if isinstance(found, str):
            parts = [p.rpartition(": ") for p in found.split("; ")]
            stated = " and ".join(f"{float(r):.2f} ({name})" for name, _, r in parts)
            return out + (
                f", by generalised least squares with consensus correlations of {stated} between "
                "samples of the same group, estimated by REML as for one grouping in "
                f"duplicateCorrelation ({cite('block_correlation')})"
            )
        rho = float(found)
        out += (
            f", by generalised least squares with a consensus correlation of {rho:.2f} between "
            f"samples of the same {block} (duplicateCorrelation; {cite('block_correlation')})"
        )
    return out


def _correlation(f: Facts) -> str:
    partial = "Partial Pearson" if _terms(f) or _fixed(f) else "Pearson"
    test = "" if _permutations(f) else " and two-sided t tests"
    return (
        f"{partial} correlations between samples, {wording.between_genes(f)}, were computed from "
        f"{_EXPRESSION} {_PRIOR_COUNT}{_given(f)}, with {percent(f)} confidence intervals that "
        f"invert the t test on Fisher's z scale{test}."
    )


def _rank_correlation(f: Facts) -> str:
    given = bool(_terms(f) or f.get("block"))
    partial = "Partial Spearman" if given else "Spearman"
    exact = is_exact(f.get("n_samples", 0), given)
    test = f" and exact p-values ({cite('spearman_exact')})" if exact else " and two-sided t tests"
    return (
        f"{partial} correlations between samples, {wording.between_genes(f)}, were computed from "
        f"{_EXPRESSION} {_PRIOR_COUNT}{_given(f)}, with {percent(f)} confidence intervals on "
        f"Fisher's z scale ({cite('spearman_interval')}){'' if _permutations(f) else test}."
    )


def _regression(f: Facts) -> str:
    how = {
        "ols": "" if f.get("block_method") == "correlation" else ", by ordinary least squares",
        "hc3": ", with HC3 heteroscedasticity-consistent standard errors "
        f"({cite('mackinnon_white')})",
        "voom": "",
    }[str(f.get("estimator"))]
    if f.get("block_method") == "cluster":
        how += (
            f", with CR2 standard errors clustered by {f.get('block')} and Satterthwaite degrees "
            f"of freedom ({cite('bell_mccaffrey', 'pustejovsky_tipton')})"
        )
    weights = (
        f", with voom precision weights ({cite('voom')})," if f.get("estimator") == "voom" else ""
    )
    return (
        f"Across samples, the {_EXPRESSION} of {_responses(f)}{weights} were regressed on the "
        f"{_EXPRESSION} of {_predictor(f)} "
        f"{_PRIOR_COUNT}{_given(f)}{how}; "
        f"{_partial(f)}"
    )


def _responses(f: Facts) -> str:
    """Return the genes that were regressed."""
    if f.listed is not None:
        return f"one gene of each of {f.listed:,} listed pairs"
    return f"each of {f.genes - 1:,} genes{wording.chosen_genes(f)}"


def _predictor(f: Facts) -> str:
    """Return the gene, or the genes, on which they were regressed."""
    if f.listed is not None:
        return "the other"
    return f"{f.target}, one at a time," if f.targets > 1 else str(f.target)


def _partial(f: Facts) -> str:
    kind = f.get("moderated")
    test = "" if _permutations(f) else " and two-sided t tests"
    moderated = f" {_moderation(f, str(kind))}" if kind else ""
    ordinary = " of the ordinary t" if kind else ""
    return (
        f"correlations are partial correlations, t / sqrt(t^2 + df){ordinary}, with "
        f"{percent(f)} confidence intervals that invert the t test on Fisher's z scale{test}."
        f"{moderated}"
    )


def _moderation(f: Facts, kind: str) -> str:
    """Return a sentence on empirical-Bayes moderation of the residual variances."""
    towards = "a trend in mean log expression" if "trend" in kind else "a common value"
    sources = ["moderation", *(["robust_moderation"] if "robust" in kind else [])]
    robust = ", estimated robustly against hypervariable genes" if "robust" in kind else ""
    df = float(f.get("prior_df", float("nan")))
    weight = "infinite" if df == float("inf") else f"{df:.1f}"
    one = kind == "plain" and not f.get("pairs_across") and f.targets == 1 and f.listed is None
    typical = "" if one else "a median of "
    return (
        f"In the tests, residual variances were moderated across genes by empirical Bayes "
        f"({cite(*sources)}): they were shrunk towards {towards}{robust}, with {typical}{weight} "
        "prior degrees of freedom, and intervals were scaled by the ratio of moderated to ordinary "
        "standard error."
    )


def _counts(f: Facts) -> str:
    return (
        f"Across samples, the summed counts of {_responses(f)} were modelled by "
        "negative-binomial regression with the log library size as offset "
        f"(statsmodels; {cite('statsmodels')}) on the {_EXPRESSION} of {_predictor(f)} "
        f"{_PRIOR_COUNT}{_given(f)}, "
        "with dispersions that equate Pearson's statistic to the residual degrees of freedom "
        f"({cite('moment_dispersion')}) and two-sided Wald t tests; correlations are "
        f"t / sqrt(t^2 + df), with {percent(f)} confidence intervals that invert the t test on "
        "Fisher's z scale."
    )


def _without_noise(f: Facts) -> str:
    return (
        f"Correlations between samples, {wording.between_genes(f)}, were computed from "
        f"log((counts + 1/2) / library size){_given(f)}, after subtracting the sampling noise of "
        "the sample means, estimated from the cells, from their variances and covariances; "
        "two-sided p-values are from t "
        f"tests and {percent(f)} confidence intervals are quantiles of a generalised pivotal "
        f"quantity ({cite('pivotal')}; {DRAWS} quasi-random draws{wording.seeded(f)})."
    )


_METHODS = {
    "pearson": _correlation,
    "spearman": _rank_correlation,
    **dict.fromkeys(("ols", "hc3", "voom"), _regression),
    "negative_binomial": _counts,
    "corrected": _without_noise,
}


def _interaction(f: Facts) -> str:
    column = f.get("interaction")
    if not column and f" + {f.target}:" not in str(f.get("formula")):
        return ""
    over = f" on {column}" if column else " on covariates"
    return (
        f"The slope on {f.target} was allowed to depend{over} (interaction); the correlation and "
        "the main slope refer to its baseline level or to zero."
    )


def _permutations(f: Facts) -> bool:
    return "permutation" in str(f.get("uncertainty"))


def _permutation(f: Facts) -> str:
    if not _permutations(f):
        return ""
    kind = str(f.get("uncertainty"))
    count = f.get("permutations") or int("".join(c for c in kind if c.isdigit()))
    terms, block = _terms(f), f.get("block")
    what = "the residuals given the covariates" if terms else "samples"
    what += f" within {block}" if block else ""
    references = cite("freedman_lane") if terms else ""
    return wording.permuted(f, count, kind.startswith("exact"), what, references)


def _contrasts(f: Facts) -> str:
    if not f.get("contrasts"):
        return ""
    return (
        f"Contrasts of the coefficients ({f.get('contrasts')}) were tested for each gene, with "
        f"Benjamini-Hochberg adjustment over genes ({cite('bh')})."
    )


def differential_expression(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.differential_expression`."""
    block = f.get("block")
    terms = wording.covariates(str(f.get("formula", "~ 1")), without=(block,))
    contrast = re.sub(r"[()']", "", str(f.get("contrast")))
    blocks = f" and fixed effects of {block}" if block else ""
    return paragraph(
        f"Differential expression between {f.get('n_samples', 0):,} samples was tested on counts "
        f"summed over cells ({wording.cells(f)}) with the negative-binomial model of DESeq2 "
        f"({cite('deseq2')}) in PyDESeq2 ({cite('pydeseq2')}), with median-of-ratios size factors "
        f"({cite('median_of_ratios')}), the terms {listed(terms)}{blocks}, and Wald tests of the "
        f"contrast {contrast}; "
        "p-values were adjusted by the Benjamini-Hochberg procedure after independent filtering "
        f"({cite('bh')}).",
        wording.excluded(f),
    )
