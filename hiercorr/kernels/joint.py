r"""Loops of the joint Bayesian model of a panel; :mod:`hiercorr.bayes.joint` explains the sampler.

Arrays over cells have shape (genes, cells). The cells of each sample are followed by cells of depth
0 up to a multiple of ``LANES``. Arguments shared by the functions:

- `x`, `s`: counts (genes, cells) and relative depths (cells,)
- `starts`, `stops`: first cell of each sample and the cell after its last; `sample`: sample of each
  cell
- `unit`: unit (:mod:`hiercorr.kernels.joint_units`) of each sample
- `u`, `lam`: log rates and expected counts :math:`s e^u`
- `mean`: mean log rates (samples, genes)
- `L` or `root`: lower Cholesky factor of a covariance matrix; `omega`: inverse of the matrix
"""

from __future__ import annotations

import numpy as np

from hiercorr.kernels import joint_units as units
from hiercorr.kernels.bayes import log_prior
from hiercorr.kernels.roots import (
    adapt_row,
    cholesky,
    draw_gaussian,
    gram,
    invert_root,
    log_prior_root,
    precision,
    prior_sd,
    row_gradient,
    solve_root,
    solve_root_transposed,
)
from hiercorr.runtime.compile import compiled

LANES = 16  # cells whose Cholesky factors are computed side by side
# Sums may be reordered, so that loops vectorise. Never sum and store in one loop: it is vectorised
# where memory addresses allow it only, and then rounded otherwise.
_FAST = {"reassoc", "contract"}
_ENOUGH = 30  # Newton steps


@compiled()
def _exp(x):
    """Exponential of numbers in -40 .. 40, to 1e-12: arithmetic alone, so that loops vectorise."""
    t = min(max(x, -40.0), 40.0) * (1 / 256)
    p = 1 + t / 10
    p = 1 + t / 9 * p
    p = 1 + t / 8 * p
    p = 1 + t / 7 * p
    p = 1 + t / 6 * p
    p = 1 + t / 5 * p
    p = 1 + t / 4 * p
    p = 1 + t / 3 * p
    p = 1 + t / 2 * p
    p = 1 + t * p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p


@compiled(fastmath=_FAST)
def expected(s, u, lam):
    """Fill `lam` with the expected counts."""
    for g in range(u.shape[0]):
        for c in range(u.shape[1]):
            lam[g, c] = s[c] * _exp(u[g, c])


@compiled(fastmath=_FAST)
def _factorise_precisions(omega, curvature, first, root, inverse, acc):
    """Fill the Cholesky factors of omega + diag(curvature) of cells side by side.

    Parameters
    ----------
    omega : ndarray, shape (genes, genes)
    curvature : ndarray, shape (genes, cells)
    first : int
        First cell.
    root, inverse : ndarray, shape (genes, genes, LANES) and (genes, LANES)
        Results: factors, and 1 over their diagonals.
    acc : ndarray, shape (LANES,)
        Workspace.
    """
    for i in range(len(omega)):
        for j in range(i + 1):
            for c in range(LANES):
                acc[c] = omega[i, j]
            if i == j:
                for c in range(LANES):
                    acc[c] += curvature[i, first + c]
            for k in range(j):
                for c in range(LANES):
                    acc[c] -= root[i, k, c] * root[j, k, c]
            if i == j:
                for c in range(LANES):
                    root[i, i, c] = np.sqrt(acc[c])
                    inverse[i, c] = 1 / root[i, i, c]
            else:
                for c in range(LANES):
                    root[i, j, c] = acc[c] * inverse[j, c]


