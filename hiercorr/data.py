"""The one door in: AnnData or a file -> validated counts, cells ordered by sample, genes by column."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hiercorr import _kernels
from hiercorr._sources import Source, blocks, open_source
from hiercorr.errors import DataWarning, InputError, unknown_name

PANEL_GENES = 1000  # below this many genes the row sum is a panel's, not the library's
MIN_CELLS = 10


@dataclass(frozen=True)
class Counts:
    """Validated counts of the chosen cells and genes, column by column, cells grouped by sample.

    Attributes
    ----------
    rows, values : ndarray of int32, shape (n_nonzero,)
        Cell position (cells grouped by sample) and count of every non-zero entry, gene after gene.
    offsets : ndarray of int64, shape (n_genes, n_samples + 1)
        Entries of gene j in sample c are ``offsets[j, c]:offsets[j, c + 1]``.
    starts : ndarray of int64, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.
    depth : ndarray of float64, shape (n_cells,)
        Sequencing depth of each cell, in counts.
    cells : ndarray of int64, shape (n_cells,)
        Position of each cell in the source.
    obs : DataFrame
        The source's cell table, in the order of `cells`.
    genes, samples : Index
        Names; `samples` has one entry where no sample column was named.
    notes : dict
        What was chosen and left out, for the result's attributes.
    """

    rows: NDArray[np.int32]
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    depth: NDArray[np.float64]
    cells: NDArray[np.int64]
    obs: pd.DataFrame
    genes: pd.Index
    samples: pd.Index
    notes: dict[str, Any]

    @property
    def n_cells(self) -> int:
        return len(self.depth)

    @property
    def n_genes(self) -> int:
        return len(self.genes)

    @property
    def n_samples(self) -> int:
        return len(self.samples)

    @property
    def cells_per_sample(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @property
    def detection(self) -> NDArray[np.float64]:
        """Share of cells with a count of the gene, shape (n_genes,)."""
        return (self.offsets[:, -1] - self.offsets[:, 0]) / self.n_cells

    def take(self, genes: NDArray[np.int64]) -> Counts:
        """The same counts with the genes in another order; the entries stay where they are."""
        return replace(self, offsets=self.offsets[genes], genes=self.genes[genes])

    def one_group(self) -> Counts:
        """The same counts with all cells in one group, for estimators that pool over samples."""
        return replace(
            self,
            offsets=np.ascontiguousarray(self.offsets[:, [0, -1]]),
            starts=np.array([0, self.n_cells], np.int64),
            samples=pd.Index(["all"]),
        )

    def toarray(self) -> NDArray[np.int32]:
        """Dense (n_cells, n_genes) copy, for tests and small panels."""
        out = np.zeros((self.n_cells, self.n_genes), np.int32)
        for j, (a, b) in enumerate(self.offsets[:, [0, -1]]):
            out[self.rows[a:b], j] = self.values[a:b]
        return out


def read_counts(
    data: ad.AnnData | str | Path,
    *,
    sample: str | None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    always: Sequence[str] = (),
    allow_empty_genes: bool = False,
) -> Counts:
    """Read and validate counts; the input is never modified.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts: AnnData in memory or backed (dense, CSR, CSC), or a .h5ad, .zarr or 10x .h5 file.
    sample : str or None
        Column of ``obs`` that names the sample (mouse, donor, patient) of each cell. None: all cells are one group.
    genes : sequence of str, bool mask, int, optional
        Names, a mask over all genes, or N for the N most highly expressed in the chosen cells. None: every gene that is
        expressed in them.
    layer : str, optional
        A layer's name, ``"raw"`` for ``adata.raw``, None for ``X``.
    depth : str or array of float, shape (n_obs,), optional
        Sequencing depth (counts): a numeric ``obs`` column or an array. None: row sums over all genes.
    subset : bool array, shape (n_obs,), or mapping, optional
        Cells to use, or ``{"obs column": value or list of values}``; values must match exactly.
    min_cells : int
        A sample with fewer cells is left out or refused.
    small_samples : {"exclude", "error"}
        What happens to such a sample.
    always : sequence of str
        Genes that are kept whatever `genes` selects (the target).
    allow_empty_genes : bool
        Leave out genes that are zero in all of the data instead of refusing them, where `genes` is None. Genes that are
        zero only in the chosen cells are left out with a warning.

    Returns
    -------
    Counts

    Raises
    ------
    InputError
        If the input cannot be right.
    """
    with open_source(data, layer) as source:
        if not source.genes.is_unique:
            twice = source.genes[source.genes.duplicated()].unique()
            raise InputError(
                f"{len(twice)} gene names occur more than once, e.g. {twice[0]!r}; "
                "call adata.var_names_make_unique() or use identifiers that are unique"
            )
        keep = _subset_mask(source.obs, subset)
        codes, samples = _sample_codes(source.obs, sample, keep)
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        codes, samples = _drop_small(codes, samples, sample, min_cells, small_samples, notes)
        given_depth = None if depth is None else _given_depth(source.obs, depth)

        count, total, row_sum, seen = _scan(source, codes, len(samples))
        if genes is None and not seen.all() and not allow_empty_genes:
            empty = source.genes[~seen]
            raise InputError(
                f"{len(empty)} of {len(seen)} genes are zero in every cell of the data, e.g. {empty[0]!r}; drop them "
                "(adata[:, adata.X.sum(0) > 0]) or say which genes to use: names, a mask, or genes=N for the N highest"
            )
        chosen = _choose_genes(source.genes, genes, total, always)
        order = np.flatnonzero(codes >= 0)
        order = order[np.argsort(codes[order], kind="stable")]
        depth_all = row_sum if given_depth is None else given_depth
        _check_depth(depth_all[order], source.obs.index[order], depth)
        # A depth column that equals the row sums is the panel's depth under another name.
        if source.shape[1] < PANEL_GENES and np.array_equal(depth_all[order], row_sum[order]):
            warnings.warn(
                f"depth is the sum over only {source.shape[1]} genes, which for a targeted panel follows the genes' own "
                "expression; pass depth= (a numeric obs column or an array of size factors) if the full depth is known",
                DataWarning,
                stacklevel=4,
            )
        rows, values, offsets = _fill(source, codes, order, count, chosen)
        notes["depth"] = depth if isinstance(depth, str) else "row sums" if depth is None else "given array"
        return Counts(
            rows=rows,
            values=values,
            offsets=offsets,
            starts=np.append(0, np.cumsum(np.bincount(codes[order], minlength=len(samples)))).astype(np.int64),
            depth=np.ascontiguousarray(depth_all[order], dtype=np.float64),
            cells=order,
            obs=source.obs.iloc[order],
            genes=source.genes[chosen].astype(str),
            samples=samples,
            notes=notes,
        )


def _subset_mask(obs: pd.DataFrame, subset: ArrayLike | Mapping[str, Any] | None) -> NDArray[np.bool_]:
    if subset is None:
        return np.ones(len(obs), bool)
    if isinstance(subset, Mapping):
        mask = np.ones(len(obs), bool)
        for column, value in subset.items():
            if column not in obs:
                raise unknown_name("obs column (subset)", column, obs.columns)
            wanted = list(value) if isinstance(value, list | tuple | set | np.ndarray) else [value]
            for v in wanted:
                if not (obs[column] == v).any():
                    raise unknown_name(f"value of obs column {column!r}", v, obs[column].dropna().unique())
            mask &= obs[column].isin(wanted).to_numpy()
        if not mask.any():
            raise InputError(f"subset={dict(subset)!r} leaves no cell: no cell has all of these values")
        return mask
    mask = np.asarray(subset)
    if mask.dtype != bool or mask.shape != (len(obs),):
        raise InputError(
            f"subset must be a boolean array of length {len(obs)} (one entry a cell) or {{'obs column': value}}, "
            f"not {mask.dtype} of shape {mask.shape}"
        )
    if not mask.any():
        raise InputError("subset selects no cell")
    return mask


def _sample_codes(obs: pd.DataFrame, sample: str | None, keep: NDArray[np.bool_]) -> tuple[NDArray[np.int64], pd.Index]:
    """Code of each cell's sample, -1 for cells that are not used."""
    if sample is None:
        return np.where(keep, 0, -1), pd.Index(["all"])
    if sample not in obs:
        raise unknown_name("sample column", sample, obs.columns)
    column = obs[sample]
    missing = np.flatnonzero(column.isna().to_numpy() & keep)
    if len(missing):
        raise InputError(
            f"{len(missing)} cells have no value in sample column {sample!r}, e.g. cell {obs.index[missing[0]]!r}; "
            "fill it or leave them out with subset="
        )
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    used = pd.Index(column[keep].unique())
    samples = categories[categories.isin(used)] if categories is not None else used.sort_values()
    codes = samples.get_indexer(column)
    if len(samples) == 1:
        raise InputError(
            f"sample column {sample!r} holds one sample, {samples[0]!r}: correlation within samples and its uncertainty "
            "need several; choose the column that names donors, or pool all cells with "
            "CSCore(data, sample=None).fit(estimator='pooled')"
        )
    return np.where(keep, codes, -1), samples.astype(str)


