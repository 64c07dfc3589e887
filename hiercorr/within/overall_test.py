"""Variables of overall tests over several groups or a curve, and of the contrasts of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.inference.multiplicity import holm_layers
from hiercorr.schema import Flag

DOUBLE = ("p_value", "hc2_p_value", "contrast_p_value", "contrast_adjusted_p_value")
_OF_CONTRAST = ("difference", "difference_se", "difference_lower", "difference_upper", "p_value")


def overall_table(
    hc2: Mapping[str, NDArray], hierarchical: Mapping[str, NDArray] | None, q: int, dtype: Any
) -> dict[str, NDArray]:
    """Return the variables of an overall test of the pairs of a tile.

    Parameters
    ----------
    hc2 : mapping
        From :func:`hiercorr.within.differential_tests.overall_difference`.
    hierarchical : mapping or None
        From :func:`hiercorr.inference.meta_regression.overall_estimate`; its F statistic is that of
        the p-value with infinite denominator degrees of freedom.
    q : int
        Numerator degrees of freedom.
    dtype : dtype
    """
    out = {name: values.astype(dtype) for name, values in hc2.items() if name != "p_value"}
    out["p_value"] = hc2["p_value"]
    if hierarchical is not None:
        p = hierarchical["p_value"]
        tau = hierarchical["tau"]
        out |= {
            "hc2_p_value": hc2["p_value"],
            "p_value": p,
            "largest_difference": hierarchical["largest_difference"].astype(dtype),
            "f_statistic": (special.chdtri(q, np.maximum(p, 1e-300)) / q).astype(dtype),
            "df_denominator": np.where(np.isnan(p), p, np.inf).astype(dtype),
        }
        if len(tau) > 1:
            out["group_tau"] = tau.astype(dtype)
        else:
            out["tau"] = tau[0].astype(dtype)
    if "group_correlation" in out:
        r = out["group_correlation"]
        out["group_correlation_unclipped"] = r
        out["group_correlation"] = np.where(np.abs(r) < 1, r, np.nan)
    return out


def contrast_variables(tables: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
    """Stack the tests of several contrasts, with p-values adjusted by Holm within each pair.

    Parameters
    ----------
    tables : sequence of mapping
        Variables of a test of one difference, for each contrast.

    Returns
    -------
    dict of ndarray, shape (n_contrasts, left, right)
    """
    out = {f"contrast_{name}": np.array([t[name] for t in tables]) for name in _OF_CONTRAST}
    p = out["contrast_p_value"] = out["contrast_p_value"].astype(np.float64)
    out["contrast_adjusted_p_value"] = holm_layers(p)
    return out


def withhold_impossible(tile: dict[str, NDArray], bounded: bool) -> NDArray[np.uint16]:
    """Withhold differences beyond -2 and 2, and return the flags of an overall test.

    Parameters
    ----------
    tile : dict
        Variables of a tile, changed in place.
    bounded : bool
        Whether the fitted values are correlations of groups.
    """
    beyond = tile["largest_difference"] > 2 if bounded else np.zeros(tile["p_value"].shape, bool)
    tile["largest_difference"] = np.where(beyond, np.nan, tile["largest_difference"])
    if "contrast_difference" in tile:
        far = np.abs(tile["contrast_difference"]) > 2
        tile["contrast_difference"] = np.where(far, np.nan, tile["contrast_difference"])
        beyond = beyond | far.any(0)
    untested = np.isnan(tile["p_value"])
    flag = untested * Flag.NO_INTERVAL.bit | beyond * Flag.OUT_OF_RANGE.bit
    return np.asarray(flag, np.uint16)
