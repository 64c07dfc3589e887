"""Loops of the Bayesian models; :mod:`hiercorr.bayes.pair` and ``margin`` explain their meaning.

Arguments shared by the functions:

- `pa`, `pb`: Poisson likelihoods of genes a and b, (rows, grid points); see :func:`poisson_table`
- `weight`: number of cells that each row represents
- `starts`: first row of each sample, and the number of rows
- `left_a`, `step_a`, `left_b`, `step_b`: first point and spacing of the grids of log rates, of each
  sample
- `m_a`, `m_b`, `sd_a`, `sd_b`, `rho`: means, standard deviations and correlation of log rates
"""

from __future__ import annotations

import numpy as np

from hiercorr.runtime.compile import compiled

NORMAL, LOGNORMAL, HALFNORMAL, LKJ, BETA = range(5)  # prior families, see log_prior
# rows of the table of priors
SD_WITHIN, SD_BETWEEN, Z_WITHIN, Z_BETWEEN, TAU, SHARE, OMEGA = range(7)
# Offsets in the vector of pair_density from the end of the coefficients; log tau precedes eta.
OFFSET_SD_WITHIN, OFFSET_SD_BETWEEN, OFFSET_ZETA, OFFSET_Z_BETWEEN, OFFSET_TAU = 0, 2, 4, 5, 6
_SINGULAR = 1e-12  # value of 1 - rho^2 at and below which the density is taken as 0
_FAR = 200.0  # value of -2 log density from which a grid point has weight 0


@compiled()
def poisson_table(x, log_s, starts, left, spacing, points):
    """Tabulate the Poisson likelihood of each row's count on the grid of its sample.

    Parameters
    ----------
    x, log_s : ndarray, shape (rows,)
        Counts and log depth.
    starts : ndarray of int, shape (samples + 1,)
    left, spacing : ndarray, shape (samples,)
        First grid point of each sample, a log rate, and distance between its points.
    points : int

    Returns
    -------
    out : ndarray, shape (rows, points)
        Likelihood, divided by its maximum over the grid.
    peak : ndarray, shape (rows,)
        Log of that maximum.
    """
    out = np.empty((len(x), points))
    peak = np.empty(len(x))
    for c in range(len(starts) - 1):
        for i in range(starts[c], starts[c + 1]):
            top = -np.inf
            for g in range(points):
                u = log_s[i] + left[c] + g * spacing[c]
                v = x[i] * u - np.exp(u)
                out[i, g] = v
                top = max(top, v)
            peak[i] = top
            for g in range(points):
                out[i, g] = np.exp(out[i, g] - top)
    return out, peak


