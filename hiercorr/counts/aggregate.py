"""Cells -> pseudobulk: counts summed per sample (x cell type), streamed, with the columns that describe a sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr import kernels
from hiercorr._version import __version__
from hiercorr.counts import validate
from hiercorr.counts.counts import MIN_CELLS
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.design.samples import constant_columns
from hiercorr.errors import InputError, unknown_name

MIN_COUNTS = 1000
KEY = "hiercorr_pseudobulk"  # in uns: marks an AnnData that aggregate made, with its provenance


def aggregate(
    data: ad.AnnData | str | Path,
    sample: str,
    cell_type: str | None = None,
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    min_counts: int = MIN_COUNTS,
    small_samples: str = "exclude",
) -> ad.AnnData:
    r"""Sum raw counts over the cells of each sample, or of each sample and cell type.

    .. math:: T_{cj} = \sum_{i \in c} x_{ij}, \qquad L_c = \sum_{i \in c} s_i

    The matrix is read once, in blocks, sparse or dense, in memory or on disk; cells are never made dense.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` that names the sample of each cell.
    cell_type : str, optional
        Column of ``obs``: one row for each sample and cell type instead of one for each sample.
    layer, depth, subset
        As for :class:`hiercorr.CSCore`.
    min_cells, min_counts : int
        Rows with fewer cells, or a smaller sum of depths (counts), are left out (``small_samples="exclude"``) or refused
        (``"error"``).
    small_samples : {"exclude", "error"}

    Returns
    -------
    AnnData
        Samples x genes. ``X``: sums (int64); ``layers["mean"]``: counts per cell; ``obs``: n_cells, depth (sum of the
        cells' depths, counts) and every column of the input that has one value in each row; ``var``: detection;
        ``uns["hiercorr_pseudobulk"]``: what was left out, and ``varying``, the columns that vary within a row.

    Raises
    ------
    InputError
        If the input cannot be right.

    Examples
    --------
    >>> import hiercorr as hc
    >>> pb = hc.aggregate(hc.datasets.glioblastoma(), sample="sample_id", depth="total_counts")
    >>> pb.shape, int(pb.obs["n_cells"].iloc[0])
    ((10, 300), 500)
    """
    selection = Selection(
        sample,
        layer=layer,
        depth=depth,
        subset=subset,
        min_cells=min_cells,
        small_samples=small_samples,
        cell_type=cell_type,
    )
    return sum_over_cells(DataSource(data, layer), selection, min_counts)[0]


def sum_over_cells(
    data: DataSource, selection: Selection, min_counts: int = MIN_COUNTS
) -> tuple[ad.AnnData, NDArray[np.uint64]]:
    """Sum counts over the cells of each unit, as :func:`aggregate`.

    Returns
    -------
    AnnData
        Samples x genes.
    ndarray of uint64, shape (n_samples, n_genes)
        Identifies the counts of each gene in each sample, to notice changed data (:func:`hiercorr.kernels.counts.mix`).
    """
    sample, cell_type, depth = selection.sample, selection.cell_type, selection.depth
    small_samples = selection.small_samples
    if not isinstance(sample, str):
        raise InputError(
            f"sample must be the obs column with the sample of each cell, not {sample!r}"
        )
    with data.open() as source:
        validate.check_gene_names(source.genes)
        keep = validate.subset_mask(source.obs, selection.subset)
        codes, rows = _groups(source.obs, sample, cell_type, keep)
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        label = sample if cell_type is None else f"{sample} x {cell_type}"
        codes, rows = validate.drop_small(
            codes, rows, label, selection.min_cells, small_samples, notes
        )
        n, p = source.shape
        given = None if depth is None else validate.given_depth(source.obs, depth)
        sums, row_sum, detected = (
            np.zeros((len(rows), p), np.int64),
            np.zeros(n),
            np.zeros(p, np.int64),
        )
        digest = np.zeros(sums.shape, np.uint64)
        for i, j, block in validate.checked_blocks(source):
            kernels.counts.sum_block(
                block.indptr,
                block.indices,
                block.data,
                codes,
                i,
                j,
                sums,
                row_sum,
                detected,
                digest,
            )
        used = np.flatnonzero(codes >= 0)
        detected_in = len(used)
        cell_depth = row_sum if given is None else given
        validate.check_depth(cell_depth[used], source.obs.index[used], depth)
        validate.warn_of_panel_depth(p, cell_depth[used], row_sum[used])
        total = np.bincount(codes[used], cell_depth[used], len(rows))
        shallow = total < min_counts
        if shallow.any():
            worst = zip(rows[shallow][:10], total[shallow][:10], strict=True)
            text = (
                f"{shallow.sum()} of {len(rows)} rows of {label!r} have a depth below {min_counts} counts: "
                + ", ".join(f"{r!r} ({t:.0f})" for r, t in worst)
            )
            notes["excluded_shallow"] = ", ".join(str(r) for r in rows[shallow])
            codes, rows = validate.leave_out(
                codes, rows, shallow, text, "min_counts", small_samples
            )
            sums, digest = sums[~shallow], digest[~shallow]
        used = np.flatnonzero(codes >= 0)
        obs, varying = _sample_table(source.obs.iloc[used], codes[used], rows)
        obs["n_cells"] = np.bincount(codes[used], minlength=len(rows))
        obs["depth"] = np.bincount(codes[used], cell_depth[used], len(rows))
        var = pd.DataFrame(
            {"detection": detected / detected_in}, index=source.genes.astype(str).copy()
        )
        out = ad.AnnData(sums, obs=obs, var=var)
    out.layers["mean"] = sums / obs["n_cells"].to_numpy()[:, None]
    notes["depth"] = (
        depth if isinstance(depth, str) else "row sums" if depth is None else "given array"
    )
    out.uns[KEY] = {
        **notes,
        "sample": sample,
        "cell_type": cell_type or "",
        "varying": ", ".join(varying),
        "hiercorr_version": __version__,
    }
    return out, digest


def _groups(
    obs: pd.DataFrame, sample: str, cell_type: str | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], pd.Index]:
    codes, samples = validate.sample_codes(obs, sample, keep)
    if cell_type is None:
        return codes, samples
    if cell_type not in obs:
        raise unknown_name("cell_type column", cell_type, obs.columns)
    missing = np.flatnonzero(obs[cell_type].isna().to_numpy() & keep)
    if len(missing):
        raise InputError(
            f"{len(missing)} cells have no value in cell_type column {cell_type!r}, e.g. cell "
            f"{obs.index[missing[0]]!r}; fill it or leave them out with subset="
        )
    type_codes, types = pd.factorize(obs[cell_type].astype(str), sort=True)
    both = np.where(codes >= 0, codes * len(types) + type_codes, -1)
    present, inverse = np.unique(both[both >= 0], return_inverse=True)
    out = np.full(len(obs), -1, np.int64)
    out[both >= 0] = inverse
    names = [f"{samples[k // len(types)]}|{types[k % len(types)]}" for k in present]
    return out, pd.Index(names)


def _sample_table(
    obs: pd.DataFrame, codes: NDArray[np.int64], rows: pd.Index
) -> tuple[pd.DataFrame, list[str]]:
    """One row a sample of the columns with one value in each, and the names of the others."""
    kept = constant_columns(obs, codes, rows)
    varying = [str(name) for name in obs.columns if str(name) not in kept]
    for reserved in (
        "n_cells",
        "depth",
    ):  # the sums take these names; a column of the input keeps its values
        if reserved in kept:
            kept[f"{reserved}_input"] = kept.pop(reserved)
    return pd.DataFrame(kept, index=rows), varying
