"""Parsing of formulas. They may come from a file and are evaluated: only known functions pass."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hiercorr.design.limits import limit_code, limit_terms
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


_NAME = re.compile(r"[^\W\d][\w.]*|`[^`]+`")
_OPENING, _CLOSING = "([{", ")]}"


def random_intercepts(formula: str | None) -> tuple[str | None, list[str]]:
    """Split the random intercepts ``(1 | column)`` from a formula in the notation of lme4.

    Parameters
    ----------
    formula : str or None
        E.g. ``"~ condition + (1 | donor)"``.

    Returns
    -------
    fixed : str or None
        The formula without random intercepts (``"~ 1"`` if nothing else is left); unchanged if it
        has none.
    columns : list of str
        Grouping columns, in the order of the formula.

    Raises
    ------
    InputError
        If a term with a bar is anything but a random intercept of one column.

    Examples
    --------
    >>> from hiercorr.design.formulas import random_intercepts
    >>> random_intercepts("~ condition + (1 | donor) + (1 | `seq batch`)")
    ('~ condition', ['donor', 'seq batch'])
    """
    if formula is None or "|" not in formula:
        return formula, []
    left, _, right = formula.partition("~") if "~" in formula else ("", "~", formula)
    kept: list[str] = []
    columns: list[str] = []
    for sign, term in _terms_of(right, formula):
        if not _has_bar(term):
            kept.append(f"{sign} {term}")
            continue
        column = _grouping_column(sign, term, formula)
        if column in columns:
            raise InputError(
                f"formula {formula!r} has two random intercepts of {column!r}: leave one of them "
                "out"
            )
        columns.append(column)
    if not columns:  # bars only inside of functions or quoted names
        return formula, []
    fixed = " ".join(kept).removeprefix("+ ") or "1"
    return f"{left}~ {fixed}", columns


def fixed_terms(formula: str | None) -> tuple[str | None, list[str]]:
    """Split a formula as :func:`random_intercepts` does, and check that the rest is a formula.

    Whatever is added to a formula is added behind this: blocks or cell types next to an empty
    formula would hide that it is empty.

    Raises
    ------
    InputError
        If the formula cannot be read or names no column.
    """
    fixed, columns = random_intercepts(formula)
    if fixed is not None:
        parse(fixed)
    return fixed, columns


def random_blocks(
    formula: str | None, block: str | None, maximum: int = 1
) -> tuple[str | None, list[str]]:
    """Split the random intercepts from a formula, for a model that also has an option ``block=``.

    Parameters
    ----------
    formula : str or None
    block : str or None
        Value of the option.
    maximum : int
        Number of random intercepts that the model supports.

    Returns
    -------
    fixed : str or None
        The formula without random intercepts.
    columns : list of str
        Grouping columns of the random intercepts.

    Raises
    ------
    InputError
        If the formula cannot be read or names no column, the model does not support the random
        intercepts, or the option names another column.
    """
    fixed, columns = fixed_terms(formula)
    terms = " + ".join(f"(1 | {c})" for c in columns)
    if len(columns) > maximum:
        one = f"no more than {maximum} random intercept{'s' * (maximum > 1)} can be estimated here"
        raise InputError(f"formula {formula!r} has {terms}: {one}; leave the others out")
    if columns and block is not None and columns != [block]:
        raise InputError(
            f"block={block!r} and the random intercepts {terms} of the formula name different "
            "groups: give them all in the formula, or leave one of them out"
        )
    return fixed, columns


def _outside(text: str) -> Iterable[tuple[int, str, int]]:
    """Yield position, character and depth of brackets of all that stands outside of quotes."""
    depth, quote = 0, ""
    for k, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "`'\"":
            quote = c
        else:
            depth -= c in _CLOSING
            yield k, c, depth
            depth += c in _OPENING


def _terms_of(text: str, formula: str) -> list[tuple[str, str]]:
    """Split the right-hand side at its outermost + and -, into signs and terms."""
    counts = [sum(c in kind for _, c, _ in _outside(text)) for kind in (_OPENING, _CLOSING)]
    if counts[0] != counts[1]:
        raise InputError(f"cannot read formula {formula!r}: brackets do not match")
    out, sign, start = [], "+", 0
    for k, c, depth in [*_outside(text), (len(text), "+", 0)]:
        if depth == 0 and c in "+-":
            if term := text[start:k].strip():
                out.append((sign, term))
            elif out or start:
                raise InputError(f"cannot read formula {formula!r}: a term is missing next to +")
            sign, start = c, k + 1
    return out


def _has_bar(term: str) -> bool:
    """Whether a term has a bar outside of quotes and of the arguments of functions."""
    calls: list[bool] = []  # of each open bracket: whether it belongs to a function
    previous = ""
    for _, c, _ in _outside(term):
        if c in _OPENING:
            calls.append(c != "(" or bool(re.match(r"[\w.]", previous)))
        elif c in _CLOSING and calls:
            calls.pop()
        elif c == "|" and not any(calls):
            return True
        previous = c
    return False


def _grouping_column(sign: str, term: str, formula: str) -> str:
    """Return the column of a random intercept, or raise an error for any other term with a bar."""
    refused = f"formula {formula!r}: the term {term!r} "
    if not (term.startswith("(") and term.endswith(")") and _is_one_group(term)):
        if any(c == "|" and depth == 0 for _, c, depth in _outside(term)):
            group = term.rpartition("|")[2].strip()
            raise InputError(
                f"cannot read formula {formula!r}: a random intercept needs parentheses, as in "
                f"(1 | {group})"
            )
        raise InputError(
            refused + "combines a random intercept with something else: write it as a term of its "
            "own, as in '~ condition + (1 | donor)'"
        )
    if sign != "+":
        raise InputError(refused + "is subtracted: leave it out instead")
    inside = term[1:-1].strip()
    bar = next((k for k, c, depth in _outside(inside) if c == "|" and depth == 0), None)
    if bar is None:
        raise InputError(refused + "contains a random intercept: write it outside of parentheses")
    effect, group = inside[:bar].strip(), inside[bar + 1 :].strip()
    if group.startswith("|"):
        raise InputError(
            refused + "has a double bar, which separates random slopes; only random intercepts "
            f"are supported: (1 | {group[1:].strip()})"
        )
    if effect != "1":
        raise InputError(
            refused + f"has the random effect {effect!r}; only random intercepts are supported: "
            f"write (1 | {group}), and {effect!r} among the fixed terms"
        )
    if not _NAME.fullmatch(group):
        raise InputError(refused + _way_out(group))
    return group.strip("`")


def _is_one_group(term: str) -> bool:
    """Whether the parenthesis that opens a term is closed by its last character."""
    return all(k == len(term) - 1 for k, c, depth in _outside(term) if c == ")" and depth == 0)


def _way_out(group: str) -> str:
    """Describe what to write instead of a group that is not one column."""
    names = _NAME.findall(group)
    labels = "a column of obs with one label per combination"
    if "/" in group and len(names) == 2:
        return (
            f"nests {names[1]} in {names[0]}; write (1 | {names[0]}) + (1 | column), with {labels}"
        )
    if re.search(r"[:*/+]", group) and "(" not in group:
        return f"groups by {group!r}, which is more than one column; name {labels}"
    return f"groups by {group!r}, which is not a column; name a column of obs, as in (1 | donor)"


def formula_text(formula: str | Sequence[str]) -> str:
    """Return a formula as text; a list of columns means their sum."""
    if isinstance(formula, str):
        return formula if "~" in formula else f"~ {formula}"
    if isinstance(formula, np.ndarray) and formula.ndim == 0:  # claims to be iterable and is not
        names: list[Any] = [formula]
    else:
        names = list(formula) if isinstance(formula, Iterable) else [formula]
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"a formula must be a string or a list of columns, not {formula!r}")
    return "~ " + " + ".join(f"`{name}`" for name in names)


def no_intercept(text: str) -> InputError:
    """Build the error for a formula without an intercept."""
    return InputError(
        f"formula {text!r} has no intercept; covariates adjust around it, so leave it in"
    )


def parse(text: str) -> Any:
    """Parse a one-sided formula into terms.

    Raises
    ------
    InputError
        If it cannot be read, has a left side, or contains anything but columns, arithmetic and
        known functions.
    """
    import formulaic

    limit_terms(text)
    random = random_intercepts(text)[1]
    if random:
        raise InputError(
            f"formula {text!r} has the random intercept (1 | {random[0]}), and only fixed terms "
            "are possible here: leave it out"
        )
    try:
        parsed = formulaic.Formula(text)
    except Exception as error:  # its own errors and SyntaxError, over several lines
        raise InputError(f"cannot read formula {text!r}: {_reason(str(error))}") from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise InputError(
            f"cannot read formula {text!r}: a formula has no left-hand side here, e.g. "
            "'~ age + sex'"
        )
    for term in parsed:
        for factor in term.factors:
            if factor.eval_method.name == "PYTHON":
                _refuse_code(factor.expr, text)
    if "".join(text.split()) != "~1" and not any(columns_of(term) for term in parsed):
        raise InputError(f"formula {text!r} names no column: leave it out")
    return parsed


def _reason(message: str) -> str:
    """Return the reason why a formula could not be read, from the message of the parser."""
    first = (message.splitlines() or ["it is not a formula"])[0]
    operator = re.match(r"Operator `(.*?)` ", first)
    if operator is None:
        return first
    signs = " and ".join(repr(c) for c in operator[1])
    return f"a term is missing next to {signs}; write columns joined by +, as in '~ age + sex'"


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


def bare_columns(text: str) -> set[str]:
    """Return the names of the columns that a formula uses as they are, outside of functions."""
    factors = (factor for term in parse(text) for factor in term.factors)
    return {str(f.expr) for f in factors if f.eval_method.name == "LOOKUP"}


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
    limit_code(tree, text)
