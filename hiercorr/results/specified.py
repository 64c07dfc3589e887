"""Text of a model that has not been fitted: its data and its specification."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from typing import Any


def sample_text(n: int, column: str | None) -> str:
    """Return a number of samples or donors, and the column that names them.

    Examples
    --------
    >>> sample_text(6, "donor")
    '6 (donor)'
    """
    return f"{n:,}" if column is None else f"{n:,} ({column})"


class Specified(ABC):
    """Model whose text states the data and the specification that it was made of."""

    @abstractmethod
    def _specification(self) -> dict[str, Any]:
        """Return labels and values; None is left out."""

    def _stated(self) -> dict[str, str]:
        found = self._specification()
        return {k: f"{v:,}" if isinstance(v, int) else str(v) for k, v in found.items() if v}

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {', '.join(f'{k} {v}' for k, v in self._stated().items())}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th>"
            f"<td style='text-align:left'>{html.escape(v)}</td></tr>"
            for k, v in self._stated().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