@compiled(fastmath=_FAST)
def move_cells(rng, x, s, sample, unit, u, lam, curvature, mean, omegas):
    r"""Move the log rates of every cell by one Metropolis step; return the share accepted.

    The proposal is normal with precision :math:`A^{-1} = \Omega + P` and mean
    :math:`A (P u + x - s e^u + \Omega m)`, a Newton step with the fixed curvature P: it is the
    posterior itself where the likelihood is quadratic with that curvature.
    """
    n_genes, n_cells = u.shape
    om = np.empty_like(mean)
    for c in range(len(mean)):
        om[c] = mean[c] @ omegas[unit[c]]
    root = np.empty((n_genes, n_genes, LANES))
    w, new, rate = (
        np.empty((n_genes, LANES)),
        np.empty((n_genes, LANES)),
        np.empty((n_genes, LANES)),
    )
    inverse, acc, ratio = np.empty((n_genes, LANES)), np.empty(LANES), np.empty(LANES)
    moved = 0
    for a in range(0, n_cells, LANES):
        omega, pull = omegas[unit[sample[a]]], om[sample[a]]
        _factorise_precisions(omega, curvature, a, root, inverse, acc)
        for c in range(LANES):
            ratio[c] = 0.0
        for i in range(n_genes):
            for c in range(LANES):
                p, v = curvature[i, a + c], u[i, a + c]
                acc[c] = p * v + x[i, a + c] - lam[i, a + c] + pull[i]
            for k in range(i):
                for c in range(LANES):
                    acc[c] -= root[i, k, c] * w[k, c]
            for c in range(LANES):
                w[i, c] = acc[c] * inverse[i, c]
                ratio[c] += 0.5 * w[i, c] * w[i, c]
        for i in range(n_genes):
            for c in range(LANES):
                w[i, c] += rng.standard_normal()
        for i in range(n_genes - 1, -1, -1):
            for c in range(LANES):
                acc[c] = w[i, c]
            for k in range(i + 1, n_genes):
                for c in range(LANES):
                    acc[c] -= root[k, i, c] * new[k, c]
            for c in range(LANES):
                new[i, c] = acc[c] * inverse[i, c]
        for i in range(n_genes):
            for c in range(LANES):
                rate[i, c] = s[a + c] * _exp(new[i, c])
            for c in range(LANES):
                p, v, t = curvature[i, a + c], u[i, a + c], new[i, c]
                back = x[i, a + c] - rate[i, c]
                ahead = x[i, a + c] - lam[i, a + c]
                ratio[c] += x[i, a + c] * (t - v) - (rate[i, c] - lam[i, a + c])
                ratio[c] += 0.5 * p * (t * t - v * v) - t * ahead + v * back
                acc[c] = p * t + back + pull[i]
            for k in range(i):
                for c in range(LANES):
                    acc[c] -= root[i, k, c] * w[k, c]
            for c in range(LANES):
                w[i, c] = acc[c] * inverse[i, c]
                ratio[c] -= 0.5 * w[i, c] * w[i, c]
        for c in range(LANES):
            if s[a + c] > 0 and np.log(rng.random()) < ratio[c]:
                moved += 1
                for i in range(n_genes):
                    u[i, a + c] = new[i, c]
                    lam[i, a + c] = rate[i, c]
    return moved


@compiled(fastmath=_FAST)
def residuals(u, mean, starts, stops, e):
    """Fill `e` with the deviations of log rates from the means of their samples."""
    e[:] = 0.0
    for g in range(u.shape[0]):
        for c in range(len(starts)):
            m = mean[c, g]
            for i in range(starts[c], stops[c]):
                e[g, i] = u[g, i] - m


@compiled(fastmath=_FAST)
def scatters(e, starts, stops, unit, out):
    """Fill `out` (units, genes, genes) with the sums of squares and products of the deviations."""
    out[:] = 0.0
    for k in range(len(starts)):
        for i in range(e.shape[0]):
            for j in range(i + 1):
                v = 0.0
                for c in range(starts[k], stops[k]):
                    v += e[i, c] * e[j, c]
                out[unit[k], i, j] += v
    for k in range(len(out)):
        for i in range(e.shape[0]):
            for j in range(i):
                out[k, j, i] = out[k, i, j]


@compiled(fastmath=_FAST)
def standardise(root, e):
    """Replace deviations by independent standard normal ones, ``root^-1 e``."""
    for j in range(len(root)):
        for k in range(j):
            r = root[j, k]
            for c in range(e.shape[1]):
                e[j, c] -= r * e[k, c]
        r = 1 / root[j, j]
        for c in range(e.shape[1]):
            e[j, c] *= r


@compiled()
def draw_covariance(rng, scatter, n, root, eta, prior):
    r"""Draw a covariance matrix given n normal vectors with this scatter; return whether it moved.

    The prior of the correlations is that of an inverse Wishart matrix Q; scales
    :math:`\delta = \sigma / \sqrt{q}` with q from its distribution given the correlations make the
    proposal the exact conditional of Q, and only the prior of the standard deviations remains for
    the Metropolis step.
    """
    g = len(root)
    df = 2 * eta + g - 1
    family, a, b = int(prior[0]), prior[1], prior[2]
    omega = precision(root)
    delta = np.empty(g)
    for k in range(g):
        v = 0.0
        for t in range(k + 1):
            v += root[k, t] ** 2
        q = 0.5 * omega[k, k] * v / rng.standard_gamma(0.5 * df)
        delta[k] = np.sqrt(v / q)
    psi, c = np.empty((g, g)), np.empty((g, g))
    for i in range(g):
        for j in range(g):
            psi[i, j] = scatter[i, j] / (delta[i] * delta[j])
        psi[i, i] += 1.0
    if not cholesky(psi, c):
        return False
    t, ti = np.zeros((g, g)), np.empty((g, g))
    for i in range(g):
        t[i, i] = np.sqrt(2 * rng.standard_gamma(0.5 * (df + n - i)))
        for j in range(i):
            t[i, j] = rng.standard_normal()
    invert_root(t, ti)
    f = c @ ti.T
    q_new = f @ f.T
    for i in range(g):
        for j in range(g):
            q_new[i, j] *= delta[i] * delta[j]
    new = np.empty((g, g))
    if not cholesky(q_new, new):
        return False
    ratio = prior_sd(new, family, a, b) - prior_sd(root, family, a, b)
    if np.log(rng.random()) < ratio:
        root[:] = new
        return True
    return False


