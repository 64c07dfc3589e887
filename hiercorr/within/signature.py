r"""A group of genes as one target: correlation within samples of their weighted sum with every gene.

With weights a on the genes' expression relative to their means, :math:`z_S = \sum_j a_j z_j /
\mu_j`, covariances add up,

.. math:: \phi_{Sk} = \sum_j a_j \phi_{jk}, \quad \phi_{SS} = \sum_{jl} a_j a_l \phi_{jl},

and so do the samples' influences on them. A gene of the group is compared with the others of the
group, so that it does not correlate with itself. In the terms of
:func:`hiercorr.inference.pairs.pair_estimate` the group has the sums :math:`N_c = \psi_c + b_c
\phi, D_c = b_c`, with psi the influences and b the shares of the samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr import inference, moments
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError, unknown_name
from hiercorr.results import tiling
from hiercorr.runtime.progress import with_progress
from hiercorr.schema import Flag
from hiercorr.within.fitting import DOMINANT_SHARE, LOW_INFORMATION, WithinEstimates, within_problem
from hiercorr.within.options import Plan

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Ratios of sums over samples, and what is linear in them; all arrays may have more dimensions after these.

    Attributes
    ----------
    value : ndarray
        The covariance.
    influence, share : ndarray, shape (n_samples, ...)
        Of each sample on it, and in its information; shares add up to 1.
    noise : ndarray
        Variance of the value under Poisson noise alone.
    """

    value: Array
    influence: Array
    share: Array
    noise: Array

    @classmethod
    def ratio(cls, num: NDArray, den: NDArray, variance: float) -> Linear:
        """Of sums (n_samples, ...); `variance` of N under Poisson noise alone is that many times D."""
        num, den = num.astype(np.float64), den.astype(np.float64)
        total = den.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(total > 0, total, np.nan)
            value = num.sum(0) / total
            return cls(value, (num - value * den) / total, den / total, variance / total)

    def combined(self, weights: Array) -> Linear:
        """The weighted sum over the first dimension after the samples'."""
        size = np.abs(weights) / np.abs(weights).sum()
        return Linear(
            np.tensordot(weights, self.value, 1),
            np.einsum("j,cj...->c...", weights, self.influence),
            np.einsum("j,cj...->c...", size, self.share),
            np.tensordot(weights**2, self.noise, 1),
        )

    def sums(self) -> tuple[Array, Array]:
        """N and D of which the value is the ratio of sums, shape (n_samples, ...)."""
        return self.influence + self.share * self.value, self.share

    def at(self, *index: int | slice | NDArray) -> Linear:
        return Linear(
            self.value[index],
            self.influence[(slice(None), *index)],
            self.share[(slice(None), *index)],
            self.noise[index],
        )


def fit_signature(
    counts: Counts, members: NDArray[np.int64], weights: Array | str, plan: Plan
) -> tuple[WithinEstimates, dict[str, Array]]:
    """Correlation of the group with every gene.

    Parameters
    ----------
    members : ndarray of int
        Positions of the group's genes.
    weights : ndarray, shape (n_members,) or {"equal", "expression"}

    Returns
    -------
    WithinEstimates
        Pair variables (1, n_genes).
    dict
        ``signature_weight``, shape (n_genes,): weights on relative expression, 0 of genes that are
        not in the group.
    """
    g, p = len(members), counts.n_genes
    order = np.concatenate([members, np.setdiff1d(np.arange(p), members)])
    counts = counts.take(order)
    problem = within_problem(counts, moments.depth_sums(counts, plan.tolerance), plan)
    fit = problem.fit
    if isinstance(weights, str):
        weights = (
            np.ones(g)
            if weights == "equal"
            else problem.gene["mean"][:g] / problem.gene["mean"][:g].mean()
        )
    own = Linear.ratio(fit.num.T, fit.den.T, 2.0)  # of each gene with itself
    group, rows = slice(0, g), slice(p, p + 1)
    output = tiling.PairOutput(p, rows, plan.dtype, without_interval=plan.silent(counts.n_samples))
    whole: Linear | None = None
    flag_group = np.uint16(0)
    edges = [0, g, *range(g + 4096, p, 4096), p] if g < p else [0, g]
    spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
    for span in with_progress(spans, plan.progress):
        shape = (counts.n_samples, g, span.stop - span.start)
        num = moments.numerators(
            counts, problem.sums, fit, group, span, np.empty(shape, plan.dtype)
        )
        den = moments.denominators(problem.sums, fit, group, span, num, np.empty(shape, plan.dtype))
        pairs = Linear.ratio(num, den, 1.0)
        if span == group:
            pairs = _with_own(pairs, own.at(slice(0, g)))
            if not np.isfinite(pairs.value).all():
                j = int(np.flatnonzero(~np.isfinite(pairs.value).all(1))[0])
                raise InputError(
                    f"gene {counts.genes[j]!r} of the group has too few counts to be part of it; "
                    "leave it out"
                )
            cross = pairs.combined(weights)  # the group with each of its genes
            whole = cross.combined(weights)
            whole = Linear(whole.value, whole.influence, whole.share, 2 * np.asarray(whole.noise))
            flag_group = _flag(whole, weights, fit.theta)
            estimate = _members(cross, whole, own.at(slice(0, g)), weights, plan)
        else:
            assert whole is not None
            estimate = _estimate(whole, pairs.combined(weights), own.at(span), plan)
        tile, flag = _table(estimate, plan, problem.gene_flag[span] | flag_group, counts.n_samples)
        output.write(rows, span, tile, flag)
    back = np.argsort(order)
    pair = {k: v[..., back] for k, v in output.finish().items()}
    gene = {k: v[back] for k, v in problem.gene.items()}
    fitted = WithinEstimates(pair, gene, fit.theta, fit.iterations, fit.converged)
    return fitted, {"signature_weight": np.append(weights, np.zeros(p - g))[back]}


