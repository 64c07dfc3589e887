"""The within-sample estimator with whole matrices: slow, plain numpy, no quadrature, no tiles.

An independent statement of the equations in DESIGN terms, which tests hold against the package and
studies vary.
"""

from __future__ import annotations

import numpy as np


def sample_sums(x, s, theta, iterations=200):
    """N, D, undebiased D (genes x genes) and the diagonal's own N, D, raw D (genes,) of one sample.

    x : (cells, genes) counts; s : (cells,) depth, or (cells, genes): that of each gene's type;
    theta : one, or that of each gene.
    """
    x = np.asarray(x, float)
    s = np.broadcast_to(np.asarray(s, float).reshape(len(x), -1), x.shape)
    mu = x.sum(0) / s.sum(0)
    for _ in range(iterations):
        w = 1 / (1 + s * mu / theta)
        mu = (w * x).sum(0) / (w * s).sum(0)
    w = 1 / (1 + s * mu / theta)
    mu = (w * x).sum(0) / (w * s).sum(0)
    total = (w * s).sum(0)
    r = x - s * mu
    num = (w * r).T @ (w * r)
    k = (w * s).T @ (w * s)
    a = (w * s).T @ (w * s) ** 2  # sum w_j s_j w_k^2 s_k^2
    gain = k - a / total - (a / total).T + k**2 / np.outer(total, total)
    raw = gain * np.outer(mu, mu)
    den = raw - num * k / np.outer(total, total)
    noise = s * mu
    own = (w**2 * (r**2 - noise)).sum(0)
    # What fitting the mean took from the noise part of r^2, term by term.
    taken = -2 * (w**3 * s * noise).sum(0) / total
    taken += (w**2 * s**2).sum(0) * (w**2 * noise).sum(0) / total**2
    own -= taken
    own_gain = np.diag(gain)
    variance_of_mean = ((w**2 * noise).sum(0) + own / own_gain * np.diag(k)) / total**2
    return num, den, raw, own, own_gain * (mu**2 - variance_of_mean), own_gain * mu**2


def within(samples, theta=None, types=None):
    """Sums of every sample, and theta. samples: list of (x, s); depth in units of its mean.

    types : the type of each gene, 0, 1, ...; s is then (cells, types), and theta has one value per
    type.
    """
    several = types is not None
    types = np.zeros(np.shape(samples[0][0])[1], int) if types is None else np.asarray(types)
    depth = [np.asarray(s, float).reshape(len(x), -1) for x, s in samples]
    unit = np.concatenate(depth).mean(0)
    samples = [(x, (s / unit)[:, types]) for (x, _), s in zip(samples, depth, strict=True)]
    fixed = theta is not None
    theta = np.full(len(unit), 1.0) if theta is None else np.atleast_1d(theta)
    for _ in range(1 if fixed else 40):
        parts = [sample_sums(x, s, theta[types], 20) for x, s in samples]
        own, own_den = (np.array([p[i] for p in parts]) for i in (3, 4))
        phi = own.sum(0) / own_den.sum(0)
        if fixed:
            break
        new = np.array([_typical(phi[types == t]) for t in range(len(unit))])
        if np.abs(np.log(new / theta)).max() < 1e-5:
            break
        theta = new
    num, den, raw, own, own_den, own_raw = (np.array([p[i] for p in parts]) for i in range(6))
    return {
        "num": num,
        "den": den,
        "raw": raw,
        "own": own,
        "own_den": own_den,
        "own_raw": own_raw,
        "theta": theta if several else float(theta[0]),
    }


def _typical(phi):
    return float(np.median(1 / phi[phi > 0])) if (phi > 0).any() else 1e6


def correlation(num, den, own, own_den):
    """Ratio of sums over samples, unclipped; NaN where a variance is not positive."""
    phi = own.sum(0) / own_den.sum(0)
    sd = np.sqrt(np.where(phi > 0, phi, np.nan))
    return num.sum(0) / den.sum(0) / np.outer(sd, sd)


def leave_one_out(num, den, own, own_den):
    """The correlation without each sample, from the sums: (samples, genes, genes)."""
    keep = ~np.eye(len(num), dtype=bool)
    return np.array([correlation(num[k], den[k], own[k], own_den[k]) for k in keep])


