r"""Modules: correlation within samples of the weighted sums of several groups of genes.

With the weights a and b of the genes of two groups, covariances add up,

.. math:: \phi_{AB} = \sum_{jk} a_j b_k \phi_{jk},

and so do the influences of the samples on them, as for one group (:mod:`hiercorr.within.signature`)
with each gene. A gene of both groups would be correlated with itself: it is left out of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.counts.gene_groups import LEAST, Sets, named_sets
from hiercorr.counts.names import FeatureNames
from hiercorr.errors import DataWarning, InputError
from hiercorr.inference.random_effects import DonorGenes
from hiercorr.results import tiling
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag
from hiercorr.within.fitting import WithinEstimates, WithinProblem, prepare
from hiercorr.within.heterogeneity import by_donor
from hiercorr.within.listed_pairs import taken
from hiercorr.within.one_target import Array, Linear, Part, target_table
from hiercorr.within.options import Plan
from hiercorr.within.signature import (
    check_signature,
    covariances,
    given_weights,
    grouped,
    member_pairs,
)
from hiercorr.within.signature_noise import SignatureNoise, signature_noise

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Module:
    """A group of genes.

    Attributes
    ----------
    members : ndarray of int64
        Positions of its genes.
    weights : ndarray
        Their weights on relative expression.
    total : Linear
        Its variance, one value.
    flag : uint16
    noise : SignatureNoise or None
        Expected noise, for the hierarchical model.
    """

    members: Index
    weights: Array
    total: Linear
    flag: np.uint16
    noise: SignatureNoise | None


@dataclass
class Overlaps:
    """Pairs of modules that share genes.

    Attributes
    ----------
    reduced, emptied : int
        Number of pairs whose modules both keep 2 genes, and of those of which one does not.
    """

    reduced: int = 0
    emptied: int = 0

    def note(self) -> str | None:
        """State what was done about the genes that modules share."""
        n = self.reduced + self.emptied
        if not n:
            return None
        share = "1 pair of modules shares" if n == 1 else f"{n} pairs of modules share"
        text = f"{share} genes, which are left out of both modules of the pair"
        if not self.emptied:
            return text
        which = "it" if n == 1 else f"{self.emptied} of them"
        return (
            f"{text}; this leaves fewer than 2 genes of a module in {which}, and no correlation "
            "(NaN and flagged)"
        )


NOTHING_LEFT = Flag.NONPOSITIVE_VARIANCE.bit  # of a pair of which a module has no genes of its own
Weights: TypeAlias = str | Mapping[str, float] | Mapping[str, Mapping[str, float]]


def check_modules(
    sets: Sets, weights: Weights, known: FeatureNames
) -> tuple[dict[str, list[str]], list[Array | str]]:
    """Check modules and weights.

    Parameters
    ----------
    sets : mapping, Modules or path
    weights : {"equal", "expression", "eigengene"} or mapping
        From genes to weights, or from modules to such mappings.
    known : FeatureNames
        Genes of the model.

    Returns
    -------
    dict
        Genes by module. Of a GMT file, without genes that are not in the model, and without sets
        of which fewer than 2 are.
    list of (ndarray or str)
        Weights of each module.

    Raises
    ------
    InputError
        If a module has fewer than 2 genes, or the name of a gene, or a gene is unknown.
    """
    named = named_sets(sets)
    if isinstance(sets, str | Path):
        named = _in_model(named, known)
    out, values = {}, []
    for name, genes in named.items():
        try:
            out[name], given = check_signature(genes, name, _of_module(weights, name), known)
        except InputError as error:
            told = str(error).replace(" of the signature", "").replace("a signature", "a module")
            raise InputError(f"module {name!r}: {told}") from None
        values.append(given)
    return out, values


def _of_module(weights: Weights, name: str) -> Any:
    """Return the weights of one module."""
    if not isinstance(weights, Mapping) or not weights:
        return weights
    nested = [isinstance(of, Mapping | pd.Series) for of in weights.values()]
    if not any(nested):
        return weights
    if name not in weights or not all(nested):
        others = ", ".join(map(repr, list(weights)[:5]))
        raise InputError(f"weights= has no weights of this module, but of {others}")
    return weights[name]


def _in_model(sets: dict[str, list[str]], known: FeatureNames) -> dict[str, list[str]]:
    """Restrict the sets of a file to the genes of the model."""
    genes = set(known.genes)
    inside = {k: [g for g in map(known.named, v) if g in genes] for k, v in sets.items()}
    usable = {k: v for k, v in inside.items() if len(set(v)) >= LEAST}
    if not usable:
        largest = max(inside, key=lambda k: len(inside[k]))
        raise InputError(
            f"none of the {len(sets)} sets of the file has 2 genes in the model (the largest, "
            f"{largest!r}, has {len(inside[largest])}): choose more with genes=, or check that "
            f"both name genes alike, e.g. {sets[largest][0]!r} and {known.genes[0]!r}"
        )
    if len(usable) < len(sets):
        warn(
            f"{len(sets) - len(usable)} of {len(sets)} sets of the file have fewer than 2 genes in "
            "the model and are left out",
            DataWarning,
        )
    return usable


def fit_modules(
    counts: Counts, modules: Sequence[Index], weights: Sequence[Array | str], plan: Plan
) -> tuple[WithinEstimates, Overlaps]:
    """Estimate the correlations of groups of genes with each other.

    Parameters
    ----------
    counts : Counts
    modules : sequence of ndarray of int64
        Positions of the genes of each group.
    weights : sequence of (ndarray or {"equal", "expression", "eigengene"})
    plan : Plan

    Returns
    -------
    WithinEstimates
        Pair variables (n_modules, n_modules) and variables of modules.
    Overlaps
    """
    problem = prepare(counts, plan)
    plan = problem.plan
    units = module_units(counts, problem, modules, weights)
    n, overlaps = len(units), Overlaps()
    arrays: dict[str, NDArray] = {}
    flag = np.zeros((n, n), np.uint16)
    flag[np.arange(n), np.arange(n)] = [unit.flag for unit in units]
    pairs = list(itertools.combinations(range(n), 2))
    for i, j in with_progress(pairs, plan.progress):
        found = apart(counts, problem, units[i], units[j])
        if found is None:
            overlaps.emptied += 1
            flag[i, j] = flag[j, i] = NOTHING_LEFT
            continue
        overlaps.reduced += found[2]
        tile, flags = _pair(counts, problem, found[0], found[1])
        flag[i, j] = flag[j, i] = flags[0, 0]
        for name, values in tile.items():
            array = arrays.setdefault(name, np.full((n, n), np.nan))
            array[i, j] = array[j, i] = values[0, 0]
    arrays.setdefault("correlation_unclipped", np.full((n, n), np.nan))
    silent = plan.silent(counts.n_samples)
    output = tiling.PairOutput(n, None, np.float64, without_interval=silent)
    output.write(slice(0, n), slice(0, n), arrays, flag)
    fitted = problem.fitted(output.finish())
    return replace(fitted, gene=module_variables(units), follow=None), overlaps


def module_variables(units: Sequence[Module]) -> dict[str, NDArray]:
    """Return the variables of groups of genes, which take the place of those of genes."""
    share = np.array([unit.total.share for unit in units])
    return {
        "gene_flag": np.array([unit.flag for unit in units]),
        "effective_samples": 1 / (share**2).sum(1),
    }


def module_units(
    counts: Counts,
    problem: WithinProblem,
    modules: Sequence[Index],
    weights: Sequence[Array | str],
) -> list[Module]:
    """Estimate the variances of groups of genes; arguments as for :func:`fit_modules`."""
    return [_module(counts, problem, *unit) for unit in zip(modules, weights, strict=True)]


def _module(counts: Counts, problem: WithinProblem, members: Index, weights: Array | str) -> Module:
    """Estimate the variance of a group, and its noise."""
    mean = problem.gene["mean"][members]
    counts, problem = counts.take(members), taken(problem, members)
    fit = problem.fit
    variances = Linear.ratio(problem.by_donor(fit.num.T), problem.by_donor(fit.den.T), 2.0)
    pairs = member_pairs(counts, problem, variances, problem.plan)
    weights = given_weights(weights, mean, pairs.value, counts.genes)
    _, total, flag = grouped(pairs, weights, fit.theta)
    noise = None
    if problem.donors is not None:
        noise = signature_noise(problem.donors, problem.depth_sums, fit, pairs.value, weights)
    return Module(members, weights, total, flag, noise)


def _without(counts: Counts, problem: WithinProblem, unit: Module, shared: Index) -> Module | None:
    """Return a group without some of its genes; None if fewer than 2 are left."""
    keep = ~np.isin(unit.members, shared)
    if keep.sum() < LEAST:
        return None
    return _module(counts, problem, unit.members[keep], unit.weights[keep])


def _pair(
    counts: Counts, problem: WithinProblem, a: Module, b: Module
) -> tuple[dict[str, NDArray], NDArray]:
    """Estimate the correlation of two groups without common genes."""
    cross, noise = cross_sums(counts, problem, a, b)
    unit = Part(slice(0, 1), a.total, cross.column(), b.total.column())
    return target_table(unit, problem, _donors(problem, a, b, noise), np.array([a.flag | b.flag]))


def cross_sums(
    counts: Counts, problem: WithinProblem, a: Module, b: Module
) -> tuple[Linear, Array]:
    """Estimate the covariance of two groups, one value; also the noise of their pairs of genes."""
    genes, n = np.concatenate([a.members, b.members]), len(a.members)
    own, part = counts.take(genes), taken(problem, genes)
    pairs = covariances(own, part, n, slice(n, len(genes)), problem.plan)
    return pairs.combined(a.weights).combined(b.weights), pairs.noise


def apart(
    counts: Counts, problem: WithinProblem, a: Module, b: Module
) -> tuple[Module, Module, bool] | None:
    """Leave the genes that two groups share out of both; None if fewer than 2 are then left.

    The last value is whether any were shared.
    """
    shared = np.intersect1d(a.members, b.members)
    if not len(shared):
        return a, b, False
    first, second = (_without(counts, problem, unit, shared) for unit in (a, b))
    return None if first is None or second is None else (first, second, True)


def _donors(
    problem: WithinProblem, a: Module, b: Module, pair_noise: Array
) -> tuple[Array, DonorGenes, DonorGenes] | None:
    """Return what hierarchical inference needs to know of both groups, if it is used."""
    model = problem.donors
    if model is None or a.noise is None or b.noise is None:
        return None
    expected = [
        b.noise.variance[c, 0] @ (gram.T @ a.noise.variance[c, 0])
        for c, gram in enumerate(problem.depth_sums.gram[0])
    ]
    product = np.outer(*(m.noise.delta[: len(m.members)] for m in (a, b) if m.noise)) * pair_noise
    left, right = np.abs(a.weights), np.abs(b.weights)
    closeness = np.nan_to_num(left @ product**2 @ right / (left.sum() * right.sum()), nan=1.0)
    noise = np.nan_to_num(by_donor(np.array(expected), model.units)) * closeness
    sides = [m.noise.genes(0, float(m.total.value), *m.total.sums()) for m in (a, b) if m.noise]
    return noise[:, None], sides[0], sides[1]
