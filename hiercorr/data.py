"""The one door in: AnnData or a file -> validated counts, cells ordered by sample, genes by column."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import anndata as ad
import numba
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hiercorr import _kernels, _validate
from hiercorr._resources import gib
from hiercorr._sources import Source, blocks, open_source
from hiercorr.errors import InputError

MIN_CELLS = 10
METACELLS = "hiercorr_metacells"  # in uns: marks an AnnData of metacells, whose results are exploratory


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

    @property
    def median_depth(self) -> NDArray[np.float64]:
        """Median depth of the cells of each sample, shape (n_samples,)."""
        return np.array([np.median(self.depth[a:b]) for a, b in itertools.pairwise(self.starts)])

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

    def cells_where(self, keep: NDArray[np.bool_]) -> Counts:
        """The same counts in some of the cells, shape (n_cells,)."""
        position = np.cumsum(keep) - 1
        entries = keep[self.rows]
        before = np.append(0, np.cumsum(entries))
        return replace(
            self,
            rows=position[self.rows[entries]].astype(np.int32),
            values=self.values[entries],
            offsets=before[self.offsets],
            starts=np.append(0, np.cumsum(keep))[self.starts],
            depth=self.depth[keep],
            cells=self.cells[keep],
            obs=self.obs[keep],
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
    sample: str | tuple[str, str] | None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    always: Sequence[str] = (),
    allow_empty_genes: bool = False,
    place: Place | None = None,
) -> Counts:
    """Read and validate counts; the input is never modified.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts: AnnData in memory or backed (dense, CSR, CSC), or a .h5ad, .zarr or 10x .h5 file.
    sample : str, (str, str) or None
        Column of ``obs`` that names the sample (mouse, donor, patient) of each cell; two columns: a sample is what both say.
        None: all cells are one group.
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
    place : Place, optional
        Who passes over the matrix and where the entries stay. None: this process, in memory.

    Returns
    -------
    Counts

    Raises
    ------
    InputError
        If the input cannot be right.
    """
    place = place or Here()
    with open_source(data, layer) as source:
        _validate.check_gene_names(source.genes)
        keep = _validate.subset_mask(source.obs, subset)
        codes, samples = _validate.sample_codes(source.obs, sample, keep)
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        codes, samples = _validate.drop_small(codes, samples, sample, min_cells, small_samples, notes)
        given_depth = None if depth is None else _validate.given_depth(source.obs, depth)

        count, total, row_sum, seen = place.scan(source, codes, len(samples))
        if genes is None and not seen.all() and not allow_empty_genes:
            empty = source.genes[~seen]
            raise InputError(
                f"{len(empty)} of {len(seen)} genes are zero in every cell of the data, e.g. {empty[0]!r}; drop them "
                "(adata[:, adata.X.sum(0) > 0]) or say which genes to use: names, a mask, or genes=N for the N highest"
            )
        chosen = _validate.choose_genes(source.genes, genes, total, always)
        order, starts = by_sample(codes, len(samples))
        depth_all = row_sum if given_depth is None else given_depth
        _validate.check_depth(depth_all[order], source.obs.index[order], depth)
        _validate.warn_of_panel_depth(source.shape[1], depth_all[order], row_sum[order])
        rows, values, offsets = place.fill(source, Layout(codes, order, count, chosen, depth_all))
        notes["depth"] = depth if isinstance(depth, str) else "row sums" if depth is None else "given array"
        return Counts(
            rows=rows,
            values=values,
            offsets=offsets,
            starts=starts,
            depth=np.ascontiguousarray(depth_all[order], dtype=np.float64),
            cells=order,
            obs=source.obs.iloc[order],
            genes=source.genes[chosen].astype(str),
            samples=samples,
            notes=notes,
        )


@dataclass(frozen=True)
class Layout:
    """Where the entries of the matrix go: which cells and genes, in which order.

    Attributes
    ----------
    codes : ndarray of int64, shape (n_obs,)
        Sample of each cell of the source, -1 where it is not used.
    order : ndarray of int64, shape (n_cells,)
        The cells that are used, sample by sample.
    count : ndarray of int64, shape (n_vars, n_samples)
        Non-zeros of each gene in each sample.
    chosen : ndarray of int64, shape (n_genes,)
    depth : ndarray, shape (n_obs,)
    """

    codes: NDArray[np.int64]
    order: NDArray[np.int64]
    count: NDArray[np.int64]
    chosen: NDArray[np.int64]
    depth: NDArray[np.float64]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """As of :class:`Counts`."""
        flat = np.append(0, np.cumsum(self.count[self.chosen].ravel())).astype(np.int64)
        s = self.count.shape[1]
        return np.column_stack([flat[:-1].reshape(-1, s), flat[s::s]])

    @property
    def size(self) -> int:
        """Entries there will be."""
        return int(self.count[self.chosen].sum())

    def scatter(
        self, blocks: Blocks, shape: tuple[int, int], rows: NDArray[np.int32], values: NDArray[np.int32]
    ) -> None:
        """Put the entries of a matrix of this shape where they belong."""
        cursor = self.offsets[:, :-1].copy()
        column, position = positions(self.chosen, shape[1]), positions(self.order, shape[0])
        shares = np.linspace(0, self.size, numba.get_num_threads() + 1)  # of entries, so that threads have equal work
        edges = np.searchsorted(self.offsets[:, 0], shares)
        edges[0], edges[-1] = 0, len(self.offsets)
        for i, j, block in blocks:
            _kernels.counts.fill_block(
                block.indptr, block.indices, block.data, self.codes, position, column, i, j, edges, cursor, rows, values
            )


def scanned(blocks: Blocks, codes: NDArray[np.int64], n_genes: int, n_samples: int) -> Scan:
    """Add up what :meth:`Place.scan` tells over blocks of counts."""
    count, total = np.zeros((n_genes, n_samples), np.int64), np.zeros(n_genes)
    row_sum, seen = np.zeros(len(codes)), np.zeros(n_genes, bool)
    for i, j, block in blocks:
        _kernels.counts.scan_block(block.indptr, block.indices, block.data, codes, i, j, count, total, row_sum, seen)
    return count, total, row_sum, seen


Blocks = Iterable[tuple[int, int, sparse.csr_matrix]]  # first cell, first gene, entries
Scan = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


class Place(Protocol):
    """Who passes over the matrix."""

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Non-zeros per gene and sample, counts per gene, counts per cell, genes seen; refuses what is not a count."""

    def fill(self, source: Source, layout: Layout) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Rows, values and offsets as of :class:`Counts`."""


@dataclass(frozen=True)
class Here:
    """This process.

    Attributes
    ----------
    limit : int, optional
        Bytes that the entries may take in memory.
    scratch : path, optional
        Folder for a file that holds them in the place of memory.
    """

    limit: int | None = None
    scratch: str | Path | None = None

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        return scanned(_validate.checked_blocks(source), codes, source.shape[1], n_samples)

    def fill(self, source: Source, layout: Layout) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        rows, values = self._entries(layout.size)
        layout.scatter(blocks(source), source.shape, rows, values)
        return rows, values, layout.offsets

    def _entries(self, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if self.scratch is not None:
            both = scratch_array(Path(self.scratch), 2 * n)
            return both[:n], both[n:]
        if self.limit is not None and 8 * n > self.limit:
            raise InputError(
                f"the counts hold {n:,} non-zeros, which would take {gib(8 * n)} of memory, and {gib(self.limit)} may be "
                "used; pass scratch=FOLDER to keep them on disk, or choose fewer genes (genes=N)"
            )
        return np.empty(n, np.int32), np.empty(n, np.int32)


def by_sample(codes: NDArray[np.int64], n_samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells that are used, sample by sample, and where in this order each sample starts."""
    order = np.flatnonzero(codes >= 0)
    order = order[np.argsort(codes[order], kind="stable")]
    return order, np.append(0, np.cumsum(np.bincount(codes[order], minlength=n_samples))).astype(np.int64)


def positions(chosen: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Place of each of `n` things among the chosen ones, -1 if it is not."""
    out = np.full(n, -1, np.int64)
    out[chosen] = np.arange(len(chosen))
    return out


def scratch_array(folder: Path, n: int) -> NDArray[np.int32]:
    """An array in a file without a name: it is gone when nobody holds the array any more, however the process ends."""
    if not folder.is_dir():
        raise InputError(f"scratch={str(folder)!r} is not a folder")
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):  # a full disk shows now, not as a fault in the middle of the work
                os.posix_fallocate(file.fileno(), 0, max(4 * n, 1))
            else:
                file.truncate(max(4 * n, 1))
        except OSError as error:
            raise InputError(f"scratch={str(folder)!r} has no room for {gib(4 * n)}: {error}") from error
        return np.asarray(np.memmap(file, np.int32, "r+", shape=(n,))) if n else np.empty(0, np.int32)