def cscore_covariates(x, s, covariates, level="cell", adjust=("mean", "variance", "covariance")):
    """CS-CORE with covariates, cell by cell and pair by pair: estimates, tests and coefficients.

    covariates : (cells, K) design matrix, intercept first.
    """
    x, s = np.asarray(x, float), np.asarray(s, float)
    p = x.shape[1]

    def design(d, part):
        if part not in adjust:
            return d[:, None]
        return (
            d[:, None] * covariates if level == "cell" else np.column_stack([d, covariates[:, 1:]])
        )

    def wls(d, y, w):
        return np.stack(
            [np.linalg.solve((d.T * w[:, j]) @ d, (d.T * w[:, j]) @ y[:, j]) for j in range(p)], 1
        )

    d_mean, d_var, d_cov = design(s, "mean"), design(s**2, "variance"), design(s**2, "covariance")
    one = np.ones_like(x)
    mean = wls(d_mean, x, one)
    m = d_mean @ mean
    variance = wls(d_var, (x - m) ** 2 - m, one)
    theta = mean[0] ** 2 / variance[0]
    delta, rounds = np.inf, 0
    while delta > 0.05 and rounds < 11:
        before, median = theta, np.median(theta[theta > 0])
        w = m + np.outer(s**2, mean[0] ** 2 / median)
        mean = wls(d_mean, x, 1 / np.where(w > 0, w, 1))
        m = d_mean @ mean
        variance = wls(d_var, (x - m) ** 2 - m, 1 / (m**2 / median + m) ** 2)
        theta = mean[0] ** 2 / variance[0]
        both = (theta > 0) & (before > 0)
        delta = np.quantile(np.abs(np.log(theta[both] / before[both])), 0.95)
        rounds += 1
    w = m + np.outer(s**2, mean[0] ** 2 / np.median(theta[theta > 0]))
    w = np.where(w > 0, w, 1)
    v = m + np.outer(s**2, variance[0])
    estimate, statistic = np.eye(p), np.zeros((p, p))
    for j in range(p):
        for k in range(p):
            product = (x - m)[:, j] * (x - m)[:, k]
            found = []
            for q in (1 / (w[:, j] * w[:, k]), 1 / (v[:, j] * v[:, k])):
                inverse = np.linalg.inv((d_cov.T * q) @ d_cov)
                found.append(((inverse @ ((d_cov.T * q) @ product))[0], inverse[0, 0]))
            estimate[j, k] = found[0][0] / np.sqrt(variance[0, j] * variance[0, k])
            statistic[j, k] = found[1][0] / np.sqrt(found[1][1])
    return estimate, statistic, mean, variance


def adjusted_sums(x, s, z, mu, slope):
    """N and D of pairs and genes in one sample, covariates z regressed out by hat matrices.

    x : (cells, genes) counts; s : (cells,) depth; z : (cells, k) with an intercept; mu, slope :
    (genes,) of the fit without covariates, whose weights are used.
    """
    x, s = np.asarray(x, float), np.asarray(s, float)
    num, den, gain, k = adjusted_between((x, s, mu, slope), (x, s, mu, slope), z)
    w = 1 / (1 + np.outer(s, slope))
    total = (w * s[:, None]).sum(0)
    rest = np.eye(len(s)) - _hat(s, z, slope)
    r = rest @ x
    own = (w**2 * (r**2 - (rest**2) @ x)).sum(0)
    mean_noise = mu * (w**2 * s[:, None]).sum(0) / total**2
    own_den = np.diag(gain) * (mu**2 - mean_noise) - own * np.diag(k) / total**2
    return num, den, own, own_den


def adjusted_between(left, right, z):
    """N and D of features of two types, each (x, s, mu, slope); see `adjusted_sums`."""
    sides = []
    for x, s, mu, slope in (left, right):
        w = 1 / (1 + np.outer(s, slope))
        rest = np.eye(len(s)) - _hat(s, z, slope)
        sides.append((w, rest, rest @ np.asarray(x, float), w * s[:, None], s, mu))
    (w1, rest1, r1, d1, s1, mu1), (w2, rest2, r2, d2, s2, mu2) = sides
    num = (w1 * r1).T @ (w2 * r2)
    gain = (w1 * ((rest1 * rest2) @ (s1 * s2))[:, None]).T @ w2
    k = d1.T @ d2
    den = gain * np.outer(mu1, mu2) - num * k / np.outer(d1.sum(0), d2.sum(0))
    return num, den, gain, k


def score_sums(x, s, y, mu, slope, z=None):
    """N and D (genes,) of a score y of the cells of one sample, and the cells that carry it.

    z : (cells, k) covariates with an intercept that are regressed out, by hat matrices; see
    `adjusted_sums` for the others.
    """
    x, s, y = (np.asarray(a, float) for a in (x, s, y))
    w = 1 / (1 + np.outer(s, slope))
    total = (w * s[:, None]).sum(0)
    if z is None:
        y, cells, r = y - y.mean(), len(y) - 1, x - np.outer(s, mu)
        gain = total - (w**2 * s[:, None] ** 2).sum(0) / total
    else:
        hat = _hat(s, z, slope)
        of_y = np.eye(len(s)) - hat / s[:, None] * s
        y, cells, r = of_y @ y, (of_y**2).sum(), x - hat @ x
        gain = (w * (s * (of_y**2).sum(1))[:, None]).sum(0)
    y = y / np.sqrt((y**2).sum() / cells)
    return (w * r).T @ y, gain * mu, cells


def _hat(s, z, slope):
    shared = 1 / (1 + s * np.median(slope))
    return np.diag(s) @ z @ np.linalg.pinv(z.T @ np.diag(s * shared) @ z) @ z.T @ np.diag(shared)


def published(x, s, fit_mu, variance):
    """The published cell-level test of every pair; s : (cells, genes), the depth of each gene."""
    x, s = np.asarray(x, float), np.asarray(s, float)
    f = 1 / (1 + s * variance / fit_mu)
    r = x - s * fit_mu
    return (f * r).T @ (f * r) / np.sqrt(np.outer(fit_mu, fit_mu) * ((f * s).T @ (f * s)))