@compiled()
def margin_terms(
    m, log_sd, table, weight, starts, left, spacing, prior_mean, prior_sd, log_sd_prior
):
    """Compute the log posterior of one gene's margin with its gradient and Hessian.

    Parameters
    ----------
    m : ndarray, shape (samples,)
        Mean log rates.
    log_sd : float
        Log of the within-sample standard deviation.
    table : ndarray, shape (rows, points)
        See :func:`poisson_table`.
    prior_mean, prior_sd : float
        Normal prior of `m`.
    log_sd_prior : (float, float)
        Mean and standard deviation of the normal prior of `log_sd`.

    Returns
    -------
    value, g_m, g_s, h_mm, h_ms, h_ss
        m : samples' means; s : `log_sd`. The Hessian is diagonal in m.
    """
    n_samples, points = len(m), table.shape[1]
    sd = np.exp(log_sd)
    g_m, h_mm, h_ms = np.zeros(n_samples), np.zeros(n_samples), np.zeros(n_samples)
    z = (log_sd - log_sd_prior[0]) / log_sd_prior[1]
    value, g_s, h_ss = -0.5 * z * z, -z / log_sd_prior[1], -1 / log_sd_prior[1] ** 2
    t, w = np.empty(points), np.empty(points)
    for c in range(n_samples):
        z = (m[c] - prior_mean) / prior_sd
        value -= 0.5 * z * z
        g_m[c] -= z / prior_sd
        h_mm[c] -= 1 / prior_sd**2
        total = s1 = s2 = s3 = s4 = 0.0
        for g in range(points):
            t[g] = (left[c] + g * spacing - m[c]) / sd
            w[g] = np.exp(-0.5 * t[g] ** 2)
            total += w[g]
        for g in range(points):
            w[g] /= total
            s1 += w[g] * t[g]
            s2 += w[g] * t[g] ** 2
            s3 += w[g] * t[g] ** 3
            s4 += w[g] * t[g] ** 4
        for i in range(starts[c], starts[c + 1]):
            like = e1 = e2 = e3 = e4 = 0.0
            for g in range(points):
                p = table[i, g] * w[g]
                like += p
                e1 += p * t[g]
                e2 += p * t[g] ** 2
                e3 += p * t[g] ** 3
                e4 += p * t[g] ** 4
            if like <= 0:
                return -np.inf, g_m, g_s, h_mm, h_ms, h_ss
            e1, e2, e3, e4 = e1 / like, e2 / like, e3 / like, e4 / like
            value += weight[i] * np.log(like)
            g_m[c] += weight[i] * (e1 - s1) / sd
            g_s += weight[i] * (e2 - s2)
            # Second derivatives of a log mean of exp: the mean of the exponent's second
            # derivative plus the variance of its first.
            h_mm[c] += weight[i] * ((e2 - e1 * e1) - (s2 - s1 * s1)) / sd**2
            h_ms[c] += weight[i] * ((e3 - e1 * e2 - 2 * e1) - (s3 - s1 * s2 - 2 * s1)) / sd
            h_ss += weight[i] * ((e4 - e2 * e2 - 2 * e2) - (s4 - s2 * s2 - 2 * s2))
    return value, g_m, g_s, h_mm, h_ms, h_ss


@compiled()
def log_prior(x, family, a, b):
    """Return a prior's log density, up to a constant, and its derivative at the unconstrained x."""
    if family in (NORMAL, LOGNORMAL):  # x is the log of a lognormal variable
        z = (x - a) / b
        return -0.5 * z * z, -z / b
    if family == HALFNORMAL:
        v = np.exp(2 * x) / a**2
        return x - 0.5 * v, 1 - v
    if family == LKJ:  # (1 - rho^2)^a with rho = tanh x and its Jacobian
        return -2 * a * (abs(x) + np.log1p(np.exp(-2 * abs(x)))), -2 * a * np.tanh(x)
    p = 1 / (1 + np.exp(-x))
    return -a * np.log1p(np.exp(-x)) - b * np.log1p(np.exp(x)), a * (1 - p) - b * p


@compiled()
def bivariate_weights(w, m_a, m_b, sd_a, sd_b, rho, left_a, step_a, left_b, step_b):
    """Fill `w` with the bivariate normal density on the grid, up to a constant; return its sum.

    Given x, the density of y is normal around rho x. On a uniform grid, the ratio of a value to the
    next is geometric, so that each row needs a few exponentials, from its maximum to both sides.
    """
    root, total = np.sqrt(1 - rho * rho), 0.0
    n, d, least = w.shape[1], step_b / sd_b / root, np.exp(-0.5 * _FAR)
    shrink = np.exp(-d * d)
    for g in range(w.shape[0]):
        x = (left_a + g * step_a - m_a) / sd_a
        t = ((left_b - m_b) / sd_b - rho * x) / root  # of the first point
        top = int(min(max(np.rint(-t / d), 0.0), n - 1.0))
        t += top * d
        peak = np.exp(-0.5 * (x * x + t * t))
        w[g] = 0.0
        v, ratio = peak, np.exp(-t * d - 0.5 * d * d)
        for h in range(top, n):
            if v < least:
                break
            w[g, h] = v
            total += v
            v *= ratio
            ratio *= shrink
        v, ratio = peak, np.exp(t * d - 0.5 * d * d)
        for h in range(top - 1, -1, -1):
            v *= ratio
            ratio *= shrink
            if v < least:
                break
            w[g, h] = v
            total += v
    return total


@compiled(fastmath={"reassoc", "contract"})
def _row_sums(t, pb, out):
    """Sum t * pb over columns; the order of summation is free, so that the loop vectorises."""
    for i in range(t.shape[0]):
        like = t.dtype.type(0)
        for h in range(t.shape[1]):
            like += t[i, h] * pb[i, h]
        out[i] = like