@compiled()
def draw_covariance_rows(rng, scatter, n, root, eta, prior):
    """Draw a covariance matrix as :func:`draw_covariance`, but a gene at a time; count moves.

    For few vectors: the Metropolis step then concerns one standard deviation at a time.
    """
    g = len(root)
    df = 2 * eta + g - 1
    family, a, b = int(prior[0]), prior[1], prior[2]
    omega = precision(root)
    delta, q = np.empty(g), root @ root.T
    for k in range(g):
        delta[k] = np.sqrt(rng.standard_gamma(0.5 * df) * 2 / omega[k, k])
    psi = np.empty((g, g))
    for i in range(g):
        for j in range(g):
            psi[i, j] = scatter[i, j] / (delta[i] * delta[j])
            q[i, j] /= delta[i] * delta[j]
        psi[i, i] += 1.0
    moved = 0
    order = np.empty(g, np.int64)
    c, f, part = np.empty((g, g)), np.empty((g, g)), np.empty((g, g))
    for k in range(g):
        for i in range(g - 1):
            order[i] = i + (i >= k)
        order[g - 1] = k
        for i in range(g):
            for j in range(g):
                part[i, j] = psi[order[i], order[j]]
        if not cholesky(part, c):
            continue
        for i in range(g):
            for j in range(g):
                part[i, j] = q[order[i], order[j]]
        if not cholesky(part, f):
            continue
        # psi = c c': psi_kk.r = c_kk^2, psi_rr^-1 psi_r = c_rr'^-1 c_kr
        v = 0.5 * c[g - 1, g - 1] ** 2 / rng.standard_gamma(0.5 * (df + n))
        row = np.empty(g - 1)
        for i in range(g - 1):
            row[i] = c[g - 1, i] + np.sqrt(v) * rng.standard_normal()
        solve_root_transposed(c[: g - 1, : g - 1], row)
        new = np.zeros(g)  # row of the root of q
        square = v
        for i in range(g - 1):
            for j in range(i, g - 1):
                new[i] += f[j, i] * row[j]
            square += new[i] ** 2
        old = 0.5 * np.log(q[k, k]) + np.log(delta[k])
        at = 0.5 * np.log(square) + np.log(delta[k])
        ratio = log_prior(at, family, a, b)[0] - log_prior(old, family, a, b)[0]
        if np.log(rng.random()) < ratio:
            moved += 1
            q[k, k] = square
            for i in range(g - 1):
                value = 0.0
                for j in range(i + 1):
                    value += f[i, j] * new[j]
                q[order[i], k] = value
                q[k, order[i]] = value
    for i in range(g):
        for j in range(g):
            q[i, j] *= delta[i] * delta[j]
    if cholesky(q, f):
        root[:] = f
    return moved


@compiled()
def move_scales(rng, scatter, n, root, prior):
    """Move the standard deviations given the correlations, by Metropolis steps."""
    g = len(root)
    family, a, b = int(prior[0]), prior[1], prior[2]
    omega = precision(root)
    step = 2.4 / np.sqrt(2.0 * n + 3.0)
    for k in range(g):
        v, cross = 0.0, 0.0
        for t in range(k + 1):
            v += root[k, t] ** 2
        for l in range(g):
            if l != k:
                cross += omega[k, l] * scatter[k, l]
        at = 0.5 * np.log(v)
        move = step * rng.standard_normal()
        r = np.exp(-move)  # old / new
        square = omega[k, k] * scatter[k, k]
        ratio = -n * move - 0.5 * square * (r * r - 1) - cross * (r - 1)
        ratio += log_prior(at + move, family, a, b)[0] - log_prior(at, family, a, b)[0]
        if np.log(rng.random()) < ratio:
            for t in range(k + 1):
                root[k, t] /= r
            for l in range(g):
                omega[k, l] *= r
                omega[l, k] *= r


@compiled(fastmath=_FAST)
def _add_data_gradient(x, lam, y, starts, stops, unit, own, row, out):
    """Add the gradient of one gene's Poisson log likelihood, by a row of L and the intercept."""
    size, last = len(row), len(out) - 1
    a = np.zeros((len(own), size))
    for k in range(len(starts)):
        v = 0.0
        for c in range(starts[k], stops[k]):
            v += x[c] - lam[c]
        out[last] += v
        for t in range(size):
            v = 0.0
            for c in range(starts[k], stops[k]):
                v += (x[c] - lam[c]) * y[t, c]
            a[unit[k], t] += v
    for k in range(len(own)):
        units.add_chain(row, own[k], a[k], out)


