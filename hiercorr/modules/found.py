"""Modules of genes from a correlation matrix, their stability over samples, and export."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from hiercorr.errors import (
    DataWarning,
    InputError,
    instance_of,
    number,
    one_of,
    true_or_false,
    unknown_name,
    whole_number,
    without_effect,
)
from hiercorr.results.kinds import DIFFERENCES, refuse_kinds
from hiercorr.results.layout import need_all_pairs
from hiercorr.results.pairs import estimates, ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.files import check_place, write_text
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import GENE_ID

Array = NDArray[np.float64]
MODULE_METHODS = ("leiden", "hierarchical")


@dataclass(frozen=True)
class Modules:
    """Modules of genes and their stability.

    Attributes
    ----------
    genes : DataFrame
        Indexed by gene: ``module`` (1 is the largest; 0: none), ``connectivity`` (mean weight to
        the other genes of the module).
    table : DataFrame
        Indexed by module: size, mean_correlation and, if samples were omitted, stability: the mean
        over samples of the largest Jaccard index with a module found without that sample.
    """

    genes: pd.DataFrame
    table: pd.DataFrame

    def of(self, module: int) -> list[str]:
        """List the genes of a module, highest connectivity first.

        Parameters
        ----------
        module : int
            Number of the module.

        Returns
        -------
        list of str
        """
        whole_number("module", module, 0)
        if module not in self.table.index:
            raise InputError(f"there is no module {module}; there are {len(self.table)}")
        part = self.genes[self.genes["module"] == module]
        return list(part.sort_values("connectivity", ascending=False, kind="stable").index)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the genes of each module by its name, M1 for module 1.

        Returns
        -------
        dict
            As :meth:`hiercorr.CSCore.module_correlation` takes it.
        """
        return {f"M{module}": self.of(int(module)) for module in self.table.index}

    def __repr__(self) -> str:
        table = self.table.round(2).to_string()
        return f"<Modules: {len(self.table)} of {len(self.genes)} genes>\n{table}"

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
    r"""Find modules of genes that are correlated with each other.

    The weight of a pair is :math:`|r|^{power}` (0 for negative correlations if `signed`), and 0 if
    the pair does not pass the thresholds or cannot be estimated.

    Parameters
    ----------
    result : CorrelationResult
        Result with all pairs, of correlations: differences of correlation are refused. The partial
        correlations of :func:`hiercorr.direct_partners` are taken as they are: their modules are
        groups of directly connected genes, and ``mean_correlation`` is of partial correlations.
    method : {"leiden", "hierarchical"}
        Leiden communities of the weighted graph (modularity), or average linkage of
        ``1 - weight``.
    q : float or None
        Maximum q-value of a pair; None: no threshold.
    min_correlation : float
        Minimum absolute correlation.
    power : float
        Soft threshold, as in WGCNA.
    signed : bool
        Whether negative correlations are ignored.
    resolution : float
        Resolution of ``"leiden"``: higher values give more modules.
    n_modules : int, optional
        Number of modules for ``"hierarchical"``. None: cut the tree at weight
        ``min_correlation ** power``, or 0.3 ** power if `min_correlation` is 0.
    min_size : int
        Genes of smaller groups get module 0.
    without : callable, optional
        Function that returns the result without one sample, given its name; modules are found
        again and compared. For example
        ``lambda s: hc.CSCore(adata, "donor", subset=adata.obs["donor"] != s).fit()``.
    seed : int
        Seed of ``"leiden"``.

    Returns
    -------
    Modules

    References
    ----------
    Traag, Waltman & van Eck 2019, Scientific Reports 9:5233; Langfelder & Horvath 2008, BMC
    Bioinformatics 9:559.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.modules import find_modules
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "patient_id", genes=60, depth="total_counts").fit()
    >>> len(find_modules(r, min_correlation=0.3).table) >= 2
    True
    """
    thresholds = _Thresholds(q, min_correlation, power, signed)
    grouping = _Grouping(
        method, resolution, n_modules, (min_correlation or 0.3) ** power, min_size, seed
    )
    _check_all_pairs(result)
    for name, value in (("n_modules", n_modules), ("min_size", min_size)):
        if value is not None and value > len(result.genes):
            raise InputError(f"{name}={value} is more than the {len(result.genes)} genes: lower it")
    if without is not None and not callable(without):
        raise InputError(f"without must be a function of the name of a sample, not {without!r}")
    weight = thresholds.weights(result)
    found = grouping.modules(weight, result.genes)
    if not found.any():
        more = "" if n_modules is None else " or n_modules="
        warn(
            f"there is no module: no group of genes has min_size={min_size} of them; lower "
            f"min_size={more}, or give other thresholds of pairs",
            DataWarning,
        )
    genes, table = _tables(weight, found, estimates(result.dataset).astype(float))
    ids = ids_of(result.dataset)
    if ids is not None:
        genes.insert(0, GENE_ID, ids)
    if without is not None:
        # Fewer samples have larger q-values: instead of those that pass, keep the strongest pairs,
        # in the same number as before.
        edges = int((weight > 0).sum() // 2)
        any_q = replace(thresholds, q=None)
        others = []
        for sample in result.dataset["sample"].values:
            part = without(str(sample))
            instance_of("the value of without()", part, CorrelationResult, "a CorrelationResult")
            strongest = _strongest(any_q.weights(part), edges)
            others.append(grouping.modules(strongest, part.genes))
        table["stability"] = _stability(found, others)
    table.attrs = {
        "model": "find_modules",
        "method": method,
        "q": q,
        "min_correlation": min_correlation,
        "power": power,
        "signed": int(signed),
        "resolution": resolution,
        "n_modules": n_modules,
        "min_size": min_size,
        "seed": seed,
    }
    return Modules(genes, table)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise an error for options of :func:`find_modules` that are unknown or have a wrong value."""
    known = inspect.signature(find_modules)
    for name in options:
        if name == "result" or name not in known.parameters:
            others = [k for k in known.parameters if k != "result"]
            raise unknown_name("option of find_modules()", name, others)
    of = {k: p.default for k, p in known.parameters.items() if k != "result"} | dict(options)
    _Thresholds(of["q"], of["min_correlation"], of["power"], of["signed"])
    _Grouping(of["method"], of["resolution"], of["n_modules"], 1.0, of["min_size"], of["seed"])


def _check_all_pairs(result: object) -> None:
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be a CorrelationResult, not {type(result).__name__}")
    need_all_pairs(result.dataset, "modules need")
    refuse_kinds(result.dataset, "result", "modules are of correlated genes", DIFFERENCES)


def _tables(weight: Array, found: pd.Series, r: Array) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate the genes with their connectivity, and the modules."""
    connectivity = np.full(len(found), np.nan)
    rows = {}
    for module in range(1, int(found.max()) + 1):
        members = np.flatnonzero(found.to_numpy() == module)
        inside = weight[np.ix_(members, members)]
        connectivity[members] = inside.sum(1) / (len(members) - 1)
        pairs = r[np.ix_(members, members)][np.triu_indices(len(members), 1)]
        rows[module] = {"size": len(members), "mean_correlation": float(np.nanmean(pairs))}
    genes = pd.DataFrame(
        {"module": found, "connectivity": connectivity}, index=found.index.rename("gene")
    )
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["size", "mean_correlation"])
    return genes, table.rename_axis("module")


