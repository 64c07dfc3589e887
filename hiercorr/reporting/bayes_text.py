"""Methods paragraph of the Bayesian model."""

from __future__ import annotations

from hiercorr.reporting import wording
from hiercorr.reporting.references import cite
from hiercorr.reporting.wording import Facts, data, listed, paragraph, percent, seeded, software

_STRUCTURES = {
    "both": "Correlations of log expression {pairs} were modelled within and between samples",
    "within": "Correlations of log expression {pairs} were modelled within samples only, with "
    "independence between samples",
    "independent": "Log expression was modelled without correlation {pairs}, within or between "
    "samples",
}
_PRIORS = {
    "sd_within": "standard deviation within samples",
    "sd_between": "standard deviation between samples",
    "z_within": "correlation within samples",
    "z_between": "correlation between samples",
    "tau": "heterogeneity over samples",
    "share": "variance shared within blocks",
    "intercept": "intercept",
    "coefficient": "coefficients",
    "z_coefficient": "coefficients of the correlation within samples (z, over the range of a "
    "covariate)",
    "omega": "heterogeneity of the log standard deviation within samples",
}


def bayesian(f: Facts) -> str:
    """Describe a fit of :class:`hiercorr.BayesianCorrelation`."""
    terms = wording.covariates(str(f.get("formula", "~ 1")))
    given = f"; sample means depend on {listed(terms)}" if terms else ""
    structure = _STRUCTURES[str(f.get("structure", "both"))]
    return paragraph(
        "A Poisson-lognormal hierarchical model of cells within samples "
        f"({cite('poisson_lognormal')}) was fitted to {data(f)}, using {software(f)}.",
        f"{structure.format(pairs=wording.between_genes(f))}{given}.",
        wording.excluded(f),
        wording.metacells(f),
        _cell_covariates(f),
        _variation(f),
        _grid(f) if _on_grid(f) else _joint(f) if _is_joint(f) else _sampling(f),
        f"Estimates are posterior means with {percent(f)} highest-density intervals, together with "
        f"the posterior probability of a correlation within {f.get('rope', 0.1):g} of zero (region "
        f"of practical equivalence; {cite('rope')}).",
        _projection(f),
        _priors(f, bool(terms) or bool(f.get("covariates"))),
    )


def _on_grid(f: Facts) -> bool:
    return f.get("chains") is None


def _latent(f: Facts) -> bool:
    return str(f.get("estimator")).startswith("latent")


def _is_joint(f: Facts) -> bool:
    return str(f.get("estimator")).startswith("joint")


def _cell_covariates(f: Facts) -> str:
    terms = wording.covariates(str(f.get("covariates") or "~ 1"))
    if not terms:
        return ""
    return (
        f"Effects of {listed(terms)} on the log rate of each gene within samples were estimated by "
        "gamma-Poisson regression with normal priors and taken as known."
    )


def _variation(f: Facts) -> str:
    varies = (
        "Correlation matrices within samples vary over samples as those of inverse Wishart "
        "matrices around that of the population; tau is the standard deviation of Fisher's z of "
        "each correlation."
        if f.get("heterogeneity") and _is_joint(f)
        else "On Fisher's z scale, correlations within samples vary over samples with a normal "
        "distribution."
        if f.get("heterogeneity")
        else "On Fisher's z scale, correlations within samples do not vary beyond their covariates."
        if f.get("correlation_formula")
        else "Correlations within samples are the same in all samples."
    )
    block = f.get("block")
    shared = f"The means of samples of the same {block} share part of their variance."
    if _is_joint(f):
        levels = (
            f"Means of log expression have one covariance matrix between values of {block} and "
            "another between the samples of one value."
        )
        if not block:
            return varies
        same = f"Samples of the same {block} have the same correlations within samples."
        return paragraph(varies, *([same] if f.get("heterogeneity") else []), levels)
    spread = (
        "The standard deviation of log expression within samples differs between samples "
        "(log-normally, for each gene), and samples are compared by the logs of their mean "
        "expression."
        if f.get("sd_per_sample")
        else ""
    )
    if f.get("structure") == "independent":
        return paragraph(spread, *([shared] if block else []))
    terms = wording.covariates(str(f.get("correlation_formula") or "~ 1"))
    given = (
        f"They depend linearly on {listed(terms)}; coefficients are differences on this scale."
        if terms
        else ""
    )
    what = "deviation from the fitted correlation" if terms else "correlation"
    same = f"Samples of the same {block} have the same {what} within samples."
    if f.get("z_units") == "samples":
        same = f"Samples of the same {block} deviate independently from the fitted correlation."
    return paragraph(varies, given, spread, *([same, shared] if block else []))


