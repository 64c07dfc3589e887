"""Names of levels: each stands for one value."""

from __future__ import annotations

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
    elif values.dtype == object:
        different = pd.Index(values.dropna().unique())
    else:
        return
    names = different.astype(str)
    if names.is_unique:
        return
    name = names[names.duplicated()][0]
    same = " and ".join(repr(v) for v in different[names == name][:2])
    raise InputError(
        f"{kind} {column!r} contains {same}, which have the same name {name!r}: give each value "
        f"one spelling, e.g. obs[{column!r}] = obs[{column!r}].astype(str)"
    )
