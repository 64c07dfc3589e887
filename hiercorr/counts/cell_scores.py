"""Scores of cells: one number per cell, from a column of ``obs`` or from the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts.counts import Counts
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.selection import aligned
from hiercorr.errors import InputError, n_of, numbers, text

_NO_NUMBER = "cmM"  # kinds that numpy turns into numbers: complex numbers, times


@dataclass(frozen=True)
class CellScore:
    """A score of every cell.

    Attributes
    ----------
    name : str
    values : ndarray of float64, shape (n_cells,)
        In the order of the cells of the counts.
    source : {"obs", "given"}
        Whether the score is a column of ``obs``.
    level : str or None
        Level that is coded as 1, if the score has two levels, of which the other is 0.
    """

    name: str
    values: NDArray[np.float64]
    source: str
    level: str | None = None


def cell_score(counts: Counts, score: str | ArrayLike | pd.Series, name: str | None) -> CellScore:
    """Check a score, and return its values in the order of the cells of the counts.

    Parameters
    ----------
    counts : Counts
    score : str, Series or array, shape (n_obs,)
        Column of ``obs``; a Series is aligned by its index, the names of the cells; other arrays
        are in the order of the data. Numbers, booleans, or categories of two levels.
    name : str or None
        Name of the score; None: that of the column or Series, else "score".

    Returns
    -------
    CellScore

    Raises
    ------
    InputError
        If the score is unknown, has another length, is missing in a cell, or is not a number and
        has not two levels.
    """
    text("name", name, optional=True)
    if name == "":
        raise InputError("name= is empty: name the score")
    column, default = _column(counts, score)
    chosen = default if name is None else name
    if chosen in counts.genes:
        raise InputError(f"{chosen!r} is the name of a gene; choose another for the score (name=)")
    column = column.reset_index(drop=True)
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise InputError(
            f"score {chosen!r} is missing for {len(missing)} of {len(column)} cells, e.g. cell "
            f"{counts.obs.index[missing[0]]!r}: leave them out with subset="
        )
    values, level = coded(column, chosen)
    infinite = np.flatnonzero(~np.isfinite(values))
    if len(infinite):
        raise InputError(
            f"score {chosen!r} is {values[infinite[0]]:g} for {len(infinite)} of {len(column)} "
            f"cells, e.g. cell {counts.obs.index[infinite[0]]!r}: scores must be finite"
        )
    source = "obs" if isinstance(score, str) else "given"
    return CellScore(chosen, values, source, level)


def _column(counts: Counts, score: Any) -> tuple[pd.Series, str]:
    """Return the score of the cells of the counts, and its default name."""
    if isinstance(score, str):
        if score not in counts.obs:
            raise unknown_column("score column", score, counts.obs)
        return counts.obs[score], score
    if isinstance(score, pd.Series):
        named = isinstance(score.name, str) and score.name != ""
        return aligned("score", score, counts.obs.index), score.name if named else "score"
    n = int(counts.notes["n_cells_input"])
    column = score if isinstance(score, pd.Categorical) else np.asarray(score)
    if np.shape(column) != (n,):
        raise InputError(
            f"score has shape {np.shape(column)}; it needs one value for each of the {n:,} cells "
            "of the data, or the name of a column of obs"
        )
    return pd.Series(column).iloc[counts.cells], "score"


def coded(
    column: pd.Series, name: str, kind: str = "score"
) -> tuple[NDArray[np.float64], str | None]:
    """Return numbers, and the level that is coded as 1 if there are two levels."""
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return column.to_numpy(bool).astype(np.float64), "True"
    if pd.api.types.is_numeric_dtype(dtype) and dtype.kind not in _NO_NUMBER:
        return column.to_numpy(np.float64), None
    categorical = isinstance(dtype, pd.CategoricalDtype)
    objects = pd.api.types.is_object_dtype(dtype)
    if objects and not column.map(lambda v: isinstance(v, str | bool | np.bool_)).any():
        return numbers(f"{kind} {name!r}", column.to_numpy()), None
    if not (categorical or objects or pd.api.types.is_string_dtype(dtype)):
        raise InputError(f"{kind} {name!r} must be numbers or two levels, not {dtype}")
    levels = list(column.unique())
    if categorical:
        levels = [level for level in dtype.categories if level in set(levels)]
    else:
        levels.sort(key=str)
    if len(levels) != 2:
        raise InputError(
            f"{kind} {name!r} is not numeric and has {n_of(len(levels), 'level')} "
            f"({', '.join(map(repr, levels[:3]))}{', ...' if len(levels) > 3 else ''}): give "
            "numbers, or two levels, e.g. whether it is one of them"
        )
    return (column == levels[1]).to_numpy(bool).astype(np.float64), str(levels[1])
