"""Plots of a result as methods: the only place where results reach up to plotting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

_NAMES = (
    "diagnostics",
    "forest",
    "heatmap",
    "module_heatmap",
    "network",
    "p_histogram",
    "qq",
    "ranked",
    "sample_scatter",
    "strip",
    "volcano",
)


class Plots:
    """Plots of a result as methods, with the arguments of :mod:`hiercorr.plotting`.

    Parameters
    ----------
    result : CorrelationResult
    """

    def __init__(self, result: object) -> None:
        self._result = result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _NAMES:
            raise AttributeError(f"no plot {name!r}; there are: {', '.join(_NAMES)}")
        from hiercorr import plotting  # above this folder, and loads matplotlib

        return partial(getattr(plotting, name), self._result)

    def __dir__(self) -> list[str]:
        return list(_NAMES)
