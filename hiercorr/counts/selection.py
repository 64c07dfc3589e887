"""Selection of samples, cells, genes and sequencing depth, as one immutable value."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts.counts import MIN_CELLS
from hiercorr.design.samples import sample_name
from hiercorr.errors import InputError, listed, one_of, whole_number

SMALL_SAMPLES = ("exclude", "error")


@dataclass(frozen=True)
class Selection:
    """Samples, cells and genes of an analysis, checked and copied once.

    Arrays are copied, so that an analysis does not change when the user's arrays do. A pandas
    Series is aligned by its index, the names of the cells or genes; other arrays are in their
    order.

    Parameters
    ----------
    sample : str, (str, str) or None
        Column of ``obs`` with the sample (mouse, donor, patient) of each cell; with two columns, a
        sample is a combination of their values. None: all cells form one group.
    genes : sequence of str, bool mask or int, optional
        Names, a mask over all genes, or N for the N most highly expressed genes. None: all
        expressed genes.
    layer : str, optional
        Name of a layer, ``"raw"`` for ``adata.raw``, None for ``X``.
    depth : str, array of float, shape (n_obs,), or mapping, optional
        Sequencing depth (counts): a numeric ``obs`` column or an array. None: row sums over all
        genes but dominating ones, also as ``"trimmed"``; ``"total"``: over all genes
        (:mod:`hiercorr.counts.depth`).
        With several types of features, a mapping from the type to one of these.
    subset : bool array, shape (n_obs,), or mapping, optional
        Cells to use, or ``{"obs column": value or list of values}``.
    min_cells : int
        Minimum number of cells per sample.
    small_samples : {"exclude", "error"}
        Whether samples with fewer cells are excluded or raise an error.
    block : str, optional
        Column of ``obs`` with the donor of each sample.
    cell_type : str, optional
        Column of ``obs`` that splits samples into cell types.
    modalities : str or sequence of str, optional
        Types of features (``var["feature_types"]``) to analyse, each with its own depth;
        ``"all"``. None: genes.
    gene_names : str, optional
        Column of ``var`` with the names of the genes. None: the index of ``var``.

    Raises
    ------
    InputError
        If an option has a wrong type or value.
    """

    sample: str | None  # two columns: a Combination
    genes: Sequence[str] | ArrayLike | int | None = None
    layer: str | None = None
    depth: str | ArrayLike | Mapping[str, Any] | None = None
    subset: ArrayLike | Mapping[str, Any] | None = None
    min_cells: int = MIN_CELLS
    small_samples: str = "exclude"
    block: str | None = None
    cell_type: str | None = None
    modalities: str | Sequence[str] | None = None
    gene_names: str | None = None

    def __post_init__(self) -> None:
        """Check every option and copy the arrays."""
        object.__setattr__(self, "sample", sample_name(self.sample, optional=True))
        _optional_name("layer", self.layer, "the name of a layer, or 'raw'")
        _optional_name("gene_names", self.gene_names, "the var column with the names of the genes")
        _optional_name("block", self.block, "the obs column with the donor of each sample")
        _optional_name("cell_type", self.cell_type, "the obs column with the cell types")
        whole_number("min_cells", self.min_cells)
        one_of("small_samples", self.small_samples, SMALL_SAMPLES)
        object.__setattr__(self, "genes", _copied("genes", self.genes, (str, int, np.integer)))
        object.__setattr__(self, "depth", _each(self.depth, lambda d: _copied("depth", d, (str,))))
        object.__setattr__(self, "modalities", _named_types(self.modalities))
        subset = dict(self.subset) if isinstance(self.subset, Mapping) else self.subset
        object.__setattr__(self, "subset", _copied("subset", subset, (dict,)))

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of a result that state what was analysed.

        Returns
        -------
        dict
            ``subset``, e.g. ``"condition: ctrl"``, or a mask with its digest (absent: all cells);
            ``layer``; ``depth``: the column, ``"row sums"``, or ``"given array"`` with its digest;
            ``genes``, e.g. ``"50 most highly expressed"``; ``min_cells``, ``small_samples``,
            ``block``, ``modalities`` and ``gene_names``.
        """
        given = {
            "subset": self._subset_text(),
            "layer": self.layer or "X",
            "depth": self._depth_text(),
            "genes": _genes_text(self.genes),
            "min_cells": int(self.min_cells),
            "small_samples": self.small_samples,
            "block": self.block,
            "modalities": self._modalities_text(),
            "gene_names": self.gene_names,
        }
        return {name: value for name, value in given.items() if value is not None}

    def aligned(self, cells: pd.Index, genes: pd.Index, ids: pd.Index | None = None) -> Selection:
        """Return the selection with every Series in the order of the cells or genes.

        A mask of genes may be indexed by their names or by their `ids`.
        """
        return replace(
            self,
            depth=_each(self.depth, lambda d: in_order("depth", d, cells)),
            subset=in_order("subset", self.subset, cells),
            genes=in_order("genes", _by_name(self.genes, genes, ids), genes),
        )

    def _subset_text(self) -> str | None:
        if self.subset is None:
            return None
        if isinstance(self.subset, Mapping):
            return "; ".join(f"{k}: {_listed(v)}" for k, v in self.subset.items())
        return f"selected by a mask{_DIGEST}{_digest(np.asarray(self.subset).astype(bool))}"

    def _depth_text(self) -> str:
        if isinstance(self.depth, Mapping):
            return "; ".join(f"{kind}: {_one_depth_text(d)}" for kind, d in self.depth.items())
        return _one_depth_text(self.depth)

    def _modalities_text(self) -> str | None:
        if self.modalities is None or isinstance(self.modalities, str):
            return self.modalities
        return ", ".join(self.modalities)


