"""Phrases that the Methods paragraphs of several models share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hiercorr.counts.selection import without_digest
from hiercorr.errors import InputError
from hiercorr.reporting.references import cite
from hiercorr.results.cell_types import CellTypes
from hiercorr.results.layout import is_list
from hiercorr.results.result import CorrelationResult
from hiercorr.schema import AGREES

MIN_SAMPLES = 3  # fewer give no interval


@dataclass(frozen=True)
class CellTypeSize:
    """Cells, samples and genes of one of several cell types."""

    cells: int
    samples: int
    genes: int


@dataclass(frozen=True)
class Facts:
    """The properties of a result on which its Methods paragraph depends.

    Attributes
    ----------
    attrs : mapping
        Attributes of the result.
    variables : frozenset of str
        Names of its variables and coordinates.
    genes : int
        Number of genes.
    target : str or None
    target_is_gene : bool
        False for a signature.
    types : dict
        Cell type -> its size, for a result of several cell types.
    left_out : tuple of str
        Cell types without a result.
    targets : int
        Number of targets that `target` names.
    listed : int, optional
        Number of the listed pairs, if a list was estimated.
    """

    attrs: Mapping[str, Any]
    variables: frozenset[str] = frozenset()
    genes: int = 0
    target: str | None = None
    target_is_gene: bool = True
    types: Mapping[str, CellTypeSize] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    targets: int = 1
    listed: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default if it is absent."""
        return self.attrs.get(name, default)

    @property
    def tested(self) -> bool:
        """Whether the result has p-values with samples as units."""
        silent = str(self.get("uncertainty", "none")).startswith(("none", "posterior"))
        enough = self.get("n_samples", 0) >= MIN_SAMPLES or self.get("model") == "differential"
        return "p_value" in self.variables and not silent and enough


def facts_of(result: object) -> Facts:
    """Collect the facts of a result, of several cell types, or of a table with attributes."""
    if isinstance(result, CellTypes):
        return _of_cell_types(result)
    if isinstance(result, CorrelationResult):
        names = frozenset(str(n) for n in (*result.dataset.variables,))
        targets, number = result.targets, None
        if is_list(result.dataset):
            number = result.dataset.sizes["pair"]
        target = None if targets is None else listed_briefly(map(str, targets))
        is_gene = targets is not None and bool(targets.isin(result.genes).all())
        attrs, several = result.dataset.attrs, 1 if targets is None else len(targets)
        return Facts(
            attrs, names, len(result.genes), target, is_gene, targets=several, listed=number
        )
    if isinstance(result, pd.DataFrame):
        attrs = {str(k): v for k, v in result.attrs.items()}
        return Facts(attrs, frozenset(map(str, result.columns)), target=attrs.get("gene"))
    raise InputError(f"a {type(result).__name__} has no Methods text: pass a result of hiercorr")


def _of_cell_types(types: CellTypes) -> Facts:
    parts = [facts_of(r) for r in types.values()]
    first = parts[0].attrs
    shared = {k: v for k, v in first.items() if all(p.attrs.get(k) == v for p in parts)}
    sizes = {
        name: CellTypeSize(p.attrs["n_cells"], p.attrs["n_samples"], p.genes)
        for name, p in zip(types, parts, strict=True)
    }
    subsets = [str(p.attrs.get("subset") or "").split("; ") for p in parts]
    shared["subset"] = "; ".join(s for s in subsets[0] if all(s in other for other in subsets))
    shared["n_samples"] = max(s.samples for s in sizes.values())
    for name in ("excluded_samples", "excluded_shallow"):
        shared[name] = ", ".join(str(p.attrs[name]) for p in parts if p.attrs.get(name))
    shared["empty_cells"] = sum(p.attrs.get("empty_cells", 0) for p in parts)
    names = frozenset().union(*(p.variables for p in parts))
    return Facts(
        shared,
        names,
        max(s.genes for s in sizes.values()),
        parts[0].target,
        parts[0].target_is_gene,
        sizes,
        tuple(types.left_out),
    )


def paragraph(*sentences: str) -> str:
    """Join the sentences that are not empty."""
    return " ".join(s for s in sentences if s)


