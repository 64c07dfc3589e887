r"""Covariance matrices of single units (donors or samples) in the joint model, and their moves.

.. math::
    \Sigma_k = D R_k D,\quad R_k = cor(Q_k),\quad Q_k \sim IW(m + G - 1, R),\quad
    Q_k = C A_k A_k' C',\quad C C' = R

Standard deviations D are those of all units. :math:`A_k^{-1}` is lower triangular with independent
entries, normal below the diagonal and chi with m, m + 1, ... degrees of freedom on it: where these
are fixed, all matrices follow the common root :math:`L = D C`. Arguments shared by the functions:

- `root`: L; `own` (units, genes, genes): A; `df` (1,): m
- `roots` (units, genes, genes): roots of the covariance matrices :math:`\Sigma_k`, whose row j is
  that of L A times `scale` (units, genes)
- `around` (units, genes, genes), `size` (units,): scatter of the deviations of a unit's cells from
  the means of their samples, and number of cells
"""

from __future__ import annotations

import math

import numpy as np

from hiercorr.kernels.bayes import log_prior
from hiercorr.kernels.roots import (
    adapt_row,
    cholesky,
    gram,
    invert_root,
    log_prior_root,
    row_gradient,
    solve_root,
    solve_root_transposed,
)
from hiercorr.runtime.compile import compiled

LARGEST = 1e8  # degrees of freedom: heterogeneity of 1e-4


@compiled()
def polygammas(x):
    """Return the first and the second derivative of the digamma function."""
    first, second = 0.0, 0.0
    while x < 10:
        first += 1 / x**2
        second -= 2 / x**3
        x += 1
    v = 1 / x**2
    first += (1 + 0.5 / x + v * (1 / 6 - v * (1 / 30 - v * (1 / 42 - v / 30)))) / x
    second -= v * (1 + 1 / x + v * (1 / 2 - v * (1 / 6 - v * (1 / 6 - v * 0.3))))
    return first, second


@compiled()
def heterogeneity(df):
    """Return tau, the standard deviation of Fisher's z of independent genes over units."""
    return np.sqrt(0.5 * polygammas(0.5 * df)[0])


@compiled()
def log_prior_df(df, prior):
    """Return the log prior density of log `df`, from that of tau."""
    first, second = polygammas(0.5 * df)
    slope = -0.25 * df * second / first  # of log tau by log df
    tau = np.sqrt(0.5 * first)
    return log_prior(np.log(tau), int(prior[0]), prior[1], prior[2])[0] + np.log(slope)


@compiled()
def _log_chi(x, df):
    """Return the log density of a chi variable."""
    return (1 - 0.5 * df) * np.log(2.0) - math.lgamma(0.5 * df) + (df - 1) * np.log(x) - 0.5 * x * x


@compiled()
def root_of_unit(root, own, out, scale):
    """Fill `out` with the root of a unit's covariance matrix and `scale` with its rows' scales."""
    g = len(root)
    for j in range(g):
        length, square = 0.0, 0.0
        for t in range(j + 1):
            v = 0.0
            for p in range(t, j + 1):
                v += root[j, p] * own[p, t]
            out[j, t] = v
            square += v * v
            length += root[j, t] ** 2
        scale[j] = np.sqrt(length / square)
        for t in range(j + 1):
            out[j, t] *= scale[j]
        for t in range(j + 1, g):
            out[j, t] = 0.0


@compiled()
def roots_of_units(root, own, roots, scale):
    """Fill `roots` and `scale` for all units."""
    for s in range(len(own)):
        root_of_unit(root, own[s], roots[s], scale[s])


@compiled()
def correlation_of(root, out):
    """Fill `out` with the correlation matrix of the covariance matrix with this root."""
    g = len(root)
    length = np.empty(g)
    for j in range(g):
        v = 0.0
        for t in range(j + 1):
            v += root[j, t] ** 2
        length[j] = np.sqrt(v)
    for i in range(g):
        for j in range(i + 1):
            v = 0.0
            for t in range(j + 1):
                v += root[i, t] * root[j, t]
            out[i, j] = v / (length[i] * length[j])
            out[j, i] = out[i, j]
        out[i, i] = 1.0


