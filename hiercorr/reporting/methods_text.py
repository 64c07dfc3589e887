"""A methods paragraph and the citations for what was really run."""

from __future__ import annotations

from hiercorr.results.result import CorrelationResult


def methods_text(result: CorrelationResult) -> str:
    """A methods paragraph for what was really run.

    Parameters
    ----------
    result : CorrelationResult

    Returns
    -------
    str
    """
    text = {
        "Pseudobulk": _between_text,
        "decomposition": _decomposition_text,
        "CellCorrelation": _cell_text,
        "BayesianCorrelation": _bayesian_text,
    }
    return text.get(str(result.dataset.attrs.get("model")), _within_text)(result)


def _decomposition_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    return (
        f"Variance and correlation of expression over {a.get('n_cells', 0):,} cells of {a.get('n_samples')} samples were "
        "split into parts within and between samples by the law of total covariance, from CS-CORE moments within samples "
        "(Su et al. 2023, Nat Commun 14:4846) and the covariance of the samples' means less its sampling noise, with "
        f"hiercorr {a.get('hiercorr_version')}; sequencing depth: {a.get('depth')}."
    )


def _cell_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    level = (
        "around each sample's mean (repeated-measures correlation)"
        if a.get("level") == "within"
        else "over all cells"
    )
    tail = (
        f"; standard errors by {a.get('uncertainty')} over samples"
        if a.get("uncertainty") != "none"
        else ""
    )
    return (
        f"For exploration, {str(a.get('estimator')).capitalize()} correlations of log-normalised counts were computed {level} in "
        f"{a.get('n_cells', 0):,} cells of {a.get('n_samples')} samples and {len(result.genes):,} genes with hiercorr "
        f"{a.get('hiercorr_version')}{tail}. They hold dropout and depth and support no claim by themselves."
    )


