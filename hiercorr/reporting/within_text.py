"""Methods paragraphs of the models within samples and over cells."""

from __future__ import annotations

from hiercorr.reporting import wording
from hiercorr.reporting.references import cite
from hiercorr.reporting.wording import Facts, data, listed, paragraph, percent, software


def cscore(f: Facts) -> str:
    """Describe a fit of :class:`hiercorr.CSCore` or of several cell types."""
    within = f.get("estimator") == "within"
    pooled = (
        "over all cells, pooled across samples," if f.get("sample_column") else "over all cells"
    )
    moments = (
        "Moments were centred within each sample and pooled over samples as ratios of sums."
        if within
        else "Moments were computed over all cells, as published."
    )
    if f.get("block"):
        moments += (
            f" Samples of the same {f.get('block')} were added up, and {f.get('n_donors'):,} "
            "donors are the units of the inference."
        )
    return paragraph(
        f"Correlations of expression {_pairs(f)} were estimated "
        f"{'within samples' if within else pooled} from raw counts with the CS-CORE moment "
        f"estimator ({cite('cscore')}) in {data(f)}, using {software(f)}.",
        wording.excluded(f),
        wording.metacells(f),
        moments,
        _signature(f),
        _score(f),
        _covariates(f),
        wording.over_samples(f),
        "" if within else _CELL_TEST,
        wording.heterogeneity(f),
        wording.adjustment(f),
    )


_POOLED = "over all cells, pooled across samples,"
_CELL_TEST = "The published cell-level test is reported alongside; it treats cells as independent."


def _pairs(f: Facts) -> str:
    if f.get("n_modules") is not None and f.target is None:
        return f"between {f.get('n_modules')} modules"
    if f.get("n_modules") is not None and f.get("score") is not None:
        return f"between the cell score {f.get('score')} and {f.get('n_modules')} modules"
    genes = f"{f.genes:,} genes{wording.chosen_genes(f)}"
    if f.get("n_modules") is not None and f.get("signature") is None:
        return f"between {f.get('n_modules')} modules and {genes}"
    for kind, name in (("signature", "signature"), ("score", "cell score")):
        if f.get(kind) is not None:
            return f"between the {name} {f.get(kind)} and {genes}"
    return wording.between_genes(f)


def _signature(f: Facts) -> str:
    modules = f.get("n_modules") is not None
    if f.get("signature") is None and not modules:
        return ""
    how = {
        "equal": "with equal weights on the genes' relative expression",
        "expression": "as the plain sum of the genes' expression",
        "eigengene": "as the first principal component of the genes' standardised expression, from "
        "the leading eigenvector of their noise-corrected correlations",
    }.get(str(f.get("weights")), "with user-supplied weights on the genes' relative expression")
    if modules:
        own = (
            "genes of two modules were left out of both for their pair."
            if f.target is None
            else "their noise-corrected variances include all of their genes."
            if f.get("score") is not None
            else "each gene of a module was compared with the remaining genes of it."
        )
        return f"Modules were formed {how}; {own}"
    size = f" of {f.get('signature_size')} genes" if f.get("signature_size") else ""
    return (
        f"The signature{size} was formed {how}; each of its genes was compared with the remaining "
        "genes of the signature."
    )


def _score(f: Facts) -> str:
    if f.get("score") is None:
        return ""
    level = f.get("score_level")
    coded = "" if level is None else f", 1 for cells of the level {level} and 0 for the others,"
    return (
        f"The score{coded} was scaled to the same variance in each sample and taken as measured; "
        "counting noise was removed from the variances of the genes."
    )


def _covariates(f: Facts) -> str:
    terms = wording.covariates(str(f.get("formula", "~ 1")))
    if not terms:
        return ""
    if f.get("estimator") != "pooled":
        return paragraph(_cell_terms(f), _sample_terms(f))
    parts = str(f.get("adjusted_parts") or "").split(", ")
    where = f"the {listed(parts)} regression{'s' * (len(parts) > 1)}" if parts[0] else "the moments"
    scaled = ", after centring and scaling" if f.get("standardized") else ""
    level = {
        "cell": ", with effects on expression",
        "count": ", with effects on the observed counts",
    }.get(str(f.get("covariate_level")), "")
    return f"The covariates {listed(terms)} entered {where} of CS-CORE{level}{scaled}."


def _cell_terms(f: Facts) -> str:
    terms = wording.covariates(f"~ {f.get('cell_terms') or ''}")
    if not terms:
        return ""
    return (
        f"Covariates of cells ({', '.join(terms)}) were regressed out of the counts"
        f"{'' if f.get('score') is None else ' and the score'} within each sample."
    )


def _sample_terms(f: Facts) -> str:
    terms = wording.covariates(f"~ {f.get('sample_terms') or ''}", without=("none",))
    if not terms:
        return ""
    return (
        f"Covariates that are constant within samples ({', '.join(terms)}) do not affect "
        "correlations within samples."
    )


