"""A target that is not one gene, with every gene: estimates and flags from sums over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr import inference
from hiercorr.inference.random_effects import DonorGenes
from hiercorr.schema import Flag
from hiercorr.within.fitting import DOMINANT_SHARE, WithinProblem
from hiercorr.within.heterogeneity import DonorModel, without_tau
from hiercorr.within.options import Plan

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Covariances that are ratios of sums over samples, and the quantities that add up with them.

    All arrays may have further dimensions after those below.

    Attributes
    ----------
    value : ndarray
        Covariance.
    influence, share : ndarray, shape (n_samples, ...)
        Influence of each sample on the covariance, and its share of the information; shares add up
        to 1.
    noise : ndarray
        Variance of the covariance under Poisson noise alone.
    """

    value: Array
    influence: Array
    share: Array
    noise: Array

    @classmethod
    def ratio(cls, num: NDArray, den: NDArray, variance: float) -> Linear:
        """Divide sums (n_samples, ...); Poisson noise gives N a variance of `variance` times D."""
        num, den = num.astype(np.float64), den.astype(np.float64)
        total = den.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(total > 0, total, np.nan)
            value = num.sum(0) / total
            return cls(value, (num - value * den) / total, den / total, variance / total)

    def combined(self, weights: Array) -> Linear:
        """Return the weighted sum over the first dimension after that of the samples."""
        size = np.abs(weights) / np.abs(weights).sum()
        return Linear(
            np.tensordot(weights, self.value, 1),
            np.einsum("j,cj...->c...", weights, self.influence),
            np.einsum("j,cj...->c...", size, self.share),
            np.tensordot(weights**2, self.noise, 1),
        )

    def sums(self) -> tuple[Array, Array]:
        """Return N and D, shape (n_samples, ...), whose ratio of sums is the value."""
        return self.influence + self.share * self.value, self.share

    def column(self) -> Linear:
        """Add a last dimension of length 1."""
        return Linear(
            *(
                np.asarray(a)[..., None]
                for a in (self.value, self.influence, self.share, self.noise)
            )
        )

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> Linear:
        """Index the first dimension after that of the samples."""
        return Linear(
            self.value[index], self.influence[:, index], self.share[:, index], self.noise[index]
        )


@dataclass(frozen=True)
class Part:
    """A target, such as a group of genes, with a span of genes.

    Attributes
    ----------
    genes : slice
    group : Linear
        Variance of the target, one value.
    cross, variances : Linear
        Covariances with the genes, and their variances, (m,).
    rest : int
        0 for a whole group, k + 1 for its genes without the k-th.
    member_noise : ndarray, shape (n_members, m), optional
        1 / D of the covariances of the genes of the group with these.
    """

    genes: slice
    group: Linear
    cross: Linear
    variances: Linear
    rest: int = 0
    member_noise: Array | None = None


def target_table(
    part: Part,
    problem: WithinProblem,
    donors: tuple[Array, DonorGenes] | tuple[Array, DonorGenes, DonorGenes] | None,
    gene_flag: NDArray[np.uint16],
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Compute the pair variables and flags of a target with some genes, (1, m).

    Parameters
    ----------
    part : Part
    problem : WithinProblem
    donors : (ndarray, DonorGenes), optional
        For hierarchical inference: the variance of N of each donor without correlation,
        (n_donors, m), the target as one side of a tile, and the other side unless it is genes.
    gene_flag : ndarray of uint16, shape (m,) or more
    """
    plan, n_samples = problem.plan, problem.n_samples
    estimate = _ratio_estimate(part, plan)
    flag = gene_flag[None, : estimate.correlation.shape[1]].copy()
    largest = estimate.largest_share
    if donors is not None:
        assert problem.donors is not None
        tile, largest = _hierarchical(part, plan, problem.donors, *donors)
        tile["jackknife_p_value"] = inference.pair_table(estimate, plan.confidence, plan.dtype)[
            "p_value"
        ]
        flag = (flag & ~Flag.DOMINATED.bit) | without_tau(tile)
    else:
        tile = {"correlation_unclipped": estimate.correlation.astype(plan.dtype)}
        if plan.silent(n_samples):
            tile["fisher_z"] = inference.fisher_z(estimate.correlation)
        else:
            tile |= inference.pair_table(estimate, plan.confidence, plan.dtype)
    flag[largest > DOMINANT_SHARE] |= Flag.DOMINATED.bit
    flag[estimate.weights_matter] |= Flag.WEIGHTS_MATTER.bit
    if "ci_lower" in tile:
        flag[np.isnan(tile["ci_lower"])] |= Flag.NO_INTERVAL.bit
    if plan.few(n_samples):
        flag |= Flag.TOO_FEW_SAMPLES.bit
    return tile, flag


def _hierarchical(
    part: Part,
    plan: Plan,
    model: DonorModel,
    noise: Array,
    target: DonorGenes,
    others: DonorGenes | None = None,
) -> tuple[dict[str, NDArray], NDArray]:
    """Estimate by the hierarchical model; also the largest weights."""
    assert model.prior is not None
    num, den = (np.ascontiguousarray(a[:, None]) for a in part.cross.sums())
    estimate = inference.hierarchical_estimate(
        (num, den, np.ascontiguousarray(noise[:, None])),
        (target, model.genes[part.genes] if others is None else others),
        model.prior,
        plan.weights,
        plan.confidence,
    )
    tile = {"correlation_unclipped": estimate.correlation, **estimate.table}
    return tile, estimate.largest_share


def _ratio_estimate(part: Part, plan: Plan) -> inference.PairEstimate:
    """Estimate the correlations of a target with genes (m,) as ratios of sums."""
    (num, den), (group_num, group_den), (gene_num, gene_den) = (
        linear.sums() for linear in (part.cross, part.group, part.variances)
    )
    few = plan.few(len(num))
    uncertainty = "jackknife" if plan.uncertainty == "hierarchical" else plan.uncertainty
    return inference.pair_estimate(
        num[:, None],
        np.ascontiguousarray(den)[:, None],
        (group_num[None], gene_num.T),
        (group_den[None], gene_den.T),
        "none" if few else uncertainty,
        (np.atleast_1d(part.group.noise), part.variances.noise),
        compare_averages=plan.compares_averages,
    )
