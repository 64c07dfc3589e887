"""Exploratory route: metacells, sums over similar cells of one sample, never across samples."""

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
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.cscore import CSCore

_DENSE_SIDE = 1000  # cells or genes up to which one sample's Gram matrix is made
_DENSE_SIZE = 2**25


def metacells(
    data: ad.AnnData | str | Path,
    sample: str,
    size: int = 20,
    *,
    labels: str | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    n_genes: int = 2000,
    n_components: int = 20,
    min_cells: int = MIN_CELLS,
    seed: int | np.random.Generator | None = None,
) -> ad.AnnData:
    """Sum counts over groups of similar cells, each within one sample.

    Within a sample a random cell that is still free takes its ``size - 1`` nearest free neighbours in the principal
    components of log-normalised counts, until fewer than `size` cells are left; those join their nearest metacell. Every
    cell is in one metacell, so that metacells share no counts. With `labels` the grouping is one made elsewhere.

    Metacells of one sample are no more independent than its cells: uncertainty still comes from samples. Correlation
    over them rises with `size`, because cell-to-cell variance is averaged away; see :func:`metacell_sensitivity`.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` that names the sample of each cell.
    size : int
        Cells of a metacell.
    labels : str, optional
        Column of ``obs`` with metacells made by SEACells, metacells-2 or another tool.
    layer, depth, subset, min_cells
        As for :class:`hiercorr.CSCore`.
    n_genes, n_components : int
        Genes (the most variable of the log-normalised ones) and principal components that neighbours are found in.
    seed : int or Generator, optional

    Returns
    -------
    AnnData
        Metacells x genes. ``X``: sums (CSR); ``obs``: sample, n_cells, depth (sum of the cells' depths, counts);
        ``uns["hiercorr_metacells"]``: how they were made.

    References
    ----------
    Morabito et al. 2023, Cell Reports Methods 3:100498 (hdWGCNA, which pools neighbours within samples).

    Examples
    --------
    >>> import hiercorr as hc
    >>> meta = hc.metacells(hc.datasets.glioblastoma(), "sample_id", size=25, depth="total_counts", seed=1)
    >>> meta.n_obs, int(meta.obs["n_cells"].min())
    (200, 25)
    """
    counts = read_counts(
        data,
        Selection(sample=sample, layer=layer, depth=depth, subset=subset, min_cells=min_cells),
        allow_empty_genes=True,
    )
    x = _matrix(counts)
    if labels is None:
        if not 2 <= size <= counts.cells_per_sample.min():
            raise InputError(
                f"size={size} must lie between 2 and the cells of the smallest sample, {counts.cells_per_sample.min()}"
            )
        group = _group(counts, x, size, n_genes, n_components, np.random.default_rng(seed))
        names = None
    else:
        group, names = _given(counts, labels)
    n = int(group.max()) + 1
    member = sparse.csr_matrix(
        (np.ones(len(group), np.int64), (group, np.arange(len(group)))), shape=(n, len(group))
    )
    of = np.empty(n, np.int64)
    of[group] = np.repeat(np.arange(counts.n_samples), counts.cells_per_sample)
    obs = pd.DataFrame(
        {
            sample: pd.Categorical.from_codes(of, list(counts.samples)),
            "n_cells": np.bincount(group, minlength=n),
            "depth": np.bincount(group, counts.depth, n),
        },
        index=names if names is not None else pd.Index([f"metacell{k}" for k in range(n)]),
    )
    out = ad.AnnData((member @ x).tocsr(), obs=obs, var=pd.DataFrame(index=counts.genes))
    made = (
        {"labels": labels}
        if labels
        else {"size": size, "n_genes": n_genes, "n_components": n_components}
    )
    out.uns[METACELLS] = {
        **made,
        "seed": seed if isinstance(seed, int) else "",
        "n_cells": counts.n_cells,
    }
    return out