def differential(f: Facts) -> str:
    """Describe a fit of :func:`hiercorr.differential`."""
    groups = "group" in f.variables
    condition = str(f.get("condition"))
    curve = not groups and f.get("test") == "overall"
    what = "Differences in" if groups else "Changes in" if curve else "Slopes of"
    over = f"between levels of {condition}" if groups else f"on {condition}"
    over = f"along {condition}" if curve else over
    units = f"combinations of sample and {condition}" if _paired(f) else "samples"
    return paragraph(
        f"{what} correlations of expression {_differing(f)} {over} were estimated "
        f"within samples from raw counts with CS-CORE moments ({cite('cscore')}) in "
        f"{data(f, units)}, using {software(f)}.",
        wording.excluded(f),
        _cell_terms(f),
        wording.metacells(f),
        _signature(f),
        _two_groups(f) if f.get("method") == "pooled" else _regression(f),
        wording.adjustment(f),
    )


def _differing(f: Facts) -> str:
    n = f.get("n_modules")
    return wording.between_genes(f) if n is None else f"between {n} modules"


def differential_variability(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.differential_variability`."""
    condition, block = str(f.get("condition")), f.get("block")
    others = wording.covariates(str(f.get("formula", "~ 1")), without=(condition, block))
    adjusted = f", adjusting for {listed(others)}" if others else ""
    blocks = f", with fixed effects of {block}" if block else ""
    units = f"combinations of sample and {condition}" if _paired(f) else "samples"
    return paragraph(
        "The variance of the expression of each gene between cells, relative to its squared mean "
        "and without Poisson noise, was estimated within samples from raw counts with CS-CORE "
        f"moments ({cite('cscore')}) in {data(f, units)}, using {software(f)}.",
        wording.excluded(f),
        _cell_terms(f),
        wording.metacells(f),
        f"Its logarithm was regressed on {condition}{adjusted}{blocks} by quasi-likelihood, with "
        "weights from the sampling variance given the cells and the variance between samples; the "
        f"tested contrast was {f.get('contrast')}. Residual variances were moderated over genes "
        f"({cite('moderation')}), with two-sided t tests and {percent(f)} confidence intervals; "
        "p-values were adjusted by the Benjamini-Hochberg procedure over genes "
        f"({cite('bh')}).",
    )


def _paired(f: Facts) -> bool:
    return f.get("block") is not None and f.get("block") == f.get("sample_column")


def _two_groups(f: Facts) -> str:
    return (
        "Each group's correlation was estimated from its own samples, with a standard error from "
        f"{wording.standard_error(f)}, and the two were compared on Fisher's z scale with "
        f"Welch-Satterthwaite degrees of freedom ({cite('welch')}); {percent(f)} confidence "
        "intervals are for the difference of the correlations."
    )


def _regression(f: Facts) -> str:
    condition, block = str(f.get("condition")), f.get("block")
    others = wording.covariates(str(f.get("formula", "~ 1")), without=(condition, block))
    adjusted = f", adjusting for {listed(others)}" if others else ""
    blocks = f", with fixed effects of {block}" if block else ""
    unit = "unit" if _paired(f) else "sample"
    kind = str(f.get("uncertainty"))
    weights = (
        "in a random-effects regression"
        if kind == "hierarchical"
        else ("weighted by its share of the information")
    )
    text = (
        f"To first order, each {unit}'s contribution to a correlation was regressed on "
        f"{condition}{adjusted}{blocks}, {weights}; {_hypothesis(f)}. "
    )
    overall = f.get("test") in ("overall", "pairwise")
    if kind == "hierarchical":
        return text + _random_effects(f, unit) + _contrasts(f)
    if overall:
        return (
            f"{text}Wald tests used standard errors of type HC2 ({cite('mackinnon_white')}) and an "
            "approximate Hotelling's T-squared distribution, an F distribution with "
            f"{f.get('df_numerator')} numerator degrees of freedom and denominator degrees of "
            f"freedom from the design ({cite('pustejovsky_tipton')}).{_contrasts(f)}"
        )
    text += (
        "Standard errors are of type HC2 "
        f"({cite('mackinnon_white')}) with Satterthwaite degrees of freedom "
        f"({cite('bell_mccaffrey')}), with {percent(f)} confidence intervals"
    )
    if not kind.startswith("permutation"):
        return text + " and two-sided t tests of no difference."
    within = f" within {block}" if block else ""
    permuted = wording.permuted(
        f,
        int(f.get("permutations", 0)),
        "exact" in kind,
        f"{condition} over {unit}s{within}, with a studentised statistic",
        cite("janssen"),
    )
    return f"{text}. {permuted} Under the null hypothesis the {unit}s were taken as exchangeable."


def _hypothesis(f: Facts) -> str:
    if f.get("test") == "trend":
        return (
            f"the tested contrast was the {f.get('contrast')}, with equally spaced scores and "
            "equal weights of the levels"
        )
    if f.get("test") in ("overall", "pairwise"):
        return f"the null hypothesis was {f.get('contrast')}"
    return f"the tested contrast was {f.get('contrast')}"


def _contrasts(f: Facts) -> str:
    """Describe the contrasts of all pairs of groups."""
    if f.get("test") != "pairwise":
        return ""
    return (
        f" For each pair of genes, the differences between all pairs of groups ({percent(f)} "
        "confidence intervals) had p-values adjusted by Holm's procedure over these differences "
        f"({cite('holm')})."
    )


def _random_effects(f: Facts, unit: str) -> str:
    """Describe a regression that learns from all pairs how samples of a group differ."""
    groups = " in each group" if "group_tau" in f.variables else ""
    overall = f.get("test") in ("overall", "pairwise")
    tests = "P-values of the overall test" if overall else "Two-sided p-values of no difference"
    normal = f"; {percent(f)} confidence intervals are normal with the posterior variance"
    intervals = "" if overall else normal
    return (
        f"The sampling variance of each {unit}'s correlation followed from its cells, and the "
        f"distribution of the variance between {unit}s{groups} was estimated over "
        f"{f.get('prior_pairs'):,} pairs by nonparametric maximum likelihood "
        f"({cite('npmle', 'shrinkage')}), separately for pairs that are correlated over all "
        f"{unit}s. {tests} average over the posterior distribution of "
        f"that variance given the restricted likelihood ({cite('reml')}){intervals}. The "
        f"standard deviation between {unit}s was estimated for pairs for which correlations of "
        f"{unit}s had standard errors of at most 0.3."
    )


def cell_correlation(f: Facts) -> str:
    """Describe a fit of :class:`hiercorr.CellCorrelation`."""
    within = f.get("level") == "within"
    values = "log-normalised counts"
    if f.get("estimator") == "spearman":
        values = f"the ranks of {values}{' within samples' if within else ''}"
    if within:
        level = f"within samples (repeated-measures correlation; {cite('repeated_measures')})"
    else:
        level = _POOLED if f.get("sample_column") else "over all cells"
    return paragraph(
        f"For exploration, {str(f.get('estimator')).capitalize()} correlations "
        f"{wording.between_genes(f)} were computed {level} from {values} in {data(f)}, using "
        f"{software(f)}.",
        wording.excluded(f),
        wording.metacells(f),
        wording.over_samples(f),
        wording.adjustment(f),
        "Such correlations are affected by dropout and sequencing depth and are exploratory; "
        "cell-level p-values treat cells as independent and were not used for inference.",
    )


def decomposition(f: Facts) -> str:
    """Describe a fit of :func:`hiercorr.decompose`."""
    return paragraph(
        f"The variance of expression and its correlation {wording.between_genes(f)} over "
        f"{data(f)}, were split into components within and between samples by the law of total "
        f"covariance, using {software(f)}.",
        wording.excluded(f),
        wording.metacells(f),
        "The component within samples is based on CS-CORE moments "
        f"({cite('cscore')}), the component between samples on the covariance of the sample means, "
        "corrected for their sampling noise. The decomposition describes these samples; no tests "
        "were carried out.",
    )


def direct_partners(f: Facts) -> str:
    """Describe a fit of :func:`hiercorr.direct_partners`."""
    log = f.get("scale") == "log"
    expression = "log expression" if log else "expression"
    lognormal = (
        f" on the scale of log expression under a Poisson-lognormal model "
        f"({cite('poisson_lognormal')})"
        if log
        else ""
    )
    chosen = (
        "that maximised the Gaussian likelihood of left-out donors"
        if f.get("shrinkage_chosen") == "left-out donors"
        else "that was given"
    )
    seed = f", seed {f.get('seed')}" if f.get("seed") is not None else ""
    return paragraph(
        f"Partial correlations of {expression} {wording.between_genes(f)}, given the other genes, "
        f"were estimated within samples from raw counts in {data(f)}, using {software(f)}.",
        wording.excluded(f),
        wording.metacells(f),
        _covariates(f),
        f"Covariances corrected for the noise of counts were those of CS-CORE ({cite('cscore')})"
        f"{lognormal}. The correlation matrix of {f.get('conditioning_genes'):,} genes was made "
        "positive definite by raising its eigenvalues to at least 0.001, shrunk toward the "
        f"identity with the weight {f.get('shrinkage'):g} {chosen}, and inverted, and the bias of "
        f"the shrinkage was removed to first order ({cite('debiased_precision')}).",
        f"Standard errors were obtained by a jackknife over donors at this weight "
        f"({cite('jackknife')}), with variances moderated over pairs by empirical Bayes "
        f"({cite('moderation')}); {percent(f)} confidence intervals and two-sided p-values are "
        "based on t distributions. Stability is the proportion of "
        f"{f.get('n_bootstrap'):,} bootstrap resamples of donors{seed} with a partial correlation "
        f"of the same sign and of at least {f.get('min_correlation'):g} in absolute value.",
        wording.adjustment(f),
    )
