r"""Leave-one-donor-out: how well the model predicts all cells of a donor that it has not seen.

.. math:: p(x_d | \phi) = \int p(x_d | b_d, z_d, \sigma_W)\, p(b_d, z_d | \phi)\, db_d\, dz_d

for the parameters :math:`\phi` of the population. The integral over the means of the donor's
samples and its z is an importance sample, whose proposal is the product of the prior with the
normal approximation of the likelihood. Draws of :math:`\phi` given all donors are then weighted by
Pareto-smoothed importance sampling; donors for which this is unreliable are left out of a new fit.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special, stats

from hiercorr.bayes.margin import MEAN_SD, Array, Cells
from hiercorr.bayes.pair import TYPICAL_OMEGA, Pair, make_pair, margin_of, z_profile
from hiercorr.bayes.sampling import Draws, Settings, sample_pair
from hiercorr.bayes.setup import Setup
from hiercorr.kernels import bayes as kernels
from hiercorr.results.posterior import arviz_groups

POINTS = 64  # of the importance sample of a donor
UNRELIABLE = 0.7  # Pareto k from which a donor is left out of a new fit
_WIDER = 1.3  # variance of the proposal relative to the approximation
_FEWEST_UNITS = 3  # with which the model can still be fitted


def donor_log_likelihood(pair: Pair, draws: Draws, at: NDArray[np.int64]) -> Array:
    """Compute the log likelihood of all cells of each donor, given the population.

    Parameters
    ----------
    pair : Pair
        With the counts of all donors.
    draws : Draws
        Draws of the parameters of the population, of this pair or of one without some donor.
    at : ndarray of int
        Draws to use, chains in one dimension.

    Returns
    -------
    ndarray, shape (n_draws, n_donors)
        Without blocks, the donors are the samples.
    """
    names = ("coefficient", "sd_within", "sd_between", "zeta", "z_between")
    value = {name: draws.flat(name, at) for name in names}
    tau, share = (
        np.zeros(len(at)) if getattr(draws, name) is None else draws.flat(name, at)
        for name in ("tau", "share")
    )
    slopes, omega = (
        None if getattr(draws, name) is None else draws.flat(name, at)
        for name in ("slopes", "omega")
    )
    covariates = np.zeros((1, 0)) if pair.regression is None else pair.regression.design
    tables, constant = _tables(pair)
    profile = z_profile(pair.rows, pair.margins, pair.unit).each
    design, donor = pair.population.design, pair.population.block
    out = np.empty((len(at), pair.population.n_blocks))
    for d in range(len(at)):
        population = _Population(
            design @ value["coefficient"][d],
            value["sd_between"][d],
            np.tanh(value["z_between"][d]) if pair.structure == "both" else 0.0,
            share[d],
            value["zeta"][d] + (0.0 if slopes is None else covariates @ slopes[d]),
            tau[d],
            value["sd_within"][d],
            None if omega is None else omega[d],
        )
        mean, sd, z, log_ratio = _proposed(pair, population, profile)
        rho = np.tanh(z) if pair.structure != "independent" else np.zeros(mean.shape[:2])
        each = _of_samples(pair, tables, mean, sd, rho) + constant
        total = log_ratio.copy()
        np.add.at(total.T, donor, each.T)
        out[d] = special.logsumexp(total, axis=0) - np.log(POINTS)
    return out


class _Population:
    """Parameters of the population at one draw."""

    def __init__(
        self,
        mean: Array,
        sd: Array,
        rho: float,
        share: float,
        zeta: Array | float,
        tau: float,
        sd_within: Array,
        omega: Array | None,
    ) -> None:
        self.mean, self.share, self.tau = mean, share, tau
        self.zeta = np.broadcast_to(zeta, len(mean))
        self.sd_within, self.omega = sd_within, omega
        self.covariance = np.outer(sd, sd) * np.array([[1, rho], [rho, 1]])


def _tables(pair: Pair) -> tuple[tuple[Array, Array], Array]:
    """Return the likelihoods of the rows on the grids, and what completes those of each sample."""
    rows, tables, constant = pair.rows, [], np.zeros(len(pair.rows.x))
    for g in range(2):
        x, log_s = rows.x[:, g].copy(), rows.log_s[:, g].copy()
        left, spacing = pair.grids[g]
        points = pair.grid.points[g]
        table, peak = kernels.poisson_table(x, log_s, rows.starts, left, spacing, points)
        tables.append(table)
        constant += peak - special.gammaln(x + 1)
    return (tables[0], tables[1]), np.add.reduceat(rows.weight * constant, rows.starts[:-1])


def _of_samples(
    pair: Pair, tables: tuple[Array, Array], mean: Array, sd: Array, rho: Array
) -> Array:
    """Return the log likelihood of each sample, shape (points, samples); 0 outside the grid."""
    rows, given = pair.rows, (*pair.grids[0], *pair.grids[1])
    with np.errstate(all="ignore"):
        each = kernels.cell_log_likelihoods(*tables, rows.starts, mean, sd, rho, *given)
    total = np.add.reduceat(rows.weight * each, rows.starts[:-1], axis=1)
    return np.where(np.isfinite(total), total, -np.inf)


def _proposed(
    pair: Pair, population: _Population, profile: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """Draw the means, the standard deviations and the z of every donor.

    Returns
    -------
    mean, sd : ndarray, shape (points, n_samples, 2)
    z : ndarray, shape (points, n_samples)
    log_ratio : ndarray, shape (points, n_donors)
        Log density under the population minus that of the proposal.
    """
    n, n_donors = len(pair.population.design), pair.population.n_blocks
    own = population.omega is not None
    mean, z = np.empty((POINTS, n, 2)), np.tile(population.zeta, (POINTS, 1))
    sd = np.tile(population.sd_within, (POINTS, n, 1))
    log_ratio = np.zeros((POINTS, n_donors))
    for u in range(n_donors):
        members = np.flatnonzero(pair.population.block == u)
        units = np.unique(pair.unit[members])
        k = len(members)
        points = _normal_points((4 if own else 2) * k + len(units))
        if population.omega is not None:
            for j, c in enumerate(members):
                at = points[:, [-2 * j - 2, -2 * j - 1]]
                sd[:, c], ratio = _proposed_sd(pair, population, int(c), at)
                log_ratio[:, u] += ratio
        centre, precision = _likelihood_of_means(pair, np.exp(np.log(sd[:, members]).mean(0)), u)
        same = (1 - population.share) * np.eye(k) + population.share
        prior = np.kron(same, population.covariance)
        inverse = np.linalg.inv(prior)
        weight = np.diag(precision.ravel())
        covariance = np.linalg.inv(inverse + weight)
        expected = population.mean[members].ravel()
        at = covariance @ (inverse @ expected + weight @ centre.ravel())
        root = np.linalg.cholesky(_WIDER * covariance)
        b = at + points[:, : 2 * k] @ root.T
        mean[:, members] = b.reshape(POINTS, k, 2)
        q = -0.5 * (points[:, : 2 * k] ** 2).sum(1) - np.log(np.diag(root)).sum()
        away = b - expected
        p = -0.5 * np.einsum("pi,ij,pj->p", away, inverse, away)
        p -= 0.5 * np.linalg.slogdet(prior)[1]
        log_ratio[:, u] += p - q
        for j, v in enumerate(units if population.tau > 0 else ()):
            of_unit, at = np.flatnonzero(pair.unit == v), points[:, 2 * k + j]
            fitted = float(population.zeta[of_unit].mean())
            variance = 1 / (1 / profile[1][v] ** 2 + 1 / population.tau**2)
            m = variance * (profile[0][v] - fitted) / profile[1][v] ** 2
            wide = np.sqrt(_WIDER * variance)
            deviation = m + wide * at
            z[:, of_unit] += deviation[:, None]
            log_ratio[:, u] += 0.5 * (at**2 - (deviation / population.tau) ** 2)
            log_ratio[:, u] += np.log(wide / population.tau)
    return mean - sd**2 / 2 if own else mean, sd, z, log_ratio


def _proposed_sd(pair: Pair, population: _Population, c: int, points: Array) -> tuple[Array, Array]:
    """Draw the standard deviations of both genes within a sample; also return the log ratio."""
    assert population.omega is not None
    sd, ratio = np.empty((POINTS, 2)), np.zeros(POINTS)
    for g, margin in enumerate(pair.margins):
        one, omega = margin.each[c], float(population.omega[g])
        typical = float(np.log(population.sd_within[g]))
        # The margin's mode has a prior of its own, whose part of the curvature is taken out.
        precision = max(1 / one.log_sd_se**2 - 1 / TYPICAL_OMEGA**2, 1e-3)
        centre = one.log_sd / one.log_sd_se**2 - margin.log_sd / TYPICAL_OMEGA**2
        v = 1 / (precision + 1 / omega**2)
        m, wide = v * (centre + typical / omega**2), np.sqrt(_WIDER * v)
        log_sd = m + wide * points[:, g]
        away = (log_sd - typical) / omega
        ratio += 0.5 * (points[:, g] ** 2 - away**2) + np.log(wide / omega)
        sd[:, g] = np.exp(log_sd)
    return sd, ratio


def _likelihood_of_means(pair: Pair, sd: Array, donor: int) -> tuple[Array, Array]:
    """Approximate the likelihood of the means of a donor's samples given their sd (samples, 2).

    With a standard deviation of each sample, the mean is the log of the sample's mean rate, whose
    likelihood hardly depends on it.
    """
    members, centre, precision = np.flatnonzero(pair.population.block == donor), [], []
    for g, m in enumerate(pair.margins):  # without the weak prior of the margin
        of_sd, se = m.log_sd_of_samples[0][members], m.m_se[members]
        prior_mean = np.array([m.each[c].prior_mean if m.each else m.prior_mean for c in members])
        inverse = np.maximum(1 / se**2 - 1 / MEAN_SD**2, 1e-3)
        moved = 0.0 if m.each else m.slope[members] * (np.log(sd[:, g]) - of_sd)
        at = (m.m[members] + moved) / se**2 - prior_mean / MEAN_SD**2
        shift = np.exp(2 * of_sd) / 2 if m.each else 0.0
        centre.append(at / inverse + shift)
        precision.append(inverse)
    return np.stack(centre, 1), np.stack(precision, 1)


def _normal_points(dimension: int) -> Array:
    """Return evenly spread points of a standard normal distribution, the same at every call."""
    sobol = stats.qmc.Sobol(dimension, rng=np.random.default_rng(0))
    return np.asarray(special.ndtri(np.clip(sobol.random(POINTS), 1e-6, 1 - 1e-6)))


def without_donor(pair: Pair, setup: Setup, donor: int) -> tuple[Pair, Setup]:
    """Build the posterior of the pair without one donor, with the same priors."""
    kept = np.flatnonzero(pair.population.block != donor)
    population = setup.population
    blocks = np.unique(population.block[kept], return_inverse=True)[1].astype(np.int64)
    z = population.z
    left = replace(
        population,
        design=population.design[kept],
        block=blocks,
        z=None if z is None else replace(z, design=z.design[kept]),
    )
    cells = pair.cells
    spans = [np.arange(cells.starts[c], cells.starts[c + 1]) for c in kept]
    of = np.concatenate(spans)
    fewer = Cells(
        np.ascontiguousarray(pair.x[of]),
        cells.log_s[of],
        np.append(0, np.cumsum([len(s) for s in spans])).astype(np.int64),
        None if cells.effect is None else cells.effect[of][:, list(pair.genes)],
    )
    margins = tuple(margin_of(fewer, g, setup) for g in (0, 1))
    changed = replace(setup, population=left)
    intercepts = pair.coefficient_mean[:, 0]
    return (
        make_pair(fewer, (0, 1), (margins[0], margins[1]), changed, intercepts=intercepts),
        changed,
    )


def leave_donor_out(
    az: Any,
    pair: Pair,
    setup: Setup,
    draws: Draws,
    keep: NDArray[np.int64],
    settings: Settings,
    seed: int,
) -> dict[str, float]:
    """Estimate the expected log predictive density of a new donor's cells.

    Parameters
    ----------
    az : module
        ArviZ.
    pair : Pair
    setup : Setup
    draws : Draws
    keep : ndarray of int
        Draws of each chain to use.
    settings : Settings
        Settings of the fits without a donor for which importance sampling is unreliable.
    seed : int

    Returns
    -------
    dict
        ``elpd_donor``, its standard error ``se_donor``, and the number of donors that were left out
        of new fits, ``refitted_donors``.
    """
    chains, n = draws.zeta.shape
    at = (np.arange(chains)[:, None] * n + keep).ravel()
    value = donor_log_likelihood(pair, draws, at)
    each, k = _smoothed(az, value.reshape(chains, len(keep), -1), draws.zeta[:, keep])
    again = np.flatnonzero(~(k <= UNRELIABLE))
    refitted = 0
    for u in again:
        left = np.flatnonzero(pair.population.block != u)
        units = len(np.unique(pair.population.block[left]))
        if units < _FEWEST_UNITS or len(left) < setup.population.design.shape[1] + 2:
            continue
        other, _ = without_donor(pair, setup, int(u))
        drawn = sample_pair(other, settings, seed + 1 + int(u))
        unseen = donor_log_likelihood(pair, drawn, at)[:, u]
        each[u] = special.logsumexp(unseen) - np.log(len(unseen))
        refitted += 1
    return {
        "elpd_donor": float(each.sum()),
        "se_donor": float(np.sqrt(len(each) * each.var())),
        "refitted_donors": float(refitted),
    }


def _smoothed(az: Any, value: Array, zeta: Array) -> tuple[Array, Array]:
    """Return the log predictive density of each donor by importance sampling, and its Pareto k."""
    groups = {
        "posterior": xr.Dataset({"zeta": (("chain", "draw"), zeta)}),
        "log_likelihood": xr.Dataset({"donors": (("chain", "draw", "donor"), value)}),
    }
    coords = {"chain": np.arange(value.shape[0]), "draw": np.arange(value.shape[1])}
    data = arviz_groups({name: v.assign_coords(coords) for name, v in groups.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unreliable donors are left out of a new fit
        found = az.loo(data, pointwise=True)
    each = getattr(found, "loo_i", None)
    each = found.elpd_i if each is None else each
    return np.array(each, float).ravel(), np.array(found.pareto_k, float).ravel()
