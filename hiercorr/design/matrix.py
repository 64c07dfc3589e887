"""Design matrices of Wilkinson formulas over samples or cells, and contrasts of coefficients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.design import formulas
from hiercorr.design.levels import one_name_each
from hiercorr.design.nesting import quoted
from hiercorr.errors import InputError, listed, unknown_name


@dataclass(frozen=True)
class DesignMatrix:
    """Full-rank design matrix, intercept first.

    Attributes
    ----------
    matrix : ndarray, shape (n_rows, n_coefficients)
    names : list of str
        Names of the coefficients; the first is ``"Intercept"``.
    formula : str
    table : DataFrame
        Columns that the formula uses.
    """

    matrix: NDArray[np.float64]
    names: list[str]
    formula: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    _spec: Any = None

    def contrasts(self, wanted: Mapping[str, str | Sequence[str]]) -> NDArray[np.float64]:
        """Return the weights of the coefficients in each contrast, one row per contrast.

        Parameters
        ----------
        wanted : mapping
            From the name of a contrast to an expression in the names of coefficients, such as
            ``"condition[T.b] - condition[T.c]"``, or to ``(column, level, baseline)``: the
            difference of fitted values between two levels, averaged over the rows.
        """
        for name in wanted:
            if name in self.names:
                raise InputError(
                    f"contrast {name!r} has the name of a coefficient: give it another name"
                )
        return np.array(
            [self._contrast(f"contrast {name!r}", what) for name, what in wanted.items()]
        ).reshape(-1, len(self.names))

    def difference(self, contrast: str | Sequence[str]) -> NDArray[np.float64]:
        """Return the weights of the coefficients in the one difference of ``contrast=``.

        Parameters
        ----------
        contrast : str or (column, level, baseline)
            As for :meth:`contrasts`.

        Raises
        ------
        InputError
            If it contains the intercept, the value at the baseline, which is no difference.
        """
        weights = self._contrast("contrast=", contrast)
        if abs(weights[0]) > 1e-9:
            raise InputError(
                f"contrast={contrast!r} contains the intercept, the value at the baseline: it is "
                "not a difference; use coefficients such as "
                f"{', '.join(map(repr, self.names[1:3]))}, without the intercept"
            )
        return weights

    def _contrast(self, subject: str, wanted: str | Sequence[str]) -> NDArray[np.float64]:
        if isinstance(wanted, str):
            weights = self._expression_contrast(subject, wanted)
            if not weights.any():
                raise InputError(f"{subject} {wanted!r} is 0 for all coefficients")
            return weights
        expected = "an expression or (column, level, baseline)"
        parts = listed(subject, wanted, expected)
        if len(parts) != 3:
            raise InputError(f"{subject} must be {expected}, not {wanted!r}")
        weights = self._level_contrast(*parts)
        if not weights.any():
            raise InputError(f"{subject} compares a level with itself: {tuple(wanted)!r}")
        return weights

    def level_rows(self, column: str, levels: Sequence[Any]) -> NDArray[np.float64]:
        """Return the rows of the matrix with `column` at each level, averaged over the units.

        Parameters
        ----------
        column : str
        levels : sequence
            Levels of the column, or numbers.

        Returns
        -------
        ndarray, shape (n_levels, n_coefficients)
        """
        return np.array([self._row_mean(column, level) for level in levels])

    def positions(self, column: str) -> list[int]:
        """Return the positions of the coefficients of all terms that use this column only."""
        names = list(self._spec.column_names)
        own = {
            names[k]
            for term, found in self._spec.term_indices.items()
            for k in found
            if formulas.columns_of(term) == {column}
        }
        return [k for k, name in enumerate(self.names) if name in own]

    def _expression_contrast(self, subject: str, expression: str) -> NDArray[np.float64]:
        from formulaic.utils.constraints import LinearConstraints

        stated, rest = _with_symbols(expression, self.names)
        stated = _NUMBER.sub(lambda n: np.format_float_positional(float(n[0])), stated)
        unknown = _tokens(_NUMBER.sub(" ", rest))
        if unknown:
            found = str(unknown_name("coefficient", unknown[0], self.names)).split("; there are")[0]
            raise InputError(
                f"cannot read {subject}: {expression!r} has an {found}; the coefficients are "
                f"{', '.join(self.names)}"
            )
        symbols = [_symbol(k) for k in range(len(self.names))]
        try:
            found = LinearConstraints.from_spec(stated, variable_names=symbols)
        except Exception as error:  # formulaic raises its own and SyntaxError
            raise InputError(
                f"cannot read {subject}: {expression!r} is not a sum of coefficients times "
                f"numbers; the coefficients are {', '.join(self.names)}"
            ) from error
        row = np.asarray(found.constraint_matrix, float)
        if len(row) != 1 or np.any(found.constraint_values):
            raise InputError(
                f"{subject} must be one linear combination of coefficients, not {expression!r}"
            )
        return row[0]

    def _level_contrast(self, column: str, level: str, baseline: str) -> NDArray[np.float64]:
        if column not in self.table:
            raise unknown_name("column of the formula", column, self.table.columns)
        return np.asarray(self._row_mean(column, level) - self._row_mean(column, baseline))

    def _row_mean(self, column: str, level: str) -> NDArray[np.float64]:
        """Average the rows of the matrix, with `column` set to one level, or to a number."""
        self._check_level(column, level)
        values = self.table.copy()
        dtype = values[column].dtype
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
            values[column] = float(level)
        else:
            values[column] = pd.Series([level] * len(values), values.index).astype(dtype)
        rows = pd.DataFrame(self._spec.get_model_matrix(values))[self.names]
        return np.asarray(rows.to_numpy(float).mean(0))

    def _check_level(self, column: str, level: Any) -> None:
        """Raise an error for an unknown level, or a number beyond those of the column."""
        known = self.table[column]
        if (known == level).any():
            return
        numeric = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
        if not numeric or isinstance(level, bool) or not isinstance(level, Real):
            raise unknown_name(f"level of {column!r}", level, known.unique())
        if not known.min() <= level <= known.max():
            raise InputError(
                f"{level:g} lies beyond the values of {column!r}, {known.min():g} to "
                f"{known.max():g}: nothing is known there"
            )


_NUMBER = re.compile(r"(?<![\w.])(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?![\w.])", re.IGNORECASE)


def _symbol(k: int) -> str:
    return f"coefficient{k}"


def _with_symbols(expression: str, names: Sequence[str]) -> tuple[str, str]:
    """Replace the names of coefficients in an expression by symbols, and by spaces.

    Names such as ``arm[T.b]:sex[T.m]`` or ``bs(age, df=3)[1]`` contain operators; they may stand
    as they are printed, or between backticks.
    """
    order = sorted(range(len(names)), key=lambda k: -len(names[k]))
    either = "|".join(f"(`{re.escape(names[k])}`|{re.escape(names[k])})" for k in order)
    pattern = re.compile(rf"(?<![\w.:\])])(?:{either})(?![\w.:\[(])")

    def symbol(match: re.Match[str]) -> str:
        assert match.lastindex is not None
        return f" {_symbol(order[match.lastindex - 1])} "

    return pattern.sub(symbol, expression), pattern.sub(" ", expression)


def _tokens(expression: str) -> list[str]:
    """Split an expression at operators and spaces outside of brackets."""
    depth, out = 0, [""]
    for c in expression:
        depth += (c in "[(" and bool(out[-1])) - (c in "])" and depth > 0)
        if depth == 0 and (c in "+-*/=,()" or c.isspace()) and not (c == ")" and "(" in out[-1]):
            out.append("")
        else:
            out[-1] += c
    return [t for t in out if t]


def own_coefficients(names: Sequence[str], column: str) -> list[int]:
    """Return the positions of the coefficients of one column, without those of interactions.

    These are named like ``age``, ``arm[T.b]`` or ``C(arm)[T.b]``.
    """
    main_effect = re.compile(rf"(C\()?`?{re.escape(column)}`?\)?(\[[^\]]*\])?")
    return [k for k, name in enumerate(names) if main_effect.fullmatch(name)]


def make_design(
    formula: str | Sequence[str], table: pd.DataFrame, standardize: bool = False
) -> DesignMatrix:
    """Build the design matrix of a Wilkinson formula.

    Parameters
    ----------
    formula : str or sequence of str
        E.g. ``"~ condition + age"``; a list of columns means their sum.
    table : DataFrame
        One row per unit.
    standardize : bool
        Centre and scale (n - 1) every column but the intercept.

    Returns
    -------
    DesignMatrix

    Raises
    ------
    InputError
        If a column is unknown or missing for some rows, or a term is constant or aliased.
    """
    text = formulas.formula_text(formula)
    used = _used_columns(text, table)
    frame = _model_matrix(text, used)
    spec = frame.model_spec
    frame = pd.DataFrame(frame)
    if "Intercept" not in frame.columns:
        raise formulas.no_intercept(text)
    frame = frame[["Intercept", *[c for c in frame.columns if c != "Intercept"]]]
    matrix, names = frame.to_numpy(np.float64), [str(c) for c in frame.columns]
    finite = np.isfinite(matrix).all(0)
    if not finite.all():
        k = int(np.argmin(finite))
        row = table.index[int(np.argmin(np.isfinite(matrix[:, k])))]
        raise InputError(
            f"{names[k]!r} of formula {text!r} is not finite, e.g. for {row!r}: compute "
            "it as a column of obs with finite values, or leave these out with subset="
        )
    aliased = _aliased(matrix)
    if aliased:
        reasons = "; ".join(_explain(matrix, names, k, aliased) for k in aliased)
        raise InputError(f"formula {text!r} is not of full rank: {reasons}; drop it")
    if standardize and matrix.shape[1] > 1:
        rest = matrix[:, 1:]
        matrix[:, 1:] = (rest - rest.mean(0)) / rest.std(0, ddof=1)
    return DesignMatrix(matrix, names, text, used, spec)


def _used_columns(text: str, table: pd.DataFrame) -> pd.DataFrame:
    """Check the columns of a formula and return them without unused levels."""
    needed = formulas.columns(text)
    as_they_are = formulas.bare_columns(text)
    for name in needed:
        if name not in table:
            raise unknown_name("column in the formula", name, table.columns)
        missing = np.flatnonzero(table[name].isna().to_numpy())
        if len(missing):
            raise InputError(
                f"column {name!r} is missing for {_rows(table, missing)}; fill it or leave them "
                "out with subset="
            )
        infinite = _infinite(table[name])
        if len(infinite):
            raise InputError(
                f"column {name!r} is infinite in {_rows(table, infinite)}; correct it or leave "
                "them out with subset="
            )
        one_name_each("column", name, table[name])
        if pd.api.types.is_datetime64_any_dtype(table[name]):
            days = f"(obs[{name!r}] - obs[{name!r}].min()).dt.days"
            raise InputError(f"column {name!r} has dates: use a number, e.g. {days}, or labels")
        if name in as_they_are and _are_objects(table[name]):
            raise InputError(
                f"column {name!r} has numbers of the type object, which would be labels of groups: "
                f"use obs[{name!r}].astype(float) if they are numbers, and C({quoted(name)}) in "
                "the formula if they are labels"
            )
        if table[name].nunique() == 1:  # a factor of one level would silently drop out
            value = table[name].iloc[0]
            value = value.item() if isinstance(value, np.generic) else value
            raise InputError(
                f"column {name!r} is constant ({value!r} in all {len(table)} rows); drop it"
            )
    used = table[needed].copy()
    for name in needed:
        used[name] = _plain(used[name])
    return used


def _rows(table: pd.DataFrame, rows: NDArray[np.int64]) -> str:
    first = repr(table.index[rows[0]])
    return first if len(rows) == 1 else f"{len(rows)} rows, e.g. {first}"


def _are_objects(values: pd.Series) -> bool:
    kinds = ("integer", "floating", "mixed-integer-float", "decimal")
    return values.dtype == object and pd.api.types.infer_dtype(values) in kinds


def _infinite(values: pd.Series) -> NDArray[np.int64]:
    if not pd.api.types.is_float_dtype(values):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.isinf(values.to_numpy(np.float64, na_value=np.nan)))


def _plain(values: pd.Series) -> pd.Series:
    """Return a column in a type of numpy, which formulas know, or as used categories."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):  # an unused level would give a column of zeros
        values = values.cat.remove_unused_categories()
        named = isinstance(values.cat.categories.dtype, pd.api.extensions.ExtensionDtype)
        categories = values.cat.categories
        return values.cat.rename_categories(categories.astype(object)) if named else values
    if not isinstance(dtype, pd.api.extensions.ExtensionDtype):
        return values
    if pd.api.types.is_bool_dtype(dtype):
        return values.astype(bool)
    if pd.api.types.is_numeric_dtype(dtype):
        return values.astype(np.int64 if pd.api.types.is_integer_dtype(dtype) else np.float64)
    return values.astype(object)


