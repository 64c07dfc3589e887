"""Figures of an analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hiercorr import plotting
from hiercorr.analysis.features import Features
from hiercorr.analysis.plan import Plan
from hiercorr.analysis.steps import Part
from hiercorr.analysis.units import Units
from hiercorr.results.pairs import first_estimated


@dataclass(frozen=True)
class Figure:
    """A figure to draw.

    Attributes
    ----------
    caption : str
    draw : callable
        Returns Axes or a Figure.
    shows : tuple
        The result shown and the name of the plot, so that the report can reuse the figure; empty
        for figures that are not part of a standard section.
    width : {"single", "double"}
        Columns of a journal.
    """

    caption: str
    draw: Callable[[], Any]
    shows: tuple[Any, str] | tuple[()] = ()
    width: str = "single"


def figures(
    part: Part, data: Any, plan: Plan, units: Units, features: Features
) -> dict[str, Figure]:
    """List the figures of one part.

    Parameters
    ----------
    part : Part
    data : AnnData or path
    plan : Plan
    units : Units
    features : Features

    Returns
    -------
    dict of Figure
        By the name of their files.
    """
    target, out = part.target, {}
    partner = _strongest(part)
    if "within" in part.results:
        within = part.results["within"]
        plot = within.plot
        out["partners"] = Figure(
            f"Partners of {target} within samples",
            partial(plot.ranked, target, n=25),
            (within, "ranked"),
        )
        if "p_value" in within.top(target, n=1):
            out["volcano"] = Figure(
                f"Partners of {target} within samples: evidence and effect size",
                partial(plot.volcano, target),
                (within, "volcano"),
            )
        if partner is not None:
            out["forest"] = Figure(
                f"{target} and {partner} in each sample",
                partial(plot.forest, partner),
                (within, "forest"),
            )
        out["strip"] = Figure(
            f"Strongest partners of {target} in each sample", plot.strip, (within, "strip")
        )
    if part.evidence is not None:
        out["levels"] = Figure(
            "Correlation within and between samples",
            partial(plotting.levels, part.evidence),
            (part.evidence, "levels"),
        )
    if partner is not None and {target, partner} <= set(features.genes):
        out["cells"] = Figure(
            f"{target} and {partner} in cells and in pseudobulk samples",
            partial(
                plotting.pair_scatter,
                data,
                gene_a=target,
                gene_b=partner,
                sample=units.sample,
                layer=plan.layer,
                depth=features.options(plan)["depth"],
                subset=plan.cells(part.cell_type),
                gene_names=plan.gene_names,
                min_cells=plan.min_cells,
            ),
        )
    if part.traps is not None:
        out["traps"] = Figure(
            "Dropout, sequencing depth and pseudoreplication",
            part.traps.plot,
            (part.traps, "traps"),
            width="double",
        )
    for name, result in part.results.items():
        if name.startswith("differential_"):
            condition = name.removeprefix("differential_")
            out[name] = Figure(
                f"Differences of the correlation with {target} by {condition}",
                partial(result.plot.volcano, target),
                (result, "volcano"),
            )
    return out


def _strongest(part: Part) -> str | None:
    """Return the partner with the strongest evidence within samples that could be estimated."""
    if "within" not in part.results:
        return None
    return first_estimated(part.results["within"].top(part.target, n=50))
