"""Which pairs a result has: all pairs, those of one or several targets, or a list of pairs.

All pairs have the dimensions ``(gene, partner)``, the pairs of targets ``(target, gene)``. A list
has the dimension ``pair``, with the coordinates ``gene_a`` and ``gene_b``. A pair of two targets
has two entries, the first of which counts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.errors import InputError, n_of, unknown_name

Index = NDArray[np.int64]


def targets_of(dataset: xr.Dataset) -> pd.Index | None:
    """Return the names of the targets, or None if the result has none."""
    return pd.Index(dataset["target"].values) if "target" in dataset.dims else None


def target_of(dataset: xr.Dataset) -> str | None:
    """Return the name of the only target; None if there are several, or none."""
    targets = targets_of(dataset)
    return None if targets is None or len(targets) > 1 else str(targets[0])


def is_list(dataset: xr.Dataset) -> bool:
    """Return whether the result is of listed pairs."""
    return "pair" in dataset.dims


def has_all_pairs(dataset: xr.Dataset) -> bool:
    """Return whether the result is of all pairs of its genes."""
    return "partner" in dataset.dims


def spans_types(dataset: xr.Dataset) -> bool:
    """Return whether the targets are genes of one cell type and the genes those of another."""
    return "target" in dataset.dims and "cell_type_a" in dataset.attrs


def of_modules(dataset: xr.Dataset) -> bool:
    """Return whether modules take the place of genes, as in their correlation with each other."""
    alone = has_all_pairs(dataset) or bool({"score", "traits"} & dataset.attrs.keys())
    return "n_modules" in dataset.attrs and alone


def scope(dataset: xr.Dataset) -> str:
    """Say which pairs a result has, e.g. ``"all pairs"``."""
    if has_all_pairs(dataset):
        return "all pairs"
    if is_list(dataset):
        return n_of(dataset.sizes["pair"], "listed pair")
    targets = targets_of(dataset)
    assert targets is not None
    names = ", ".join(map(str, targets[:3]))
    if len(targets) == 1:
        return f"target {names}"
    return f"{len(targets)} targets ({names}{', ...' if len(targets) > 3 else ''})"


def need_all_pairs(dataset: xr.Dataset, what: str) -> None:
    """Raise an error if a result does not have all pairs, which something needs."""
    if not has_all_pairs(dataset):
        raise InputError(
            f"{what} all pairs, and this result has {scope(dataset)}: fit without target= and "
            "pairs="
        )


def target_positions(dataset: xr.Dataset) -> Index:
    """Return the position of each target among the genes, -1 for one that is no gene."""
    targets = targets_of(dataset)
    assert targets is not None
    return pd.Index(dataset["gene"].values).get_indexer(targets).astype(np.int64)


def once(
    shape: tuple[int, ...], positions: Index | None = None, first_row: int = 0
) -> NDArray[np.bool_]:
    """Return the entries of a pair variable, or of some of its rows, that count each pair once.

    Parameters
    ----------
    shape : tuple of int
        ``(pairs,)``, ``(targets, genes)`` with `positions`, or ``(genes, genes)``.
    positions : ndarray of int64, optional
        Position of each target among the genes, -1 for one that is no gene.
    first_row : int
        Row of the variable that is the first one here.
    """
    if len(shape) == 1:
        return np.ones(shape, bool)
    if positions is None:
        return np.triu(np.ones(shape, bool), first_row + 1)
    row_of = np.full(shape[1], np.iinfo(np.int64).max)  # row of each gene that is a target
    known = positions >= 0
    row_of[positions[known]] = np.flatnonzero(known)
    return np.asarray(row_of[None, :] > first_row + np.arange(shape[0])[:, None])


def mirror_targets(values: NDArray, positions: Index) -> None:
    """Copy the value of each pair of two targets to its second entry, in place.

    Parameters
    ----------
    values : ndarray, shape (targets, genes)
    positions : ndarray of int64, shape (targets,)
        Position of each target among the genes, -1 for one that is no gene.
    """
    rows = np.flatnonzero(positions >= 0)
    square = values[np.ix_(rows, positions[rows])]
    lower = np.tril_indices(len(rows), -1)
    square[lower] = square.T[lower]
    values[np.ix_(rows, positions[rows])] = square


def distinct(
    dataset: xr.Dataset, block: xr.Dataset | None = None, first_row: int = 0
) -> NDArray[np.bool_]:
    """Return the entries of a result's pair variables that count each pair once.

    Parameters
    ----------
    dataset : xarray.Dataset
    block : xarray.Dataset, optional
        Rows of `dataset`, whose entries are returned. None: all.
    first_row : int
        Position of the first of these rows.
    """
    block = dataset if block is None else block
    positions = target_positions(dataset) if "target" in dataset.dims else None
    return once(block["flag"].shape, positions, first_row)


def listed_ends(dataset: xr.Dataset) -> tuple[NDArray, NDArray]:
    """Return the names of both genes of the listed pairs, whatever type a file gave them."""
    a, b = (
        np.array([str(v) for v in dataset[name].values.tolist()], object)
        for name in ("gene_a", "gene_b")
    )
    return a, b


def ends(dataset: xr.Dataset, at: tuple[Index, ...]) -> tuple[NDArray, NDArray]:
    """Return the names of both genes of some entries, given by their positions."""
    if is_list(dataset):
        a, b = listed_ends(dataset)
        return a[at[0]], b[at[0]]
    left, right = (
        np.array([str(g) for g in dataset[d].values], object) for d in dataset["flag"].dims
    )
    return left[at[0]], right[at[1]]


def pair_names(dataset: xr.Dataset) -> NDArray:
    """Return a name of each listed pair."""
    a, b = listed_ends(dataset)
    return np.array(["\n".join(both) for both in zip(a, b, strict=True)], object)


def listed_row(dataset: xr.Dataset, gene: str) -> xr.Dataset:
    """Return the listed pairs of one gene over its partners, dimension ``gene``."""
    a, b = listed_ends(dataset)
    at = np.flatnonzero((a == gene) | (b == gene))
    if not len(at):
        listed = pd.Index(np.concatenate([a, b])).unique()
        raise unknown_name("gene of the listed pairs", gene, listed)
    partners = np.where(a[at] == gene, b[at], a[at])
    names = [name for name in dataset.data_vars if "pair" in dataset[name].dims]
    part = dataset[names].isel(pair=at).drop_vars(["gene_a", "gene_b", "gene"], errors="ignore")
    return part.rename(pair="gene").assign_coords(gene=partners)
