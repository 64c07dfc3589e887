r"""Likelihood of the counts of a cell whose log rates are jointly normal, for any number of genes.

.. math:: \int \prod_j Poisson(x_j;\, r_j e^{w_j})\; N(w;\, 0, \Sigma)\, dw

by expectation propagation (Minka 2001): each Poisson factor is replaced by a Gaussian one with
precision :math:`\tau_j` and linear term :math:`\nu_j`, such that the mean and the variance of
:math:`w_j` are those under the factor itself and the Gaussian factors of all other genes. The third
and fourth cumulants :math:`\kappa` of that distribution then correct the logarithm of the integral
to second order (Opper, Paquet & Winther 2013, JMLR 14:2857),

.. math:: \sum_{i<j} \frac{\kappa_{3i}\kappa_{3j}}{6}\,r_{ij}^3
          + \frac{\kappa_{4i}\kappa_{4j}}{24}\,r_{ij}^4,

where the :math:`\kappa` are those of standardised variables and r is the correlation of w given the
Gaussian factors. Poisson factors are log-concave: precisions are positive, and a few rounds over
the genes converge.
"""

from __future__ import annotations

import math

import numpy as np

from hiercorr.kernels.elementary import exp
from hiercorr.runtime.compile import compiled

_STEP = 0.75  # of the points of an integral, in standard deviations at the mode
_POINTS = 8  # side by side
_NEGLIGIBLE = -17.0  # log density relative to the mode
_TOLERANCE = 1e-2  # change of factors, in standard deviations; its square enters the result
_ROUNDS = 50
_FAST = {"reassoc", "contract"}


@compiled(fastmath=_FAST)
def tilted(x, rate, v, mu, out):
    r"""Fill `out` with the log integral, mean, variance, third and fourth cumulants of a density.

    The density is :math:`e^{x w - r e^w} N(w; \mu, v)` up to its integral, which is summed over
    points evenly spaced around the mode.
    """
    p = 1 / v
    w = min(mu, math.log((x + 1.0) / rate))
    for _ in range(100):
        lam = rate * math.exp(w)
        slope, curvature = x - lam - (w - mu) * p, lam + p
        step = min(slope / curvature, 1.0)  # the exponential is convex: from the left, too far
        w += step
        if abs(step) * math.sqrt(curvature) < 0.01:
            break
    lam = rate * math.exp(w)
    away = w - mu
    h = _STEP / math.sqrt(lam + p)
    s0, s1, s2, s3, s4 = 1.0, 0.0, 0.0, 0.0, 0.0
    for side in (h, -h):
        first = 1
        while True:
            for k in range(_POINTS):
                t = side * (first + k)
                q = exp(x * t - lam * (exp(t) - 1) - 0.5 * p * t * (t + 2 * away))
                s0 += q
                s1 += q * t
                s2 += q * t * t
                s3 += q * t * t * t
                s4 += q * t * t * t * t
            first += _POINTS
            t = side * (first - 1)
            if x * t - lam * (math.exp(t) - 1) - 0.5 * p * t * (t + 2 * away) < _NEGLIGIBLE:
                break
    m, a2, a3, a4 = s1 / s0, s2 / s0, s3 / s0, s4 / s0
    var = a2 - m * m
    out[0] = x * w - lam - 0.5 * p * away * away + math.log(s0 * h / math.sqrt(2 * math.pi * v))
    out[1], out[2] = w + m, var
    out[3] = a3 - 3 * a2 * m + 2 * m**3
    out[4] = a4 - 4 * a3 * m + 6 * a2 * m * m - 3 * m**4 - 3 * var * var


@compiled(fastmath=_FAST)
def log_likelihood_of_cell(x, rate, covariance, work, cov):
    """Compute the log likelihood of the counts of one cell.

    Parameters
    ----------
    x, rate : ndarray, shape (genes,)
        Counts, and expected counts at the mean of the log rates.
    covariance : ndarray, shape (genes, genes)
        Covariance matrix of the log rates.
    work, cov : ndarray, shape (6, genes) and (genes, genes)
        Workspace.

    Returns
    -------
    float
        Without the terms of `x` and `rate` alone; NaN if the factors have not converged.
    """
    n = len(x)
    cov[:] = covariance
    work[:] = 0.0
    tau, nu, mean, third, fourth, column = work
    moments = np.empty(5)
    log_det, total, done = 0.0, 0.0, False
    for _ in range(_ROUNDS):
        change, total = 0.0, 0.0
        for j in range(n):
            own = cov[j, j]
            p = 1 / own - tau[j]  # without the factor of this gene
            mu = (mean[j] / own - nu[j]) / p
            tilted(x[j], rate[j], 1 / p, mu, moments)
            var = moments[2]
            new = max(1 / var - p, 1e-12 * p)
            linear = moments[1] * (new + p) - mu * p
            d, d_linear = new - tau[j], linear - nu[j]
            moved = (d_linear - d * moments[1]) * math.sqrt(own)
            change = max(change, abs(d) * own, abs(moved))
            tau[j], nu[j] = new, linear
            third[j], fourth[j] = moments[3] / var**1.5, moments[4] / (var * var)
            total += moments[0] + 0.5 * math.log1p(new / p)
            total -= 0.5 * ((mu * p + linear) ** 2 / (p + new) - mu * mu * p)
            k = d / (1 + d * own)
            log_det += math.log1p(d * own)
            shift = d_linear - k * (mean[j] + d_linear * own)
            for i in range(n):
                column[i] = cov[i, j]
            for i in range(n):
                mean[i] += shift * column[i]
            for i in range(n):
                f = k * column[i]
                for m in range(n):
                    cov[i, m] -= f * column[m]
        if change < _TOLERANCE:
            done = True
            break
    for j in range(n):
        total += 0.5 * nu[j] * mean[j]
        for i in range(j):
            r = cov[i, j] / math.sqrt(cov[i, i] * cov[j, j])
            total += third[i] * third[j] * r**3 / 6 + fourth[i] * fourth[j] * r**4 / 24
    return total - 0.5 * log_det if done else np.nan


@compiled()
def fill_log_likelihood(begin, end, x, depth, sample, mean, covariance, of_sample, out):
    """Fill `out` (draws, cells) with the log likelihood of cells, up to the factorials of counts.

    Parameters
    ----------
    begin, end : int
        Cells.
    x, depth, sample : ndarray, shape (cells, genes), (cells,) and (cells,)
        Counts, relative depths and samples.
    mean : ndarray, shape (draws, samples, genes)
        Mean log rates.
    covariance : ndarray, shape (draws, matrices, genes, genes)
        Covariance matrices of the log rates.
    of_sample : ndarray, shape (samples,)
        Matrix of each sample.
    """
    n = x.shape[1]
    rate, work, cov = np.empty(n), np.empty((6, n)), np.empty((n, n))
    for i in range(begin, end):
        k = sample[i]
        for d in range(len(mean)):
            constant = 0.0
            for j in range(n):
                rate[j] = depth[i] * math.exp(mean[d, k, j])
                constant += x[i, j] * math.log(rate[j])
            out[d, i] = constant + log_likelihood_of_cell(
                x[i], rate, covariance[d, of_sample[k]], work, cov
            )
