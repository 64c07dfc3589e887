"""The posterior of a pair: likelihood against quadrature, gradient, precision."""

import numpy as np
import pytest
from scipy import stats

from hiercorr.bayes.sampling import unpack
from tests.bayes.support import NO_STATISTICS, pair_of, regression_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_pair_likelihood_against_quadrature(cells):
    """Differences of the log density between two vectors, cells integrated with scipy."""
    pair = pair_of(cells, (1, 2), heterogeneity=False)
    few = range(int(cells.starts[2]), int(cells.starts[3]))
    t0 = pair.initial.copy()
    t1 = t0.copy()
    t1[pair.layout.zeta] += 0.3  # zeta

    def cell(i, theta):
        d = unpack(pair, theta[None, None], NO_STATISTICS)
        mean, sd, rho = d.mean[0, 0, 2], d.sd_within[0, 0], np.tanh(d.zeta[0, 0])
        nodes, weights = np.polynomial.hermite_e.hermegauss(120)
        weights = weights / weights.sum()
        u = mean[0] + sd[0] * nodes
        v = mean[1] + sd[1] * (rho * nodes[:, None] + np.sqrt(1 - rho**2) * nodes)
        a = stats.poisson.pmf(cells.x[i, 1], np.exp(cells.log_s[i] + u))
        b = stats.poisson.pmf(cells.x[i, 2], np.exp(cells.log_s[i] + v))
        return np.log(weights @ (a[:, None] * b @ weights))

    wanted = sum(cell(i, t1) - cell(i, t0) for i in few)
    from hiercorr.kernels import bayes as kernels

    (la, sa), (lb, sb) = pair.grids
    i, e = pair.rows.starts[2:4]
    got = []
    for theta in (t0, t1):
        d = unpack(pair, theta[None, None], NO_STATISTICS)
        w = np.empty((pair.tables[0].shape[1], pair.tables[1].shape[1]))
        mean, sd, rho = d.mean[0, 0, 2], d.sd_within[0, 0], np.tanh(d.zeta[0, 0])
        total = kernels.bivariate_weights(
            w, mean[0], mean[1], sd[0], sd[1], rho, la[2], sa[2], lb[2], sb[2]
        )
        each = kernels.row_likelihoods(w, total, pair.tables[0][i:e], pair.tables[1][i:e])
        got.append((pair.rows.weight[i:e] * each).sum())
    assert got[1] - got[0] == pytest.approx(wanted, abs=2e-4)


COVARIATES = regression_of([0, 1, 0, 1, 0, 1], [1, 2, 4, 8, 3, 1])


@pytest.mark.parametrize(
    ("block", "structure", "heterogeneity", "regression", "sd_per_sample"),
    [
        (None, "both", True, None, False),
        ([0, 0, 1, 1, 1, 2], "both", True, None, False),
        (None, "within", False, None, False),
        (None, "independent", True, None, False),
        (None, "both", True, COVARIATES, False),
        ([0, 0, 1, 1, 1, 2], "both", True, COVARIATES, True),
        (None, "both", False, COVARIATES, False),
        (None, "independent", True, COVARIATES, True),
        (None, "both", True, None, True),
    ],
)
def test_gradient(cells, block, structure, heterogeneity, regression, sd_per_sample):
    design = np.column_stack([np.ones(6), [0, 1, 0, 1, 0, 1.0]])
    pair = pair_of(
        cells,
        (0, 2),
        block,
        structure,
        heterogeneity,
        design=design,
        regression=regression,
        sd_per_sample=sd_per_sample,
    )
    rng = np.random.default_rng(1)
    # Degrees of centring between 0 and 1, so that every term acts.
    pair.centred[:] = rng.uniform(0, 1, len(pair.centred))
    pair.sd_centred[:] = rng.uniform(0, 1, pair.sd_centred.shape)
    rng = np.random.default_rng(0)
    theta = pair.initial + 0.3 * pair.spread * rng.standard_normal(pair.layout.size)
    _, gradient = pair.log_density(theta)
    h = 1e-5
    numeric = [
        (pair.log_density(theta + h * e)[0] - pair.log_density(theta - h * e)[0]) / (2 * h)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(gradient, numeric, atol=2e-6 * np.abs(gradient).max())
    assert len(pair.layout.names) == len(theta)


def test_single_precision_is_enough(cells):
    exact, fast = pair_of(cells, (2, 3)), pair_of(cells, (2, 3), dtype=np.float32)
    theta = exact.initial
    other = theta + 0.2 * exact.spread
    assert fast.log_density(other)[0] - fast.log_density(theta)[0] == pytest.approx(
        exact.log_density(other)[0] - exact.log_density(theta)[0], abs=1e-2
    )
