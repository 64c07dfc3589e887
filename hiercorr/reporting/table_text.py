"""Methods paragraphs of tables made from a result: evidence, gene sets, modules."""

from __future__ import annotations

from hiercorr.interpretation.evidence import Evidence
from hiercorr.reporting.references import cite
from hiercorr.reporting.wording import Facts, covariates, listed

_DIRECTIONS = {"positive": "positive ", "negative": "negative ", "both": ""}


def evidence(table: Evidence) -> str:
    """Describe the classes of :func:`hiercorr.evidence`."""
    what = f"Partners of {table.target}" if table.target else f"The pairs of {table.scope}"
    if table.scope.endswith("pairs"):
        what = f"{table.scope[0].upper()}{table.scope[1:]}"
    family = "" if table.target else ", each over these pairs"
    return (
        f"{what} were classified by their q-values within and between samples "
        f"(threshold {table.q:g}{family}) as supported at both levels with the same sign, within "
        "samples only, between samples only, discordant (both levels, opposite signs) or "
        "insufficient."
    )


def _sets(f: Facts) -> str:
    name = f.get("sets")
    if name == "hallmark":
        return f"MSigDB Hallmark gene sets ({cite('hallmark')})"
    return "gene sets"


def _without(f: Facts) -> str:
    return f" other than {f.get('without')}" if f.get("without") else ""


def _sizes(f: Facts) -> str:
    if f.get("min_size") is None:
        return ""
    return f" with {f.get('min_size'):,} to {f.get('max_size'):,} genes in it"


def enrich(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.enrichment.enrich`."""
    if f.target is None:
        chosen = f"{f.get('partners', 0):,} selected genes"
    else:
        sign = _DIRECTIONS[str(f.get("direction", "both"))]
        limit = f.get("min_correlation") or 0
        bound = f" and |r| >= {limit:g}" if limit else ""
        chosen = (
            f"{f.get('partners', 0):,} genes with a {sign}correlation with {f.target} at "
            f"q < {f.get('q', 0.05):g}{bound}"
        )
    return (
        f"Over-representation of {_sets(f)} among the {chosen} was tested against the "
        f"{f.get('background', 0):,} tested genes{_without(f)} as background, for "
        f"sets{_sizes(f)}, by one-sided hypergeometric tests with GSEApy ({cite('gseapy')}); "
        f"p-values were adjusted by the Benjamini-Hochberg procedure over sets ({cite('bh')})."
    )


def gsea(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.enrichment.gsea`."""
    rank = {"statistic": "test statistic", "fisher_z": "Fisher's z"}
    ranked = rank.get(str(f.get("ranked_by")), str(f.get("ranked_by")))
    partners = f" of {f.target}" if f.target else ""
    return (
        f"Pre-ranked gene set enrichment analysis ({cite('gsea')}) of {_sets(f)} was carried out "
        f"with GSEApy ({cite('gseapy')}) on the partners{partners}, ranked by the signed {ranked}, "
        f"with {f.get('permutations', 0):,} permutations of genes (seed {f.get('seed')}); because "
        "genes of a set are correlated, its p-values are interpreted as a ranking."
    )


def modules(f: Facts) -> str:
    """Describe the modules of :func:`hiercorr.modules.find_modules`."""
    power = float(f.get("power", 1.0))
    soft = f", raised to the power {power:g} ({cite('wgcna')})" if power != 1 else ""
    edges = []
    if f.get("q") is not None:
        edges.append(f"q <= {f.get('q'):g}")
    if f.get("min_correlation"):
        edges.append(f"|r| >= {f.get('min_correlation'):g}")
    kept = f" of pairs with {listed(edges)}" if edges else ""
    sign = "positive correlations" if f.get("signed", 1) else "absolute correlations"
    if f.get("method") == "leiden":
        how = (
            f"the Leiden algorithm ({cite('leiden')}; modularity, resolution "
            f"{float(f.get('resolution', 1)):g}, seed {f.get('seed')})"
        )
    else:
        cut = f" (cut into {f.get('n_modules')} clusters)" if f.get("n_modules") else ""
        how = f"average-linkage hierarchical clustering{cut}"
    stable = (
        " Stability was measured by the Jaccard overlap with the modules found after leaving out "
        "each sample."
        if "stability" in f.variables
        else ""
    )
    return (
        f"Gene modules of at least {f.get('min_size')} genes were found by {how} on the "
        f"{sign}{kept}{soft}.{stable}"
    )


def compared_donors(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.modules.compare_donors`."""
    condition, block = str(f.get("condition")), f.get("block")
    others = covariates(str(f.get("formula", "~ 1")), without=(condition, block))
    adjusted = f", adjusting for {listed(others)}" if others else ""
    what = f.get("of") or "value of each sample"
    units = f"{f.get('n_donors')} donors"
    if f.get("within_donors"):
        adjusted += f", with fixed effects of {block}"
        units = f"the samples of {units}"
    elif block is not None:
        units += f" (means over the samples of each {block})"
    overall = "f_statistic" in f.variables
    welch = f"Welch's two-sided tests ({cite('welch')})"
    errors = (
        f"two-sided t tests with variances moderated over units ({cite('moderation')})"
        if f.get("test") == "moderated t"
        else welch
        if f.get("test") == "Welch" and not overall
        else f"standard errors of type HC2 ({cite('mackinnon_white')}) with degrees of freedom "
        f"from the design ({cite('pustejovsky_tipton' if overall else 'bell_mccaffrey')}) and "
        f"{'F' if overall else 'two-sided t'} tests"
    )
    null = "" if overall else " = 0"
    pairs = (
        " Differences between all pairs of groups had p-values adjusted by Holm's procedure over "
        f"the pairs ({cite('holm')})."
        if any(name.startswith("adjusted_p_value") for name in f.variables)
        else ""
    )
    return (
        f"The {what} was regressed on {condition}{adjusted}, over {units} with equal weights; the "
        f"null hypothesis was {f.get('contrast')}{null}, with {errors}.{pairs} p-values were "
        f"adjusted by the Benjamini-Hochberg procedure over {f.get('units')} units ({cite('bh')})."
    )


def preserved(f: Facts) -> str:
    """Describe a table of :func:`hiercorr.modules.preservation`."""
    donors = (
        " The excess over the random sets was also tested over donors by a one-sided t test."
        if "excess_p_value" in f.variables
        else ""
    )
    return (
        "The preservation of modules in these data was measured by the mean correlation of their "
        f"pairs of genes ({cite('preservation')}), compared with {f.get('permutations'):,} random "
        "sets of genes with the same numbers of genes in each bin of mean expression (seed "
        f"{f.get('seed')}).{donors} p-values were adjusted by the Benjamini-Hochberg procedure "
        f"over modules ({cite('bh')})."
    )
