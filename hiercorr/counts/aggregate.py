"""Pseudobulk: counts summed per sample, or per sample and cell type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from hiercorr.counts.depth import cell_depth, check_depths, check_given, depths_of_types, of_kind
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.modalities import FEATURE_TYPES, check_features
from hiercorr.counts.names import FeatureNames, warn_of_shared
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource, Source
from hiercorr.design.levels import one_name_each
from hiercorr.design.samples import (
    constant_columns,
    joined_names,
    sample_name,
    with_combinations,
)
from hiercorr.errors import InputError, whole_number
from hiercorr.runtime.log import logged
from hiercorr.schema import GENE_ID

MIN_COUNTS = 1000
KEY = "hiercorr_pseudobulk"  # key of uns that marks a result of aggregate


def aggregate(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    cell_type: str | None = None,
    *,
    layer: str | None = None,
    depth: str | ArrayLike | Mapping[str, Any] | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    modalities: str | Sequence[str] | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    min_counts: int = MIN_COUNTS,
    small_samples: str = "exclude",
) -> ad.AnnData:
    r"""Sum raw counts over the cells of each sample, or of each sample and cell type.

    .. math:: T_{cj} = \sum_{i \in c} x_{ij}, \qquad L_c = \sum_{i \in c} s_i

    The matrix is read once, in blocks, sparse or dense, in memory or on disk; sparse cells are
    never converted to dense arrays.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    cell_type : str, optional
        Column of ``obs`` with the cell types: one row per sample and cell type instead of one per
        sample.
    layer, depth, subset, modalities, gene_names
        As for :class:`hiercorr.CSCore`.
    min_cells, min_counts : int
        Minimum number of cells, and minimum total depth (counts), per row; with several types of
        features, the depth in the first.
    small_samples : {"exclude", "error"}
        Whether rows with fewer cells or counts are excluded or raise an error.

    Returns
    -------
    AnnData
        Samples x genes. ``X``: sums (int64); ``layers["mean"]``: counts per cell; ``obs``:
        n_cells, depth (total over cells, counts; with several types of features that of the first,
        and a column ``"depth of TYPE"`` for each of the others) and all columns of the input that
        have one value per row; ``var``: detection, feature_types if there are several, and
        gene_id, the names in the data, with `gene_names`;
        ``uns["hiercorr_pseudobulk"]``: source, excluded rows, and ``varying``, the columns that
        vary within rows.

    Raises
    ------
    InputError
        If the input is not valid.

    Examples
    --------
    >>> import hiercorr as hc
    >>> pb = hc.aggregate(hc.datasets.glioblastoma(), sample="sample_id", depth="total_counts")
    >>> pb.shape, int(pb.obs["n_cells"].iloc[0])
    ((10, 300), 500)
    """
    whole_number("min_counts", min_counts, minimum=0)
    selection = Selection(
        sample_name(sample),
        layer=layer,
        depth=depth,
        subset=subset,
        min_cells=min_cells,
        small_samples=small_samples,
        cell_type=cell_type,
        modalities=modalities,
        gene_names=gene_names,
    )
    source = DataSource(data, layer, selection.gene_names)
    with logged("aggregate: sums over the cells of each %r", sample):
        return sum_over_cells(source, selection, min_counts).samples


def depth_column(kind: str) -> str:
    """Return the column of ``obs`` with the total depth in a type of features but the first."""
    return f"depth of {kind}"


@dataclass(frozen=True)
class SummedCounts:
    """Counts summed over the cells of each unit, and the cells they came from.

    Attributes
    ----------
    samples : AnnData
        Samples x genes.
    digest : ndarray of uint64, shape (n_samples, n_genes)
        Checksum of the counts of each gene in each sample (:func:`hiercorr.kernels.counts.mix`).
    selection : Selection
        The selection with its cells as a mask and its depth as an array, for reading them again.
    obs : DataFrame
        Sample of every cell of the data.
    names : FeatureNames
        Names of the genes.
    """

    samples: ad.AnnData
    digest: NDArray[np.uint64]
    selection: Selection
    obs: pd.DataFrame
    names: FeatureNames


def sum_over_cells(
    data: DataSource, selection: Selection, min_counts: int = MIN_COUNTS
) -> SummedCounts:
    """Sum counts over the cells of each unit, as :func:`aggregate`."""
    sample, cell_type = selection.sample, selection.cell_type
    if sample is None:
        raise InputError("sample= is needed: the obs column with the sample of each cell")
    label = sample if cell_type is None else f"{sample} x {cell_type}"
    with data.open() as source:
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        asked = selection.modalities is not None
        source = source.of_types(selection.modalities) if asked else source
        notes |= check_features(source.shape[1], source.features_left_out, asked)
        validate.check_gene_names(source.genes)
        warn_of_shared(selection.gene_names, source.shared_names, source.genes)
        selection = selection.aligned(source.obs.index, source.genes, source.ids)
        keep = validate.subset_mask(source.obs, selection.subset)
        source = replace(source, obs=with_combinations(source.obs, sample, keep))
        codes, units = _units(source.obs, sample, cell_type, keep)
        codes, units = validate.exclude_small(codes, units, selection, notes, label)
        check_given(source, selection.depth)
        found = _add_up(source, codes, len(units))
        total = found.sums.sum(0, dtype=float)
        if source.kinds:
            parts = depths_of_types(source, selection.depth, total, notes, codes)
        else:
            only = of_kind(selection.depth)
            parts = [cell_depth(source, only, found.row_sum, total, notes, codes)]
        each, each_sum = (np.array([part[k] for part in parts]) for k in (0, 1))
        filled = codes
        for own, own_sum in zip(each, each_sum, strict=True):
            filled = validate.without_empty_cells(filled, own, own_sum, notes)
        depths = each[0]
        dropped = filled is not codes and "depth_without" in notes  # cells that have counts
        before = units
        codes, units = validate.exclude_small(filled, units, selection, notes, label)
        if dropped or len(units) < len(before):
            found = _add_up(source, codes, len(units))
        used = np.flatnonzero(codes >= 0)
        detection = found.detected / len(used)
        check_depths(source, selection.depth, each[:, used], each_sum[:, used], used)
        deep = np.bincount(codes[used], depths[used], len(units))
        shallow = deep < min_counts
        sums, digest = found.sums, found.digest
        if shallow.any():
            notes["excluded_shallow"] = ", ".join(str(u) for u in units[shallow])
            text = _describe_shallow(units, deep, shallow, label, min_counts)
            codes, units = validate.exclude(
                codes, units, shallow, text, "min_counts", selection.small_samples
            )
            sums, digest = sums[~shallow], digest[~shallow]
            used = np.flatnonzero(codes >= 0)
        obs, varying = _unit_table(source.obs.iloc[used], codes[used], units)
        obs["n_cells"] = np.bincount(codes[used], minlength=len(units))
        obs["depth"] = np.bincount(codes[used], depths[used], len(units))
        var = pd.DataFrame({"detection": detection}, index=source.genes.astype(str).copy())
        if source.ids is not None:
            var[GENE_ID] = source.ids.to_numpy(object)
        if source.kinds:
            var[FEATURE_TYPES] = np.array(source.kinds, object)[source.kind]
            for kind, own in zip(source.kinds[1:], each[1:], strict=True):
                obs[depth_column(kind)] = np.bincount(codes[used], own[used], len(units))
        out = ad.AnnData(sums, obs=obs, var=var)
        by_kind = dict(zip(source.kinds, each, strict=True)) if source.kinds else depths
        read = replace(selection, subset=keep, depth=by_kind, min_cells=1)
        sample_of_cells, names = source.obs[[sample]].copy(), source.names
    out.layers["mean"] = sums / obs["n_cells"].to_numpy()[:, None]
    marks = {k: v for k, v in source.marks.items() if not k.startswith("gene_sets")}
    out.uns[KEY] = {
        **notes,
        **{k: v for k, v in selection.attributes.items() if k != "genes"},
        **marks,
        "min_counts": int(min_counts),
        "sample": str(sample),
        "cell_type": cell_type or "",
        "varying": ", ".join(varying),
        "hiercorr_version": __version__,
    }
    return SummedCounts(out, digest, read, sample_of_cells, names)


@dataclass(frozen=True)
class _Sums:
    """Totals from one pass over the matrix.

    Attributes
    ----------
    sums : ndarray of int64, shape (n_units, n_vars)
        Counts of each gene in the cells of each unit.
    row_sum : ndarray, shape (n_obs,)
        Counts of each cell.
    detected : ndarray of int64, shape (n_vars,)
        Number of used cells with a count of each gene.
    digest : ndarray of uint64, shape (n_units, n_vars)
        Checksum of the counts of each gene in each unit.
    """

    sums: NDArray[np.int64]
    row_sum: NDArray[np.float64]
    detected: NDArray[np.int64]
    digest: NDArray[np.uint64]


def _add_up(source: Source, codes: NDArray[np.int64], n_units: int) -> _Sums:
    n, p = source.shape
    out = _Sums(
        np.zeros((n_units, p), np.int64),
        np.zeros(n),
        np.zeros(p, np.int64),
        np.zeros((n_units, p), np.uint64),
    )
    for first_cell, first_gene, block in validate.checked_blocks(source, codes):
        kernels.counts.sum_block(
            block.indptr,
            block.indices,
            block.data,
            codes,
            first_cell,
            first_gene,
            out.sums,
            out.row_sum,
            out.detected,
            out.digest,
        )
    return out


def _describe_shallow(
    units: pd.Index,
    total: NDArray,
    shallow: NDArray[np.bool_],
    label: str,
    min_counts: int,
) -> str:
    listed = zip(units[shallow][:10], total[shallow][:10], strict=True)
    return (
        f"{shallow.sum()} of {len(units)} rows of {label!r} have a depth below {min_counts} "
        "counts: " + ", ".join(f"{u!r} ({t:.0f})" for u, t in listed)
    )


def _units(
    obs: pd.DataFrame, sample: str, cell_type: str | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], pd.Index]:
    """Return the position of each cell's unit, -1 for cells that are not used, and the names."""
    codes, samples = validate.sample_codes(obs, sample, keep)
    if cell_type is None:
        return codes, samples
    if cell_type not in obs:
        raise unknown_column("cell_type column", cell_type, obs)
    missing = np.flatnonzero(obs[cell_type].isna().to_numpy() & keep)
    if len(missing):
        raise InputError(
            f"{len(missing)} cells have no value in cell_type column {cell_type!r}, e.g. cell "
            f"{obs.index[missing[0]]!r}; fill it or leave them out with subset="
        )
    one_name_each("cell_type column", cell_type, obs[cell_type][keep])
    type_codes, types = pd.factorize(obs[cell_type].astype(str), sort=True)
    both = np.where(codes >= 0, codes * len(types) + type_codes, -1)
    present, inverse = np.unique(both[both >= 0], return_inverse=True)
    out = np.full(len(obs), -1, np.int64)
    out[both >= 0] = inverse
    names = [f"{samples[k // len(types)]}|{types[k % len(types)]}" for k in present]
    one_name = pd.Index(names)
    if not one_name.is_unique:
        raise joined_names((sample, cell_type), one_name)
    return out, one_name


def _unit_table(
    obs: pd.DataFrame, codes: NDArray[np.int64], units: pd.Index
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that are constant within units, one row per unit, and the other names."""
    constant = constant_columns(obs, codes, units)
    varying = [str(name) for name in obs.columns if str(name) not in constant]
    for reserved in ("n_cells", "depth"):  # columns of the result: rename those of the input
        if reserved in constant:
            constant[f"{reserved}_input"] = constant.pop(reserved)
    return pd.DataFrame(constant, index=units), varying
