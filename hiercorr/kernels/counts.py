"""Loops over stored counts that check, sort, sum and identify them."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hiercorr.runtime.compile import parallel


@njit(inline="always")
def _is_count(v):
    return (v >= 0) & (v <= 2147483647) & (v == np.floor(v))


@parallel()
def first_bad_count(values):
    """Return the position of the first value that is not a non-negative int32, or -1."""
    size = 65_536
    parts = (len(values) + size - 1) // size
    bad = np.zeros(parts, np.int64)
    for part in prange(parts):
        n = 0
        for k in range(part * size, min(part * size + size, len(values))):
            n += 1 - _is_count(values[k])  # no early exit, so that the loop vectorises
        bad[part] = n
    for part in range(parts):
        if bad[part] > 0:
            for k in range(part * size, len(values)):
                if not _is_count(values[k]):
                    return k
    return -1


@njit(inline="always")
def mix(cell):
    """Hash the position of a cell, so that moving counts between cells changes a digest."""
    h = (np.uint64(cell) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(27))


@njit(cache=True)
def entry_digest(cells, values, offsets):
    """Compute a digest of the entries of each gene and sample.

    Parameters
    ----------
    cells, values : ndarray, shape (entries,)
        Position in the source and count of each entry.
    offsets : ndarray of int, shape (genes, samples + 1)
        First entry of each gene and sample.

    Returns
    -------
    ndarray of uint64, shape (genes, samples)
    """
    out = np.zeros((offsets.shape[0], offsets.shape[1] - 1), np.uint64)
    for j in range(out.shape[0]):
        for c in range(out.shape[1]):
            for e in range(offsets[j, c], offsets[j, c + 1]):
                out[j, c] += np.uint64(values[e]) * mix(cells[e])
    return out


@njit(cache=True)
def scan_block(
    indptr, indices, values, codes, row0, col0, count, total, row_sum, seen, digest, cell0
):
    """Add a CSR block to the totals of a first pass over the matrix.

    Parameters
    ----------
    indptr, indices, values : ndarray
        CSR block.
    codes : ndarray of int, shape (cells,)
        Sample of each cell; -1: not used.
    row0, col0 : int
        First cell and gene of the block.
    count : ndarray, shape (genes, samples)
        Non-zero entries in the used cells.
    total : ndarray, shape (genes,)
        Counts in the used cells.
    row_sum : ndarray, shape (cells,)
        Counts per cell.
    seen : ndarray of bool, shape (genes,)
        Whether a gene has a count in any cell, used or not.
    digest : ndarray of uint64, shape (genes,)
        Digest of the counts in the used cells.
    cell0 : int
        Position in the source of the first cell of `codes`.
    """
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        for e in range(indptr[r], indptr[r + 1]):
            v = values[e]
            s += v
            if v == 0:
                continue
            g = col0 + indices[e]
            seen[g] = True
            if c >= 0:
                count[g, c] += 1
                total[g] += v
                digest[g] += np.uint64(v) * mix(cell0 + row0 + r)
        row_sum[row0 + r] += s


@parallel()
def fill_block(
    indptr,
    indices,
    values,
    codes,
    position,
    column,
    row0,
    col0,
    edges,
    cursor,
    rows_out,
    values_out,
):
    """Scatter a CSR block into columns grouped by sample.

    Each thread reads the whole block and writes the genes between two of `edges`.

    Parameters
    ----------
    indptr, indices, values, codes, row0, col0
        See :func:`scan_block`.
    position : ndarray of int, shape (cells,)
        Position of each cell in the result.
    column : ndarray of int, shape (all genes,)
        Position of each gene in the result; outside the range of `edges`: not used.
    edges : ndarray of int
        Limits of the genes of each thread.
    cursor : ndarray of int, shape (genes, samples)
        Next free entry of each gene and sample.
    rows_out, values_out : ndarray of int32, shape (entries,)
        Results.
    """
    for part in prange(len(edges) - 1):
        first, last = edges[part], edges[part + 1]
        for r in range(len(indptr) - 1):
            c = codes[row0 + r]
            if c < 0:
                continue
            for e in range(indptr[r], indptr[r + 1]):
                g = column[col0 + indices[e]]
                if first <= g < last and values[e] != 0:
                    k = cursor[g, c]
                    rows_out[k] = position[row0 + r]
                    values_out[k] = np.int32(values[e])
                    cursor[g, c] = k + 1


@njit(cache=True)
def sum_block(indptr, indices, values, codes, row0, col0, sums, row_sum, detected, digest):
    """Add a CSR block to sums over groups of cells.

    Parameters
    ----------
    indptr, indices, values, row0, col0
        See :func:`scan_block`.
    codes : ndarray of int, shape (cells,)
        Group of each cell; -1: not used.
    sums : ndarray of int64, shape (groups, genes)
        Counts.
    row_sum : ndarray, shape (cells,)
        Counts per used cell.
    detected : ndarray of int, shape (genes,)
        Number of used cells with a count.
    digest : ndarray of uint64, shape (groups, genes)
        Digest of the counts.
    """
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        if c >= 0:
            for e in range(indptr[r], indptr[r + 1]):
                v = values[e]
                s += v
                sums[c, col0 + indices[e]] += np.int64(v)
                detected[col0 + indices[e]] += v > 0
                digest[c, col0 + indices[e]] += np.uint64(v) * mix(row0 + r)
        row_sum[row0 + r] += s


@njit(cache=True)
def entries_before(rows, start, stop, cell):
    """Find each gene's first entry in start:stop whose cell is at or after `cell`."""
    out = np.empty(len(start), np.int64)
    for t in range(len(start)):
        lo, hi = start[t], stop[t]
        while lo < hi:
            mid = (lo + hi) // 2
            if rows[mid] < cell:
                lo = mid + 1
            else:
                hi = mid
        out[t] = lo
    return out
