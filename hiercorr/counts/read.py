"""Reading of validated counts from AnnData or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts import validate
from hiercorr.counts.backend import LocalBackend, RemoteBackend
from hiercorr.counts.composition import Composition, composition
from hiercorr.counts.counts import Counts
from hiercorr.counts.depth import (
    CellDepth,
    cell_depth,
    check_depths,
    check_given,
    depths_of_types,
    of_kind,
)
from hiercorr.counts.layout import EntryLayout, Scan, by_sample, positions
from hiercorr.counts.modalities import Modalities, check_features
from hiercorr.counts.names import FeatureNames, warn_of_shared
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource, Source, blocks
from hiercorr.counts.targets import header_hint, targets_first
from hiercorr.design.samples import with_combinations
from hiercorr.errors import InputError

_EXAMINED = 20  # targets for which cells that were selected on either gene are looked for


def read_counts(
    data: ad.AnnData | DataSource | str | Path,
    selection: Selection,
    *,
    always: Sequence[str] = (),
    backend: LocalBackend | RemoteBackend | None = None,
    fewest: int = 2,
) -> Counts:
    """Read and validate the counts of a selection; see :class:`CountReader` for the arguments."""
    return CountReader(data, selection, always=always, backend=backend, fewest=fewest).counts


class CountReader:
    """Reader of the counts of a selection, and of further genes from the same data.

    The data are never modified. A gene outside the selection is read later from the same matrix,
    and only if its counts are still those of the first pass.

    Parameters
    ----------
    data : AnnData, DataSource or path
        Cells x genes raw counts: AnnData in memory or backed (dense, CSR, CSC), MuData, or a .h5ad,
        .h5mu, .zarr or 10x .h5 file.
    selection : Selection
        Samples, cells and genes to use.
    always : sequence of str
        Genes that are added to the selection (the target).
    backend : LocalBackend or RemoteBackend, optional
        Process or cluster that reads the matrix and stores its entries. None: this process, in
        memory.
    fewest : int
        Minimum number of genes.

    Attributes
    ----------
    counts : Counts
        Counts of the selection.

    Raises
    ------
    InputError
        If the input is not valid.
    """

    def __init__(
        self,
        data: ad.AnnData | DataSource | str | Path,
        selection: Selection,
        *,
        always: Sequence[str] = (),
        backend: LocalBackend | RemoteBackend | None = None,
        fewest: int = 2,
    ) -> None:
        self.selection = selection
        self._backend: LocalBackend | RemoteBackend = backend or LocalBackend()
        self._data = (
            data
            if isinstance(data, DataSource)
            else DataSource(data, selection.layer, selection.gene_names)
        )
        with self._data.open() as source:
            self._read(source, always, fewest)

    def _read(self, source: Source, always: Sequence[str], fewest: int) -> None:
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        source = source.of_types(self.selection.modalities)
        asked = self.selection.modalities is not None
        notes |= check_features(source.shape[1], source.features_left_out, asked)
        validate.check_gene_names(source.genes)
        warn_of_shared(self.selection.gene_names, source.shared_names, source.genes)
        self.selection = selection = self.selection.aligned(
            source.obs.index, source.genes, source.ids
        )
        keep = validate.subset_mask(source.obs, selection.subset)
        source = replace(source, obs=with_combinations(source.obs, selection.sample, keep))
        codes, samples = validate.sample_codes(source.obs, selection.sample, keep)
        codes, samples = validate.exclude_small(codes, samples, selection, notes)
        check_given(source, selection.depth)
        scan = self._backend.scan(source, codes, len(samples))
        parts = self._depths(source, codes, scan, notes)
        depths, sums = (np.array([part[k] for part in parts]) for k in (0, 1))
        filled = codes
        for depth, row_sum in zip(depths, sums, strict=True):
            filled = validate.without_empty_cells(filled, depth, row_sum, notes)
        if filled is not codes:
            codes, samples = validate.exclude_small(filled, samples, selection, notes)
            scan = self._backend.scan(source, codes, len(samples))
        kind = source.kind if source.kinds else None
        chosen = validate.choose_genes(
            source.names, selection.genes, scan.total, always, kind, fewest
        )
        order, starts = by_sample(codes, len(samples))
        check_depths(source, selection.depth, depths[:, order], sums[:, order], order)
        self._warn_of_selected_on(source.genes, scan, chosen, len(order))
        layout = EntryLayout(codes, order, scan.count, chosen, depths[0])
        rows, values, remote = self._backend.fill(source, layout)
        notes |= selection.attributes | source.marks
        if source.marks.get("gene_sets"):
            notes["gene_sets"] = int(source.genes[chosen].isin(source.marks["gene_sets"]).sum())
        self._scan, self._layout, self._genes = scan, layout, source.genes
        self._names = source.names
        self._composition = self._shares(source, parts)
        self._kind = np.zeros(len(source.genes), np.int64) if kind is None else kind
        depths = np.ascontiguousarray(depths[:, order], dtype=np.float64)
        self.counts = Counts(
            rows=rows,
            values=values,
            offsets=layout.offsets,
            starts=starts,
            depth=depths[0],
            cells=order,
            obs=source.obs.iloc[order],
            genes=source.genes[chosen].astype(str),
            samples=samples,
            notes=notes,
            remote=remote,
            modalities=_modalities(source, chosen, depths),
            composition=self._composition.take(chosen),
            ids=self._ids(chosen),
        )
        if remote is None:
            validate.warn_of_selected_on_either(self.counts)

    def _ids(self, chosen: NDArray[np.int64]) -> pd.Index | None:
        ids = self._names.ids
        return None if ids is None else ids[chosen]

    def named(self, gene: str | None) -> str | None:
        """Return the name of a gene that is given by its name or its id."""
        return None if gene is None else str(self._names.named(gene))

    def _depths(
        self, source: Source, codes: NDArray[np.int64], scan: Scan, notes: dict[str, Any]
    ) -> list[CellDepth]:
        """Return depth and row sums of the cells in each type of features."""
        given = self.selection.depth
        if source.kinds:
            return depths_of_types(source, given, scan.total, notes, codes)
        return [cell_depth(source, of_kind(given), scan.row_sum, scan.total, notes, codes)]

    def _shares(self, source: Source, found: list[CellDepth]) -> Composition:
        """Compute what each gene contributes to depths that are sums of counts."""
        total, parts = self._scan.total, []
        for t, (depth, row_sum, without) in enumerate(found):
            of_type = np.flatnonzero(source.kind == t) if source.kinds else np.arange(len(total))
            counted = np.setdiff1d(of_type, without)
            given = of_kind(self.selection.depth, source.kinds[t] if source.kinds else None)
            if given is not None and not np.array_equal(depth, row_sum):
                counted = of_type[:0]
            parts.append((of_type, counted))
        return composition(total, parts)

    @staticmethod
    def _warn_of_selected_on(
        names: pd.Index, scan: Scan, chosen: NDArray[np.int64], n_cells: int
    ) -> None:
        detected, total = scan.count[chosen].sum(1), scan.total[chosen]
        validate.warn_of_selected_on(names[chosen], detected, total, n_cells)

    @property
    def names(self) -> FeatureNames:
        """Names of the selected genes."""
        none = self._scan.total == 0
        empty = self._genes[none].astype(str)
        if self._names.ids is not None:
            empty = empty.append(self._names.ids[none].astype(str))
        return replace(self._names, genes=self.counts.genes, ids=self.counts.ids, empty=empty)

    def with_gene(self, gene: str | None) -> Counts:
        """Return the counts of the selection and of one more gene; None: of the selection."""
        return self.with_genes(() if gene is None else (gene,))

    def without_counts(self, genes: Sequence[str]) -> list[str]:
        """Return the genes that have no count in the selected cells.

        Raises
        ------
        InputError
            If a gene is unknown.
        """
        at = self._genes.get_indexer(pd.Index(genes))
        if (at < 0).any():
            error = self._names.unknown("gene (pairs=)", genes[int(np.flatnonzero(at < 0)[0])])
            raise InputError(f"{error}{header_hint(genes, at >= 0)}")
        return [gene for gene, k in zip(genes, at, strict=True) if self._scan.total[k] == 0]

    def with_genes(self, genes: Sequence[str], first: Sequence[str] = ()) -> Counts:
        """Return the counts of the selection and of more genes.

        Parameters
        ----------
        genes : sequence of str
            Names of genes, or their ids. Those of the selection change nothing.
        first : sequence of str
            Names of genes that come first, if there are several, on a cluster as well.

        Returns
        -------
        Counts
            Other genes in the order of the data.

        Raises
        ------
        InputError
            If a gene is unknown, has no count in the selected cells, or its counts have changed
            since the data were read.
        """
        names = [str(self.named(g)) if isinstance(g, str) else g for g in genes]
        joined = self._with_genes([g for g in names if g not in self.counts.genes])
        if joined.remote is None:
            for gene in names[:_EXAMINED]:
                validate.warn_of_selected_on_either(joined, gene)
            return targets_first(joined, first)
        return joined if len(first) < 2 else self._remote_first(joined, first)

    def _remote_first(self, counts: Counts, first: Sequence[str]) -> Counts:
        """Have the workers store the entries of some genes before those of the others."""
        backend = self._backend
        assert not isinstance(backend, LocalBackend)
        order = np.append(first, counts.genes[~counts.genes.isin(first)])
        chosen = self._genes.get_indexer(pd.Index(order)).astype(np.int64)
        with self._opened_again(first) as source:
            source = source.of_types(self.selection.modalities)
            return self._remote_with_genes(source, backend, chosen[: len(first)], chosen)

    def _with_genes(self, genes: list[str]) -> Counts:
        if not genes:
            return self.counts
        for gene in genes:
            if gene not in self._genes:
                raise self._names.unknown("target gene", gene)
        at = self._genes.get_indexer(pd.Index(genes)).astype(np.int64)
        empty = np.flatnonzero(self._scan.total[at] == 0)
        if len(empty):
            raise InputError(f"gene {genes[empty[0]]!r} has no count in the chosen cells")
        self._warn_of_selected_on(self._genes, self._scan, at, self.counts.n_cells)
        chosen = np.append(self._layout.chosen, at)
        order = np.lexsort((chosen, self._kind[chosen]))
        shape = (len(self._layout.codes), len(self._genes))
        modalities = self.counts.modalities
        if modalities is not None:
            modalities = replace(modalities, kind=self._kind[chosen])
        with self._opened_again(genes) as source:
            source = source.of_types(self.selection.modalities)
            if source.shape != shape or not source.genes.equals(self._genes):
                raise _changed(genes[0], "the cells or genes are not the same")
            if not isinstance(self._backend, LocalBackend):
                return self._remote_with_genes(source, self._backend, at, chosen[order])
            more_rows, more_values, more_offsets = self._some_genes(source, at)
        rows, values = self._backend.append(
            self.counts.rows, self.counts.values, more_rows, more_values
        )
        offsets = np.vstack([self.counts.offsets, more_offsets + len(self.counts.rows)])
        joined = replace(
            self.counts,
            rows=rows,
            values=values,
            offsets=offsets,
            genes=self._genes[chosen].astype(str),
            modalities=modalities,
            composition=self._composition.take(chosen),
            ids=self._ids(chosen),
        )
        return joined.take(order)

    @contextmanager
    def _opened_again(self, genes: Sequence[str]) -> Iterator[Source]:
        """Open the data for genes outside the selection."""
        try:
            with self._data.open() as source:
                yield source
        except (InputError, MemoryError):
            raise
        except Exception as error:  # backed data may have been closed or removed
            raise InputError(
                f"gene {genes[0]!r} is not among this model's genes, and the data cannot be read "
                f"again ({type(error).__name__}: {error}); keep the file open, or create a new "
                "model with the gene in genes="
            ) from error

    def _remote_with_genes(
        self,
        source: Source,
        backend: RemoteBackend,
        added: NDArray[np.int64],
        chosen: NDArray[np.int64],
    ) -> Counts:
        for position in added:
            if backend.digest(self._layout.codes, int(position)) != self._scan.digest[position]:
                raise _changed(str(self._genes[position]))
        layout = replace(self._layout, chosen=chosen)
        rows, values, remote = backend.fill(source, layout)
        return replace(
            self.counts,
            rows=rows,
            values=values,
            offsets=layout.offsets,
            genes=self._genes[chosen].astype(str),
            remote=remote,
            composition=self._composition.take(chosen),
            ids=self._ids(chosen),
        )

    def _some_genes(
        self, source: Source, added: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Read the entries of some genes; raise an error if they differ from the first pass."""
        row_of = positions(self._layout.order, source.shape[0])
        found: list[list[tuple[NDArray[np.int64], NDArray]]] = [[] for _ in added]
        for first_cell, first_gene, block in blocks(source):
            here = np.flatnonzero((added >= first_gene) & (added < first_gene + block.shape[1]))
            if not len(here):
                continue
            part = block[:, added[here] - first_gene].tocsc()
            for k, a, b in zip(here, part.indptr[:-1], part.indptr[1:], strict=True):
                found[k].append((first_cell + part.indices[a:b].astype(np.int64), part.data[a:b]))
        all_rows, all_values, all_offsets, n = [], [], [], 0
        for position, parts in zip(added, found, strict=True):
            cells = np.concatenate([c for c, _ in parts])
            values = np.concatenate([v for _, v in parts])
            used = (row_of[cells] >= 0) & (values != 0)
            cells, values = cells[used], values[used]
            order = np.argsort(row_of[cells], kind="stable")
            cells, rows = cells[order], row_of[cells][order].astype(np.int32)
            values = values[order].astype(np.int32)
            offsets = np.searchsorted(rows, self.counts.starts).astype(np.int64)[None]
            digest = kernels.counts.entry_digest(cells, values, offsets).sum()
            if digest != self._scan.digest[position]:
                raise _changed(str(self._genes[position]))
            all_rows.append(rows)
            all_values.append(values)
            all_offsets.append(offsets + n)
            n += len(rows)
        return np.concatenate(all_rows), np.concatenate(all_values), np.vstack(all_offsets)


def _modalities(
    source: Source, chosen: NDArray[np.int64], depths: NDArray[np.float64]
) -> Modalities | None:
    """Return the types of the chosen features and their depths; None if they are of one type."""
    if not source.kinds:
        return None
    kind = source.kind[chosen]
    missing = set(range(len(source.kinds))) - set(kind)
    if missing:
        raise InputError(
            f"no feature of type {source.kinds[min(missing)]!r} (modalities=) is among genes=, or "
            "none has counts in the chosen cells: name some, or leave out the type"
        )
    return Modalities(source.kinds, kind, depths)


def _changed(gene: str, how: str = "its counts are not the same") -> InputError:
    return InputError(
        f"the data have changed since this model read them: gene {gene!r} was not among its genes, "
        f"and {how} now; create a new model, with the gene in genes="
    )