@compiled()
def add_chain(row, own, a, out):
    """Add to `out` the gradient by a row of L, given that by the scaled row (`a`) of one unit."""
    n = len(row)
    r, w = np.empty(n), np.empty(n)
    q, square, dot = 0.0, 0.0, 0.0
    for t in range(n):
        v = 0.0
        for p in range(t, n):
            v += row[p] * own[p, t]
        r[t] = v
        q += v * v
        square += row[t] ** 2
        dot += a[t] * row[t]
    for p in range(n):
        v = 0.0
        for t in range(p + 1):
            v += own[p, t] * r[t]
        w[p] = v
    h = np.sqrt(square / q)
    for p in range(n):
        out[p] += h * (a[p] + dot * (row[p] / square - w[p] / q))


@compiled()
def row_scale(row, own):
    """Return the scale of a row of L in one unit."""
    n = len(row)
    q, square = 0.0, 0.0
    for t in range(n):
        v = 0.0
        for p in range(t, n):
            v += row[p] * own[p, t]
        q += v * v
        square += row[t] ** 2
    return np.sqrt(square / q)


@compiled()
def _whitened(root, around, inverse, out):
    """Fill `inverse` of the root, and `out` with the scatter of the standardised deviations."""
    g = len(root)
    invert_root(root, inverse)
    half = np.zeros((g, g))
    for i in range(g):
        for k in range(i + 1):
            v = inverse[i, k]
            for j in range(g):
                half[i, j] += v * around[k, j]
    for i in range(g):
        for j in range(i + 1):
            v = 0.0
            for k in range(j + 1):
                v += half[i, k] * inverse[j, k]
            out[i, j] = v
            out[j, i] = v


@compiled()
def _log_likelihood(root, white, n):
    """Return the log density of a unit's deviations, up to a constant."""
    value = 0.0
    for k in range(len(root)):
        value -= n * np.log(root[k, k]) + 0.5 * white[k, k]
    return value


@compiled()
def _newton_scale(rng, at, nu, a, b):
    """Move t of the density t^(nu - 1) exp(-a t^2 / 2 - b t) by independence, as log t."""
    mode = (np.sqrt(b * b + 4 * a * nu) - b) / (2 * a)
    sd = 1 / np.sqrt(nu + a * mode * mode)
    v = np.log(mode)
    old = np.log(at)
    new = v + sd * rng.standard_normal() / np.sqrt(rng.standard_gamma(2.5) / 2.5)
    t = np.exp(new)
    ratio = nu * (new - old) - 0.5 * a * (t * t - at * at) - b * (t - at)
    ratio += 3 * np.log((5 + ((new - v) / sd) ** 2) / (5 + ((old - v) / sd) ** 2))
    return t if np.log(rng.random()) < ratio else at


@compiled()
def _replace_column(k, column, coefficient, square, variance, matrix, inverse):
    """Write row and column k of a covariance matrix, and of its inverse.

    Parameters
    ----------
    k : int
    column : ndarray, shape (genes - 1,)
        Covariances of gene k with the others.
    coefficient : ndarray, shape (genes - 1,)
        Coefficients of the regression of gene k on the others.
    square, variance : float
        Variance of gene k, and what the regression leaves of it.
    matrix, inverse : ndarray, shape (genes, genes)
        Changed.
    """
    for i in range(len(matrix) - 1):
        a = i + (i >= k)
        matrix[a, k] = column[i]
        matrix[k, a] = column[i]
        inverse[a, k] = -coefficient[i] / variance
        inverse[k, a] = inverse[a, k]
    matrix[k, k] = square
    inverse[k, k] = 1 / variance


