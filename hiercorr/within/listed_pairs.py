"""Estimates of listed pairs, at the cost of these pairs: blocks of genes that share partners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.results.checkpoint import Checkpoint, Named
from hiercorr.results.tiling import INTERVAL, settle
from hiercorr.runtime import blas
from hiercorr.runtime.progress import with_progress
from hiercorr.within import fitting

Index = NDArray[np.int64]
_MORE = 4  # entries of a block for each of its listed pairs, at most,
_SMALL = 65_536  # unless it has no more entries than this
_SIDE = 1_000  # genes on the left of a block
_ENTRIES = 2_000_000  # of a block, times samples


@dataclass(frozen=True)
class PairBlock:
    """Genes of both sides of a block, and the pairs that are listed in it.

    Attributes
    ----------
    left, right : ndarray of int64
        Positions among the genes.
    row, column : ndarray of int64
        Entries of the listed pairs in the block.
    at : ndarray of int64
        Positions of these pairs in the list.
    """

    left: Index
    right: Index
    row: Index
    column: Index
    at: Index


def blocks_of(a: Index, b: Index, n_samples: int, kind: Index | None = None) -> list[PairBlock]:
    """Group pairs into blocks, of which most entries are listed or which are small.

    The gene with more listed pairs is on the left, so that a few regulators have one block.

    Parameters
    ----------
    a, b : ndarray of int64, shape (n_pairs,)
        Positions of the genes of both sides.
    n_samples : int
    kind : ndarray of int64, shape (n_genes,), optional
        Type of each feature; the genes of a side of a block have one, in ascending order.

    Returns
    -------
    list of PairBlock
    """
    number = np.bincount(np.concatenate([a, b]))
    swapped = number[b] > number[a]
    if kind is not None:
        swapped = np.where(kind[a] == kind[b], swapped, kind[a] > kind[b])
    left, right = np.where(swapped, b, a), np.where(swapped, a, b)
    types = np.zeros(len(a), np.int64)
    if kind is not None:
        types = kind[left] * (int(kind.max()) + 1) + kind[right]
    order = np.lexsort((right, left, types))
    changes = (np.diff(left[order]) != 0) | (np.diff(types[order]) != 0)
    rows = np.split(order, np.flatnonzero(changes) + 1)
    first = np.array([right[row[0]] for row in rows])
    of_type = np.array([types[row[0]] for row in rows])
    rows = [rows[k] for k in np.lexsort((first, of_type))]  # neighbours share partners
    found, together, union = [], [rows[0]], set(right[rows[0]].tolist())
    largest = max(_ENTRIES // max(n_samples, 1), 1)
    for row in rows[1:]:
        joined = union | set(right[row].tolist())
        entries, asked = (len(together) + 1) * len(joined), sum(map(len, together)) + len(row)
        fits = entries <= min(max(_MORE * asked, _SMALL), largest) and len(together) < _SIDE
        if fits and types[row[0]] == types[together[0][0]]:
            together.append(row)
            union = joined
        else:
            found.append(together)
            together, union = [row], set(right[row].tolist())
    found.append(together)
    return [_block(np.concatenate(rows), left, right) for rows in found]


def _block(at: Index, left: Index, right: Index) -> PairBlock:
    lefts, row = np.unique(left[at], return_inverse=True)
    rights, column = np.unique(right[at], return_inverse=True)
    return PairBlock(lefts, rights, row, column, at)


class ListOutput:
    """Arrays of the pair variables of listed pairs, filled block by block."""

    def __init__(self, n_pairs: int) -> None:
        self.n_pairs = n_pairs
        self.arrays: dict[str, NDArray] = {}
        self.flag = np.zeros(n_pairs, np.uint16)

    def put(self, block: PairBlock, tile: dict[str, NDArray], flag: NDArray) -> None:
        """Keep the listed entries of a block."""
        entry = (..., block.row, block.column)
        for name, values in tile.items():
            if name not in self.arrays:
                shape = (*values.shape[:-2], self.n_pairs)
                self.arrays[name] = np.full(shape, np.nan, values.dtype)
            self.arrays[name][..., block.at] = values[entry]
        self.flag[block.at] = flag[entry]


def fit_list(
    counts: Counts,
    problem: fitting.WithinProblem,
    pairs: tuple[Index, Index],
    also: Callable[[Counts], Sequence[fitting.Also]] = lambda _: (),
    checkpoint: Checkpoint | None = None,
) -> dict[str, NDArray]:
    """Estimate listed pairs of a prepared problem.

    Parameters
    ----------
    counts : Counts
    problem : WithinProblem
        Of all genes, with the prior.
    pairs : pair of ndarray of int64, shape (n_pairs,)
        Positions of the genes of both sides.
    also : callable
        Returns the hooks that add variables to the tile of a block of counts.
    checkpoint : Checkpoint, optional
        Store of the sums of each block.

    Returns
    -------
    dict of ndarray, shape (..., n_pairs)
        Pair variables, with those that follow from others, and ``flag``.
    """
    kind = None if counts.modalities is None else counts.modalities.kind
    output = ListOutput(len(pairs[0]))
    blocks = list(enumerate(blocks_of(*pairs, counts.n_samples, kind)))
    for number, block in with_progress(blocks, problem.plan.progress):
        genes = np.concatenate([block.left, block.right])
        own, part = counts.take(genes), taken(problem, genes)
        k = len(block.left)
        left, right = slice(0, k), slice(k, len(genes))
        named = None if checkpoint is None else checkpoint.named(f"block{number}")
        tile, flag = _tile(own, part, left, right, also(own), named)
        output.put(block, tile, flag)
    tile = {name: values[..., None, :] for name, values in output.arrays.items()}
    flag = settle(slice(0, 1), slice(1, 1 + output.n_pairs), tile, output.flag[None])
    tile |= {n: v for n, v in problem.follow(tile).items() if n not in tile}
    if problem.plan.silent(problem.n_samples):
        tile |= dict.fromkeys(INTERVAL, np.full(flag.shape, np.nan, problem.plan.dtype))
    return {name: values[..., 0, :] for name, values in tile.items()} | {"flag": flag[0]}


def _tile(
    counts: Counts,
    problem: fitting.WithinProblem,
    left: slice,
    right: slice,
    also: Sequence[fitting.Also],
    checkpoint: Named | None,
) -> tuple[dict[str, NDArray], NDArray[np.uint16]]:
    if problem.n_samples == 1:
        counts = counts.one_group()
    plan = replace(problem.plan, tiles=[(left, right)])
    problem = replace(problem, plan=plan)
    sums = fitting.TileSums(counts, problem, checkpoint)
    with blas.at_most(1):
        num, tested = sums.compute(left, right)
        den = np.empty_like(num)
        tile, flag = fitting.tile_of(problem, left, right, num, den, tested)
    if also:
        tile |= problem.follow(tile)
    for hook in also:
        flag |= hook(problem, left, right, num, den, tile)
    return tile, flag.astype(np.uint16)


def taken(problem: fitting.WithinProblem, genes: Index) -> fitting.WithinProblem:
    """Return the problem of some genes, in this order."""
    per_gene: dict[str, Any] = {
        "sums": problem.sums.take(genes),
        "fit": problem.fit.take(genes),
        "gene_flag": problem.gene_flag[genes],
        "noise": problem.noise[genes],
        "test": None if problem.test is None else problem.test.take(genes),
        "donors": None if problem.donors is None else problem.donors.take(genes),
        "bias": None if problem.bias is None else problem.bias.take(genes),
    }
    return replace(problem, **per_gene)
