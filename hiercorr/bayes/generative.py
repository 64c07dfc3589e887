"""The model forwards: parameters from their priors, counts from parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiercorr.bayes.margin import Array
from hiercorr.bayes.pair import slope_sd
from hiercorr.bayes.sampling import sd_of_samples
from hiercorr.bayes.setup import Setup
from hiercorr.inference.poisson_lognormal import Parameters


@dataclass(frozen=True)
class PriorDraws:
    """Draws of the parameters of a pair from their priors; names as in the posterior.

    Attributes
    ----------
    zeta, z_between : ndarray, shape (n_draws,)
    tau, share : ndarray, shape (n_draws,), or None
        None where the model has none.
    sd_within, sd_between : ndarray, shape (n_draws, 2)
    coefficient : ndarray, shape (n_draws, n_coefficients, 2)
    mean : ndarray, shape (n_draws, n_samples, 2)
    z_sample : ndarray, shape (n_draws, n_samples)
    slopes : ndarray, shape (n_draws, n_slopes), or None
    omega : ndarray, shape (n_draws, 2), or None
    sd_sample : ndarray, shape (n_draws, n_samples, 2), or None
    """

    zeta: Array
    z_between: Array
    tau: Array | None
    share: Array | None
    sd_within: Array
    sd_between: Array
    coefficient: Array
    mean: Array
    z_sample: Array
    slopes: Array | None = None
    omega: Array | None = None
    sd_sample: Array | None = None

    @property
    def sd_of_samples(self) -> Array:
        """Standard deviation within each sample, shape (n_draws, n_samples, 2)."""
        return sd_of_samples(self.sd_sample, self.sd_within, self.mean.shape)

    @property
    def of_cells(self) -> Parameters:
        """Parameters of the distribution of counts."""
        return Parameters(self.mean, self.sd_of_samples, np.tanh(self.z_sample))


def draw_parameters(setup: Setup, centre: Array, size: int, rng: np.random.Generator) -> PriorDraws:
    """Draw the parameters of a pair from their priors.

    Parameters
    ----------
    setup : Setup
    centre : ndarray, shape (2,)
        Prior means of the intercepts of both genes, unless their prior states a mean.
    size : int
        Number of draws.
    rng : Generator

    Returns
    -------
    PriorDraws
    """
    population, priors, design = setup.population, setup.priors, setup.population.design
    n, block, unit = len(design), population.block, population.unit
    sd_w, sd_b = (priors.draw(name, (size, 2), rng) for name in ("sd_within", "sd_between"))
    zeta, z_between = (priors.draw(name, size, rng) for name in ("z_within", "z_between"))
    if setup.structure == "independent":
        zeta = np.zeros(size)
    if setup.structure != "both":
        z_between = np.zeros(size)
    tau = priors.draw("tau", size, rng) if setup.heterogeneity else None
    share = priors.draw("share", size, rng) if population.blocked else None
    mu, sigma = priors.intercept
    coefficient = rng.standard_normal((size, design.shape[1], 2))
    coefficient *= slope_sd(design, priors.coefficient[1])[:, None]
    coefficient[:, 0] = (centre if mu is None else mu) + sigma * rng.standard_normal((size, 2))
    shared = np.zeros(size) if share is None else share
    e = (
        np.sqrt(shared)[:, None, None]
        * rng.standard_normal((size, population.n_blocks, 2))[:, block]
    )
    e += np.sqrt(1 - shared)[:, None, None] * rng.standard_normal((size, n, 2))
    rho = np.tanh(z_between)[:, None]
    e[..., 1] = rho * e[..., 0] + np.sqrt(1 - rho**2) * e[..., 1]
    z = np.repeat(zeta[:, None], n, 1)
    slopes = omega = sd_sample = None
    if setup.z_regression is not None:
        covariates = setup.z_regression.design
        slopes = rng.standard_normal((size, covariates.shape[1]))
        slopes *= slope_sd(covariates, priors.z_coefficient)
        z = z + slopes @ covariates.T
    if tau is not None and setup.structure != "independent":
        z = z + tau[:, None] * rng.standard_normal((size, unit.max() + 1))[:, unit]
    mean = design @ coefficient + sd_b[:, None] * e
    if setup.sd_per_sample:
        omega = priors.draw("omega", (size, 2), rng)
        sd_sample = sd_w[:, None] * np.exp(omega[:, None] * rng.standard_normal((size, n, 2)))
        mean = mean - sd_sample**2 / 2  # that of logs, not the log of the mean
    return PriorDraws(
        zeta,
        z_between,
        tau,
        share,
        sd_w,
        sd_b,
        coefficient,
        mean,
        z,
        slopes,
        omega,
        sd_sample,
    )
