"""Checks of the model: prior and posterior predictive draws, comparisons, prior sensitivity."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from hiercorr.bayes import tables
from hiercorr.bayes.joint.tables import of_pairs
from hiercorr.bayes.margin import Array, Cells, Rows
from hiercorr.bayes.pair import Pair, slope_sd
from hiercorr.bayes.population import cells_of, gene_position, named_pair
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.sampling import Draws, Settings, require, sample_pair
from hiercorr.bayes.setup import MAX_GENES, STRUCTURES, Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning, InputError, unknown_name, valid_seed, whole_number
from hiercorr.kernels import bayes as kernels
from hiercorr.results.posterior import arviz_groups
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn

LOO_DRAWS = 500
SENSITIVITY: dict[str, dict[str, Any]] = {
    **{f"lkj({eta})": {"z_between": {"distribution": "lkj", "eta": eta}} for eta in (1, 2, 4)},
    "normal(0, 0.5)": {"z_between": {"distribution": "normal", "mu": 0.0, "sigma": 0.5}},
}
_SETTINGS = ("draws", "tune", "chains", "sampler", "target_accept")


def draw_counts(cells: Cells, mean: Array, sd: Array, z: Array, rng: np.random.Generator) -> Array:
    """Draw counts of two genes in the given cells.

    Parameters
    ----------
    cells : Cells
        Sequencing depths and samples.
    mean : ndarray, shape (n_samples, 2)
        Mean log rates.
    sd : ndarray, shape (2,)
        Standard deviations within samples.
    z : ndarray, shape (n_samples,)
        Fisher z of the correlation within each sample.
    rng : Generator

    Returns
    -------
    ndarray, shape (n_cells, 2)
    """
    size = np.diff(cells.starts)
    rho = np.repeat(np.tanh(z), size)
    e = rng.standard_normal((len(cells.log_s), 2))
    e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
    log_rate = cells.log_s[:, None] + np.repeat(mean, size, axis=0) + sd * e
    return rng.poisson(np.exp(np.minimum(log_rate, 20.0))).astype(float)


def statistics(x: Array, cells: Cells) -> tuple[Array, Array, Array, float]:
    """Compute the test statistics of the predictive checks.

    Parameters
    ----------
    x : ndarray, shape (n_cells, 2)
        Counts of two genes.
    cells : Cells
        Sequencing depths and samples.

    Returns
    -------
    zeros, log_mean, variance_ratio : ndarray, shape (2,)
        Proportion of zeros, log mean, and variance / mean.
    observed : float
        Correlation of log(1 + x / s) within samples.
    """
    mean = x.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.log1p(x / np.exp(cells.log_s)[:, None])
        for a, b in itertools.pairwise(cells.starts):
            v[a:b] -= v[a:b].mean(0)
        r = float((v[:, 0] * v[:, 1]).sum() / np.sqrt((v**2).sum(0).prod()))
        return (x == 0).mean(0), np.log(mean), x.var(0) / mean, r


def prior(
    counts: Counts, setup: Setup, draws: int, seed: int | np.random.Generator | None
) -> xr.Dataset:
    """Draw from the prior predictive distribution.

    See :meth:`hiercorr.BayesianCorrelation.prior_predictive`.
    """
    rng = _checked(counts, draws, seed)
    population, priors, design = setup.population, setup.priors, setup.population.design
    n, cells, block = len(design), cells_of(counts), population.block
    pairs = list(itertools.combinations(range(counts.n_genes), 2))
    means = np.log(
        (np.add.reduceat(cells.x, cells.starts[:-1]).sum(0) + 0.5) / np.exp(cells.log_s).sum()
    )
    slopes = slope_sd(design, priors)
    out = _Replicates(counts.genes, cells, pairs)
    for _ in range(draws):
        for k, (i, j) in enumerate(pairs):
            sd_w, sd_b = (priors.draw(name, 2, rng) for name in ("sd_within", "sd_between"))
            zeta, z_between = (
                float(priors.draw(name, 1, rng)[0]) for name in ("z_within", "z_between")
            )
            tau = float(priors.draw("tau", 1, rng)[0]) if setup.heterogeneity else 0.0
            share = float(priors.draw("share", 1, rng)[0]) if population.blocked else 0.0
            coefficient = rng.standard_normal((design.shape[1], 2)) * slopes[:, None]
            coefficient[0] = (
                means[[i, j]] if priors.intercept[0] is None else priors.intercept[0]
            ) + priors.intercept[1] * rng.standard_normal(2)
            zeta, z_between = (
                0.0 if setup.structure == "independent" else zeta,
                z_between if setup.structure == "both" else 0.0,
            )
            rho = np.tanh(z_between)
            e = np.sqrt(share) * rng.standard_normal((population.n_blocks, 2))[block]
            e += np.sqrt(1 - share) * rng.standard_normal((n, 2))
            e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
            b = design @ coefficient + sd_b * e
            z = zeta + tau * rng.standard_normal(population.n_blocks)[block]
            out.add(k, draw_counts(cells, b, sd_w, z, rng), np.tanh(zeta), rho)
    return out.dataset(p_values=False)


def posterior(
    counts: Counts, result: CorrelationResult, draws: int, seed: int | np.random.Generator | None
) -> xr.Dataset:
    """Draw from the posterior predictive distribution.

    See :meth:`hiercorr.BayesianCorrelation.posterior_predictive`.
    """
    rng = _checked(counts, draws, seed)
    ds = _fit_of(counts, result)
    cells = cells_of(counts)
    pairs = list(itertools.combinations(range(counts.n_genes), 2))
    out = _Replicates(counts.genes, cells, pairs)
    chain = rng.integers(ds.sizes["chain"], size=draws)
    draw = rng.integers(ds.sizes["draw"], size=draws)
    if "posterior_zeta" in ds:
        names = ("mean", "sd_within", "zeta", "z_between")
        value = {name: ds[f"posterior_{name}"].values for name in names}
    else:
        value = of_pairs(ds)
    each = ds["posterior_within_sample"].values if "posterior_within_sample" in ds else None
    for c, d in zip(chain, draw, strict=True):
        for k, (i, j) in enumerate(pairs):
            mean = np.stack([value["mean"][c, d, :, i, j], value["mean"][c, d, :, j, i]], 1)
            sd = np.array([value["sd_within"][c, d, i, j], value["sd_within"][c, d, j, i]])
            zeta = value["zeta"][c, d, i, j]
            z = (
                np.full(cells.n_samples, zeta)
                if each is None
                else np.arctanh(np.clip(each[c, d, :, i, j], -0.9999, 0.9999))
            )
            between = np.tanh(value["z_between"][c, d, i, j])
            out.add(k, draw_counts(cells, mean, sd, z, rng), np.tanh(zeta), between)
    return out.dataset(p_values=True)


def _checked(
    counts: Counts, draws: int, seed: int | np.random.Generator | None
) -> np.random.Generator:
    whole_number("draws", draws)
    valid_seed(seed)
    n = counts.n_genes
    if not 2 <= n <= MAX_GENES:
        raise InputError(
            f"predictive checks take 2 to {MAX_GENES} genes, not {n}: name fewer with genes="
        )
    return np.random.default_rng(seed)


def _fit_of(counts: Counts, result: CorrelationResult) -> xr.Dataset:
    """Return the Dataset of a result; raise an error if it is not a fit of these counts."""
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be the result of fit(), not {type(result).__name__}")
    ds = result.dataset
    if "posterior_mean" not in ds:
        raise InputError("result must be the result of fit(): it has no posterior of sample means")
    for name, expected in (("gene", counts.genes), ("sample", counts.samples)):
        if list(ds[name].values) != list(expected):
            raise InputError(
                f"result must be the result of fit() of this model: its {name}s differ"
            )
    return ds


class _Replicates:
    """Test statistics of replicated data of each pair; a gene's are taken from its first pair."""

    def __init__(self, genes: pd.Index, cells: Cells, pairs: list[tuple[int, int]]) -> None:
        self.names = genes.to_numpy(object)
        self.cells, self.pairs = cells, pairs
        self.by_pair: list[list[tuple]] = [[] for _ in pairs]
        self.first = {
            g: next((k, p.index(g)) for k, p in enumerate(pairs) if g in p)
            for g in range(len(self.names))
        }

    def add(self, k: int, x: Array, within: float, between: float) -> None:
        self.by_pair[k].append((*statistics(x, self.cells), within, between))

    def dataset(self, p_values: bool) -> xr.Dataset:
        columns = [list(zip(*rows, strict=True)) for rows in self.by_pair]
        gene: dict[str, Array] = {
            name: np.stack([np.array(columns[k][q])[:, side] for k, side in self.first.values()], 1)
            for q, name in enumerate(("zeros", "log_mean", "variance_ratio"))
        }
        pair: dict[str, Array] = {
            name: np.stack([np.array(c[q]) for c in columns], 1)
            for q, name in ((3, "observed"), (4, "within"), (5, "between"))
        }
        x = self.cells.x.astype(float)
        seen: list[tuple[Any, ...]] = [statistics(x[:, list(p)], self.cells) for p in self.pairs]
        data: dict[str, Array] = {
            name: np.array([seen[k][q][side] for k, side in self.first.values()])
            for q, name in enumerate(("zeros", "log_mean", "variance_ratio"))
        } | {"observed": np.array([s[3] for s in seen])}
        labels = np.array([f"{self.names[i]} - {self.names[j]}" for i, j in self.pairs], object)
        out: dict[str, Any] = {k: (("draw", "gene"), v) for k, v in gene.items()}
        out |= {k: (("draw", "pair"), v) for k, v in pair.items()}
        for name, v in data.items():
            dim = "pair" if name == "observed" else "gene"
            out[f"data_{name}"] = (dim, v)
            if p_values and name != "log_mean":
                replicated = out[name][1]
                upper = ((replicated > v).mean(0) + (replicated >= v).mean(0)) / 2
                out[f"p_{name}"] = (dim, 2 * np.minimum(upper, 1 - upper))
        return xr.Dataset(out, {"gene": self.names, "pair": labels})


