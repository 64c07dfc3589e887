"""The network of pairs that pass the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.errors import InputError
from hiercorr.plotting import style
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiercorr.modules import Modules

Array = NDArray[np.float64]
_NONE = "#dddddd"  # genes of no module
_COLOURS = [*style.PALETTE[:6], style.PALETTE[6]]
_SIGNS = ((1, "#666666", "-", "positive"), (-1, style.RED, "--", "negative"))
_WIDEST = 1.8  # points


@style.verbatim
def network(
    result: CorrelationResult,
    q: float | None = 0.05,
    min_correlation: float = 0.0,
    modules: Modules | None = None,
    max_genes: int = 60,
    max_edges: int | None = None,
    n_labels: int = 30,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Plot genes as nodes and the strongest pairs as edges, with genes coloured by module.

    Targets that are no genes, such as modules in a result of their membership, are squares.

    Without `modules`, colours are those of communities of the plotted network (Louvain algorithm
    on the positive correlations). Positive edges are grey, negative ones red and dashed; their
    width increases with the absolute correlation.

    Parameters
    ----------
    result : CorrelationResult
    q, min_correlation
        As for :meth:`CorrelationResult.to_networkx`.
    modules : Modules, optional
    max_genes : int
        Maximum number of genes: those with the largest sums of absolute correlations.
    max_edges : int, optional
        Maximum number of edges: a tree of strong pairs that keeps the genes connected, and the
        pairs with the largest absolute correlations. None: twice the number of genes.
    n_labels : int
        Number of genes to label, those with the largest sums first.
    seed : int
        Seed of the layout and of the communities.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    graph = result.to_networkx(q, min_correlation)
    strength = {g: sum(abs(d["weight"]) for _, _, d in graph.edges(g, data=True)) for g in graph}
    connected = sorted((g for g in graph if graph.degree(g)), key=lambda g: -strength[g])
    if not connected:
        raise InputError(
            "no pair passes the thresholds, so there is no network to show; "
            "raise q= or lower min_correlation="
        )
    total = len(connected)
    graph = graph.subgraph(connected[:max_genes]).copy()
    n_edges = graph.number_of_edges()
    graph = _strongest_edges(graph, 2 * len(graph) if max_edges is None else max_edges)
    groups = _groups(graph, modules, seed)
    position = _positions(graph, groups, seed)
    ax = style.axes(ax, 6.4, 6.4)
    entries = [*_draw_nodes(ax, graph, groups, position), *_draw_edges(ax, graph, position)]
    sums = [t for t in ([] if result.targets is None else result.targets) if t in graph]
    entries += _draw_sums(ax, [t for t in sums if t not in result.genes], position)
    ax.set_axis_off()
    ax.margins(0.08)
    genes = style.shown(len(graph), total, "connected genes", "strongest ")
    kind = "network"
    if result.dataset.attrs.get("model") == "direct_partners":
        kind = "network of partial correlations"
    shown = f"{kind}{genes}, {graph.number_of_edges():,} of {n_edges:,} pairs"
    style.legend(ax, entries=entries, axis=False)
    style.finish(ax, result, shown if graph.number_of_edges() < n_edges else f"{kind}{genes}")
    labelled = connected[: min(n_labels, len(graph))]
    every = np.array([position[g] for g in graph])
    x, y = np.array([position[g] for g in labelled]).reshape(-1, 2).T
    style.label(ax, x, y, labelled, (every[:, 0], every[:, 1]), np.sqrt(style.look().area(60)) / 2)
    return ax


def _strongest_edges(graph: Any, n: int) -> Any:
    """Keep a spanning forest of strong edges, and the strongest of the others."""
    if graph.number_of_edges() <= n:
        return graph
    nx = optional("networkx", "graphs")
    for _, _, d in graph.edges(data=True):
        d["size"] = abs(d["weight"])
    tree = {frozenset(e) for e in nx.maximum_spanning_edges(graph, weight="size", data=False)}
    order = sorted(graph.edges(data="size"), key=lambda e: -e[2])
    others = [e[:2] for e in order if frozenset(e[:2]) not in tree]
    kept = [*map(tuple, tree), *others[: max(n - len(tree), 0)]]
    out = graph.edge_subgraph(kept).copy()
    out.add_nodes_from(graph)
    return out


def _groups(graph: Any, modules: Modules | None, seed: int) -> list[tuple[str, list[str]]]:
    """Return names and genes of the modules, or of the communities of the network."""
    if modules is not None:
        module = {g: int(modules.genes["module"].get(g, 0)) for g in graph}
        numbers = sorted(set(module.values()) - {0})
        out = [(f"module {k}", [g for g in graph if module[g] == k]) for k in numbers]
        rest = [g for g in graph if module[g] == 0]
        return out + ([("no module", rest)] if rest else [])
    nx = optional("networkx", "graphs")
    positive = nx.Graph()
    positive.add_nodes_from(graph)
    positive.add_edges_from((a, b, d) for a, b, d in graph.edges(data=True) if d["weight"] > 0)
    found = nx.community.louvain_communities(positive, weight="weight", seed=seed)
    communities = [[g for g in graph if g in c] for c in found]
    order = {g: k for k, g in enumerate(graph)}
    large = sorted((c for c in communities if len(c) > 1), key=lambda c: (-len(c), order[c[0]]))
    out = [(f"community {k + 1}", genes) for k, genes in enumerate(large)]
    single = [g for g in graph if [g] in communities]
    return out + ([("no community", single)] if single else [])


def _positions(graph: Any, groups: Sequence[tuple[str, list[str]]], seed: int) -> dict[str, Array]:
    """Lay out each group by its edges, around a centre of its own."""
    nx = optional("networkx", "graphs")
    of = {g: k for k, (_, genes) in enumerate(groups) for g in genes}
    between = nx.Graph()
    between.add_nodes_from(range(len(groups)))
    for a, b in graph.edges():
        if of[a] != of[b]:
            ties = between.get_edge_data(of[a], of[b], {"weight": 0})["weight"]
            between.add_edge(of[a], of[b], weight=ties + 1)
    radius = np.array([0.45 * np.sqrt(len(genes)) + 0.3 for _, genes in groups])
    centres = _apart(nx.circular_layout(between, scale=float(radius.sum())), radius)
    out: dict[str, Array] = {}
    for k, (_, genes) in enumerate(groups):
        part = graph.subgraph(genes)
        inner = nx.spring_layout(
            part, weight=None, seed=seed, k=1.6 / np.sqrt(max(len(genes), 1)), iterations=150
        )
        spread = np.array([inner[g] for g in genes])
        spread = (spread - spread.mean(0)) / max(np.abs(spread - spread.mean(0)).max(), 1e-9)
        for g, at in zip(genes, spread, strict=True):
            out[g] = centres[k] + at * (radius[k] if len(genes) > 1 else 0)
    return out


def _apart(centres: dict[int, Array], radius: Array, gap: float = 0.5) -> Array:
    """Pull circles together until they touch, and push them apart where they overlap."""
    at = np.array([centres[k] for k in range(len(radius))], float)
    for _ in range(200):
        at *= 0.97
        for i in range(len(at)):
            for j in range(i):
                apart = at[i] - at[j]
                distance = max(float(np.hypot(*apart)), 1e-9)
                missing = radius[i] + radius[j] + gap - distance
                if missing > 0:
                    at[i] += apart / distance * missing / 2
                    at[j] -= apart / distance * missing / 2
    return at


def _draw_edges(ax: Axes, graph: Any, position: dict[str, Array]) -> list[Any]:
    """Draw the edges of each sign, and return their entries of the legend."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    now, out = style.look(), []
    for sign, colour, line, text in _SIGNS:
        edges = [(a, b, d["weight"]) for a, b, d in graph.edges(data=True)]
        edges = [e for e in edges if np.sign(e[2]) == sign]
        if not edges:
            continue
        widths = [now.lw(0.2 + _WIDEST * abs(w)) for *_, w in edges]
        lines = [(position[a], position[b]) for a, b, _ in edges]
        drawn = LineCollection(lines, linewidths=widths, colors=colour, linestyles=line, alpha=0.45)
        ax.add_collection(drawn)
        strong = f"{text} (|r| {min(abs(e[2]) for e in edges):.2f}"
        strong += f" to {max(abs(e[2]) for e in edges):.2f})"
        out.append(Line2D([], [], color=colour, ls=line, lw=now.lw(1.4), label=strong))
    return out


def _draw_nodes(
    ax: Axes, graph: Any, groups: Sequence[tuple[str, list[str]]], position: dict[str, Array]
) -> list[Any]:
    """Draw the genes of each group, and return the entries of the legend."""
    now, out = style.look(), []
    for k, (name, genes) in enumerate(groups):
        x, y = np.array([position[g] for g in genes]).T
        colour = _NONE if name.startswith("no ") else _COLOURS[k % len(_COLOURS)]
        label = f"{name} ({len(genes):,})"
        options: dict[str, Any] = {"edgecolors": "#333333", "linewidths": now.lw(0.6), "zorder": 3}
        out.append(ax.scatter(x, y, s=now.area(60), c=colour, label=label, **options))
    return out


def _draw_sums(ax: Axes, names: Sequence[str], position: dict[str, Array]) -> list[Any]:
    """Draw targets that are no genes as squares over their nodes, and return the legend entry."""
    if not names:
        return []
    now = style.look()
    x, y = np.array([position[name] for name in names]).T
    options: dict[str, Any] = {"edgecolors": "#000000", "linewidths": now.lw(1.0), "zorder": 4}
    label = f"target ({len(names):,})"
    return [ax.scatter(x, y, s=now.area(110), c="white", marker="s", label=label, **options)]
