"""Sums over cells on a Dask cluster: blocks of cells are mapped, and their sums are added.

No task needs a dense (cells x genes) array: blocks of cells are sparse, and only some thousand
cells of a tile of genes are dense at a time. Only sums are transferred: those of genes (genes x
samples x nodes), then those of pairs, tile by tile. If a worker dies, the scheduler recomputes its
blocks.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from hiercorr import moments
from hiercorr.counts import validate
from hiercorr.counts.backend import Stored
from hiercorr.counts.counts import Counts
from hiercorr.counts.layout import EntryLayout, Scan, by_sample, scanned
from hiercorr.counts.plausibility import CellSample
from hiercorr.counts.sources import Source, canonical, in_memory, open_source, with_valid_indices
from hiercorr.errors import InputError
from hiercorr.moments.products import cross_products
from hiercorr.runtime.optional import optional
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.workers import compiled_threads
from hiercorr.within.fitting import Output, WithinProblem, learn, problem_of, tile_of
from hiercorr.within.options import Plan

if TYPE_CHECKING:
    import anndata as ad

_BLOCK_ROWS = 50_000  # cells per block of a file or a matrix in memory; Dask arrays have chunks
_CONCURRENT_TILES = 4  # results of tiles in transfer; each has about 15 arrays of its pairs
_FAN_IN = 8  # partial sums added per task

SampleSums = dict[int, NDArray]  # sums of each sample
Block = tuple[Counts, moments.DepthSums, NDArray[np.uint64]]  # counts, their sums, digest of genes


@dataclass(frozen=True)
class RemoteCounts:
    """Blocks of counts on the workers.

    Attributes
    ----------
    blocks : list
        Delayed blocks.
    digest : ndarray of uint64, shape (n_genes,)
        Checksum of the counts of each gene, to detect changed data.
    """

    blocks: list[Any]
    digest: NDArray[np.uint64]


class Cluster:
    """Matrix in blocks of cells on a Dask scheduler.

    Parameters
    ----------
    data : AnnData or path
    layer : str, optional
    scheduler : Client, str or callable
        Argument of ``dask.compute``.
    """

    def __init__(self, data: ad.AnnData | str | Path, layer: str | None, scheduler: Any) -> None:
        dask = optional("dask", "cluster fits (scheduler=)")
        self._dask, self._data, self._layer, self._scheduler = dask, data, layer, scheduler
        try:
            dask.base.get_scheduler(scheduler=scheduler)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"scheduler={scheduler!r} is neither a Dask client nor the name of a scheduler: "
                f"{error}"
            ) from error
        if inspect.isroutine(scheduler) or inspect.isclass(scheduler):
            self._try_function()
        self._blocks: list[Any] = []
        self._edges: list[tuple[int, int]] = []
        self._digest = np.empty(0, np.uint64)

    def _try_function(self) -> None:
        """Raise an error if a function does not compute tasks as those of Dask do."""
        try:
            found = self._compute(self._dask.delayed(_three, pure=False)())
        except Exception as error:
            raise self._no_scheduler() from error
        if found != (3,):
            raise self._no_scheduler()

    def _no_scheduler(self) -> InputError:
        return InputError(
            f"scheduler={self._scheduler!r} is not a function that computes tasks of Dask, as "
            "dask.get and dask.threaded.get do: pass one of them, a Dask client, 'threads', "
            "'processes' or 'sync'"
        )

    def _compute(self, *tasks: Any) -> tuple[Any, ...]:
        return self._dask.compute(*tasks, scheduler=self._scheduler)

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """Add up the totals of the matrix on the workers, block by block."""
        validate.check_shape(source)
        p = source.shape[1]
        blocks = list(self._delayed_blocks(source))
        self._edges = [edge for edge, _ in blocks]
        self._blocks = [block for _, block in blocks]
        task = self._dask.delayed(_scan_block, pure=False)
        # The blocks stay on their workers: every tile needs them.
        if any(
            isinstance(source.matrix, kind)
            for kind in (sparse.spmatrix, sparse.sparray, np.ndarray)
        ):
            self._blocks = list(self._dask.persist(*self._blocks, scheduler=self._scheduler))
        examined = CellSample.among(np.flatnonzero(codes >= 0), p)
        parts = self._compute(
            *(
                task(b, codes[i:j], p, n_samples, i, examined.cells)
                for (i, j), b in zip(self._edges, self._blocks, strict=True)
            )
        )
        found = []
        for (i, _), part in zip(self._edges, parts, strict=True):
            if isinstance(part, validate.BadCount):
                raise validate.not_counts(source, i, 0, part)
            found.append(part[0])
            examined.add(part[1])
        validate.check_values(source, examined)
        self._digest = sum(part.digest for part in found)
        return Scan(
            sum(part.count for part in found),
            sum(part.total for part in found),
            np.concatenate([part.row_sum for part in found]),
            self._digest,
        )

    def _delayed_blocks(self, source: Source) -> Iterator[tuple[tuple[int, int], Any]]:
        """Yield the limits of each block of cells, and the task that reads it as CSR."""
        matrix, delayed = source.matrix, self._dask.delayed
        n = source.shape[0]
        if hasattr(matrix, "to_delayed"):
            if len(matrix.chunks[1]) > 1:
                matrix = matrix.rechunk({1: matrix.shape[1]})
            edges = np.append(0, np.cumsum(matrix.chunks[0])).astype(int)
            for a, b, block in zip(edges[:-1], edges[1:], matrix.to_delayed().ravel(), strict=True):
                yield (int(a), int(b)), delayed(_as_csr)(block, source.columns)
            return
        for a in range(0, n, _BLOCK_ROWS):
            b = min(a + _BLOCK_ROWS, n)
            if isinstance(self._data, str | Path):
                path = str(Path(self._data).resolve())
                yield (a, b), delayed(_read_rows, pure=False)(path, self._layer, a, b)
            else:
                yield (a, b), delayed(_as_csr)(_rows(matrix, a, b), source.columns)

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        """Create the blocks of counts on the workers; no entries are sent to this process."""
        make = self._dask.delayed(_block_counts, pure=False)
        chosen = self._dask.delayed(layout.chosen)
        s = layout.count.shape[1]
        blocks = [
            make(block, layout.codes[i:j], layout.depth[i:j], chosen, s, i)
            for (i, j), block in zip(self._edges, self._blocks, strict=True)
            if (layout.codes[i:j] >= 0).any()
        ]
        empty = np.empty(0, np.int32)
        return empty, empty, RemoteCounts(blocks, self._digest[layout.chosen])

    def digest(self, codes: NDArray[np.int64], gene: int) -> int:
        """Return the current digest of the counts of one gene in the used cells."""
        task = self._dask.delayed(_gene_digest, pure=False)
        found = self._compute(
            *(
                task(b, codes[i:j], gene, i)
                for (i, j), b in zip(self._edges, self._blocks, strict=True)
            )
        )
        return int(np.array(found, np.uint64).sum())

    def fit(self, counts: Counts, plan: Plan, output: Output) -> WithinProblem:
        """Estimate all pairs as :func:`hiercorr.within.fitting.fit_here`, on the workers."""
        grid = moments.Grid.over(counts.depth, plan.tolerance)
        prepare = self._dask.delayed(_with_sums, pure=False)
        blocks = self._dask.persist(
            *(prepare(b, plan.tolerance, grid) for b in counts.remote.blocks),
            scheduler=self._scheduler,
        )
        problem = problem_of(counts, self._depth_sums(counts, blocks, grid), plan)
        problem = learn(problem, partial(self._panel_sums, problem, blocks))
        tasks = self._tile_tasks(problem, blocks)
        step = _CONCURRENT_TILES
        groups = [slice(a, a + step) for a in range(0, len(tasks), step)]
        for group in with_progress(groups, plan.progress):
            found = self._compute(*tasks[group])
            for sides, (tile, flag) in zip(plan.tiles[group], found, strict=True):
                if output.complete:
                    tile |= problem.follow(tile)
                output.write(*sides, tile, flag)
        return problem

    def _panel_sums(
        self, problem: WithinProblem, blocks: Sequence[Any], genes: NDArray[np.int64], k: int
    ) -> NDArray:
        """Return N of each sample, see :data:`hiercorr.within.fitting.Numerators`."""
        delayed = self._dask.delayed
        panel = replace(
            _without_cells(problem), fit=problem.fit.take(genes), test=None, donors=None
        )
        sent, sides = delayed(panel, traverse=False), (0, k or len(genes), k, len(genes))
        parts = [delayed(_pair_sums)(b, sent, sides, False, False, genes) for b in blocks]
        found = self._compute(self._added(_add_sample_sums, parts))[0]
        shape = (problem.n_samples, sides[1], len(genes) - k)
        out = np.zeros(shape, problem.plan.dtype)
        for c, part in found.items():
            out[c] = part
        return out

    def _depth_sums(
        self, counts: Counts, blocks: Sequence[Any], grid: moments.Grid
    ) -> moments.DepthSums:
        """Add up the sums of genes over all blocks; raise an error if the counts have changed."""
        parts = [self._dask.delayed(_gene_sums)(b) for b in blocks]
        *sums, digest = self._compute(self._added(_add_arrays, parts))[0]
        changed = np.flatnonzero(digest != counts.remote.digest)
        if len(changed):
            raise InputError(
                f"the data have changed since this model read them: the counts of {len(changed)} "
                f"genes are not the same, e.g. {counts.genes[changed[0]]!r}; create a new model"
            )
        return moments.DepthSums(counts.depth / grid.unit, grid.unit, grid.nodes, *sums)

    def _tile_tasks(self, problem: WithinProblem, blocks: Sequence[Any]) -> list[Any]:
        """Build the tasks that estimate the tiles."""
        delayed, pooled = self._dask.delayed, problem.n_samples == 1
        sent = delayed(_without_cells(problem), traverse=False)

        def total(sides: tuple[int, int, int, int], test: bool, pooled: bool) -> Any:
            parts = [delayed(_pair_sums)(b, sent, sides, test, pooled) for b in blocks]
            return self._added(_add_sample_sums, parts)

        tasks = []
        for left, right in problem.plan.tiles:
            sides = (left.start, left.stop, right.start, right.stop)
            num = total(sides, False, pooled)
            cells = None if problem.test is None else total(sides, True, True)
            tasks.append(delayed(_estimate)(sent, sides, num, cells))
        return tasks

    def _added(self, add: Any, parts: Sequence[Any]) -> Any:
        """Build the tasks that add many parts, a few per task."""
        task, parts = self._dask.delayed(add), list(parts)
        while len(parts) > 1:
            parts = [task(*parts[a : a + _FAN_IN]) for a in range(0, len(parts), _FAN_IN)]
        return parts[0]


def _three() -> int:
    return 3


def _as_csr(block: Any, columns: NDArray[np.int64] | None) -> sparse.csr_matrix:
    found = canonical(sparse.csr_matrix(with_valid_indices(block)))
    return found if columns is None else found[:, columns]


def _rows(matrix: Any, a: int, b: int) -> Any:
    if getattr(matrix, "format", None) == "csc" and not sparse.issparse(matrix):
        raise InputError(
            "a CSC matrix on disk cannot be read by blocks of cells: write it as CSR, or leave out "
            "scheduler="
        )
    return in_memory(matrix[a:b])


def _read_rows(path: str, layer: str | None, a: int, b: int) -> sparse.csr_matrix:
    with open_source(path, layer) as source:
        return _as_csr(_rows(source.matrix, a, b), source.columns)


def _scan_block(
    block: sparse.csr_matrix,
    codes: NDArray[np.int64],
    p: int,
    n_samples: int,
    first_cell: int,
    cells: NDArray[np.int64],
) -> tuple[Scan, CellSample] | validate.BadCount:
    """Return the totals and examined cells of one block, or its first entry that is no count."""
    bad = validate.first_bad(block)
    if bad is not None:
        return bad
    examined = CellSample.of(cells, p)
    examined.examine(first_cell, 0, block)
    return scanned([(0, 0, block)], codes, p, n_samples, first_cell), examined


def _gene_digest(
    block: sparse.csr_matrix, codes: NDArray[np.int64], gene: int, first_cell: int
) -> np.uint64:
    column = block[:, [gene]].tocsr()
    return scanned([(0, 0, column)], codes, 1, int(codes.max()) + 1, first_cell).digest[0]


def _block_counts(
    block: sparse.csr_matrix,
    codes: NDArray[np.int64],
    depth: NDArray[np.float64],
    chosen: NDArray[np.int64],
    n_samples: int,
    first_cell: int,
) -> tuple[Counts, NDArray[np.uint64]]:
    """Return the counts of the selected genes in one block, and their digests."""
    order, starts = by_sample(codes, n_samples)
    scan = scanned([(0, 0, block)], codes, block.shape[1], n_samples, first_cell)
    layout = EntryLayout(codes, order, scan.count, chosen, depth)
    rows, values = (np.empty(layout.size, np.int32) for _ in range(2))
    layout.scatter([(0, 0, block)], block.shape, rows, values)
    counts = Counts(
        rows,
        values,
        layout.offsets,
        starts,
        depth[order],
        order,
        pd.DataFrame(),
        pd.RangeIndex(len(chosen)),
        pd.RangeIndex(n_samples),
        {},
    )
    return counts, scan.digest[chosen]


def _with_sums(
    block: tuple[Counts, NDArray[np.uint64]], tolerance: float, grid: moments.Grid
) -> Block:
    counts, digest = block
    with compiled_threads(1):
        return counts, moments.depth_sums(counts, tolerance, grid), digest


def _gene_sums(block: Block) -> list[NDArray]:
    _, sums, digest = block
    return [sums.first, sums.second, sums.power, sums.gram, digest]


def _pair_sums(
    block: Block,
    problem: WithinProblem,
    sides: tuple[int, int, int, int],
    test: bool,
    pooled: bool,
    genes: NDArray[np.int64] | None = None,
) -> SampleSums:
    """Compute N of the samples that have cells in this block, of all genes or of some."""
    counts, sums, _ = block
    if genes is not None:
        counts, sums = counts.take(genes), sums.take(genes)
    if pooled:
        counts, sums = counts.one_group(), sums.one_group()
    fit = problem.test if test else problem.fit
    assert fit is not None
    left, right = slice(*sides[:2]), slice(*sides[2:])
    out: SampleSums = {}
    with compiled_threads(1):
        for c in np.flatnonzero(np.diff(counts.starts)):
            k = c if fit.centred else 0
            out[int(c)] = cross_products(
                counts, sums, fit.mu[:, k], fit.slope[:, k], left, right, int(c), problem.plan.dtype
            )
    return out


def _estimate(
    problem: WithinProblem,
    sides: tuple[int, int, int, int],
    num: SampleSums,
    cells: SampleSums | None,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    left, right = slice(*sides[:2]), slice(*sides[2:])
    shape = (problem.n_samples, left.stop - left.start, right.stop - right.start)
    n, d = np.zeros(shape, problem.plan.dtype), np.empty(shape, problem.plan.dtype)
    for c, part in num.items():
        n[c] = part
    tested = None if cells is None else cells[0].astype(problem.plan.dtype)
    with compiled_threads(1):
        return tile_of(problem, left, right, n, d, tested)


def _without_cells(problem: WithinProblem) -> WithinProblem:
    """Drop the arrays with one entry per cell, and the gene variables."""
    return replace(problem, sums=replace(problem.depth_sums, depth=np.empty(0)), gene={})


def _add_arrays(*parts: list[NDArray]) -> list[NDArray]:
    return [sum(p[1:], start=p[0]) for p in zip(*parts, strict=True)]


def _add_sample_sums(*parts: SampleSums) -> SampleSums:
    """Add the sums of each sample, in float64 if several blocks have cells of it."""
    out: SampleSums = {}
    for part in parts:
        for c, value in part.items():
            out[c] = value if c not in out else out[c].astype(np.float64) + value
    return out
