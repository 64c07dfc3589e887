"""From counts to the arrays of a result: gene moments, then every pair, a tile at a time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from scipy import special

from hiercorr import _covariates, _tiles, inference, moments
from hiercorr._heterogeneity import per_sample_pairs
from hiercorr.data import Counts
from hiercorr.design import Design
from hiercorr.errors import EstimationWarning
from hiercorr.schema import Flag

LOW_INFORMATION = 5.0  # typical variance / its standard error; below it coverage and bias were poor in simulation
DOMINANT_SHARE = 0.5
_TOLERANCE = {"single": 1e-8, "double": 1e-13}  # of the depth interpolation


@dataclass(frozen=True)
class Plan:
    """What one call of fit was asked for, checked."""

    estimator: str
    uncertainty: str
    precision: str
    confidence: float
    per_sample: bool
    rows: slice | None  # the target's position, or None for all pairs
    draws: NDArray[np.int64] | None
    progress: bool | None
    order: NDArray[np.int64]  # where in the output each gene of the sorted counts goes

    @property
    def dtype(self) -> DTypeLike:
        return _tiles.DTYPE[self.precision]


@dataclass
class Fitted:
    """Arrays of a fit on their way into the schema."""

    pair: dict[str, NDArray]
    gene: dict[str, NDArray]
    theta: float
    iterations: int
    converged: bool
    formula: str = "~ 1"
    note: str | None = None
    extra: Any = None


def _gene_table(
    counts: Counts, mean: NDArray, overdispersion: NDArray, share: NDArray, expected: NDArray, theta: float
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    """Gene variables and flags. `share`: each sample's part in the information; `expected`: sum of (s mu w)^2.

    Under Poisson counts the variance of the overdispersion estimate is 2 / sum (s mu w)^2. It is held against the typical
    overdispersion 1 / theta, not against the gene's own estimate: selecting on an estimate would bias what is kept.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.sqrt(expected / 2) / theta
        share = np.clip(share, 0, None)
        share = share / share.sum(1, keepdims=True)
        effective = 1 / (share**2).sum(1)
    flag = np.zeros(counts.n_genes, np.uint16)
    flag[~(overdispersion > 0)] |= Flag.NONPOSITIVE_VARIANCE.bit
    flag[~(information >= LOW_INFORMATION)] |= Flag.LOW_INFORMATION.bit
    if counts.n_samples > 1:
        flag[share.max(1) > DOMINANT_SHARE] |= Flag.DOMINATED.bit
        flag[(np.diff(counts.offsets, axis=1) == 0).any(1)] |= Flag.ABSENT_IN_SAMPLE.bit
    table = {
        "mean": mean,
        "overdispersion": overdispersion,
        "detection": counts.detection,
        "information": information,
        "effective_samples": effective,
        "gene_flag": flag,
    }
    return table, flag


def fit_within(counts: Counts, plan: Plan) -> Fitted:
    sums = moments.depth_sums(counts, _TOLERANCE[plan.precision])
    fit = moments.within_moments(sums)
    weight = np.einsum("jck,ck->jc", (1 + fit.slope[:, :, None] * sums.nodes) ** -2.0, sums.power[2]) * fit.mu**2
    mean = (fit.mu * counts.cells_per_sample).sum(1) / counts.n_cells / sums.unit
    gene, gene_flag = _gene_table(counts, mean, fit.variance, fit.den, weight.sum(1), fit.theta)
    pair = _pairs(counts, sums, fit, plan, gene_flag, np.full(counts.n_genes, 2.0), test=None)
    return Fitted(pair, gene, fit.theta, fit.iterations, fit.converged)


