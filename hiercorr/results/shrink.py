"""Local false sign rates and shrunken estimates of a result."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hiercorr.errors import InputError
from hiercorr.inference.shrinkage import learn_effects, normal_scores, shrink
from hiercorr.results.layout import distinct
from hiercorr.results.pairs import OVERALL, p_values
from hiercorr.schema import Flag, pair_attributes

LEAST_PAIRS = 60  # with fewer, what is learnt of the effects is little more than chance


def with_local_false_signs(dataset: xr.Dataset) -> xr.Dataset:
    """Add ``lfsr`` and the shrunken estimates to a result.

    Parameters
    ----------
    dataset : xarray.Dataset

    Returns
    -------
    xarray.Dataset
    """
    if "p_value" not in dataset or not bool(dataset["p_value"].notnull().any()):
        raise InputError(
            "this result has no p-values to learn from: fit with an uncertainty and at least 3 "
            "samples"
        )
    if OVERALL in dataset:
        raise InputError(
            "an overall test has no sign, so that it cannot be shrunk: test one contrast, as in "
            "differential(..., contrast=(column, level, baseline))"
        )
    name = "difference" if "difference" in dataset else "correlation"
    effect = dataset[f"{name}_unclipped" if f"{name}_unclipped" in dataset else name]
    z = normal_scores(p_values(dataset), effect.values)
    z[(dataset["flag"].values & int(Flag.SELF)) > 0] = np.nan
    known = np.isfinite(z)
    each = z[distinct(dataset)]
    number = int(np.isfinite(each).sum())
    if number < LEAST_PAIRS:
        raise InputError(
            f"this result has {number} tested pairs: too few to learn how large effects are (at "
            f"least {LEAST_PAIRS}); fit more genes"
        )
    prior = learn_effects(each)
    lfsr, factor = shrink(z, prior)
    dtype = dataset["p_value"].dtype
    found = {
        "lfsr": np.where(known, lfsr, np.nan),
        f"shrunken_{name}": np.where(known, factor * effect.values, np.nan),
    }
    added = {}
    for variable, values in found.items():
        added[variable] = dataset["p_value"].copy(data=values.astype(dtype))
        added[variable].attrs = pair_attributes(variable)
    return dataset.assign(added).assign_attrs(null_share=prior.null_share, shrunken_pairs=number)