@compiled()
def sample_likelihood(w, total, pa, pb, weight):
    """Sum the weighted log likelihoods of a sample's rows; differentiate by the grid weights.

    The matrix products, which dominate the time of a fit, use the precision of the tables.

    Returns
    -------
    value : float
        Log likelihood; -inf if it is not positive for a row.
    slope : ndarray, shape of `w`
        Derivative by the normalised grid weights.
    cells : float
        Number of cells.
    """
    t = np.dot(pa, w)
    like = np.empty(len(weight), pa.dtype)
    _row_sums(t, pb, like)
    value, cells = 0.0, 0.0
    for i in range(len(weight)):
        if not like[i] > 0:
            return -np.inf, np.zeros_like(w), 0.0
        value += weight[i] * np.log(np.float64(like[i]) / total)
        cells += weight[i]
        f = pa.dtype.type(weight[i] / like[i])
        for h in range(pb.shape[1]):
            t[i, h] = pb[i, h] * f
    return value, np.dot(pa.T, t), cells


@compiled()
def weight_moments(w, total, slope, cells, m_a, m_b, sd_a, sd_b, left_a, step_a, left_b, step_b):
    """Sum posterior minus prior moments of the latent values over cells.

    The five sums are those of x, y, x^2, y^2 and x y in standard units. `slope` and `cells` are
    results of :func:`sample_likelihood`.
    """
    sx = sy = sxx = syy = sxy = 0.0
    mean = cells / total
    for g in range(w.shape[0]):
        x = (left_a + g * step_a - m_a) / sd_a
        for h in range(w.shape[1]):
            if w[g, h] > 0.0:  # at 0 the slope can be infinite
                d = w[g, h] * (slope[g, h] - mean)
                y = (left_b + h * step_b - m_b) / sd_b
                sx += d * x
                sy += d * y
                sxx += d * x * x
                syy += d * y * y
                sxy += d * x * y
    return sx, sy, sxx, syy, sxy