def _drop_small(
    codes: NDArray[np.int64], samples: pd.Index, sample: str | None, min_cells: int, how: str, notes: dict[str, Any]
) -> tuple[NDArray[np.int64], pd.Index]:
    if how not in ("exclude", "error"):
        raise InputError(f"small_samples must be 'exclude' or 'error', not {how!r}")
    n = np.bincount(codes[codes >= 0], minlength=len(samples))
    small = n < min_cells
    if not small.any():
        return codes, samples
    named = ", ".join(f"{s!r} ({k})" for s, k in zip(samples[small][:10], n[small][:10], strict=True))
    text = f"{small.sum()} of {len(samples)} samples in {sample!r} have fewer than {min_cells} cells: {named}"
    if how == "error" or sample is None:
        raise InputError(f"{text}; lower min_cells= or use small_samples='exclude'")
    if (~small).sum() < 2:
        raise InputError(f"{text}; fewer than 2 samples are left, lower min_cells= or choose other cells")
    warnings.warn(f"{text}; they are left out (min_cells=)", DataWarning, stacklevel=5)
    notes["excluded_samples"] = ", ".join(str(s) for s in samples[small])  # netCDF has no lists of one
    new = np.where(small, -1, np.cumsum(~small) - 1)
    return np.where(codes >= 0, new[codes], -1), samples[~small]


