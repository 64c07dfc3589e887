"""What all plots share: axes, colours, labels that do not overlap, the word exploratory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiercorr.errors import InputError
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's palette, told apart by colour-blind readers.
BLUE, RED, GREEN, ORANGE, PURPLE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#8a8a8a",
)
PALETTE = [BLUE, RED, GREEN, ORANGE, PURPLE, SKY, "#F0E442", "#000000"]
MARKERS = "osD^v<>Ph*"


def pyplot() -> Any:
    """Import matplotlib.pyplot."""
    return optional("matplotlib.pyplot", "plots")


def axes(ax: Axes | None, width: float = 5.0, height: float = 4.0) -> Axes:
    """The axes given, or new ones of this size in inches."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    return ax


def finish(ax: Axes, result: CorrelationResult | None, title: str) -> Axes:
    """Title (with the word exploratory where the result is) and bare spines."""
    exploratory = result is not None and bool(result.dataset.attrs.get("exploratory"))
    ax.set_title(f"{title} (exploratory)" if exploratory else title, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def label(ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> None:
    """Write names beside points, moved so that they do not overlap."""
    if not len(names):
        return
    texts = [ax.text(a, b, n, fontsize=8) for a, b, n in zip(x, y, names, strict=True)]
    adjust_text = optional("adjustText", "labels").adjust_text
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.06 * (high - low), high + 0.12 * (high - low))  # room to move them to
    ax.figure.canvas.draw()
    adjust_text(
        texts,
        x=list(x),
        y=list(y),
        ax=ax,
        expand=(1.15, 1.5),
        force_text=(0.4, 0.6),
        force_explode=(0.4, 0.8),
        iter_lim=400,
        arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
    )


def partners(result: CorrelationResult, gene: str | None) -> tuple[str, pd.DataFrame]:
    """A gene's partners that could be estimated, strongest evidence first."""
    name, _ = result._row(gene)
    table = result.top(name, n=len(result.genes))
    table = table[table["correlation"].notna()]
    if not len(table):
        raise InputError(f"no partner of {name!r} could be estimated: there is nothing to show")
    return name, table


def shown(number: int, total: int, what: str) -> str:
    """How many of how many are shown; empty if all."""
    return "" if number >= total else f", {number:,} of {total:,} {what}"


def minus_log10(p: pd.Series) -> pd.Series:
    """-log10 with p of 0 at the smallest positive float."""
    return -np.log10(p.clip(lower=np.nextafter(0, 1)))
