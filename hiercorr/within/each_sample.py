"""What every sample says of the pairs of a tile: estimates, heterogeneity, prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiercorr import inference
from hiercorr.counts.counts import Counts
from hiercorr.inference.prediction import predict_new_donor, predict_new_sample
from hiercorr.inference.random_effects import ABSENT
from hiercorr.schema import Flag
from hiercorr.within.fitting import Also, WithinProblem
from hiercorr.within.heterogeneity import DonorModel, donor_model
from hiercorr.within.per_sample import Tile, per_sample_pairs

LEAST_DONORS = 3


def each_sample(counts: Counts) -> Also:
    """Return a hook that adds the estimates in every sample, and their heterogeneity."""
    shared: list[DonorModel] = []  # of the genes of all tiles, once

    def add(
        problem: WithinProblem,
        left: slice,
        right: slice,
        num: NDArray,
        den: NDArray,
        tile: dict[str, NDArray],
    ) -> NDArray[np.uint16]:
        found, incomplete = per_sample_pairs(
            counts, problem.sums, problem.fit, Tile(left, right, num, den)
        )
        if problem.donors is not None:
            r = tile["correlation_unclipped"]
            limits = predict_new_donor(r, tile["se"], tile["tau"])
        else:
            if not shared:
                shared.append(_donors(counts, problem))
            limits = _from_own_donors(problem, shared[0], left, right, num, den, tile)
        tile |= found | dict(zip(("prediction_lower", "prediction_upper"), limits, strict=True))
        return np.where(incomplete, Flag.NO_HETEROGENEITY.bit, np.uint16(0))

    return add


def _donors(counts: Counts, problem: WithinProblem) -> DonorModel:
    given = problem.plan.units
    units = np.arange(counts.n_samples) if given is None else given
    return donor_model(problem.sums, problem.fit, counts.cells_per_sample, units)


def _from_own_donors(
    problem: WithinProblem,
    donors: DonorModel,
    left: slice,
    right: slice,
    num: NDArray,
    den: NDArray,
    tile: dict[str, NDArray],
) -> tuple[NDArray, NDArray]:
    """Predict the correlation of a new donor from the donors of each pair alone.

    The correlations and sampling variances of the donors are those of the hierarchical model; the
    limits contain the interval of the mean, which has other weights.
    """
    r, v = donors.donor_effects(problem.sums, left, right, num, den)
    known = (v < ABSENT).all(0) & np.isfinite(tile["correlation_unclipped"])
    lower, upper = np.full((2, *known.shape), np.nan)
    if len(r) < LEAST_DONORS:
        return lower, upper
    once = np.triu(known) if left == right and problem.plan.rows is None else known
    lower[once], upper[once] = predict_new_sample(r[:, once], v[:, once])
    if once is not known:
        lower, upper = (np.where(once, x, x.T) for x in (lower, upper))
    if "ci_lower" in problem.follow.names:
        limits = problem.follow(tile)
        lower = np.minimum(lower, limits["ci_lower"])
        upper = np.maximum(upper, limits["ci_upper"])
    return inference.within_range(lower, upper)