def _with_own(pairs: Linear, own: Linear) -> Linear:
    """The square of pairs with each gene's own variance, whose noise is taken out, on the diagonal."""
    at = np.arange(len(own.value))
    for name in ("value", "noise"):
        getattr(pairs, name)[at, at] = getattr(own, name) * (0.5 if name == "noise" else 1)
    for name in ("influence", "share"):
        getattr(pairs, name)[:, at, at] = getattr(own, name)
    return pairs


def _flag(whole: Linear, weights: Array, theta: float) -> np.uint16:
    """As of a gene: a variance of typical size (that of genes without correlation) against its noise."""
    flag = np.uint16(0)
    if not whole.value > 0:
        flag |= Flag.NONPOSITIVE_VARIANCE.bit
    if not (weights**2).sum() / theta >= LOW_INFORMATION * np.sqrt(whole.noise):
        flag |= Flag.LOW_INFORMATION.bit
    if len(whole.share) > 1 and whole.share.max() > DOMINANT_SHARE:
        flag |= Flag.DOMINATED.bit
    return flag


def _estimate(whole: Linear, cross: Linear, own: Linear, plan: Plan) -> inference.PairEstimate:
    """Of a group (one value) with genes (m,)."""
    (num, den), (group_num, group_den), (own_num, own_den) = (
        part.sums() for part in (cross, whole, own)
    )
    return inference.pair_estimate(
        num[:, None],
        np.ascontiguousarray(den)[:, None],
        (group_num[None], own_num.T),
        (group_den[None], own_den.T),
        "none" if plan.few(len(num)) else plan.uncertainty,
        (np.atleast_1d(whole.noise), own.noise),
    )


def _members(
    cross: Linear, whole: Linear, own: Linear, weights: Array, plan: Plan
) -> inference.PairEstimate:
    """Of each gene of the group with the rest of it."""
    parts = []
    for k, a in enumerate(weights):
        with_whole, itself = cross.at(k), own.at(k)
        rest = Linear(
            with_whole.value - a * itself.value,
            with_whole.influence - a * itself.influence,
            with_whole.share,
            with_whole.noise,
        )
        others = Linear(
            whole.value - 2 * a * rest.value - a**2 * itself.value,
            whole.influence - 2 * a * rest.influence - a**2 * itself.influence,
            whole.share,
            whole.noise,
        )
        column = Linear(
            *(v[..., None] for v in (rest.value, rest.influence, rest.share, rest.noise))
        )
        parts.append(_estimate(others, column, own.at(slice(k, k + 1)), plan))
    names = ("correlation", "se", "df", "carrying", "largest_share")
    return inference.PairEstimate(
        *(np.concatenate([getattr(e, n) for e in parts], axis=1) for n in names)
    )


def _table(
    estimate: inference.PairEstimate, plan: Plan, gene_flag: NDArray, n_samples: int
) -> tuple[dict[str, NDArray], NDArray]:
    tile: dict[str, NDArray] = {"correlation_unclipped": estimate.correlation.astype(plan.dtype)}
    flag = gene_flag[None].copy()
    flag[estimate.largest_share > DOMINANT_SHARE] |= Flag.DOMINATED.bit
    if plan.silent(n_samples):
        tile["fisher_z"] = inference.fisher_z(estimate.correlation)
    else:
        tile |= inference.pair_table(estimate, plan.confidence, plan.dtype)
        flag[np.isnan(tile["ci_lower"])] |= Flag.NO_INTERVAL.bit
    if plan.few(n_samples):
        flag |= Flag.TOO_FEW_SAMPLES.bit
    return tile, flag


def check_signature(
    genes: Sequence[str], name: str, weights: str | Mapping[str, float], known: pd.Index
) -> tuple[list[str], Array | str]:
    """Check the genes and weights of a signature.

    Parameters
    ----------
    genes : sequence of str
        Genes of the group.
    name : str
        Name of the group.
    weights : {"equal", "expression"} or mapping
    known : Index
        Genes of the model.

    Returns
    -------
    list of str
        Genes of the group, each once.
    ndarray or str
        Weight of each of them, or the name of the weights.

    Raises
    ------
    InputError
        If there are fewer than 2 genes, one is unknown, or a weight is missing or not valid.
    """
    if isinstance(genes, str):
        raise InputError(f"genes={genes!r} is one string; pass a list of names")
    members = list(dict.fromkeys(genes))
    if len(members) < 2:
        raise InputError(
            f"a signature needs at least 2 genes; {len(members)} given: use fit(target=)"
        )
    if name in known:
        raise InputError(f"name={name!r} is the name of a gene; choose another for the signature")
    for gene in members:
        if gene not in known:
            raise unknown_name("gene of the signature", gene, known)
    if isinstance(weights, str) and weights in ("equal", "expression"):
        return members, weights
    if not isinstance(weights, Mapping):
        raise InputError(
            "weights must be 'equal', 'expression' or a mapping from gene to weight, not "
            f"{weights!r}"
        )
    for gene in members:
        if gene not in weights:
            raise InputError(f"weights= has no weight of gene {gene!r}")
    given = np.array([weights[g] for g in members], float)
    invalid = np.flatnonzero(~np.isfinite(given) | (given == 0))
    if len(invalid):
        k = int(invalid[0])
        raise InputError(
            f"the weight of {members[k]!r} is {given[k]}: weights are finite and not 0"
        )
    return members, given
