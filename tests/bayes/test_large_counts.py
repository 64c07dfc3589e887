"""Grids over cells resolve the likelihood of large counts: the density against adaptive rules."""

import numpy as np
import pytest

from hiercorr.bayes.margin import ROUNDING, Cells, largest_spacing
from hiercorr.bayes.refinement import LARGEST_ERROR, grid_error
from hiercorr.bayes.sampling import unpack
from hiercorr.kernels import bayes as kernels
from tests.bayes.support import NO_STATISTICS, pair_of

CELLS, SAMPLES = 40, 3


def simulated(mean, sd, rho, seed=0):
    rng = np.random.default_rng(seed)
    n = CELLS * SAMPLES
    factor = np.linalg.cholesky([[1, rho], [rho, 1]])
    u = rng.normal(size=(n, 2)) @ factor.T * sd
    s = np.exp(rng.normal(0, 0.3, n))
    s /= s.mean()
    x = rng.poisson(s[:, None] * mean * np.exp(u - sd**2 / 2)).astype(np.int64)
    return Cells(x, np.log(s), np.arange(SAMPLES + 1) * CELLS)


def cell_likelihood(x, log_s, mean, sd, rho, nodes=24):
    """Integrate a cell by the Gauss-Hermite rule centred at its own mode."""
    covariance = np.outer(sd, sd) * np.array([[1, rho], [rho, 1]])
    precision = np.linalg.inv(covariance)

    def log_joint(u):
        d = u - mean
        return (x * u - np.exp(log_s + u)).sum(-1) - 0.5 * np.einsum(
            "...i,ij,...j", d, precision, d
        )

    u = np.log(x + 0.5) - log_s
    for _ in range(60):
        rate = np.exp(log_s + u)
        hessian = np.diag(rate) + precision
        step = np.linalg.solve(hessian, x - rate - precision @ (u - mean))
        u = u + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    t, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w * np.exp(t**2 / 2)
    spread = np.linalg.cholesky(np.linalg.inv(hessian))
    at = np.stack(np.meshgrid(t, t, indexing="ij"), -1) @ spread.T + u
    value = log_joint(at)
    top = value.max()
    volume = np.log(np.linalg.det(spread)) - 0.5 * np.linalg.slogdet(covariance)[1]
    return top + np.log((np.outer(w, w) * np.exp(value - top)).sum()) + volume


def difference(cells, pair, first, second):
    """Return the difference of the log likelihood between two vectors of parameters."""
    total = 0.0
    for theta, sign in ((second, 1), (first, -1)):
        d = unpack(pair, theta[None, None], NO_STATISTICS)
        for c in range(SAMPLES):
            given = d.mean[0, 0, c], d.sd_within[0, 0], np.tanh(d.zeta[0, 0])
            for i in range(cells.starts[c], cells.starts[c + 1]):
                total += sign * cell_likelihood(cells.x[i].astype(float), cells.log_s[i], *given)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.05, 1, 50, 500, 2000])
@pytest.mark.parametrize(("sd", "rho"), [(0.3, 0.5), (0.8, 0.95), (1.6, 0.7), (0.5, 0.99)])
def test_density_of_any_counts(mean, sd, rho):
    cells = simulated(mean, sd, rho)
    pair = pair_of(cells, (0, 1), heterogeneity=False)
    first, second = pair.initial.copy(), pair.initial.copy()
    zeta = pair.layout.zeta
    second[zeta] += 0.1  # about its posterior standard deviation
    prior = [
        kernels.log_prior(t[zeta], *pair.priors.row(kernels.Z_WITHIN))[0] for t in (first, second)
    ]
    found = pair.log_density(second)[0] - pair.log_density(first)[0] - (prior[1] - prior[0])
    error = abs(found - difference(cells, pair, first, second))
    assert error < 0.1 or error_of_grid(pair, first, second) > LARGEST_ERROR


def error_of_grid(pair, first, second):
    """Return the error that is reported, of draws at two vectors and between them."""
    theta = first + np.linspace(0, 1, 8)[:, None] * (second - first)
    return grid_error(pair, unpack(pair, theta[None], NO_STATISTICS))


def test_grids_are_as_fine_as_the_likelihood():
    for mean in (5.0, 100.0, 500.0):
        pair = pair_of(simulated(mean, 0.5, 0.5), (0, 1))
        second = pair.initial + 0.1 * (np.arange(len(pair.initial)) == pair.layout.zeta)
        assert error_of_grid(pair, pair.initial, second) < 0.01
        for margin, (_, spacing) in zip(pair.margins, pair.grids, strict=True):
            assert (spacing <= margin.spacing + 1e-12).all()
    pair = pair_of(simulated(2000, 1.6, 0.99), (0, 1))
    second = pair.initial + 0.3 * (np.arange(len(pair.initial)) == pair.layout.zeta)
    assert error_of_grid(pair, pair.initial, second) > LARGEST_ERROR


def test_rounding_of_the_largest_spacing():
    """Narrow likelihoods round log rates to the grid; wide ones, and few narrow ones, do not."""
    sd = 0.7
    all_large = largest_spacing(np.full(1000, 1e6), np.ones(1000), sd)
    assert all_large == pytest.approx(sd * np.sqrt(12 * ROUNDING), rel=1e-6)
    few = np.where(np.arange(1000) < 50, 1e6, 0.0)
    assert largest_spacing(few, np.ones(1000), sd) == pytest.approx(all_large * 20**0.5, rel=0.05)
    assert largest_spacing(np.zeros(10), np.ones(10), sd) > sd
