"""Formulas and obs columns -> design matrices, with the mistakes named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.errors import InputError, unknown_name


@dataclass(frozen=True)
class Design:
    """A full-rank design matrix, intercept first.

    Attributes
    ----------
    matrix : ndarray, shape (n_rows, n_coefficients)
    names : list of str
        Names of the coefficients; the first is ``"Intercept"``.
    formula : str
    """

    matrix: NDArray[np.float64]
    names: list[str]
    formula: str


def make_design(formula: str | Sequence[str], table: pd.DataFrame, standardize: bool = False) -> Design:
    """Build the design matrix of a Wilkinson formula.

    Parameters
    ----------
    formula : str or sequence of str
        E.g. ``"~ condition + age"``; a list of columns means their sum.
    table : DataFrame
        One row a unit.
    standardize : bool
        Centre and scale (n - 1) every column but the intercept.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If a column is unknown or missing for some rows, or a term is constant or aliased with others.
    """
    import formulaic

    text = formula if isinstance(formula, str) else "~ " + " + ".join(f"`{c}`" for c in formula)
    if "~" not in text:
        text = f"~ {text}"
    try:
        parsed = formulaic.Formula(text)
        needed = [str(v) for v in parsed.required_variables]
    except Exception as error:  # formulaic raises its own and SyntaxError
        raise InputError(f"cannot read formula {text!r}: {error}") from error
    for name in needed:
        if name not in table:
            raise unknown_name("column in the formula", name, table.columns)
        missing = np.flatnonzero(table[name].isna().to_numpy())
        if len(missing):
            raise InputError(
                f"column {name!r} is missing for {len(missing)} rows, e.g. {table.index[missing[0]]!r}; "
                "fill it or leave these cells out with subset="
            )
    used = table[needed].copy()
    for name in needed:  # a level that no row has would make a column of zeros
        if isinstance(used[name].dtype, pd.CategoricalDtype):
            used[name] = used[name].cat.remove_unused_categories()
    try:
        frame = parsed.get_model_matrix(used, output="pandas", na_action="raise")
    except Exception as error:
        raise InputError(f"cannot evaluate formula {text!r}: {error}") from error
    frame = pd.DataFrame(frame)
    if "Intercept" not in frame.columns:
        raise InputError(f"formula {text!r} has no intercept; covariates adjust around it, so leave it in")
    frame = frame[["Intercept", *[c for c in frame.columns if c != "Intercept"]]]
    matrix, names = frame.to_numpy(np.float64), [str(c) for c in frame.columns]
    aliased = _aliased(matrix)
    if aliased:
        raise InputError(
            f"formula {text!r} is not of full rank: {', '.join(repr(names[k]) for k in aliased)} "
            "is constant or a combination of the terms before it; drop it"
        )
    if standardize and matrix.shape[1] > 1:
        rest = matrix[:, 1:]
        matrix[:, 1:] = (rest - rest.mean(0)) / rest.std(0, ddof=1)
    return Design(matrix, names, text)


def _aliased(matrix: NDArray[np.float64]) -> list[int]:
    """Columns that are combinations of columns before them."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    kept: list[NDArray[np.float64]] = []
    out = []
    for k, column in enumerate((matrix / scale).T):
        residual = column.copy()
        for _ in range(2):  # twice is enough for orthogonality in floating point
            for q in kept:
                residual = residual - q * (q @ residual)
        size = np.linalg.norm(residual)
        if size < 1e-9:
            out.append(k)
        else:
            kept.append(residual / size)
    return out


_DONOR_WORDS = ("donor", "patient", "subject", "individual", "mouse", "animal", "participant", "person")


def sample_columns(obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index) -> dict[str, pd.Series]:
    """Columns with one value in each sample, as one value a sample; rows of `obs` are grouped by sample."""
    code = np.repeat(np.arange(len(samples)), np.diff(starts))
    out = {}
    for name in obs.columns:
        values = obs[name].reset_index(drop=True)
        if (values.groupby(code).nunique(dropna=False) <= 1).all():
            out[str(name)] = pd.Series(values.groupby(code).first().to_numpy(), samples, name=name)
    return out


def repeated_donors(columns: dict[str, pd.Series], sample: str | None) -> dict[str, int]:
    """Columns whose name says donor and that hold several samples a value: name -> number of donors."""
    return {
        name: int(values.nunique())
        for name, values in columns.items()
        if name != sample and any(w in name.lower() for w in _DONOR_WORDS) and 1 < values.nunique() < len(values)
    }