def fit_pooled(counts: Counts, plan: Plan) -> Fitted:
    sums = moments.depth_sums(counts, _TOLERANCE[plan.precision])
    fit = moments.pooled_moments(sums)
    mu, sigma = fit.mu[:, 0], fit.variance
    overdispersion = sigma / mu**2
    weight = ((1 + fit.slope * sums.nodes) ** -2.0 @ sums.power[2].T) * mu[:, None] ** 2
    gene, gene_flag = _gene_table(counts, mu / sums.unit, overdispersion, fit.den, weight.sum(1), fit.theta)
    # The published test weighs by each gene's own variance: 1 / (s mu + s^2 sigma).
    own = np.where(sigma > 0, sigma / mu, 0.0)[:, None]
    test = replace(fit, slope=own)
    if plan.uncertainty == "none":  # samples play no part: one group is faster
        counts, sums = counts.one_group(), sums.one_group()
        fit = replace(fit, num=fit.num.sum(1, keepdims=True), den=fit.den.sum(1, keepdims=True))
    pair = _pairs(counts, sums, fit, plan, gene_flag, 2 * mu**2, test=test)
    note = "cell_statistic and cell_p_value take cells as independent; p_value takes samples as the units."
    return Fitted(pair, gene, fit.theta, fit.iterations, fit.converged, note=note)


def _pairs(
    counts: Counts,
    sums: moments.DepthSums,
    fit: moments.GeneMoments,
    plan: Plan,
    gene_flag: NDArray[np.uint16],
    noise: NDArray,
    test: moments.GeneMoments | None,
) -> dict[str, NDArray]:
    """All pair variables, a tile of gene pairs at a time. `noise`: see :func:`hiercorr.inference.variance_shares`."""
    few = plan.uncertainty != "none" and counts.n_samples < 3
    silent = few or plan.uncertainty == "none"
    output = _tiles.PairOutput(plan.order, plan.rows, plan.dtype, without_interval=silent)
    whole = (counts.one_group(), sums.one_group()) if test is not None else None
    tiles = _tiles.tiles(counts.n_genes, counts.n_samples, plan.rows, plan.dtype)
    workspace = _tiles.Workspace(tiles, counts.n_samples, plan.dtype)
    for left, right in _tiles.with_progress(tiles, plan.progress):
        num, den = moments.pair_sums(counts, sums, fit, left, right, workspace.arrays(left, right))
        estimate = inference.pair_estimate(
            num,
            den,
            (fit.num[left], fit.num[right]),
            (fit.den[left], fit.den[right]),
            "none" if few else plan.uncertainty,
            (noise[left], noise[right]),
            plan.draws,
        )
        tile: dict[str, NDArray] = {"correlation_unclipped": estimate.correlation}
        if silent:
            tile["fisher_z"] = inference.fisher_z(estimate.correlation)
        else:
            tile |= inference.pair_table(estimate, plan.confidence, plan.dtype)
        flag = gene_flag[left, None] | gene_flag[None, right]
        if plan.per_sample:
            extra, no_heterogeneity = per_sample_pairs(counts, sums, fit, num, den, left, right, plan.dtype)
            tile |= extra
            flag[no_heterogeneity] |= Flag.NO_HETEROGENEITY.bit
        if test is not None and whole is not None:
            tile |= _cell_test(*whole, test, left, right, plan.dtype, gene_flag)
        if counts.n_samples > 1:
            flag[estimate.largest_share > DOMINANT_SHARE] |= Flag.DOMINATED.bit
            flag[estimate.carrying < counts.n_samples] |= Flag.ABSENT_IN_SAMPLE.bit
        if few:
            flag |= Flag.TOO_FEW_SAMPLES.bit
        elif not silent:
            few_pairs = estimate.carrying < 3
            flag[few_pairs] |= Flag.TOO_FEW_SAMPLES.bit
            flag[~few_pairs & np.isnan(tile["ci_lower"])] |= Flag.NO_INTERVAL.bit
        output.write(left, right, tile, flag)
    return output.finish()


