"""Draws of many pairs -> one Dataset: posterior, pair variables at both levels, diagnostics and flags."""

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
from hiercorr.counts.counts import Counts
from hiercorr.schema import PAIR_VARIABLES, Flag
from hiercorr.simulate import natural_correlation

ROPE = 0.1
MAX_R_HAT, MIN_ESS, MIN_BFMI = 1.01, 400.0, 0.3
MIN_CONTRACTION = 0.5
PRIOR_DRAWS = 200_000


def interval(draws: Array, share: float) -> tuple[Array, Array]:
    """Highest-density interval of draws in the first axis: the shortest that holds `share` of them."""
    ordered = np.sort(draws, axis=0)
    n = len(ordered)
    held = min(max(int(np.ceil(share * n)), 1), n - 1)
    width = ordered[held:] - ordered[: n - held]
    at = width.argmin(0)[None]
    low = np.take_along_axis(ordered, at, 0)[0]
    return low, np.take_along_axis(ordered, at + held, 0)[0]


def pair_summary(z: Array, share: float, rope: float) -> dict[str, Array]:
    """Pair variables from draws of z, the draws in the first axis."""
    rho = np.tanh(z)
    low, high = interval(rho, share)
    positive = (z > 0).mean(0)
    return {
        "correlation": rho.mean(0),
        "fisher_z": z.mean(0),
        "se": z.std(0, ddof=1),
        "sd": rho.std(0, ddof=1),
        "ci_lower": low,
        "ci_upper": high,
        "probability_of_direction": np.maximum(positive, 1 - positive),
        "rope_share": (np.abs(rho) <= rope).mean(0),
    }


def prior_of_z(priors: Priors, name: str, share: float) -> tuple[float, tuple[float, float]]:
    """Prior variance of z and the prior interval of the correlation."""
    z = priors.draw(name, PRIOR_DRAWS, np.random.default_rng(0))
    low, high = np.quantile(np.tanh(z), [(1 - share) / 2, (1 + share) / 2])
    return float(z.var()), (float(low), float(high))


def stack_pairs(draws: Mapping[tuple[int, int], Draws], n_genes: int) -> xr.Dataset:
    """All pairs' draws with dims (chain, draw, ..., gene, partner); entry (j, k) is gene j's in the pair of j and k."""
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
        same = {
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
        for a, b, own in ((i, j, 0), (j, i, 1)):
            for name, values in same.items():
                if values is not None:
                    out[name][1][..., a, b] = values
            for name in ("sd_within", "sd_between", "mean", "beta"):
                out[f"posterior_{name}"][1][..., a, b] = getattr(
                    d, {"beta": "coefficient"}.get(name, name)
                )[..., own]
    for name in ("within", "between", "natural", "within_sample"):
        out[f"posterior_{name}"][1][..., np.arange(n_genes), np.arange(n_genes)] = 1.0
    return xr.Dataset(out)


def diagnose(
    z: Array, energy: Array, diverging: NDArray[np.bool_]
) -> tuple[dict[str, Array], NDArray[np.uint16]]:
    """R-hat and effective sample sizes of z (chain, draw, ...) and which pairs fail."""
    import arviz as az

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
    bad = (
        ~(found["r_hat"] <= MAX_R_HAT)
        | ~(found["ess_bulk"] >= MIN_ESS)
        | ~(found["ess_tail"] >= MIN_ESS)
    )
    bad |= diverging.any((0, 1)) | (bfmi < MIN_BFMI).any(0)
    return found, np.where(bad, Flag.NOT_CONVERGED.bit, np.uint16(0)).astype(np.uint16)


def projected(correlation: Array) -> tuple[Array, float]:
    """The nearest correlation matrix (Higham 2002) and the smallest eigenvalue of the given one."""
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest > 0:
        return correlation, smallest
    from statsmodels.stats.correlation_tools import corr_nearest

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it stops by count where its threshold is not reached to the last digit
        return np.asarray(corr_nearest(correlation, threshold=1e-8, n_fact=500)), smallest


ADVICE = (
    "raise draws= and tune=, or target_accept= (divergences); genes with few counts need stronger priors or more cells; "
    "see r_hat, ess_bulk and result.idata.sample_stats"
)


def from_latent(trace: Any) -> xr.Dataset:
    """The latent model's draws under the names of the pairs' draws."""
    post, stats = trace["posterior"], trace["sample_stats"]
    within, between = (
        np.asarray(post[f"{level}_correlation"].values) for level in ("within", "between")
    )
    n = within.shape[-1]
    own = np.arange(n)
    zeta, z_between = (np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)) for r in (within, between))
    for z in (zeta, z_between):
        z[..., own, own] = np.nan
    sd = np.asarray(post["sd_within"].values)
    natural = natural_correlation(np.tanh(zeta), sd[..., :, None], sd[..., None, :])
    natural[..., own, own] = 1.0
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


