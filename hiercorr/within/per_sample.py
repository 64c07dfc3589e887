"""Every pair in every sample: estimate, its variance over cells, and how far samples differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr import moments
from hiercorr.counts.counts import Counts
from hiercorr.inference.meta import meta_analysis
from hiercorr.inference.pairs import fisher_z
from hiercorr.moments.residuals import residual_blocks


def per_sample_pairs(
    counts: Counts,
    sums: moments.DepthSums,
    fit: moments.GeneMoments,
    num: NDArray,
    den: NDArray,
    left: slice,
    right: slice,
    dtype: DTypeLike,
) -> tuple[dict[str, NDArray], NDArray[np.bool_]]:
    r"""Correlation in each sample with the delta-method variance of its z, and their heterogeneity.

    With y = w r and q = y^2 - w^2 s mu, a cell's influence on the correlation of a sample is
    :math:`u = \rho\,[\,y_j y_k / N_{jk} - q_j / (2 N_{jj}) - q_k / (2 N_{kk})]`, which sums to
    zero; the variance is :math:`\sum u^2`, expanded into four cross products.

    Returns
    -------
    dict
        ``sample_correlation``, ``sample_se`` (samples, left, right), ``tau2``, ``i2``,
        ``prediction_lower``, ``prediction_upper`` (left, right).
    ndarray of bool
        Pairs that some sample cannot estimate: their heterogeneity is NaN.
    """
    rho = np.full(num.shape, np.nan)
    var = np.full(num.shape, np.nan)
    for c in range(counts.n_samples):
        with np.errstate(divide="ignore", invalid="ignore"):
            phi = fit.num[:, c] / fit.den[:, c]
            phi = np.where((phi > 0) & (fit.den[:, c] > 0), phi, np.nan)
            rho[c] = (
                num[c]
                / np.where(den[c] > 0, den[c], np.nan)
                / np.sqrt(np.outer(phi[left], phi[right]))
            )
            own = 0.5 / fit.num[:, c]
        if not np.isfinite(rho[c]).any():
            continue
        fourth, mixed_l, mixed_r, squares, q2_l, q2_r = _fourth_moments(
            counts, sums, fit, left, right, c, dtype
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            b, d = own[left, None], own[None, right]
            inverse = 1 / num[c].astype(np.float64)
            # Multiplied out so that rho = 0 (N = 0) is no division by zero.
            var[c] = rho[c] ** 2 * (b**2 * q2_l[:, None] + d**2 * q2_r + 2 * b * d * squares)
            scale = rho[c] * inverse  # 1 / (D sqrt(phi phi)), finite whatever N is
            var[c] += scale**2 * fourth - 2 * scale * rho[c] * (b * mixed_l + d * mixed_r)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.abs(rho) < 1
        z = fisher_z(rho)
        v = np.where(inside & (var > 0), var, np.nan) / (1 - rho**2) ** 2
    out = {"sample_correlation": np.where(inside, rho, np.nan), "sample_se": np.sqrt(v)}
    complete = np.isfinite(z).all(0) & np.isfinite(v).all(0)
    shape = complete.shape
    for name in ("tau2", "i2", "prediction_lower", "prediction_upper"):
        out[name] = np.full(shape, np.nan)
    if complete.any() and counts.n_samples >= 3:
        meta = meta_analysis(z[:, complete], v[:, complete], method="PM")
        out["tau2"][complete], out["i2"][complete] = meta.tau2, meta.i2
        out["prediction_lower"][complete] = np.tanh(meta.prediction_lower)
        out["prediction_upper"][complete] = np.tanh(meta.prediction_upper)
    return out, ~complete


def _fourth_moments(
    counts: Counts,
    sums: moments.DepthSums,
    fit: moments.GeneMoments,
    left: slice,
    right: slice,
    sample: int,
    dtype: DTypeLike,
) -> tuple[NDArray, ...]:
    """Sums over cells of y_j^2 y_k^2, q_j y_j y_k, y_j y_k q_k, q_j q_k, q_j^2 and q_k^2."""
    mu, slope = fit.mu[:, sample], fit.slope[:, sample]
    fitted = None if fit.adjustment is None else fit.adjustment.fitted(sample, dtype)
    total: list[NDArray] | None = None
    blocks = (
        residual_blocks(counts, sums.depth, mu, slope, g, sample, dtype, fitted)
        for g in (left, right)
    )
    for (cells, x), (_, y) in zip(*blocks, strict=True):
        s = sums.depth[cells].astype(dtype)
        noise = [
            (
                (mu[g, None] * s if fitted is None else fitted(g, cells))
                / (1 + slope[g, None] * s) ** 2
            ).astype(dtype)
            for g in (left, right)
        ]
        x2, y2 = x * x, y * y
        qx, qy = x2 - noise[0], y2 - noise[1]
        part = [
            x2 @ y2.T,
            (qx * x) @ y.T,
            x @ (qy * y).T,
            qx @ qy.T,
            (qx**2).sum(1),
            (qy**2).sum(1),
        ]
        part = [p.astype(np.float64) for p in part]
        total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
    assert total is not None
    return tuple(total)