@compiled(fastmath=_FAST)
def _moved_row(x, lam, y, starts, stops, unit, change, d, shift, rate):
    """Fill the shifts of log rates and the new rates; return the log likelihood gained.

    `change` (units, genes) are the changes of the row in each unit, `d` that of the intercept.
    """
    value = 0.0
    for k in range(len(starts)):
        for c in range(starts[k], stops[k]):
            shift[c] = d
        for t in range(change.shape[1]):
            r = change[unit[k], t]
            for c in range(starts[k], stops[k]):
                shift[c] += r * y[t, c]
        for c in range(starts[k], stops[k]):
            rate[c] = lam[c] * _exp(shift[c])
        for c in range(starts[k], stops[k]):
            value += x[c] * shift[c] - (rate[c] - lam[c])
    return value


@compiled()
def move_rows(
    rng,
    x,
    u,
    lam,
    y,
    starts,
    stops,
    unit,
    own,
    root,
    mean,
    coefficient,
    prior_mean,
    prior_sd,
    eta,
    prior,
    metric,
    weight,
    scale,
    step,
    moved,
    adapt,
):
    r"""Move each row of the root with the standardised deviations fixed: a Poisson regression.

    Row j is the vector of coefficients of gene j's log rates on ``y[:j + 1]``; the gene's intercept
    and means move with it, because the counts determine mean + variance / 2 best. The proposal is
    :math:`l + h A g + \sqrt{h (2 - h)} A^{1/2}\xi` with the gradient g of the log density; it is
    the conditional distribution itself where that is normal with covariance A and h is 1.
    :math:`A^{-1}`, the expected curvature, is the mean of :math:`g g'` over the warm-up (`metric`,
    a sum from its start value, and `weight`, its number of terms); `scale` is the root.
    """
    g, n = u.shape
    inverse, new = np.empty((g, g)), root.copy()
    shift, rate, change = np.zeros(n), np.zeros(n), np.empty((len(own), g))
    invert_root(root, inverse)
    density = log_prior_root(root, inverse, eta, prior)
    for j in range(g):
        size, h = j + 2, step[j]
        c = scale[j, :size, :size]
        grad, back, d = np.empty(size), np.empty(size), np.empty(size)
        at, sd = coefficient[0, j] - prior_mean[j, 0], prior_sd[j, 0]
        row_gradient(root, inverse, eta, prior, j, grad)
        grad[j + 1] = -at / sd**2
        _add_data_gradient(x[j], lam[j], y, starts, stops, unit, own, root[j, : j + 1], grad)
        ahead = grad.copy()
        solve_root(c, ahead)
        square = 0.0
        for t in range(size):
            square -= ahead[t] ** 2
            d[t] = h * ahead[t] + np.sqrt(h * (2 - h)) * rng.standard_normal()
        solve_root_transposed(c, d)
        for t in range(j + 1):
            new[j, t] = root[j, t] + d[t]
        accept, proposed = 0.0, density
        if new[j, j] > 0:
            for k in range(len(own)):
                before = units.row_scale(root[j, : j + 1], own[k])
                after = units.row_scale(new[j, : j + 1], own[k])
                for t in range(j + 1):
                    change[k, t] = after * new[j, t] - before * root[j, t]
            gained = _moved_row(
                x[j], lam[j], y, starts, stops, unit, change[:, : j + 1], d[j + 1], shift, rate
            )
            gained += 0.5 * (at**2 - (at + d[j + 1]) ** 2) / sd**2
            invert_root(new, inverse)
            proposed = log_prior_root(new, inverse, eta, prior)
            row_gradient(new, inverse, eta, prior, j, back)
            back[j + 1] = -(at + d[j + 1]) / sd**2
            _add_data_gradient(x[j], rate, y, starts, stops, unit, own, new[j, : j + 1], back)
            both = 0.0
            for t in range(size):
                both += d[t] * (grad[t] + back[t])
            solve_root(c, back)
            for t in range(size):
                square += back[t] ** 2
            ratio = gained + proposed - density - (both + 0.5 * h * square) / (2 - h)
            if ratio == ratio:
                accept = np.exp(min(ratio, 0.0))
        if rng.random() < accept:
            moved[j] += 1
            density = proposed
            for t in range(j + 1):
                root[j, t] = new[j, t]
            coefficient[0, j] += d[j + 1]
            for k in range(len(mean)):
                mean[k, j] += d[j + 1]
            for k in range(n):
                u[j, k] += shift[k]
                lam[j, k] = rate[k]
        else:
            for t in range(j + 1):
                new[j, t] = root[j, t]
            invert_root(root, inverse)
        if adapt > 0:
            adapt_row(adapt, accept, grad, j, step, metric, weight, c)


