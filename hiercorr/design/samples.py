"""Columns that describe samples: columns constant within samples, blocks, repeated donors."""

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
    """Return the columns that are constant within groups of rows, with one value per group.

    Missing values count as a value.

    Parameters
    ----------
    obs : DataFrame
    codes : ndarray of int, shape (n_rows,)
        Group of each row, as a position in `names`; every group has rows.
    names : Index
        Names of the groups.

    Returns
    -------
    dict
        From the name of a column to its values, shape (n_groups,).
    """
    first = np.unique(codes, return_index=True)[1]
    out = {}
    for name in obs.columns:
        values = pd.factorize(obs[name], use_na_sentinel=False)[0]
        if (values == values[first][codes]).all():
            column = obs[name].iloc[first]
            if isinstance(column.dtype, pd.CategoricalDtype):
                column = column.cat.remove_unused_categories()
            out[str(name)] = column.set_axis(names)
    return out


def sample_columns(
    obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index
) -> dict[str, pd.Series]:
    """Apply :func:`constant_columns` to samples; the rows of `obs` are grouped by sample."""
    return constant_columns(obs, np.repeat(np.arange(len(samples)), np.diff(starts)), samples)


def sample_table(
    obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns constant within samples, one row per sample, and the other names."""
    table = pd.DataFrame(sample_columns(obs, starts, samples), index=samples)
    return table, [str(c) for c in obs.columns if str(c) not in table]


def check_block(
    block: str, table: pd.DataFrame, varying: Sequence[str], known: Iterable[str]
) -> None:
    """Raise an error if the block column is unknown or varies within samples."""
    if block in varying:
        raise InputError(
            f"block column {block!r} varies within samples; it must have one value per sample"
        )
    if block not in table:
        raise unknown_name("block column", block, known)


def donors_of_samples(
    block: str,
    sample: str | None,
    obs: pd.DataFrame,
    columns: dict[str, pd.Series],
) -> NDArray[np.int64]:
    """Return the donor of each sample, as 0, 1, ...

    Parameters
    ----------
    block, sample : str
        Columns with the donors and the samples.
    obs : DataFrame
        Cells.
    columns : dict
        Columns that are constant within samples, see :func:`sample_columns`.

    Raises
    ------
    InputError
        If the block is unknown, varies within samples, is missing, or does not group samples.
    """
    if sample is None:
        raise InputError(
            f"block={block!r} needs samples: name the obs column that holds them with sample="
        )
    if block == sample:
        raise InputError(
            f"block={block!r} is the sample column: name the column with the donor of each sample, "
            "or leave it out"
        )
    if block not in columns:
        known = [str(c) for c in obs.columns]
        divides = (
            block in known
            and not pd.api.types.is_float_dtype(obs[block])
            and obs[block].nunique() <= len(obs) / 3  # a measurement of cells divides nothing
            and not (obs.groupby(block, observed=True)[sample].nunique() > 1).any()
        )
        if divides:
            raise InputError(
                f"block={block!r} divides the samples of {sample!r}, which must lie within "
                f"blocks: the names are swapped; use sample={block!r}, block={sample!r}"
            )
        check_block(block, pd.DataFrame(columns), [c for c in known if c not in columns], known)
    values = columns[block]
    if values.isna().any():
        raise InputError(
            f"block {block!r} is missing for sample {values.index[values.isna()][0]!r}; leave it "
            "out with subset="
        )
    codes = pd.factorize(values)[0].astype(np.int64)
    n = int(codes.max()) + 1
    if n == 1:
        raise InputError(
            f"block={block!r} has one value, {values.iloc[0]!r}: there is one donor, and nothing "
            "over donors can be estimated; leave out block= for an analysis of this donor's samples"
        )
    if n == len(codes):
        raise InputError(
            f"block={block!r} has a different value in each sample and no effect: leave it out"
        )
    return codes


def warn_of_repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame,
    sample: str,
    n_samples: int,
    consequence: str,
    remedy: str,
) -> None:
    """Warn if several samples come from one donor; `remedy` may contain ``{column}``."""
    for column, n in repeated_donors(columns, sample).items():
        warn(
            f"{n_samples} samples of {sample!r} come from {n} values of {column!r}: samples of one "
            f"donor are not independent, so {consequence}; use "
            f"{remedy.format(column=repr(column))}, or one sample per donor with subset=",
            DataWarning,
        )


def repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame, sample: str | None
) -> dict[str, int]:
    """Return the number of donors by column, for columns named like donors with repeated values."""
    return {
        str(name): int(values.nunique())
        for name, values in columns.items()
        if name != sample
        and any(w in str(name).lower() for w in _DONOR_WORDS)
        and 1 < values.nunique() < len(values)
    }
