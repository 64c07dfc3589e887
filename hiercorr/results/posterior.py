"""Posterior draws in a result's Dataset: the other level of the pairs, and groups for ArviZ.

Variables of a group have the prefix of :data:`GROUPS`. Draws of pairs have the dimension
``drawn_pair``, whose genes are ``drawn_a`` and ``drawn_b``; variables of one of these genes also
have the dimension ``member``. Draws of a joint model may instead have the dimensions
``(gene, partner)``, of which each pair becomes one entry, and ``(gene,)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from hiercorr.errors import InputError, NotInThisResult, text, unknown_name
from hiercorr.estimands import estimand
from hiercorr.inference.poisson_lognormal import (
    Grid,
    Parameters,
    log_likelihood,
    poisson_counts,
    random_counts,
)
from hiercorr.runtime.optional import optional
from hiercorr.schema import PAIR_VARIABLES

PAIR, MEMBER = "drawn_pair", "member"
PAIR_GENES = ("drawn_a", "drawn_b")  # coordinates of the pairs that were drawn
DRAWS, STATS = "posterior_", "stats_"  # prefixes of the draws and of the sampler statistics
GROUPS = {
    "posterior": DRAWS,
    "sample_stats": STATS,
    "log_likelihood": "log_likelihood_",
    "log_prior": "log_prior_",
    "posterior_predictive": "predictive_",
    "prior": "from_prior_",
    "observed_data": "observed_data_",
    "constant_data": "constant_data_",
}
PRIOR_DRAW = "prior_draw"  # dimension of the draws from the prior
CELL_DRAW = "cell_draw"  # dimension of the draws of a joint model that have a value per cell
PREDICTED = 50  # replicated data sets per chain
SEPARATE = (
    "every pair has its own posterior and chains: draws of different pairs are independent, so "
    "that comparisons of pairs, ranks and eigenvalues need a joint model: fit(method='joint')"
)
_BETWEEN = ("z_between", "between")
_FIXED = {  # variables that a restricted structure does not have
    "within": _BETWEEN,
    "independent": (
        *(*_BETWEEN, "zeta", "within", "natural", "within_sample", "tau"),
        *("z_beta", "within_group", "natural_sample"),
    ),
}
_OVER_PAIRS: dict[str, Callable[..., xr.DataArray]] = {  # of chains that ran side by side
    "diverging": xr.DataArray.any,
    "energy": xr.DataArray.sum,
    "lp": xr.DataArray.sum,
    "tree_depth": xr.DataArray.max,
    "n_steps": xr.DataArray.sum,
    "step_size": xr.DataArray.min,
}


def at_level(dataset: xr.Dataset, level: str) -> xr.Dataset:
    """Exchange the pair variables with those of another level, stored under a suffix.

    Parameters
    ----------
    dataset : xarray.Dataset
    level : str

    Returns
    -------
    xarray.Dataset
        The current pair variables get their level as suffix.
    """
    current = str(dataset.attrs.get("level"))
    others = [
        str(n).removeprefix("correlation_") for n in dataset if str(n).startswith("correlation_")
    ]
    known = [current, *(o for o in others if f"flag_{o}" in dataset)]
    text("level", level)
    if level not in known:
        raise unknown_name("level", level, known)
    if level == current:
        return dataset
    names = {n: f"{n}_{current}" for n in PAIR_VARIABLES if n in dataset}
    back = {
        str(n): str(n).removesuffix(f"_{level}") for n in dataset if str(n).endswith(f"_{level}")
    }
    back = {k: v for k, v in back.items() if v in PAIR_VARIABLES}
    swapped = dataset.rename(names | back)
    changed: dict[str, Any] = {"level": level}
    if "estimand" in dataset.attrs:
        changed["estimand"] = estimand({**dataset.attrs, **changed})
    for key in ("title", "note"):  # each level has its own, the other one under a suffix
        if f"{key}_{level}" in dataset.attrs:
            changed |= {
                key: dataset.attrs[f"{key}_{level}"],
                f"{key}_{current}": dataset.attrs[key],
            }
    gone = (f"title_{level}", f"note_{level}")
    swapped.attrs = {**{k: v for k, v in dataset.attrs.items() if k not in gone}, **changed}
    return swapped


def to_arviz(dataset: xr.Dataset, genes: tuple[str, str] | None = None) -> Any:
    """Return all groups as an ArviZ object: dimensions chain and draw first, every pair once.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of a result.
    genes : tuple of str, optional
        The genes of one pair, whose groups are complete. None: all pairs.

    Returns
    -------
    InferenceData or DataTree
        See :attr:`hiercorr.CorrelationResult.idata`.
    """
    data = {name: _group(dataset, prefix) for name, prefix in GROUPS.items()}
    if not data["posterior"]:
        raise NotInThisResult(
            "this result has no posterior draws: fit hiercorr.BayesianCorrelation"
        )
    n_pairs = dataset.sizes.get(PAIR, 0)
    if genes is not None or n_pairs == 1:
        at = 0 if genes is None else _position(dataset, genes)
        data = _one_pair(dataset, data, at)
    elif n_pairs:
        data = _all_pairs(dataset, data)
    elif CELL_DRAW in data["log_likelihood"].dims:
        data["posterior_predictive"] = _replicated(data)
    for name in ("posterior", "prior"):
        fixed = _FIXED.get(str(dataset.attrs.get("structure")), ())
        data[name] = data[name].drop_vars(fixed, errors="ignore")
    data = {name: _as_draws(group) for name, group in data.items() if group}
    return arviz_groups({name: data[name] for name in GROUPS if name in data})


def _position(dataset: xr.Dataset, genes: tuple[str, str]) -> int:
    """Return the position of a pair, in any order of its genes, among those that were drawn."""
    if PAIR not in dataset.dims:
        raise InputError("this result has no draws of single pairs: use idata")
    a, b = (dataset[name].values for name in PAIR_GENES)
    known = list(dict.fromkeys([*a, *b]))
    for gene in genes:
        if gene not in known:
            raise unknown_name("gene", gene, known)
    found = np.flatnonzero(
        ((a == genes[0]) & (b == genes[1])) | ((a == genes[1]) & (b == genes[0]))
    )
    if not len(found):
        raise InputError(f"the pair {genes[0]!r}, {genes[1]!r} was not drawn")
    return int(found[0])


def _one_pair(dataset: xr.Dataset, data: dict[str, xr.Dataset], at: int) -> dict[str, xr.Dataset]:
    """Return the groups of one pair, with the likelihoods and random counts of its cells."""
    names = [dataset[name].values[at] for name in PAIR_GENES]
    out = {}
    for group, values in data.items():
        if PAIR in values.dims:
            values = values.isel({PAIR: at}).drop_vars(PAIR_GENES, errors="ignore")
            values = values.drop_vars(PAIR, errors="ignore")
        if MEMBER in values.dims:
            values = values.rename({MEMBER: "gene"}).assign_coords(gene=names)
        elif "gene" in values.dims:
            values = values.sel(gene=names)
        out[group] = values.transpose("chain", "draw", ..., missing_dims="ignore")
    return out | _of_cells(dataset, out, at)


def _of_cells(dataset: xr.Dataset, data: dict[str, xr.Dataset], at: int) -> dict[str, xr.Dataset]:
    """Compute the groups that are not stored because they have a value per draw and cell."""
    if "grid_left" not in dataset:
        return {}
    post, constant = data["posterior"], data["constant_data"]
    x, log_s = data["observed_data"]["counts"], constant["log_depth"].values
    if "covariate_effect" in constant:
        log_s = log_s[:, None] + constant["covariate_effect"].values
    starts = np.searchsorted(constant["sample_of_cell"].values, np.arange(post.sizes["sample"] + 1))
    grid = dataset[["grid_left", "grid_spacing", "grid_points"]].isel({PAIR: at})
    chains, draws = post.sizes["chain"], post.sizes["draw"]
    rho = post["within_sample"].values
    if dataset.attrs.get("structure") == "independent":
        rho = np.zeros_like(rho)
    mean = post["mean"].values
    sd = post["sd_sample"].values if "sd_sample" in post else post["sd_within"].values[..., None, :]
    each = Parameters(mean, np.broadcast_to(sd, mean.shape), rho)
    flat = Parameters(*(v.reshape(-1, *v.shape[2:]) for v in each))
    left, spacing, points = (grid[f"grid_{name}"].values for name in Grid._fields)
    every = Grid(left, np.broadcast_to(spacing, left.shape), points)  # once one for all samples
    value = log_likelihood(x.values, log_s, starts, every, flat)
    keep = np.unique(np.linspace(0, draws - 1, min(draws, PREDICTED)).astype(int))
    few = Parameters(*(v[:, keep].reshape(-1, *v.shape[2:]) for v in each))
    replicated = random_counts(log_s, starts, few, np.random.default_rng(0))
    dims = ("chain", "draw", *x.dims)
    coords = {"chain": post["chain"], "cell": x["cell"]}
    return {
        "log_likelihood": xr.Dataset(
            {"counts": (dims[:3], value.reshape(chains, draws, -1))},
            {**coords, "draw": post["draw"]},
        ),
        "posterior_predictive": xr.Dataset(
            {"counts": (dims, replicated.reshape(chains, len(keep), *x.shape))},
            {**coords, "draw": post["draw"][keep], "gene": x["gene"]},
        ),
    }


def _replicated(data: dict[str, xr.Dataset]) -> xr.Dataset:
    """Draw the counts of all genes in every cell from draws of a joint model."""
    post, constant, rng = data["posterior"], data["constant_data"], np.random.default_rng(0)
    x, sample = data["observed_data"]["counts"], constant["sample_of_cell"].values
    chosen = data["log_likelihood"][CELL_DRAW].values
    keep = np.flatnonzero(np.isin(post["draw"].values, chosen))
    mean, sd = (post[name].values[:, keep] for name in ("mean", "sd_within"))
    varies = "within_sample" in post
    matrix = post["within_sample" if varies else "within"].values[:, keep].astype(float)
    root = np.linalg.cholesky(matrix)
    out = np.empty((*mean.shape[:2], *x.shape), np.int32)
    for c, d in np.ndindex(out.shape[:2]):
        e = rng.standard_normal(x.shape)
        of_cell = root[c, d][sample] if varies else root[c, d]
        e = np.einsum("ijk,ik->ij", of_cell, e) if varies else e @ of_cell.T
        log_rate = constant["log_depth"].values[:, None] + mean[c, d][sample] + sd[c, d] * e
        out[c, d] = poisson_counts(log_rate, rng)
    coords = {"chain": post["chain"], "draw": post["draw"][keep], **x.coords}
    return xr.Dataset({"counts": (("chain", "draw", *x.dims), out)}, coords)


def _all_pairs(dataset: xr.Dataset, data: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return the groups of several pairs, with one entry of the dimension ``pair`` for each."""
    a, b = (dataset[name].values for name in PAIR_GENES)
    labels = np.array([f"{i} - {j}" for i, j in zip(a, b, strict=True)], object)
    separate = any(PAIR in v.dims for v in data["sample_stats"].data_vars.values())
    out = {}
    for group, values in data.items():
        if group == "sample_stats" and separate:  # the product of the chains of all pairs
            values = xr.Dataset({k: _OVER_PAIRS[str(k)](v, dim=PAIR) for k, v in values.items()})
        if PAIR in values.dims:
            values = values.rename({PAIR: "pair"}).rename(
                {k: v for k, v in zip(PAIR_GENES, ("gene_a", "gene_b"), strict=True) if k in values}
            )
            values = values.assign_coords(pair=labels)
        if MEMBER in values.dims:
            values = values.assign_coords({MEMBER: ["gene_a", "gene_b"]})
        out[group] = values
    if separate:
        out["posterior"].attrs["note"] = SEPARATE
    return out


