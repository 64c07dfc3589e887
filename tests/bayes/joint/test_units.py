"""Kernels of matrices that vary between donors: priors, conditional moves, maps of all cells."""

import numba
import numpy as np
import pytest
from scipy import special, stats

from hiercorr.bayes.joint.sampler import degrees_of_freedom, new_matrices
from hiercorr.kernels import bayes, joint, joint_units
from hiercorr.kernels.roots import precision

LOGNORMAL = np.array([bayes.LOGNORMAL, np.log(0.6), 0.6])
HALFNORMAL = np.array([bayes.HALFNORMAL, 0.3, 0.0])
ETA = 2.0


def test_degrees_of_freedom():
    for x in (0.3, 2.0, 9.0, 50.0, 1e6):
        found = joint_units.polygammas(x)
        np.testing.assert_allclose(found, special.polygamma([1, 2], x), rtol=1e-10)
    tau = np.array([1e-3, 0.05, 0.3, 1.0, 3.0])
    found = [joint_units.heterogeneity(m) for m in degrees_of_freedom(tau)]
    np.testing.assert_allclose(found, tau, rtol=1e-8)


def test_prior_of_the_degrees_of_freedom_is_that_of_tau():
    at = np.exp(np.linspace(np.log(0.05), np.log(1e7), 20_001))
    density = np.exp([joint_units.log_prior_df(m, HALFNORMAL) for m in at])
    tau = np.array([joint_units.heterogeneity(m) for m in at])
    mean = np.trapezoid(density * tau, np.log(at)) / np.trapezoid(density, np.log(at))
    assert mean == pytest.approx(0.3 * np.sqrt(2 / np.pi), rel=1e-3)


@pytest.mark.parametrize("genes", [2, 5])
def test_tau_is_the_standard_deviation_of_fisher_z(genes):
    """For independent genes exactly, whatever the size of the panel; about so for others."""
    rng, n = np.random.default_rng(1), 40_000
    for rho, tolerance in ((0.0, 0.02), (0.7, 0.05)):
        r = np.eye(genes)
        r[0, 1] = r[1, 0] = rho
        found = new_matrices(np.repeat(r[None], n, 0), np.full(n, 0.3), rng)
        z = np.arctanh(found[:, 0, 1].astype(float))
        assert z.std() == pytest.approx(0.3, rel=tolerance)
        assert z.mean() == pytest.approx(np.arctanh(rho) + rho / (2 * 12.5), abs=0.01)


@numba.njit
def run(rng, draws, thin, adapt, root, own, around, size, df, prior, tuning, out):
    """Keep a correlation, a log standard deviation, tau and a correlation of the first unit."""
    g = len(root)
    matrix, unit, scale = np.empty((g, g)), np.empty((g, g)), np.empty(g)
    metric, weight, steps, step, moved = tuning
    for k in range(draws * thin):
        joint_units.move_own(rng, root, own, around, size, df)
        joint_units.move_common(rng, root, own, df, ETA)
        joint_units.move_rows_given_rates(
            *(rng, root, own, around, size, ETA, LOGNORMAL),
            *(metric, weight, steps, step, moved, adapt),
        )
        joint_units.move_df(rng, root, own, around, size, df, prior, 2)
        if (k + 1) % thin == 0:
            i = k // thin
            joint_units.correlation_of(root, matrix)
            out[i, 0] = matrix[0, g - 1]
            out[i, 1] = 0.5 * np.log((root[g - 1] ** 2).sum())
            out[i, 2] = joint_units.heterogeneity(df[0])
            joint_units.root_of_unit(root, own[0], unit, scale)
            joint_units.correlation_of(unit, matrix)
            out[i, 3] = matrix[0, g - 1]


def chain_of(rng, around, size, sd, prior=HALFNORMAL, draws=99, thin=10, warm=300):
    n, g, _ = around.shape
    inverse, i = np.tril(rng.standard_normal((n, g, g)), -1), np.arange(g)
    inverse[:, i, i] = np.sqrt(rng.chisquare(30 + i, (n, g)))
    root, own, df = np.diag(sd), np.tril(np.linalg.inv(inverse)), np.full(1, 30.0)
    metric, steps = np.zeros((g, g, g)), np.zeros((g, g, g))
    for j in range(g):
        a = np.diag(np.full(j + 1, (size.sum() + 2 * ETA + g) / sd[j] ** 2))
        metric[j, : j + 1, : j + 1], steps[j, : j + 1, : j + 1] = 20 * a, np.sqrt(a)
    tuning = (metric, np.full(g, 20.0), steps, np.full(g, 0.9), np.zeros(g, np.int64))
    for k, adapt, t in ((warm, 0.05, 1), (draws, 0.0, thin)):
        out = np.empty((k, 4))
        run(rng, k, t, adapt, root, own, around, size, df, prior, tuning, out)
    return out


@pytest.mark.slow
def test_prior_is_recovered_without_cells():
    rng = np.random.default_rng(2)
    around, size = np.zeros((3, 3, 3)), np.zeros(3, np.int64)
    out = chain_of(rng, around, size, np.full(3, 0.6), draws=3000, thin=10)
    for values, cdf in (
        ((out[:, 0] + 1) / 2, stats.beta(ETA, ETA).cdf),
        ((out[:, 1] - np.log(0.6)) / 0.6, stats.norm.cdf),
        (out[:, 2] / 0.3, stats.halfnorm.cdf),
    ):
        assert stats.kstest(values[::3], cdf).pvalue > 1e-3