@compiled()
def pair_density(
    theta,
    grad,
    pa,
    pb,
    weight,
    starts,
    left_a,
    step_a,
    left_b,
    step_b,
    centre,
    scale,
    design,
    block,
    unit,
    centred,
    coef_mean,
    coef_sd,
    z_design,
    z_design_unit,
    z_coef_sd,
    sd_centred,
    family,
    prior,
    heterogeneity,
    blocked,
    sd_per_sample,
    within_on,
    between_on,
):
    """Compute the log posterior of a pair, with cells marginalised on a grid, and its gradient.

    Parameters
    ----------
    theta : ndarray
        Unconstrained parameters: samples' means of each gene (standardised by `centre`, `scale`),
        coefficients of each gene, log sd within (2), log sd between (2), zeta, z between, and then
        [log tau, effects of the units] if `heterogeneity`, [logit share] if `blocked`, slopes of
        z, and [log omega (2), effects of the samples on the log sd of each gene] if
        `sd_per_sample`. With `sd_per_sample`, a sample's mean is the log of its mean rate.
    grad : ndarray
        Result: gradient at `theta`.
    centre, scale : ndarray, shape (samples, 2)
    design : ndarray, shape (samples, coefficients)
    block, unit : ndarray of int, shape (samples,)
        Block and unit of heterogeneity of each sample.
    centred : ndarray, shape (units,)
        Degree of centring of the units' effects, 0 to 1.
    coef_mean, coef_sd : ndarray, shape (2, coefficients)
        Normal priors of the coefficients.
    z_design, z_design_unit : ndarray, shapes (samples, slopes) and (units, slopes)
        Centred covariates of z within samples, and their means over the samples of each unit.
    z_coef_sd : ndarray, shape (slopes,)
        Standard deviations of the normal priors of the slopes, with mean 0.
    sd_centred : ndarray, shape (samples, 2)
        Degree of centring of the samples' effects on the log sd, 0 to 1.
    family, prior : ndarray, shapes (7,) and (7, 2)
        Prior families and their arguments, by group of parameters; see :func:`log_prior`.
    heterogeneity, blocked, sd_per_sample : bool
        Whether the within-sample correlation varies; whether samples share blocks; whether the
        standard deviations within samples vary.
    within_on, between_on : bool
        Whether each correlation is estimated; otherwise it is 0.

    Returns
    -------
    float
        Log density up to a constant; -inf outside the range of the grid.
    """
    n, k, n_units, slopes = len(starts) - 1, design.shape[1], unit.max() + 1, z_design.shape[1]
    grad[:] = 0.0
    at_coef = 2 * n
    end_coef = at_coef + 2 * k
    at_within = end_coef + OFFSET_SD_WITHIN  # of gene a; gene b follows
    at_between = end_coef + OFFSET_SD_BETWEEN
    at_zeta, at_z_between = end_coef + OFFSET_ZETA, end_coef + OFFSET_Z_BETWEEN
    at_tau = end_coef + OFFSET_TAU
    at_eta = at_tau + 1
    at_share = at_eta + n_units if heterogeneity else at_tau
    at_slope = at_share + 1 if blocked else at_share
    at_omega = at_slope + slopes
    at_psi = at_omega + 2
    out_a, out_b = np.exp(theta[at_between]), np.exp(theta[at_between + 1])
    zeta, z_between = theta[at_zeta], theta[at_z_between]
    value = 0.0
    for j in range(OFFSET_TAU):
        row = j // 2 if j < OFFSET_ZETA else j - OFFSET_ZETA + Z_WITHIN
        v, d = log_prior(theta[end_coef + j], family[row], prior[row, 0], prior[row, 1])
        value += v
        grad[end_coef + j] += d
    if heterogeneity:
        v, d = log_prior(theta[at_tau], family[TAU], prior[TAU, 0], prior[TAU, 1])
        value += v
        grad[at_tau] += d
        for j in range(n_units):  # psi ~ N(lam zeta, tau^lam): lam = 0 non-centred, 1 centred
            lam, log_tau = centred[j], theta[at_tau]
            size_j = np.exp(lam * log_tau)
            centre_j = zeta
            for q in range(slopes):
                centre_j += z_design_unit[j, q] * theta[at_slope + q]
            v = (theta[at_eta + j] - lam * centre_j) / size_j
            value -= 0.5 * v * v + lam * log_tau
            grad[at_eta + j] -= v / size_j
            grad[at_zeta] += lam * v / size_j
            for q in range(slopes):
                grad[at_slope + q] += lam * v / size_j * z_design_unit[j, q]
            grad[at_tau] += lam * (v * v - 1)
    for q in range(slopes):
        v = theta[at_slope + q] / z_coef_sd[q]
        value -= 0.5 * v * v
        grad[at_slope + q] -= v / z_coef_sd[q]
    if sd_per_sample:
        for j in range(2):
            at, log_omega = at_omega + j, theta[at_omega + j]
            v, d = log_prior(log_omega, family[OMEGA], prior[OMEGA, 0], prior[OMEGA, 1])
            value += v
            grad[at] += d
            for c in range(n):  # psi ~ N(lam log sd, omega^lam)
                lam = sd_centred[c, j]
                size_j = np.exp(lam * log_omega)
                v = (theta[at_psi + j * n + c] - lam * theta[at_within + j]) / size_j
                value -= 0.5 * v * v + lam * log_omega
                grad[at_psi + j * n + c] -= v / size_j
                grad[at_within + j] += lam * v / size_j
                grad[at] += lam * (v * v - 1)
    share = 0.0
    if blocked:
        share = 1 / (1 + np.exp(-theta[at_share]))
        v, d = log_prior(theta[at_share], BETA, prior[SHARE, 0], prior[SHARE, 1])
        value += v
        grad[at_share] += d

    # Cells, given the samples' means
    b = np.empty((n, 2))
    gb = np.zeros((n, 2))
    w = np.empty((pa.shape[1], pb.shape[1]), pa.dtype)
    log_sd, of_log_sd, m = np.empty(2), np.empty(2), np.empty(2)
    for c in range(n):
        b[c, 0] = centre[c, 0] + scale[c, 0] * theta[c]
        b[c, 1] = centre[c, 1] + scale[c, 1] * theta[n + c]
        for j in range(2):
            log_sd[j] = theta[at_within + j]
            m[j] = b[c, j]
            if sd_per_sample:
                away = theta[at_psi + j * n + c] - sd_centred[c, j] * log_sd[j]
                log_sd[j] += np.exp((1 - sd_centred[c, j]) * theta[at_omega + j]) * away
                m[j] -= 0.5 * np.exp(2 * log_sd[j])
        sd_a, sd_b = np.exp(log_sd[0]), np.exp(log_sd[1])
        lam = deviation = stretch = 0.0
        z = zeta
        for q in range(slopes):
            z += z_design[c, q] * theta[at_slope + q]
        if heterogeneity:
            lam = centred[unit[c]]
            deviation = theta[at_eta + unit[c]] - lam * zeta
            for q in range(slopes):
                deviation -= lam * z_design_unit[unit[c], q] * theta[at_slope + q]
            stretch = np.exp((1 - lam) * theta[at_tau])
        rho = np.tanh(z + stretch * deviation) if within_on else 0.0
        if not 1 - rho * rho > _SINGULAR:
            return -np.inf
        i, e = starts[c], starts[c + 1]
        total = bivariate_weights(
            w, m[0], m[1], sd_a, sd_b, rho, left_a[c], step_a[c], left_b[c], step_b[c]
        )
        if not total > 0.0:  # the mean is outside the grid
            return -np.inf
        v, slope, cells = sample_likelihood(w, total, pa[i:e], pb[i:e], weight[i:e])
        value += v
        if not np.isfinite(v):
            return -np.inf
        sx, sy, sxx, syy, sxy = weight_moments(
            w,
            total,
            slope,
            cells,
            m[0],
            m[1],
            sd_a,
            sd_b,
            left_a[c],
            step_a[c],
            left_b[c],
            step_b[c],
        )
        inverse = 1 / (1 - rho * rho)
        gb[c, 0] = (sx - rho * sy) * inverse / sd_a
        gb[c, 1] = (sy - rho * sx) * inverse / sd_b
        of_log_sd[0] = (sxx - rho * sxy) * inverse
        of_log_sd[1] = (syy - rho * sxy) * inverse
        for j in range(2):
            if sd_per_sample:
                of_log_sd[j] -= np.exp(2 * log_sd[j]) * gb[c, j]
                lam_j, at = sd_centred[c, j], at_psi + j * n + c
                away = theta[at] - lam_j * theta[at_within + j]
                wide = np.exp((1 - lam_j) * theta[at_omega + j])
                grad[at] += of_log_sd[j] * wide
                grad[at_omega + j] += of_log_sd[j] * (1 - lam_j) * wide * away
                of_log_sd[j] *= 1 - lam_j * wide
            grad[at_within + j] += of_log_sd[j]
        if within_on:
            dz = (sxy * (1 + rho * rho) - rho * (sxx + syy)) * inverse
            grad[at_zeta] += dz * (1 - lam * stretch)
            for q in range(slopes):
                of_slope = z_design[c, q]
                if heterogeneity:
                    of_slope -= lam * stretch * z_design_unit[unit[c], q]
                grad[at_slope + q] += dz * of_slope
            if heterogeneity:
                grad[at_tau] += dz * (1 - lam) * stretch * deviation
                grad[at_eta + unit[c]] += dz * stretch

    # Samples' means, given the population: matrix normal, rows of a block correlated by `share`
    r = np.empty((n, 2))
    for c in range(n):
        for j in range(2):
            r[c, j] = b[c, j]
            for q in range(k):
                r[c, j] -= design[c, q] * theta[at_coef + j * k + q]
    for j in range(2):
        for q in range(k):
            z = (theta[at_coef + j * k + q] - coef_mean[j, q]) / coef_sd[j, q]
            value -= 0.5 * z * z
            grad[at_coef + j * k + q] -= z / coef_sd[j, q]
    n_blocks = block.max() + 1
    size, s = np.zeros(n_blocks), np.zeros((n_blocks, 2))
    for c in range(n):
        size[block[c]] += 1
        s[block[c]] += r[c]
    kr = np.empty((n, 2))  # inverse row covariance times residuals
    for c in range(n):
        kappa = share / (1 - share + size[block[c]] * share)
        for j in range(2):
            kr[c, j] = (r[c, j] - kappa * s[block[c], j]) / (1 - share)
    maa = mab = mbb = 0.0
    for c in range(n):
        maa += r[c, 0] * kr[c, 0]
        mab += r[c, 0] * kr[c, 1]
        mbb += r[c, 1] * kr[c, 1]
    rho = np.tanh(z_between) if between_on else 0.0
    if not 1 - rho * rho > _SINGULAR:
        return -np.inf
    inverse = 1 / (1 - rho * rho)
    xx, xy, yy = maa / out_a**2, mab / (out_a * out_b), mbb / out_b**2
    value += -n * (theta[at_between] + theta[at_between + 1]) + 0.5 * n * np.log(inverse)
    value -= 0.5 * (xx - 2 * rho * xy + yy) * inverse
    grad[at_between] += -n + (xx - rho * xy) * inverse
    grad[at_between + 1] += -n + (yy - rho * xy) * inverse
    if between_on:
        grad[at_z_between] += rho * n + (xy * (1 + rho * rho) - rho * (xx + yy)) * inverse
    if blocked:
        d_maa = d_mab = d_mbb = d_log = 0.0
        for j in range(n_blocks):
            tail = 1 - share + size[j] * share
            # Half the log determinant, for each of two genes.
            value -= (size[j] - 1) * np.log(1 - share) + np.log(tail)
            d_log -= -(size[j] - 1) / (1 - share) + (size[j] - 1) / tail
            slope_k = 1 / tail**2 / (1 - share)
            d_maa -= slope_k * s[j, 0] ** 2
            d_mab -= slope_k * s[j, 0] * s[j, 1]
            d_mbb -= slope_k * s[j, 1] ** 2
        d_maa += maa / (1 - share)
        d_mab += mab / (1 - share)
        d_mbb += mbb / (1 - share)
        d_quad = (d_maa / out_a**2 - 2 * rho * d_mab / (out_a * out_b) + d_mbb / out_b**2) * inverse
        grad[at_share] += (d_log - 0.5 * d_quad) * share * (1 - share)
    for c in range(n):
        da = (kr[c, 0] / out_a**2 - rho * kr[c, 1] / (out_a * out_b)) * inverse
        db = (kr[c, 1] / out_b**2 - rho * kr[c, 0] / (out_a * out_b)) * inverse
        gb[c, 0] -= da
        gb[c, 1] -= db
        for q in range(k):
            grad[at_coef + q] += design[c, q] * da
            grad[at_coef + k + q] += design[c, q] * db
        grad[c] += gb[c, 0] * scale[c, 0]
        grad[n + c] += gb[c, 1] * scale[c, 1]
    return value


