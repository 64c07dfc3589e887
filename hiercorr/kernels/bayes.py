"""Compiled loops of the Bayesian models; what they mean is said in :mod:`hiercorr.bayes.pair` and ``_margin``."""

from __future__ import annotations

import numpy as np
from numba import njit

NORMAL, LOGNORMAL, HALFNORMAL, LKJ, BETA = range(
    5
)  # families of priors, on the scale that is sampled
_SINGULAR = 1e-12  # 1 - rho^2 below it counts as no density
_FAR = 200.0  # twice the negative log density beyond which a grid point holds nothing


@njit(nogil=True, cache=True, error_model="numpy")
def poisson_table(x, log_s, starts, left, spacing, points):
    """Likelihood of each row's count at the grid points of its sample, largest 1, and the log of that largest."""
    out = np.empty((len(x), points))
    peak = np.empty(len(x))
    for c in range(len(starts) - 1):
        for i in range(starts[c], starts[c + 1]):
            top = -np.inf
            for g in range(points):
                u = log_s[i] + left[c] + g * spacing
                v = x[i] * u - np.exp(u)
                out[i, g] = v
                top = max(top, v)
            peak[i] = top
            for g in range(points):
                out[i, g] = np.exp(out[i, g] - top)
    return out, peak


@njit(nogil=True, cache=True, error_model="numpy")
def margin_terms(
    m, log_sd, table, weight, starts, left, spacing, prior_mean, prior_sd, log_sd_prior
):
    """Log posterior of one gene's margin with gradient and Hessian: (value, g_m, g_s, h_mm, h_ms, h_ss)."""
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
            # second derivatives of an average of exp: mean of the second derivative plus variance of the first
            h_mm[c] += weight[i] * ((e2 - e1 * e1) - (s2 - s1 * s1)) / sd**2
            h_ms[c] += weight[i] * ((e3 - e1 * e2 - 2 * e1) - (s3 - s1 * s2 - 2 * s1)) / sd
            h_ss += weight[i] * ((e4 - e2 * e2 - 2 * e2) - (s4 - s2 * s2 - 2 * s2))
    return value, g_m, g_s, h_mm, h_ms, h_ss


@njit(nogil=True, cache=True, error_model="numpy")
def log_prior(x, family, a, b):
    """Log density and its derivative at the unconstrained x, up to a constant."""
    if family in (NORMAL, LOGNORMAL):  # a lognormal is sampled as its logarithm
        z = (x - a) / b
        return -0.5 * z * z, -z / b
    if family == HALFNORMAL:
        v = np.exp(2 * x) / a**2
        return x - 0.5 * v, 1 - v
    if family == LKJ:  # of tanh x: (1 - rho^2)^a with the Jacobian
        return -2 * a * (abs(x) + np.log1p(np.exp(-2 * abs(x)))), -2 * a * np.tanh(x)
    p = 1 / (1 + np.exp(-x))
    return -a * np.log1p(np.exp(-x)) - b * np.log1p(np.exp(x)), a * (1 - p) - b * p


@njit(nogil=True, cache=True, error_model="numpy")
def bivariate_weights(w, m_a, m_b, sd_a, sd_b, rho, left_a, step_a, left_b, step_b):
    """Normal density at the grid's points, up to a constant, in place; returns its sum."""
    inverse, total = 1 / (1 - rho * rho), 0.0
    for g in range(w.shape[0]):
        x = (left_a + g * step_a - m_a) / sd_a
        for h in range(w.shape[1]):
            y = (left_b + h * step_b - m_b) / sd_b
            q = (x * x - 2 * rho * x * y + y * y) * inverse
            w[g, h] = np.exp(-0.5 * q) if q < _FAR else 0.0
            total += w[g, h]
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _row_sums(t, pb, out):
    """Sums over columns of t * pb; the order of the sum is free, so that it runs on vectors."""
    for i in range(t.shape[0]):
        like = t.dtype.type(0)
        for h in range(t.shape[1]):
            like += t[i, h] * pb[i, h]
        out[i] = like


