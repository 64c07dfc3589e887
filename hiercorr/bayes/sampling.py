"""NUTS on the posterior of a pair, and the parameters in its draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array
from hiercorr.bayes.models import marginal_model
from hiercorr.bayes.pair import Pair
from hiercorr.errors import between_0_and_1, one_of, whole_number
from hiercorr.runtime import blas
from hiercorr.runtime.optional import optional
from hiercorr.runtime.resources import cores

SAMPLERS = ("nutpie", "pymc")
STATISTICS: dict[str, type] = {
    "diverging": bool,
    "energy": float,
    "lp": float,
    "tree_depth": int,
    "n_steps": int,
    "step_size": float,
}
_REPORTED = 20  # draws between two updates of a progress bar
STRICT = 0.99  # target acceptance of the second run, for pairs with divergences in the first


@dataclass(frozen=True)
class Settings:
    """Options of the sampler, checked.

    Attributes
    ----------
    draws, tune : int
        Draws and adaptation steps per chain.
    chains : int
        Number of chains.
    sampler : {"nutpie", "pymc"}
    target_accept : float
        Target acceptance probability.
    """

    draws: int = 1000
    tune: int = 400
    chains: int = 4
    sampler: str = "nutpie"
    target_accept: float = 0.95

    def __post_init__(self) -> None:
        """Check every option."""
        one_of("sampler", self.sampler, SAMPLERS)
        for name, minimum in (("draws", 100), ("tune", 100), ("chains", 2)):
            whole_number(name, getattr(self, name), minimum)
            object.__setattr__(self, name, int(getattr(self, name)))
        between_0_and_1("target_accept", self.target_accept)
        object.__setattr__(self, "target_accept", float(self.target_accept))

    @property
    def cores(self) -> int:
        """Number of chains that run at the same time."""
        return min(self.chains, cores())


@dataclass(frozen=True)
class Draws:
    """Posterior draws of a pair; the first dimensions of every array are (chain, draw).

    Attributes
    ----------
    mean : (..., sample, 2)
        Mean log rate of each sample and gene, at the mean depth.
    coefficient : (..., coefficient, 2)
        Coefficients of the formula.
    sd_within, sd_between : (..., 2)
        Standard deviations of log expression within and between samples.
    zeta, z_between : (...)
        Fisher z of the correlations within a typical sample and between samples.
    z_sample : (..., sample)
        Fisher z of the correlation within each sample.
    tau, share : (...) or None
        Heterogeneity of z, and proportion of the variance shared within blocks.
    slopes : (..., slope) or None
        Slopes of z within samples.
    omega : (..., 2) or None
        Standard deviation over samples of the log of the standard deviation within samples.
    sd_sample : (..., sample, 2) or None
        Standard deviation of log expression within each sample, where they differ.
    diverging, energy, lp, tree_depth, n_steps, step_size : (...)
        Statistics of the sampler: divergence, energy and log density of the draw (up to a
        constant), depth and gradients of its trajectory, and step size.
    """

    mean: Array
    coefficient: Array
    sd_within: Array
    sd_between: Array
    zeta: Array
    z_between: Array
    z_sample: Array
    tau: Array | None
    share: Array | None
    slopes: Array | None
    omega: Array | None
    sd_sample: Array | None
    diverging: NDArray[np.bool_]
    energy: Array
    lp: Array
    tree_depth: NDArray[np.int64]
    n_steps: NDArray[np.int64]
    step_size: Array

    @property
    def sd_of_samples(self) -> Array:
        """Standard deviation of log expression within each sample, shape (..., sample, 2)."""
        return sd_of_samples(self.sd_sample, self.sd_within, self.mean.shape)

    def stored(self) -> NDArray[Any]:
        """Return all draws in one structured array, shape (n_chains, n_draws)."""
        each = {f.name: getattr(self, f.name) for f in fields(self)}
        each = {name: v for name, v in each.items() if v is not None}
        kinds = [(name, v.dtype, v.shape[2:]) for name, v in each.items()]
        out = np.empty(self.zeta.shape, np.dtype(kinds))
        for name, v in each.items():
            out[name] = v
        return out

    @classmethod
    def restored(cls, array: NDArray[Any]) -> Draws:
        """Return the draws that :meth:`stored` wrote."""
        names = array.dtype.names or ()
        found: dict[str, Any] = {
            f.name: np.ascontiguousarray(array[f.name]) if f.name in names else None
            for f in fields(cls)
        }
        return cls(**found)

    def flat(self, name: str, at: NDArray[np.int64] | slice = slice(None)) -> Array:
        """Return one variable with chains and draws in one dimension, at selected draws."""
        values = getattr(self, name)
        return np.asarray(values.reshape(-1, *values.shape[2:])[at])


def sd_of_samples(sd_sample: Array | None, sd_within: Array, shape: tuple[int, ...]) -> Array:
    """Return the standard deviation within each sample, also where all samples share it."""
    if sd_sample is not None:
        return sd_sample
    return np.broadcast_to(sd_within[..., None, :], shape)


def sample_pair(
    pair: Pair, settings: Settings, seed: int, report: Callable[[int], object] | None = None
) -> Draws:
    """Draw from the posterior of one pair, again with smaller steps if trajectories diverged.

    Parameters
    ----------
    pair : Pair
    settings : Settings
    seed : int
    report : callable, optional
        Receives the number of draws and adaptation steps, of all chains, that are done.

    Returns
    -------
    Draws
    """
    with blas.at_most(1):  # chains are parallel already
        best = _run(pair, settings, settings.target_accept, seed, report)
        if best.diverging.any() and settings.target_accept < STRICT:
            again = _run(pair, settings, STRICT, seed + 1, None)
            best = again if again.diverging.sum() < best.diverging.sum() else best
    return best


def _run(
    pair: Pair,
    settings: Settings,
    target_accept: float,
    seed: int,
    report: Callable[[int], object] | None,
) -> Draws:
    if settings.sampler == "nutpie":
        return _nutpie(pair, settings, target_accept, seed, report)
    return _pymc(pair, settings, target_accept, seed)


def _nutpie(
    pair: Pair,
    settings: Settings,
    target_accept: float,
    seed: int,
    report: Callable[[int], object] | None,
) -> Draws:
    nutpie = optional("nutpie", "Bayesian models")
    from nutpie.compiled_pyfunc import from_pyfunc

    n, done = pair.layout.size, itertools.count(1)

    def start(seed: Any) -> Array:
        return pair.initial + 0.5 * pair.spread * np.random.default_rng(seed).standard_normal(n)

    def vector(theta: Array) -> dict[str, Array]:
        k = next(done)
        if report is not None and k % _REPORTED == 0:
            report(k)
        return {"vector": np.array(theta)}

    model = from_pyfunc(
        n,
        lambda: pair.log_density,
        lambda *_: vector,
        [np.dtype(np.float64)],
        [(n,)],
        ["vector"],
        make_initial_point_fn=start,
    )
    trace = _run_nutpie(nutpie, model, settings, target_accept, seed)
    return unpack(
        pair, trace["posterior"]["vector"].values, sampler_statistics(trace["sample_stats"])
    )


def _run_nutpie(
    nutpie: Any, model: Any, settings: Settings, target_accept: float, seed: int
) -> Any:
    """Sample with nutpie; an interruption ends the chains and is passed on."""
    running = nutpie.sample(
        model,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=seed,
        progress_bar=False,
        save_warmup=False,
        target_accept=target_accept,
        blocking=False,
    )
    try:
        return running.wait()  # nutpie.sample itself returns incomplete chains when interrupted
    except BaseException:
        running.cancel()
        raise


def sampler_statistics(stats: Any) -> dict[str, NDArray[Any]]:
    """Return the statistics of a trace of nutpie or PyMC under the names that ArviZ uses."""
    names = {"lp": ("lp", "logp"), "tree_depth": ("tree_depth", "depth")}
    out = {}
    for name in STATISTICS:
        known = names.get(name, (name,))
        values = stats[next(k for k in known if k in stats)].values
        out[name] = values.astype(STATISTICS[name])
    return out


def unpack(pair: Pair, theta: Array, statistics: Mapping[str, NDArray[Any]]) -> Draws:
    """Transform sampled vectors to parameters.

    Parameters
    ----------
    pair : Pair
    theta : ndarray, shape (n_chains, n_draws, size)
        Sampled vectors.
    statistics : mapping
        See :func:`sampler_statistics`.

    Returns
    -------
    Draws
    """
    layout, n, k = pair.layout, pair.layout.n_samples, pair.layout.n_coefficients
    shape = theta.shape[:2]
    scale = np.stack([m.m_se for m in pair.margins], 1)
    b = np.swapaxes(theta[..., layout.means].reshape(*shape, 2, n), -1, -2)
    mean, sd_within = pair.centre + scale * b, np.exp(theta[..., layout.log_sd_within])
    coef = np.swapaxes(theta[..., layout.coefficients].reshape(*shape, 2, k), -1, -2)
    zeta, tau = theta[..., layout.zeta], None
    z = np.repeat(zeta[..., None], n, -1)
    slopes = omega = sd_sample = None
    if pair.regression is not None:
        slopes = theta[..., layout.slopes]
        z = z + slopes @ pair.regression.design.T
    if layout.heterogeneity:
        log_tau = theta[..., layout.log_tau, None]
        deviation = theta[..., layout.eta] - pair.centred * _unit_means(z, pair)
        z = z + (np.exp((1 - pair.centred) * log_tau) * deviation)[..., pair.unit]
        tau = np.exp(log_tau[..., 0])
    if layout.sd_per_sample:
        log_omega, typical = theta[..., layout.log_omega], theta[..., None, layout.log_sd_within]
        xi = np.swapaxes(theta[..., layout.xi].reshape(*shape, 2, n), -1, -2)
        wide = np.exp((1 - pair.sd_centred) * log_omega[..., None, :])
        sd_sample = np.exp(typical + wide * (xi - pair.sd_centred * typical))
        mean, omega = mean - sd_sample**2 / 2, np.exp(log_omega)
    share = 1 / (1 + np.exp(-theta[..., layout.logit_share])) if layout.blocked else None
    return Draws(
        mean=mean,
        coefficient=coef,
        sd_within=sd_within,
        sd_between=np.exp(theta[..., layout.log_sd_between]),
        zeta=zeta,
        z_between=theta[..., layout.z_between],
        z_sample=z,
        tau=tau,
        share=share,
        slopes=slopes,
        omega=omega,
        sd_sample=sd_sample,
        **statistics,
    )


def _unit_means(z: Array, pair: Pair) -> Array:
    """Average values of samples, shape (..., sample), over the samples of each unit."""
    same = pair.unit[:, None] == np.arange(pair.layout.n_units)
    return np.asarray(z @ (same / same.sum(0)))


def _pymc(pair: Pair, settings: Settings, target_accept: float, seed: int) -> Draws:
    model = marginal_model(pair)
    trace = sample_model(model, settings, target_accept, seed, initial=_start_values(pair))
    return _from_trace(trace, pair)


def _start_values(pair: Pair) -> dict[str, Any]:
    return {
        "log_mean" if pair.layout.sd_per_sample else "mean": pair.centre,
        "sd_within": np.exp(pair.initial[pair.layout.log_sd_within]),
        "sd_between": np.exp(pair.initial[pair.layout.log_sd_between]),
    }


def _from_trace(trace: Any, pair: Pair) -> Draws:
    post, stats = trace["posterior"], trace["sample_stats"]

    def value(name: str) -> Array:
        return np.asarray(post[name].values)

    layout = pair.layout
    return Draws(
        mean=value("mean"),
        coefficient=value("beta"),
        sd_within=value("sd_within"),
        sd_between=value("sd_between"),
        zeta=value("zeta"),
        z_between=value("z_between"),
        z_sample=value("z_sample"),
        tau=value("tau") if layout.heterogeneity else None,
        share=value("share") if layout.blocked else None,
        slopes=value("z_slope") if pair.regression is not None else None,
        omega=value("omega") if layout.sd_per_sample else None,
        sd_sample=value("sd_sample") if layout.sd_per_sample else None,
        **sampler_statistics(stats),
    )


def sample_model(
    model: Any, settings: Settings, target_accept: float, seed: int, initial: Any = None
) -> Any:
    """Draw from the posterior of a PyMC model.

    Parameters
    ----------
    model : pymc.Model
    settings : Settings
    target_accept : float
    seed : int
    initial : mapping, optional
        Starting values, used by PyMC's sampler.

    Returns
    -------
    InferenceData or DataTree
    """
    if settings.sampler == "nutpie":
        nutpie = optional("nutpie", "Bayesian models")
        compiled = nutpie.compile_pymc_model(model)
        return _run_nutpie(nutpie, compiled, settings, target_accept, seed)
    pm = optional("pymc", "Bayesian models")
    with model:
        return pm.sample(
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=1,
            random_seed=seed,
            target_accept=target_accept,
            progressbar=False,
            initvals=initial,
            compute_convergence_checks=False,
        )


def require(*names: str) -> None:
    """Raise an error if one of these packages is missing, before the work starts."""
    for name in names:
        optional(name, "Bayesian models")