@compiled()
def row_likelihoods(w, total, pa, pb):
    """Compute the log likelihood of each row, given the grid weights of its sample."""
    t = np.dot(pa, w)
    out = np.empty(len(pa))
    for i in range(len(pa)):
        like = 0.0
        for h in range(pb.shape[1]):
            like += t[i, h] * pb[i, h]
        out[i] = np.log(like / total)
    return out


@compiled()
def _gauss(t, nodes):
    """Compute the Gauss rule of points t of weight 1: nodes, and weights that sum to len(t)."""
    n, low, high = len(t), t.min(), t.max()
    mid, half = (low + high) / 2, max((high - low) / 2, 1e-300)
    u = (t - mid) / half
    previous, current = np.zeros(n), np.ones(n)
    alpha, beta = np.zeros(nodes), np.zeros(nodes)
    norm, used = float(n), nodes
    for k in range(nodes):
        alpha[k] = (u * current * current).sum() / norm
        following = (u - alpha[k]) * current - (beta[k] * previous)
        following_norm = (following * following).sum()
        if k + 1 < nodes:
            if following_norm <= 1e-24 * norm:  # no more distinct points
                used = k + 1
                break
            beta[k + 1] = following_norm / norm
        previous, current, norm = current, following, following_norm
    jacobi = np.zeros((used, used))
    for k in range(used):
        jacobi[k, k] = alpha[k]
        if k > 0:
            jacobi[k, k - 1] = jacobi[k - 1, k] = np.sqrt(beta[k])
    values, vectors = np.linalg.eigh(jacobi)
    return mid + half * values, n * vectors[0] ** 2


