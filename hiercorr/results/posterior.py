"""Posterior draws in a result's Dataset: the other level of the pairs, and draws for ArviZ."""

from __future__ import annotations

from typing import Any

import xarray as xr

from hiercorr.errors import EstimationWarning, NotInThisResult, text, unknown_name
from hiercorr.estimands import estimand
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import PAIR_VARIABLES

DRAWS, STATS = "posterior_", "stats_"  # prefixes of the draws and of the sampler statistics

_NOT_JOINT = (
    "each pair of genes has draws of its own, independent of those of other pairs: what concerns "
    "more than one pair, as P(rho_AB > rho_AC), ranks, eigenvalues or partial correlations, cannot "
    "be computed from them; fit(method='joint') draws whole matrices"
)


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


def to_arviz(dataset: xr.Dataset) -> Any:
    """Return the groups posterior and sample_stats as an ArviZ object."""
    groups = {"posterior": DRAWS, "sample_stats": STATS}
    data = {name: _group(dataset, prefix) for name, prefix in groups.items()}
    if not data["posterior"]:
        raise NotInThisResult(
            "this result has no posterior draws: fit hiercorr.BayesianCorrelation"
        )
    if dataset.attrs.get("joint_draws") == 0:
        warn(_NOT_JOINT, EstimationWarning)
        data["posterior"].attrs["comment"] = _NOT_JOINT
    return arviz_groups({k: v for k, v in data.items() if v})


def arviz_groups(data: dict[str, xr.Dataset]) -> Any:
    """Return groups as InferenceData, or as a DataTree with ArviZ 1 or newer."""
    az = optional("arviz", "posterior draws")
    if int(az.__version__.split(".")[0]) < 1:
        make: Any = az.InferenceData
        return make(**data)
    return xr.DataTree.from_dict(data)


def _group(dataset: xr.Dataset, prefix: str) -> xr.Dataset:
    names = {n: str(n).removeprefix(prefix) for n in dataset if str(n).startswith(prefix)}
    return dataset[list(names)].rename(names)
