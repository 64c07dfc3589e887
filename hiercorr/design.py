"""Formulas and obs columns -> design matrices, with the mistakes named."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr import _formulas
from hiercorr.errors import DataWarning, InputError, unknown_name


@dataclass(frozen=True)
class Design:
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
        return np.array([self._contrast(name, what) for name, what in wanted.items()]).reshape(-1, len(self.names))

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
                raise InputError(f"contrast {name!r} must be one linear combination of coefficients, not {what!r}")
            return row[0]
        if len(what) != 3:
            raise InputError(f"contrast {name!r} must be an expression or (column, level, baseline), not {what!r}")
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
            rows.append(pd.DataFrame(self._spec.get_model_matrix(values))[self.names].to_numpy(float).mean(0))
        return np.asarray(rows[0] - rows[1])


def own_coefficients(names: Sequence[str], column: str) -> list[int]:
    """Positions of the coefficients that are of this column alone: ``age``, ``arm[T.b]``, ``C(arm)[T.b]``; not of products."""
    own = re.compile(rf"(C\()?`?{re.escape(column)}`?\)?(\[[^\]]*\])?")
    return [k for k, name in enumerate(names) if own.fullmatch(name)]


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
    text = _text(formula)
    parsed = _formulas.parse(text)
    needed = _formulas.columns(text)
    for name in needed:
        if name not in table:
            raise unknown_name("column in the formula", name, table.columns)
        missing = np.flatnonzero(table[name].isna().to_numpy())
        if len(missing):
            raise InputError(
                f"column {name!r} is missing for {len(missing)} rows, e.g. {table.index[missing[0]]!r}; "
                "fill it or leave them out with subset="
            )
        if table[name].nunique() == 1:  # a factor of one level would drop out of the formula in silence
            raise InputError(f"column {name!r} is constant ({table[name].iloc[0]!r} in all {len(table)} rows); drop it")
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
        raise InputError("; ".join([f"cannot evaluate formula {text!r}: {error}", *levels])) from error
    spec = frame.model_spec
    frame = pd.DataFrame(frame)
    if "Intercept" not in frame.columns:
        raise InputError(f"formula {text!r} has no intercept; covariates adjust around it, so leave it in")
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
    return Design(matrix, names, text, used, spec)


def sample_design(formula: str | None, table: pd.DataFrame, varying: Sequence[str], block: str | None) -> Design:
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
    needed = _formulas.columns(text)
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


def split_terms(
    formula: str | Sequence[str], constant: Iterable[str], known: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Terms of a formula that vary between cells of a sample, and those that are constant in each.

    Parameters
    ----------
    formula : str or sequence of str
    constant : iterable of str
        Columns with one value in each sample.
    known : iterable of str
        All columns.
    """
    terms = list(_formulas.parse(_text(formula)))
    one, known = set(constant), list(known)
    cells: list[str] = []
    samples: list[str] = []
    for term in terms:
        needed = _formulas.columns_of(term)
        for name in sorted(needed - set(known)):
            raise unknown_name("column in the formula", name, known)
        if needed:
            said = ":".join(
                f"`{f.expr}`" if f.expr in known and not f.expr.isidentifier() else f.expr for f in term.factors
            )
            (samples if needed <= one else cells).append(said)
    return cells, samples


def _text(formula: str | Sequence[str]) -> str:
    text = formula if isinstance(formula, str) else "~ " + " + ".join(f"`{c}`" for c in formula)
    return text if "~" in text else f"~ {text}"


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


_DONOR_WORDS = ("donor", "patient", "subject", "individual", "mouse", "animal", "participant", "person")


def constant_columns(obs: pd.DataFrame, codes: NDArray[np.int64], names: pd.Index) -> dict[str, pd.Series]:
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


def sample_columns(obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index) -> dict[str, pd.Series]:
    """:func:`constant_columns` over samples; rows of `obs` are grouped by sample."""
    return constant_columns(obs, np.repeat(np.arange(len(samples)), np.diff(starts)), samples)


def sample_table(obs: pd.DataFrame, starts: NDArray[np.int64], samples: pd.Index) -> tuple[pd.DataFrame, list[str]]:
    """One row a sample of the columns with one value in each, and the names of those that vary within samples."""
    table = pd.DataFrame(sample_columns(obs, starts, samples), index=samples)
    return table, [str(c) for c in obs.columns if str(c) not in table]


def check_block(block: str, table: pd.DataFrame, varying: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a block column that is not one of samples."""
    if block in varying:
        raise InputError(f"block column {block!r} varies within samples; it must have one value a sample")
    if block not in table:
        raise unknown_name("block column", block, known)


def warn_of_repeated_donors(
    columns: dict[str, pd.Series] | pd.DataFrame,
    sample: str,
    n_samples: int,
    consequence: str,
    remedy: str,
    stacklevel: int = 4,
) -> None:
    """Warn of samples of one donor; `remedy` may name the {column}."""
    for column, n in repeated_donors(columns, sample).items():
        warnings.warn(
            f"{n_samples} samples of {sample!r} come from {n} values of {column!r}: samples of one donor are not "
            f"independent, so {consequence}; use {remedy.format(column=repr(column))}, or one sample a donor with subset=",
            DataWarning,
            stacklevel=stacklevel,
        )


def repeated_donors(columns: dict[str, pd.Series] | pd.DataFrame, sample: str | None) -> dict[str, int]:
    """Columns whose name says donor and that hold several samples a value: name -> number of donors."""
    return {
        str(name): int(values.nunique())
        for name, values in columns.items()
        if name != sample and any(w in str(name).lower() for w in _DONOR_WORDS) and 1 < values.nunique() < len(values)
    }
