"""Checks of the model against data: prior and posterior predictive draws, leave-one-out comparison of structures."""

from __future__ import annotations

import inspect
import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import special

from hiercorr.bayes.margin import Array, Cells, Rows
from hiercorr.bayes.pair import STRUCTURES, Pair
from hiercorr.bayes.population import cells_of
from hiercorr.bayes.priors import read_priors
from hiercorr.errors import EstimationWarning, InputError
from hiercorr.kernels import bayes as kernels
from hiercorr.results.posterior import arviz_groups
from hiercorr.runtime.user_warnings import warn

if TYPE_CHECKING:
    from hiercorr.bayes.model import BayesianCorrelation
    from hiercorr.results.result import CorrelationResult

LOO_DRAWS = 500


def draw_counts(cells: Cells, mean: Array, sd: Array, z: Array, rng: np.random.Generator) -> Array:
    """Counts of two genes in these cells: mean (sample, 2), sd (2,), z (sample,)."""
    size = np.diff(cells.starts)
    rho = np.repeat(np.tanh(z), size)
    e = rng.standard_normal((len(cells.log_s), 2))
    e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
    log_rate = cells.log_s[:, None] + np.repeat(mean, size, axis=0) + sd * e
    return rng.poisson(np.exp(np.minimum(log_rate, 20.0))).astype(float)


def statistics(x: Array, cells: Cells) -> tuple[Array, Array, Array, float]:
    """Share of zeros, log mean, variance / mean of two genes, and their correlation within samples after log(1 + x / s)."""
    mean = x.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.log1p(x / np.exp(cells.log_s)[:, None])
        for a, b in itertools.pairwise(cells.starts):
            v[a:b] -= v[a:b].mean(0)
        r = float((v[:, 0] * v[:, 1]).sum() / np.sqrt((v**2).sum(0).prod()))
        return (x == 0).mean(0), np.log(mean), x.var(0) / mean, r


def prior(model: BayesianCorrelation, draws: int, rng: np.random.Generator) -> xr.Dataset:
    priors, design = model.priors, model.design.matrix
    n_genes, n = _two_to_twenty(model), len(design)
    cells, block = cells_of(model.counts), model._population.block
    pairs = list(itertools.combinations(range(n_genes), 2))
    means = np.log(
        (np.add.reduceat(cells.x, cells.starts[:-1]).sum(0) + 0.5) / np.exp(cells.log_s).sum()
    )
    spread = np.ptp(design, axis=0)
    slope_sd = priors.coefficient[1] / np.where(spread > 0, spread, 1.0)
    out = _Collected(model, cells, pairs)
    for _ in range(draws):
        for k, (i, j) in enumerate(pairs):
            sd_w, sd_b = (priors.draw(name, 2, rng) for name in ("sd_within", "sd_between"))
            zeta, z_between = (
                float(priors.draw(name, 1, rng)[0]) for name in ("z_within", "z_between")
            )
            tau = float(priors.draw("tau", 1, rng)[0]) if model.heterogeneity else 0.0
            share = float(priors.draw("share", 1, rng)[0]) if model._population.blocked else 0.0
            coefficient = rng.standard_normal((design.shape[1], 2)) * slope_sd[:, None]
            coefficient[0] = (
                means[[i, j]] if priors.intercept[0] is None else priors.intercept[0]
            ) + priors.intercept[1] * rng.standard_normal(2)
            zeta, z_between = (
                0.0 if model.structure == "independent" else zeta,
                z_between if model.structure == "both" else 0.0,
            )
            rho = np.tanh(z_between)
            e = np.sqrt(share) * rng.standard_normal((block.max() + 1, 2))[block]
            e += np.sqrt(1 - share) * rng.standard_normal((n, 2))
            e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
            b = design @ coefficient + sd_b * e
            z = zeta + tau * rng.standard_normal(block.max() + 1)[block]
            out.add(k, draw_counts(cells, b, sd_w, z, rng), np.tanh(zeta), rho)
    return out.dataset(p_values=False)


