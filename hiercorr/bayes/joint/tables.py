"""From joint draws to a result: matrices of all levels, partial correlations, diagnostics."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes import tables
from hiercorr.bayes.collected import PRIOR_DRAWS, observed
from hiercorr.bayes.diagnostics import MAX_R_HAT, MIN_ESS
from hiercorr.bayes.joint.likelihood import cell_log_likelihood, likelihood_draws
from hiercorr.bayes.joint.sampler import (
    JointDraws,
    Varying,
    diagnostics,
    inverse_wishart,
    new_matrices,
)
from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.setup import Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.inference.credible import coefficient_summary, highest_density
from hiercorr.results import posterior
from hiercorr.schema import Flag, build_dataset
from hiercorr.simulate import natural_correlation

ADVICE = (
    "raise draws= and tune=; genes with few counts need stronger priors or more cells; see r_hat "
    "and ess_bulk"
)
_CHOSEN = (
    "some of the draws of each chain: select the same ones from the other groups for loo, compare "
    "and power-scaling, idata.sel(draw=idata['log_likelihood']['draw'])"
)
_NAMES = {
    "within": "within samples",
    "between": "between samples",
    "samples": "between samples of a donor",
}


def level_names(blocked: bool) -> dict[str, str]:
    """Return the levels of a result and what they are called."""
    if not blocked:
        return {k: _NAMES[k] for k in ("within", "between")}
    return {**_NAMES, "between": "between donors"}


def partial(correlation: Array) -> Array:
    """Compute partial correlations given all other genes.

    Parameters
    ----------
    correlation : ndarray, shape (..., n_genes, n_genes)

    Returns
    -------
    ndarray, shape (..., n_genes, n_genes)
        With ones on the diagonal.
    """
    inverse = np.linalg.inv(correlation)
    scale = np.sqrt(np.einsum("...ii->...i", inverse))
    out = -inverse / (scale[..., :, None] * scale[..., None, :])
    diagonal = np.arange(out.shape[-1])
    out[..., diagonal, diagonal] = 1.0
    return np.asarray(out)


def joint_dataset(
    counts: Counts,
    cells: Cells,
    setup: Setup,
    intervals: Intervals,
    drawn: JointDraws,
    attributes: dict[str, Any],
    progress: bool | None = None,
) -> xr.Dataset:
    """Assemble the result of a joint fit.

    Parameters
    ----------
    counts : Counts
    cells : Cells
    setup : Setup
    intervals : Intervals
    drawn : JointDraws
    attributes : dict
        Attributes of the fit.
    progress : bool, optional
        Show a progress bar. None: only in a terminal.

    Returns
    -------
    xarray.Dataset
        Level within; variables of the other levels with their name as suffix.
    """
    gene_flag = tables.gene_flags(counts, setup.priors)
    gene_failed = _failed_genes(drawn)
    shared = gene_flag | gene_failed
    gene: dict[str, NDArray] = {**tables.gene_table(counts, setup.priors, shared)}
    found, attrs = {}, dict(attributes)
    for level, name in level_names(setup.population.blocked).items():
        prior = "within" if level == "within" else "between"
        table, limits = _level(drawn, level, setup, intervals, prior)
        flag = shared[:, None] | shared[None, :]
        np.fill_diagonal(flag, Flag.SELF.bit | np.diag(flag))
        off = ~np.eye(len(flag), dtype=bool)
        table["flag"] = np.where(off, table["flag"] | flag, flag).astype(np.uint16)
        found[level] = table
        suffix = "" if level == "within" else f"_{level}"
        attrs[f"title{suffix}"] = f"Bayesian correlation, {name}"
        attrs[f"note{suffix}"] = _note(table["flag"], name, intervals, limits, attributes)
        if level == "within" and drawn.varying is not None:
            attrs |= _heterogeneity(drawn.varying.tau, intervals)
            attrs["note"] = f"{_of_tau(attrs, intervals)} {attrs['note']}"
        low, high = highest_density(_flat(drawn.sd[level]), intervals.confidence)
        gene |= {
            f"{level}_sd": _flat(drawn.sd[level]).mean(0),
            f"{level}_sd_lower": low,
            f"{level}_sd_upper": high,
        }
    dataset = build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=found["within"],
        gene=gene,
        sample=tables.sample_variables(counts),
        coefficient=coefficient_summary(_flat(drawn.coefficient), intervals.confidence),
        coefficient_names=setup.population.coefficients,
        beta_units="natural log",
        attrs=attrs,
    )
    for level, table in found.items():
        if level != "within":
            for variable, values in table.items():
                dataset[f"{variable}_{level}"] = (
                    ("gene", "partner"),
                    values,
                    dataset[variable].attrs,
                )
    chains, draws = drawn.mean.shape[:2]
    at = likelihood_draws(chains, draws, *cells.x.shape)
    value = cell_log_likelihood(cells, drawn, at, progress).astype(np.float32)
    dims = ("chain", posterior.CELL_DRAW, "cell")
    dataset = dataset.assign(
        _posterior(drawn)
        | _prior(setup, counts.n_genes, max(PRIOR_DRAWS, draws))
        | _log_prior(drawn, setup)
        | {f"{posterior.GROUPS['log_likelihood']}counts": (dims, value, {"note": _CHOSEN})}
    )
    dataset = dataset.assign_coords(
        {"chain": np.arange(chains), "draw": np.arange(draws), posterior.CELL_DRAW: at}
    )
    return dataset.merge(observed(counts, cells, setup.population))


def _log_prior(drawn: JointDraws, setup: Setup) -> dict[str, Any]:
    """Compute the log prior densities of the draws, up to constants."""
    priors, out = setup.priors, {}
    for level in level_names(setup.population.blocked):
        of = "within" if level == "within" else "between"
        out[level] = log_prior_of_matrix(
            drawn.correlation[level], float(priors.table[f"z_{of}"]["eta"])
        )
        out[f"sd_{level}"] = priors.log_density(f"sd_{of}", drawn.sd[level]).sum(-1)
    out["beta"] = drawn.coefficient_prior.sum((-1, -2))
    if drawn.varying is not None:
        out["tau"] = priors.log_density("tau", drawn.varying.tau)
    prefix = posterior.GROUPS["log_prior"]
    return {f"{prefix}{name}": (("chain", "draw"), v) for name, v in out.items()}


def log_prior_of_matrix(correlation: Array, eta: float) -> Array:
    """Evaluate the log prior density of correlation matrices, up to a constant.

    Parameters
    ----------
    correlation : ndarray, shape (..., n_genes, n_genes)
    eta : float
        Parameter of the prior of each correlation, see :mod:`hiercorr.bayes.joint.model`.

    Returns
    -------
    ndarray, shape (...)
    """
    n = correlation.shape[-1]
    df = 2 * eta + n - 1
    diagonal = np.einsum("...ii->...i", np.linalg.inv(correlation))
    log_det = np.linalg.slogdet(correlation)[1]
    return np.asarray(-0.5 * (df + n + 1) * log_det - 0.5 * df * np.log(diagonal).sum(-1))


def _prior(setup: Setup, n_genes: int, n: int) -> dict[str, Any]:
    """Draw from the priors of correlation matrices, standard deviations and tau.

    There are as many draws as of the posterior, so that the same ones can be selected.
    """
    rng, priors = np.random.default_rng(0), setup.priors
    identity = np.broadcast_to(np.eye(n_genes), (n, n_genes, n_genes))
    square, prefix = (posterior.PRIOR_DRAW, "gene", "partner"), posterior.GROUPS["prior"]
    out: dict[str, Any] = {}
    for level in level_names(setup.population.blocked):
        of = "within" if level == "within" else "between"
        df = np.full(n, 2.0 * priors.table[f"z_{of}"]["eta"])
        out[level] = (square, inverse_wishart(identity, df, rng))
        sd = priors.draw(f"sd_{of}", n * n_genes, rng).reshape(n, n_genes)
        out[f"sd_{level}"] = (square[:2], sd)
    if setup.heterogeneity:
        tau = priors.draw("tau", n, rng)
        out["tau"] = (square[:1], tau)
        out["new_sample"] = (square, new_matrices(out["within"][1], tau, rng))
    return {f"{prefix}{name}": v for name, v in out.items()}


def _flat(values: Array) -> Array:
    return values.reshape(-1, *values.shape[2:])


def _failing(found: dict[str, NDArray]) -> NDArray[np.bool_]:
    return (
        ~(found["r_hat"] <= MAX_R_HAT)
        | ~(found["ess_bulk"] >= MIN_ESS)
        | ~(found["ess_tail"] >= MIN_ESS)
    )


def _failed_genes(drawn: JointDraws) -> NDArray[np.uint16]:
    """Flag genes with a standard deviation, mean or coefficient that has not converged."""
    failed = np.zeros(drawn.mean.shape[-1], bool)
    for values in (*drawn.sd.values(), drawn.mean, drawn.coefficient):
        flat = values.reshape(*values.shape[:2], -1)
        failed |= _failing(diagnostics(flat)).reshape(-1, len(failed)).any(0)
    return np.where(failed, Flag.NOT_CONVERGED.bit, np.uint16(0)).astype(np.uint16)


def _heterogeneity(tau: Array, intervals: Intervals) -> dict[str, float]:
    """Summarise the heterogeneity, one number for all pairs."""
    low, high = highest_density(tau.reshape(-1, 1), intervals.confidence)
    return {"tau": float(tau.mean()), "tau_lower": float(low[0]), "tau_upper": float(high[0])}


def _of_tau(attrs: dict[str, Any], intervals: Intervals) -> str:
    tau, low, high = (attrs[k] for k in ("tau", "tau_lower", "tau_upper"))
    return (
        f"Heterogeneity between donors (standard deviation of Fisher's z of each correlation): tau "
        f"{tau:.2f}, {100 * intervals.confidence:g}% in {low:.2f}..{high:.2f}."
    )


def _level(
    drawn: JointDraws, level: str, setup: Setup, intervals: Intervals, prior: str
) -> tuple[dict[str, NDArray], tuple[float, float]]:
    """Summarise one level as variables (gene, partner); also return the prior interval."""
    matrix = drawn.correlation[level]
    n = matrix.shape[-1]
    upper = np.triu_indices(n, 1)
    z = np.arctanh(matrix[..., upper[0], upper[1]])
    flat = z.reshape(-1, z.shape[-1])
    found = tables.pair_summary(flat, intervals.confidence, intervals.rope)
    checks = diagnostics(z)
    if level == "within" and drawn.varying is not None:
        low, high = highest_density(_flat(drawn.varying.pairs[0]), intervals.confidence)
        found |= {"prediction_lower": low, "prediction_upper": high}
        found["tau2"] = np.full(len(upper[0]), float((drawn.varying.tau**2).mean()))
        checks = _with_heterogeneity(checks, drawn.varying)
    variance, limits = setup.acting("joint").of_z(prior, intervals.confidence)
    contraction = 1 - flat.var(0, ddof=1) / variance
    flag = np.where(_failing(checks), Flag.NOT_CONVERGED.bit, np.uint16(0)).astype(np.uint16)
    flag[contraction < tables.MIN_CONTRACTION] |= Flag.PRIOR_DOMINATED.bit
    found |= {**checks, "contraction": contraction}
    given = _flat(partial(matrix)[..., upper[0], upper[1]])
    low, high = highest_density(given, intervals.confidence)
    found |= {"partial_correlation": given.mean(0), "partial_lower": low, "partial_upper": high}
    if level == "within":
        sd = _flat(drawn.sd[level])
        natural = natural_correlation(np.tanh(flat), sd[:, upper[0]], sd[:, upper[1]])
        low, high = highest_density(natural, intervals.confidence)
        found |= {
            "natural_correlation": natural.mean(0),
            "natural_lower": low,
            "natural_upper": high,
        }
    table: dict[str, NDArray] = {k: _square(v, n) for k, v in found.items()}
    np.fill_diagonal(table["correlation"], 1.0)
    flags = np.zeros((n, n), np.uint16)
    flags[upper] = flag
    table["flag"] = flags | flags.T
    return table, limits


def _with_heterogeneity(checks: dict[str, NDArray], varying: Varying) -> dict[str, NDArray]:
    """Return the worst diagnostics of each correlation, of it in all samples, and of tau."""
    found = [checks, *map(diagnostics, [varying.tau[..., None], *varying.pairs])]
    worst = {"ess_bulk": np.minimum, "ess_tail": np.minimum, "r_hat": np.maximum}
    return {k: functools.reduce(take, [f[k] for f in found]) for k, take in worst.items()}


def _note(
    flag: NDArray[np.uint16],
    name: str,
    intervals: Intervals,
    limits: tuple[float, float],
    attributes: dict[str, Any],
) -> str:
    low, high = limits
    notes = [
        f"Prior of each correlation {name}: {100 * intervals.confidence:g}% in "
        f"{low:.2f}..{high:.2f}, whatever the number of genes."
    ]
    if (flag & Flag.PRIOR_DOMINATED.bit).any():
        notes.append("prior_dominated: the data reduced the prior variance by less than half.")
    if (flag & Flag.NOT_CONVERGED.bit).any():
        notes.append(f"not_converged: {ADVICE}.")
    priors = "; ".join(
        f"{k.removeprefix('prior_')} {v}" for k, v in attributes.items() if k.startswith("prior_")
    )
    return " ".join([*notes, f"Priors: {priors}."])


def _posterior(drawn: JointDraws) -> dict[str, Any]:
    """Return the draws as variables."""
    dims = ("chain", "draw")
    square = (*dims, "gene", "partner")
    sd = drawn.sd["within"]
    natural = natural_correlation(drawn.correlation["within"], sd[..., :, None], sd[..., None, :])
    diagonal = np.arange(sd.shape[-1])
    natural[..., diagonal, diagonal] = 1.0
    names = level_names("samples" in drawn.sd)
    out: dict[str, Any] = {}
    for level, name in names.items():
        text = f"correlation of log expression {name}"
        out[level] = (square, drawn.correlation[level], {"long_name": text})
        text = f"standard deviation of log expression {name}"
        out[f"sd_{level}"] = ((*dims, "gene"), drawn.sd[level], {"long_name": text})
    text = "correlation of unlogged expression within samples"
    out["natural"] = (square, natural, {"long_name": text})
    text = "mean log rate of the sample at the mean sequencing depth"
    out["mean"] = ((*dims, "sample", "gene"), drawn.mean, {"long_name": text})
    text = "regression coefficient, natural log"
    out["beta"] = ((*dims, "coefficient", "gene"), drawn.coefficient, {"long_name": text})
    varying = drawn.varying
    if varying is not None:
        text = "standard deviation between donors of Fisher's z within samples"
        out["tau"] = (dims, varying.tau, {"long_name": text})
        text = "correlation of log expression within each sample"
        of_sample = (*dims, "sample", "gene", "partner")
        out["within_sample"] = (of_sample, varying.own, {"long_name": text})
        text = "correlation of log expression within a sample of a new donor"
        out["new_sample"] = (square, varying.new, {"long_name": text})
    return {f"posterior_{k}": v for k, v in out.items()}


def of_pairs(dataset: xr.Dataset) -> tuple[dict[str, Array], list[NDArray]]:
    """Return joint draws as those of pairs, (chain, draw, pair, ...), and the pairs' genes."""
    names = dataset["gene"].values
    i, j = np.triu_indices(len(names), 1)

    def members(name: str) -> Array:
        values = np.moveaxis(dataset[f"posterior_{name}"].values, -1, 2)
        return np.stack([values[:, :, i], values[:, :, j]], -1)

    z = {k: np.arctanh(dataset[f"posterior_{k}"].values[..., i, j]) for k in ("within", "between")}
    values = {"zeta": z["within"], "z_between": z["between"]}
    if "posterior_within_sample" in dataset:
        own = dataset["posterior_within_sample"].values[..., i, j].astype(float)
        values["within_sample"] = np.arctanh(np.moveaxis(own, -1, 2))
    return values | {k: members(k) for k in ("mean", "sd_within")}, [names[i], names[j]]


def _square(values: Array, n: int) -> Array:
    """Return symmetric (n, n) matrices from the entries above the diagonal; NaN on it."""
    out = np.full((n, n), np.nan)
    upper = np.triu_indices(n, 1)
    out[upper] = values
    out[upper[::-1]] = values
    return out