@compiled()
def draw_means(rng, u, starts, stops, unit, expectation, omegas, omega_between, mean):
    """Draw the means of the samples given log rates and their expectations (samples, genes)."""
    g = u.shape[0]
    q, h, total = np.empty((g, g)), np.empty(g), np.empty(g)
    for c in range(len(starts)):
        n, omega = stops[c] - starts[c], omegas[unit[c]]
        for i in range(g):
            v = 0.0
            for k in range(starts[c], stops[c]):
                v += u[i, k]
            total[i] = v
        for i in range(g):
            h[i] = 0.0
            for j in range(g):
                q[i, j] = n * omega[i, j] + omega_between[i, j]
                h[i] += omega[i, j] * total[j] + omega_between[i, j] * expectation[c, j]
        mean[c] = draw_gaussian(rng, q, h)


@compiled()
def _newton_move(rng, at, count, rate, prec, centre):
    """Move v of the density count v - rate e^v - prec (v - centre)^2 / 2, by independence.

    The proposal is Student's t with 5 degrees of freedom at the mode, scaled by the curvature.
    """
    v = at
    for _ in range(_ENOUGH):
        e = rate * np.exp(min(v, 300.0))
        d = (count - e - prec * (v - centre)) / (e + prec)
        v += min(max(d, -2.0), 2.0)
        if abs(d) < 1e-6:
            break
    sd = 1 / np.sqrt(rate * np.exp(v) + prec)
    new = v + sd * rng.standard_normal() / np.sqrt(rng.standard_gamma(2.5) / 2.5)
    ratio = count * (new - at) - rate * (np.exp(new) - np.exp(at))
    ratio -= 0.5 * prec * ((new - centre) ** 2 - (at - centre) ** 2)
    ratio += 3 * np.log((5 + ((new - v) / sd) ** 2) / (5 + ((at - v) / sd) ** 2))
    return new if np.log(rng.random()) < ratio else at


@compiled()
def shift_means(rng, count, rate, expectation, omega_between, mean):
    """Move the means with the cells' deviations fixed.

    `count` are the counts and `rate` the sums of ``s e^deviation`` of each sample and gene.
    """
    n, g = mean.shape
    for c in range(n):
        for i in range(g):
            pull = 0.0
            for j in range(g):
                if j != i:
                    pull += omega_between[i, j] * (mean[c, j] - expectation[c, j])
            centre = expectation[c, i] - pull / omega_between[i, i]
            mean[c, i] = _newton_move(
                rng, mean[c, i], count[c, i], rate[c, i], omega_between[i, i], centre
            )


@compiled()
def shift_intercepts(rng, count, rate, mean, coefficient, prior_mean, prior_sd):
    """Move all means of a gene together with its intercept."""
    n, g = mean.shape
    for i in range(g):
        x, r = 0.0, 0.0
        for c in range(n):
            x += count[c, i]
            r += rate[c, i] * np.exp(mean[c, i])
        at = coefficient[0, i]
        d = _newton_move(rng, 0.0, x, r, 1 / prior_sd[i, 0] ** 2, prior_mean[i, 0] - at)
        coefficient[0, i] += d
        for c in range(n):
            mean[c, i] += d


@compiled()
def stretch(rng, count, rate, mean, deviation, unit, root, prior):
    """Move the standard deviation of each gene with its standardised deviations fixed.

    `deviation` (units, genes) are the deviations that are stretched, `unit` that of each sample.
    """
    n, g = mean.shape
    family, a, b = int(prior[0]), prior[1], prior[2]
    for i in range(g):
        v = 0.0
        for t in range(i + 1):
            v += root[i, t] ** 2
        at = 0.5 * np.log(v)
        move = 0.6 * rng.random() * rng.standard_normal()
        factor = np.exp(move)
        ratio = log_prior(at + move, family, a, b)[0] - log_prior(at, family, a, b)[0]
        for c in range(n):
            d = deviation[unit[c], i] * (factor - 1)
            ratio += count[c, i] * d - rate[c, i] * np.exp(mean[c, i]) * (np.exp(d) - 1)
        if np.log(rng.random()) < ratio:
            for c in range(n):
                mean[c, i] += deviation[unit[c], i] * (factor - 1)
            for k in range(len(deviation)):
                deviation[k, i] *= factor
            for t in range(i + 1):
                root[i, t] *= factor


@compiled()
def draw_coefficients(rng, design, rest, omega, prior_mean, prior_sd, coefficient):
    """Draw the coefficients given the means less the effects of donors (`rest`)."""
    n, k = design.shape
    g = rest.shape[1]
    q, h = np.zeros((k * g, k * g)), np.zeros(k * g)
    for p in range(k):
        for i in range(g):
            h[p * g + i] = prior_mean[i, p] / prior_sd[i, p] ** 2
            q[p * g + i, p * g + i] = 1 / prior_sd[i, p] ** 2
        for r in range(k):
            v = 0.0
            for c in range(n):
                v += design[c, p] * design[c, r]
            for i in range(g):
                for j in range(g):
                    q[p * g + i, r * g + j] += v * omega[i, j]
    pull = rest @ omega
    for p in range(k):
        for c in range(n):
            for i in range(g):
                h[p * g + i] += design[c, p] * pull[c, i]
    out = draw_gaussian(rng, q, h)
    for p in range(k):
        for i in range(g):
            coefficient[p, i] = out[p * g + i]


