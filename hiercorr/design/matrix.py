"""Design matrices of Wilkinson formulas over samples or cells, and contrasts of their coefficients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.design import formulas
from hiercorr.design.terms import _text
from hiercorr.errors import InputError, unknown_name


@dataclass(frozen=True)
class DesignMatrix:
    """A full-rank design matrix, intercept first.

    Attributes
    ----------
    matrix : ndarray, shape (n_rows, n_coefficients)
    names : list of str
        Names of the coefficients; the first is ``"Intercept"``.
    formula : str
    table : DataFrame
        The columns that the formula uses.
    """

    matrix: NDArray[np.float64]
    names: list[str]
    formula: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    _spec: Any = None

    def contrasts(self, wanted: Mapping[str, str | Sequence[str]]) -> NDArray[np.float64]:
        """One row of weights of the coefficients for each contrast.

        Parameters
        ----------
        wanted : mapping
            Name -> an expression in the coefficients' names, such as ``"condition[T.b] - condition[T.c]"``, or
            ``(column, level, baseline)``: the difference of fitted values between two levels, averaged over the rows.
        """
        return np.array([self._contrast(name, what) for name, what in wanted.items()]).reshape(
            -1, len(self.names)
        )

    def _contrast(self, name: str, what: str | Sequence[str]) -> NDArray[np.float64]:
        if isinstance(what, str):
            from formulaic.utils.constraints import LinearConstraints

            try:
                found = LinearConstraints.from_spec(what, variable_names=self.names)
            except Exception as error:  # formulaic raises its own and SyntaxError
                raise InputError(
                    f"cannot read contrast {name!r}: {what!r} ({error}); the coefficients are {', '.join(self.names)}"
                ) from error
            row = np.asarray(found.constraint_matrix, float)
            if len(row) != 1 or np.any(found.constraint_values):
                raise InputError(
                    f"contrast {name!r} must be one linear combination of coefficients, not {what!r}"
                )
            return row[0]
        if len(what) != 3:
            raise InputError(
                f"contrast {name!r} must be an expression or (column, level, baseline), not {what!r}"
            )
        column, *levels = what
        if column not in self.table:
            raise unknown_name("column of the formula", column, self.table.columns)
        rows = []
        for level in levels:
            if not (self.table[column] == level).any():
                raise unknown_name(f"level of {column!r}", level, self.table[column].unique())
            values = self.table.copy()
            same = values[column].dtype
            values[column] = pd.Series([level] * len(values), values.index).astype(same)
            rows.append(
                pd.DataFrame(self._spec.get_model_matrix(values))[self.names]
                .to_numpy(float)
                .mean(0)
            )
        return np.asarray(rows[0] - rows[1])


def own_coefficients(names: Sequence[str], column: str) -> list[int]:
    """Positions of the coefficients that are of this column alone: ``age``, ``arm[T.b]``, ``C(arm)[T.b]``; not of products."""
    own = re.compile(rf"(C\()?`?{re.escape(column)}`?\)?(\[[^\]]*\])?")
    return [k for k, name in enumerate(names) if own.fullmatch(name)]


def make_design(
    formula: str | Sequence[str], table: pd.DataFrame, standardize: bool = False
) -> DesignMatrix:
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
    DesignMatrix

    Raises
    ------
    InputError
        If a column is unknown or missing for some rows, or a term is constant or aliased with others.
    """
    text = _text(formula)
    parsed = formulas.parse(text)
    needed = formulas.columns(text)
    for name in needed:
        if name not in table:
            raise unknown_name("column in the formula", name, table.columns)
        missing = np.flatnonzero(table[name].isna().to_numpy())
        if len(missing):
            raise InputError(
                f"column {name!r} is missing for {len(missing)} rows, e.g. {table.index[missing[0]]!r}; "
                "fill it or leave them out with subset="
            )
        if (
            table[name].nunique() == 1
        ):  # a factor of one level would drop out of the formula in silence
            raise InputError(
                f"column {name!r} is constant ({table[name].iloc[0]!r} in all {len(table)} rows); drop it"
            )
    used = table[needed].copy()
    for name in needed:  # a level that no row has would make a column of zeros
        if isinstance(used[name].dtype, pd.CategoricalDtype):
            used[name] = used[name].cat.remove_unused_categories()
    try:
        frame = parsed.get_model_matrix(used, output="pandas", na_action="raise")
    except Exception as error:
        levels = [
            f"{c!r} has levels {', '.join(repr(v) for v in list(used[c].unique())[:8])}"
            for c in used
            if not pd.api.types.is_numeric_dtype(used[c])
        ]
        raise InputError(
            "; ".join([f"cannot evaluate formula {text!r}: {error}", *levels])
        ) from error
    spec = frame.model_spec
    frame = pd.DataFrame(frame)
    if "Intercept" not in frame.columns:
        raise InputError(
            f"formula {text!r} has no intercept; covariates adjust around it, so leave it in"
        )
    frame = frame[["Intercept", *[c for c in frame.columns if c != "Intercept"]]]
    matrix, names = frame.to_numpy(np.float64), [str(c) for c in frame.columns]
    aliased = _aliased(matrix)
    if aliased:
        raise InputError(
            f"formula {text!r} is not of full rank: {'; '.join(_explain(matrix, names, k, aliased) for k in aliased)}; "
            "drop it"
        )
    if standardize and matrix.shape[1] > 1:
        rest = matrix[:, 1:]
        matrix[:, 1:] = (rest - rest.mean(0)) / rest.std(0, ddof=1)
    return DesignMatrix(matrix, names, text, used, spec)


def sample_design(
    formula: str | None, table: pd.DataFrame, varying: Sequence[str], block: str | None
) -> DesignMatrix:
    """Design matrix of a formula over samples.

    Parameters
    ----------
    formula : str or None
        None: an intercept.
    table : DataFrame
        One row a sample.
    varying : sequence of str
        Columns that vary within samples, which no formula over samples can hold.
    block : str or None
        Column whose levels are added as fixed effects.
    """
    text = formula or "~ 1"
    if block is not None:
        # Blocks come first: then it is the covariates constant within blocks that are named as aliased.
        text = f"~ C(`{block}`) + {text.partition('~')[2].strip() if '~' in text else text}"
    needed = formulas.columns(text)
    for name in needed:
        if name in varying and name not in table:
            raise InputError(
                f"column {name!r} varies within samples, so it is no covariate of a sample; aggregate it to one value "
                "a sample in obs first, or leave it out of the formula"
            )
        labels = name in table and not pd.api.types.is_numeric_dtype(table[name])
        if labels and table[name].nunique() == len(table) > 1:
            raise InputError(
                f"column {name!r} has another value in each of the {len(table)} samples: it is confounded with the "
                "sample and leaves nothing to correlate; drop it"
            )
    return make_design(text, table)


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


def _explain(matrix: NDArray[np.float64], names: list[str], k: int, aliased: list[int]) -> str:
    before = [j for j in range(k) if j not in aliased]
    weight = np.linalg.lstsq(matrix[:, before], matrix[:, k], rcond=None)[0]
    parts = [names[j] for j, w in zip(before, weight, strict=True) if abs(w) > 1e-8]
    if not parts or parts == ["Intercept"]:
        return f"{names[k]!r} is constant over the rows"
    return f"{names[k]!r} is a combination of {', '.join(repr(n) for n in parts)}"
