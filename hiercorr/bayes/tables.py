"""From draws to variables: summaries of pairs at both levels, diagnostics, flags and notes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array
from hiercorr.bayes.priors import Priors
from hiercorr.bayes.sampling import Draws
from hiercorr.bayes.setup import Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.runtime.optional import optional
from hiercorr.schema import PAIR_VARIABLES, Flag
from hiercorr.simulate import natural_correlation

MAX_R_HAT, MIN_ESS, MIN_BFMI = 1.01, 400.0, 0.3
MIN_CONTRACTION = 0.5
PRIOR_DRAWS = 200_000
ADVICE = (
    "raise draws= and tune=, or target_accept= (divergences); genes with few counts need stronger "
    "priors or more cells; see r_hat, ess_bulk and result.idata.sample_stats"
)


def interval(draws: Array, share: float) -> tuple[Array, Array]:
    """Compute highest-density intervals.

    Parameters
    ----------
    draws : ndarray, shape (n_draws, ...)
    share : float
        Proportion of the draws that the interval contains.

    Returns
    -------
    lower, upper : ndarray
    """
    ordered = np.sort(draws, axis=0)
    n = len(ordered)
    inside = min(max(int(np.ceil(share * n)), 1), n - 1)
    width = ordered[inside:] - ordered[: n - inside]
    first = width.argmin(0)[None]
    low = np.take_along_axis(ordered, first, 0)[0]
    return low, np.take_along_axis(ordered, first + inside, 0)[0]


def pair_summary(z: Array, share: float, rope: float) -> dict[str, Array]:
    """Summarise draws of Fisher z as pair variables.

    Parameters
    ----------
    z : ndarray, shape (n_draws, ...)
    share : float
        Probability of the intervals.
    rope : float
        Largest absolute correlation that counts as practically zero.

    Returns
    -------
    dict
    """
    rho = np.tanh(z)
    low, high = interval(rho, share)
    positive = (z > 0).mean(0)
    return {
        "correlation": rho.mean(0),
        "fisher_z": z.mean(0),
        "fisher_z_se": z.std(0, ddof=1),
        "sd": rho.std(0, ddof=1),
        "ci_lower": low,
        "ci_upper": high,
        "probability_of_direction": np.maximum(positive, 1 - positive),
        "rope_share": (np.abs(rho) <= rope).mean(0),
    }


def prior_of_z(priors: Priors, name: str, share: float) -> tuple[float, tuple[float, float]]:
    """Compute the prior variance of a Fisher z and the prior interval of its correlation."""
    z = priors.draw(name, PRIOR_DRAWS, np.random.default_rng(0))
    low, high = np.quantile(np.tanh(z), [(1 - share) / 2, (1 + share) / 2])
    return float(z.var()), (float(low), float(high))


def prior_note(level: str, confidence: float, limits: tuple[float, float]) -> str:
    """Describe the prior of a correlation in a sentence."""
    low, high = limits
    return (
        f"Prior of the correlation {level} samples: {100 * confidence:g}% in {low:.2f}..{high:.2f}."
    )


def stack_pairs(draws: Mapping[tuple[int, int], Draws], n_genes: int) -> xr.Dataset:
    """Collect the draws of all pairs.

    Parameters
    ----------
    draws : mapping
        Draws of each pair of gene positions.
    n_genes : int

    Returns
    -------
    xarray.Dataset
        Dimensions (chain, draw, ..., gene, partner). Variables of a single gene differ between
        pairs: entry (j, k) is gene j's in the pair of j and k.
    """
    some = next(iter(draws.values()))
    chains, n = some.zeta.shape
    samples, k = some.mean.shape[2], some.coefficient.shape[2]
    square = (n_genes, n_genes)
    one, dims = (chains, n, *square), ("chain", "draw", "gene", "partner")
    out: dict[str, Any] = {
        name: (dims, np.full(one, np.nan, np.float32))
        for name in (
            "posterior_zeta",
            "posterior_z_between",
            "posterior_within",
            "posterior_between",
            "posterior_natural",
            "posterior_sd_within",
            "posterior_sd_between",
        )
    }
    for name, dim, size in (
        ("mean", "sample", samples),
        ("within_sample", "sample", samples),
        ("beta", "coefficient", k),
    ):
        shape = (chains, n, size, *square)
        out[f"posterior_{name}"] = ((*dims[:2], dim, *dims[2:]), np.full(shape, np.nan, np.float32))
    for name in ("tau", "share"):
        if getattr(some, name) is not None:
            out[f"posterior_{name}"] = (dims, np.full(one, np.nan, np.float32))
    out["stats_diverging"] = (dims, np.zeros(one, bool))
    out["stats_energy"] = (dims, np.full(one, np.nan))
    for (i, j), d in draws.items():
        natural = natural_correlation(np.tanh(d.zeta), d.sd_within[..., 0], d.sd_within[..., 1])
        symmetric = {
            "posterior_zeta": d.zeta,
            "posterior_z_between": d.z_between,
            "posterior_within": np.tanh(d.zeta),
            "posterior_between": np.tanh(d.z_between),
            "posterior_natural": natural,
            "posterior_within_sample": np.tanh(d.z_sample),
            "posterior_tau": d.tau,
            "posterior_share": d.share,
            "stats_diverging": d.diverging,
            "stats_energy": d.energy,
        }
        by_gene = {
            "sd_within": d.sd_within,
            "sd_between": d.sd_between,
            "mean": d.mean,
            "beta": d.coefficient,
        }
        for a, b, side in ((i, j, 0), (j, i, 1)):
            for name, values in symmetric.items():
                if values is not None:
                    out[name][1][..., a, b] = values
            for name, values in by_gene.items():
                out[f"posterior_{name}"][1][..., a, b] = values[..., side]
    for name in ("within", "between", "natural", "within_sample"):
        out[f"posterior_{name}"][1][..., np.arange(n_genes), np.arange(n_genes)] = 1.0
    return xr.Dataset(out)


def from_latent(trace: Any) -> xr.Dataset:
    """Convert draws of the latent model to the variables of :func:`stack_pairs`."""
    post, stats = trace["posterior"], trace["sample_stats"]
    within, between = (
        np.asarray(post[f"{level}_correlation"].values) for level in ("within", "between")
    )
    n = within.shape[-1]
    diagonal = np.arange(n)
    zeta, z_between = (np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)) for r in (within, between))
    for z in (zeta, z_between):
        z[..., diagonal, diagonal] = np.nan
    sd = np.asarray(post["sd_within"].values)
    natural = natural_correlation(np.tanh(zeta), sd[..., :, None], sd[..., None, :])
    natural[..., diagonal, diagonal] = 1.0
    dims = ("chain", "draw", "gene", "partner")
    square = {
        "zeta": zeta,
        "z_between": z_between,
        "within": within,
        "between": between,
        "natural": natural,
        "sd_within": np.broadcast_to(sd[..., None], within.shape),
        "sd_between": np.broadcast_to(post["sd_between"].values[..., None], within.shape),
    }
    out: dict[str, Any] = {
        f"posterior_{k}": (dims, v.astype(np.float32)) for k, v in square.items()
    }
    for name, variable, dim in (("mean", "mean", "sample"), ("beta", "coefficient", "coefficient")):
        values = np.asarray(post[variable].values)[..., None]
        shape = (*values.shape[:-1], n)
        out[f"posterior_{name}"] = (
            (*dims[:2], dim, *dims[2:]),
            np.broadcast_to(values, shape).astype(np.float32),
        )
    diverging, energy = (
        np.asarray(stats[k].values)[..., None, None] for k in ("diverging", "energy")
    )
    out["stats_diverging"] = (dims, np.broadcast_to(diverging.astype(bool), within.shape).copy())
    out["stats_energy"] = (dims, np.broadcast_to(energy, within.shape).copy())
    return xr.Dataset(out)


def diagnose(
    z: Array, energy: Array, diverging: NDArray[np.bool_]
) -> tuple[dict[str, Array], NDArray[np.uint16]]:
    """Compute convergence diagnostics of Fisher z.

    Parameters
    ----------
    z, energy, diverging : ndarray, shape (n_chains, n_draws, ...)

    Returns
    -------
    variables : dict
        ``ess_bulk``, ``ess_tail`` and ``r_hat``.
    flag : ndarray of uint16
        ``NOT_CONVERGED`` where a diagnostic fails.
    """
    az = optional("arviz", "Bayesian models")
    data = xr.Dataset(
        {"z": (("chain", "draw", "pair"), z.reshape(*z.shape[:2], -1).astype(np.float64))}
    )
    shape = z.shape[2:]
    found = {
        "ess_bulk": az.ess(data, method="bulk")["z"].values.reshape(shape),
        "ess_tail": az.ess(data, method="tail")["z"].values.reshape(shape),
        "r_hat": az.rhat(data)["z"].values.reshape(shape),
    }
    step = np.diff(energy, axis=1)
    bfmi = (step**2).mean(1) / energy.var(1)
    failed = (
        ~(found["r_hat"] <= MAX_R_HAT)
        | ~(found["ess_bulk"] >= MIN_ESS)
        | ~(found["ess_tail"] >= MIN_ESS)
    )
    failed |= diverging.any((0, 1)) | (bfmi < MIN_BFMI).any(0)
    return found, np.where(failed, Flag.NOT_CONVERGED.bit, np.uint16(0)).astype(np.uint16)


def projected(correlation: Array) -> tuple[Array, float]:
    """Find the nearest correlation matrix (Higham 2002); also return the smallest eigenvalue."""
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest > 0:
        return correlation, smallest
    from statsmodels.stats.correlation_tools import corr_nearest

    with warnings.catch_warnings():
        # It may reach the maximum number of iterations just above its threshold.
        warnings.simplefilter("ignore")
        return np.asarray(corr_nearest(correlation, threshold=1e-8, n_fact=500)), smallest


def both_levels(
    drawn: xr.Dataset, setup: Setup, intervals: Intervals
) -> tuple[dict[str, dict[str, NDArray]], dict[str, Any]]:
    """Summarise draws at both levels.

    Parameters
    ----------
    drawn : xarray.Dataset
        Draws of all pairs.
    setup : Setup
    intervals : Intervals

    Returns
    -------
    tables : dict
        Pair variables (gene, partner) of levels ``"within"`` and ``"between"``.
    attrs : dict
        Attributes of the result.
    """
    tables: dict[str, dict[str, NDArray]] = {}
    attrs: dict[str, Any] = {}
    n = drawn.sizes["gene"]
    upper = np.triu_indices(n, 1)
    energy, diverging = (drawn[f"stats_{k}"].values[..., *upper] for k in ("energy", "diverging"))
    for level, variable, prior in (
        ("within", "zeta", "z_within"),
        ("between", "z_between", "z_between"),
    ):
        z = drawn[f"posterior_{variable}"].values[..., *upper].astype(np.float64)
        flat = z.reshape(-1, z.shape[-1])
        found = pair_summary(flat, intervals.confidence, intervals.rope)
        diagnostics, flag = diagnose(z, energy, diverging)
        variance, limits = prior_of_z(setup.priors, prior, intervals.confidence)
        found |= diagnostics | {"contraction": 1 - flat.var(0, ddof=1) / variance}
        flag[found["contraction"] < MIN_CONTRACTION] |= Flag.PRIOR_DOMINATED.bit
        if level == "within":
            found |= _natural_and_predicted(drawn, upper, intervals.confidence)
        table: dict[str, NDArray] = {k: square(v, n) for k, v in found.items()}
        np.fill_diagonal(table["correlation"], 1.0)
        not_definite = False
        if n > 2:
            nearest, smallest = projected(table["correlation"])
            not_definite = not smallest > 0
            table["correlation_projected"] = nearest
            attrs[f"smallest_eigenvalue_{level}"] = smallest
            attrs[f"positive_definite_{level}"] = int(not not_definite)
        flags = np.zeros((n, n), np.uint16)
        flags[upper] = flag
        table["flag"] = flags | flags.T
        tables[level] = table
        suffix = "" if level == "within" else f"_{level}"
        prior_text = prior_note(level, intervals.confidence, limits)
        attrs[f"note{suffix}"] = _note(level, prior_text, flag, not_definite, setup)
        attrs[f"title{suffix}"] = f"Bayesian correlation, {level} samples"
    attrs["divergences"] = int(diverging.sum())
    return tables, attrs


def _note(
    level: str, prior_text: str, flag: NDArray[np.uint16], not_definite: bool, setup: Setup
) -> str:
    notes = [prior_text]
    if setup.structure == "independent" or (level == "between" and setup.structure != "both"):
        notes.append(
            f"structure={setup.structure!r} fixes this correlation at 0: the values shown are "
            "those of its prior."
        )
    if (flag & Flag.PRIOR_DOMINATED.bit).any():
        notes.append("prior_dominated: the data reduced the prior variance by less than half.")
    if (flag & Flag.NOT_CONVERGED.bit).any():
        notes.append(f"not_converged: {ADVICE}.")
    if not_definite:
        notes.append(
            "The correlations of the pairs do not form a correlation matrix: "
            "correlation_projected is the nearest one."
        )
    priors = "; ".join(f"{k} {v}" for k, v in setup.priors.describe().items())
    return " ".join([*notes, f"Priors: {priors}."])


def _natural_and_predicted(drawn: xr.Dataset, upper: tuple, confidence: float) -> dict[str, Array]:
    """Summarise the correlation of unlogged expression and predict that of a new sample."""

    def flat(name: str, n_pairs: int = len(upper[0])) -> Array:
        values = drawn[f"posterior_{name}"].values[..., *upper]
        return np.asarray(values.reshape(-1, n_pairs).astype(np.float64))

    natural = flat("natural")
    low, high = interval(natural, confidence)
    found = {"natural_correlation": natural.mean(0), "natural_lower": low, "natural_upper": high}
    if "posterior_tau" in drawn:
        tau, zeta = flat("tau"), flat("zeta")
        new = np.tanh(zeta + tau * np.random.default_rng(0).standard_normal(natural.shape))
        found |= {"tau2": (tau**2).mean(0)}
        found["prediction_lower"], found["prediction_upper"] = interval(new, 0.95)
    return found


def square(values: Array, n: int) -> Array:
    """Return symmetric (n, n) matrices from the entries above the diagonal; NaN on it."""
    out = np.full((n, n), np.nan)
    upper = np.triu_indices(n, 1)
    out[upper] = values
    out[upper[::-1]] = values
    return out


def gene_flags(counts: Counts) -> NDArray[np.uint16]:
    """Flag genes without a count in some sample."""
    absent = (np.diff(counts.offsets, axis=1) == 0).any(1)
    return np.where(absent, Flag.ABSENT_IN_SAMPLE.bit, np.uint16(0)).astype(np.uint16)


def gene_table(counts: Counts, flag: NDArray[np.uint16]) -> dict[str, NDArray]:
    """Compute the gene variables of a result."""
    total = np.array([counts.values[a:b].sum() for a, b in counts.offsets[:, [0, -1]]])
    return {
        "mean": total / counts.depth.sum(),
        "detection": counts.detection,
        **counts.gene_ids,
        "gene_flag": flag,
    }


def sample_variables(counts: Counts) -> dict[str, NDArray]:
    """Compute the sample variables of a result."""
    return {"n_cells": counts.cells_per_sample, "depth": counts.median_depth}


def joined(
    datasets: Mapping[str, xr.Dataset], drawn: xr.Dataset, coefficients: tuple[str, ...]
) -> xr.Dataset:
    """Join both levels and the draws in one Dataset.

    Parameters
    ----------
    datasets : mapping
        Datasets of levels ``"within"`` and ``"between"``; variables of the latter get a suffix.
    drawn : xarray.Dataset
        Draws.
    coefficients : tuple of str
        Names of the coefficients.

    Returns
    -------
    xarray.Dataset
    """
    dataset = datasets["within"]
    for text in ("title", "note"):
        dataset.attrs.setdefault(f"{text}_between", datasets["between"].attrs[text])
    for name in PAIR_VARIABLES:
        if name in datasets["between"]:
            dataset[f"{name}_between"] = datasets["between"][name]
    if "coefficient" in drawn.dims:
        dataset = dataset.assign_coords(coefficient=np.array(coefficients, object))
    for key, values in drawn.items():
        dataset[key] = values.variable
        dataset[key].attrs["long_name"] = _DRAWS.get(str(key), str(key))
    return dataset.assign_coords(
        chain=np.arange(drawn.sizes["chain"]), draw=np.arange(drawn.sizes["draw"])
    )


_DRAWS = {
    "posterior_zeta": "Fisher z of the correlation within a typical sample",
    "posterior_z_between": "Fisher z of the correlation between samples",
    "posterior_within": "correlation of log expression within a typical sample",
    "posterior_between": "correlation of the sample means of log expression",
    "posterior_natural": "correlation of unlogged expression within a typical sample",
    "posterior_within_sample": "correlation of log expression within each sample",
    "posterior_tau": "standard deviation between samples of the Fisher z within samples",
    "posterior_share": "proportion of the between-sample variance shared within blocks",
    "posterior_mean": "mean log rate of the sample at the mean sequencing depth",
    "posterior_beta": "regression coefficient, natural log",
    "posterior_sd_within": "standard deviation of log expression within samples",
    "posterior_sd_between": "standard deviation of the sample means of log expression",
    "stats_diverging": "whether the trajectory diverged",
    "stats_energy": "energy of the draw",
}
