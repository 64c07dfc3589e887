"""Figures of an analysis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hiercorr import plotting
from hiercorr.analysis.plan import Plan
from hiercorr.analysis.steps import Part
from hiercorr.analysis.units import Units
from hiercorr.results.pairs import effects

Draw = Callable[[], Any]


def figures(part: Part, data: Any, plan: Plan, units: Units) -> dict[str, tuple[str, Draw]]:
    """List the figures of one part.

    Parameters
    ----------
    part : Part
    data : AnnData or path
    plan : Plan
    units : Units

    Returns
    -------
    dict
        Name of the file -> caption and function that draws.
    """
    target, out = part.target, {}
    partner = _strongest(part)
    if "within" in part.results:
        plot = part.results["within"].plot
        out["partners"] = (f"Partners of {target} within samples", lambda: plot.ranked(target))
        out["volcano"] = (
            f"Partners of {target} within samples: evidence and effect size",
            lambda: plot.volcano(target),
        )
        if partner is not None:
            out["forest"] = (
                f"{target} and {partner} in each sample",
                lambda: plot.forest(partner),
            )
        out["strip"] = (f"Strongest partners of {target} in each sample", lambda: plot.strip())
    if part.evidence is not None:
        out["levels"] = (
            "Correlation within and between samples",
            lambda: plotting.levels(part.evidence),  # type: ignore[arg-type]
        )
    if partner is not None:
        out["cells"] = (
            f"{target} and {partner}: cells, and samples on top",
            lambda: plotting.pair_scatter(
                data,
                gene_a=target,
                gene_b=partner,
                sample=units.sample,
                layer=plan.layer,
                depth=plan.depth,
                subset=plan.cells(part.cell_type),
                min_cells=plan.min_cells,
            ),
        )
    if part.traps is not None:
        out["traps"] = ("What dropout, depth and cells as units do", part.traps.plot)
    for name, result in part.results.items():
        if name.startswith("differential_"):
            condition = name.removeprefix("differential_")
            out[name] = (
                f"Differences of the correlation with {target} by {condition}",
                partial(result.plot.volcano, target),
            )
    return out


def _strongest(part: Part) -> str | None:
    """Return the partner with the strongest evidence within samples that could be estimated."""
    if "within" not in part.results:
        return None
    table = part.results["within"].top(part.target, n=50)
    return next((str(g) for g, r in effects(table).items() if np.isfinite(r)), None)