def write_graphml(
    result: CorrelationResult,
    path: str | Path,
    q: float | None = 0.05,
    min_correlation: float = 0.0,
    modules: Modules | None = None,
) -> Path:
    """Write the network as GraphML, for Cytoscape, Gephi or igraph.

    Parameters
    ----------
    result : CorrelationResult
        Result whose pairs are the edges.
    path : str or Path
        Name of the file; an existing file is replaced only after the new one is complete.
    q, min_correlation
        As for :meth:`CorrelationResult.to_networkx`.
    modules : Modules, optional
        Modules, written as a node attribute.

    Returns
    -------
    Path

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
    >>> r = hc.CSCore(adata, "sample_id", **options).fit()
    >>> import pathlib, tempfile
    >>> from hiercorr.modules import write_graphml
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_graphml(r, pathlib.Path(folder) / "network.graphml")
    ...     pathlib.Path(folder, "network.graphml").stat().st_size > 0
    True
    """
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be a CorrelationResult, not {type(result).__name__}")
    if not isinstance(path, str | Path):
        raise InputError(f"path must be the name of a file, not {path!r}")
    check_place(Path(path))
    if modules is not None and not isinstance(modules, Modules):
        raise InputError(f"modules must be from find_modules(), not {modules!r}")
    number("q", q, 0, 1, optional=True)
    number("min_correlation", min_correlation, 0, 1)
    graph = result.to_networkx(q, min_correlation)
    import networkx as nx

    if modules is not None:
        nx.set_node_attributes(
            graph, {g: int(m) for g, m in modules.genes["module"].items()}, "module"
        )
    return write_text(Path(path), "\n".join(nx.generate_graphml(graph)))


