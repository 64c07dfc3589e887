"""Pairs without a correlation: those that could not be estimated, and those beyond -1 or 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr.schema import Flag


@dataclass(frozen=True)
class Missing:
    """Numbers of entries of a pair variable, except for genes with themselves.

    Attributes
    ----------
    lost : int
        Without a correlation and without a test.
    beyond : int
        Without a correlation, because the estimate lies beyond -1 or 1, but with a test.
    entries : int
        All entries.
    """

    lost: int = 0
    beyond: int = 0
    entries: int = 0

    def __add__(self, other: Missing) -> Missing:
        """Return the numbers of both."""
        return Missing(
            self.lost + other.lost, self.beyond + other.beyond, self.entries + other.entries
        )

    def __mul__(self, times: int) -> Missing:
        """Return the numbers of entries that are stored several times."""
        return Missing(self.lost * times, self.beyond * times, self.entries * times)

    def __str__(self) -> str:
        """State the proportions, e.g. for the representation of a result."""
        text = f"{proportion(self.lost, self.entries)} not estimable"
        if self.beyond:
            text += f", {proportion(self.beyond, self.entries)} beyond -1 or 1"
        return text

    def warning(self, reason: str = "") -> str | None:
        """Return the text of a warning, or None if all pairs have a correlation.

        Parameters
        ----------
        reason : str
            Why pairs could not be estimated.
        """
        parts = []
        if self.lost:
            because = f" ({reason})" if reason else ""
            share = proportion(self.lost, self.entries)
            parts.append(
                f"{share} of the pairs could not be estimated{because}; they are NaN and flagged"
            )
        if self.beyond:
            share = proportion(self.beyond, self.entries)
            parts.append(
                f"{share} of the pairs have an estimate beyond -1 or 1: it is withheld (see "
                "correlation_unclipped), their test is kept, and they remain in all tables"
            )
        return "; ".join(parts) + "; see result.flag_counts()" if parts else None


def count_missing(values: Mapping[str, NDArray], flag: NDArray) -> Missing:
    """Count the missing entries of arrays of pair variables.

    Parameters
    ----------
    values : mapping
        ``correlation`` and, if the pairs were tested, ``p_value`` or ``se``.
    flag : ndarray
    """
    other = (flag & int(Flag.SELF)) == 0
    missing = other & np.isnan(values["correlation"])
    test = values.get("p_value", values.get("se"))
    tested = 0 if test is None else int((missing & np.isfinite(test)).sum())
    return Missing(int(missing.sum()) - tested, tested, int(other.sum()))


def proportion(count: int, total: int) -> str:
    """Return a proportion as a percentage, which is 0.0% only for none.

    Examples
    --------
    >>> proportion(3, 10), proportion(0, 10), proportion(1, 10_000)
    ('30.0%', '0.0%', 'less than 0.1%')
    """
    share = count / max(total, 1)
    return "less than 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