def both_levels(
    drawn: xr.Dataset, priors: Priors, confidence: float, rope: float, structure: str
) -> tuple[dict[str, dict[str, NDArray]], dict[str, Any]]:
    """Pair variables (gene, partner) of each level, and attributes."""
    tables: dict[str, dict[str, NDArray]] = {}
    attrs: dict[str, Any] = {}
    n = drawn.sizes["gene"]
    up = np.triu_indices(n, 1)
    stats = [drawn[f"stats_{name}"].values[..., *up] for name in ("energy", "diverging")]
    for level, variable, prior in (
        ("within", "zeta", "z_within"),
        ("between", "z_between", "z_between"),
    ):
        z = drawn[f"posterior_{variable}"].values[..., *up].astype(np.float64)
        flat = z.reshape(-1, z.shape[-1])
        found = pair_summary(flat, confidence, rope)
        diagnosed, flag = diagnose(z, *stats)
        variance, (low, high) = prior_of_z(priors, prior, confidence)
        found |= diagnosed | {"contraction": 1 - flat.var(0, ddof=1) / variance}
        flag[found["contraction"] < MIN_CONTRACTION] |= Flag.PRIOR_DOMINATED.bit
        if level == "within":
            found |= _natural_and_new(drawn, up, confidence)
        table: dict[str, NDArray] = {k: _square(v, n) for k, v in found.items()}
        np.fill_diagonal(table["correlation"], 1.0)
        if n > 2:
            nearest, smallest = projected(table["correlation"])
            table["correlation_projected"] = nearest
            attrs[f"smallest_eigenvalue_{level}"] = smallest
            attrs[f"positive_definite_{level}"] = int(smallest > 0)
        whole = np.zeros((n, n), np.uint16)
        whole[up] = flag
        table["flag"] = whole | whole.T
        tables[level] = table
        ignored = (level == "between" and structure != "both") or structure == "independent"
        text = f"Prior of the correlation {level} samples: {int(100 * confidence)}% in {low:.2f}..{high:.2f}."
        text += " It is held at 0 in this structure: what is shown is the prior." if ignored else ""
        notes = [text]
        if (flag & Flag.PRIOR_DOMINATED.bit).any():
            notes.append(
                "prior_dominated: the data took away less than half of the prior's variance."
            )
        if (flag & Flag.NOT_CONVERGED.bit).any():
            notes.append(f"not_converged: {ADVICE}.")
        if n > 2 and not attrs[f"positive_definite_{level}"]:
            notes.append(
                "The pairs' correlations are no correlation matrix: correlation_projected is the nearest one."
            )
        notes.append("Priors: " + "; ".join(f"{k} {v}" for k, v in priors.describe().items()) + ".")
        attrs["note" if level == "within" else f"note_{level}"] = " ".join(notes)
        title = f"Bayesian correlation, {level} samples"
        attrs["title" if level == "within" else f"title_{level}"] = title
    attrs["divergences"] = int(stats[1].sum())
    return tables, attrs


def _natural_and_new(drawn: xr.Dataset, up: tuple, confidence: float) -> dict[str, Array]:
    """Correlation of expression itself, heterogeneity over samples and prediction for a new one."""
    natural = drawn["posterior_natural"].values[..., *up].reshape(-1, len(up[0])).astype(np.float64)
    low, high = interval(natural, confidence)
    found = {"natural_correlation": natural.mean(0), "natural_lower": low, "natural_upper": high}
    if "posterior_tau" in drawn:
        tau = drawn["posterior_tau"].values[..., *up].reshape(natural.shape).astype(np.float64)
        zeta = drawn["posterior_zeta"].values[..., *up].reshape(natural.shape).astype(np.float64)
        new = np.tanh(zeta + tau * np.random.default_rng(0).standard_normal(natural.shape))
        found |= {"tau2": (tau**2).mean(0)}
        found["prediction_lower"], found["prediction_upper"] = interval(new, 0.95)
    return found


def _square(values: Array, n: int) -> Array:
    out = np.full((n, n), np.nan)
    up = np.triu_indices(n, 1)
    out[up] = values
    out[up[::-1]] = values
    return out


def gene_flags(counts: Counts) -> NDArray[np.uint16]:
    """A gene without a count in some sample is flagged."""
    absent = (np.diff(counts.offsets, axis=1) == 0).any(1)
    return np.where(absent, Flag.ABSENT_IN_SAMPLE.bit, np.uint16(0)).astype(np.uint16)


def gene_table(counts: Counts, flag: NDArray[np.uint16]) -> dict[str, NDArray]:
    """Gene variables of the schema."""
    total = np.array([counts.values[a:b].sum() for a, b in counts.offsets[:, [0, -1]]])
    return {"mean": total / counts.depth.sum(), "detection": counts.detection, "gene_flag": flag}


def joined(
    datasets: dict[str, xr.Dataset], drawn: xr.Dataset, coefficients: list[str]
) -> xr.Dataset:
    """One dataset: level within under the schema's names, level between with a suffix, and the draws."""
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
    "posterior_zeta": "z of the correlation within a typical sample",
    "posterior_z_between": "z of the correlation between samples",
    "posterior_within": "correlation of log expression within a typical sample",
    "posterior_between": "correlation of the samples' mean log expression",
    "posterior_natural": "correlation of expression within a typical sample",
    "posterior_within_sample": "correlation of log expression within each sample",
    "posterior_tau": "standard deviation over samples of z of the correlation within",
    "posterior_share": "share of the variance between samples that samples of one block have in common",
    "posterior_mean": "mean log rate of the sample at the mean depth",
    "posterior_beta": "coefficient of the formula, natural log",
    "posterior_sd_within": "standard deviation of log expression within samples",
    "posterior_sd_between": "standard deviation of the samples' mean log expression",
    "stats_diverging": "the trajectory diverged",
    "stats_energy": "energy of the draw",
}