def _one_depth_text(depth: Any) -> str:
    if depth is None or isinstance(depth, str):
        return depth or "row sums"
    return f"given array{_DIGEST}{_digest(np.asarray(depth).astype(np.float64))}"


def _each(depth: Any, change: Callable[[Any], Any]) -> Any:
    """Change a depth, or that of each type of features."""
    if isinstance(depth, Mapping):
        return {kind: change(d) for kind, d in depth.items()}
    return change(depth)


def _named_types(modalities: Any) -> Any:
    """Check the types of features to analyse."""
    if modalities is None or (isinstance(modalities, str) and modalities):
        return modalities
    expected = (
        "types of features (var['feature_types']), e.g. ['Gene Expression', 'Antibody Capture'], "
        "or 'all'"
    )
    named = listed("modalities", modalities, expected)
    if not named or not all(isinstance(m, str) and m for m in named):
        raise InputError(f"modalities must be {expected}, not {modalities!r}")
    if len(set(named)) < len(named):
        raise InputError(f"modalities={modalities!r} names a type twice")
    return named


def _by_name(mask: Any, genes: pd.Index, ids: pd.Index | None) -> Any:
    """Return a mask of genes that is indexed by their ids with their names instead."""
    if ids is None or not isinstance(mask, pd.Series) or not ids.isin(mask.index).all():
        return mask
    name = dict(zip(ids, genes, strict=True))
    return mask.set_axis(pd.Index([name.get(k, k) for k in mask.index]))


def aligned(option: str, value: pd.Series, names: pd.Index) -> pd.Series:
    """Return a Series in the order of the cells or genes that its index names.

    Parameters
    ----------
    option : str
        Name of the option, for messages.
    value : Series
    names : Index
        Names of the cells, or of the genes for ``genes=``.

    Raises
    ------
    InputError
        If the index does not name every cell or gene once.
    """
    if value.index.equals(names):
        return value
    of = "genes" if option == "genes" else "cells"
    if not value.index.is_unique or not names.is_unique:
        raise InputError(
            f"{option} is a Series, and names of {of} occur more than once, so that it cannot "
            f"be aligned: make them unique, or pass {option}.to_numpy() in the order of the "
            f"{of}"
        )
    unnamed = names[~names.isin(value.index)]
    if len(unnamed):
        raise InputError(
            f"{option} is a Series whose index does not name all {of}, e.g. not "
            f"{unnamed[0]!r}: set its index to the names of the {of}, or pass "
            f"{option}.to_numpy() if it is in their order"
        )
    if option == "genes":
        _check_mask(value, names)
    return value.reindex(names)


