"""The models in PyMC: to read, to extend, and as a reference for the compiled density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.pair import Pair, coefficient_prior, slope_sd
from hiercorr.bayes.priors import Priors
from hiercorr.bayes.setup import Population
from hiercorr.inference.poisson_lognormal import Grid, poisson_counts
from hiercorr.runtime.optional import optional


@dataclass(frozen=True)
class Coordinates:
    """Names along the dimensions of a model; positions where they are not given.

    Attributes
    ----------
    gene, sample, coefficient, cell : sequence of str
    """

    gene: Sequence[Any]
    sample: Sequence[Any]
    coefficient: Sequence[Any]
    cell: Sequence[Any]

    @classmethod
    def positions(cls, n_genes: int, cells: Cells, population: Population) -> Coordinates:
        """Return the positions along each dimension in place of names."""
        n, k = population.design.shape
        return cls(range(n_genes), range(n), range(k), range(len(cells.x)))

    def of(self, *more: str, **units: Sequence[Any]) -> dict[str, Any]:
        """Return the coordinates of a model, with `more` names of dimensions of genes."""
        found = {name: list(getattr(self, name)) for name in self.__dataclass_fields__}
        return found | {name: list(self.gene) for name in more} | units


def marginal_model(pair: Pair, coordinates: Coordinates | None = None) -> Any:
    r"""State the posterior of one pair, with its cells summed out, in PyMC.

    The counts are observed: each cell has the distribution

    .. math:: p(x_a, x_b) = \sum_{g,h} Poisson(x_a | s e^{u_g}) Poisson(x_b | s e^{v_h}) w_{gh}

    with bivariate normal weights w on a grid, so that the log likelihood of a draw has one value
    per cell, and counts can be drawn from the predictive distribution.

    Parameters
    ----------
    pair : Pair
        From :meth:`hiercorr.BayesianCorrelation.pair`.
    coordinates : Coordinates, optional

    Returns
    -------
    pymc.Model
        With variables mean (sample, gene), beta (coefficient, gene), sd_within and
        sd_between (gene), zeta, z_between, tau, z_sample (sample), share, and the observed counts
        (cell, gene); with covariates of the correlation z_slope (slope); with a standard deviation
        of each sample omega (gene), sd_sample and log_mean (sample, gene).
    """
    pm, pt = optional("pymc", "Bayesian models"), optional("pytensor.tensor", "Bayesian models")
    n = len(pair.population.design)
    unit, block, priors = pair.unit, pair.population.block, pair.priors
    names = coordinates or Coordinates.positions(2, pair.cells, pair.population)
    units = names.sample if pair.layout.n_units == n else np.arange(pair.layout.n_units)
    z_covariates = pair.regression
    more = {} if z_covariates is None else {"slope": list(z_covariates.names)}
    with pm.Model(coords=names.of(unit=list(units), **more)) as model:
        sd_within = _scale(pm, "sd_within", priors, "gene")
        sd_between = _scale(pm, "sd_between", priors, "gene")
        zeta = _z(pm, pt, "zeta", priors.table["z_within"])
        z_between = _z(pm, pt, "z_between", priors.table["z_between"])
        z = pt.repeat(zeta, n)
        if z_covariates is not None:
            wide = slope_sd(z_covariates.design, priors.z_coefficient)
            z += z_covariates.design @ pm.Normal("z_slope", 0.0, wide, dims="slope")
        if pair.layout.heterogeneity:
            tau = _scale(pm, "tau", priors, None)
            z += tau * pm.Normal("eta", dims="unit")[unit]
        z = pm.Deterministic("z_sample", z, dims="sample")
        coefficient = pm.Normal(
            "beta",
            pair.coefficient_mean.T,
            pair.coefficient_sd.T,
            dims=("coefficient", "gene"),
        )
        rho_between = pt.tanh(z_between) if pair.structure == "both" else 0.0
        between = pt.stack([[1.0, rho_between], [rho_between, 1.0]]) * pt.outer(
            sd_between, sd_between
        )
        expected, dims = pair.population.design @ coefficient, ("sample", "gene")
        own = pair.layout.sd_per_sample
        name = "log_mean" if own else "mean"
        if pair.layout.blocked:
            a, b = (float(priors.table["share"][name]) for name in ("alpha", "beta"))
            share = pm.Beta("share", a, b)
            same = (block[:, None] == block).astype(float)
            rows = (1 - share) * np.eye(n) + share * same
            mean = pm.MatrixNormal(name, expected, rowcov=rows, colcov=between, dims=dims)
        else:
            mean = pm.MvNormal(name, expected, between, dims=dims)
        sd = pt.ones((n, 1)) * sd_within[None, :]
        if own:
            omega = _scale(pm, "omega", priors, "gene")
            xi = pm.Normal("xi", dims=dims)
            sd = pm.Deterministic("sd_sample", sd * pt.exp(omega * xi), dims=dims)
            mean = pm.Deterministic("mean", mean - sd**2 / 2, dims=dims)
        rho = pt.tanh(z) if pair.structure != "independent" else pt.zeros(n)
        cells = _Cells(pair.exposure, pair.cells.starts, pair.grid)
        pm.CustomDist(
            "counts",
            mean[cells.sample],
            sd[cells.sample],
            rho[cells.sample],
            logp=cells.logp,
            random=cells.random,
            signature="(g),(g),()->(g)",
            dtype="int64",
            observed=pair.x,
            dims=("cell", "gene"),
        )
    return model


class _Cells:
    """Distribution of the counts of two genes in the cells of a data set, for PyMC."""

    def __init__(self, log_s: Array, starts: NDArray[np.int64], grid: Grid) -> None:
        self.log_s, self.starts, self.grid = log_s, starts, grid
        size = np.diff(starts)
        self.sample = np.repeat(np.arange(len(size)), size)
        self.place = np.arange(starts[-1]) - starts[self.sample]  # within the sample
        # Cells of each sample as rows of one length, for products of matrices of all samples.
        self.padded = starts[:-1, None] + np.minimum(np.arange(size.max()), size[:, None] - 1)

    def logp(self, value: Any, mean: Any, sd: Any, rho: Any) -> Any:
        """Return the log probability of each cell, from the parameters of its sample."""
        pt = optional("pytensor.tensor", "Bayesian models")
        first = self.starts[:-1]
        tables, points, peak = [], [], 0.0
        for g in range(2):
            steps = self.grid.spacing[:, g, None] * np.arange(self.grid.points[g])
            u = self.grid.left[:, g, None] + steps
            table, top = self._likelihood(value, g, u)
            tables.append(table[self.padded])
            points.append((u - mean[first, g, None]) / sd[first, g, None])
            peak = peak + top
        x, y, r = points[0][:, :, None], points[1][:, None, :], rho[first][:, None, None]
        w = pt.exp(-(x**2 - 2 * r * x * y + y**2) / (1 - r**2) / 2)
        inside = (pt.matmul(tables[0], w) * tables[1]).sum(axis=-1)
        each = pt.log(inside / w.sum(axis=(1, 2))[:, None])
        return peak + each[self.sample, self.place]

    def _likelihood(self, value: Any, g: int, u: Array) -> tuple[Any, Any]:
        """Return the likelihood of the counts of a gene on its grid, and the log of its maximum.

        That of observed counts is computed once.
        """
        pt = optional("pytensor.tensor", "Bayesian models")
        constant = isinstance(value, pt.TensorConstant)
        xp, log_factorial = (np, special.gammaln) if constant else (pt, pt.gammaln)
        x = (value.data if constant else value)[:, g].astype("float64")
        log_rate = self.log_s[:, g, None] + u[self.sample]
        log_p = x[:, None] * log_rate - np.exp(log_rate)
        top = log_p.max(axis=1)
        return xp.exp(log_p - top[:, None]), top - log_factorial(x + 1)

    def random(
        self, mean: Array, sd: Array, rho: Array, rng: np.random.Generator, size: Any = None
    ) -> NDArray[np.int64]:
        """Draw the counts of each cell."""
        shape = np.broadcast_shapes(mean.shape[:-1], rho.shape, size or ())
        e = rng.standard_normal((*shape, 2))
        e[..., 1] = rho * e[..., 0] + np.sqrt(1 - rho**2) * e[..., 1]
        return poisson_counts(self.log_s + mean + sd * e, rng)


def latent_model(
    cells: Cells, population: Population, priors: Priors, coordinates: Coordinates | None = None
) -> Any:
    """State the model of a small panel, with the expression of every cell as a parameter, in PyMC.

    A reference, which mixes slowly. Sample means are centred, cells are non-centred; correlation
    matrices have LKJ priors with the eta of the pairs' priors, which must be LKJ. There is no
    heterogeneity and there are no blocks.

    Parameters
    ----------
    cells : Cells
    population : Population
    priors : Priors
    coordinates : Coordinates, optional

    Returns
    -------
    pymc.Model
        With variables mean (sample, gene), beta (coefficient, gene), sd_within and
        sd_between (gene), within_correlation and between_correlation (gene, partner), expression
        (cell, gene) and the observed counts (cell, gene).
    """
    pm, pt = optional("pymc", "Bayesian models"), optional("pytensor.tensor", "Bayesian models")
    n_genes = cells.x.shape[1]
    sample = cells.sample
    eta = [float(priors.table[name]["eta"]) for name in ("z_within", "z_between")]
    centre, sd = coefficient_prior(_log_means(cells), population.design, priors)
    names = coordinates or Coordinates.positions(n_genes, cells, population)
    with pm.Model(coords=names.of("partner")) as model:
        sd_within, sd_between = (
            _scale(pm, name, priors, "gene") for name in ("sd_within", "sd_between")
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
            pm.Deterministic(f"{level}_correlation", chol[1], dims=("gene", "partner"))
            roots.append(root)
        coefficient = pm.Normal("beta", centre.T, sd.T, dims=("coefficient", "gene"))
        mean = pm.MvNormal(
            "mean",
            population.design @ coefficient,
            chol=sd_between[:, None] * roots[1],
            dims=("sample", "gene"),
        )
        e = pm.Normal("expression", dims=("cell", "gene"))
        u = mean[sample] + (e @ roots[0].T) * sd_within
        rate = pt.exp(cells.log_s[:, None] + u)
        pm.Poisson("counts", rate, observed=cells.x, dims=("cell", "gene"))
    return model


def _log_means(cells: Cells) -> Array:
    depth = np.add.reduceat(np.exp(cells.log_s), cells.starts[:-1])
    return np.asarray(np.log((np.add.reduceat(cells.x, cells.starts[:-1]) + 0.5) / depth[:, None]))


def _scale(pm: Any, name: str, priors: Priors, dims: str | None) -> Any:
    stated = priors.table[name]
    if stated["distribution"] == "lognormal":
        return pm.LogNormal(name, np.log(stated["median"]), stated["sigma"], dims=dims)
    return pm.HalfNormal(name, stated["sigma"], dims=dims)


def _z(pm: Any, pt: Any, name: str, stated: dict[str, Any]) -> Any:
    if stated["distribution"] == "normal":
        return pm.Normal(name, stated.get("mu", 0.0), stated["sigma"])
    half = pm.Beta(f"{name}_half", stated["eta"], stated["eta"])  # (1 + rho) / 2
    return pm.Deterministic(name, pt.log(half / (1 - half)) / 2)