def _model_matrix(text: str, used: pd.DataFrame) -> Any:
    parsed = formulas.parse(text)
    try:
        return parsed.get_model_matrix(used, output="pandas", na_action="raise")
    except Exception as error:
        levels = [
            f"{c!r} has levels {', '.join(repr(v) for v in list(used[c].unique())[:8])}"
            for c in used
            if not pd.api.types.is_numeric_dtype(used[c])
        ]
        reason = f"cannot evaluate formula {text!r}: {error}"
        raise InputError("; ".join([reason, *levels])) from error


def sample_design(
    formula: str | None, table: pd.DataFrame, varying: Sequence[str], block: str | None
) -> DesignMatrix:
    """Build the design matrix of a formula over samples.

    Parameters
    ----------
    formula : str or None
        None: an intercept.
    table : DataFrame
        One row per sample.
    varying : sequence of str
        Columns that vary within samples, which the formula cannot use.
    block : str or None
        Column whose levels are added as fixed effects.
    """
    text = "~ 1" if formula is None else formula
    if block is not None:
        # Blocks come first, so that covariates constant within blocks are reported as aliased.
        text = f"~ C(`{block}`) + {text.partition('~')[2].strip() if '~' in text else text}"
    for name in formulas.columns(text):
        if name in varying and name not in table:
            raise InputError(
                f"column {name!r} varies within samples, so it is not a covariate of samples "
                "(cells without a value count as different); aggregate it to one value per sample "
                "in obs first, or leave it out of the formula"
            )
        kind = pd.api.types.infer_dtype(table[name]) if name in table else ""
        labels = kind in ("string", "categorical")
        if labels and table[name].nunique() == len(table) > 1:
            raise InputError(
                f"column {name!r} has a different value in each of the {len(table)} samples: it is "
                "confounded with the sample and leaves no residual variation; drop it"
            )
    return make_design(text, table)