def in_order(option: str, value: Any, names: pd.Index) -> Any:
    """Return the values of a Series in the order of the cells or genes that its index names.

    Parameters
    ----------
    option : {"depth", "subset", "genes"}
    value : object
        Returned unchanged if it is not a Series, or a Series of gene names.
    names : Index
        Names of the cells, or of the genes for ``genes=``.

    Raises
    ------
    InputError
        If the index does not name every cell or gene once.
    """
    if not isinstance(value, pd.Series):
        return value
    if option == "genes" and not pd.api.types.is_bool_dtype(value):
        return value.to_numpy()
    value = aligned(option, value, names)
    if option == "depth":
        return value.to_numpy()
    if value.isna().any():
        raise InputError(
            f"{option} is missing for {value.isna().sum()} of {len(value)} entries, e.g. "
            f"{value.index[value.isna()][0]!r}: fill them with True or False"
        )
    return value.to_numpy(bool) if pd.api.types.is_bool_dtype(value) else value.to_numpy()


def _check_mask(mask: pd.Series, names: pd.Index) -> None:
    """Raise an error if a mask selects features that are not read."""
    others = mask[~mask.index.isin(names)].fillna(False).astype(bool)
    selected = others.index[others]
    if len(selected):
        raise InputError(
            f"the mask genes= selects {len(selected)} features that are not among the genes, e.g. "
            f"{selected[0]!r}: antibodies and other types are left out unless CSCore(modalities=) "
            "names their type"
        )


_DIGEST = ", digest "


def _digest(values: NDArray) -> str:
    """Return the first digits of the SHA-256 of an array, which tell it apart from others."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:12]


def check_other_subset(subset: object, cell_type: str) -> None:
    """Raise an error unless a subset is a mapping that leaves the cell types to ``types=``."""
    if subset is None:
        return
    if not isinstance(subset, Mapping):
        raise InputError(
            f"subset must be a mapping {{'obs column': value}}, not {type(subset).__name__}"
        )
    if cell_type in subset:
        raise InputError(
            f"subset= cannot select values of the cell_type column {cell_type!r}: use types="
        )


def without_digest(text: str) -> str:
    """Return the text of a subset or depth without the digest of the array."""
    return text.partition(_DIGEST)[0]


def selected_cells(attributes: Mapping[str, Any], width: int | None = None) -> str:
    """Return the subset, and the layer unless it is X, from the attributes of a result.

    Parameters
    ----------
    attributes : mapping
    width : int, optional
        Maximum number of characters; what is longer ends in dots.

    Returns
    -------
    str
        Empty for all cells of X.
    """
    layer = attributes.get("layer", "X")
    parts = [str(attributes.get("subset") or ""), "" if layer == "X" else f"layer {layer}"]
    text = "; ".join(part for part in parts if part)
    return text if width is None else textwrap.shorten(text, width, placeholder=" ...")


def _genes_text(genes: Any) -> str:
    if genes is None:
        return "all expressed"
    if isinstance(genes, int | np.integer):
        return f"{int(genes)} most highly expressed"
    values = np.asarray(genes)
    mask = values.dtype == bool
    return f"mask of {int(values.sum())}" if mask else f"{values.size} named"


def _listed(value: Any) -> str:
    single = isinstance(value, str) or not hasattr(value, "__iter__")
    values = sorted(value, key=str) if isinstance(value, set | frozenset) else value
    return str(value) if single else ", ".join(map(str, values))


def _optional_name(option: str, value: object, meaning: str) -> None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{option} must be a string ({meaning}), not {value!r}")


def _copied(option: str, value: Any, scalars: tuple[type, ...]) -> Any:
    """Copy an array-like; strings, numbers and mappings pass unchanged."""
    if value is None or (isinstance(value, scalars) and not isinstance(value, bool)):
        return value
    if isinstance(value, pd.Series):
        return value.copy()
    if isinstance(value, pd.Index | np.ndarray):
        return np.array(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)  # sets have another order in every session
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    raise InputError(f"{option}={value!r} is not accepted: {_EXPECTED[option]}")


_EXPECTED = {
    "genes": "pass gene names, a boolean mask or one integer N",
    "depth": "pass the name of a numeric obs column, an array with one value per cell, or a "
    "mapping from type of features to these",
    "subset": "pass a boolean array with one entry per cell or {'obs column': value}",
}