@compiled()
def move_own(rng, root, own, around, size, df):
    r"""Move the matrices of all units given the deviations of their cells, a gene at a time.

    Row k of Q is proposed from its conditional distribution for cells with covariance matrix Q, at
    their present scale; the Metropolis step corrects for the standard deviations, which are those
    of all units. Then the scale of Q, which concerns its prior only, is moved.
    """
    g = len(root)
    nu = df[0] + g - 1
    sd, c, c_inverse = np.empty(g), np.zeros((g, g)), np.empty((g, g))
    psi, f = np.empty((g, g)), np.empty((g - 1, g - 1))
    for j in range(g):
        v = 0.0
        for t in range(j + 1):
            v += root[j, t] ** 2
        sd[j] = np.sqrt(v)
        for t in range(j + 1):
            c[j, t] = root[j, t] / sd[j]
    invert_root(c, c_inverse)
    correlation_of(root, psi)
    s, part = np.empty((g, g)), np.empty((g - 1, g - 1))
    old_m, new_m, beta, move = np.empty(g - 1), np.empty(g - 1), np.empty(g - 1), np.empty(g - 1)
    column = np.empty(g - 1)
    inverse, p, moved = np.empty((g, g)), np.empty((g, g)), 0
    for unit in range(len(own)):
        n = size[unit]
        for i in range(g):
            for j in range(g):
                s[i, j] = around[unit, i, j] / (sd[i] * sd[j])
        t_root = c @ own[unit]
        q = t_root @ t_root.T
        invert_root(t_root, inverse)
        gram(inverse, p)
        for k in range(g):
            d = np.sqrt(q[k, k])
            for i in range(g - 1):
                a = i + (i >= k)
                for j in range(g - 1):
                    b = j + (j >= k)
                    part[i, j] = psi[a, b] + s[a, b] * np.sqrt(q[a, a] * q[b, b])
                beta[i] = -p[a, k] / p[k, k]
                column[i] = np.sqrt(q[a, a]) * s[a, k]
                old_m[i] = psi[a, k] + d * column[i]
            v = 1 / p[k, k]
            if not cholesky(part, f):
                continue
            solve_root(f, old_m)
            old_rest = psi[k, k] + d * d * s[k, k]
            for i in range(g - 1):
                old_rest -= old_m[i] ** 2
            v_new = 0.5 * old_rest / rng.standard_gamma(0.5 * (nu + n))
            for i in range(g - 1):
                move[i] = old_m[i] + np.sqrt(v_new) * rng.standard_normal()
            solve_root_transposed(f, move)  # the new coefficients
            square = v_new
            for i in range(g - 1):
                a = i + (i >= k)
                for j in range(g - 1):
                    square += move[i] * move[j] * q[a, j + (j >= k)]
            d_new = np.sqrt(square)
            ahead, back = 0.0, 0.0
            for i in range(g - 1):
                a = i + (i >= k)
                ahead += move[i] * column[i]
                back += beta[i] * column[i]
                new_m[i] = psi[a, k] + d_new * column[i]
            solve_root(f, new_m)
            new_rest = psi[k, k] + square * s[k, k]
            for i in range(g - 1):
                new_rest -= new_m[i] ** 2
            wider = (square - d * d) * s[k, k]
            ratio = n * np.log(d_new / d) + 0.5 * (nu + n) * np.log(new_rest / old_rest)
            ratio -= (wider - 2 * (d_new - d) * ahead) / (2 * v_new)
            ratio -= (wider - 2 * (d_new - d) * back) / (2 * v)
            if np.log(rng.random()) < ratio:
                moved += 1
                for i in range(g - 1):
                    a = i + (i >= k)
                    value = 0.0
                    for j in range(g - 1):
                        b = j + (j >= k)
                        value += q[a, b] * move[j]
                        p[a, b] += move[i] * move[j] / v_new - beta[i] * beta[j] / v
                    column[i] = value
                _replace_column(k, column, move, square, v_new, q, p)
            d = np.sqrt(q[k, k])
            pull = 0.0
            for i in range(g):
                if i != k:
                    pull += psi[i, k] * d * p[i, k]
            new = _newton_scale(rng, 1 / d, nu, d * d * p[k, k], pull)
            factor = 1 / (new * d)
            for i in range(g):
                q[i, k] *= factor
                q[k, i] *= factor
                p[i, k] /= factor
                p[k, i] /= factor
        if cholesky(q, inverse):
            own[unit] = c_inverse @ inverse
    return moved


