"""Names of genes: those of the data, or a column of ``var`` such as symbols, with the ids kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.modalities import ALL, FEATURE_TYPES
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

_MISSING = ("nan", "None", "<NA>", "NA")  # texts made of missing values, if they are repeated
_IDENTIFIER = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
_LISTED = 10


@dataclass(frozen=True)
class FeatureNames:
    """Names of the features that are read, and what is known of them and of others.

    Attributes
    ----------
    genes : Index
        Names of the features that are read.
    ids : Index, optional
        Their names in the data, if a column of ``var`` names them.
    left_out : Series
        Type of each feature that is not read, by name.
    var : DataFrame, optional
        Feature table of the data, searched for an unknown name.
    shared : dict of list
        Names that several features have, and how these are told apart.
    empty : Index
        Names and ids of features without a count in the chosen cells, which are not selected.
    """

    genes: pd.Index
    ids: pd.Index | None = None
    left_out: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))
    var: pd.DataFrame | None = None
    shared: dict[str, list[str]] = field(default_factory=dict)
    empty: pd.Index = field(default_factory=lambda: pd.Index([], dtype=object))

    def named(self, gene: Any) -> Any:
        """Return the name of a gene that is given by its name or its id; others unchanged."""
        return name_of(gene, self.genes, self.ids)

    def unknown(self, kind: str, name: Any) -> InputError:
        """Build the error for a name that is not among the features that are read.

        Parameters
        ----------
        kind : str
            Kind of name, e.g. ``"target gene"``.
        name : object
        """
        if name in self.left_out.index:
            of_type = self.left_out.loc[[name]].iloc[0]
            return InputError(
                f"{str(name)!r} is of type {of_type!r}, whose features are left out: include them "
                f"with CSCore(modalities={ALL!r}), or name this type in modalities="
            )
        if name in self.empty:
            return InputError(f"gene {str(name)!r} has no count in the chosen cells")
        if name in self.shared:
            return InputError(
                f"{kind} {str(name)!r} is the name of several genes: name one of them, as "
                f"{' or '.join(map(repr, self.shared[str(name)][:_LISTED]))}"
            )
        several = [part.strip() for part in str(name).split(",")]
        if len(several) > 1 and pd.Index(several).isin(self.genes).all():
            return InputError(
                f"unknown {kind} {str(name)!r}, one text with {len(several)} genes: name each by "
                f"itself, as in {several}; on the command line, repeat the option"
            )
        found = None if self.var is None else _found_in(self.var, str(name))
        spelt_here = str(name).lower() in self.genes.astype(str).str.lower()
        if found is None or spelt_here:
            return unknown_name(kind, name, self.genes)
        column, spelt = found
        return InputError(
            f"unknown {kind} {str(name)!r}, but {spelt!r} is in the column {column!r} of var, "
            f"which can name the genes: pass gene_names={column!r}"
        )


def refuse_repeated(argument: str, genes: Iterable[str]) -> None:
    """Raise an error if a gene is named twice."""
    names = pd.Index(list(genes), dtype=object)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise InputError(f"gene {str(repeated[0])!r} is named twice in {argument}")


def name_of(gene: Any, genes: pd.Index, ids: pd.Index | None) -> Any:
    """Return the name of a gene that is given by its name or its id.

    Parameters
    ----------
    gene : object
    genes : Index
        Names.
    ids : Index, optional
        The id of each of them.

    Returns
    -------
    object
        The gene unchanged if it is no id, or one of several genes.
    """
    if ids is None or not isinstance(gene, str) or gene in genes:
        return gene
    at = np.flatnonzero(ids == gene)
    return str(genes[at[0]]) if len(at) == 1 else gene


def are_identifiers(genes: pd.Index) -> bool:
    """Return whether names of genes are Ensembl ids, most of them."""
    some = genes[:: max(1, len(genes) // 200)]
    return len(some) > 0 and float(np.mean([bool(_IDENTIFIER.match(str(g))) for g in some])) > 0.5


def _found_in(var: pd.DataFrame, name: str) -> tuple[str, str] | None:
    """Return the first column of texts with a name, and its spelling there."""
    texts = {
        str(column): var[column].astype(object)
        for column in var.columns[~var.columns.duplicated()]
        if column != FEATURE_TYPES and not pd.api.types.is_numeric_dtype(var[column])
    }
    for column, values in texts.items():
        if (values == name).any():
            return column, name
    for column, values in texts.items():
        alike = values[values.astype(str).str.lower() == name.lower()]
        if len(alike):
            return column, str(alike.iloc[0])
    return None


@dataclass(frozen=True)
class ColumnNames:
    """Names of all features from a column of ``var``.

    Attributes
    ----------
    names : ndarray of str
        Those of features without a name are their ids; names of several features of a type have
        the id behind them, as in ``"TBCE (ENSG00000285053)"``.
    shared : dict of list
        These names by the text in the column.
    """

    names: NDArray[Any]
    shared: dict[str, list[str]]


def names_from(var: pd.DataFrame, column: str, kinds: Any = None) -> ColumnNames:
    """Name features by a column of their table.

    Parameters
    ----------
    var : DataFrame
        Feature table, indexed by id.
    column : str
    kinds : array of str, optional
        Type of each feature; features of several types may have one name.

    Returns
    -------
    ColumnNames

    Raises
    ------
    InputError
        If there is no such column, or it does not name genes.
    """
    found = _texts(var, column)
    ids = var.index.astype(str).to_numpy(object)
    missing = found == ""
    names = np.where(missing, ids, found).astype(object)
    distinct = len(set(names))
    if missing.all() or distinct < len(names) / 2:
        values = "only missing values" if missing.all() else f"{distinct:,} different values"
        raise InputError(
            f"gene_names={column!r}: this column of var has {values} for {len(names):,} genes and "
            f"does not name them{_other_columns(var, column)}"
        )
    table = pd.DataFrame({"name": names, "kind": "" if kinds is None else np.asarray(kinds)})
    repeated = table.duplicated(keep=False).to_numpy() & ~missing
    shared: dict[str, list[str]] = {}
    for k in np.flatnonzero(repeated):
        told = f"{names[k]} ({ids[k]})"
        shared.setdefault(str(names[k]), []).append(told)
        names[k] = told
    return ColumnNames(names, shared)


def _texts(var: pd.DataFrame, column: str) -> NDArray[Any]:
    """Return a column as texts, which are empty where it has no value."""
    if column not in var:
        if column == var.index.name:
            raise InputError(
                f"gene_names={column!r} is the index of var, whose names are used without it: "
                "leave it out"
            )
        unknown = unknown_name("column of var", column, var.columns)
        raise InputError(f"gene_names={column!r}: {unknown}")
    if not isinstance(var[column], pd.Series):
        raise InputError(f"gene_names={column!r}: var has several columns of this name")
    values = var[column].astype(object)
    known = values[values.notna()]
    numbers = [v for v in known if isinstance(v, int | float | np.number)]
    whole = all(float(v).is_integer() for v in numbers)
    if numbers and (not whole or len(set(numbers)) < len(numbers)):
        raise InputError(
            f"gene_names={column!r}: this column of var has numbers, which "
            f"{'repeat' if whole else 'are not whole'} and do not name genes"
            f"{_other_columns(var, column)}"
        )
    out = np.full(len(var), "", object)
    out[values.notna().to_numpy()] = [_text(v) for v in known]
    for text in _MISSING:
        same = out == text
        if same.sum() > 1:
            out[same] = ""
    return out


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(int(value)) if isinstance(value, float | np.floating) else str(value).strip()


def _other_columns(var: pd.DataFrame, column: str) -> str:
    """Name the columns of texts that are different for most genes."""
    others = [
        repr(str(c))
        for c in var.columns[~var.columns.duplicated()]
        if c != column
        and not pd.api.types.is_numeric_dtype(var[c])
        and var[c].nunique() > len(var) / 2
    ]
    return f"; columns that do: {', '.join(others[:_LISTED])}" if others else ""


def warn_of_shared(column: str | None, shared: dict[str, list[str]], genes: pd.Index) -> None:
    """Warn of names that several of the genes that are read have, and how they are told apart.

    Parameters
    ----------
    column : str or None
        Column of ``var``.
    shared : dict of list
        As in :class:`ColumnNames`.
    genes : Index
        Names of the genes that are read.
    """
    read = set(genes) if shared else set()
    several = {text: names for text, names in shared.items() if read.intersection(names)}
    if not several:
        return
    first = " and ".join(map(repr, next(iter(several.values()))[:2]))
    listed = ", ".join(list(several)[:_LISTED]) + (", ..." if len(several) > _LISTED else "")
    number = "1 name" if len(several) == 1 else f"{len(several):,} names"
    belong = "belongs to several genes" if len(several) == 1 else "belong to several genes each"
    warn(
        f"{number} in the column {column!r} of var {belong} ({listed}): these genes are told apart "
        f"by their ids, as in {first}",
        DataWarning,
    )
