"""Numbers of tables as text."""

from __future__ import annotations

P_VALUES = ("p_value", "q_value")  # endings of columns with p-values


def small_number(p: float) -> str:
    """Return a p-value or q-value in scientific notation; one that underflowed is not 0.

    Examples
    --------
    >>> small_number(2.8e-32), small_number(0.0)
    ('2.8e-32', '<1e-38')
    """
    return f"{p:.1e}" if p > 0 else "<1e-38"


def p_text(p: float) -> str:
    """Return a p-value or q-value with as many digits as a reader needs.

    Examples
    --------
    >>> p_text(0.0402), p_text(1.0), p_text(0.9999), p_text(float("nan"))
    ('0.040', '1', '>0.999', '')
    """
    if p != p:
        return ""
    if p < 0.001:
        return small_number(p)
    return "1" if p == 1 else ">0.999" if p > 0.9995 else f"{p:.3f}"


def format_cell(column: str, value: object) -> str:
    """Format one entry of a table of pairs."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    column = column.partition("[")[0]  # of one group or contrast
    if column.endswith(P_VALUES):
        return p_text(value)
    whole = column in ("df", "df_denominator") and value % 1 == 0
    integer = column in ("ess_bulk", "ess_tail", "size") or column.startswith("n_") or whole
    return f"{value:.0f}" if integer else f"{value:.3f}"