def _given_depth(obs: pd.DataFrame, depth: str | ArrayLike) -> NDArray[np.float64]:
    if isinstance(depth, str):
        if depth not in obs:
            raise unknown_name("depth column", depth, obs.columns)
        if not pd.api.types.is_numeric_dtype(obs[depth]):
            raise InputError(f"depth column {depth!r} is not numeric but {obs[depth].dtype}")
        return obs[depth].to_numpy(np.float64)
    values = np.asarray(depth, np.float64)
    if values.shape != (len(obs),):
        raise InputError(f"depth has shape {values.shape}; it needs one value for each of the {len(obs)} cells")
    return values


def _check_depth(depth: NDArray[np.float64], cells: pd.Index, given: object) -> None:
    bad = np.flatnonzero(~(np.isfinite(depth) & (depth > 0)))
    if len(bad):
        remedy = "leave them out with subset=" if given is None else "correct depth= or leave them out with subset="
        raise InputError(
            f"{len(bad)} cells have a depth that is not positive, e.g. cell {cells[bad[0]]!r}: {depth[bad[0]]:g}; {remedy}"
        )


def _scan(
    source: Source, codes: NDArray[np.int64], n_samples: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Non-zeros per gene and sample, counts per gene, counts per cell, genes seen; refuses what is not a count."""
    n, p = source.shape
    if len(codes) != n or len(source.genes) != p:
        raise InputError(f"the matrix is {n} x {p} but there are {len(codes)} cells and {len(source.genes)} genes")
    count = np.zeros((p, n_samples), np.int64)
    total = np.zeros(p)
    row_sum = np.zeros(n)
    seen = np.zeros(p, bool)
    for i, j, block in blocks(source):
        bad = _kernels.first_bad_count(block.data)
        if bad >= 0:
            raise _not_counts(source, i, j, block, bad)
        _kernels.scan_block(block.indptr, block.indices, block.data, codes, i, j, count, total, row_sum, seen)
    return count, total, row_sum, seen


def _not_counts(source: Source, i: int, j: int, block: sparse.csr_matrix, bad: int) -> InputError:
    value = float(block.data[bad])
    cell = i + int(np.searchsorted(block.indptr, bad, side="right")) - 1
    gene = j + int(block.indices[bad])
    where = f"cell {source.obs.index[cell]!r}, gene {source.genes[gene]!r}: {value:g}"
    if not np.isfinite(value):
        return InputError(f"the matrix holds a value that is not finite ({where}); raw counts are needed")
    if value < 0:
        return InputError(f"the matrix holds a negative value ({where}); raw counts are needed, not scaled expression")
    if value > np.iinfo(np.int32).max:
        return InputError(f"the matrix holds a value too large for a count ({where})")
    kind = "looks log-normalised" if float(np.max(block.data)) < 20 else "holds fractions"
    raw = [k for k, m in source.others.items() if _holds_counts(m)]
    hint = (
        f"raw counts seem to be in {' or '.join(raw)}" if raw else "no layer with raw counts was found in this object"
    )
    return InputError(f"the matrix {kind}, it does not hold counts ({where}); {hint}")


def _holds_counts(matrix: Any) -> bool:
    part = matrix[:100]
    part = part.to_memory() if hasattr(part, "to_memory") else part
    values = part.data if sparse.issparse(part) else np.asarray(part).ravel()
    return bool(len(values)) and _kernels.first_bad_count(np.ascontiguousarray(values)) < 0


def _choose_genes(
    names: pd.Index, genes: Sequence[str] | ArrayLike | int | None, total: NDArray[np.float64], always: Sequence[str]
) -> NDArray[np.int64]:
    for gene in always:
        if gene not in names:
            raise unknown_name("target gene", gene, names)
    keep = names.get_indexer(pd.Index(list(always), dtype=object))
    if genes is None:
        chosen = np.flatnonzero(total > 0)
        if len(chosen) < len(names):
            warnings.warn(
                f"{len(names) - len(chosen)} of {len(names)} genes have no count in the chosen cells and are left out",
                DataWarning,
                stacklevel=5,
            )
    elif isinstance(genes, int | np.integer) and not isinstance(genes, bool):
        if genes < 1:
            raise InputError(f"genes={genes}: at least one gene is needed")
        ranked = np.argsort(-total, kind="stable")[: int(genes)]
        chosen = np.sort(ranked[total[ranked] > 0])
    else:
        chosen = _named_genes(names, genes)
        empty = chosen[total[chosen] == 0]
        if len(empty):
            raise InputError(
                f"{len(empty)} of the genes asked for have no count in the chosen cells, e.g. {names[empty[0]]!r}; "
                "leave them out of genes="
            )
    zero = keep[total[keep] == 0]
    if len(zero):
        raise InputError(f"gene {names[zero[0]]!r} has no count in the chosen cells")
    if not np.isin(keep, chosen).all():
        chosen = np.sort(np.union1d(chosen, keep))
    if len(chosen) < 2:
        raise InputError(f"correlation needs at least 2 expressed genes; {len(chosen)} chosen")
    return chosen.astype(np.int64)


def _named_genes(names: pd.Index, genes: Any) -> NDArray[np.int64]:
    if isinstance(genes, str):
        raise InputError(f"genes={genes!r} is one string; pass a list of names, e.g. [{genes!r}, ...]")
    values = np.asarray(genes)
    if values.dtype == bool:
        if values.shape != (len(names),):
            raise InputError(f"the gene mask has shape {values.shape}; it needs {len(names)} entries")
        return np.flatnonzero(values)
    if values.dtype.kind in "iuf":
        raise InputError("genes must be names, a boolean mask or one integer N; positions are not accepted")
    found = names.get_indexer(values)
    if (found < 0).any():
        raise unknown_name("gene", values[np.flatnonzero(found < 0)[0]], names)
    repeated = pd.Index(values)[pd.Index(values).duplicated()]
    if len(repeated):
        raise InputError(f"gene {repeated[0]!r} is named twice in genes=")
    return found


def _fill(
    source: Source,
    codes: NDArray[np.int64],
    order: NDArray[np.int64],
    count: NDArray[np.int64],
    chosen: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Second pass: the chosen genes' entries, gene by gene and sample by sample."""
    flat = np.append(0, np.cumsum(count[chosen].ravel())).astype(np.int64)
    s = count.shape[1]
    offsets = np.empty((len(chosen), s + 1), np.int64)
    offsets[:, :s] = flat[:-1].reshape(-1, s)
    offsets[:, s] = flat[s::s]
    cursor = offsets[:, :s].copy()
    rows = np.empty(flat[-1], np.int32)
    values = np.empty(flat[-1], np.int32)
    column = np.full(source.shape[1], -1, np.int64)
    column[chosen] = np.arange(len(chosen))
    position = np.full(source.shape[0], -1, np.int64)
    position[order] = np.arange(len(order))
    for i, j, block in blocks(source):
        _kernels.fill_block(
            block.indptr, block.indices, block.data, codes, position, column, i, j, cursor, rows, values
        )
    return rows, values, offsets
