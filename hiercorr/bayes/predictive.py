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
from hiercorr.bayes.collected import parameters_of
from hiercorr.bayes.generative import draw_parameters
from hiercorr.bayes.joint.tables import of_pairs
from hiercorr.bayes.left_out import leave_donor_out
from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.population import cells_of, named_pair
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.refinement import cell_log_likelihood
from hiercorr.bayes.sampling import Draws, Settings, require, sample_pair, sd_of_samples
from hiercorr.bayes.setup import MAX_GENES, STRUCTURES, Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.errors import EstimationWarning, InputError, unknown_name, valid_seed, whole_number
from hiercorr.inference.poisson_lognormal import Parameters, random_counts
from hiercorr.results.posterior import PAIR_GENES, arviz_groups
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn

LOO_DRAWS = 500
SENSITIVITY: dict[str, dict[str, Any]] = {
    **{f"lkj({eta})": {"z_between": {"distribution": "lkj", "eta": eta}} for eta in (1, 2, 4)},
    "normal(0, 0.5)": {"z_between": {"distribution": "normal", "mu": 0.0, "sigma": 0.5}},
}
_SETTINGS = ("draws", "tune", "chains", "sampler", "target_accept")


def statistics(
    x: Array, exposure: Array, starts: NDArray[np.int64]
) -> tuple[Array, Array, Array, float]:
    """Compute the test statistics of the predictive checks.

    Parameters
    ----------
    x : ndarray, shape (n_cells, 2)
        Counts of two genes.
    exposure : ndarray, shape (n_cells, 2)
        Log depth of each cell, with the effects of covariates of cells on each gene.
    starts : ndarray of int64, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.

    Returns
    -------
    zeros, log_mean, variance_ratio : ndarray, shape (2,)
        Proportion of zeros, log mean, and variance / mean.
    observed : float
        Correlation of log(1 + x / s) within samples.
    """
    mean = x.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.log1p(x / np.exp(exposure))
        for a, b in itertools.pairwise(starts):
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
    cells = cells_of(counts, setup)
    pairs = list(itertools.combinations(range(counts.n_genes), 2))
    depth = np.exp(cells.exposure(*range(counts.n_genes))).sum(0)
    means = np.log((np.add.reduceat(cells.x, cells.starts[:-1]).sum(0) + 0.5) / depth)
    out = _Replicates(counts.genes, cells, pairs)
    for k, (i, j) in enumerate(pairs):
        drawn = draw_parameters(setup, means[[i, j]], draws, rng)
        out.add(k, drawn.of_cells, drawn.zeta, drawn.z_between, rng)
    return out.dataset(p_values=False)


def posterior(
    counts: Counts,
    setup: Setup,
    result: CorrelationResult,
    draws: int,
    seed: int | np.random.Generator | None,
) -> xr.Dataset:
    """Draw from the posterior predictive distribution.

    See :meth:`hiercorr.BayesianCorrelation.posterior_predictive`.
    """
    rng = _checked(counts, draws, seed)
    ds = _fit_of(counts, result)
    cells = cells_of(counts, setup)
    if "posterior_zeta" in ds:
        values, labels = parameters_of(ds), [ds[name].values for name in PAIR_GENES]
    else:
        values, labels = of_pairs(ds)
    members = (counts.genes.get_indexer(names) for names in labels)
    pairs = [(int(i), int(j)) for i, j in zip(*members, strict=True)]
    out = _Replicates(counts.genes, cells, pairs)
    chain = rng.integers(ds.sizes["chain"], size=draws)
    draw = rng.integers(ds.sizes["draw"], size=draws)
    for k in range(len(pairs)):
        value = {name: v[chain, draw, k] for name, v in values.items()}
        zeta = value["zeta"]
        z = value.get("within_sample", np.repeat(zeta[:, None], cells.n_samples, 1))
        if ds.attrs.get("structure") == "independent":
            z = np.zeros_like(z)
        sd = sd_of_samples(value.get("sd_sample"), value["sd_within"], value["mean"].shape)
        drawn = Parameters(value["mean"], sd, np.tanh(z))
        out.add(k, drawn, zeta, value["z_between"], rng)
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

    def add(
        self, k: int, drawn: Parameters, zeta: Array, z_between: Array, rng: np.random.Generator
    ) -> None:
        cells, exposure = self.cells, self.cells.exposure(*self.pairs[k])
        for d in range(len(zeta)):
            one = Parameters(*(v[d : d + 1] for v in drawn))
            x = random_counts(exposure, cells.starts, one, rng)[0].astype(float)
            correlations = np.tanh(zeta[d]), np.tanh(z_between[d])
            self.by_pair[k].append((*statistics(x, exposure, cells.starts), *correlations))

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
        seen: list[tuple[Any, ...]] = [
            statistics(x[:, list(p)], self.cells.exposure(*p), self.cells.starts)
            for p in self.pairs
        ]
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
    variance, (low, high) = setup.acting().of_z(level, confidence)
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
    seeds = np.random.default_rng(seed)
    fits, criteria = {}, {}
    for structure in STRUCTURES:
        changed = replace(setup, structure=structure)
        pair = named_pair(counts, changed, *genes)
        draws = sample_pair(pair, settings, int(seeds.integers(2**31)))
        chains, n = draws.zeta.shape
        keep = np.linspace(0, n - 1, min(n, LOO_DRAWS // chains)).astype(int)
        at = (np.arange(chains)[:, None] * n + keep).ravel()
        value = cell_log_likelihood(pair, draws, at).reshape(chains, len(keep), -1)
        groups = {
            "posterior": xr.Dataset({"zeta": (("chain", "draw"), draws.zeta[:, keep])}),
            "log_likelihood": xr.Dataset({"counts": (("chain", "draw", "cell"), value)}),
        }
        coords = {"chain": np.arange(chains), "draw": np.arange(len(keep))}
        fits[structure] = arviz_groups({k: v.assign_coords(coords) for k, v in groups.items()})
        criteria[structure] = waic(value.reshape(-1, value.shape[2])) | leave_donor_out(
            az, pair, changed, draws, keep, settings, int(seeds.integers(2**30))
        )
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
