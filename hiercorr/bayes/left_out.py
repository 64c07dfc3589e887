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
from hiercorr.bayes.pair import Pair, make_pair, margin_of, z_profile
from hiercorr.bayes.sampling import Draws, Settings, sample_pair
from hiercorr.bayes.setup import Population, Setup
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
    tables, constant = _tables(pair)
    profile = z_profile(pair.rows, pair.margins, pair.unit).each
    design, unit = pair.population.design, pair.unit
    out = np.empty((len(at), pair.layout.n_units))
    for d in range(len(at)):
        population = _Population(
            design @ value["coefficient"][d],
            value["sd_between"][d],
            np.tanh(value["z_between"][d]) if pair.structure == "both" else 0.0,
            share[d],
            value["zeta"][d],
            tau[d],
        )
        mean, z, log_ratio = _proposed(pair, population, value["sd_within"][d], profile)
        rho = np.tanh(z)[:, unit] if pair.structure != "independent" else np.zeros(mean.shape[:2])
        sd = np.repeat(value["sd_within"][d][None], POINTS, 0)
        each = _of_samples(pair, tables, mean, sd, rho) + constant
        total = log_ratio.copy()
        np.add.at(total.T, unit, each.T)
        out[d] = special.logsumexp(total, axis=0) - np.log(POINTS)
    return out


class _Population:
    """Parameters of the population at one draw."""

    def __init__(
        self, mean: Array, sd: Array, rho: float, share: float, zeta: float, tau: float
    ) -> None:
        self.mean, self.share, self.zeta, self.tau = mean, share, zeta, tau
        self.covariance = np.outer(sd, sd) * np.array([[1, rho], [rho, 1]])


def _tables(pair: Pair) -> tuple[tuple[Array, Array], Array]:
    """Return the likelihoods of the rows on the grids, and what completes those of each sample."""
    rows, tables, constant = pair.rows, [], np.zeros(len(pair.rows.x))
    for g in range(2):
        x = rows.x[:, g].copy()
        left, points = pair.grid.left[:, g].copy(), pair.grid.points[g]
        table, peak = kernels.poisson_table(
            x, rows.log_s, rows.starts, left, pair.grid.spacing[g], points
        )
        tables.append(table)
        constant += peak - special.gammaln(x + 1)
    return (tables[0], tables[1]), np.add.reduceat(rows.weight * constant, rows.starts[:-1])


def _of_samples(
    pair: Pair, tables: tuple[Array, Array], mean: Array, sd: Array, rho: Array
) -> Array:
    """Return the log likelihood of each sample, shape (points, samples); 0 outside the grid."""
    rows, (left, spacing, _) = pair.rows, pair.grid
    given = (left[:, 0].copy(), spacing[0], left[:, 1].copy(), spacing[1])
    with np.errstate(all="ignore"):
        each = kernels.cell_log_likelihoods(*tables, rows.starts, mean, sd, rho, *given)
    total = np.add.reduceat(rows.weight * each, rows.starts[:-1], axis=1)
    return np.where(np.isfinite(total), total, -np.inf)


def _proposed(
    pair: Pair, population: _Population, sd: Array, profile: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """Draw the means and the z of every donor.

    Returns
    -------
    mean : ndarray, shape (points, n_samples, 2)
    z : ndarray, shape (points, n_units)
    log_ratio : ndarray, shape (points, n_units)
        Log density under the population minus that of the proposal.
    """
    n, n_units = len(pair.population.design), pair.layout.n_units
    centre, precision = _likelihood_of_means(pair, sd)
    mean, z = np.empty((POINTS, n, 2)), np.full((POINTS, n_units), population.zeta)
    log_ratio = np.zeros((POINTS, n_units))
    for u in range(n_units):
        members = np.flatnonzero(pair.unit == u)
        k = len(members)
        points = _normal_points(2 * k + 1)
        same = (1 - population.share) * np.eye(k) + population.share
        prior = np.kron(same, population.covariance)
        inverse = np.linalg.inv(prior)
        weight = np.diag(precision[members].ravel())
        covariance = np.linalg.inv(inverse + weight)
        expected = population.mean[members].ravel()
        at = covariance @ (inverse @ expected + weight @ centre[members].ravel())
        root = np.linalg.cholesky(_WIDER * covariance)
        b = at + points[:, :-1] @ root.T
        mean[:, members] = b.reshape(POINTS, k, 2)
        q = -0.5 * (points[:, :-1] ** 2).sum(1) - np.log(np.diag(root)).sum()
        away = b - expected
        p = -0.5 * np.einsum("pi,ij,pj->p", away, inverse, away)
        p -= 0.5 * np.linalg.slogdet(prior)[1]
        log_ratio[:, u] = p - q
        if population.tau > 0:
            v = 1 / (1 / profile[1][u] ** 2 + 1 / population.tau**2)
            m = v * (profile[0][u] / profile[1][u] ** 2 + population.zeta / population.tau**2)
            wide = np.sqrt(_WIDER * v)
            z[:, u] = m + wide * points[:, -1]
            away = (z[:, u] - population.zeta) / population.tau
            log_ratio[:, u] += 0.5 * (points[:, -1] ** 2 - away**2)
            log_ratio[:, u] += np.log(wide / population.tau)
    return mean, z, log_ratio


def _likelihood_of_means(pair: Pair, sd: Array) -> tuple[Array, Array]:
    """Approximate the likelihood of the samples' means given the sd within; shape (samples, 2)."""
    centre, precision = [], []
    for g, m in enumerate(pair.margins):  # without the weak prior of the margin
        at = m.m + m.slope * (np.log(sd[g]) - m.log_sd)
        inverse = np.maximum(1 / m.m_se**2 - 1 / MEAN_SD**2, 1e-3)
        centre.append((at / m.m_se**2 - m.prior_mean / MEAN_SD**2) / inverse)
        precision.append(inverse)
    return np.stack(centre, 1), np.stack(precision, 1)


def _normal_points(dimension: int) -> Array:
    """Return evenly spread points of a standard normal distribution, the same at every call."""
    sobol = stats.qmc.Sobol(dimension, rng=np.random.default_rng(0))
    return np.asarray(special.ndtri(np.clip(sobol.random(POINTS), 1e-6, 1 - 1e-6)))


def without_donor(pair: Pair, setup: Setup, unit: int) -> tuple[Pair, Setup]:
    """Build the posterior of the pair without one donor, with the same priors."""
    kept = np.flatnonzero(pair.unit != unit)
    population = setup.population
    blocks = np.unique(population.block[kept], return_inverse=True)[1].astype(np.int64)
    left = Population(population.design[kept], blocks, population.formula, population.coefficients)
    cells = pair.cells
    spans = [np.arange(cells.starts[c], cells.starts[c + 1]) for c in kept]
    of = np.concatenate(spans)
    fewer = Cells(
        np.ascontiguousarray(pair.x[of]),
        cells.log_s[of],
        np.append(0, np.cumsum([len(s) for s in spans])).astype(np.int64),
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
        left = np.flatnonzero(pair.unit != u)
        units = len(np.unique(pair.unit[left]))
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
