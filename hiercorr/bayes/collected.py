"""Draws of all pairs in one Dataset, and their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiercorr.bayes.generative import PriorDraws, draw_parameters
from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.pair import Pair, slope_sd
from hiercorr.bayes.population import cell_names
from hiercorr.bayes.refinement import grid_error
from hiercorr.bayes.sampling import STATISTICS, Draws, sampler_statistics
from hiercorr.bayes.setup import Population, Setup
from hiercorr.counts.counts import Counts
from hiercorr.inference.poisson_lognormal import Grid
from hiercorr.results import posterior
from hiercorr.schema import PAIR_VARIABLES
from hiercorr.simulate import natural_correlation

PAIR, MEMBER = posterior.PAIR, posterior.MEMBER
PRIOR_DRAWS = 1000
BY_GENE = ("sd_within", "sd_between", "mean", "beta", "omega", "sd_sample", "log_mean")
_EXTRA = {
    **dict.fromkeys(
        ("within_sample", "mean", "sd_sample", "log_mean", "natural_sample"), ("sample",)
    ),
    "beta": ("coefficient",),
    "z_beta": ("term",),
    "within_group": ("group",),
}


@dataclass(frozen=True)
class DrawnPair:
    """The draws of one pair, and what else of it enters a result.

    Attributes
    ----------
    genes : tuple of int
        Positions of the genes.
    draws : Draws
    grid : Grid
        Points of the sums over log rates.
    coefficient_mean, coefficient_sd : ndarray, shape (2, n_coefficients)
        Priors of the coefficients.
    grid_error : float
        See :func:`hiercorr.bayes.refinement.grid_error`.
    """

    genes: tuple[int, int]
    draws: Draws
    grid: Grid
    coefficient_mean: Array
    coefficient_sd: Array
    grid_error: float

    @classmethod
    def of(cls, genes: tuple[int, int], pair: Pair, draws: Draws) -> DrawnPair:
        """Keep the parts of a pair that enter a result."""
        prior = (pair.coefficient_mean, pair.coefficient_sd)
        return cls(genes, draws, pair.grid, *prior, grid_error(pair, draws))


def stack_pairs(pairs: Sequence[DrawnPair], setup: Setup) -> xr.Dataset:
    """Collect the draws of pairs that were sampled separately.

    Parameters
    ----------
    pairs : sequence of DrawnPair
    setup : Setup

    Returns
    -------
    xarray.Dataset
        Dimensions (chain, draw, ..., drawn_pair); variables of a single gene have the last
        dimension ``member``, the two genes of the pair.
    """
    draws = [p.draws for p in pairs]
    out: dict[str, Any] = {}

    def add(prefix: str, sizes: tuple[str, ...], found: Mapping[str, Array]) -> None:
        for name, values in found.items():
            member = (MEMBER,) if name in BY_GENE else ()
            out[f"{prefix}{name}"] = ((*sizes, *_EXTRA.get(name, ()), PAIR, *member), values)

    add(posterior.DRAWS, ("chain", "draw"), variables(draws, setup))
    for name in STATISTICS:
        values = np.stack([getattr(d, name) for d in draws], -1)
        out[f"{posterior.STATS}{name}"] = (("chain", "draw", PAIR), values)
    add(posterior.GROUPS["log_prior"], ("chain", "draw"), _log_priors(pairs, setup))
    rng = np.random.default_rng(0)
    prior = [draw_parameters(setup, p.coefficient_mean[:, 0], PRIOR_DRAWS, rng) for p in pairs]
    add(posterior.GROUPS["prior"], (posterior.PRIOR_DRAW,), variables(prior, setup))
    grids = [p.grid for p in pairs]
    out["grid_left"] = (("sample", PAIR, MEMBER), np.stack([g.left for g in grids], 1))
    out["grid_spacing"] = (("sample", PAIR, MEMBER), np.stack([g.spacing for g in grids], 1))
    out["grid_points"] = ((PAIR, MEMBER), np.stack([g.points for g in grids]))
    return xr.Dataset(out)


def _log_priors(pairs: Sequence[DrawnPair], setup: Setup) -> dict[str, Array]:
    """Return the log prior densities of the draws, up to constants."""
    priors, names = setup.priors, setup.acting().names
    out = {}
    for name, prior in _PRIOR_OF.items():
        if prior in names:
            out[name] = np.stack(
                [priors.log_density(prior, getattr(p.draws, name)) for p in pairs],
                -2 if name in BY_GENE else -1,
            )
    if setup.z_regression is not None:
        wide = slope_sd(setup.z_regression.design, priors.z_coefficient)
        each = [-0.5 * (_given(p.draws.slopes) / wide) ** 2 for p in pairs]
        first = np.zeros((*each[0].shape[:-1], 1))  # the intercept has that of zeta
        out["z_beta"] = np.stack([np.concatenate([first, v], -1) for v in each], -1)
    out["beta"] = np.stack(
        [
            -0.5 * ((p.draws.coefficient - p.coefficient_mean.T) / p.coefficient_sd.T) ** 2
            for p in pairs
        ],
        -2,
    )
    return out


def _given(values: Array | None) -> Array:
    assert values is not None
    return values


_PRIOR_OF = {
    "zeta": "z_within",
    "z_between": "z_between",
    "tau": "tau",
    "share": "share",
    "sd_within": "sd_within",
    "sd_between": "sd_between",
    "omega": "omega",
}


def observed(counts: Counts, cells: Cells, population: Population) -> xr.Dataset:
    """Return the counts of the genes, and what is known of each cell and sample.

    Parameters
    ----------
    counts : Counts
    cells : Cells
    population : Population

    Returns
    -------
    xarray.Dataset
        ``observed_data_counts`` (cell, gene), ``constant_data_log_depth`` and
        ``constant_data_sample_of_cell`` (cell), ``constant_data_design`` (sample, coefficient),
        and ``constant_data_covariate_effect`` (cell, gene) of covariates of cells.
    """
    known, data = posterior.GROUPS["constant_data"], posterior.GROUPS["observed_data"]
    effect = {} if cells.effect is None else {f"{known}covariate_effect": cells.effect}
    return xr.Dataset(
        {
            **{name: (("cell", "gene"), v) for name, v in effect.items()},
            f"{data}counts": (("cell", "gene"), cells.x.astype(np.int32)),
            f"{known}log_depth": ("cell", cells.log_s),
            f"{known}sample_of_cell": ("cell", cells.sample),
            f"{known}design": (("sample", "coefficient"), population.stated_design),
        },
        {"cell": cell_names(counts)},
    )


def variables(draws: Sequence[Draws] | Sequence[PriorDraws], setup: Setup) -> dict[str, Array]:
    """Return the variables of all pairs; the pair follows the sample, coefficient or group."""
    each = {
        "zeta": [d.zeta for d in draws],
        "z_between": [d.z_between for d in draws],
        "within": [np.tanh(d.zeta) for d in draws],
        "between": [np.tanh(d.z_between) for d in draws],
        "natural": [
            natural_correlation(np.tanh(d.zeta), d.sd_within[..., 0], d.sd_within[..., 1])
            for d in draws
        ],
        "within_sample": [np.tanh(d.z_sample) for d in draws],
    }
    for name in ("tau", "share"):
        found = [getattr(d, name) for d in draws]
        if found[0] is not None:
            each[name] = found
    z = setup.z_regression
    if z is not None:
        each["z_beta"] = [z.coefficients(d.zeta, _given(d.slopes)) for d in draws]
        if z.groups:
            each["within_group"] = [np.tanh(z.of_groups(d.zeta, _given(d.slopes))) for d in draws]
    if setup.sd_per_sample:
        each["natural_sample"] = [
            natural_correlation(
                np.zeros_like(d.z_sample)
                if setup.structure == "independent"
                else np.tanh(d.z_sample),
                d.sd_of_samples[..., 0],
                d.sd_of_samples[..., 1],
            )
            for d in draws
        ]
    out = {name: np.stack(values, -1) for name, values in each.items()}
    for name in ("sd_within", "sd_between", "mean"):
        out[name] = np.stack([getattr(d, name) for d in draws], -2)
    stated = setup.population.stated_coefficients
    out["beta"] = np.stack([stated(d.coefficient) for d in draws], -2)
    if setup.sd_per_sample:
        for name in ("omega", "sd_sample"):
            out[name] = np.stack([_given(getattr(d, name)) for d in draws], -2)
        out["log_mean"] = out["mean"] + out["sd_sample"] ** 2 / 2
    return out


def from_latent(trace: Any, population: Population) -> xr.Dataset:
    """Convert draws of the latent model, which are joint draws of all pairs.

    Variables of a single gene have the dimension ``gene``; otherwise as :func:`stack_pairs`.
    """
    post = trace["posterior"]
    within, between = (
        np.asarray(post[f"{level}_correlation"].values) for level in ("within", "between")
    )
    upper = np.triu_indices(within.shape[-1], 1)
    rho = {"within": within[..., *upper], "between": between[..., *upper]}
    zeta, z_between = (np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)) for r in rho.values())
    sd = np.asarray(post["sd_within"].values)
    pairs = {
        "zeta": zeta,
        "z_between": z_between,
        **rho,
        "natural": natural_correlation(np.tanh(zeta), sd[..., upper[0]], sd[..., upper[1]]),
    }
    genes = {"sd_within": sd, "sd_between": post["sd_between"].values}
    beta = population.stated_coefficients(post["beta"].values)
    genes |= {"mean": post["mean"].values, "beta": beta}
    dims = ("chain", "draw")
    out: dict[str, Any] = {f"{posterior.DRAWS}{k}": ((*dims, PAIR), v) for k, v in pairs.items()}
    for name, values in genes.items():
        out[f"{posterior.DRAWS}{name}"] = ((*dims, *_EXTRA.get(name, ()), "gene"), values)
    for name, values in sampler_statistics(trace["sample_stats"]).items():
        out[f"{posterior.STATS}{name}"] = (dims, values)
    return xr.Dataset(out)


def parameters_of(drawn: xr.Dataset) -> dict[str, Array]:
    """Return the draws as arrays, shape (n_chains, n_draws, n_pairs, ...).

    ``within_sample`` is on the z scale, and ``new_sample`` is the correlation within a new sample.
    """
    i, j = _members(drawn)
    out = {}
    for key, variable in drawn.items():
        if not str(key).startswith(posterior.DRAWS):
            continue
        name = str(key).removeprefix(posterior.DRAWS)
        if PAIR not in variable.dims:  # of genes: each pair has two
            values = np.moveaxis(variable.values, -1, 2)
            out[name] = np.stack([values[:, :, i], values[:, :, j]], -1)
            continue
        out[name] = np.moveaxis(variable.values, variable.dims.index(PAIR), 2)
    if "tau" in out:
        noise = np.random.default_rng(0).standard_normal(out["zeta"].shape)
        out["new_sample"] = np.tanh(out["zeta"] + out["tau"] * noise)
    if "tau" in out or "z_beta" in out:
        out["within_sample"] = np.arctanh(np.clip(out["within_sample"], -1 + 1e-12, 1 - 1e-12))
    else:
        out.pop("within_sample", None)  # that of every sample
    return out


def _members(drawn: xr.Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the genes of all pairs, in draws of the latent model."""
    i, j = np.triu_indices(drawn.sizes.get("gene", 0), 1)
    return i, j