@compiled()
def move_common(rng, root, own, df, eta):
    """Move the common correlations given the matrices Q of all units, a gene at a time.

    Row k is proposed from its conditional distribution under the Wishart part of the density; what
    is left, of the prior of the correlations, is for the Metropolis step.
    """
    g, n = len(root), len(own)
    df_prior = 2 * eta + g - 1
    shape = n * (df[0] + g - 1) - df_prior - g + 1
    if not shape > 0:
        return 0
    sd, c, inverse = np.empty(g), np.zeros((g, g)), np.empty((g, g))
    for j in range(g):
        v = 0.0
        for t in range(j + 1):
            v += root[j, t] ** 2
        sd[j] = np.sqrt(v)
        for t in range(j + 1):
            c[j, t] = root[j, t] / sd[j]
    p, b = np.empty((g, g)), np.zeros((g, g))
    invert_root(c, inverse)
    gram(inverse, p)
    each = np.empty((n, g, g))
    for s in range(n):
        each[s] = c @ own[s]
        invert_root(each[s], inverse)
        b += inverse.T @ inverse
    scale = np.empty(g)
    psi = c @ c.T
    for k in range(g):
        scale[k] = np.sqrt(0.5 * p[k, k] / rng.standard_gamma(0.5 * df_prior))
    for i in range(g):
        for j in range(g):
            psi[i, j] *= scale[i] * scale[j]
            p[i, j] /= scale[i] * scale[j]
            b[i, j] /= scale[i] * scale[j]
    part, f = np.empty((g - 1, g - 1)), np.empty((g - 1, g - 1))
    beta, row, move, column = np.empty(g - 1), np.empty(g - 1), np.empty(g - 1), np.empty(g - 1)
    moved = 0
    for k in range(g):
        v, old = 1 / p[k, k], 1.0
        for i in range(g - 1):
            a = i + (i >= k)
            beta[i] = -p[a, k] / p[k, k]
            old += beta[i] ** 2
            for j in range(g - 1):
                part[i, j] = psi[a, j + (j >= k)]
        if not cholesky(part, f):
            continue
        v_new = 2 * rng.standard_gamma(0.5 * shape) / b[k, k]
        for i in range(g - 1):
            row[i] = rng.standard_normal() / np.sqrt(b[k, k])
        solve_root_transposed(f, row)
        new = 1.0
        for i in range(g - 1):
            move[i] = row[i] - b[i + (i >= k), k] / b[k, k]
            new += move[i] ** 2
        if np.log(rng.random()) < 0.5 * (old / v - new / v_new):
            moved += 1
            square = v_new
            for i in range(g - 1):
                a = i + (i >= k)
                value = 0.0
                for j in range(g - 1):
                    value += part[i, j] * move[j]
                    p[a, j + (j >= k)] += move[i] * move[j] / v_new - beta[i] * beta[j] / v
                column[i] = value
                square += value * move[i]
            _replace_column(k, column, move, square, v_new, psi, p)
    new_scale = np.empty(g)
    for k in range(g):
        new_scale[k] = np.sqrt(psi[k, k])
    for i in range(g):
        for j in range(g):
            psi[i, j] /= new_scale[i] * new_scale[j]
    if not cholesky(psi, c):
        return 0
    invert_root(c, inverse)
    for s in range(n):
        for i in range(g):
            for j in range(i + 1):
                each[s, i, j] *= scale[i] / new_scale[i]
        own[s] = inverse @ each[s]
    for i in range(g):
        for j in range(i + 1):
            root[i, j] = sd[i] * c[i, j]
    return moved


