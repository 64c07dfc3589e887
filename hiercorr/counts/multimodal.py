"""MuData: one AnnData per modality, joined where several are analysed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from hiercorr.counts.modalities import FEATURE_TYPES, GENES, are_genes
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn


def is_mudata(data: object) -> bool:
    """Return whether an object is a MuData, without importing the library."""
    kind = type(data)
    return kind.__name__ == "MuData" and kind.__module__.partition(".")[0] == "mudata"


def modality_of_genes(modalities: Mapping[str, ad.AnnData]) -> str | None:
    """Return the name of the modality of genes; None if there is none.

    By the type of its features, or by its name where they have none.
    """
    for name, adata in modalities.items():
        kinds = adata.var.get(FEATURE_TYPES)
        if kinds is not None and len(kinds) and (kinds == GENES).all():
            return name
    return next(filter(are_genes, modalities), None)


def matrix_of(adata: ad.AnnData, layer: str | None, modality: str | None = None) -> Any:
    """Return the matrix of a layer, of X or of raw.

    Parameters
    ----------
    adata : AnnData
    layer : str or None
    modality : str, optional
        Name of the modality, for error messages.
    """
    try:
        matrix = _matrix_of(adata, layer, modality)
    except (ValueError, IndexError, TypeError) as error:
        if isinstance(error, InputError) or not adata.isbacked:
            raise
        raise _unreadable(f"{type(error).__name__}: {error}") from error
    genes = adata.raw.n_vars if layer == "raw" else adata.n_vars
    if adata.isbacked and tuple(matrix.shape) != (adata.n_obs, genes):  # as anndata 0.13 does
        n, p = matrix.shape
        raise _unreadable(f"{n} of {adata.n_obs} cells and {p} of {genes} genes")
    return matrix


def _unreadable(why: str) -> InputError:
    return InputError(
        f"anndata cannot read this selection of a backed object ({why}): take cells and genes in "
        "the order of the file, or read the file into memory, anndata.read_h5ad(path), before "
        "selecting them"
    )


def no_x(what: str, layers: Iterable[str], raw: bool, obsm: Iterable[str]) -> InputError:
    """Build the error for data without X, with the places where the counts may be instead.

    Parameters
    ----------
    what : str
        Name of the data.
    layers, obsm : iterable of str
        Names of what the data have.
    raw : bool
        Whether they have raw.
    """
    places = [*layers, *(["raw"] if raw else [])]
    if places:
        named = " or ".join(f"layer={name!r}" for name in places[:8])
        return InputError(f"{what} has no X: name where the counts are with {named}")
    tables = ", ".join(map(repr, obsm))
    only = f", only tables of the cells in obsm ({tables})" if tables else ""
    return InputError(
        f"{what} has no counts: no X, no layers and no raw{only}; raw counts of cells x genes are "
        "needed in X or in a layer"
    )


def _matrix_of(adata: ad.AnnData, layer: str | None, modality: str | None) -> Any:
    what = "the AnnData" if modality is None else f"modality {modality!r}"
    if layer in (None, "X"):
        try:
            matrix = adata.X
        except KeyError:  # of a backed file without X
            matrix = None
        if matrix is None:
            layers = [k for k in adata.layers if k is not None]
            raise no_x(what, layers, adata.raw is not None, adata.obsm)
        return matrix
    if layer == "raw":
        if adata.raw is None:
            raise InputError(f"layer='raw' was requested, but {what} has no raw")
        return adata.raw.X
    if layer not in adata.layers:
        kind = "layer" if modality is None else f"layer of {what}"
        raise unknown_name(kind, layer, adata.layers.keys())
    return adata.layers[layer]


def _counts_of(adata: ad.AnnData, layer: str | None, name: str) -> Any:
    matrix = matrix_of(adata, layer, name)
    if layer == "raw" and not adata.raw.var_names.equals(adata.var_names):
        raise InputError(f"raw of modality {name!r} has other features than the modality")
    return matrix


def shared_cells(
    modalities: Mapping[str, ad.AnnData], names: Sequence[str], order: pd.Index
) -> pd.Index:
    """Return the cells that all of some modalities have, in the order of the MuData.

    Warns of cells that only some of them have.
    """
    for name in names:
        if not modalities[name].obs_names.is_unique:
            raise InputError(f"names of cells occur more than once in modality {name!r}")
    common = np.ones(len(order), bool)
    some = np.zeros(len(order), bool)
    for name in names:
        here = order.isin(modalities[name].obs_names)
        common &= here
        some |= here
    if not common.any():
        raise InputError(
            f"no cell is in all of the modalities {', '.join(names)}: their names of cells differ"
        )
    lacking = int((some & ~common).sum())
    if lacking:
        warn(
            f"{lacking:,} of {int(some.sum()):,} cells are not in all of the modalities "
            f"{', '.join(names)} and are left out",
            DataWarning,
        )
    return order[common]


def joined_obs(
    table: pd.DataFrame, modalities: Mapping[str, ad.AnnData], names: Sequence[str], cells: pd.Index
) -> pd.DataFrame:
    """Return the cell table of some modalities.

    The columns of the MuData, those of each modality as ``"modality:column"``, and without this
    prefix if only one modality has a column of this name, or all have the same values.
    """
    out = table.loc[cells].copy()
    own = {name: modalities[name].obs.loc[cells] for name in names}
    for name, obs in own.items():
        for column in obs:
            if f"{name}:{column}" not in out:
                out[f"{name}:{column}"] = obs[column].to_numpy()
    for column in dict.fromkeys(c for obs in own.values() for c in obs):
        values = [obs[column] for obs in own.values() if column in obs]
        if column not in out and all(v.equals(values[0]) for v in values[1:]):
            out[column] = values[0]
    return out


def joined_matrix(
    modalities: Mapping[str, ad.AnnData], names: Sequence[str], cells: pd.Index, layer: str | None
) -> Any:
    """Return the counts of some modalities side by side, in memory if there are several."""
    parts = []
    for name in names:
        adata = modalities[name]
        matrix = _counts_of(adata, layer, name)
        if len(names) == 1 and adata.obs_names.equals(cells):
            return matrix
        matrix = matrix.compute() if hasattr(matrix, "compute") else matrix
        matrix = matrix.to_memory() if hasattr(matrix, "to_memory") else matrix
        part = sparse.csr_matrix(matrix)
        if not adata.obs_names.equals(cells):
            part = part[adata.obs_names.get_indexer(cells)]
        parts.append(part)
    return sparse.hstack(parts, format="csr") if len(parts) > 1 else parts[0]