def posterior(
    model: BayesianCorrelation, result: CorrelationResult, draws: int, rng: np.random.Generator
) -> xr.Dataset:
    _two_to_twenty(model)
    ds = result.dataset
    if "posterior_mean" not in ds or list(ds["gene"].values) != list(model.counts.genes):
        raise InputError(
            "result must be that of fit() of this model: its genes or its posterior are others"
        )
    cells = cells_of(model.counts)
    pairs = list(itertools.combinations(range(len(model.counts.genes)), 2))
    out = _Collected(model, cells, pairs)
    chain = rng.integers(ds.sizes["chain"], size=draws)
    draw = rng.integers(ds.sizes["draw"], size=draws)
    value = {
        name: ds[f"posterior_{name}"].values for name in ("mean", "sd_within", "zeta", "z_between")
    }
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


class _Collected:
    """Statistics of replicated data, pair by pair; a gene's own are those of its first pair."""

    def __init__(
        self, model: BayesianCorrelation, cells: Cells, pairs: list[tuple[int, int]]
    ) -> None:
        self.names = model.counts.genes.to_numpy(object)
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


def log_likelihood(
    pair: Pair, cells: Cells, genes: tuple[int, int], draws: Any, at: Array
) -> Array:
    """Log likelihood of each cell at some of the draws: (draws, cells)."""
    x = cells.x[:, list(genes)].astype(float)
    rows = Rows(x, cells.log_s, np.ones(len(x)), cells.starts)
    tables, peaks = [], np.zeros(len(x))
    for side, (left, step) in enumerate(pair.grids):
        table, peak = kernels.poisson_table(
            x[:, side].copy(), rows.log_s, rows.starts, left, step, pair.tables[side].shape[1]
        )
        tables.append(table)
        peaks += peak - special.gammaln(x[:, side] + 1)
    mean, sd, z = (draws.flat(name, at) for name in ("mean", "sd_within", "z_sample"))
    if pair.structure == "independent":
        z = np.zeros_like(z)
    out = np.empty((len(at), len(x)))
    w = np.empty((tables[0].shape[1], tables[1].shape[1]))
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
            out[d, a:b] = kernels.row_likelihoods(w, total, tables[0][a:b], tables[1][a:b])
    return out + peaks


SENSITIVITY: dict[str, dict[str, Any]] = {
    **{f"lkj({eta})": {"z_between": {"distribution": "lkj", "eta": eta}} for eta in (1, 2, 4)},
    "normal(0, 0.5)": {"z_between": {"distribution": "normal", "mu": 0.0, "sigma": 0.5}},
}


def prior_sensitivity(
    model: BayesianCorrelation,
    gene_a: str,
    gene_b: str,
    priors: Any,
    seed: Any,
    options: dict[str, Any],
) -> pd.DataFrame:
    from hiercorr.bayes.sampling import sample_pair
    from hiercorr.bayes.tables import pair_summary, prior_of_z

    settings = model._settings(**(_DEFAULTS | options))
    share = options.get("confidence", _DEFAULTS["confidence"])
    seeds, rows = np.random.default_rng(seed), []
    for name, stated in (priors or SENSITIVITY).items():
        pair = model.pair(gene_a, gene_b, priors=read_priors({**model.priors.table, **stated}))
        draws = sample_pair(pair, settings, int(seeds.integers(2**31)))
        for level, key, z in (
            ("within", "z_within", draws.flat("zeta")),
            ("between", "z_between", draws.flat("z_between")),
        ):
            found = pair_summary(z, share, 0.1)
            variance, (low, high) = prior_of_z(pair.priors, key, share)
            kept = {k: float(found[k]) for k in ("correlation", "sd", "ci_lower", "ci_upper")}
            rows.append(
                {
                    "priors": name,
                    "level": level,
                    **kept,
                    "prior_lower": low,
                    "prior_upper": high,
                    "contraction": 1 - float(z.var(ddof=1)) / variance,
                    "divergences": int(draws.diverging.sum()),
                }
            )
    return pd.DataFrame(rows)