def gauss_rows(key, log_s, starts, nodes):
    """Replace cells of a sample with the same key by a Gauss rule over their log depth.

    Only groups of more than `nodes` cells are replaced.

    Returns
    -------
    cell : ndarray of int
        A cell of each row's group.
    depth, weight : ndarray
        Log depth and weight of each row.
    starts : ndarray of int
        First row of each sample, and the number of rows.
    """
    n = len(key)
    order = np.lexsort((key, np.repeat(np.arange(len(starts) - 1), np.diff(starts))))
    first, depth, weight = np.empty(n, np.int64), np.empty(n), np.empty(n)
    new = np.zeros(len(starts), np.int64)
    _gauss_rows(key[order], log_s[order], starts, nodes, first, depth, weight, new)
    k = new[-1]
    return order[first[:k]], depth[:k].copy(), weight[:k].copy(), new


@compiled()
def _gauss_rows(key, log_s, starts, nodes, first, depth, weight, new):
    """Fill the rows of cells that are sorted by key in each sample."""
    k = 0
    for c in range(len(starts) - 1):
        i = starts[c]
        while i < starts[c + 1]:
            e = i + 1
            while e < starts[c + 1] and key[e] == key[i]:
                e += 1
            if e - i > nodes:
                t, w = _gauss(log_s[i:e], nodes)
                for g in range(len(t)):
                    first[k], depth[k], weight[k] = i, t[g], w[g]
                    k += 1
            else:
                for j in range(i, e):
                    first[k], depth[k], weight[k] = i, log_s[j], 1.0
                    k += 1
            i = e
        new[c + 1] = k


