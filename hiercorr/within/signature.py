r"""Signatures: correlation within samples of the weighted sum of a group of genes with every gene.

With weights a on the genes' expression relative to their means,
:math:`z_S = \sum_j a_j z_j / \mu_j`, covariances add up,

.. math:: \phi_{Sk} = \sum_j a_j \phi_{jk}, \quad \phi_{SS} = \sum_{jl} a_j a_l \phi_{jl},

and so do the influences of the samples on them. A gene of the group is compared with the others of
the group, so that it does not correlate with itself. In the terms of
:func:`hiercorr.inference.pairs.pair_estimate`, the group has the sums
:math:`N_c = \psi_c + b_c \phi, D_c = b_c`, with psi the influences and b the shares of the samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.counts.counts import Counts
from hiercorr.counts.names import FeatureNames, refuse_repeated
from hiercorr.errors import InputError, listed
from hiercorr.inference.random_effects import DonorGenes
from hiercorr.results import tiling
from hiercorr.runtime.progress import with_progress
from hiercorr.schema import Flag
from hiercorr.within.fitting import (
    DOMINANT_SHARE,
    LOW_INFORMATION,
    WithinEstimates,
    WithinProblem,
    prepare,
)
from hiercorr.within.one_target import Linear, Part, target_table
from hiercorr.within.options import Plan
from hiercorr.within.signature_noise import SignatureNoise, signature_noise

Array = NDArray[np.float64]
WEIGHTS = ("equal", "expression", "eigengene")
_SMALLEST = 1e-6  # element of an eigenvector: weights are not 0


def fit_signature(
    counts: Counts, members: NDArray[np.int64], weights: Array | str, plan: Plan
) -> tuple[WithinEstimates, dict[str, Array]]:
    """Estimate the correlation of the group with every gene.

    Parameters
    ----------
    counts : Counts
    members : ndarray of int
        Positions of the genes of the group.
    weights : ndarray, shape (n_members,) or {"equal", "expression", "eigengene"}
    plan : Plan

    Returns
    -------
    WithinEstimates
        Pair variables (1, n_genes).
    dict
        ``signature_weight``, shape (n_genes,): weights on relative expression, 0 for genes that are
        not in the group.
    """
    g, p = len(members), counts.n_genes
    order = np.concatenate([members, np.setdiff1d(np.arange(p), members)])
    counts = counts.take(order)
    problem = prepare(counts, plan)
    plan, fit = problem.plan, problem.fit
    variances = Linear.ratio(problem.by_donor(fit.num.T), problem.by_donor(fit.den.T), 2.0)
    rows = slice(p, p + 1)
    output = tiling.PairOutput(p, rows, plan.dtype, without_interval=plan.silent(counts.n_samples))
    pairs = member_pairs(counts, problem, variances[:g], plan)
    weights = given_weights(weights, problem.gene["mean"][:g], pairs.value, counts.genes[:g])
    cross, group, flag = grouped(pairs, weights, problem.fit.theta)
    donors = None
    if problem.donors is not None:
        donors = signature_noise(problem.donors, problem.depth_sums, fit, pairs.value, weights)
    edges = [g, *range(g + 4096, p, 4096), p] if g < p else [g]
    spans = [slice(a, b) for a, b in itertools.pairwise([0, *edges])]
    for span in with_progress(spans, plan.progress):
        if span.start == 0:
            parts = _members(cross, group, variances[:g], weights)
        else:
            pairs = covariances(counts, problem, g, span, plan)
            cross = pairs.combined(weights)
            parts = [Part(span, group, cross, variances[span], member_noise=pairs.noise)]
        gene_flag = problem.gene_flag[span] | flag
        found = [
            target_table(
                part,
                problem,
                _donors(part, problem, donors),
                gene_flag[part.genes.start - span.start :],
            )
            for part in parts
        ]
        tile = {k: np.concatenate([t[k] for t, _ in found], axis=1) for k in found[0][0]}
        output.write(rows, span, tile, np.concatenate([f for _, f in found], axis=1))
    back = np.argsort(order)
    pair = {k: v[..., back] for k, v in output.finish().items()}
    gene = {k: v[back] for k, v in problem.gene.items()}
    fitted = replace(problem.fitted(pair), gene=gene, follow=None)
    return fitted, {"signature_weight": np.append(weights, np.zeros(p - g))[back]}


def given_weights(weights: Array | str, mean: Array, phi: Array, genes: pd.Index) -> Array:
    r"""Return the weights on relative expression of the genes of a group.

    ``"eigengene"``: with R the noise-corrected correlation matrix of the genes and v its leading
    eigenvector, :math:`a_j = v_j / \sqrt{\phi_{jj}}`, scaled to a mean absolute value of 1 and with
    a positive sum of v. The weighted sum is the first principal component of standardised
    expression.

    Parameters
    ----------
    weights : ndarray, shape (n_members,), or str
    mean : ndarray, shape (n_members,)
        Mean expression.
    phi : ndarray, shape (n_members, n_members)
        Noise-corrected covariances of relative expression.
    genes : Index

    Raises
    ------
    InputError
        If a gene has no variance beyond counting noise, which an eigengene divides by.
    """
    if not isinstance(weights, str):
        return weights
    if weights == "equal":
        return np.ones(len(mean))
    if weights == "expression":
        return mean / mean.mean()
    variance = np.diag(phi)
    low = np.flatnonzero(~(variance > 0))
    if len(low):
        raise InputError(
            f"gene {genes[low[0]]!r} has no variance beyond counting noise, so that an eigengene "
            "has no weight for it; leave it out, or use weights='equal'"
        )
    sd = np.sqrt(variance)
    leading = np.linalg.eigh((phi + phi.T) / 2 / np.outer(sd, sd))[1][:, -1]
    leading = leading * (1.0 if leading.sum() >= 0 else -1.0)
    found = np.where(np.abs(leading) < _SMALLEST, _SMALLEST, leading) / sd
    return np.asarray(found / np.abs(found).mean())


def covariances(
    counts: Counts, problem: WithinProblem, n_members: int, span: slice, plan: Plan
) -> Linear:
    """Estimate the covariances of the first genes, those of the group, with a span of genes."""
    members, sums, fit = slice(0, n_members), problem.depth_sums, problem.fit
    shape = (counts.n_samples, n_members, span.stop - span.start)
    num = moments.numerators(counts, sums, fit, members, span, np.empty(shape, plan.dtype))
    den = moments.denominators(sums, fit, members, span, num, np.empty(shape, plan.dtype))
    return Linear.ratio(problem.by_donor(num), problem.by_donor(den), 1.0)


def member_pairs(counts: Counts, problem: WithinProblem, variances: Linear, plan: Plan) -> Linear:
    """Estimate the covariances of the genes of the group with each other, (g, g)."""
    g = len(variances.value)
    pairs = _with_variances(covariances(counts, problem, g, slice(0, g), plan), variances)
    if not np.isfinite(pairs.value).all():
        j = int(np.flatnonzero(~np.isfinite(pairs.value).all(1))[0])
        raise InputError(
            f"gene {counts.genes[j]!r} of the group has too few counts to be part of it; leave it "
            "out"
        )
    return pairs


def grouped(pairs: Linear, weights: Array, theta: float) -> tuple[Linear, Linear, np.uint16]:
    """Estimate the covariances of the group with its genes, its variance, and its flag."""
    cross = pairs.combined(weights)
    group = cross.combined(weights)
    group = Linear(group.value, group.influence, group.share, 2 * np.asarray(group.noise))
    return cross, group, _flag(group, weights, theta)


def _with_variances(pairs: Linear, variances: Linear) -> Linear:
    """Write the noise-corrected variances of the genes to the diagonal of their covariances."""
    k = np.arange(len(variances.value))
    for name in ("value", "noise"):
        getattr(pairs, name)[k, k] = getattr(variances, name) * (0.5 if name == "noise" else 1)
    for name in ("influence", "share"):
        getattr(pairs, name)[:, k, k] = getattr(variances, name)
    return pairs


def _flag(group: Linear, weights: Array, theta: float) -> np.uint16:
    """Compare the variance expected without correlation with its noise, as for genes."""
    flag = np.uint16(0)
    if not group.value > 0:
        flag |= Flag.NONPOSITIVE_VARIANCE.bit
    if not (weights**2).sum() / theta >= LOW_INFORMATION * np.sqrt(group.noise):
        flag |= Flag.LOW_INFORMATION.bit
    if len(group.share) > 1 and group.share.max() > DOMINANT_SHARE:
        flag |= Flag.DOMINATED.bit
    return flag


def _members(cross: Linear, group: Linear, variances: Linear, weights: Array) -> list[Part]:
    """Pair each gene of the group with the others of the group."""
    parts = []
    for k, a in enumerate(weights):
        with_group, variance = cross[k], variances[k]
        with_others = Linear(
            with_group.value - a * variance.value,
            with_group.influence - a * variance.influence,
            with_group.share,
            with_group.noise,
        )
        others = Linear(
            group.value - 2 * a * with_others.value - a**2 * variance.value,
            group.influence - 2 * a * with_others.influence - a**2 * variance.influence,
            group.share,
            group.noise,
        )
        column = Linear(
            with_others.value[..., None],
            with_others.influence[..., None],
            with_others.share[..., None],
            with_others.noise[..., None],
        )
        at = slice(k, k + 1)
        parts.append(Part(at, others, column, variances[at], rest=k + 1))
    return parts


def _donors(
    part: Part, problem: WithinProblem, noise: SignatureNoise | None
) -> tuple[Array, DonorGenes] | None:
    """Return what hierarchical inference needs to know of a group with a span of genes."""
    if noise is None:
        return None
    assert problem.donors is not None
    expected = noise.of_pairs(problem.donors, problem.depth_sums, part.rest, part.genes)
    if part.member_noise is not None:
        expected = expected * noise.closeness(part.genes, part.member_noise)
    return expected, noise.genes(part.rest, float(part.group.value), *part.group.sums())


def check_signature(
    genes: Sequence[str], name: str, weights: str | Mapping[str, float], known: FeatureNames
) -> tuple[list[str], Array | str]:
    """Check the genes and weights of a signature.

    Parameters
    ----------
    genes : sequence of str
        Genes of the group.
    name : str
        Name of the group.
    weights : {"equal", "expression", "eigengene"} or mapping
    known : FeatureNames
        Genes of the model.

    Returns
    -------
    list of str
        Genes of the group.
    ndarray or str
        Weight of each of them, or the name of the weights.

    Raises
    ------
    InputError
        If there are fewer than 2 genes, one is unknown or named twice, or a weight is missing or
        not valid.
    """
    named = listed("genes", genes, "a list of gene names")
    if not all(isinstance(gene, str) for gene in named):
        raise InputError(f"genes must be a list of gene names, not {genes!r}")
    if not name:
        raise InputError("name= is empty: name the signature")
    members = [known.named(gene) for gene in named]
    refuse_repeated("genes=", members)
    if len(members) < 2:
        raise InputError(
            f"a signature needs at least 2 genes; {len(members)} given: use fit(target=)"
        )
    if name in known.genes:
        raise InputError(f"name={name!r} is the name of a gene; choose another for the signature")
    for gene in members:
        if gene not in known.genes:
            raise known.unknown("gene of the signature", gene)
    if isinstance(weights, str) and weights in WEIGHTS:
        return members, weights
    weights = weights.to_dict() if isinstance(weights, pd.Series) else weights
    if not isinstance(weights, Mapping):
        raise InputError(
            "weights must be 'equal', 'expression', 'eigengene' or a mapping from gene to weight, "
            f"not {weights!r}"
        )
    weights = {known.named(gene): weight for gene, weight in weights.items()}
    for gene in members:
        if gene not in weights:
            raise InputError(f"weights= has no weight of gene {gene!r}")
    for gene in members:
        if not isinstance(weights[gene], Real) or isinstance(weights[gene], bool):
            raise InputError(f"weights= of gene {gene!r} is not a number but {weights[gene]!r}")
    given = np.array([weights[g] for g in members], float)
    invalid = np.flatnonzero(~np.isfinite(given) | (given == 0))
    if len(invalid):
        k = int(invalid[0])
        raise InputError(
            f"the weight of {members[k]!r} is {given[k]}: weights must be finite and not 0"
        )
    return members, given