def _fit_options(caller: str, options: Mapping[str, Any], known: Sequence[str]) -> Settings:
    """Read the options of ``fit`` that act in a comparison; the default is 500 draws."""
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {caller}", name, known)
    given = {k: v for k, v in options.items() if k in _SETTINGS}
    return Settings(**{"draws": 500, **given})


def prior_sensitivity(
    counts: Counts,
    setup: Setup,
    genes: tuple[str, str],
    priors: Mapping[str, Mapping[str, Any]] | None,
    seed: int | np.random.Generator | None,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    """Fit one pair under several priors.

    See :meth:`hiercorr.BayesianCorrelation.prior_sensitivity`.
    """
    settings = _fit_options("prior_sensitivity", options, (*_SETTINGS, "confidence"))
    confidence = Intervals(options.get("confidence", 0.95)).confidence
    valid_seed(seed)
    setups = _setups(setup, SENSITIVITY if priors is None else priors)
    require("arviz", settings.sampler)
    seeds, rows = np.random.default_rng(seed), []
    for name, changed in setups.items():
        pair = named_pair(counts, changed, *genes)
        draws = sample_pair(pair, settings, int(seeds.integers(2**31)))
        rows += [
            {"priors": name, **_sensitivity_row(draws, changed, level, confidence)}
            for level in ("within", "between")
        ]
    return pd.DataFrame(rows)


def _setups(setup: Setup, priors: Any) -> dict[str, Setup]:
    """Replace the priors of the model by each of several sets."""
    valid = isinstance(priors, Mapping) and len(priors) > 0
    if not valid or not all(isinstance(p, Mapping) for p in priors.values()):
        raise InputError(
            "priors must map names to sets of priors, e.g. "
            '{"narrow": {"tau": {"distribution": "halfnormal", "sigma": 0.1}}}, '
            f"not {priors!r}"
        )
    setups = {
        name: replace(setup, priors=read_priors({**setup.priors.table, **stated}))
        for name, stated in priors.items()
    }
    for changed in setups.values():
        changed.check_priors()
    return setups


def _sensitivity_row(draws: Draws, setup: Setup, level: str, confidence: float) -> dict[str, Any]:
    z = draws.flat("zeta" if level == "within" else "z_between")
    found = tables.pair_summary(z, confidence, Intervals().rope)
    variance, (low, high) = tables.prior_of_z(setup.priors, f"z_{level}", confidence)
    return {
        "level": level,
        **{k: float(found[k]) for k in ("correlation", "sd", "ci_lower", "ci_upper")},
        "prior_lower": low,
        "prior_upper": high,
        "contraction": 1 - float(z.var(ddof=1)) / variance,
        "divergences": int(draws.diverging.sum()),
    }


def compare_structures(
    counts: Counts,
    setup: Setup,
    genes: tuple[str, str],
    seed: int | np.random.Generator | None,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    """Compare the structures of one pair by leave-one-out cross-validation and WAIC.

    See :meth:`hiercorr.BayesianCorrelation.compare_structures`.
    """
    settings = _fit_options("compare_structures", options, _SETTINGS)
    valid_seed(seed)
    az = optional("arviz", "Bayesian models")
    seeds, cells = np.random.default_rng(seed), cells_of(counts)
    positions = (gene_position(counts, genes[0]), gene_position(counts, genes[1]))
    fits, criteria = {}, {}
    for structure in STRUCTURES:
        pair = named_pair(counts, replace(setup, structure=structure), *genes)
        draws = sample_pair(pair, settings, int(seeds.integers(2**31)))
        chains, n = draws.zeta.shape
        keep = np.linspace(0, n - 1, min(n, LOO_DRAWS // chains)).astype(int)
        at = (np.arange(chains)[:, None] * n + keep).ravel()
        value = log_likelihood(pair, cells, positions, draws, at).reshape(chains, len(keep), -1)
        groups = {
            "posterior": xr.Dataset({"zeta": (("chain", "draw"), draws.zeta[:, keep])}),
            "log_likelihood": xr.Dataset({"counts": (("chain", "draw", "cell"), value)}),
        }
        coords = {"chain": np.arange(chains), "draw": np.arange(len(keep))}
        fits[structure] = arviz_groups({k: v.assign_coords(coords) for k, v in groups.items()})
        criteria[structure] = waic(value.reshape(-1, value.shape[2]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # ArviZ 1 rounds the table by default.
        exact: dict[str, Any] = (
            {"round_to": "none"} if "round_to" in inspect.signature(az.compare).parameters else {}
        )
        table = az.compare(fits, **exact)
    if any("shape parameter" in str(w.message) for w in caught):
        warn("leave-one-out is unreliable for some cells (Pareto k > 0.7)", EstimationWarning)
    return table.join(pd.DataFrame(criteria).T)


def log_likelihood(
    pair: Pair, cells: Cells, genes: tuple[int, int], draws: Draws, at: NDArray[np.int64]
) -> Array:
    """Compute the log likelihood of each cell.

    Parameters
    ----------
    pair : Pair
    cells : Cells
    genes : tuple of int
        Columns of ``cells.x``.
    draws : Draws
    at : ndarray of int
        Draws to use, chains in one dimension.

    Returns
    -------
    ndarray, shape (n_draws, n_cells)
    """
    x = cells.x[:, list(genes)].astype(float)
    rows = Rows(x, cells.log_s, np.ones(len(x)), cells.starts)
    likelihoods, peaks = [], np.zeros(len(x))
    for side, (left, step) in enumerate(pair.grids):
        table, peak = kernels.poisson_table(
            x[:, side].copy(), rows.log_s, rows.starts, left, step, pair.tables[side].shape[1]
        )
        likelihoods.append(table)
        peaks += peak - special.gammaln(x[:, side] + 1)
    mean, sd, z = (draws.flat(name, at) for name in ("mean", "sd_within", "z_sample"))
    if pair.structure == "independent":
        z = np.zeros_like(z)
    out = np.empty((len(at), len(x)))
    w = np.empty((likelihoods[0].shape[1], likelihoods[1].shape[1]))
    (left_a, step_a), (left_b, step_b) = pair.grids
    for d in range(len(at)):
        for c, (a, b) in enumerate(itertools.pairwise(cells.starts)):
            total = kernels.bivariate_weights(
                w,
                mean[d, c, 0],
                mean[d, c, 1],
                sd[d, 0],
                sd[d, 1],
                np.tanh(z[d, c]),
                left_a[c],
                step_a,
                left_b[c],
                step_b,
            )
            out[d, a:b] = kernels.row_likelihoods(
                w, total, likelihoods[0][a:b], likelihoods[1][a:b]
            )
    return out + peaks


def waic(log_likelihood: Array) -> dict[str, float]:
    r"""Compute the widely applicable information criterion on the log scale.

    .. math:: \sum_i \log \frac{1}{S}\sum_s p(x_i | \theta_s)
              - \sum_i \operatorname{Var}_s \log p(x_i | \theta_s)

    ArviZ 1 no longer has it.

    Parameters
    ----------
    log_likelihood : ndarray, shape (n_draws, n_cells)

    Returns
    -------
    dict
        ``elpd_waic``, its standard error ``se_waic`` and the effective number of parameters
        ``p_waic``.

    References
    ----------
    Watanabe 2010, Journal of Machine Learning Research 11:3571; Vehtari, Gelman & Gabry 2017,
    Statistics and Computing 27:1413, eq. 11-12.
    """
    effective = log_likelihood.var(0, ddof=1)
    each = special.logsumexp(log_likelihood, axis=0) - np.log(len(log_likelihood)) - effective
    return {
        "elpd_waic": float(each.sum()),
        "se_waic": float(np.sqrt(len(each) * each.var())),
        "p_waic": float(effective.sum()),
    }