@compiled()
def draw_effects(rng, rest, unit, omega, omega_donor, effect):
    """Draw the effects of donors given the means less the formula's part (`rest`)."""
    g = rest.shape[1]
    for d in range(len(effect)):
        q, h, n = omega_donor.copy(), np.zeros(g), 0
        for c in range(len(rest)):
            if unit[c] == d:
                n += 1
                for i in range(g):
                    for j in range(g):
                        h[i] += omega[i, j] * rest[c, j]
        q += n * omega
        effect[d] = draw_gaussian(rng, q, h)


@compiled()
def _outer_sums(b):
    g = b.shape[1]
    out = np.zeros((g, g))
    for c in range(len(b)):
        for i in range(g):
            for j in range(g):
                out[i, j] += b[c, i] * b[c, j]
    return out


@compiled()
def move_population(
    rng,
    count,
    rate,
    design,
    donor,
    blocked,
    mean,
    coefficient,
    effect,
    root_between,
    root_donor,
    prior_mean,
    prior_sd,
    eta,
    prior,
    repeats,
):
    """Move everything above the cells, given counts and rates of samples; return acceptances."""
    accepted = 0
    each = np.arange(len(mean))
    for _ in range(repeats):
        expectation = design @ coefficient
        if blocked:
            expectation += effect[donor]
        shift_means(rng, count, rate, expectation, precision(root_between), mean)
        shift_intercepts(rng, count, rate, mean, coefficient, prior_mean, prior_sd)
        expectation = design @ coefficient
        if blocked:
            expectation += effect[donor]
        stretch(rng, count, rate, mean, mean - expectation, each, root_between, prior)
        if blocked:
            stretch(rng, count, rate, mean, effect, donor, root_donor, prior)
            for _ in range(2):
                rest = mean - design @ coefficient
                omega = precision(root_between)
                draw_effects(rng, rest, donor, omega, precision(root_donor), effect)
                around = _outer_sums(effect)
                draw_covariance_rows(rng, around, len(effect), root_donor, eta, prior)
                move_scales(rng, around, len(effect), root_donor, prior)
                b = rest - effect[donor]
                around = _outer_sums(b)
                draw_covariance_rows(rng, around, len(b), root_between, eta, prior)
        rest = mean - effect[donor] if blocked else mean.copy()
        omega = precision(root_between)
        draw_coefficients(rng, design, rest, omega, prior_mean, prior_sd, coefficient)
        around = _outer_sums(rest - design @ coefficient)
        accepted += draw_covariance_rows(rng, around, len(mean), root_between, eta, prior)
        move_scales(rng, around, len(mean), root_between, prior)
    return accepted


@compiled(fastmath=_FAST)
def rates_of_samples(lam, mean, starts, stops, rate):
    """Fill `rate` with the sums over each sample's cells of ``s e^deviation``."""
    for c in range(len(starts)):
        for g in range(lam.shape[0]):
            v = 0.0
            for i in range(starts[c], stops[c]):
                v += lam[g, i]
            rate[c, g] = v * np.exp(-mean[c, g])


@compiled(fastmath=_FAST)
def shift_cells(u, lam, starts, stops, change):
    """Shift the log rates of each sample's cells by `change` (samples, genes)."""
    for c in range(len(starts)):
        for g in range(lam.shape[0]):
            d = change[c, g]
            factor = np.exp(d)
            for i in range(starts[c], stops[c]):
                u[g, i] += d
                lam[g, i] *= factor