@compiled()
def move_rows_given_rates(
    rng, root, own, around, size, eta, prior, metric, weight, scale, step, moved, adapt
):
    """Move each row of the common root given the log rates, the matrices A fixed.

    A Langevin step as in :func:`hiercorr.kernels.joint.move_rows`.
    """
    g, n = len(root), len(own)
    new, inverse_common = root.copy(), np.empty((g, g))
    roots, rows = np.empty((n, g, g)), np.empty((n, g))
    roots_of_units(root, own, roots, rows)
    inverse, white = np.empty((n, g, g)), np.empty((n, g, g))
    new_inverse, new_white = np.empty((n, g, g)), np.empty((n, g, g))
    new_roots = np.empty((n, g, g))
    value = 0.0
    for s in range(n):
        _whitened(roots[s], around[s], inverse[s], white[s])
        value += _log_likelihood(roots[s], white[s], size[s])
    invert_root(root, inverse_common)
    density = value + log_prior_root(root, inverse_common, eta, prior)
    for j in range(g):
        count, h = j + 1, step[j]
        c = scale[j, :count, :count]
        grad, back, d = np.empty(count), np.empty(count), np.empty(count)
        row_gradient(root, inverse_common, eta, prior, j, grad)
        _add_rates_gradient(root, own, inverse, white, size, j, grad)
        ahead = grad.copy()
        solve_root(c, ahead)
        square = 0.0
        for t in range(count):
            square -= ahead[t] ** 2
            d[t] = h * ahead[t] + np.sqrt(h * (2 - h)) * rng.standard_normal()
        solve_root_transposed(c, d)
        for t in range(count):
            new[j, t] = root[j, t] + d[t]
        accept, proposed = 0.0, density
        if new[j, j] > 0:
            proposed = 0.0
            for s in range(n):
                root_of_unit(new, own[s], new_roots[s], rows[s])
                _whitened(new_roots[s], around[s], new_inverse[s], new_white[s])
                proposed += _log_likelihood(new_roots[s], new_white[s], size[s])
            invert_root(new, inverse_common)
            proposed += log_prior_root(new, inverse_common, eta, prior)
            row_gradient(new, inverse_common, eta, prior, j, back)
            _add_rates_gradient(new, own, new_inverse, new_white, size, j, back)
            both = 0.0
            for t in range(count):
                both += d[t] * (grad[t] + back[t])
            solve_root(c, back)
            for t in range(count):
                square += back[t] ** 2
            ratio = proposed - density - (both + 0.5 * h * square) / (2 - h)
            if ratio == ratio:
                accept = np.exp(min(ratio, 0.0))
        if rng.random() < accept:
            moved[j] += 1
            density = proposed
            for t in range(count):
                root[j, t] = new[j, t]
            inverse[:] = new_inverse
            white[:] = new_white
        else:
            for t in range(count):
                new[j, t] = root[j, t]
            invert_root(root, inverse_common)
        if adapt > 0:
            adapt_row(adapt, accept, grad, j, step, metric, weight, c)


@compiled()
def _add_rates_gradient(root, own, inverse, white, size, j, out):
    """Add the gradient by row j of the log density of the deviations of all units."""
    g = len(root)
    by_unit, a = np.empty(j + 1), np.empty(j + 1)
    for s in range(len(own)):
        for t in range(j + 1):
            v = 0.0
            for k in range(j, g):
                v += inverse[s, k, j] * white[s, k, t]
            by_unit[t] = v
        by_unit[j] -= size[s] * inverse[s, j, j]
        for p in range(j + 1):
            v = 0.0
            for t in range(p + 1):
                v += own[s, p, t] * by_unit[t]
            a[p] = v
        add_chain(root[j, : j + 1], own[s], a, out)


