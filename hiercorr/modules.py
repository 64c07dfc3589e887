"""Modules of genes from a correlation matrix, their stability over samples, and exports for network tools."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from hiercorr.errors import InputError, one_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional

Array = NDArray[np.float64]
MODULE_METHODS = ("leiden", "hierarchical")


@dataclass(frozen=True)
class Modules:
    """Modules and how far they can be trusted.

    Attributes
    ----------
    genes : DataFrame
        Indexed by gene: ``module`` (1 is the largest; 0: in none), ``connectivity`` (mean weight to its module).
    table : DataFrame
        Indexed by module: size, mean_correlation and, where samples were left out, stability: the mean over samples of the
        largest Jaccard overlap with a module found without that sample.
    """

    genes: pd.DataFrame
    table: pd.DataFrame

    def of(self, module: int) -> list[str]:
        """Genes of a module, best connected first."""
        if module not in self.table.index:
            raise InputError(f"there is no module {module}; there are {len(self.table)}")
        part = self.genes[self.genes["module"] == module]
        return list(part.sort_values("connectivity", ascending=False, kind="stable").index)

    def __repr__(self) -> str:
        return f"<Modules: {len(self.table)} of {len(self.genes)} genes>\n{self.table.round(2).to_string()}"

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(border=0)


def find_modules(
    result: CorrelationResult,
    method: str = "leiden",
    *,
    q: float | None = 0.05,
    min_correlation: float = 0.0,
    power: float = 1.0,
    signed: bool = True,
    resolution: float = 1.0,
    n_modules: int | None = None,
    min_size: int = 3,
    without: Callable[[str], CorrelationResult] | None = None,
    seed: int = 0,
) -> Modules:
    r"""Group genes whose correlations are high among themselves.

    The weight of a pair is :math:`|r|^{power}` (0 for negative ones where `signed`), 0 where it misses a threshold or is not
    estimable.

    Parameters
    ----------
    result : CorrelationResult
        All pairs.
    method : {"leiden", "hierarchical"}
        Leiden communities of the weighted graph (modularity), or average linkage of ``1 - weight``.
    q : float or None
        Largest q-value of a pair that counts; None: no threshold.
    min_correlation : float
        Smallest size of the correlation.
    power : float
        Soft threshold, as in WGCNA.
    signed : bool
        Negative correlations do not join genes.
    resolution : float
        Of Leiden: higher gives more modules.
    n_modules : int, optional
        Of the hierarchical tree; None: cut at weight ``min_correlation ** power`` or 0.3 ** power if that is 0.
    min_size : int
        Smaller groups are module 0.
    without : callable, optional
        Given the name of a sample, a result without it; modules are found again and compared. For example
        ``lambda s: hc.CSCore(adata, "donor", subset=adata.obs["donor"] != s).fit()``.
    seed : int

    Returns
    -------
    Modules

    References
    ----------
    Traag, Waltman & van Eck 2019, Scientific Reports 9:5233; Langfelder & Horvath 2008, BMC Bioinformatics 9:559.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.modules import find_modules
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "patient_id", genes=60, depth="total_counts").fit()
    >>> len(find_modules(r, min_correlation=0.3).table) >= 2
    True
    """
    one_of("method", method, MODULE_METHODS)
    if result.target is not None:
        raise InputError(
            "modules need all pairs; this result holds one target: fit without target="
        )
    cut = n_modules, (min_correlation or 0.3) ** power
    weight = _weights(result, q, min_correlation, power, signed)
    found = _group(weight, result.genes, method, resolution, cut, min_size, seed)
    r = np.array(result.matrix(), float)
    connectivity = np.full(len(found), np.nan)
    rows = {}
    for module in range(1, int(found.max()) + 1):
        at = np.flatnonzero(found.to_numpy() == module)
        inside = weight[np.ix_(at, at)]
        connectivity[at] = inside.sum(1) / (len(at) - 1)
        pairs = r[np.ix_(at, at)][np.triu_indices(len(at), 1)]
        rows[module] = {"size": len(at), "mean_correlation": float(np.nanmean(pairs))}
    genes = pd.DataFrame(
        {"module": found, "connectivity": connectivity}, index=found.index.rename("gene")
    )
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["size", "mean_correlation"]
    ).rename_axis("module")
    if without is not None:
        # Fewer samples have larger q-values: as many pairs are kept as before, the strongest, instead of those that pass.
        edges = int((weight > 0).sum() // 2)
        others = []
        for sample in result.dataset["sample"].values:
            left = without(str(sample))
            part = _strongest(_weights(left, None, min_correlation, power, signed), edges)
            others.append(_group(part, left.genes, method, resolution, cut, min_size, seed))
        table["stability"] = _stability(found, others)
    return Modules(genes, table)


def write_graphml(
    result: CorrelationResult,
    path: str | Path,
    q: float | None = 0.05,
    min_correlation: float = 0.0,
    modules: Modules | None = None,
) -> Path:
    """Write the network as GraphML (Cytoscape, Gephi, igraph), with modules as a node attribute.

    Parameters
    ----------
    result : CorrelationResult
    path : str or Path
        Written whole or not at all, replacing an earlier file.
    q, min_correlation
        As for :meth:`CorrelationResult.to_networkx`.
    modules : Modules, optional
    """
    graph = result.to_networkx(q, min_correlation)
    import networkx as nx

    from hiercorr.runtime.files import write_text

    if modules is not None:
        nx.set_node_attributes(
            graph, {g: int(m) for g, m in modules.genes["module"].items()}, "module"
        )
    return write_text(Path(path), "\n".join(nx.generate_graphml(graph)))


def _weights(
    result: CorrelationResult, q: float | None, least: float, power: float, signed: bool
) -> Array:
    r = np.array(result.matrix(), float)
    keep = np.isfinite(r) & (np.abs(r) >= least)
    if q is not None:
        if "q_value" not in result.dataset or not bool(result.dataset["q_value"].notnull().any()):
            raise InputError("this result has no q-values; pass q=None and min_correlation=")
        keep &= result.dataset["q_value"].values <= q
    if signed:
        keep &= r > 0
    weight = np.where(keep, np.abs(np.nan_to_num(r)) ** power, 0.0)
    np.fill_diagonal(weight, 0.0)
    return (weight + weight.T) / 2


def _strongest(weight: Array, edges: int) -> Array:
    """The same weights with all but the largest set to 0."""
    upper = weight[np.triu_indices(len(weight), 1)]
    if edges >= (upper > 0).sum():
        return weight
    return np.where(
        weight >= np.partition(upper, len(upper) - edges)[len(upper) - edges], weight, 0.0
    )


def _group(
    weight: Array,
    genes: pd.Index,
    method: str,
    resolution: float,
    cut: tuple[int | None, float],
    min_size: int,
    seed: int,
) -> pd.Series:
    if not weight.any():
        raise InputError(
            "no pair of genes passes the thresholds: there is nothing to group; raise q= or lower min_correlation="
        )
    label = _leiden(weight, resolution, seed) if method == "leiden" else _tree(weight, *cut)
    names, code, size = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(1, len(names) + 1)
    rank[size < max(min_size, 2)] = 0
    return pd.Series(rank[code], genes)


def _leiden(weight: Array, resolution: float, seed: int) -> NDArray[np.int64]:
    igraph = optional("igraph", "Leiden modules")
    graph = igraph.Graph.Weighted_Adjacency(weight, mode="undirected", loops=False)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden(
            "modularity", weights="weight", resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    return np.asarray(found.membership)


def _tree(weight: Array, n_modules: int | None, least: float) -> NDArray[np.int64]:
    distance = weight.max() - weight
    np.fill_diagonal(distance, 0.0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average")
    if n_modules is not None:
        return hierarchy.fcluster(tree, n_modules, "maxclust")
    return hierarchy.fcluster(tree, weight.max() - least, "distance")


def _stability(found: pd.Series, others: list[pd.Series]) -> list[float]:
    out = []
    for module in range(1, int(found.max()) + 1):
        mine = set(found.index[found == module])
        best = []
        for other in others:
            known = mine & set(other.index)
            groups = [set(other.index[other == k]) for k in range(1, int(other.max()) + 1)]
            best.append(
                max((len(known & g) / len(known | g) for g in groups), default=0.0)
                if known
                else np.nan
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out.append(float(np.nanmean(best)))
    return out