_DEFAULTS: dict[str, Any] = {
    "draws": 500,
    "tune": 400,
    "chains": 4,
    "sampler": "nutpie",
    "target_accept": 0.95,
    "confidence": 0.95,
    "rope": 0.1,
}


def compare_structures(
    model: BayesianCorrelation, gene_a: str, gene_b: str, seed: Any, options: dict[str, Any]
) -> pd.DataFrame:
    import arviz as az

    from hiercorr.bayes.sampling import sample_pair

    settings = model._settings(**(_DEFAULTS | options))
    seeds, cells = np.random.default_rng(seed), cells_of(model.counts)
    genes = (model._position(gene_a), model._position(gene_b))
    fits, widely = {}, {}
    for structure in STRUCTURES:
        pair = model.pair(gene_a, gene_b, structure)
        draws = sample_pair(pair, settings, int(seeds.integers(2**31)))
        chains, n = draws.zeta.shape
        keep = np.linspace(0, n - 1, min(n, LOO_DRAWS // chains)).astype(int)
        at = (np.arange(chains)[:, None] * n + keep).ravel()
        value = log_likelihood(pair, cells, genes, draws, at).reshape(chains, len(keep), -1)
        groups = {
            "posterior": xr.Dataset({"zeta": (("chain", "draw"), draws.zeta[:, keep])}),
            "log_likelihood": xr.Dataset({"counts": (("chain", "draw", "cell"), value)}),
        }
        coords = {"chain": np.arange(chains), "draw": np.arange(len(keep))}
        fits[structure] = arviz_groups({k: v.assign_coords(coords) for k, v in groups.items()})
        widely[structure] = waic(value.reshape(-1, value.shape[2]))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # ArviZ 1 rounds the table unless it is told not to
        exact: dict[str, Any] = (
            {"round_to": "none"} if "round_to" in inspect.signature(az.compare).parameters else {}
        )
        table = az.compare(fits, **exact)
    if any("shape parameter" in str(w.message) for w in said):
        warn(
            "leave-one-out is unreliable for some cells (Pareto k > 0.7)",
            EstimationWarning,
        )
    return table.join(pd.DataFrame(widely).T)


def waic(log_likelihood: Array) -> dict[str, float]:
    r"""Widely applicable information criterion on the scale of the log score (ArviZ 1 has it no more).

    .. math:: \sum_i \log \frac{1}{S}\sum_s p(x_i | \theta_s) - \sum_i \operatorname{Var}_s \log p(x_i | \theta_s)

    Parameters
    ----------
    log_likelihood : ndarray, shape (draws, cells)

    Returns
    -------
    dict
        ``elpd_waic``, its standard error ``se_waic`` and the effective number of parameters ``p_waic``.

    References
    ----------
    Watanabe 2010, Journal of Machine Learning Research 11:3571; Vehtari, Gelman & Gabry 2017, Statistics and Computing
    27:1413, eq. 11-12.
    """
    effective = log_likelihood.var(0, ddof=1)
    each = special.logsumexp(log_likelihood, axis=0) - np.log(len(log_likelihood)) - effective
    return {
        "elpd_waic": float(each.sum()),
        "se_waic": float(np.sqrt(len(each) * each.var())),
        "p_waic": float(effective.sum()),
    }


def _two_to_twenty(model: BayesianCorrelation) -> int:
    from hiercorr.bayes.model import MAX_GENES

    n = model.counts.n_genes
    if not 2 <= n <= MAX_GENES:
        raise InputError(
            f"predictive checks take 2 to {MAX_GENES} genes, not {n}: name fewer with genes="
        )
    return n
