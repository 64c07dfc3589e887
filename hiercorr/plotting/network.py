"""The network of pairs that pass a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.result import CorrelationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiercorr.modules import Modules


def network(
    result: CorrelationResult,
    q: float | None = 0.05,
    min_correlation: float = 0.0,
    modules: Modules | None = None,
    max_genes: int = 80,
    n_labels: int = 30,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Genes as points, pairs as lines (red positive, blue and dashed negative, width by size), coloured by module.

    Parameters
    ----------
    result : CorrelationResult
    q, min_correlation
        As for :meth:`CorrelationResult.to_networkx`.
    modules : Modules, optional
    max_genes : int
        Where more genes have a pair, those with the largest sum of absolute correlations are shown, and the title says so.
    n_labels : int
        Names of the best linked genes.
    seed : int
        Of the layout.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    graph = result.to_networkx(q, min_correlation)
    import networkx as nx

    strength = {g: sum(abs(d["weight"]) for _, _, d in graph.edges(g, data=True)) for g in graph}
    linked = sorted((g for g in graph if graph.degree(g)), key=lambda g: -strength[g])
    if not linked:
        raise InputError(
            "no pair passes the thresholds: there is no network to show; raise q= or lower min_correlation="
        )
    total = len(linked)
    graph = graph.subgraph(linked[:max_genes]).copy()
    for _, _, d in graph.edges(data=True):
        d["pull"] = max(d["weight"], 0.05)
    place = nx.spring_layout(
        graph, weight="pull", seed=seed, k=2.2 / np.sqrt(len(graph)), iterations=200
    )
    ax = style.axes(ax, 6.4, 5.6)
    for sign, colour, line in ((1, style.RED, "-"), (-1, style.BLUE, "--")):
        edges = [(a, b) for a, b, d in graph.edges(data=True) if np.sign(d["weight"]) == sign]
        width = [0.4 + 2.6 * abs(graph[a][b]["weight"]) for a, b in edges]
        nx.draw_networkx_edges(
            graph, place, edges, width=width, edge_color=colour, style=line, alpha=0.35, ax=ax
        )
    module = {
        g: int(modules.genes["module"].get(g, 0)) if modules is not None else 1 for g in graph
    }
    colours = ["#dddddd" if module[g] == 0 else style.PALETTE[(module[g] - 1) % 7] for g in graph]
    nx.draw_networkx_nodes(
        graph, place, node_size=70, node_color=colours, edgecolors="#333333", linewidths=0.6, ax=ax
    )
    named = linked[: min(n_labels, len(graph))]
    style.label(ax, [place[g][0] for g in named], [place[g][1] for g in named], named)
    ax.set_axis_off()
    return style.finish(
        ax, result, f"network{style.shown(len(graph), total, 'linked genes, the strongest')}"
    )
