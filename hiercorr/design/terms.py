"""Formula terms that vary between the cells of a sample, and those constant within samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hiercorr.design import formulas
from hiercorr.errors import unknown_name


def split_terms(
    formula: str | Sequence[str], constant: Iterable[str], known: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Split a formula into terms that vary within samples and terms that do not.

    Parameters
    ----------
    formula : str or sequence of str
    constant : iterable of str
        Columns with one value in each sample.
    known : iterable of str
        All columns.

    Returns
    -------
    cell_terms, sample_terms : list of str
        Terms that vary between the cells of a sample, and those with one value per sample.
    """
    constant, known = set(constant), list(known)
    cell_terms: list[str] = []
    sample_terms: list[str] = []
    for term in formulas.parse(formulas.formula_text(formula)):
        needed = formulas.columns_of(term)
        for name in sorted(needed - set(known)):
            raise unknown_name("column in the formula", name, known)
        if needed:
            written = ":".join(
                f"`{f.expr}`" if f.expr in known and not f.expr.isidentifier() else f.expr
                for f in term.factors
            )
            (sample_terms if needed <= constant else cell_terms).append(written)
    return cell_terms, sample_terms
