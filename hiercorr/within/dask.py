"""The sums over cells on a Dask cluster: blocks of cells are mapped, sums added, tiles of pairs estimated where they lie.

No task holds a dense (cells x genes) array: a block of cells is sparse, and of a tile of genes some
thousand cells at a time are dense. What travels are sums: of genes (genes x samples x nodes), then
of pairs, tile by tile. A worker that dies takes its blocks with it, and the scheduler has them made
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from hiercorr.counts.sources import Source, canonical, in_memory, open_source, sound
from hiercorr.errors import InputError
from hiercorr.moments.products import cross_products
from hiercorr.runtime.optional import optional
from hiercorr.runtime.progress import with_progress
from hiercorr.runtime.resources import compiled_threads
from hiercorr.within.fitting import Output, WithinProblem, problem_of, tile_of
from hiercorr.within.options import Plan

if TYPE_CHECKING:
    import anndata as ad

_BLOCK_ROWS = 50_000  # of a file or a matrix in memory; a Dask-backed matrix has its own
_AT_ONCE = 4  # tiles whose results may be on their way: each has some 15 arrays of its pairs
_FAN = 8  # partial sums that are added in one task

SampleSums = dict[int, NDArray]  # sample -> its sums


@dataclass(frozen=True)
class RemoteCounts:
    """Blocks of counts on the workers.

    Attributes
    ----------
    blocks : list
        Delayed blocks.
    digest : ndarray of uint64, shape (n_genes,)
        Identifies the counts of each gene, to notice changed data.
    """

    blocks: list[Any]
    digest: NDArray[np.uint64]


class Cluster:
    """A matrix in blocks of cells on a Dask scheduler.

    Parameters
    ----------
    data : AnnData or path
    layer : str, optional
    scheduler : Client or str
        As ``dask.compute`` takes it.
    """

    def __init__(self, data: ad.AnnData | str | Path, layer: str | None, scheduler: Any) -> None:
        dask = optional("dask", "cluster fits (scheduler=)")
        self._dask, self._data, self._layer, self._scheduler = dask, data, layer, scheduler
        self._blocks: list[Any] = []
        self._edges: list[tuple[int, int]] = []
        self._digest = np.empty(0, np.uint64)

    def _compute(self, *tasks: Any) -> tuple[Any, ...]:
        return self._dask.compute(*tasks, scheduler=self._scheduler)

    def scan(self, source: Source, codes: NDArray[np.int64], n_samples: int) -> Scan:
        """As :meth:`hiercorr.counts.backend.LocalBackend.scan`, block by block on the workers."""
        validate.check_shape(source)
        p = source.shape[1]
        made = list(self._made(source))
        self._edges = [edge for edge, _ in made]
        self._blocks = [block for _, block in made]
        task = self._dask.delayed(_scan_block, pure=False)
        # Blocks are kept where they were made: they are passed over again for every tile.
        if any(
            isinstance(source.matrix, kind)
            for kind in (sparse.spmatrix, sparse.sparray, np.ndarray)
        ):
            self._blocks = list(self._dask.persist(*self._blocks, scheduler=self._scheduler))
        found = self._compute(
            *(
                task(b, codes[i:j], p, n_samples, i)
                for (i, j), b in zip(self._edges, self._blocks, strict=True)
            )
        )
        for (i, _), part in zip(self._edges, found, strict=True):
            if isinstance(part, validate.BadCount):
                raise validate.not_counts(source, i, 0, part)
        self._digest = sum(part.digest for part in found)
        return Scan(
            sum(part.count for part in found),
            sum(part.total for part in found),
            np.concatenate([part.row_sum for part in found]),
            np.logical_or.reduce([part.seen for part in found]),
            self._digest,
        )

    def _made(self, source: Source) -> Iterator[tuple[tuple[int, int], Any]]:
        """First and last cell of each block, and the task that gives it as CSR."""
        matrix, delayed = source.matrix, self._dask.delayed
        n, p = source.shape
        if hasattr(matrix, "to_delayed"):
            if len(matrix.chunks[1]) > 1:
                matrix = matrix.rechunk({1: p})
            edges = np.append(0, np.cumsum(matrix.chunks[0])).astype(int)
            for a, b, block in zip(edges[:-1], edges[1:], matrix.to_delayed().ravel(), strict=True):
                yield (int(a), int(b)), delayed(_as_csr)(block)
            return
        for a in range(0, n, _BLOCK_ROWS):
            b = min(a + _BLOCK_ROWS, n)
            if isinstance(self._data, str | Path):
                yield (
                    (a, b),
                    delayed(_read_rows, pure=False)(
                        str(Path(self._data).resolve()), self._layer, a, b
                    ),
                )
            else:
                yield (a, b), delayed(_as_csr)(_rows(matrix, a, b))

    def fill(self, source: Source, layout: EntryLayout) -> Stored:
        """Make the blocks of counts on the workers, where they stay; no entries come to this process."""
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
        """Return the digest of the counts of one gene in the used cells, as they are now."""
        task = self._dask.delayed(_gene_digest, pure=False)
        found = self._compute(
            *(
                task(b, codes[i:j], gene, i)
                for (i, j), b in zip(self._edges, self._blocks, strict=True)
            )
        )
        return int(np.array(found, np.uint64).sum())

    def fit(self, counts: Counts, plan: Plan, output: Output) -> WithinProblem:
        """As :func:`hiercorr.within.fitting.fit_here`; of `counts` only names and numbers are read."""
        delayed = self._dask.delayed
        grid = moments.Grid.over(counts.depth, plan.tolerance)
        blocks = self._dask.persist(
            *(delayed(_ready, pure=False)(b, plan.tolerance, grid) for b in counts.remote.blocks),
            scheduler=self._scheduler,
        )
        parts = [delayed(_gene_sums)(b) for b in blocks]
        first, second, power, gram, digest = self._compute(_tree(delayed, _add_arrays, parts))[0]
        changed = np.flatnonzero(digest != counts.remote.digest)
        if len(changed):
            raise InputError(
                f"the data have changed since this model read them: the counts of {len(changed)} "
                "genes are not the same, "
                f"e.g. {counts.genes[changed[0]]!r}; create a new model"
            )
        sums = moments.DepthSums(
            counts.depth / grid.unit, grid.unit, grid.nodes, first, second, power, gram
        )
        problem = problem_of(counts, sums, plan)
        pooled = problem.n_samples == 1
        send = delayed(_light(problem), traverse=False)
        tasks = []
        for left, right in plan.tiles:
            sides = (left.start, left.stop, right.start, right.stop)
            num = _tree(
                delayed,
                _add_sample_sums,
                [delayed(_pair_sums)(b, send, sides, False, pooled) for b in blocks],
            )
            cells = None
            if problem.test is not None:
                cells = _tree(
                    delayed,
                    _add_sample_sums,
                    [delayed(_pair_sums)(b, send, sides, True, True) for b in blocks],
                )
            tasks.append(delayed(_estimate)(send, sides, num, cells))
        groups = [
            list(range(a, min(a + _AT_ONCE, len(tasks)))) for a in range(0, len(tasks), _AT_ONCE)
        ]
        for group in with_progress(groups, plan.progress):
            for k, (tile, flag) in zip(
                group, self._compute(*(tasks[k] for k in group)), strict=True
            ):
                output.write(*plan.tiles[k], tile, flag)
        return problem


def _as_csr(block: Any) -> sparse.csr_matrix:
    return canonical(sparse.csr_matrix(sound(block)))


def _rows(matrix: Any, a: int, b: int) -> Any:
    if getattr(matrix, "format", None) == "csc" and not sparse.issparse(matrix):
        raise InputError(
            "a CSC matrix on disk has no blocks of cells: write it as CSR, or leave out scheduler="
        )
    return in_memory(matrix[a:b])


def _read_rows(path: str, layer: str | None, a: int, b: int) -> sparse.csr_matrix:
    with open_source(path, layer) as source:
        return _as_csr(_rows(source.matrix, a, b))


def _scan_block(
    block: sparse.csr_matrix, codes: NDArray[np.int64], p: int, n_samples: int, first_cell: int
) -> Scan | validate.BadCount:
    """Totals of one block, or its first entry that is not a count."""
    bad = validate.first_bad(block)
    return scanned([(0, 0, block)], codes, p, n_samples, first_cell) if bad is None else bad


def _gene_digest(
    block: sparse.csr_matrix, codes: NDArray[np.int64], gene: int, first_cell: int
) -> np.uint64:
    return scanned(
        [(0, 0, block[:, [gene]].tocsr())], codes, 1, int(codes.max()) + 1, first_cell
    ).digest[0]


def _block_counts(
    block: sparse.csr_matrix,
    codes: NDArray[np.int64],
    depth: NDArray[np.float64],
    chosen: NDArray[np.int64],
    n_samples: int,
    first_cell: int,
) -> tuple[Counts, NDArray[np.uint64]]:
    """Counts of the chosen genes in one block, gene by gene and sample by sample, and their digests."""
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


def _ready(
    block: tuple[Counts, NDArray[np.uint64]], tolerance: float, grid: moments.Grid
) -> tuple[Counts, moments.DepthSums, NDArray[np.uint64]]:
    counts, digest = block
    with compiled_threads(1):
        return counts, moments.depth_sums(counts, tolerance, grid), digest


def _gene_sums(block: tuple[Counts, moments.DepthSums, NDArray[np.uint64]]) -> list[NDArray]:
    _, sums, digest = block
    return [sums.first, sums.second, sums.power, sums.gram, digest]


def _pair_sums(
    block: tuple[Counts, moments.DepthSums, NDArray[np.uint64]],
    problem: WithinProblem,
    sides: tuple[int, int, int, int],
    test: bool,
    pooled: bool,
) -> SampleSums:
    """N of the samples that have cells in this block."""
    counts, sums, _ = block
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
    with compiled_threads(1):
        return tile_of(
            problem,
            left,
            right,
            n,
            d,
            None if cells is None else cells[0].astype(problem.plan.dtype),
        )


def _light(problem: WithinProblem) -> WithinProblem:
    """Without what is as long as the cells."""
    return replace(problem, sums=replace(problem.sums, depth=np.empty(0)), gene={})


def _add_arrays(*parts: list[NDArray]) -> list[NDArray]:
    return [sum(p[1:], start=p[0]) for p in zip(*parts, strict=True)]


def _add_sample_sums(*parts: SampleSums) -> SampleSums:
    """Sums of the same sample added, in float64 where several blocks hold cells of it."""
    out: SampleSums = {}
    for part in parts:
        for c, value in part.items():
            out[c] = value if c not in out else out[c].astype(np.float64) + value
    return out


def _tree(delayed: Any, add: Any, parts: Sequence[Any]) -> Any:
    """Add many parts, a few in each task."""
    parts = list(parts)
    while len(parts) > 1:
        parts = [delayed(add)(*parts[a : a + _FAN]) for a in range(0, len(parts), _FAN)]
    return parts[0]