def _aliased(matrix: NDArray[np.float64]) -> list[int]:
    """Return the columns that are linear combinations of earlier columns."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    basis: list[NDArray[np.float64]] = []
    out = []
    for k, column in enumerate((matrix / scale).T):
        residual = column.copy()
        for _ in range(2):  # twice is enough for orthogonality in floating point
            for q in basis:
                residual = residual - q * (q @ residual)
        size = np.linalg.norm(residual)
        if size < 1e-9:
            out.append(k)
        else:
            basis.append(residual / size)
    return out


def _explain(matrix: NDArray[np.float64], names: list[str], k: int, aliased: list[int]) -> str:
    """Describe the alias of column `k`."""
    before = [j for j in range(k) if j not in aliased]
    weight = np.linalg.lstsq(matrix[:, before], matrix[:, k], rcond=None)[0]
    parts = [names[j] for j, w in zip(before, weight, strict=True) if abs(w) > 1e-8]
    if not parts or parts == ["Intercept"]:
        low, high = matrix[:, k].min(), matrix[:, k].max()
        if low < high:
            return (
                f"{names[k]!r} is nearly constant, from {low:.10g} to {high:.10g} (if that is "
                f"right, subtract {low:.10g} from it)"
            )
        return f"{names[k]!r} is constant over the rows"
    return f"{names[k]!r} is a combination of {', '.join(repr(n) for n in parts)}"
