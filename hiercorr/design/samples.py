"""Columns that describe samples: constant within samples, blocks, repeated donors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

_DONOR_WORDS = (
    "donor",
    "patient",
    "subject",
    "individual",
    "mouse",
    "animal",
    "participant",
    "person",
)


def constant_columns(
    obs: pd.DataFrame, codes: NDArray[np.int64], names: pd.Index
) -> dict[str, pd.Series]:
    """Columns with one value in each group of rows, as one value a group; a missing value is a value.

    Parameters
    ----------
    codes : ndarray of int, shape (n_rows,)
        Group of each row: position in `names`, every one of which has rows.
    """
    first = np.unique(codes, return_index=True)[1]
    out = {}
    for name in obs.columns:
        values = pd.factorize(obs[name], use_na_sentinel=False)[0]
        if (values == values[first][codes]).all():
            one = obs[name].iloc[first]
            if isinstance(one.dtype, pd.CategoricalDtype):
                one = one.cat.remove_unused_categories()
            out[str(name)] = one.set_axis(names)
    return out


def sample_columns(
    obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index
) -> dict[str, pd.Series]:
    """:func:`constant_columns` over samples; rows of `obs` are grouped by sample."""
    return constant_columns(obs, np.repeat(np.arange(len(samples)), np.diff(starts)), samples)


def sample_table(
    obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index
) -> tuple[pd.DataFrame, list[str]]:
    """One row a sample of the columns with one value in each, and the names of those that vary within samples."""
    table = pd.DataFrame(sample_columns(obs, starts, samples), index=samples)
    return table, [str(c) for c in obs.columns if str(c) not in table]


def check_block(
    block: str, table: pd.DataFrame, varying: Sequence[str], known: Iterable[str]
) -> None:
    """Refuse a block column that is not one of samples."""
    if block in varying:
        raise InputError(
            f"block column {block!r} varies within samples; it must have one value a sample"
        )
    if block not in table:
        raise unknown_name("block column", block, known)


def warn_of_repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame,
    sample: str,
    n_samples: int,
    consequence: str,
    remedy: str,
) -> None:
    """Warn of samples of one donor; `remedy` may name the {column}."""
    for column, n in repeated_donors(columns, sample).items():
        warn(
            f"{n_samples} samples of {sample!r} come from {n} values of {column!r}: samples of one donor are not "
            f"independent, so {consequence}; use {remedy.format(column=repr(column))}, or one sample a donor with subset=",
            DataWarning,
        )


def repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame, sample: str | None
) -> dict[str, int]:
    """Columns whose name says donor and that hold several samples a value: name -> number of donors."""
    return {
        str(name): int(values.nunique())
        for name, values in columns.items()
        if name != sample
        and any(w in str(name).lower() for w in _DONOR_WORDS)
        and 1 < values.nunique() < len(values)
    }
