"""Loops over stored counts: what is read, checked, sorted and added up before anything is estimated."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hiercorr.runtime.compile import parallel


@njit(inline="always")
def _is_count(v):
    return (v >= 0) & (v <= 2147483647) & (v == np.floor(v))


@parallel()
def first_bad_count(values):
    """Position of the first value that is not a non-negative whole number of 32 bits, or -1."""
    size = 65_536
    parts = (len(values) + size - 1) // size
    bad = np.zeros(parts, np.int64)
    for part in prange(parts):
        n = 0
        for k in range(part * size, min(part * size + size, len(values))):
            n += 1 - _is_count(values[k])  # no way out of the loop: it is one of vectors
        bad[part] = n
    for part in range(parts):
        if bad[part] > 0:
            for k in range(part * size, len(values)):
                if not _is_count(values[k]):
                    return k
    return -1


@njit(inline="always")
def mix(cell):
    """Hash of a cell's position, so that moving counts between cells changes a digest."""
    h = (np.uint64(cell) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(27))


@njit(cache=True)
def entry_digest(cells, values, offsets):
    """Digest of the entries between consecutive offsets, shape (genes, samples); `cells` are positions in the source."""
    out = np.zeros((offsets.shape[0], offsets.shape[1] - 1), np.uint64)
    for j in range(out.shape[0]):
        for c in range(out.shape[1]):
            for e in range(offsets[j, c], offsets[j, c + 1]):
                out[j, c] += np.uint64(values[e]) * mix(cells[e])
    return out


@njit(cache=True)
def scan_block(indptr, indices, values, codes, row0, col0, count, total, row_sum, seen, digest, cell0):
    """Add a CSR block to non-zeros per gene and sample and counts per gene (both of used cells) and counts per cell.

    `seen` becomes True for a gene with a count in any cell, used or not. `digest` identifies the counts of a gene in the
    used cells, whose positions in the source begin at `cell0`.
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
    """Scatter a CSR block into columns grouped by sample; `cursor` is the next free entry per gene and sample.

    Each thread reads the whole block and writes the genes between two of `edges`.
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
    """Add a CSR block to the sums per group and gene, the sums per cell and the cells per gene; code -1: not used.

    `digest` identifies the counts of a gene in each group.
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
    """For each gene the first entry in start:stop whose cell is not before `cell`."""
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
