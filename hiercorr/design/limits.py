"""Limits of formulas: they may come from a file, and must end."""

from __future__ import annotations

import ast
import math
import re

from hiercorr.errors import InputError

MAX_LENGTH, MAX_TERMS, MAX_EXPONENT, MAX_COLUMNS = 10_000, 1_000, 20, 1_000
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_BASES = ("poly", "bs", "cs", "cr", "cc", "hashed", "lag")  # whose numbers are numbers of columns
_SIZES = ("degree", "df", "levels")


def limit_terms(text: str) -> None:
    """Raise an error if a formula is too long or expands to too many terms.

    Parameters
    ----------
    text : str
        Formula, not yet parsed: the parser would expand it.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"a formula of {len(text):,} characters is too long")
    plain = re.sub(r"`[^`]*`", "q", text).rpartition("~")[2]
    try:
        n = _terms(ast.parse(re.sub(r":|%in%", "@", plain).strip() or "1", mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the parser reports it
        signs = len(re.findall(r"\*|\^|/", plain))
        n = math.inf if signs > 8 or re.search(r"(\*\*|\^)\s*\d\d", plain) else 0
    if n > MAX_TERMS:
        raise InputError(
            f"formula {_short(text)} expands to more than {MAX_TERMS:,} terms: write out those "
            "that are needed"
        )


def _terms(node: ast.expr) -> float:
    """Return an upper bound of the number of terms of a formula in the syntax of Python."""
    if isinstance(node, ast.UnaryOp):
        return _terms(node.operand)
    if not isinstance(node, ast.BinOp):
        return 1
    left = _terms(node.left)
    if isinstance(node.op, ast.Pow | ast.BitXor):
        power = node.right.value if isinstance(node.right, ast.Constant) else math.inf
        if not isinstance(power, int | float) or not 0 <= power <= 10 or left > 100:
            return math.inf
        return sum(math.comb(int(left), k) for k in range(1, int(min(power, left)) + 1))
    right = _terms(node.right)
    if isinstance(node.op, ast.Mult | ast.Div):
        return left + right + left * right
    return left * right if isinstance(node.op, ast.MatMult) else left + right


def limit_code(tree: ast.AST, text: str) -> None:
    """Raise an error for an expression in a formula whose value may be too large to compute."""
    powers = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow)]
    if len(powers) > 3 or not all(_small(n.right, MAX_EXPONENT) for n in powers):
        raise InputError(
            f"formula {_short(text)} has too high a power: exponents are numbers up to "
            f"{MAX_EXPONENT}, in no more than 3 places; compute it as a column of obs"
        )
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            sides = (node.left, node.right)
            plain = not any(isinstance(s, ast.List | ast.Tuple) or _is_text(s) for s in sides)
            if not isinstance(node.op, _OPERATORS) or not plain:
                raise InputError(
                    f"formula {_short(text)} contains {_short(ast.unparse(node))}: only +, -, *, "
                    "/, // and % of columns and numbers are allowed; compute it as a column of obs"
                )
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _BASES:
            sizes = [k.value for k in node.keywords if k.arg in _SIZES] + node.args[1:]
            if not all(_small(s, MAX_COLUMNS) or isinstance(s, ast.List) for s in sizes):
                raise InputError(
                    f"formula {_short(text)}: degree, df and levels of {ast.unparse(node.func)} "
                    f"are numbers up to {MAX_COLUMNS:,}"
                )


def _small(node: ast.expr, limit: int) -> bool:
    """Return whether an expression is a number of moderate size."""
    if isinstance(node, ast.UnaryOp):
        return _small(node.operand, limit)
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and abs(value) <= limit


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