def _as_draws(group: xr.Dataset) -> xr.Dataset:
    """Put chain and draw first, and keep each pair of a square of genes once."""
    if CELL_DRAW in group.dims:
        group = group.rename({CELL_DRAW: "draw"})
    if PRIOR_DRAW in group.dims:
        group = group.rename({PRIOR_DRAW: "draw"}).expand_dims(chain=[0])
        group = group.assign_coords(draw=np.arange(group.sizes["draw"]))
    for dims in (("gene", "partner"), ("target", "gene")):
        square = {k: v for k, v in group.items() if set(dims) <= set(v.dims)}
        if not square:
            continue
        rows, columns = group[dims[0]].values, group[dims[1]].values
        kept = (
            np.triu_indices(len(rows), 1)
            if dims[0] == "gene"
            else np.nonzero(rows[:, None] != columns)
        )
        i, j = (xr.DataArray(k, dims="pair") for k in kept)
        labels = [f"{rows[a]} - {columns[b]}" for a, b in zip(*kept, strict=True)]
        found = {
            k: v.isel({dims[0]: i, dims[1]: j}).drop_vars(dims, errors="ignore")
            for k, v in square.items()
        }
        group = group.drop_vars([*square, "partner", "target"], errors="ignore")
        group = group.assign(found).assign_coords(pair=np.array(labels, object))
    for name, values in group.items():
        if values.dtype == np.float32:
            group[name] = values.astype(np.float64)
    return group.transpose("chain", "draw", ..., missing_dims="ignore")


def arviz_groups(data: dict[str, xr.Dataset]) -> Any:
    """Return groups as InferenceData, or as a DataTree with ArviZ 1 or newer."""
    az = optional("arviz", "posterior draws")
    if int(az.__version__.split(".")[0]) < 1:
        make: Any = az.InferenceData
        return make(**data)
    return xr.DataTree.from_dict(data)


def _group(dataset: xr.Dataset, prefix: str) -> xr.Dataset:
    names = {n: str(n).removeprefix(prefix) for n in dataset if str(n).startswith(prefix)}
    group = dataset[list(names)].rename(names)
    used = {d for v in group.data_vars.values() for d in v.dims}
    group = group.drop_vars([c for c in group.coords if not set(group[c].dims) <= used])
    group.attrs = {}
    return group
