r"""Chains of the joint posterior: data augmentation with interweaving, exact.

A sweep moves

1. the log rates of each cell given all parameters, by a Metropolis step whose proposal is the
   posterior under a quadratic approximation of the cell's likelihood;
2. means and covariance matrices given the log rates, from their conditional distributions: this
   mixes well where counts are high;
3. each row of the Cholesky factor of the common covariance matrix, and the gene's intercept with
   it, as a Poisson regression of the gene's counts on the standardised deviations of the cells,
   which are held fixed; then the means of the samples, likewise: this mixes well where counts are
   low (interweaving, Yu & Meng 2011);
4. coefficients, effects of donors and the matrices :math:`\Sigma_B`, :math:`\Sigma_D`, several
   times.

With heterogeneity, step 2 moves the matrix of each donor given its cells' log rates, a gene at a
time, then the common matrix given those of the donors (which mixes well where these are known and
differ), then the common matrix with all log rates and the donors' standardised differences from it
fixed (where they hardly differ), and tau with the donors' matrices and with their standardised
differences fixed. Last, tau changes, and the donors' differences and all log rates follow, as
:func:`hiercorr.kernels.joint_units.other_df` and :func:`hiercorr.kernels.joint.follow_cells` say:
up to the approximations, for which the Metropolis step corrects, it then moves as if both were
integrated out.

Proposals adapt during the warm-up only. Draws are thinned as far as convergence needs: where some
parameter that is reported has not converged, the chains go on as much longer as its effective
sample size suggests, with twice the thinning once twice the wanted number of draws is stored. Of
the stored draws the wanted number is kept, evenly spaced.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.bayes.diagnostics import MAX_R_HAT, MIN_ESS
from hiercorr.bayes.joint.model import Chain, JointModel, start_chain
from hiercorr.bayes.margin import Array
from hiercorr.kernels import joint
from hiercorr.runtime import blas, workers
from hiercorr.runtime.optional import optional
from hiercorr.runtime.progress import shown
from hiercorr.runtime.workers import over_ranges

SWEEPS = 5  # of a step of the warm-up, and of a kept draw at first
MOST = 64  # times as much thinning at most
_RATE = 0.05  # of the adaptation of steps
_MARGIN, _LEAST_LONGER = 1.1, 1.25  # of the length of chains that have not converged
_MEASURED = 0.3  # seconds of measurement
_PIECES = 20  # calls of the kernel between two checks of convergence: where progress is shown


@dataclass(frozen=True)
class Varying:
    """Draws of correlations within samples that vary between donors.

    Attributes
    ----------
    tau : ndarray, shape (chain, draw)
        Heterogeneity: standard deviation of Fisher's z of each correlation.
    own : ndarray of float32, shape (chain, draw, sample, gene, gene)
        Correlation matrix within each sample.
    new : ndarray of float32, shape (chain, draw, gene, gene)
        Correlation matrix within a sample of a new donor.
    """

    tau: Array
    own: NDArray[np.float32]
    new: NDArray[np.float32]

    @property
    def pairs(self) -> list[Array]:
        """Draws of the pairs' correlations in a new donor and in each sample, (..., pair)."""
        return [v.astype(float) for v in (_vector(self.new), *np.moveaxis(_vector(self.own), 2, 0))]


@dataclass(frozen=True)
class JointDraws:
    """Draws of the joint posterior; the first dimensions of every array are (chain, draw).

    Attributes
    ----------
    correlation : dict
        Level -> correlation matrices (..., gene, gene): ``"within"``, ``"between"`` and, with
        donors, ``"samples"``.
    sd : dict
        Level -> standard deviations (..., gene).
    mean : ndarray, shape (..., sample, gene)
        Mean log rates at the mean depth.
    coefficient, coefficient_prior : ndarray, shape (..., coefficient, gene)
        Coefficients, and their log prior densities up to constants.
    thinning : int
        Sweeps per draw.
    r_hat, ess : float
        Worst R-hat and effective sample size (bulk or tail) over all parameters.
    varying : Varying, optional
        Of a model with heterogeneity.
    """

    correlation: dict[str, Array]
    sd: dict[str, Array]
    mean: Array
    coefficient: Array
    coefficient_prior: Array
    thinning: int
    r_hat: float
    ess: float
    varying: Varying | None = None

    @property
    def converged(self) -> bool:
        """Whether every parameter has enough effective draws."""
        return self.r_hat <= MAX_R_HAT and self.ess >= MIN_ESS