@dataclass(frozen=True)
class _Thresholds:
    """Thresholds of pairs, and the power of their weights."""

    q: float | None
    min_correlation: float
    power: float
    signed: bool

    def __post_init__(self) -> None:
        number("q", self.q, 0, 1, optional=True)
        number("min_correlation", self.min_correlation, 0, 1)
        number("power", self.power)
        if self.power <= 0:
            raise InputError(f"power must be positive, not {self.power!r}")
        true_or_false("signed", self.signed)

    def weights(self, result: CorrelationResult) -> Array:
        r = estimates(result.dataset).astype(float)
        keep = np.isfinite(r) & (np.abs(r) >= self.min_correlation)
        if self.q is not None:
            q_value = result.dataset.get("q_value")
            if q_value is None or not bool(q_value.notnull().any()):
                raise InputError("this result has no q-values; pass q=None and min_correlation=")
            keep &= q_value.values <= self.q
        if self.signed:
            keep &= r > 0
        weight = np.where(keep, np.abs(np.nan_to_num(r)) ** self.power, 0.0)
        np.fill_diagonal(weight, 0.0)
        return (weight + weight.T) / 2


@dataclass(frozen=True)
class _Grouping:
    """How genes are grouped."""

    method: str
    resolution: float
    n_modules: int | None
    cut: float  # weight at which the tree is cut if there is no number of modules
    min_size: int
    seed: int

    def __post_init__(self) -> None:
        one_of("method", self.method, MODULE_METHODS)
        number("resolution", self.resolution)
        if self.resolution <= 0:
            raise InputError(f"resolution must be positive, not {self.resolution!r}")
        whole_number("n_modules", self.n_modules, optional=True)
        whole_number("min_size", self.min_size)
        whole_number("seed", self.seed, 0)
        if self.method == "leiden":
            without_effect(n_modules=(self.n_modules, None, "method='hierarchical'"))
        else:
            without_effect(resolution=(float(self.resolution), 1.0, "method='leiden'"))

    def modules(self, weight: Array, genes: pd.Index) -> pd.Series:
        """Group genes; modules are numbered from the largest, 0 is none."""
        if not weight.any():
            raise InputError(
                "no pair of genes passes the thresholds: there is nothing to group; raise q= or "
                "lower min_correlation="
            )
        if self.method == "leiden":
            label = _leiden(weight, self.resolution, self.seed)
        else:
            label = _tree(weight, self.n_modules, self.cut)
        names, code, size = np.unique(label, return_inverse=True, return_counts=True)
        order = np.argsort(-size, kind="stable")
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(1, len(names) + 1)
        rank[size < max(self.min_size, 2)] = 0
        return pd.Series(rank[code], genes)


def _strongest(weight: Array, edges: int) -> Array:
    """Set all but the largest weights to 0."""
    upper = weight[np.triu_indices(len(weight), 1)]
    if edges >= (upper > 0).sum():
        return weight
    return np.where(
        weight >= np.partition(upper, len(upper) - edges)[len(upper) - edges], weight, 0.0
    )


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


def _tree(weight: Array, n_modules: int | None, cut: float) -> NDArray[np.int64]:
    distance = weight.max() - weight
    np.fill_diagonal(distance, 0.0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average")
    if n_modules is not None:
        return hierarchy.fcluster(tree, n_modules, "maxclust")
    return hierarchy.fcluster(tree, weight.max() - cut, "distance")


def _stability(found: pd.Series, others: list[pd.Series]) -> list[float]:
    """Compute the stability of each module."""
    out = []
    for module in range(1, int(found.max()) + 1):
        members = set(found.index[found == module])
        best = []
        for other in others:
            known = members & set(other.index)
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
