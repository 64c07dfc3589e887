"""Parsing of formulas. They may come from a file and are evaluated: only known functions pass."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hiercorr.errors import InputError

_FUNCTIONS = (
    "C",
    "I",
    "poly",
    "bs",
    "cs",
    "cr",
    "cc",
    "center",
    "scale",
    "log",
    "log2",
    "log10",
    "exp",
    "exp2",
    "exp10",
    "lag",
    "hashed",
    *(
        f"np.{f}"
        for f in (
            "log",
            "log2",
            "log10",
            "log1p",
            "exp",
            "expm1",
            "sqrt",
            "abs",
            "square",
            "sin",
            "cos",
        )
    ),
    *(f"contr.{c}" for c in ("treatment", "SAS", "sum", "helmert", "diff", "poly", "custom")),
)
_HARMLESS = (
    ast.Expression,
    ast.Call,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.Name,
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.boolop,
    ast.expr_context,
)


def formula_text(formula: str | Sequence[str]) -> str:
    """Return a formula as text; a list of columns means their sum."""
    if isinstance(formula, str):
        return formula if "~" in formula else f"~ {formula}"
    names = list(formula) if isinstance(formula, Iterable) else [formula]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"a formula must be a string or a list of columns, not {formula!r}")
    return "~ " + " + ".join(f"`{name}`" for name in names)


def parse(text: str) -> Any:
    """Parse a one-sided formula into terms.

    Raises
    ------
    InputError
        If it cannot be read, has a left side, or contains anything but columns, arithmetic and
        known functions.
    """
    import formulaic

    try:
        parsed = formulaic.Formula(text)
    except Exception as error:  # its own errors and SyntaxError, over several lines
        raise InputError(f"cannot read formula {text!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise InputError(
            f"cannot read formula {text!r}: a formula has no left-hand side here, e.g. "
            "'~ age + sex'"
        )
    for term in parsed:
        for factor in term.factors:
            if factor.eval_method.name == "PYTHON":
                _refuse_code(factor.expr, text)
    return parsed


def columns_of(term: Any) -> set[str]:
    """Return the names of the columns that a term uses, known or not."""
    out: set[str] = set()
    for factor in term.factors:
        if factor.eval_method.name == "LOOKUP":
            out.add(str(factor.expr))
        elif factor.eval_method.name == "PYTHON":
            quoted = re.findall(r"`([^`]*)`", factor.expr)
            tree = ast.parse(re.sub(r"`[^`]*`", "1", factor.expr), mode="eval")
            functions = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
            names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            out |= set(quoted) | (names - functions - {"np", "contr"})
    return out


def columns(text: str) -> list[str]:
    """Return the names of the columns that a formula uses."""
    return sorted(set().union(*(columns_of(term) for term in parse(text))))


def _refuse_code(expression: str, text: str) -> None:
    """Raise an error if an expression contains anything but arithmetic and known functions."""
    try:
        tree = ast.parse(re.sub(r"`[^`]*`", "quoted", expression), mode="eval")
    except SyntaxError as error:
        raise InputError(
            f"cannot read formula {text!r}: {expression!r} is not an expression"
        ) from error
    for node in ast.walk(tree):
        code = ast.unparse(node) if isinstance(node, ast.expr) else ""
        if isinstance(node, ast.Call):
            allowed = ast.unparse(node.func) in _FUNCTIONS
        elif isinstance(node, ast.Attribute):
            allowed = code in _FUNCTIONS
        else:
            allowed = isinstance(node, _HARMLESS)
        if not allowed:
            raise InputError(
                f"formula {text!r} contains {code!r}; only columns, arithmetic and functions such "
                "as C, log, poly, bs, center and np.log1p are allowed: compute it as a column of "
                "obs"
            )
