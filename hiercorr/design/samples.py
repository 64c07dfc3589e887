"""Columns that describe samples: columns constant within samples, blocks, repeated donors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.design import formulas
from hiercorr.design.levels import one_name_each
from hiercorr.design.nesting import (
    group_codes,
    like_condition,
    like_donor,
    nests,
    quoted,
    tokens,
    without_properties,
)
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.parts import of_a_part
from hiercorr.runtime.user_warnings import warn


class Combination(str):
    """Name of the column whose values are combinations of the values of two columns.

    :func:`with_combinations` adds this column to a table of cells.

    Parameters
    ----------
    columns : (str, str)
    """

    columns: tuple[str, str]

    def __new__(cls, columns: Sequence[str]) -> Combination:
        """Join the names."""
        self = super().__new__(cls, "|".join(columns))
        self.columns = (columns[0], columns[1])
        return self

    def __getnewargs__(self) -> tuple[tuple[str, str]]:  # type: ignore[override]
        """Return the arguments of copies."""
        return (self.columns,)


@overload
def sample_name(sample: object) -> str: ...


@overload
def sample_name(sample: object, optional: bool) -> str | None: ...


def sample_name(sample: object, optional: bool = False) -> str | None:
    """Return the name of the column with the samples, also of two columns.

    Parameters
    ----------
    sample : str or (str, str)
        Column of ``obs``; two columns: a sample is a combination of their values.
    optional : bool
        Whether None is accepted.

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(sample, str):
        return sample
    if sample is None and optional:
        return None
    pair = list(sample) if isinstance(sample, tuple | list) else []
    if len(pair) != 2 or not all(isinstance(name, str) for name in pair) or pair[0] == pair[1]:
        raise InputError(
            "sample must be a string (the obs column with the sample of each cell) or two columns "
            f"(their combinations), not {sample!r}"
        )
    return Combination(pair)


def with_combinations(
    obs: pd.DataFrame, sample: str | None, keep: NDArray[np.bool_] | None = None
) -> pd.DataFrame:
    """Return the table with the column of a :class:`Combination`; otherwise unchanged.

    Parameters
    ----------
    obs : DataFrame
    sample : str or None
    keep : ndarray of bool, optional
        Cells whose combinations must have names of their own.
    """
    if not isinstance(sample, Combination) or not set(sample.columns) <= set(obs.columns):
        return obs
    used = np.ones(len(obs), bool) if keep is None else keep
    for name in sample.columns:
        one_name_each("sample column", name, obs[name][used])
    first, second = (obs[name].astype(str) for name in sample.columns)
    known = obs[sample.columns[0]].notna() & obs[sample.columns[1]].notna()
    joined = (first + "|" + second).where(known)
    names = pd.DataFrame({0: first, 1: second, 2: joined})[used].dropna().drop_duplicates()
    if names[2].duplicated().any():
        raise joined_names(sample.columns, pd.Index(names[2]))
    column = str(sample)
    if column in obs and not (obs[column].astype(str) == joined)[used].all():
        raise InputError(
            f"obs has a column {column!r} with other values than the combinations of "
            f"{sample.columns[0]!r} and {sample.columns[1]!r}: rename it"
        )
    return obs.assign(**{column: joined})


def joined_names(columns: Sequence[str], names: pd.Index) -> InputError:
    """Build the error for combinations of two columns whose joined names are the same."""
    return InputError(
        f"different values of {columns[0]!r} and {columns[1]!r} have the same joined name "
        f"{names[names.duplicated()][0]!r}: write the values without '|'"
    )


def named_columns(sample: str | None) -> tuple[str, ...]:
    """Return the columns of obs that name the samples."""
    return () if sample is None else getattr(sample, "columns", (sample,))


class OneSamplePerDonor(InputError):
    """A block without effect: every donor has one sample."""


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
    one_name_each("block column", block, table[block])


def refuse_swapped(block: str, sample: str, obs: pd.DataFrame) -> None:
    """Raise an error if a column divides the samples that it should group.

    Parameters
    ----------
    block, sample : str
        Columns with the donors and the samples.
    obs : DataFrame
        Cells.
    """
    values = obs[block]
    if pd.api.types.is_float_dtype(values) or values.nunique() > len(obs) / 2:
        return  # a measurement of cells
    if not (obs.groupby(block, observed=True)[sample].nunique() > 1).any():
        raise InputError(
            f"block={block!r} divides the samples of {sample!r}, which must lie within blocks: the "
            f"names are swapped; use sample={block!r}, block={sample!r}"
        )


def warn_of_few_donors(block: str, number: int) -> None:
    """Warn if samples are compared within fewer than 3 donors."""
    if number < 3:
        warn(
            f"samples are compared within {number} values of {block!r}: at least 3 donors are "
            "needed for a statement about donors; the tests are about these alone",
            DataWarning,
        )


def refuse_missing(block: str, values: pd.Series) -> None:
    """Raise an error if a sample has no block; the index of `values` names the samples."""
    if values.isna().any():
        raise InputError(
            f"block {block!r} is missing for sample {values.index[values.isna()][0]!r}; leave it "
            "out with subset="
        )
    one_name_each("block column", block, values)