def metacell_sensitivity(
    data: ad.AnnData | str | Path,
    sample: str,
    target: str,
    genes: Sequence[str] | ArrayLike | int | None = None,
    sizes: Sequence[int] = (5, 10, 20, 50),
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    n_genes: int = 2000,
    n_components: int = 20,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """How the within-sample correlation with a target depends on the size of metacells; size 1 is the cells.

    Parameters
    ----------
    data, sample, layer, depth, subset, n_genes, n_components, seed
        As for :func:`metacells`.
    target : str
    genes : sequence of str, bool mask or int, optional
        Partners to show. None: the 10 with the strongest evidence in the cells.
    sizes : sequence of int

    Returns
    -------
    DataFrame
        One row a size: n_metacells, median absolute correlation and share at q < 0.05 over all genes, agreement (Pearson
        correlation of the estimates with those of cells), then the correlation of each partner.
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"layer": layer, "depth": depth, "subset": subset}
    rows: dict[int, dict[str, float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = CSCore(data, sample, **options).fit(target=target)
        base = cells.matrix().loc[target]
        shown = cells.top(n=10).index if genes is None else _partners(cells.genes, genes, target)
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


def _partners(known: pd.Index, genes: Any, target: str) -> pd.Index:
    if isinstance(genes, int):
        return known.drop(target)[:genes]
    for gene in genes:
        if gene not in known:
            raise unknown_name("gene", gene, known)
    return pd.Index(genes)


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
    scaled = sparse.diags(np.median(counts.depth) / counts.depth) @ x.astype(float)
    logs = scaled.log1p().tocsc()
    mean = np.asarray(logs.mean(0)).ravel()
    variance = np.asarray(logs.multiply(logs).mean(0)).ravel() - mean**2
    logs = logs[:, np.argsort(-variance, kind="stable")[:n_genes]].tocsr()
    group = np.empty(counts.n_cells, np.int64)
    n = 0
    for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True):
        part = _components(logs[a:b], n_components, rng)
        own = _pool(part, size, rng)
        group[a:b] = own + n
        n += int(own.max()) + 1
    return group


def _components(logs: sparse.csr_matrix, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Principal components of one sample's cells."""
    n, p = logs.shape
    k = min(k, n - 1, p - 1)
    mean = np.asarray(logs.mean(0)).ravel()
    if min(n, p) <= _DENSE_SIDE and n * p <= _DENSE_SIZE:  # exact, and faster than iterations
        x = logs.toarray() - mean
        small = x.T @ x if p < n else x @ x.T
        value, vector = linalg.eigh(small, subset_by_index=(len(small) - k, len(small) - 1))
        return x @ vector if p < n else vector * np.sqrt(np.maximum(value, 0))
    centred = LinearOperator(  # the mean is taken off the product, so the matrix stays sparse
        logs.shape,
        matvec=lambda v: logs @ v.ravel() - mean @ v.ravel(),
        rmatvec=lambda v: logs.T @ v.ravel() - mean * v.sum(),
        dtype=float,
    )
    u, d, _ = svds(centred, k=k, v0=rng.standard_normal(min(n, p)))
    return u * d


def _pool(points: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Greedy pools of nearest free neighbours."""
    free = np.ones(len(points), bool)
    group = np.full(len(points), -1, np.int64)
    norm = (points**2).sum(1)
    n = 0
    for seed in rng.permutation(len(points)):
        if free.sum() < size:
            break
        if not free[seed]:
            continue
        distance = np.where(free, norm - 2 * points @ points[seed], np.inf)
        distance[seed] = -np.inf
        taken = np.argpartition(distance, size - 1)[:size]
        group[taken], free[taken] = n, False
        n += 1
    left = np.flatnonzero(free)
    if len(left):
        centres = np.array([points[group == g].mean(0) for g in range(n)])
        group[left] = ((points[left, None] - centres) ** 2).sum(2).argmin(1)
    return group


def _given(counts: Counts, labels: str) -> tuple[NDArray[np.int64], pd.Index]:
    if labels not in counts.obs:
        raise unknown_name("labels column", labels, counts.obs.columns)
    column = counts.obs[labels]
    if column.isna().any():
        raise InputError(
            f"{int(column.isna().sum())} cells have no metacell in {labels!r}; leave them out with subset="
        )
    codes, names = pd.factorize(column.astype(str))
    sample = np.repeat(np.arange(counts.n_samples), counts.cells_per_sample)
    lowest, highest = (
        pd.Series(sample).groupby(codes).agg(how).to_numpy() for how in ("min", "max")
    )
    mixed = np.flatnonzero(lowest != highest)
    if len(mixed):
        raise InputError(
            f"{len(mixed)} metacells of {labels!r} hold cells of several samples, e.g. {names[mixed[0]]!r}: then no "
            "sample is a unit any more; make them within each sample"
        )
    single = float(np.mean(np.bincount(codes) == 1))
    if single > 0.5:
        warn(f"{single:.0%} of the metacells of {labels!r} hold one cell", DataWarning)
    return codes.astype(np.int64), pd.Index(names)