def sample_joint(
    model: JointModel,
    draws: int,
    tune: int,
    chains: int,
    seed: np.random.SeedSequence,
    progress: bool | None = None,
    first: int = 1,
    most: int = MOST,
) -> JointDraws:
    """Draw from the joint posterior.

    Parameters
    ----------
    model : JointModel
    draws, tune, chains : int
        Kept draws and steps of the warm-up per chain, and number of chains.
    seed : SeedSequence
    progress : bool, optional
    first, most : int
        Thinning of the first draws and largest thinning, in multiples of 5 sweeps.

    Returns
    -------
    JointDraws
        The same whatever the number of threads.
    """
    *children, new = seed.spawn(chains + 1)
    running = [start_chain(model, child) for child in children]
    with blas.at_most(1):  # chains are parallel already
        for piece in shown(range(_PIECES), _PIECES, progress, "warm-up"):
            steps = -(-tune * SWEEPS // _PIECES)
            _run(model, running, steps, 1, _RATE, None)
            if piece + 1 in (_PIECES // 2, _PIECES):
                for chain in running:
                    _observe_units(chain)
        for chain in running:
            _settle(chain, model.cells[0])
        kept = [_space(model, 2 * draws) for _ in running]
        done, stop, thinning = 0, draws, first
        while True:
            edges = np.linspace(done, stop, _PIECES + 1).astype(int)
            label = f"draws of {SWEEPS * thinning} sweeps"
            for a, b in shown(list(itertools.pairwise(edges)), _PIECES, progress, label):
                part = [[values[a:b] for values in k] for k in kept]
                _run(model, running, (b - a) * SWEEPS * thinning, SWEEPS * thinning, 0.0, part)
            chosen = np.linspace(0, stop - 1, draws).round().astype(int)
            some = [[values[chosen] for values in k] for k in kept]
            sweeps = round(SWEEPS * thinning * stop / draws)
            found = _assembled(model, some, sweeps, np.random.default_rng(new))
            if found.converged or thinning >= most:
                return found
            done, longer = stop, _longer(found)
            while done * longer > 2 * draws and thinning < most:
                done, thinning = (done + 1) // 2, 2 * thinning
                for k in kept:
                    for values in k:
                        values[:done] = values[: 2 * done : 2].copy()
            stop = min(max(math.ceil(done * longer), draws), 2 * draws)


def seconds_per_sweep(model: JointModel, chains: int) -> float:
    """Measure the time of a sweep of one chain while as many chains as threads run.

    Parameters
    ----------
    model : JointModel
    chains : int

    Returns
    -------
    float
        Seconds by which one sweep of one chain prolongs a run of all chains.
    """
    threads = min(workers.allowed(), chains)
    running = [start_chain(model, child) for child in np.random.SeedSequence(0).spawn(threads)]
    done, end = 0, 0.0
    with blas.at_most(1):
        _run(model, running, 1, 1, _RATE, None)  # compiled
        start = time.perf_counter()
        while end < start + _MEASURED:
            _run(model, running, 5, 1, _RATE, None)
            done, end = done + 5 * threads, time.perf_counter()
    return (end - start) / done


def _longer(found: JointDraws) -> float:
    """Return how many times as long chains are to be that have not converged."""
    enough = _MARGIN * MIN_ESS / found.ess if found.ess > 0 else math.inf
    return min(max(enough, _LEAST_LONGER if found.r_hat <= MAX_R_HAT else 2.0), 4.0)


def _run(
    model: JointModel,
    chains: list[Chain],
    sweeps: int,
    thin: int,
    adapt: float,
    kept: list[list[Array]] | None,
) -> None:
    """Run every chain for some sweeps, in threads; what a chain does depends on itself only."""

    def some(begin: int, end: int) -> None:
        for k in range(begin, end):
            chain = chains[k]
            space = _space(model, 0) if kept is None else kept[k]
            joint.sweep_chain(
                chain.rng,
                sweeps,
                thin,
                adapt,
                model.cells,
                model.population_arguments,
                model.priors,
                chain.state,
                chain.tuning,
                tuple(space),
            )
            chain.adapted += sweeps if adapt > 0 else 0

    over_ranges(some, len(chains))


def _settle(chain: Chain, counts: Array) -> None:
    """End the warm-up: a cell's likelihood is approximated by its means over the warm-up."""
    curvature, pseudo, lam, u, *_ = chain.tuning
    curvature[:] = lam / chain.adapted + 1e-9
    pseudo[:] = u / chain.adapted + (counts - lam / chain.adapted) / curvature


def _observe_units(chain: Chain) -> None:
    """Approximate the likelihood of the units' matrices, by the mean since this was last done."""
    _, observed, total, weight = chain.tuning[-4:]
    np.divide(total, weight, out=observed, where=weight > 0)
    total[:], weight[:] = 0.0, 0.0


def _space(model: JointModel, draws: int) -> list[Array]:
    g, (n, k) = model.n_genes, model.population.design.shape
    shapes = [(g, g), (g, g), (g, g), (n, g), (k, g)]
    units = model.n_units if model.heterogeneity else 0
    own: NDArray[Any] = np.empty((draws, units, g, g), np.float32)
    return [*(np.empty((draws, *shape)) for shape in shapes), np.empty(draws), own]


def _assembled(
    model: JointModel, kept: list[list[Array]], thinning: int, rng: np.random.Generator
) -> JointDraws:
    """Put genes back in order and compute the diagnostics."""
    back = np.argsort(model.order)
    square = (..., back[:, None], back)
    roots_w, roots_b, roots_d, mean, coefficient, tau, own = (
        np.stack([k[i] for k in kept]) for i in range(len(kept[0]))
    )
    levels = {"within": roots_w, "between": roots_b}
    if model.population.blocked:
        levels = {"within": roots_w, "between": roots_d, "samples": roots_b}
    correlation, sd = {}, {}
    for level, root in levels.items():
        scale = np.sqrt((root**2).sum(-1))
        root = root / scale[..., None]
        matrix = (root @ np.swapaxes(root, -1, -2))[square]
        matrix[..., np.arange(len(back)), np.arange(len(back))] = 1.0
        correlation[level], sd[level] = matrix, scale[..., back]
    mean = mean[..., back]
    centre, spread = (v.T for v in model.priors[4:6])
    prior = (-0.5 * ((coefficient - centre) / spread) ** 2)[..., back]
    coefficient = model.population.stated_coefficients(coefficient[..., back])
    checked = [*map(_vector, correlation.values()), *sd.values(), mean, coefficient]
    varying = None
    if model.heterogeneity:
        new = new_matrices(correlation["within"], tau, rng)
        of_samples = own[square][:, :, model.unit]
        varying = Varying(tau, np.asarray(of_samples, np.float32), new)
        checked += [tau, *varying.pairs]
    worst = _worst(checked)
    return JointDraws(correlation, sd, mean, coefficient, prior, thinning, *worst, varying)


def new_matrices(correlation: Array, tau: Array, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the correlation matrix within a sample of a new donor.

    Parameters
    ----------
    correlation : ndarray, shape (..., n_genes, n_genes)
        Correlation matrices of the population.
    tau : ndarray, shape (...)
        Heterogeneity.
    rng : Generator

    Returns
    -------
    ndarray of float32, shape (..., n_genes, n_genes)
    """
    return inverse_wishart(correlation, degrees_of_freedom(tau), rng).astype(np.float32)


def inverse_wishart(correlation: Array, df: Array, rng: np.random.Generator) -> Array:
    """Draw correlation matrices of inverse Wishart matrices with df + G - 1 degrees of freedom.

    Parameters
    ----------
    correlation : ndarray, shape (..., n_genes, n_genes)
        Correlation matrices around which they vary.
    df : ndarray, shape (...)
    rng : Generator

    Returns
    -------
    ndarray, shape (..., n_genes, n_genes)
    """
    diagonal = np.arange(correlation.shape[-1])
    inverse = np.tril(rng.standard_normal(correlation.shape), -1)
    inverse[..., diagonal, diagonal] = np.sqrt(rng.chisquare(df[..., None] + diagonal))
    root = np.linalg.cholesky(correlation) @ np.linalg.inv(inverse)
    root /= np.sqrt((root**2).sum(-1, keepdims=True))
    matrix = np.asarray(root @ np.swapaxes(root, -1, -2))
    matrix[..., diagonal, diagonal] = 1.0
    return matrix


def degrees_of_freedom(tau: Array) -> Array:
    r"""Solve :math:`\tau^2 = \psi'(m / 2) / 2` for m, by Newton's method.

    Parameters
    ----------
    tau : ndarray

    Returns
    -------
    ndarray
    """
    y = 2 * np.asarray(tau, float) ** 2
    x = 0.5 + 1 / y
    for _ in range(12):  # monotone: 1 / psi' is nearly linear (limma's trigammaInverse)
        value = special.polygamma(1, x)
        x += value * (1 - value / y) / special.polygamma(2, x)
    return 2 * x


def _vector(correlation: NDArray[Any]) -> NDArray[Any]:
    upper = np.triu_indices(correlation.shape[-1], 1)
    return correlation[..., upper[0], upper[1]]


def _worst(variables: list[Array]) -> tuple[float, float]:
    """Return the largest R-hat and the smallest effective sample size."""
    flat = np.concatenate([v.reshape(*v.shape[:2], -1) for v in variables], -1)
    found = diagnostics(flat)
    return float(found["r_hat"].max()), float(min(found["ess_bulk"].min(), found["ess_tail"].min()))


def diagnostics(values: Array) -> dict[str, NDArray[Any]]:
    """Compute convergence diagnostics.

    Parameters
    ----------
    values : ndarray, shape (n_chains, n_draws, n_parameters)

    Returns
    -------
    dict
        ``ess_bulk``, ``ess_tail`` and ``r_hat`` of each parameter.
    """
    import xarray as xr

    az = optional("arviz", "Bayesian models")
    data = xr.Dataset({"v": (("chain", "draw", "parameter"), values)})
    return {
        "ess_bulk": az.ess(data, method="bulk")["v"].values,
        "ess_tail": az.ess(data, method="tail")["v"].values,
        "r_hat": az.rhat(data)["v"].values,
    }