def donors_of_samples(
    block: str,
    sample: str | None,
    obs: pd.DataFrame,
    columns: dict[str, pd.Series],
) -> NDArray[np.int64] | None:
    """Return the donor of each sample, as 0, 1, ...; None for a block that a part drops.

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
        if block in known:
            refuse_swapped(block, sample, obs)
        check_block(block, pd.DataFrame(columns), [c for c in known if c not in columns], known)
    values = columns[block]
    refuse_missing(block, values)
    codes = pd.factorize(values)[0].astype(np.int64)
    n = int(codes.max()) + 1
    if of_a_part() and n in (1, len(codes)):
        return None
    if n == 1:
        raise InputError(
            f"block={block!r} has one value, {values.iloc[0]!r}: there is one donor, and nothing "
            "over donors can be estimated; leave out block= for an analysis of this donor's samples"
        )
    if n == len(codes):
        raise OneSamplePerDonor(
            f"block={block!r} has a different value in each sample and no effect: leave it out"
        )
    return codes


def warn_of_repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame,
    sample: str,
    n_samples: int,
    consequence: str,
    remedy: str,
    selecting: str = "with subset=",
) -> None:
    """Warn if several samples come from one donor; `remedy` may contain ``{column}``."""
    for column, n in repeated_donors(columns, sample).items():
        warn(
            f"{n_samples} samples of {sample!r} come from {n} values of {column!r}: samples of one "
            f"donor are not independent, so {consequence}; use "
            f"{remedy.format(column=repr(column))}, or one sample per donor {selecting}",
            DataWarning,
        )


def repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame, sample: str | None
) -> dict[str, int]:
    """Return the number of donors by column, for columns named like donors with repeated values.

    Columns that describe donors, such as ``donor_sex`` next to ``donor``, are left out.
    """
    of_samples = named_columns(sample)
    named = {
        str(name): values
        for name, values in columns.items()
        if name != sample
        and like_donor(str(name))
        and not any(tokens(str(name)) > tokens(s) for s in of_samples)
        and 1 < values.nunique() < len(values)
    }
    codes = {
        name: pd.factorize(values, use_na_sentinel=False)[0].astype(np.int64)
        for name, values in named.items()
    }
    return {name: int(named[name].nunique()) for name in without_properties(named, codes)}


def warn_of_varying_conditions(
    obs: pd.DataFrame,
    starts: NDArray[np.int64],
    sample: str,
    block: str | None = None,
    covariates: str | Sequence[str] | None = None,
) -> None:
    """Warn if a condition, time point, region or batch varies within samples.

    Parameters
    ----------
    obs : DataFrame
        Cells, grouped by sample.
    starts : ndarray of int, shape (n_samples + 1,)
        First cell of each sample.
    sample : str
        Column with the samples.
    block : str, optional
        Column with the donors.
    covariates : str or sequence of str, optional
        Covariates of cells, which are adjusted for.

    Warns
    -----
    DataWarning
        If at least half of the samples have 2 or more groups of a column that is named like a
        condition; groups with less than 5% of the cells of a sample do not count.
    """
    codes = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    known_columns = (*named_columns(sample), block)
    named = [c for c in map(str, obs.columns) if c not in known_columns and like_condition(c)]
    if not named:
        return
    adjusted = [] if covariates is None else _columns_of(covariates)
    of_covariates = [group_codes(obs[c]) for c in adjusted if c in obs]
    known = [groups for groups in of_covariates if groups is not None]
    varying: dict[str, NDArray[np.int64]] = {}
    for name in named:
        groups = group_codes(obs[name], codes)
        if name in adjusted or groups is None or not _varies(groups, codes):
            continue
        if not any(nests(other, groups) for other in known):
            varying[name] = groups
            known.append(groups)
    if not varying:
        return
    names = list(varying)
    listed = " and ".join(map(repr, names))
    several = len(names) > 1
    terms = " + ".join(map(quoted, names))
    warn(
        f"{listed} {'vary' if several else 'varies'} within the samples of {sample!r}: "
        f"{'their' if several else 'its'} effect on mean expression becomes correlation within "
        f"samples; use {_finer(obs, codes, sample, varying, block)}, or covariates='~ {terms}'",
        DataWarning,
    )


def _columns_of(covariates: str | Sequence[str]) -> list[str]:
    fixed, _ = formulas.random_intercepts(formulas.formula_text(covariates))
    return formulas.columns(fixed or "~ 1")


def _varies(groups: NDArray[np.int64], codes: NDArray[np.int64]) -> bool:
    """Return whether at least half of the samples have two groups with 5% of their cells."""
    n_samples, n_groups = int(codes[-1]) + 1, int(groups.max()) + 1
    if n_groups < 2:
        return False
    cells = np.bincount(codes * n_groups + groups, minlength=n_samples * n_groups)
    cells = cells.reshape(n_samples, n_groups)
    several = (cells >= 0.05 * cells.sum(1, keepdims=True)).sum(1) >= 2
    return bool(2 * several.sum() >= n_samples)


def _finer(
    obs: pd.DataFrame,
    codes: NDArray[np.int64],
    sample: str,
    varying: dict[str, NDArray[np.int64]],
    block: str | None,
) -> str:
    """Name the options with which every sample has one condition."""
    found: dict[str, int] = {}
    of_samples = named_columns(sample)
    for name in map(str, obs.columns):
        if name in (*of_samples, *varying):
            continue
        groups = group_codes(obs[name])
        if groups is not None and all(nests(groups, c) for c in (codes, *varying.values())):
            found[name] = int(groups.max()) + 1
    options = f", block={block or sample!r}"
    if found:
        return f"sample={min(found, key=found.__getitem__)!r}{options}"
    joined = "_".join((*of_samples, *varying))
    parts = " + '_' + ".join(f"obs[{n!r}].astype(str)" for n in (*of_samples, *varying))
    return f"sample={joined!r}{options} with obs[{joined!r}] = {parts}"
