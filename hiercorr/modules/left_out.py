"""Modules in donors that they were not found in, and their weights in other data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.counts.gene_groups import LEAST
from hiercorr.errors import DataWarning, InputError, instance_of, listed, whole_number
from hiercorr.modules.connectivity import preservation
from hiercorr.modules.found import check_options, find_modules
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.parts import parts_of_donors
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.cscore import CSCore

_ALIKE = 0.5  # Jaccard index from which a module counts as found again
_HIGH = 2.0  # z from which a module counts as preserved


def left_out_preservation(
    fit: Callable[[list[str]], CorrelationResult],
    samples: Sequence[str],
    *,
    donors: Mapping[str, object] | pd.Series | None = None,
    folds: int = 5,
    permutations: int = 200,
    seed: int = 0,
    **find: Any,
) -> pd.DataFrame:
    r"""Find modules without some donors, and measure their connectivity in these donors.

    The donors are divided at random into folds. For each fold, modules are found in the other
    donors, and their connectivity in the donors of the fold is compared with that of random sets of
    genes (:func:`hiercorr.modules.preservation`): the same data never find and test a module. A
    module of all donors is followed through the folds as the one with the largest overlap.

    Parameters
    ----------
    fit : callable
        Function that returns the result with all pairs of some samples, given the list of their
        names. For example ``lambda s: hc.CSCore(adata, "donor", subset={"donor": s}).fit()``.
        Where the samples are of one donor or of one each, ``block=`` is dropped.
    samples : sequence of str
        Names of all samples.
    donors : mapping or Series, optional
        Donor of each sample; samples of one donor are in one fold. None: samples are donors.
    folds : int
        Number of folds, at least 2; with more than there are donors, one donor per fold.
    permutations, seed
        As for :func:`hiercorr.modules.preservation`; the seed divides the donors, too.
    **find
        Options of :func:`hiercorr.modules.find_modules`.

    Returns
    -------
    DataFrame
        By module of all donors, M1 for module 1: ``size``; ``jaccard``, mean overlap with the
        module found without the fold; ``folds`` with a result; ``found``, proportion of folds in
        which the overlap is 0.5 or more; means over folds of ``connectivity`` and ``random_mean``
        in the left-out donors; ``excess``, the mean difference of both, with its standard error
        over folds; ``z``, the median; and ``preserved``, the proportion of folds with a z of 2 or
        more. There is no p-value, because folds share the donors that modules are found in.

    Raises
    ------
    InputError
        If there are fewer than 4 donors, an option is unknown, or `fit` returns no result.

    References
    ----------
    Langfelder, Luo, Oldham & Horvath 2011, PLoS Computational Biology 7:e1001057.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.ipsc_cycle()
    >>> def fit(donors):
    ...     return hc.CSCore(adata, "donor", depth="depth", subset={"donor": donors}).fit()
    >>> donors = list(adata.obs["donor"].unique())
    >>> options = {"min_correlation": 0.3, "q": None, "permutations": 100}
    >>> found = hc.modules.left_out_preservation(fit, donors, folds=2, **options)
    >>> found["folds"].max().item()
    2
    """
    if not callable(fit):
        raise InputError(f"fit must be a function of a list of samples, not {fit!r}")
    names = listed("samples", samples, "a list of names of samples")
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"samples must be a list of names, not {samples!r}")
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        raise InputError(f"samples names {twice[0]!r} twice")
    whole_number("folds", folds, 2)
    whole_number("permutations", permutations, 100)
    whole_number("seed", seed, 0)
    check_options(find)
    fold = _folds(names, donors, folds, seed)
    reference = find_modules(_fitted(fit, names), **find).to_dict()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in reference}
    for k in range(fold.max() + 1):
        left_out = [n for n, f in zip(names, fold, strict=True) if f == k]
        others = [n for n, f in zip(names, fold, strict=True) if f != k]
        with parts_of_donors():
            part, test = _fitted(fit, others), _fitted(fit, left_out)
        found = find_modules(part, **find).to_dict()
        usable = {n: g for n, g in found.items() if len(set(g) & set(test.genes)) >= LEAST}
        if not usable:
            continue
        table = preservation(usable, test, permutations=permutations, seed=seed)
        for name, genes in reference.items():
            overlap = {n: _jaccard(genes, g) for n, g in usable.items()}
            best = max(overlap, key=lambda n: overlap[n])
            of_best = table.loc[best, ["connectivity", "random_mean", "z"]].to_dict()
            rows[name].append({"jaccard": overlap[best], **of_best})
    out = [_row(len(reference[name]), pd.DataFrame(part)) for name, part in rows.items()]
    return pd.DataFrame(out, index=pd.Index(list(rows), name="module"))


def _row(size: int, part: pd.DataFrame) -> dict[str, float]:
    """Sum up the folds of one module."""
    part = part.dropna() if len(part) else part
    if not len(part):
        return {"size": size, "folds": 0}
    excess = part["connectivity"] - part["random_mean"]
    return {
        "size": size,
        "folds": len(part),
        "jaccard": part["jaccard"].mean(),
        "found": (part["jaccard"] >= _ALIKE).mean(),
        "connectivity": part["connectivity"].mean(),
        "random_mean": part["random_mean"].mean(),
        "excess": excess.mean(),
        "excess_se": excess.sem() if len(part) > 1 else np.nan,
        "z": part["z"].median(),
        "preserved": (part["z"] >= _HIGH).mean(),
    }


def _folds(
    names: Sequence[str], donors: Mapping[str, object] | pd.Series | None, folds: int, seed: int
) -> np.ndarray:
    """Return the fold of each sample."""
    donor = list(names)
    if donors is not None:
        instance_of("donors", donors, (Mapping, pd.Series), "a mapping or a Series by sample")
        missing = [n for n in names if n not in donors or pd.isna(donors[n])]
        if missing:
            raise InputError(f"donors= names no donor of sample {missing[0]!r}")
        donor = [str(donors[n]) for n in names]
    codes, distinct = pd.factorize(np.array(donor, object))
    if len(distinct) < 4:
        raise InputError(
            f"there are {len(distinct)} donors: at least 4 are needed to find modules in some and "
            "test them in others"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    return np.asarray((order % min(folds, len(distinct)))[codes])


def _fitted(fit: Callable[[list[str]], CorrelationResult], names: list[str]) -> CorrelationResult:
    result = fit(names)
    instance_of("the value of fit()", result, CorrelationResult, "a CorrelationResult")
    return result


def _jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b))


def project(
    weights: Mapping[str, Mapping[str, float] | pd.Series], model: CSCore
) -> dict[str, pd.Series]:
    """Restrict the weights of modules to the genes of another model.

    The result is both the modules and their weights there:
    ``other.module_correlation(w, weights=w)``.

    Parameters
    ----------
    weights : mapping
        Weights of genes by module, such as those of :meth:`hiercorr.CSCore.module_weights`.
    model : CSCore
        Model of other data.

    Returns
    -------
    dict of Series
        Weights by gene, for each module with 2 genes or more in the model.

    Raises
    ------
    InputError
        If the weights are not valid, or no module has 2 genes in the model.

    Warns
    -----
    DataWarning
        If genes or modules are left out.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 50}
    >>> model = hc.CSCore(adata, "sample_id", subset={"condition": "ctrl"}, **options)
    >>> sets = {"ribosome": ["RPS2", "RPLP0", "RPS18"], "ferritin": ["FTL", "FTH1"]}
    >>> other = hc.CSCore(adata, "sample_id", subset={"condition": "panobinostat"}, **options)
    >>> w = hc.modules.project(model.module_weights(sets), other)
    >>> other.module_correlation(w, weights=w).dataset.sizes["gene"]
    2
    """
    instance_of("model", model, CSCore, "a CSCore model")
    instance_of("weights", weights, Mapping, "weights of genes by module")
    out, lost, few = {}, {}, []
    known = set(model.counts.genes)
    for name, of in weights.items():
        if not isinstance(of, Mapping | pd.Series):
            raise InputError(f"weights= of module {name!r} must be weights by gene, not {of!r}")
        named = {model._reader.named(gene): w for gene, w in of.items()}
        kept = {gene: w for gene, w in named.items() if gene in known}
        if len(kept) < len(named):
            total = sum(map(abs, named.values()))
            lost[name] = 1 - sum(map(abs, kept.values())) / total
        if len(kept) < LEAST:
            few.append(name)
            continue
        out[name] = pd.Series(kept, name="weight").rename_axis("gene")
    if not out:
        raise InputError(
            f"none of the {len(weights)} modules has 2 genes in the model: do both name genes "
            "alike?"
        )
    if lost:
        worst = max(lost, key=lambda n: lost[n])
        left_out = f" Fewer than 2 genes are left of {', '.join(few)}." if few else ""
        warn(
            f"{len(lost)} of {len(weights)} modules have genes that are not in the model; {worst} "
            f"lacks {lost[worst]:.0%} of its weights.{left_out}",
            DataWarning,
        )
    return out
