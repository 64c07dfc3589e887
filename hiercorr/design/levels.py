"""Names of levels: each stands for one value, and can be written to any file."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.errors import InputError


def one_name_each(kind: str, column: object, values: pd.Series | pd.Index) -> None:
    """Raise an error if two values of a column have the same name, such as 1 and ``"1"``.

    Parameters
    ----------
    kind : str
        What the column holds, e.g. ``"sample column"``.
    column : str
        Its name.
    values : Series or Index
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        different = values.cat.categories if isinstance(values, pd.Series) else values.categories
    elif pd.api.types.is_string_dtype(values.dtype):  # objects as well
        try:
            each = dict.fromkeys(values.dropna())
        except TypeError as error:
            raise InputError(
                f"{kind} {column!r} contains lists or other objects that cannot be compared: give "
                "every row one text or number"
            ) from error
        different = pd.Index(list(each), dtype=object)
    else:
        return
    _refuse_switches(f"{kind} {column!r}", values)
    writable_names(f"{kind} {column!r}", different)
    names = different.astype(str)
    if names.is_unique:
        return
    name = names[names.duplicated()][0]
    same = " and ".join(repr(v) for v in different[names == name][:2])
    raise InputError(
        f"{kind} {column!r} contains {same}, which have the same name {name!r}: give each value "
        f"one spelling, e.g. obs[{column!r}] = obs[{column!r}].astype(str)"
    )


def _refuse_switches(kind: str, values: pd.Series | pd.Index) -> None:
    """Raise an error if booleans stand among numbers, as which they would count: True is 1."""
    if values.dtype != object:
        return
    types = pd.api.types.infer_dtype(values, skipna=True)
    if types not in ("mixed", "mixed-integer"):
        return
    is_switch = np.array([isinstance(v, bool | np.bool_) for v in values], bool)
    is_number = np.array([isinstance(v, Real) for v in values], bool) & ~is_switch
    if is_switch.any() and is_number.any():
        two = [list(values)[np.flatnonzero(which)[0]] for which in (is_switch, is_number)]
        raise InputError(
            f"{kind} contains {two[0]!r} and {two[1]!r}, a boolean among numbers: give "
            " all rows numbers, or all rows labels"
        )


def writable_names(kind: str, names: Iterable[object]) -> None:
    """Raise an error if a name contains a NUL character or half of a surrogate pair.

    pandas takes names that differ only behind a NUL for the same, and no file can contain either.

    Parameters
    ----------
    kind : str
        What the names are of, e.g. ``"sample column 'donor'"``.
    names : iterable
        Those that are not strings are ignored.
    """
    for name in names:
        if isinstance(name, str) and ("\0" in name or not _encodable(name)):
            raise InputError(
                f"{kind} contains the name {name!r}, in which a character is no text (NUL, or half "
                "of a surrogate pair): rename it"
            )


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_ordered(values: pd.Series) -> bool:
    """Whether a column is an ordered categorical."""
    return isinstance(values.dtype, pd.CategoricalDtype) and bool(values.dtype.ordered)


def in_order(values: pd.Series) -> list[Any]:
    """Return the levels of a condition: ordered ones in their order, others by name."""
    if is_ordered(values):
        return list(values.cat.remove_unused_categories().cat.categories)
    return sorted(values.unique(), key=str)