def _grid(f: Facts) -> str:
    shrink = (
        " The prior mean and standard deviation of the correlations within samples were estimated "
        "from all pairs by maximum marginal likelihood."
        if f.get("shrink")
        else ""
    )
    return (
        "The model was fitted by empirical Bayes: the parameters of each gene's margin were "
        "estimated first, and the posterior of the correlations was then computed by integration "
        f"on grids and represented by {f.get('draws', 0):,} independent draws{seeded(f)}.{shrink}"
    )


def _sampling(f: Facts) -> str:
    estimator = str(f.get("estimator"))
    latent = _latent(f)
    sampler = "nutpie" if "nutpie" in estimator else "pymc"
    name = {"nutpie": f"nutpie ({cite('nutpie')})", "pymc": f"PyMC ({cite('pymc')})"}[sampler]
    if latent and sampler == "nutpie":
        name = f"PyMC ({cite('pymc')}) with {name}"
    accept = f", target acceptance {f.get('target_accept'):g}" if f.get("target_accept") else ""
    cells = (
        "with the latent expression of each cell as a parameter"
        if latent
        else "separately for each pair of genes, with the latent expression of the cells "
        "integrated out on a grid"
    )
    return (
        f"Posterior draws were obtained with the No-U-Turn sampler ({cite('nuts')}) in {name}, "
        f"{cells} ({f.get('chains')} chains of {f.get('draws'):,} draws after "
        f"{f.get('tune'):,} tuning steps{accept}{seeded(f)}). Convergence was assessed by "
        f"rank-normalised split R-hat and effective sample sizes ({cite('r_hat')}) of all reported "
        f"parameters with ArviZ "
        f"({cite('arviz')}), the energy diagnostic ({cite('bfmi')}) and the number of divergent "
        f"transitions ({f.get('divergences', 0):,})."
    )


def _joint(f: Facts) -> str:
    return (
        "All genes were modelled jointly, with a covariance matrix at every level. Posterior draws "
        "were obtained by data augmentation: Metropolis steps for the log rates of each cell, "
        "conditional distributions of means and covariance matrices given these, and interweaving "
        f"with standardised deviations ({cite('interweaving')}); {f.get('chains')} chains of "
        f"{f.get('draws'):,} draws, {f.get('thinning'):,} sweeps per draw{seeded(f)}. Over all "
        f"parameters, the largest rank-normalised split R-hat was {f.get('largest_r_hat'):.3f} and "
        f"the smallest effective sample size {f.get('smallest_ess'):,.0f} ({cite('r_hat')}), "
        f"computed with ArviZ ({cite('arviz')}). Partial correlations are those given all other "
        "genes of the panel."
    )


def _projection(f: Facts) -> str:
    levels = [level for level in ("within", "between") if f.get(f"positive_definite_{level}") == 0]
    if not levels:
        return ""
    return (
        f"The matrix of correlations {listed(levels)} samples was not positive definite; the "
        f"nearest correlation matrix ({cite('nearest')}) is reported alongside."
    )


def _priors(f: Facts, covariates: bool) -> str:
    structure = f.get("structure", "both")
    used = {
        "z_within": structure != "independent",
        "z_between": structure == "both",
        "tau": bool(f.get("heterogeneity")) and structure != "independent",
        "share": f.get("block") is not None,
        "intercept": not _on_grid(f),
        "coefficient": covariates and not _on_grid(f),
        "z_coefficient": f.get("correlation_formula") is not None,
        "omega": bool(f.get("sd_per_sample")),
    }
    stated = {k: f.get(f"prior_{k}") for k in _PRIORS if f.get(f"prior_{k}") and used.get(k, True)}
    if not stated:
        return ""
    text = "; ".join(f"{_PRIORS[k]} {v}" for k, v in stated.items())
    lkj = any(str(v).startswith("lkj") for v in stated.values())
    source = f" (LKJ: {cite('lkj')})" if lkj else ""
    if _is_joint(f):
        source = (
            "; correlation matrices have the distribution of those of inverse Wishart matrices "
            f"({cite('separation')}), whose single correlations have the stated distributions of a "
            "pair"
        )
    return f"Priors: {text}{source}."