def joined(
    datasets: Mapping[str, xr.Dataset],
    drawn: xr.Dataset,
    pairs: Sequence[tuple[str, str]],
    coefficients: tuple[str, ...],
) -> xr.Dataset:
    """Join both levels and the draws in one Dataset.

    Parameters
    ----------
    datasets : mapping
        Datasets of levels ``"within"`` and ``"between"``; variables of the latter get a suffix.
    drawn : xarray.Dataset
        Draws, with the other groups for ArviZ.
    pairs : sequence of tuple of str
        Genes of the pairs that were drawn.
    coefficients : tuple of str
        Names of the coefficients.

    Returns
    -------
    xarray.Dataset
    """
    dataset = datasets["within"]
    for text in ("title", "note"):
        dataset.attrs.setdefault(f"{text}_between", datasets["between"].attrs[text])
    between = datasets["between"]
    added = {f"{n}_between": between[n].variable for n in PAIR_VARIABLES if n in between}
    percent = f"{100 * dataset.attrs['confidence']:g}%"
    for end in ("lower", "upper"):
        if f"prediction_{end}" in dataset:
            dataset[f"prediction_{end}"].attrs["long_name"] = (
                f"{end} {percent} prediction limit for the correlation in a new sample"
            )
    for key, values in drawn.items():
        added[str(key)] = values.variable.copy(deep=False)
        added[str(key)].attrs["long_name"] = _LONG_NAMES.get(str(key), str(key))
    coordinates: dict[str, Any] = {d: np.arange(drawn.sizes[d]) for d in ("chain", "draw")}
    if "coefficient" in drawn.dims:
        coordinates["coefficient"] = np.array(coefficients, object)
    names = zip(*pairs, strict=True)
    for coordinate, genes in zip(posterior.PAIR_GENES, names, strict=True):
        coordinates[coordinate] = (PAIR, np.array(genes, object))
    if "cell" in drawn.coords:
        coordinates["cell"] = drawn["cell"].variable
    return dataset.assign(added).assign_coords(coordinates)  # each addition copies all


_LONG_NAMES = {
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
    "posterior_z_beta": "coefficient of the Fisher z within samples",
    "posterior_within_group": "correlation of log expression within a typical sample of the group",
    "posterior_omega": "standard deviation between samples of the log of the sd within samples",
    "posterior_sd_sample": "standard deviation of log expression within each sample",
    "posterior_log_mean": "log of the sample's mean rate at the mean sequencing depth",
    "posterior_natural_sample": "correlation of unlogged expression within each sample",
    "posterior_sd_within": "standard deviation of log expression within samples",
    "posterior_sd_between": "standard deviation of the sample means of log expression",
    "stats_diverging": "whether the trajectory diverged",
    "stats_energy": "energy of the draw",
    "stats_lp": "log posterior density of the draw, up to a constant",
    "stats_tree_depth": "depth of the tree of the trajectory",
    "stats_n_steps": "gradients of the trajectory",
    "stats_step_size": "step size of the trajectory",
}
