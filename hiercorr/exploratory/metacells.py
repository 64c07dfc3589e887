"""Exploratory: metacells, sums over similar cells of one sample."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, svds

from hiercorr.counts.counts import METACELLS, MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.design.samples import sample_name
from hiercorr.errors import (
    DataWarning,
    EstimationWarning,
    InputError,
    text,
    unknown_name,
    valid_seed,
    whole_number,
)
from hiercorr.results.pairs import known_gene
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.cscore import CSCore

_SIZE, _N_GENES, _N_COMPONENTS = 20, 2000, 20  # defaults
_DENSE_SIDE = 1000  # maximum number of cells or genes for which a Gram matrix is computed
_DENSE_SIZE = 2**25


def metacells(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    size: int = _SIZE,
    *,
    labels: str | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    gene_names: str | None = None,
    n_genes: int = _N_GENES,
    n_components: int = _N_COMPONENTS,
    min_cells: int = MIN_CELLS,
    seed: int | np.random.Generator | None = None,
) -> ad.AnnData:
    """Sum counts over groups of similar cells of one sample.

    Within each sample, a randomly chosen free cell is joined with its ``size - 1`` nearest free
    neighbours in the principal components of log-normalised counts, until fewer than `size` cells
    are free; these join their nearest metacell. Every cell is in exactly one metacell, so that
    metacells share no counts. With `labels`, the metacells of another tool are used.

    Metacells of one sample are no more independent than its cells: uncertainty still comes from
    samples. Their correlation increases with `size`, because cell-to-cell variance is averaged
    out; see :func:`metacell_sensitivity`.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    size : int
        Number of cells per metacell.
    labels : str, optional
        Column of ``obs`` with metacells from SEACells, metacells-2 or another tool; excludes
        `size`, `n_genes` and `n_components`.
    layer, depth, subset, gene_names, min_cells
        As for :class:`hiercorr.CSCore`.
    n_genes, n_components : int
        Number of most variable genes (of log-normalised counts) and of principal components used
        to find neighbours.
    seed : int or Generator, optional
        Seed of the order in which cells are chosen.

    Returns
    -------
    AnnData
        Metacells x genes. ``X``: sums (CSR); ``obs``: sample, n_cells, depth (sum of the cells'
        depths, counts); ``var``: gene_id, the names in the data, with `gene_names`;
        ``uns["hiercorr_metacells"]``: the options used.

    References
    ----------
    Morabito et al. 2023, Cell Reports Methods 3:100498 (hdWGCNA, which pools neighbours within
    samples).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> meta = hc.metacells(adata, "sample_id", size=25, depth="total_counts", seed=1)
    >>> meta.n_obs, int(meta.obs["n_cells"].min())
    (200, 25)
    """
    sample = sample_name(sample)
    text("labels", labels, optional=True)
    _check_neighbours(n_genes, n_components, seed)
    whole_number("size", size)
    if labels is not None:
        for name, value, default in (
            ("size", size, _SIZE),
            ("n_genes", n_genes, _N_GENES),
            ("n_components", n_components, _N_COMPONENTS),
        ):
            if value != default:
                raise InputError(
                    f"{name}={value!r} has no effect with labels=, which defines the metacells: "
                    "leave it out"
                )
    counts = read_counts(
        data,
        Selection(
            sample=sample,
            layer=layer,
            depth=depth,
            subset=subset,
            gene_names=gene_names,
            min_cells=min_cells,
        ),
    )
    x = _matrix(counts)
    if labels is None:
        if not 2 <= size <= counts.cells_per_sample.min():
            raise InputError(
                f"size={size} must lie between 2 and the cells of the smallest sample, "
                f"{counts.cells_per_sample.min()}"
            )
        group = _group(counts, x, size, n_genes, n_components, np.random.default_rng(seed))
        names = pd.Index([f"metacell{k}" for k in range(int(group.max()) + 1)])
        options: dict[str, Any] = {"size": size, "n_genes": n_genes, "n_components": n_components}
    else:
        group, names = _labelled(counts, labels)
        options = {"labels": labels}
    out = _sums(counts, x, sample, group, names)
    out.uns[METACELLS] = {
        **counts.attributes,
        **options,
        "seed": seed if isinstance(seed, int) else "",
        "n_cells": counts.n_cells,
    }
    return out


def _check_neighbours(n_genes: int, n_components: int, seed: Any) -> None:
    whole_number("n_genes", n_genes, 2)
    whole_number("n_components", n_components)
    valid_seed(seed)


def _sums(
    counts: Counts, x: sparse.csr_matrix, sample: str, group: NDArray[np.int64], names: pd.Index
) -> ad.AnnData:
    """Sum counts, cells and depths over the cells of each metacell."""
    n = len(names)
    member = sparse.csr_matrix(
        (np.ones(len(group), np.int64), (group, np.arange(len(group)))), shape=(n, len(group))
    )
    code = np.empty(n, np.int64)
    code[group] = np.repeat(np.arange(counts.n_samples), counts.cells_per_sample)
    obs = pd.DataFrame(
        {
            sample: pd.Categorical.from_codes(code, list(counts.samples)),
            "n_cells": np.bincount(group, minlength=n),
            "depth": np.bincount(group, counts.depth, n),
        },
        index=names,
    )
    var = pd.DataFrame(counts.gene_ids, index=counts.genes)
    return ad.AnnData((member @ x).tocsr(), obs=obs, var=var)


def metacell_sensitivity(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    target: str,
    genes: Sequence[str] | int | None = None,
    sizes: Sequence[int] = (5, 10, 20, 50),
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    gene_names: str | None = None,
    n_genes: int = _N_GENES,
    n_components: int = _N_COMPONENTS,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Estimate within-sample correlations with a target over metacells of several sizes.

    Parameters
    ----------
    data, sample, layer, depth, subset, gene_names, n_genes, n_components, seed
        As for :func:`metacells`.
    target : str
        Target gene.
    genes : sequence of str or int, optional
        Partners to show, or the number of first genes to show. None: the 10 partners with the
        strongest evidence over cells.
    sizes : sequence of int
        Numbers of cells per metacell. Size 1, the cells themselves, is always included.

    Returns
    -------
    DataFrame
        One row per size: n_metacells; over all genes the median absolute correlation, the
        proportion with q < 0.05 and the agreement (Pearson correlation with the estimates over
        cells); then the correlation with each partner.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> hc.metacell_sensitivity(adata, "sample_id", "FTL", **options)  # doctest: +SKIP
    """
    sample = sample_name(sample)
    text("target", target)
    _check_neighbours(n_genes, n_components, seed)
    _check_partners(genes)
    _check_sizes(sizes)
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "layer": layer,
        "depth": depth,
        "subset": subset,
        "gene_names": gene_names,
    }
    rows: dict[int, dict[str, float]] = {}
    with warnings.catch_warnings():
        for category in (EstimationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        cells = CSCore(data, sample, **options).fit(target=target)
        target = str(cells.target)
        base = cells.matrix().loc[target]
        shown = cells.top(n=10).index if genes is None else _partners(cells, genes)
        for size in (1, *sizes):
            fit = cells
            n = int(cells.dataset.attrs["n_cells"])
            if size > 1:
                meta = metacells(
                    data,
                    sample,
                    size,
                    n_genes=n_genes,
                    n_components=n_components,
                    seed=rng,
                    **options,
                )
                n = meta.n_obs
                fit = CSCore(meta, sample, depth="depth", min_cells=2).fit(target=target)
            r = fit.matrix().loc[target].reindex(base.index)
            both = r.notna() & base.notna() & (r.index != target)
            rows[size] = {
                "n_metacells": n,
                "median_size": float(r.drop(target).abs().median()),
                "share_q05": float((fit.matrix("q_value").loc[target] < 0.05).mean()),
                "agreement": float(np.corrcoef(r[both], base[both])[0, 1]),
                **r[shown].to_dict(),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("size")


def _check_partners(genes: Any) -> None:
    if isinstance(genes, int | np.integer):
        whole_number("genes", genes)
    elif genes is not None:
        listed = isinstance(genes, Sequence | np.ndarray | pd.Index) and not isinstance(genes, str)
        if not listed or not all(isinstance(g, str) for g in genes):
            raise InputError(f"genes must be a list of names or a whole number, not {genes!r}")


def _check_sizes(sizes: Any) -> None:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray) or not len(sizes):
        raise InputError(f"sizes must be a list of whole numbers, not {sizes!r}")
    for size in sizes:
        whole_number("sizes", size)


def _partners(cells: CorrelationResult, genes: Any) -> pd.Index:
    if isinstance(genes, int | np.integer):
        return cells.genes.drop(str(cells.target))[:genes]
    names = [known_gene(cells.dataset, gene) for gene in genes]
    return pd.Index(names)


def _matrix(counts: Counts) -> sparse.csr_matrix:
    indptr = np.append(counts.offsets[:, 0], counts.offsets[-1, -1])
    return sparse.csc_matrix(
        (counts.values, counts.rows, indptr), shape=(counts.n_cells, counts.n_genes), dtype=np.int64
    ).tocsr()


def _group(
    counts: Counts,
    x: sparse.csr_matrix,
    size: int,
    n_genes: int,
    n_components: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Pool similar cells of each sample; return the metacell of each cell."""
    scaled = sparse.diags(np.median(counts.depth) / counts.depth) @ x.astype(float)
    logs = scaled.log1p().tocsc()
    mean = np.asarray(logs.mean(0)).ravel()
    variance = np.asarray(logs.multiply(logs).mean(0)).ravel() - mean**2
    logs = logs[:, np.argsort(-variance, kind="stable")[:n_genes]].tocsr()
    group = np.empty(counts.n_cells, np.int64)
    n = 0
    for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True):
        part = _components(logs[a:b], n_components, rng)
        pools = _pool(part, size, rng)
        group[a:b] = pools + n
        n += int(pools.max()) + 1
    return group


def _components(logs: sparse.csr_matrix, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Compute principal components of one sample's cells."""
    n, p = logs.shape
    k = min(k, n - 1, p - 1)
    mean = np.asarray(logs.mean(0)).ravel()
    if min(n, p) <= _DENSE_SIDE and n * p <= _DENSE_SIZE:  # exact and faster
        x = logs.toarray() - mean
        gram = x.T @ x if p < n else x @ x.T
        value, vector = linalg.eigh(gram, subset_by_index=(len(gram) - k, len(gram) - 1))
        return x @ vector if p < n else vector * np.sqrt(np.maximum(value, 0))
    centred = LinearOperator(  # the mean is subtracted from products; the matrix stays sparse
        logs.shape,
        matvec=lambda v: logs @ v.ravel() - mean @ v.ravel(),
        rmatvec=lambda v: logs.T @ v.ravel() - mean * v.sum(),
        dtype=float,
    )
    u, d, _ = svds(centred, k=k, v0=rng.standard_normal(min(n, p)))
    return u * d


def _pool(points: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Pool each cell with its nearest free neighbours, greedily and in random order."""
    free = np.ones(len(points), bool)
    group = np.full(len(points), -1, np.int64)
    norm = (points**2).sum(1)
    n = 0
    for centre in rng.permutation(len(points)):
        if free.sum() < size:
            break
        if not free[centre]:
            continue
        distance = np.where(free, norm - 2 * points @ points[centre], np.inf)
        distance[centre] = -np.inf
        taken = np.argpartition(distance, size - 1)[:size]
        group[taken], free[taken] = n, False
        n += 1
    rest = np.flatnonzero(free)
    if len(rest):
        centres = np.array([points[group == g].mean(0) for g in range(n)])
        group[rest] = ((points[rest, None] - centres) ** 2).sum(2).argmin(1)
    return group


def _labelled(counts: Counts, labels: str) -> tuple[NDArray[np.int64], pd.Index]:
    if labels not in counts.obs:
        raise unknown_name("labels column", labels, counts.obs.columns)
    column = counts.obs[labels]
    if column.isna().any():
        raise InputError(
            f"{int(column.isna().sum())} cells have no metacell in labels={labels!r}; "
            "exclude them with subset="
        )
    codes, names = pd.factorize(column.astype(str))
    sample = np.repeat(np.arange(counts.n_samples), counts.cells_per_sample)
    lowest, highest = (
        pd.Series(sample).groupby(codes).agg(how).to_numpy() for how in ("min", "max")
    )
    mixed = np.flatnonzero(lowest != highest)
    if len(mixed):
        raise InputError(
            f"{len(mixed)} metacells of labels={labels!r} contain cells of several samples, "
            f"e.g. {names[mixed[0]]!r}; form metacells within each sample, otherwise samples are "
            "not independent"
        )
    single = float(np.mean(np.bincount(codes) == 1))
    if single > 0.5:
        warn(f"{single:.0%} of the metacells of {labels!r} contain one cell", DataWarning)
    return codes.astype(np.int64), pd.Index(names)