@compiled()
def z_profile(z, pa, pb, weight, starts, m_a, m_b, sd_a, sd_b, left_a, step_a, left_b, step_b):
    """Profile the log likelihood of each sample over z = atanh(rho), given the margins.

    Means, standard deviations and grids have one value per sample.

    Returns
    -------
    ndarray, shape (samples, nodes)
    """
    out = np.zeros((len(starts) - 1, len(z)))
    w = np.empty((pa.shape[1], pb.shape[1]))
    for c in range(len(starts) - 1):
        i, e = starts[c], starts[c + 1]
        for k in range(len(z)):
            total = bivariate_weights(
                w,
                m_a[c],
                m_b[c],
                sd_a[c],
                sd_b[c],
                np.tanh(z[k]),
                left_a[c],
                step_a[c],
                left_b[c],
                step_b[c],
            )
            each = row_likelihoods(w, total, pa[i:e], pb[i:e])
            out[c, k] = (weight[i:e] * each).sum()
    return out


@compiled()
def z_profile_slopes(
    z,
    pa,
    pb,
    weight,
    starts,
    m_a,
    m_b,
    sd_a,
    sd_b,
    ridge_a,
    ridge_b,
    left_a,
    step_a,
    left_b,
    step_b,
):
    """Compute :func:`z_profile` and its derivatives by the log sd of both genes.

    A sample's mean moves with the log sd by `ridge_a`, `ridge_b`. Means, standard deviations and
    grids have one value per sample.

    Returns
    -------
    value, slope_a, slope_b : ndarray, shape (samples, nodes)
    """
    n = len(starts) - 1
    value, slope_a, slope_b = np.zeros((n, len(z))), np.zeros((n, len(z))), np.zeros((n, len(z)))
    w = np.empty((pa.shape[1], pb.shape[1]), pa.dtype)
    for c in range(n):
        i, e = starts[c], starts[c + 1]
        for k in range(len(z)):
            rho = np.tanh(z[k])
            total = bivariate_weights(
                w,
                m_a[c],
                m_b[c],
                sd_a[c],
                sd_b[c],
                rho,
                left_a[c],
                step_a[c],
                left_b[c],
                step_b[c],
            )
            v, slope, cells = sample_likelihood(w, total, pa[i:e], pb[i:e], weight[i:e])
            sx, sy, sxx, syy, sxy = weight_moments(
                w,
                total,
                slope,
                cells,
                m_a[c],
                m_b[c],
                sd_a[c],
                sd_b[c],
                left_a[c],
                step_a[c],
                left_b[c],
                step_b[c],
            )
            inverse = 1 / (1 - rho * rho)
            value[c, k] = v
            slope_a[c, k] = (sxx - rho * sxy) * inverse + ridge_a[c] * (
                sx - rho * sy
            ) * inverse / sd_a[c]
            slope_b[c, k] = (syy - rho * sxy) * inverse + ridge_b[c] * (
                sy - rho * sx
            ) * inverse / sd_b[c]
    return value, slope_a, slope_b