@compiled(fastmath=_FAST)
def follow_cells(
    x, s, sample, unit, u, lam, curvature, pseudo, mean, omegas, new_omegas, new, rate
):
    r"""Let the log rates of every cell follow a change of the covariance matrices of the units.

    Where the likelihood of a cell is that of the observations `pseudo` with precision `curvature`
    P, its log rates are normal with the precision :math:`F F' = \Omega + P`. What is left fixed are
    the deviations from the mean of that distribution, standardised by F.

    Fills `new` and `rate` with the log rates and expected counts. Returns the log of the ratio of
    the densities (units,), without that of the determinants of `omegas`, with that of the map.
    """
    n_genes, n_cells = u.shape
    gained = np.zeros(len(omegas))
    root, inverse = np.empty((n_genes, n_genes, LANES)), np.empty((n_genes, LANES))
    w, v, acc = np.empty((n_genes, LANES)), np.empty((n_genes, LANES)), np.empty(LANES)
    ratio = np.empty(LANES)
    for a in range(0, n_cells, LANES):
        k = unit[sample[a]]
        m = mean[sample[a]]
        for c in range(LANES):
            ratio[c] = 0.0
        for side in range(2):
            omega = omegas[k] if side == 0 else new_omegas[k]
            sign = -1.0 if side == 0 else 1.0
            _factorise_precisions(omega, curvature, a, root, inverse, acc)
            for i in range(n_genes):
                for c in range(LANES):
                    ratio[c] += sign * np.log(inverse[i, c])
            around = 0.0
            for i in range(n_genes):
                pull = 0.0
                for j in range(n_genes):
                    pull += omega[i, j] * m[j]
                around += m[i] * pull
                for c in range(LANES):
                    acc[c] = curvature[i, a + c] * pseudo[i, a + c] + pull
                for t in range(i):
                    for c in range(LANES):
                        acc[c] -= root[i, t, c] * w[t, c]
                for c in range(LANES):
                    w[i, c] = acc[c] * inverse[i, c]
                    ratio[c] += sign * 0.5 * w[i, c] * w[i, c]
            for c in range(LANES):
                ratio[c] -= sign * 0.5 * around
            if side == 0:
                for i in range(n_genes):
                    for c in range(LANES):
                        acc[c] = -w[i, c]
                    for t in range(i, n_genes):
                        for c in range(LANES):
                            acc[c] += root[t, i, c] * u[t, a + c]
                    for c in range(LANES):
                        v[i, c] = acc[c]
        for i in range(n_genes - 1, -1, -1):
            for c in range(LANES):
                acc[c] = w[i, c] + v[i, c]
            for t in range(i + 1, n_genes):
                for c in range(LANES):
                    acc[c] -= root[t, i, c] * new[t, a + c]
            for c in range(LANES):
                new[i, a + c] = acc[c] * inverse[i, c]
        for i in range(n_genes):
            for c in range(LANES):
                t, old = new[i, a + c], u[i, a + c]
                rate[i, a + c] = s[a + c] * _exp(t)
                ratio[c] += x[i, a + c] * (t - old) - (rate[i, a + c] - lam[i, a + c])
                far, near = t - pseudo[i, a + c], old - pseudo[i, a + c]
                ratio[c] += 0.5 * curvature[i, a + c] * (far * far - near * near)
        for c in range(LANES):
            if s[a + c] > 0:
                gained[k] += ratio[c]
    return gained


@compiled()
def move_df_with_cells(
    rng,
    x,
    s,
    sample,
    unit,
    size,
    u,
    lam,
    curvature,
    pseudo,
    mean,
    root,
    own,
    df,
    prior,
    info,
    observed,
    new_u,
    new_lam,
):
    """Move the degrees of freedom of the units' matrices, with which all log rates follow."""
    n, g, _ = own.shape
    new_own = np.empty_like(own)
    new, ratio = units.other_df(rng, df, own, info, observed, new_own)
    if new == df[0]:
        return False
    omegas, new_omegas = np.empty_like(own), np.empty_like(own)
    unit_root, inverse, scale = np.empty((g, g)), np.empty((g, g)), np.empty(g)
    for k in range(n):
        units.root_of_unit(root, own[k], unit_root, scale)
        invert_root(unit_root, inverse)
        gram(inverse, omegas[k])
        for i in range(g):
            ratio += size[k] * np.log(unit_root[i, i])
        units.root_of_unit(root, new_own[k], unit_root, scale)
        invert_root(unit_root, inverse)
        gram(inverse, new_omegas[k])
        for i in range(g):
            ratio -= size[k] * np.log(unit_root[i, i])
    ratio += follow_cells(
        x, s, sample, unit, u, lam, curvature, pseudo, mean, omegas, new_omegas, new_u, new_lam
    ).sum()
    ratio += units.log_prior_df(new, prior) - units.log_prior_df(df[0], prior)
    if np.log(rng.random()) < ratio:
        df[0] = new
        own[:] = new_own
        u[:] = new_u
        lam[:] = new_lam
        return True
    return False


@compiled(fastmath=_FAST)
def unscale(e, starts, stops, unit, scale):
    """Divide the deviations of each unit's cells by the scales (units, genes) of its rows."""
    for k in range(len(starts)):
        for j in range(len(e)):
            r = 1 / scale[unit[k], j]
            for c in range(starts[k], stops[k]):
                e[j, c] *= r


