"""The network of pairs that pass the thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiercorr.modules import Modules


@style.verbatim
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
    """Plot genes as nodes and pairs as edges, with genes coloured by module.

    Positive edges are red, negative ones blue and dashed; their width is proportional to the
    absolute correlation.

    Parameters
    ----------
    result : CorrelationResult
    q, min_correlation
        As for :meth:`CorrelationResult.to_networkx`.
    modules : Modules, optional
    max_genes : int
        Maximum number of genes: those with the largest sums of absolute correlations.
    n_labels : int
        Number of genes to label, those with the largest sums first.
    seed : int
        Seed of the layout.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    graph = result.to_networkx(q, min_correlation)
    nx = optional("networkx", "graphs")
    strength = {g: sum(abs(d["weight"]) for _, _, d in graph.edges(g, data=True)) for g in graph}
    connected = sorted((g for g in graph if graph.degree(g)), key=lambda g: -strength[g])
    if not connected:
        raise InputError(
            "no pair passes the thresholds, so there is no network to show; "
            "raise q= or lower min_correlation="
        )
    total = len(connected)
    graph = graph.subgraph(connected[:max_genes]).copy()
    for _, _, d in graph.edges(data=True):
        d["attraction"] = max(d["weight"], 0.05)
    position = nx.spring_layout(
        graph, weight="attraction", seed=seed, k=2.2 / np.sqrt(len(graph)), iterations=200
    )
    ax = style.axes(ax, 6.4, 5.6)
    for sign, colour, line in ((1, style.RED, "-"), (-1, style.BLUE, "--")):
        edges = [(a, b) for a, b, d in graph.edges(data=True) if np.sign(d["weight"]) == sign]
        width = [0.4 + 2.6 * abs(graph[a][b]["weight"]) for a, b in edges]
        nx.draw_networkx_edges(
            graph, position, edges, width=width, edge_color=colour, style=line, alpha=0.35, ax=ax
        )
    module = {
        g: int(modules.genes["module"].get(g, 0)) if modules is not None else 1 for g in graph
    }
    colours = ["#dddddd" if module[g] == 0 else style.PALETTE[(module[g] - 1) % 7] for g in graph]
    nx.draw_networkx_nodes(
        graph,
        position,
        node_size=70,
        node_color=colours,
        edgecolors="#333333",
        linewidths=0.6,
        ax=ax,
    )
    labelled = connected[: min(n_labels, len(graph))]
    x, y = ([position[g][k] for g in labelled] for k in (0, 1))
    style.label(ax, x, y, labelled)
    ax.set_axis_off()
    return style.finish(ax, result, f"network{style.shown(len(graph), total, 'connected genes')}")
