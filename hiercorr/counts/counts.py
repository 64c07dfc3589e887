"""Validated counts in column order, with cells grouped by sample."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.composition import Composition
from hiercorr.counts.modalities import Modalities
from hiercorr.counts.names import name_of
from hiercorr.schema import GENE_ID

MIN_CELLS = 10

# Key of uns that marks an AnnData of metacells; results from it are exploratory.
METACELLS = "hiercorr_metacells"
# Key of uns with the names of the gene sets in an AnnData of summed gene sets.
GENE_SETS = "hiercorr_gene_sets"
# Key of uns with the layer whose counts were summed over gene sets.
SUMMED_LAYER = "hiercorr_summed_layer"


@dataclass(frozen=True)
class Counts:
    """Validated counts of the selected cells and genes, in column order, cells grouped by sample.

    Attributes
    ----------
    rows, values : ndarray of int32, shape (n_nonzero,)
        Cell position (cells grouped by sample) and count of every non-zero entry, gene after gene.
    offsets : ndarray of int64, shape (n_genes, n_samples + 1)
        Entries of gene j in sample c are ``offsets[j, c]:offsets[j, c + 1]``.
    starts : ndarray of int64, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.
    depth : ndarray of float64, shape (n_cells,)
        Sequencing depth of each cell, in counts; with several types of features, that of the first.
    cells : ndarray of int64, shape (n_cells,)
        Position of each cell in the source.
    obs : DataFrame
        The source's cell table, in the order of `cells`.
    genes, samples : Index
        Names; `samples` has one entry if no sample column was given.
    notes : dict
        What was analysed: the selection, the source and excluded samples.
    remote : sequence, optional
        Blocks of counts on the workers of a cluster, which store the entries instead of this
        process.
    modalities : Modalities, optional
        Types of the features, in the order of which they are, and their depths, if there are
        several.
    composition : Composition, optional
        What each gene contributes to the depth.
    ids : Index, optional
        Names of the genes in the data, if a column of ``var`` names them.
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
    remote: Any = None
    modalities: Modalities | None = None
    composition: Composition | None = None
    ids: pd.Index | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.depth)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def cells_per_sample(self) -> NDArray[np.int64]:
        """Number of cells in each sample, shape (n_samples,)."""
        return np.diff(self.starts)

    @property
    def detection(self) -> NDArray[np.float64]:
        """Proportion of cells with a count of each gene, shape (n_genes,)."""
        return (self.offsets[:, -1] - self.offsets[:, 0]) / self.n_cells

    @property
    def median_depth(self) -> NDArray[np.float64]:
        """Median sequencing depth of the cells of each sample, shape (n_samples,)."""
        return np.array([np.median(self.depth[a:b]) for a, b in itertools.pairwise(self.starts)])

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of every result of these counts: what was analysed."""
        found = {k: v for k, v in self.notes.items() if v not in ("", None)}
        if found.get("block") in self.obs:
            found["n_donors"] = int(self.obs[found["block"]].nunique())
        return found

    def take(self, genes: NDArray[np.int64]) -> Counts:
        """Return the counts of these genes, in this order; the entries are not copied."""
        modalities = None if self.modalities is None else self.modalities.take(genes)
        composition = None if self.composition is None else self.composition.take(genes)
        return replace(
            self,
            offsets=self.offsets[genes],
            genes=self.genes[genes],
            modalities=modalities,
            composition=composition,
            ids=None if self.ids is None else self.ids[genes],
        )

    def named(self, gene: Any) -> Any:
        """Return the name of a gene that is given by its name or its id; others unchanged."""
        return name_of(gene, self.genes, self.ids)

    @property
    def gene_ids(self) -> dict[str, NDArray]:
        """Gene variable of a result with the ids; empty if the genes have the names of the data."""
        return {} if self.ids is None else {GENE_ID: self.ids.to_numpy(object)}

    def by_type(self) -> list[Counts]:
        """Return the counts of the features of each type, with the depth of their type."""
        if self.modalities is None:
            return [self]
        edges = self.modalities.edges
        return [
            replace(
                self,
                offsets=self.offsets[a:b],
                genes=self.genes[a:b],
                depth=depth,
                modalities=None,
                ids=None if self.ids is None else self.ids[a:b],
                composition=None
                if self.composition is None
                else self.composition.take(slice(a, b)),
            )
            for a, b, depth in zip(edges[:-1], edges[1:], self.modalities.depth, strict=True)
        ]

    def one_group(self) -> Counts:
        """Return the counts with all cells in one group, for estimators that pool over samples."""
        return replace(
            self,
            offsets=np.ascontiguousarray(self.offsets[:, [0, -1]]),
            starts=np.array([0, self.n_cells], np.int64),
            samples=pd.Index(["all"]),
        )

    def cells_where(self, keep: NDArray[np.bool_]) -> Counts:
        """Return the counts of the cells where `keep`, shape (n_cells,), is true."""
        position = np.cumsum(keep) - 1
        entries = keep[self.rows]
        before = np.append(0, np.cumsum(entries))
        modalities = self.modalities
        if modalities is not None:
            modalities = replace(modalities, depth=modalities.depth[:, keep])
        return replace(
            self,
            rows=position[self.rows[entries]].astype(np.int32),
            values=self.values[entries],
            offsets=before[self.offsets],
            starts=np.append(0, np.cumsum(keep))[self.starts],
            depth=self.depth[keep],
            cells=self.cells[keep],
            obs=self.obs[keep],
            modalities=modalities,
        )

    def toarray(self) -> NDArray[np.int32]:
        """Return a dense copy, shape (n_cells, n_genes), for tests and small panels."""
        out = np.zeros((self.n_cells, self.n_genes), np.int32)
        for j, (a, b) in enumerate(self.offsets[:, [0, -1]]):
            out[self.rows[a:b], j] = self.values[a:b]
        return out