def listed(names: Iterable[str]) -> str:
    """Join names as in ``"a, b and c"``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def listed_briefly(names: Iterable[str], most: int = 5) -> str:
    """Join names as in ``"a, b and 3 others"``."""
    every = list(names)
    if len(every) <= most:
        return listed(every)
    return f"{', '.join(every[: most - 1])} and {len(every) - most + 1} others"


def percent(f: Facts) -> str:
    """Return the confidence level, e.g. ``"95%"``."""
    return f"{100 * f.get('confidence', 0.95):g}%"


def software(f: Facts) -> str:
    """Return the name of this package with the version that made the result."""
    return f"hiercorr {f.get('hiercorr_version', '')}".strip()


def seeded(f: Facts) -> str:
    """Return the seed as an addition to a phrase on random numbers."""
    return "" if f.get("seed") is None else f", seed {f.get('seed')}"


def between_genes(f: Facts) -> str:
    """Return the pairs analysed, e.g. ``"between all pairs of 300 genes"``."""
    if f.get("pairs_across"):
        return f"for {f.get('pairs_across')}"
    sizes = sorted({s.genes for s in f.types.values()} or {f.genes})
    other = int(f.target is not None and f.target_is_gene and f.targets == 1)
    number = " to ".join(f"{n - other:,}" for n in dict.fromkeys((sizes[0], sizes[-1])))
    genes = f"{number} {'other ' if other else ''}gene{'s' * (number != '1')}{chosen_genes(f)}"
    if f.get("gene_sets"):
        layer = f.get("gene_sets_layer", "X")
        of = "" if layer == "X" else " of raw" if layer == "raw" else f" of layer {layer}"
        genes += f" (gene sets entered as summed counts{of}: {f.get('gene_sets'):,})"
    if f.listed is not None:
        return f"between the genes of {f.listed:,} listed pairs, of {genes}"
    if f.target is not None:
        return f"between {f.target} and {genes}"
    return f"between {genes}" if sizes == [2] else f"between all pairs of {genes}"


def chosen_genes(f: Facts) -> str:
    """Return the choice of genes in brackets, or nothing for all expressed genes."""
    text = str(f.get("genes", ""))
    if text.endswith("most highly expressed"):
        return f" (the {text})"
    how = "by name" if text.endswith("named") else "by a mask" if text.startswith("mask") else ""
    return f" (selected {how})" if how else ""


def data(f: Facts, units: str = "samples") -> str:
    """Return cells, samples and sequencing depth, e.g. ``"5,000 cells from 10 samples, with ..."``.

    Parameters
    ----------
    f : Facts
    units : str
        Name of the units.
    """
    if f.types:
        sizes = [
            f"{name}: {s.cells:,} {_noun(f)} from {s.samples:,} {units}"
            for name, s in f.types.items()
        ]
        chosen = f" among cells with {s}" if (s := _selected(f)) else ""
        text = f"each of {len(sizes)} cell types separately{chosen} ({'; '.join(sizes)})"
    elif f.get("sample_column") is None:
        text = cells(f)
    else:
        text = f"{cells(f)} from {f.get('n_samples', 0):,} {units}"
    return f"{text}, {depth(f)}"


def cells(f: Facts) -> str:
    """Return the cells analysed, e.g. ``"5,000 cells"``."""
    text = f"{f.get('n_cells', 0):,} {_noun(f)}"
    if f.get("subsampled_from"):
        text = f"a random subset of {f.get('n_cells'):,} of {f.get('subsampled_from'):,} {_noun(f)}"
    selected = _selected(f)
    return f"{text} ({selected})" if selected else text


def _selected(f: Facts) -> str:
    """Return the subset and the layer."""
    subset, layer = without_digest(str(f.get("subset") or "")), f.get("layer", "X")
    counts = "" if layer == "X" else "counts of raw" if layer == "raw" else f"layer {layer}"
    return "; ".join(part for part in (subset, counts) if part)


def _noun(f: Facts) -> str:
    return "metacells" if _metacells(f) else "cells"


def depth(f: Facts) -> str:
    """Return the source of the sequencing depth."""
    source = without_digest(str(f.get("depth", "row sums")))
    total = "with each cell's total count as sequencing depth"
    if f.get("modalities"):
        own = "" if source in ("row sums", "total", "trimmed") else f" ({source})"
        return f"with the sequencing depth of each type of features{own}"
    if f.get("depth_without"):
        return f"with each cell's total count without {f.get('depth_without')} as sequencing depth"
    known = {
        "row sums": total,
        "total": total,
        "trimmed": total,
        "given array": "with user-supplied sequencing depths",
        "depth": "with the recorded sequencing depths",
    }
    return known.get(source, f"with {source} as sequencing depth")


def excluded(f: Facts) -> str:
    """Return sentences on excluded samples and cell types, and on the required minimum."""
    out = []
    if f.get("depth_adjust"):
        out.append("The logarithm of the depth was regressed out of the counts of each sample.")
    if f.get("features_left_out"):
        out.append(
            "Features of other types than gene expression were left out "
            f"({f.get('features_left_out')})."
        )
    if f.get("empty_cells"):
        n = f.get("empty_cells")
        out.append(
            "One cell without counts was left out."
            if n == 1
            else f"{n:,} cells without counts were left out."
        )
    if f.get("excluded_samples"):
        fewer = f"fewer than {f.get('min_cells')}" if f.get("min_cells") else "too few"
        out.append(f"Samples with {fewer} cells were excluded.")
    if f.get("excluded_shallow"):
        fewer = f"fewer than {f.get('min_counts'):,}" if f.get("min_counts") else "too few"
        out.append(f"Samples with {fewer} counts in total were excluded.")
    required = []
    if f.get("min_cells") and not f.get("excluded_samples"):
        required.append(f"{f.get('min_cells'):,} cells")
    if f.get("min_counts") and not f.get("excluded_shallow"):
        required.append(f"{f.get('min_counts'):,} counts")
    if required and f.get("sample_column") is not None:
        every = "All other samples" if out else "All samples"
        out.append(f"{every} had at least {listed(required)}, the required minimum.")
    if f.left_out:
        out.append(f"Cell types that could not be analysed were left out ({listed(f.left_out)}).")
    return " ".join(out)


def _metacells(f: Facts) -> bool:
    exploratory = f.get("model") == "CSCore" and bool(f.get("exploratory"))
    return exploratory or any(k.startswith("metacell_") for k in f.attrs)


def metacells(f: Facts) -> str:
    """Return a sentence on how metacells were made."""
    if not _metacells(f):
        return ""
    if f.get("metacell_labels"):
        how = f"using predefined labels ({f.get('metacell_labels')})"
    elif f.get("metacell_size"):
        how = f"of at least {f.get('metacell_size')} similar cells"
        if f.get("metacell_n_components"):
            seed = f.get("metacell_seed")
            how += (
                f", formed by nearest neighbours in {f.get('metacell_n_components')} principal "
                f"components of the {f.get('metacell_n_genes'):,} most variable genes"
                f"{'' if seed is None else f', seed {seed}'}"
            )
        how += f" ({cite('metacells')})"
    else:
        how = "of similar cells"
    prefix = "metacell_"
    made_of = {k.removeprefix(prefix): v for k, v in f.attrs.items() if k.startswith(prefix)}
    selected = _selected(Facts(made_of))
    how += f" among those with {selected}" if selected else ""
    return (
        f"Counts had been summed within samples over metacells {how}; correlations over metacells "
        "depend on metacell size and are exploratory."
    )


def over_samples(f: Facts) -> str:
    """Return a sentence on the uncertainty of a within-sample estimate, with samples as units."""
    kind = str(f.get("uncertainty"))
    if kind == "none":
        return "No uncertainty over samples was estimated."
    if not f.tested:
        return (
            f"No uncertainty over samples was estimated, because at least {MIN_SAMPLES} samples "
            "are needed."
        )
    units = "donor" if f.get("block") else "sample"
    few = [name for name, s in f.types.items() if s.samples < MIN_SAMPLES]
    only = f" except in {listed(few)} (fewer than {MIN_SAMPLES} samples)" if few else ""
    if kind == "hierarchical":
        return _hierarchical(f, units, only)
    return (
        f"Standard errors were obtained by {standard_error(f)}, so that the {units} is the unit of "
        f"inference{only}; {percent(f)} confidence intervals and two-sided p-values are based on "
        f"t distributions with Satterthwaite degrees of freedom ({cite('satterthwaite')})."
    )


def _hierarchical(f: Facts, units: str, only: str) -> str:
    """Describe inference that learns the heterogeneity between donors from all pairs."""
    weights = {
        "adaptive": "weighted by the inverse of their sampling variance plus that between "
        f"{units}s",
        "equal": "weighted equally",
        "information": "weighted by their information",
    }[str(f.get("donor_weights", "adaptive"))]
    pairs = f" over {f.get('prior_pairs'):,} pairs" if f.get("prior_pairs") else ""
    levels = (
        f"The variance between the samples of one {units} was estimated likewise. "
        if f.get("tau_within_donors_distribution")
        else ""
    )
    return (
        f"The {units} is the unit of inference{only}, in a hierarchical model: the "
        f"sampling variance of each {units}'s correlation followed from its cells, the "
        f"distribution of the variance between {units}s was estimated{pairs} by nonparametric "
        f"maximum likelihood ({cite('npmle', 'shrinkage')}), and {units}s were {weights}. {levels}"
        "Two-sided p-values average over the posterior distribution of that variance given the "
        f"restricted likelihood ({cite('reml')}); {percent(f)} confidence intervals are normal "
        f"with the posterior variance. The standard deviation between {units}s was estimated for "
        f"pairs for which correlations of {units}s had standard errors of at most 0.3."
    )


def standard_error(f: Facts) -> str:
    """Return the method behind the standard error of a within-sample correlation."""
    kind = str(f.get("uncertainty"))
    if kind == "bootstrap":
        n = f"{f.get('n_bootstrap'):,} resamples; " if f.get("n_bootstrap") else ""
        return f"a linearised bootstrap over samples ({n}{cite('bootstrap')}{seeded(f)})"
    return {
        "jackknife": "a first-order jackknife, leaving one "
        f"{'donor' if f.get('block') else 'sample'} out at a time "
        f"({cite('jackknife')})",
        "cluster": "a cluster-robust sandwich estimator with "
        f"{'donors' if f.get('block') else 'samples'} as clusters and a leverage "
        f"correction ({cite('bell_mccaffrey')})",
    }.get(kind, kind)


def heterogeneity(f: Facts) -> str:
    """Return a sentence on per-sample estimates and how far they differ."""
    if "sample_correlation" not in f.variables:
        return ""
    new = (
        "a 95% prediction interval for a new sample from the confidence distribution of tau^2 "
        f"({cite('prediction')})"
    )
    if f.get("uncertainty") == "hierarchical":
        new = "the 95% prediction interval of the hierarchical model for a new donor"
    return (
        "Correlations were also estimated in each sample, and their heterogeneity was summarised "
        f"on Fisher's z scale by the Paule-Mandel estimate of tau^2 ({cite('paule_mandel')}), "
        f"I^2 ({cite('i2')}), Cochran's Q and {new}."
    )


_PROCEDURES = {
    "Benjamini-Hochberg": "bh",
    "Benjamini-Yekutieli": "by",
    "Storey": "storey",
    "Benjamini-Bogomolov": "hierarchical",
}


def adjustment(f: Facts) -> str:
    """Return sentences on the correction for multiple testing and on intervals beside tests."""
    if not f.get("q_method") or not f.tested:
        return ""
    two = (
        "Confidence intervals and p-values come from different procedures and need not agree."
        if f.get("interval", AGREES) != AGREES
        else ""
    )
    return paragraph(_procedure(f), two, _shrinkage(f))


def _shrinkage(f: Facts) -> str:
    if f.get("shrunken_pairs") is None:
        return ""
    return (
        "Estimates were shrunk and local false sign rates computed by a mixture of normals around "
        f"zero ({cite('shrinkage')}) learnt from the normal scores of "
        f"{f.get('shrunken_pairs'):,} pairs, of which {f.get('null_share'):.0%} were estimated to "
        "have no effect."
    )


def _procedure(f: Facts) -> str:
    method = str(f.get("q_method"))
    if method == "Benjamini-Bogomolov":
        level = f" at level {f.get('q_level'):g}" if f.get("q_level") else ""
        return (
            "p-values were adjusted hierarchically: genes were selected by the Benjamini-Hochberg "
            f"procedure ({cite('bh')}) applied to their Simes p-values ({cite('simes')}){level}, "
            "and the pairs of each selected gene were adjusted for this selection "
            f"({cite('hierarchical')})."
        )
    source = f" ({cite(_PROCEDURES[method])})" if method in _PROCEDURES else ""
    return (
        f"p-values were adjusted for multiple testing by the {method} procedure{source} over "
        f"{_family(f)}."
    )


def _family(f: Facts) -> str:
    family = str(f.get("q_family", ""))
    shared = re.fullmatch(r"(.*) of (\d+ cell types)", family)
    family, types = (shared[1], f" in {shared[2]} together") if shared else (family, "")
    known = {
        "all distinct pairs": "all distinct pairs of genes",
        "pairs of the target": f"the pairs with {f.target}",
        "pairs of the targets": f"the distinct pairs with {f.target}",
        "listed pairs": "the listed pairs",
        "pairs of each gene": "the pairs of each gene separately",
    }
    each = ", separately for each cell type" if f.types and not types else ""
    return known.get(family, family) + types + each


def covariates(formula: str, without: Sequence[object] = ()) -> list[str]:
    """Return the terms of a formula without its intercept and some further terms."""
    terms = [t.strip().replace("`", "") for t in formula.partition("~")[2].split(" + ")]
    names = [re.sub(r"^C\(([^(),]+)\)$", r"\1", t) for t in terms]
    return [n for n in names if n not in {"", "1", *without}]


def permuted(f: Facts, count: int, exact: bool, what: str, references: str) -> str:
    """Return a sentence on permutation p-values.

    Parameters
    ----------
    f : Facts
    count : int
        Number of permutations.
    exact : bool
        Whether these are all permutations.
    what : str
        The quantity that is permuted, and how.
    references : str
    """
    if exact:
        number = f"all {count:,} possible permutations"
    else:
        number = f"{count:,} random permutations{seeded(f)}"
        references = "; ".join(r for r in (references, cite("phipson_smyth")) if r)
    source = f"; {references}" if references else ""
    return f"Two-sided p-values were obtained by permuting {what} ({number}{source})."
