"""Priors from the shipped file and from the user's."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.priors import Acting, Priors, read_priors

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_priors_from_file_and_shipped(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[priors.z_between]\ndistribution = "normal"\nsigma = 0.3\n')
    priors = read_priors(path)
    assert isinstance(priors, Priors)
    assert priors.describe()["z_between"] == "normal(sigma=0.3)"
    assert priors.describe()["tau"] == read_priors().describe()["tau"]
    rho = np.tanh(read_priors().draw("z_within", 20000, np.random.default_rng(0)))
    assert rho.std() == pytest.approx(np.sqrt(1 / 5), rel=0.03)  # LKJ(2) in two dimensions
    path.write_text("[priors")
    with pytest.raises(hc.InputError, match="not valid TOML"):
        read_priors(path)


@pytest.mark.parametrize(
    "stated",
    [
        {"distribution": "lkj", "eta": 1.5},
        {"distribution": "normal", "mu": 0.2, "sigma": 0.4},
    ],
)
def test_prior_of_a_correlation_that_acts(stated):
    """Interval and variance against draws."""
    priors = read_priors({"z_within": stated})
    variance, limits = Acting(priors, ("z_within",)).of_z("within", 0.9)
    z = priors.draw("z_within", 200_000, np.random.default_rng(0))
    assert variance == pytest.approx(z.var(), rel=0.02)
    np.testing.assert_allclose(limits, np.quantile(np.tanh(z), [0.05, 0.95]), atol=0.01)


def test_marginal_prior_of_a_correlation_of_several_genes():
    """Random LKJ matrices by the onion method (Lewandowski et al. 2009) against the statement."""
    eta, n, size = 2.0, 5, 20_000
    rng = np.random.default_rng(0)
    beta = eta + (n - 2) / 2
    r = 2 * rng.beta(beta, beta, size) - 1
    matrix = np.tile(np.eye(n), (size, 1, 1))
    matrix[:, 0, 1] = matrix[:, 1, 0] = r
    for k in range(2, n):
        beta -= 0.5
        y = np.sqrt(rng.beta(k / 2, beta, size))
        u = rng.standard_normal((size, k))
        u *= (y / np.linalg.norm(u, axis=1))[:, None]
        z = np.einsum("sij,sj->si", np.linalg.cholesky(matrix[:, :k, :k]), u)
        matrix[:, :k, k] = matrix[:, k, :k] = z
    acting = Acting(read_priors(), ("z_within",), n)
    variance, limits = acting.of_z("within", 0.95)
    for i, j in ((0, 1), (1, 3), (3, 4)):
        drawn = matrix[:, i, j]
        np.testing.assert_allclose(limits, np.quantile(drawn, [0.025, 0.975]), atol=0.02)
        assert variance == pytest.approx(np.arctanh(drawn).var(), rel=0.05)
    assert acting.describe() == {
        "z_within": "lkj(eta=2) of 5 genes, for each correlation lkj(eta=3.5) of two"
    }


def test_densities_integrate_to_those_that_are_drawn():
    priors = read_priors()
    for name, z in (("tau", 0.2), ("sd_within", 0.5), ("share", 0.4)):
        x = np.linspace(1e-3, 0.999 if name == "share" else 4, 20_000)
        density = np.exp(priors.log_density(name, x))
        wanted = density[x < z].sum() / density.sum()
        drawn = priors.draw(name, 100_000, np.random.default_rng(0))
        assert (drawn[drawn < x[-1]] < z).mean() == pytest.approx(wanted, abs=0.01)
    z = np.linspace(-4, 4, 20_000)
    density = np.exp(priors.log_density("z_within", z)) / np.cosh(z) ** 2  # of z, from that of rho
    drawn = priors.draw("z_within", 100_000, np.random.default_rng(0))
    assert (drawn < 0.3).mean() == pytest.approx(density[z < 0.3].sum() / density.sum(), abs=0.01)


@pytest.mark.parametrize(
    ("name", "stated", "text"),
    [
        ("sd_within", {"distribution": "lognormal", "median": 1e-8, "sigma": 0.1}, "0.01 to 5"),
        ("sd_within", {"distribution": "lognormal", "median": 50, "sigma": 0.1}, "0.01 to 5"),
        ("z_between", {"distribution": "lkj", "eta": 0.1}, "eta must be from 0.5"),
        ("tau", {"distribution": "halfnormal", "sigma": 1e-6}, "sigma must be from 0.001 to 5"),
        ("coefficient", {"distribution": "normal", "sigma": 1e4}, "from 0.001 to 1000, not 10000"),
    ],
)
def test_priors_that_cannot_be_computed_are_refused(name, stated, text):
    with pytest.raises(hc.InputError, match=text):
        read_priors({name: stated})
    read_priors({"coefficient": {"distribution": "normal", "sigma": 100.0}})