@njit(nogil=True, cache=True, error_model="numpy")
def sample_likelihood(w, total, pa, pb, weight):
    """Sum of weighted log likelihoods of a sample's rows and its derivative by the normalised grid weights.

    Tables and weights are in single precision where the tables are: products of thousands of rows are what a fit waits for.
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


@njit(nogil=True, cache=True, error_model="numpy")
def weight_moments(w, total, slope, cells, m_a, m_b, sd_a, sd_b, left_a, step_a, left_b, step_b):
    """Posterior less prior sums over cells of x, y, x^2, y^2 and xy, the latent values in standard units."""
    sx = sy = sxx = syy = sxy = 0.0
    mean = cells / total
    for g in range(w.shape[0]):
        x = (left_a + g * step_a - m_a) / sd_a
        for h in range(w.shape[1]):
            if w[g, h] > 0.0:  # where it is 0 the slope can be infinite
                d = w[g, h] * (slope[g, h] - mean)
                y = (left_b + h * step_b - m_b) / sd_b
                sx += d * x
                sy += d * y
                sxx += d * x * x
                syy += d * y * y
                sxy += d * x * y
    return sx, sy, sxx, syy, sxy


@njit(nogil=True, cache=True, error_model="numpy")
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
    family,
    prior,
    heterogeneity,
    blocked,
    within_on,
    between_on,
):
    """Log posterior of a pair, cells summed out on a grid; its gradient goes to `grad`."""
    n, k, n_units = len(starts) - 1, design.shape[1], unit.max() + 1
    grad[:] = 0.0
    at_coef = 2 * n
    at = (
        at_coef + 2 * k
    )  # log sd within (2), log sd between (2), zeta, z between, [log tau, eta...], [logit share]
    sd_a, sd_b = np.exp(theta[at]), np.exp(theta[at + 1])
    out_a, out_b = np.exp(theta[at + 2]), np.exp(theta[at + 3])
    zeta, z_between = theta[at + 4], theta[at + 5]
    at_tau = at + 6
    value = 0.0
    for j in range(6):
        row = j // 2 if j < 4 else j - 2
        v, d = log_prior(theta[at + j], family[row], prior[row, 0], prior[row, 1])
        value += v
        grad[at + j] += d
    if heterogeneity:
        v, d = log_prior(theta[at_tau], family[4], prior[4, 0], prior[4, 1])
        value += v
        grad[at_tau] += d
        for j in range(n_units):  # psi ~ N(lam zeta, tau^lam): lam = 0 is non-centred, 1 centred
            lam, log_tau = centred[j], theta[at_tau]
            size_j = np.exp(lam * log_tau)
            v = (theta[at_tau + 1 + j] - lam * zeta) / size_j
            value -= 0.5 * v * v + lam * log_tau
            grad[at_tau + 1 + j] -= v / size_j
            grad[at + 4] += lam * v / size_j
            grad[at_tau] += lam * (v * v - 1)
    share = 0.0
    at_share = at_tau + (1 + n_units if heterogeneity else 0)
    if blocked:
        share = 1 / (1 + np.exp(-theta[at_share]))
        v, d = log_prior(theta[at_share], BETA, prior[5, 0], prior[5, 1])
        value += v
        grad[at_share] += d

    # cells given the samples' means
    b = np.empty((n, 2))
    gb = np.zeros((n, 2))
    w = np.empty((pa.shape[1], pb.shape[1]), pa.dtype)
    for c in range(n):
        b[c, 0] = centre[c, 0] + scale[c, 0] * theta[c]
        b[c, 1] = centre[c, 1] + scale[c, 1] * theta[n + c]
        lam = deviation = stretch = 0.0
        if heterogeneity:
            lam = centred[unit[c]]
            deviation = theta[at_tau + 1 + unit[c]] - lam * zeta
            stretch = np.exp((1 - lam) * theta[at_tau])
        rho = np.tanh(zeta + stretch * deviation) if within_on else 0.0
        if not 1 - rho * rho > _SINGULAR:
            return -np.inf
        i, e = starts[c], starts[c + 1]
        total = bivariate_weights(
            w, b[c, 0], b[c, 1], sd_a, sd_b, rho, left_a[c], step_a, left_b[c], step_b
        )
        if not total > 0.0:  # no grid point near: the mean has left the grid
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
            b[c, 0],
            b[c, 1],
            sd_a,
            sd_b,
            left_a[c],
            step_a,
            left_b[c],
            step_b,
        )
        inverse = 1 / (1 - rho * rho)
        gb[c, 0] = (sx - rho * sy) * inverse / sd_a
        gb[c, 1] = (sy - rho * sx) * inverse / sd_b
        grad[at] += (sxx - rho * sxy) * inverse
        grad[at + 1] += (syy - rho * sxy) * inverse
        if within_on:
            dz = (sxy * (1 + rho * rho) - rho * (sxx + syy)) * inverse
            grad[at + 4] += dz * (1 - lam * stretch)
            if heterogeneity:
                grad[at_tau] += dz * (1 - lam) * stretch * deviation
                grad[at_tau + 1 + unit[c]] += dz * stretch

    # samples' means given the population: matrix normal, rows correlated by share within a block
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
    value += -n * (theta[at + 2] + theta[at + 3]) + 0.5 * n * np.log(inverse)
    value -= 0.5 * (xx - 2 * rho * xy + yy) * inverse
    grad[at + 2] += -n + (xx - rho * xy) * inverse
    grad[at + 3] += -n + (yy - rho * xy) * inverse
    if between_on:
        grad[at + 5] += rho * n + (xy * (1 + rho * rho) - rho * (xx + yy)) * inverse
    if blocked:
        d_maa = d_mab = d_mbb = d_log = 0.0
        for j in range(n_blocks):
            tail = 1 - share + size[j] * share
            value -= (size[j] - 1) * np.log(1 - share) + np.log(
                tail
            )  # half the log determinant, twice (two genes)
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


@njit(nogil=True, cache=True, error_model="numpy")
def row_likelihoods(w, total, pa, pb):
    """Log likelihood of each row given the grid weights of its sample."""
    t = np.dot(pa, w)
    out = np.empty(len(pa))
    for i in range(len(pa)):
        like = 0.0
        for h in range(pb.shape[1]):
            like += t[i, h] * pb[i, h]
        out[i] = np.log(like / total)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _gauss(t, nodes):
    """Gauss rule of the points t, all of weight 1: nodes and weights whose sum is their number."""
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
            if following_norm <= 1e-24 * norm:  # no more distinct points than this
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


@njit(nogil=True, cache=True, error_model="numpy")
def gauss_rows(key, log_s, starts, nodes):
    """Replace the cells of a sample that share a key by a Gauss rule over their log depth, where that is fewer rows.

    Returns the cell each row stands for, log depth and weight of the rows, and where each sample's rows start.
    """
    n = len(key)
    cell, depth, weight = np.empty(n, np.int64), np.empty(n), np.empty(n)
    new = np.zeros(len(starts), np.int64)
    k = 0
    for c in range(len(starts) - 1):
        order = starts[c] + np.argsort(key[starts[c] : starts[c + 1]])
        i = 0
        while i < len(order):
            e = i + 1
            while e < len(order) and key[order[e]] == key[order[i]]:
                e += 1
            if e - i > nodes:
                t, w = _gauss(log_s[order[i:e]], nodes)
            else:
                t, w = log_s[order[i:e]], np.ones(e - i)
            for g in range(len(t)):
                cell[k], depth[k], weight[k] = order[i], t[g], w[g]
                k += 1
            i = e
        new[c + 1] = k
    return cell[:k].copy(), depth[:k].copy(), weight[:k].copy(), new


@njit(nogil=True, cache=True, error_model="numpy")
def z_profile(z, pa, pb, weight, starts, m_a, m_b, sd_a, sd_b, left_a, step_a, left_b, step_b):
    """Log likelihood of each sample's rows at each z of its correlation, the margins given: (samples, nodes)."""
    out = np.zeros((len(starts) - 1, len(z)))
    w = np.empty((pa.shape[1], pb.shape[1]))
    for c in range(len(starts) - 1):
        i, e = starts[c], starts[c + 1]
        for k in range(len(z)):
            total = bivariate_weights(
                w, m_a[c], m_b[c], sd_a, sd_b, np.tanh(z[k]), left_a[c], step_a, left_b[c], step_b
            )
            each = row_likelihoods(w, total, pa[i:e], pb[i:e])
            out[c, k] = (weight[i:e] * each).sum()
    return out


