"""Posterior draws inside a result's Dataset: another level of the same pairs, and the draws as ArviZ wants them."""

from __future__ import annotations

from typing import Any

import xarray as xr

from hiercorr.errors import InputError, unknown_name
from hiercorr.runtime.optional import optional
from hiercorr.schema import PAIR_VARIABLES

DRAWS, STATS = "posterior_", "stats_"  # prefixes of the draws and of what the sampler said of them


def at_level(dataset: xr.Dataset, level: str) -> xr.Dataset:
    """The dataset with another level's pair variables in the place of its own, whose names get a suffix instead."""
    own = str(dataset.attrs.get("level"))
    others = [
        str(n).removeprefix("correlation_") for n in dataset if str(n).startswith("correlation_")
    ]
    known = [own, *(o for o in others if f"flag_{o}" in dataset)]
    if level not in known:
        raise unknown_name("level", level, known)
    if level == own:
        return dataset
    names = {n: f"{n}_{own}" for n in PAIR_VARIABLES if n in dataset}
    back = {
        str(n): str(n).removesuffix(f"_{level}") for n in dataset if str(n).endswith(f"_{level}")
    }
    back = {k: v for k, v in back.items() if v in PAIR_VARIABLES}
    swapped = dataset.rename(names | back)
    notes = {"level": level}
    for key in ("title", "note"):  # what is said of each level is kept beside the other
        if f"{key}_{level}" in dataset.attrs:
            notes |= {key: dataset.attrs[f"{key}_{level}"], f"{key}_{own}": dataset.attrs[key]}
    kept = {k: v for k, v in dataset.attrs.items() if k not in (f"title_{level}", f"note_{level}")}
    swapped.attrs = {**kept, **notes}
    return swapped


def to_arviz(dataset: xr.Dataset) -> Any:
    """The groups posterior and sample_stats."""
    groups = {"posterior": DRAWS, "sample_stats": STATS}
    data = {name: _group(dataset, prefix) for name, prefix in groups.items()}
    if not data["posterior"]:
        raise InputError("this result holds no posterior draws: fit hiercorr.BayesianCorrelation")
    return arviz_groups({k: v for k, v in data.items() if v})


def arviz_groups(data: dict[str, xr.Dataset]) -> Any:
    """An ArviZ object of some groups, of whichever ArviZ there is."""
    az = optional("arviz", "posterior draws")
    if int(az.__version__.split(".")[0]) < 1:
        make: Any = az.InferenceData
        return make(**data)
    return xr.DataTree.from_dict(data)


def _group(dataset: xr.Dataset, prefix: str) -> xr.Dataset:
    names = {n: str(n).removeprefix(prefix) for n in dataset if str(n).startswith(prefix)}
    return dataset[list(names)].rename(names)