def simulated(rng, genes, units=4, cells=30):
    """Draw parameters from the prior, and cells of each unit."""
    x = rng.standard_normal((int(2 * ETA) + genes - 1, genes))
    q = np.linalg.inv(x.T @ x)
    r = q / np.sqrt(np.outer(np.diag(q), np.diag(q)))
    sd, tau = np.exp(np.log(0.6) + 0.6 * rng.standard_normal(genes)), abs(rng.normal(0, 0.3))
    own = new_matrices(np.repeat(r[None], units, 0), np.full(units, tau), rng).astype(float)
    e = rng.standard_normal((units, cells, genes))
    e = e @ np.swapaxes(sd[:, None] * np.linalg.cholesky(own), 1, 2)
    truth = np.array([r[0, -1], np.log(sd[-1]), tau, own[0, 0, -1]])
    return truth, np.swapaxes(e, 1, 2) @ e, np.full(units, cells), e.std((0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("genes", [2, 4])
def test_ranks_given_the_log_rates_are_uniform(genes):
    """Simulation-based calibration; a prior of tau a third as wide as the simulation's fails."""
    rng = np.random.default_rng(genes)
    narrow = np.array([bayes.HALFNORMAL, 0.1, 0.0])
    ranks, wrong = [], []
    for _ in range(150):
        truth, around, size, sd = simulated(rng, genes)
        ranks.append((chain_of(rng, around, size, sd) < truth).sum(0))
        wrong.append((chain_of(rng, around, size, sd, narrow)[:, 2] < truth[2]).sum())
    p = [
        stats.kstest((r + rng.random(len(r))) / 100, "uniform").pvalue for r in np.transpose(ranks)
    ]
    assert min(p) > 1e-3, p
    assert stats.kstest((np.array(wrong) + 0.5) / 100, "uniform").pvalue < 1e-4


def test_cells_follow_a_change_of_the_matrices():
    """The ratio is that of densities and the map's determinant; the way back undoes the map."""
    rng, g, n = np.random.default_rng(3), 3, joint.LANES
    x = rng.poisson(2.0, (g, n)).astype(float)
    s, sample, unit = rng.uniform(0.5, 2, n), np.zeros(n, np.int64), np.zeros(1, np.int64)
    mean, u = rng.normal(0.5, 0.2, (1, g)), rng.normal(0.5, 0.5, (g, n))
    curvature, pseudo = rng.uniform(0.5, 3, (g, n)), rng.normal(0.5, 0.5, (g, n))
    roots = [
        np.linalg.cholesky(stats.wishart.rvs(8, np.eye(g) / 20, random_state=k)) for k in (1, 2)
    ]
    omegas = [precision(root)[None] for root in roots]
    new, rate = np.empty_like(u), np.empty_like(u)

    def followed(at, a=0, b=1):
        gained = joint.follow_cells(
            *(x, s, sample, unit, at, s * np.exp(at), curvature, pseudo, mean),
            *(omegas[a], omegas[b], new, rate),
        )
        return new.copy(), gained[0]

    def density(at, k):
        e = at - mean.T
        return (x * at - s * np.exp(at)).sum() - 0.5 * (e * (omegas[k][0] @ e)).sum()

    there, ratio = followed(u)
    np.testing.assert_allclose(rate, s * np.exp(there), rtol=1e-9)
    jacobian = 0.0
    for c in range(n):
        columns = np.empty((g, g))
        for i in range(g):
            step = np.zeros_like(u)
            step[i, c] = 1e-5
            columns[:, i] = (followed(u + step)[0] - followed(u - step)[0])[:, c] / 2e-5
        jacobian += np.linalg.slogdet(columns)[1]
    assert ratio == pytest.approx(density(there, 1) - density(u, 0) + jacobian, abs=1e-5)
    back, reverse = followed(there, 1, 0)
    np.testing.assert_allclose(back, u, atol=1e-9)
    assert reverse == pytest.approx(-ratio, abs=1e-8)


@pytest.mark.parametrize("informative", [False, True])
def test_other_degrees_of_freedom_leave_the_prior_invariant(informative):
    """Whatever the approximation of the likelihood, which concerns the proposal only."""
    rng, n, g = np.random.default_rng(4), 2, 3
    info = rng.gamma(1.0, 40.0 * informative, (n, g, g)) if informative else np.zeros((n, g, g))
    observed, i = rng.normal(0, 0.3, (n, g, g)), np.arange(g)
    df, new_own, found = np.full(1, 30.0), np.empty((n, g, g)), []
    for k in range(30_000):
        if k % 4 == 0:
            inverse = np.tril(rng.standard_normal((n, g, g)), -1)
            inverse[:, i, i] = np.sqrt(rng.chisquare(df[0] + i, (n, g)))
            own = np.tril(np.linalg.inv(inverse))
        new, ratio = joint_units.other_df(rng, df, own, info, observed, new_own)
        if new != df[0]:
            ratio += joint_units.log_prior_df(new, HALFNORMAL)
            ratio -= joint_units.log_prior_df(df[0], HALFNORMAL)
            if np.log(rng.random()) < ratio:
                df[0], own = new, new_own.copy()
        if k % 4 == 3:
            b = np.linalg.inv(own[1])
            share = stats.chi.cdf(b[1, 1], df[0] + 1)
            found.append([joint_units.heterogeneity(df[0]) / 0.3, b[2, 0], share])
    tau, entry, share = np.array(found)[::5].T
    assert stats.kstest(tau, stats.halfnorm.cdf).pvalue > 1e-3
    assert stats.kstest(entry, stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(share, "uniform").pvalue > 1e-3
