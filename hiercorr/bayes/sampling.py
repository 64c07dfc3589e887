"""NUTS on the posterior of a pair, and what its vectors mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array
from hiercorr.bayes.pair import Pair
from hiercorr.runtime import blas
from hiercorr.runtime.optional import optional
from hiercorr.runtime.resources import cores

SAMPLERS = ("nutpie", "pymc")
STRICT = 0.99  # target acceptance of the second run of a pair whose first one had divergences


@dataclass(frozen=True)
class Settings:
    """How to sample."""

    draws: int
    tune: int
    chains: int
    sampler: str
    target_accept: float

    @property
    def cores(self) -> int:
        return min(self.chains, cores())


@dataclass(frozen=True)
class Draws:
    """Posterior draws of a pair; every array starts with (chain, draw).

    Attributes
    ----------
    mean : (..., sample, 2)
        Mean log rate of each sample and gene, at the mean depth.
    coefficient : (..., coefficient, 2)
    sd_within, sd_between : (..., 2)
    zeta, z_between : (...)
    z_sample : (..., sample)
        z of the correlation within each sample.
    tau, share : (...) or None
    diverging, energy : (...)
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
    diverging: NDArray[np.bool_]
    energy: Array

    def flat(self, name: str, at: NDArray[np.int64] | slice = slice(None)) -> Array:
        """One variable with chain and draw in one axis, at some of the draws."""
        values = getattr(self, name)
        return np.asarray(values.reshape(-1, *values.shape[2:])[at])


def sample_pair(pair: Pair, settings: Settings, seed: int) -> Draws:
    """Draws of one pair; once more with smaller steps where trajectories diverged."""
    run = _nutpie if settings.sampler == "nutpie" else _pymc
    with blas.at_most(1):  # the chains are the threads
        best = run(pair, settings, settings.target_accept, seed)
        if best.diverging.any() and settings.target_accept < STRICT:
            again = run(pair, settings, STRICT, seed + 1)
            best = again if again.diverging.sum() < best.diverging.sum() else best
    return best


def _nutpie(pair: Pair, settings: Settings, target_accept: float, seed: int) -> Draws:
    nutpie = optional("nutpie", "Bayesian models")
    from nutpie.compiled_pyfunc import from_pyfunc

    n = pair.layout.size

    def start(seed: Any) -> Array:
        return pair.initial + 0.5 * pair.spread * np.random.default_rng(seed).standard_normal(n)

    model = from_pyfunc(
        n,
        lambda: pair.log_density,
        lambda *_: _vector,
        [np.dtype(np.float64)],
        [(n,)],
        ["vector"],
        make_initial_point_fn=start,
    )
    trace = nutpie.sample(
        model,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=seed,
        progress_bar=False,
        save_warmup=False,
        target_accept=target_accept,
    )
    stats = trace["sample_stats"]
    return unpack(
        pair,
        trace["posterior"]["vector"].values,
        stats["diverging"].values.astype(bool),
        stats["energy"].values,
    )


def _vector(theta: Array) -> dict[str, Array]:
    return {"vector": np.array(theta)}


def unpack(pair: Pair, theta: Array, diverging: NDArray[np.bool_], energy: Array) -> Draws:
    """The parameters in a stack of sampled vectors (chain, draw, size)."""
    at, n, k = pair.layout, pair.layout.n_samples, pair.layout.n_coefficients
    shape = theta.shape[:2]
    centre, scale = (
        np.stack([getattr(m, name) for m in pair.margins], 1) for name in ("m", "m_se")
    )
    b = np.swapaxes(theta[..., : 2 * n].reshape(*shape, 2, n), -1, -2)
    coef = np.swapaxes(theta[..., 2 * n : at.at_sd].reshape(*shape, 2, k), -1, -2)
    s = at.at_sd
    zeta, tau = theta[..., s + 4], None
    z = np.repeat(zeta[..., None], n, -1)
    if at.heterogeneity:
        log_tau = theta[..., s + 6, None]
        psi = theta[..., s + 7 : s + 7 + at.n_units]
        deviation = psi - pair.centred * zeta[..., None]
        z = (zeta[..., None] + np.exp((1 - pair.centred) * log_tau) * deviation)[..., pair.unit]
        tau = np.exp(log_tau[..., 0])
    share = 1 / (1 + np.exp(-theta[..., -1])) if at.blocked else None
    return Draws(
        centre + scale * b,
        coef,
        np.exp(theta[..., s : s + 2]),
        np.exp(theta[..., s + 2 : s + 4]),
        zeta,
        theta[..., s + 5],
        z,
        tau,
        share,
        diverging,
        energy,
    )


def _pymc(pair: Pair, settings: Settings, target_accept: float, seed: int) -> Draws:
    from hiercorr.bayes.models import marginal_model

    return _from_trace(
        sample_model(
            marginal_model(pair), settings, target_accept, seed, initial=_start_values(pair)
        ),
        pair,
    )


def _start_values(pair: Pair) -> dict[str, Any]:
    s = pair.layout.at_sd
    start = pair.initial
    return {
        "mean": np.stack([m.m for m in pair.margins], 1).ravel(),
        "sd_within": np.exp(start[s : s + 2]),
        "sd_between": np.exp(start[s + 2 : s + 4]),
    }


def _from_trace(trace: Any, pair: Pair) -> Draws:
    post, stats = trace["posterior"], trace["sample_stats"]

    def value(name: str) -> Array:
        return np.asarray(post[name].values)

    zeta = value("zeta")
    z = (
        value("z_unit")[..., pair.unit]
        if pair.layout.heterogeneity
        else np.repeat(zeta[..., None], pair.layout.n_samples, -1)
    )
    return Draws(
        value("mean").reshape(*zeta.shape, -1, 2),
        value("coefficient"),
        value("sd_within"),
        value("sd_between"),
        zeta,
        value("z_between"),
        z,
        value("tau") if pair.layout.heterogeneity else None,
        value("share") if pair.layout.blocked else None,
        stats["diverging"].values.astype(bool),
        np.asarray(stats["energy"].values),
    )


def sample_model(
    model: Any, settings: Settings, target_accept: float, seed: int, initial: Any = None
) -> Any:
    """Draws of a PyMC model, as ArviZ gives them."""
    if settings.sampler == "nutpie":
        nutpie = optional("nutpie", "Bayesian models")
        compiled = nutpie.compile_pymc_model(model)
        return nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            seed=seed,
            progress_bar=False,
            save_warmup=False,
            target_accept=target_accept,
        )
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
    """Raise before the work starts if one of these packages is missing."""
    for name in names:
        optional(name, "Bayesian models")
