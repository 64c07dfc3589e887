"""The models in PyMC: to read, to extend, and as a reference for the compiled density."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.pair import Pair, coefficient_prior
from hiercorr.bayes.priors import Priors
from hiercorr.bayes.setup import Population
from hiercorr.runtime.optional import optional


def marginal_model(pair: Pair) -> Any:
    """State the posterior of one pair, with its cells summed out, in PyMC.

    Parameters
    ----------
    pair : Pair
        From :meth:`hiercorr.BayesianCorrelation.pair`.

    Returns
    -------
    pymc.Model
        With variables mean (sample, gene), coefficient, sd_within, sd_between, zeta, z_between,
        tau, z_unit, share.
    """
    pm, pt = optional("pymc", "Bayesian models"), optional("pytensor.tensor", "Bayesian models")
    n, k = pair.population.design.shape
    unit, block, priors = pair.unit, pair.population.block, pair.priors
    with pm.Model() as model:
        sd_within = _scale(pm, "sd_within", priors, 2)
        sd_between = _scale(pm, "sd_between", priors, 2)
        zeta = _z(pm, pt, "zeta", priors.table["z_within"])
        z_between = _z(pm, pt, "z_between", priors.table["z_between"])
        z = pt.repeat(zeta, n)
        if pair.layout.heterogeneity:
            tau = _scale(pm, "tau", priors, None)
            eta = pm.Normal("eta", shape=pair.layout.n_units)
            z = pm.Deterministic("z_unit", zeta + tau * eta)[unit]
        coefficient = pm.Normal(
            "coefficient", pair.coefficient_mean.T, pair.coefficient_sd.T, shape=(k, 2)
        )
        rows = np.eye(n)
        if pair.layout.blocked:
            a, b = (float(priors.table["share"][name]) for name in ("alpha", "beta"))
            share = pm.Beta("share", a, b)
            same = (block[:, None] == block).astype(float)
            rows = (1 - share) * np.eye(n) + share * same
        rho_between = pt.tanh(z_between) if pair.structure == "both" else 0.0
        between = pt.stack([[1.0, rho_between], [rho_between, 1.0]]) * pt.outer(
            sd_between, sd_between
        )
        expected = pair.population.design @ coefficient
        mean = pm.MvNormal(
            "mean", expected.ravel(), pt.linalg.kron(pt.as_tensor(rows), between), shape=2 * n
        )
        mean = mean.reshape((n, 2))
        rho = pt.tanh(z) if pair.structure != "independent" else pt.zeros(n)
        (left_a, step_a), (left_b, step_b) = pair.grids
        for c in range(n):
            i, e = pair.rows.starts[c], pair.rows.starts[c + 1]
            pa, pb = (t[i:e] for t in pair.tables)
            x = (left_a[c] + step_a * np.arange(pa.shape[1]) - mean[c, 0]) / sd_within[0]
            y = (left_b[c] + step_b * np.arange(pb.shape[1]) - mean[c, 1]) / sd_within[1]
            q = (x[:, None] ** 2 - 2 * rho[c] * x[:, None] * y + y**2) / (1 - rho[c] ** 2)
            w = pt.exp(-q / 2)
            likelihood = ((pt.as_tensor(pa) @ w) * pb).sum(1) / w.sum()
            pm.Potential(f"cells_{c}", (pair.rows.weight[i:e] * pt.log(likelihood)).sum())
    return model


def latent_model(cells: Cells, population: Population, priors: Priors) -> Any:
    """State the model of a small panel, with the expression of every cell as a parameter, in PyMC.

    A reference, which mixes slowly. Sample means are centred, cells are non-centred; correlation
    matrices have LKJ priors with the eta of the pairs' priors (2 if those are not LKJ). There is no
    heterogeneity and there are no blocks.

    Parameters
    ----------
    cells : Cells
    population : Population
    priors : Priors

    Returns
    -------
    pymc.Model
    """
    pm, pt = optional("pymc", "Bayesian models"), optional("pytensor.tensor", "Bayesian models")
    n, k = population.design.shape
    n_genes = cells.x.shape[1]
    sample = np.repeat(np.arange(n), np.diff(cells.starts))
    eta = [float(priors.table[name].get("eta", 2.0)) for name in ("z_within", "z_between")]
    centre, sd = coefficient_prior(_log_means(cells), population.design, priors)
    with pm.Model() as model:
        sd_within, sd_between = (
            _scale(pm, name, priors, n_genes) for name in ("sd_within", "sd_between")
        )
        roots = []
        for level, shape in zip(("within", "between"), eta, strict=True):
            chol = pm.LKJCholeskyCov(
                f"{level}_cholesky",
                n=n_genes,
                eta=shape,
                sd_dist=pm.LogNormal.dist(0.0, 0.5, shape=n_genes),
                compute_corr=True,
                store_in_trace=False,
            )
            root = chol[0] / chol[2][:, None]  # its scales are discarded
            pm.Deterministic(f"{level}_correlation", chol[1])
            roots.append(root)
        coefficient = pm.Normal("coefficient", centre.T, sd.T, shape=(k, n_genes))
        mean = pm.MvNormal(
            "mean",
            population.design @ coefficient,
            chol=sd_between[:, None] * roots[1],
            shape=(n, n_genes),
        )
        e = pm.Normal("cell", shape=(len(cells.x), n_genes))
        u = mean[sample] + (e @ roots[0].T) * sd_within
        pm.Poisson("counts", pt.exp(cells.log_s[:, None] + u), observed=cells.x)
    return model


def _log_means(cells: Cells) -> Array:
    depth = np.add.reduceat(np.exp(cells.log_s), cells.starts[:-1])
    return np.asarray(np.log((np.add.reduceat(cells.x, cells.starts[:-1]) + 0.5) / depth[:, None]))


def _scale(pm: Any, name: str, priors: Priors, size: int | None) -> Any:
    stated = priors.table[name]
    shape = {} if size is None else {"shape": size}
    if stated["distribution"] == "lognormal":
        return pm.LogNormal(name, np.log(stated["median"]), stated["sigma"], **shape)
    return pm.HalfNormal(name, stated["sigma"], **shape)


def _z(pm: Any, pt: Any, name: str, stated: dict[str, Any]) -> Any:
    if stated["distribution"] == "normal":
        return pm.Normal(name, stated.get("mu", 0.0), stated["sigma"])
    half = pm.Beta(f"{name}_half", stated["eta"], stated["eta"])  # (1 + rho) / 2
    return pm.Deterministic(name, pt.log(half / (1 - half)) / 2)
