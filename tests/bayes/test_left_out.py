"""Leave-one-donor-out: the likelihood of a donor against brute force, and the comparison."""

import numpy as np
import pytest
from scipy import special, stats

from hiercorr.bayes.left_out import donor_log_likelihood, without_donor
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.sampling import unpack
from hiercorr.bayes.setup import Population, Setup
from tests.bayes.support import NO_STATISTICS, pair_of


def drawn(pair, tau=0.25):
    theta = pair.initial.copy()
    if pair.layout.heterogeneity:
        theta[pair.layout.log_tau] = np.log(tau)
    theta[pair.layout.z_between] = 0.4
    return unpack(pair, theta[None, None], NO_STATISTICS)


@pytest.mark.slow
def test_likelihood_of_a_donor_by_brute_force(cells):
    """Cells by Gauss-Hermite rules, means and z of the donor by draws from the population."""
    pair = pair_of(cells, (1, 2))
    d = drawn(pair)
    found = donor_log_likelihood(pair, d, np.array([0]))[0]
    rng = np.random.default_rng(1)
    c, n = 2, 4000
    sd, out = d.sd_within[0, 0], d.sd_between[0, 0]
    rho = np.tanh(d.z_between[0, 0])
    b = rng.multivariate_normal(
        d.coefficient[0, 0, 0], np.outer(out, out) * [[1, rho], [rho, 1]], n
    )
    r = np.tanh(d.zeta[0, 0] + d.tau[0, 0] * rng.standard_normal(n))
    t, w = np.polynomial.hermite_e.hermegauss(24)
    w = w / w.sum()
    total = np.zeros(n)
    for i in range(int(cells.starts[c]), int(cells.starts[c + 1])):
        u = b[:, :1] + sd[0] * t
        v = b[:, 1, None, None] + sd[1] * (
            r[:, None, None] * t[:, None] + np.sqrt(1 - r**2)[:, None, None] * t
        )
        s = np.exp(cells.log_s[i])
        inner = stats.poisson.pmf(cells.x[i, 2], s * np.exp(v)) @ w
        total += np.log((stats.poisson.pmf(cells.x[i, 1], s * np.exp(u)) * inner) @ w)
    wanted = special.logsumexp(total) - np.log(n)
    assert found[c] == pytest.approx(wanted, abs=0.25)  # draws from the population are wasteful


@pytest.mark.parametrize("block", [None, [0, 0, 1, 1, 2, 3]])
def test_the_sum_over_donors_does_not_depend_on_the_proposal(cells, block, monkeypatch):
    pair = pair_of(cells, (1, 2), block)
    values = []
    for wider in (1.1, 1.8):
        monkeypatch.setattr("hiercorr.bayes.left_out._WIDER", wider)
        values.append(donor_log_likelihood(pair, drawn(pair), np.array([0]))[0])
    assert values[0].shape == (pair.layout.n_units,)
    np.testing.assert_allclose(values[0], values[1], atol=0.3)


def test_a_pair_without_a_donor_has_the_other_cells(cells):
    block = np.array([0, 0, 1, 1, 2, 3])
    pair = pair_of(cells, (1, 2), block)
    setup = Setup(Population(np.ones((6, 1)), block), read_priors())
    fewer, changed = without_donor(pair, setup, 1)
    assert fewer.layout.n_units == 3
    assert list(changed.population.block) == [0, 0, 1, 2]
    np.testing.assert_array_equal(fewer.x, np.delete(pair.x, np.s_[150:270], 0))
    np.testing.assert_array_equal(fewer.coefficient_mean[:, 0], pair.coefficient_mean[:, 0])