def _bayesian_text(result: CorrelationResult) -> str:
    a = result.dataset.attrs
    grid = "not MCMC" in str(a.get("uncertainty"))
    how = (
        "by empirical Bayes with all integrals on grids"
        if grid
        else f"by Hamiltonian Monte Carlo ({a.get('chains')} chains of {a.get('draws')} draws after {a.get('tune')} of "
        "adaptation, "
        f"{a.get('estimator')}; {a.get('divergences', 0)} divergent transitions kept)"
    )
    varies = " with a normal distribution of its z over samples" if a.get("heterogeneity") else ""
    block = f" Samples of one {a['block']} share part of their variance." if a.get("block") else ""
    priors = "; ".join(
        f"{k.removeprefix('prior_')} {v}" for k, v in a.items() if k.startswith("prior_")
    )
    data = f"{a.get('n_cells', 0):,} cells of {a.get('n_samples')} samples and {len(result.genes):,} genes"
    return (
        f"A Poisson-lognormal hierarchical model (cells in samples; correlation of log expression within{varies} and between "
        f"samples given the formula {a.get('formula')}) was fitted {how} to {data} with hiercorr "
        f"{a.get('hiercorr_version')}; sequencing depth: {a.get('depth')}.{block} Estimates are posterior means with "
        f"{100 * a.get('confidence', 0.95):g}% highest-density intervals. Priors: {priors}."
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
    permuted = (
        ""
        if "permutation" not in str(a.get("uncertainty"))
        else f" p-values: {a.get('uncertainty')}"
    )
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
    cells = "metacells (sums over similar cells of one sample)" if a.get("exploratory") else "cells"
    where = (
        "within samples, from moments centred in each sample and pooled as a ratio of sums"
        if a.get("estimator") == "within"
        else "over all cells, as published"
    )
    how = {
        "jackknife": "leaving one sample out of the sums (to first order)",
        "cluster": "the samples' linearised influences",
        "bootstrap": "resampling samples with replacement",
    }.get(str(a.get("uncertainty")))
    tail = (
        f"Standard errors of r come from {how}, with t on degrees of freedom that follow from each sample's share of the "
        "variance (at most samples - 1); p-values were adjusted by Benjamini-Hochberg over distinct pairs."
        if how
        else "No uncertainty over samples was computed."
    )
    return (
        f"Gene-gene correlation of expression was estimated from raw counts with the CS-CORE moment estimator "
        f"(Su et al. 2023, Nat Commun 14:4846) {where}, in {a.get('n_cells', 0):,} {cells} of {a.get('n_samples')} samples "
        f"and {len(result.genes):,} genes, with hiercorr {a.get('hiercorr_version')}; sequencing depth: {a.get('depth')}. "
        f"{tail}"
    )


_CITATIONS = {
    "cscore": "Su et al. 2023, Cell-type-specific co-expression inference from single cell RNA-sequencing data, Nature "
    "Communications 14:4846",
    "bh": "Benjamini & Hochberg 1995, Controlling the false discovery rate, Journal of the Royal Statistical Society B 57:289",
    "tmm": "Robinson & Oshlack 2010, A scaling normalization method for differential expression analysis of RNA-seq data, "
    "Genome Biology 11:R25",
    "median_of_ratios": "Anders & Huber 2010, Differential expression analysis for sequence count data, Genome Biology 11:R106",
    "voom": "Law et al. 2014, voom: precision weights unlock linear model analysis tools for RNA-seq read counts, Genome Biology "
    "15:R29",
    "hc3": "MacKinnon & White 1985, Some heteroskedasticity-consistent covariance matrix estimators with improved finite "
    "sample properties, Journal of Econometrics 29:305",
    "correlation": "Smyth, Michaud & Scott 2005, Use of within-array replicate spots, Bioinformatics 21:2067",
    "cluster": "Pustejovsky & Tipton 2018, Small-sample methods for cluster-robust variance estimation, Journal of Business & "
    "Economic Statistics 36:672",
    "permutation": "Freedman & Lane 1983, A nonstochastic interpretation of reported significance levels, Journal of Business & "
    "Economic Statistics 1:292",
    "corrected": "Weerahandi 1993, Generalized confidence intervals, Journal of the American Statistical Association 88:899",
    "heterogeneity": "Paule & Mandel 1982, Consensus values and weighting factors, Journal of Research of the National Bureau of "
    "Standards 87:377",
    "bayesian": "Aitchison & Ho 1989, The multivariate Poisson-log normal distribution, Biometrika 76:643",
    "nuts": "Hoffman & Gelman 2014, The No-U-Turn sampler, Journal of Machine Learning Research 15:1593",
    "diagnostics": "Vehtari et al. 2021, Rank-normalization, folding, and localization: an improved R-hat for assessing "
    "convergence of MCMC, Bayesian Analysis 16:667",
    "repeated": "Bakdash & Marusich 2017, Repeated measures correlation, Frontiers in Psychology 8:456",
}


def citations(result: CorrelationResult) -> list[str]:
    """References for what a result was made with.

    Parameters
    ----------
    result : CorrelationResult

    Returns
    -------
    list of str
    """
    a = {k: str(v) for k, v in result.dataset.attrs.items()}
    model = a.get("model")
    keys = []
    if model in ("CSCore", "decomposition"):
        keys.append("cscore")
    if model == "CellCorrelation" and a.get("level") == "within":
        keys.append("repeated")
    if model == "Pseudobulk":
        keys += [a.get("normalization", ""), a.get("estimator", ""), a.get("block_method", "")]
        keys += ["permutation"] if "permutation" in a.get("uncertainty", "") else []
    if model == "BayesianCorrelation":
        keys += ["bayesian", *(["nuts", "diagnostics"] if "r_hat" in result.dataset else [])]
    elif "tau2" in result.dataset:
        keys.append("heterogeneity")
    if "q_value" in result.dataset:
        keys.append("bh")
    return [_CITATIONS[k] for k in keys if k in _CITATIONS]