@compiled()
def between_posterior(mean, noise, design, log_sd_a, log_sd_b, z):
    """Compute the restricted log likelihood of noisy means on a grid of between-sample parameters.

    The coefficients have flat priors and are integrated out.

    Parameters
    ----------
    mean : ndarray, shape (samples, 2)
    noise : ndarray, shape (samples, 3)
        Variances and covariance of the means' errors: aa, ab, bb.
    design : ndarray, shape (samples, coefficients)
    log_sd_a, log_sd_b, z : ndarray
        Grid of the log standard deviations and atanh of the correlation.

    Returns
    -------
    ndarray, shape (len(log_sd_a), len(log_sd_b), len(z))
    """
    n, k = design.shape
    out = np.empty((len(log_sd_a), len(log_sd_b), len(z)))
    gram, right = np.empty((2 * k, 2 * k)), np.empty(2 * k)
    for p in range(len(log_sd_a)):
        for q in range(len(log_sd_b)):
            a, b = np.exp(log_sd_a[p]), np.exp(log_sd_b[q])
            for r in range(len(z)):
                cov = np.tanh(z[r]) * a * b
                value = 0.0
                gram[:] = 0.0
                right[:] = 0.0
                for c in range(n):
                    aa, ab, bb = a * a + noise[c, 0], cov + noise[c, 1], b * b + noise[c, 2]
                    det = aa * bb - ab * ab
                    ia, ib, io = bb / det, aa / det, -ab / det
                    x, y = mean[c, 0], mean[c, 1]
                    value -= 0.5 * (np.log(det) + ia * x * x + 2 * io * x * y + ib * y * y)
                    for s in range(k):
                        d = design[c, s]
                        right[s] += d * (ia * x + io * y)
                        right[k + s] += d * (io * x + ib * y)
                        for t in range(k):
                            dd = d * design[c, t]
                            gram[s, t] += ia * dd
                            gram[k + s, k + t] += ib * dd
                            gram[s, k + t] += io * dd
                            gram[k + t, s] += io * dd
                root = np.linalg.cholesky(gram)
                half = 0.0
                for s in range(2 * k):
                    v = right[s]
                    for t in range(s):
                        v -= root[s, t] * right[t]
                    right[s] = v / root[s, s]
                    half += 0.5 * right[s] ** 2 - np.log(root[s, s])
                out[p, q, r] = value + half
    return out


@compiled()
def cell_log_likelihoods(pa, pb, starts, mean, sd, rho, left_a, step_a, left_b, step_b):
    """Compute the log likelihood of each cell for several draws of the parameters.

    Parameters
    ----------
    mean, sd : ndarray, shape (draws, samples, 2)
    rho : ndarray, shape (draws, samples)

    Returns
    -------
    ndarray, shape (draws, cells)
    """
    out = np.empty((len(mean), len(pa)))
    w = np.empty((pa.shape[1], pb.shape[1]))
    for d in range(len(mean)):
        for c in range(len(starts) - 1):
            i, e = starts[c], starts[c + 1]
            total = bivariate_weights(
                w,
                mean[d, c, 0],
                mean[d, c, 1],
                sd[d, c, 0],
                sd[d, c, 1],
                rho[d, c],
                left_a[c],
                step_a[c],
                left_b[c],
                step_b[c],
            )
            out[d, i:e] = row_likelihoods(w, total, pa[i:e], pb[i:e])
    return out