@njit(nogil=True, cache=True, error_model="numpy")
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
    """Log likelihood of each sample at each z, and its derivatives by the two log sd along the ridges of the margins."""
    n = len(starts) - 1
    value, slope_a, slope_b = np.zeros((n, len(z))), np.zeros((n, len(z))), np.zeros((n, len(z)))
    w = np.empty((pa.shape[1], pb.shape[1]), pa.dtype)
    for c in range(n):
        i, e = starts[c], starts[c + 1]
        for k in range(len(z)):
            rho = np.tanh(z[k])
            total = bivariate_weights(
                w, m_a[c], m_b[c], sd_a, sd_b, rho, left_a[c], step_a, left_b[c], step_b
            )
            v, slope, cells = sample_likelihood(w, total, pa[i:e], pb[i:e], weight[i:e])
            sx, sy, sxx, syy, sxy = weight_moments(
                w,
                total,
                slope,
                cells,
                m_a[c],
                m_b[c],
                sd_a,
                sd_b,
                left_a[c],
                step_a,
                left_b[c],
                step_b,
            )
            inverse = 1 / (1 - rho * rho)
            value[c, k] = v
            slope_a[c, k] = (sxx - rho * sxy) * inverse + ridge_a[c] * (
                sx - rho * sy
            ) * inverse / sd_a
            slope_b[c, k] = (syy - rho * sxy) * inverse + ridge_b[c] * (
                sy - rho * sx
            ) * inverse / sd_b
    return value, slope_a, slope_b


@njit(nogil=True, cache=True, error_model="numpy")
def between_posterior(mean, noise, design, log_sd_a, log_sd_b, z):
    """Log likelihood of noisy means (samples, 2) with noise (samples, 3: aa, ab, bb) at every sd and z, coefficients out.

    The coefficients have flat priors and are integrated out, as in restricted likelihood.
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