@compiled()
def sweep_chain(
    rng,
    sweeps,
    thin,
    adapt,
    cells,
    population,
    priors,
    state,
    tuning,
    kept,
):
    """Run a chain and keep every `thin`-th state.

    Parameters
    ----------
    rng : Generator
    sweeps, thin : int
    adapt : float
        Rate of adaptation; 0 after the warm-up.
    cells : tuple
        x, s, sample, starts, stops, counts of samples (samples, genes).
    population : tuple
        design, donor of each sample, whether there are donors, repeats of the moves above cells,
        unit of each sample, cells of each unit, whether the matrices of units differ.
    priors : tuple
        eta and (family, parameters) of standard deviations within samples, then above, mean and
        standard deviation of the coefficients (genes, coefficients), and (family, parameters) of
        the heterogeneity tau.
    state : tuple
        u, lam, mean, coefficient, effect, roots within, between and of donors, own, df: changed in
        place.
    tuning : tuple
        curvature and observations of the quadratic approximation of the cells' likelihood (genes,
        cells), sums of lam and u over the warm-up; accepted moves of cells, of the covariances
        within (or the degrees of freedom), between, of units and their common correlations; then
        metric, weight, scale, step and accepted moves of the rows (see :func:`move_rows`) with the
        standardised deviations fixed, and the same with the log rates fixed; information and
        observations of the approximation of the units' likelihood, and sums over the warm-up
        (units, genes, genes; see :func:`hiercorr.kernels.joint_units.other_df`): changed in place.
    kept : tuple
        Arrays of the kept draws, first dimension sweeps // thin: roots within, between and of
        donors, mean, coefficient, tau, correlations of units.
    """
    x, s, sample, starts, stops, count = cells
    design, donor, blocked, repeats, unit, size, varies = population
    eta_w, prior_w, eta_b, prior_b, prior_mean, prior_sd_, prior_tau = priors
    u, lam, mean, coefficient, effect, root, root_between, root_donor, own, df = state
    curvature, pseudo, total_lam, total_u, moved = tuning[:5]
    metric, weight, scale, step, moved_rows = tuning[5:10]
    metric_u, weight_u, scale_u, step_u, moved_rows_u = tuning[10:15]
    info, observed, total_own, weight_own = tuning[15:]
    n_units, g, _ = own.shape
    e, rate = np.empty_like(u), np.empty_like(mean)
    new_u, new_lam = np.empty_like(u), np.empty_like(u)
    roots, row_scales = np.empty_like(own), np.empty((n_units, g))
    omegas, around, inverse = np.empty_like(own), np.empty_like(own), np.empty((g, g))
    for k in range(sweeps):
        units.roots_of_units(root, own, roots, row_scales)
        for c in range(n_units):
            invert_root(roots[c], inverse)
            gram(inverse, omegas[c])
        moved[0] += move_cells(rng, x, s, sample, unit, u, lam, curvature, mean, omegas)
        expectation = design @ coefficient
        if blocked:
            expectation += effect[donor]
        draw_means(rng, u, starts, stops, unit, expectation, omegas, precision(root_between), mean)
        residuals(u, mean, starts, stops, e)
        scatters(e, starts, stops, unit, around)
        if varies:
            moved[3] += units.move_own(rng, root, own, around, size, df)
            moved[4] += units.move_common(rng, root, own, df, eta_w)
            units.move_rows_given_rates(
                rng,
                root,
                own,
                around,
                size,
                eta_w,
                prior_w,
                metric_u,
                weight_u,
                scale_u,
                step_u,
                moved_rows_u,
                adapt,
            )
            units.move_df(rng, root, own, around, size, df, prior_tau, repeats)
            moved[1] += move_df_with_cells(
                rng,
                x,
                s,
                sample,
                unit,
                size,
                u,
                lam,
                curvature,
                pseudo,
                mean,
                root,
                own,
                df,
                prior_tau,
                info,
                observed,
                new_u,
                new_lam,
            )
            residuals(u, mean, starts, stops, e)
            units.roots_of_units(root, own, roots, row_scales)
            unscale(e, starts, stops, unit, row_scales)
        else:
            moved[1] += draw_covariance(rng, around[0], size[0], root, eta_w, prior_w)
        standardise(root, e)
        move_rows(
            rng,
            x,
            u,
            lam,
            e,
            starts,
            stops,
            unit,
            own,
            root,
            mean,
            coefficient,
            prior_mean,
            prior_sd_,
            eta_w,
            prior_w,
            metric,
            weight,
            scale,
            step,
            moved_rows,
            adapt,
        )
        rates_of_samples(lam, mean, starts, stops, rate)
        before = mean.copy()
        moved[2] += move_population(
            rng,
            count,
            rate,
            design,
            donor,
            blocked,
            mean,
            coefficient,
            effect,
            root_between,
            root_donor,
            prior_mean,
            prior_sd_,
            eta_b,
            prior_b,
            repeats,
        )
        shift_cells(u, lam, starts, stops, mean - before)
        if k % 64 == 63:  # rounding errors of the many small changes
            expected(s, u, lam)
        if adapt > 0:
            total_lam += lam
            total_u += u
            if varies:
                units.add_entries(own, df, info, total_own, weight_own)
        elif (k + 1) % thin == 0:
            d = (k + 1) // thin - 1
            kept[0][d] = root
            kept[1][d] = root_between
            kept[2][d] = root_donor
            kept[3][d] = mean
            kept[4][d] = coefficient
            if varies:
                kept[5][d] = units.heterogeneity(df[0])
                for c in range(n_units):
                    units.root_of_unit(root, own[c], roots[c], row_scales[c])
                    units.correlation_of(roots[c], inverse)
                    kept[6][d, c] = inverse
