"""Formula terms that vary between the cells of a sample, and terms that are constant within samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hiercorr.design import formulas
from hiercorr.errors import unknown_name


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
    terms = list(formulas.parse(_text(formula)))
    one, known = set(constant), list(known)
    cells: list[str] = []
    samples: list[str] = []
    for term in terms:
        needed = formulas.columns_of(term)
        for name in sorted(needed - set(known)):
            raise unknown_name("column in the formula", name, known)
        if needed:
            said = ":".join(
                f"`{f.expr}`" if f.expr in known and not f.expr.isidentifier() else f.expr
                for f in term.factors
            )
            (samples if needed <= one else cells).append(said)
    return cells, samples


def _text(formula: str | Sequence[str]) -> str:
    text = formula if isinstance(formula, str) else "~ " + " + ".join(f"`{c}`" for c in formula)
    return text if "~" in text else f"~ {text}"