def _cell_test(
    counts: Counts,
    sums: moments.DepthSums,
    test: moments.GeneMoments,
    left: slice,
    right: slice,
    dtype: DTypeLike,
    gene_flag: NDArray[np.uint16],
) -> dict[str, NDArray]:
    """T = sum f_j f_k r_j r_k / sqrt(mu_j mu_k sum f_j f_k s^2), f = 1 / (1 + s sigma/mu): the published statistic."""
    mu, slope = test.mu[:, 0], test.slope[:, 0]
    num = moments.cross_products(counts, sums, mu, slope, left, right, 0, dtype)
    scale = np.outer(mu[left], mu[right]) * moments.weight_products(sums, slope, left, right, 0)
    statistic = num / np.sqrt(scale)
    bad = (gene_flag & Flag.NONPOSITIVE_VARIANCE.bit) > 0
    statistic[bad[left]] = np.nan
    statistic[:, bad[right]] = np.nan
    return {"cell_statistic": statistic, "cell_p_value": 2 * special.ndtr(-np.abs(statistic.astype(np.float64)))}


def fit_covariates(counts: Counts, plan: Plan, design: Design, level: str, adjust: tuple[str, ...]) -> Fitted:
    group = counts.one_group()
    unit = float(counts.depth.mean())
    fit = _covariates.fit_covariates(group, counts.depth / unit, design.matrix, level, adjust)
    negative = fit.negative_means()
    if (negative > 0).any():
        worst = int(negative.argmax())
        warnings.warn(
            f"the mean regression is linear in the covariates and not positive in some cells for {(negative > 0).sum()} of "
            f"{counts.n_genes} genes ({negative[worst]:.0%} of cells for {counts.genes[worst]!r}), as in the published "
            "method; such cells get arbitrary weights: use fewer or coarser covariates if these genes matter",
            EstimationWarning,
            stacklevel=4,
        )
    mu, sigma = fit.mean[0], fit.variance[0]
    shares = np.diff(counts.offsets, axis=1).astype(float)
    s = counts.depth / unit
    expected = np.array([((s * m / (1 + s * m / fit.theta)) ** 2).sum() for m in mu])
    gene, gene_flag = _gene_table(counts, mu / unit, sigma / mu**2, shares, expected, fit.theta)
    output = _tiles.PairOutput(plan.order, plan.rows, plan.dtype, without_interval=True)
    k = design.matrix.shape[1]
    tiles = _tiles.tiles(counts.n_genes, k * (k + 3), plan.rows, np.float64)
    for left, right in _tiles.with_progress(tiles, plan.progress):
        covariance, _ = fit.products(left, right, tested=False)
        _, statistic = fit.products(left, right, tested=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = covariance / np.sqrt(np.outer(np.where(sigma > 0, sigma, np.nan)[left], sigma[right]))
        flag = gene_flag[left, None] | gene_flag[None, right]
        statistic[np.isnan(rho)] = np.nan
        tile = {
            "correlation_unclipped": rho,
            "fisher_z": inference.fisher_z(rho),
            "cell_statistic": statistic,
            "cell_p_value": 2 * special.ndtr(-np.abs(statistic)),
        }
        output.write(left, right, tile, flag)
    coefficient = {"coefficient": np.array(design.names, object)}

    def per_gene(values: NDArray, power: int, label: str) -> xr.DataArray:
        full = np.full((k, counts.n_genes), np.nan)
        # The intercept scales with depth; at the count level the covariates' own coefficients do not.
        scale = np.full(len(values), unit**power)
        if level == "count":
            scale[1:] = 1
        full[: len(values)] = values / scale[:, None]
        attrs = {"long_name": f"coefficients of the {label} regression", "units": "per count of depth"}
        full = full[:, np.argsort(plan.order)]
        return xr.DataArray(full, coefficient, ("coefficient", "gene"), attrs=attrs)

    extra = {
        "mean_coefficient": per_gene(fit.mean, 1, "mean"),
        "variance_coefficient": per_gene(fit.variance, 2, "variance"),
    }
    return Fitted(
        output.finish(), gene, fit.theta, fit.iterations, fit.converged, formula=design.formula,
        note="cell_statistic and cell_p_value take cells as independent.", extra=extra,
    )  # fmt: skip
