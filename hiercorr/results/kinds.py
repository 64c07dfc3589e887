"""What the tested quantity of a result is: a correlation of two genes, or something else."""

from __future__ import annotations

import xarray as xr

from hiercorr.errors import InputError
from hiercorr.results.pairs import effect_name

DIFFERENCES = "differences of correlation"
PARTIAL = "partial correlations"
EXPLORATORY = "exploratory correlations"

_MODELS = {"direct_partners": PARTIAL, "CellCorrelation": EXPLORATORY}
_INSTEAD = {
    DIFFERENCES: "use a result of CSCore or Pseudobulk, whose tests are of the correlation itself",
    PARTIAL: "use the result of CSCore for the same genes, whose correlations are marginal",
    EXPLORATORY: "use a result of CSCore or Pseudobulk",
}


def kind_of(dataset: xr.Dataset) -> str | None:
    """Return what a result is of, if not of marginal correlations with inference over samples."""
    if effect_name(dataset) != "correlation":
        return DIFFERENCES
    return _MODELS.get(str(dataset.attrs.get("model")))


def refuse_kinds(dataset: xr.Dataset, name: str, use: str, *kinds: str) -> None:
    """Raise an error if a result is of one of some kinds.

    Parameters
    ----------
    dataset : xarray.Dataset
    name : str
        Name of the argument or result.
    use : str
        What needs another result, e.g. ``"connectivity is of correlations"``.
    *kinds : str
        Kinds that are refused, of :func:`kind_of`.

    Raises
    ------
    InputError
        With the way out.
    """
    kind = kind_of(dataset)
    if kind in kinds:
        raise InputError(
            f"{name} is of {kind} (model {dataset.attrs.get('model')!r}), and {use}: "
            f"{_INSTEAD[kind]}"
        )