@compiled()
def other_df(rng, df, own, info, observed, new_own):
    r"""Propose other degrees of freedom; fill `new_own` and return them with the log ratio.

    The entries b of the inverse of A follow. Below the diagonal, :math:`t = b / \sqrt m` is normal
    with mean 0 and variance 1 / m. If its likelihood is that of an observation t' (`observed`) with
    information I (`info`, both (units, genes, genes)), its conditional distribution has the mean
    :math:`t' I / (I + m)` and the variance :math:`1 / (I + m)`: its standardised distance from that
    mean stays. Entries of the diagonal, chi, keep their distance from the mean.
    """
    n, g, _ = own.shape
    at = df[0]
    new = at * np.exp(4.0 * rng.random() * rng.standard_normal())
    inverse = np.empty((g, g))
    ratio = 0.0
    if not 0.01 < new < LARGEST:
        return at, -np.inf
    for s in range(n):
        invert_root(own[s], inverse)
        for i in range(g):
            for j in range(i):
                b, h = inverse[i, j], info[s, i, j]
                pull = h * observed[s, i, j]
                factor = np.sqrt((h + at) / (h + new))
                t = pull / (h + new) + factor * (b / np.sqrt(at) - pull / (h + at))
                inverse[i, j] = np.sqrt(new) * t
                ratio += 0.5 * (b * b - inverse[i, j] ** 2) + np.log(factor * np.sqrt(new / at))
            old = inverse[i, i]
            value = old + np.sqrt(new + i) - np.sqrt(at + i)
            if not value > 0:
                return at, -np.inf
            ratio += _log_chi(value, new + i) - _log_chi(old, at + i)
            inverse[i, i] = value
        invert_root(inverse, new_own[s])
    return new, ratio


@compiled()
def move_df(rng, root, own, around, size, df, prior, repeats):
    """Move the degrees of freedom: given the matrices of all units, and given A's distances."""
    n, g, _ = own.shape
    new_own, inverse, white = np.empty_like(own), np.empty((g, g)), np.empty((g, g))
    unit, rows = np.empty((g, g)), np.empty(g)
    # with Q fixed, the scale of which does not matter: Q m is
    diagonal, square = np.empty((n, g)), 0.0
    for s in range(n):
        invert_root(own[s], inverse)
        for i in range(g):
            diagonal[s, i] = inverse[i, i] / np.sqrt(df[0])
            for j in range(i):
                square += inverse[i, j] ** 2 / df[0]
    entries, started = n * g * (g + 1) / 2, df[0]
    for _ in range(2 * repeats):
        at, value = df[0], 0.0
        new = at * np.exp(1.5 * rng.random() * rng.standard_normal())
        if not 0.01 < new < LARGEST:
            continue
        for s in range(n):
            for i in range(g):
                value += _log_chi(diagonal[s, i] * np.sqrt(new), new + i)
                value -= _log_chi(diagonal[s, i] * np.sqrt(at), at + i)
        value += 0.5 * entries * np.log(new / at) - 0.5 * square * (new - at)
        value += log_prior_df(new, prior) - log_prior_df(at, prior)
        if np.log(rng.random()) < value:
            df[0] = new
    factor = np.sqrt(started / df[0])
    for s in range(n):
        for i in range(g):
            for j in range(i + 1):
                own[s, i, j] *= factor
    density, nothing = 0.0, np.zeros_like(own)
    for s in range(n):
        root_of_unit(root, own[s], unit, rows)
        _whitened(unit, around[s], inverse, white)
        density += _log_likelihood(unit, white, size[s])
    for _ in range(repeats):
        new, ratio = other_df(rng, df, own, nothing, nothing, new_own)
        if new == df[0]:
            continue
        value = 0.0
        for s in range(n):
            root_of_unit(root, new_own[s], unit, rows)
            _whitened(unit, around[s], inverse, white)
            value += _log_likelihood(unit, white, size[s])
        ratio += value - density + log_prior_df(new, prior) - log_prior_df(df[0], prior)
        if np.log(rng.random()) < ratio:
            df[0] = new
            own[:] = new_own
            density = value


@compiled()
def add_entries(own, df, info, total, weight):
    """Add the entries t of :func:`other_df` to `total`, and I / (I + m) to `weight`."""
    g = own.shape[1]
    inverse = np.empty((g, g))
    for s in range(len(own)):
        invert_root(own[s], inverse)
        for i in range(g):
            for j in range(i):
                total[s, i, j] += inverse[i, j] / np.sqrt(df[0])
                weight[s, i, j] += info[s, i, j] / (info[s, i, j] + df[0])
