"""Loops over stored counts that check, sort, sum and identify them.

Small matrices are summed by scipy, so that reading them needs no compilation.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hiercorr.runtime.compile import compiled, over_ranges

_CHUNK = 1 << 22  # entries whose numbers are converted together
_SMALL = 1 << 22  # cells x genes of a matrix summed without compiled loops
_LARGEST = 2147483647


def first_bad_count(values):
    """Return the position of the first value that is not a non-negative int32, or -1."""
    size = 16_384
    bad = []

    def check(begin, end):
        for first in range(begin * size, min(end * size, len(values)), size):
            block = values[first : first + size]
            if not (
                block.min() >= 0 and block.max() <= _LARGEST and (block == np.floor(block)).all()
            ):
                good = (block >= 0) & (block <= _LARGEST) & (block == np.floor(block))
                bad.append(first + int(np.argmin(good)))

    over_ranges(check, -(-len(values) // size))
    return min(bad, default=-1)


def mix(cells):
    """Hash the positions of cells, so that moving counts between cells changes a digest."""
    h = (np.asarray(cells).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(27))


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
    before = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values.astype(np.uint64) * mix(cells), out=before[1:])
    return np.diff(before[offsets], axis=1)  # modulo 2^64


def _chunks(indptr, indices, values):
    """Yield (first row, indptr, indices, values) of rows with up to a chunk of entries.

    The types of the numbers are always the same.
    """
    row = 0
    while row < len(indptr) - 1:
        last = int(np.searchsorted(indptr, indptr[row] + _CHUNK, side="right")) - 1
        last = max(last, row + 1)
        a, b = int(indptr[row]), int(indptr[last])
        with np.errstate(invalid="ignore"):  # data that have changed: the digest will differ
            yield (
                row,
                indptr[row : last + 1].astype(np.int64) - a,
                np.ascontiguousarray(indices[a:b], np.int32),
                np.ascontiguousarray(values[a:b]).astype(np.int32, copy=False),
            )
        row = last


def _by_group(codes, groups, indptr, indices, values, n):
    """Sum the entries of the cells of each group, (groups, n genes)."""
    used = np.flatnonzero(codes >= 0)
    place = codes[used], used
    member = sparse.csr_matrix((np.ones(len(used), values.dtype), place), (groups, len(codes)))
    return (member @ sparse.csr_matrix((values, indices, indptr), (len(codes), n))).toarray()


def scan_block(indptr, indices, values, codes, row0, col0, count, total, row_sum, digest, cell0):
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
    digest : ndarray of uint64, shape (genes,)
        Digest of the counts in the used cells.
    cell0 : int
        Position in the source of the first cell of `codes`.
    """
    small = len(codes) * len(total) <= _SMALL
    for row, starts, genes, counts in _chunks(indptr, indices, values):
        first = row0 + row
        cells = slice(first, first + len(starts) - 1)
        mixed = mix(np.arange(cell0 + cells.start, cell0 + cells.stop))
        if not small:
            _scan(
                starts,
                genes,
                counts,
                codes,
                mixed,
                first,
                col0,
                count,
                total,
                row_sum,
                digest,
            )
            continue
        n, group = int(genes.max(initial=-1)) + 1, codes[cells]
        here = slice(col0, col0 + n)
        row_of = np.repeat(np.arange(len(group)), np.diff(starts))
        row_sum[cells] += np.bincount(row_of, counts, len(group))
        count[here] += _by_group(
            group, count.shape[1], starts, genes, (counts != 0).astype(np.int64), n
        ).T
        one = np.minimum(group, 0)  # all used cells as one group
        total[here] += _by_group(one, 1, starts, genes, counts.astype(np.float64), n)[0]
        identity = counts.astype(np.uint64) * mixed[row_of]
        digest[here] += _by_group(one, 1, starts, genes, identity, n)[0]


@compiled()
def _scan(indptr, indices, values, codes, mixed, row0, col0, count, total, row_sum, digest):
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        for e in range(indptr[r], indptr[r + 1]):
            v = values[e]
            s += v
            if v == 0:
                continue
            g = col0 + indices[e]
            if c >= 0:
                count[g, c] += 1
                total[g] += v
                digest[g] += np.uint64(v) * mixed[r]
        row_sum[row0 + r] += s


def is_small(n_cells, n_genes):
    """Return whether a matrix is summed without compiled loops."""
    return n_cells * n_genes <= _SMALL


def examine_rows(indptr, indices, values, rows, total, squares, detected, low):
    """Add some rows of a CSR block to sums over genes, and describe the entries of each row.

    Parameters
    ----------
    indptr, indices, values : ndarray
        CSR block.
    rows : ndarray of int64
        In ascending order.
    total, squares : ndarray, shape (genes,)
        Sums of the values and of their squares.
    detected : ndarray of int64, shape (genes,)
        Number of non-zero entries.
    low : ndarray of int64, shape (n, genes)
        Numbers of entries of 1, 2, ..., n.

    Returns
    -------
    least : ndarray
        Smallest non-zero value of each row, inf without one.
    ties, nonzero : ndarray of int64
        Number of entries that have this value, and of non-zero entries.
    row_sum : ndarray
    """
    least, row_sum = np.full(len(rows), np.inf), np.zeros(len(rows))
    ties, nonzero = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    sums = (total, squares, detected, low)
    for row, starts, genes, counts in _chunks(indptr, indices, values):
        a, b = np.searchsorted(rows, [row, row + len(starts) - 1])
        of_rows = (least[a:b], ties[a:b], nonzero[a:b], row_sum[a:b])
        _examine(starts, genes, counts, rows[a:b] - row, *sums, *of_rows)
    return least, ties, nonzero, row_sum


@compiled()
def _examine(
    indptr, indices, values, rows, total, squares, detected, low, least, ties, nonzero, row_sum
):
    for k in range(len(rows)):
        for e in range(indptr[rows[k]], indptr[rows[k] + 1]):
            v = np.float64(values[e])
            if v == 0:
                continue
            g = indices[e]
            total[g] += v
            squares[g] += v * v
            detected[g] += 1
            if v <= len(low):
                low[int(v) - 1, g] += 1
            nonzero[k] += 1
            row_sum[k] += v
            if v < least[k]:
                least[k] = v
                ties[k] = 0
            if v == least[k]:
                ties[k] += 1


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
    small = len(codes) * len(column) <= _SMALL
    for row, starts, genes, counts in _chunks(indptr, indices, values):
        first = row0 + row
        given = (codes, position, column, first, col0, edges, cursor, rows_out, values_out)
        if not small:
            over_ranges(_fill, len(edges) - 1, starts, genes, counts, *given)
            continue
        cell = first + np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        gene = column[col0 + genes]
        used = (codes[cell] >= 0) & (gene >= edges[0]) & (gene < edges[-1]) & (counts != 0)
        cell, gene, counts = cell[used], gene[used], counts[used]
        place = gene * cursor.shape[1] + codes[cell]  # of the gene and sample in `cursor`
        order = np.argsort(place, kind="stable")
        found = np.bincount(place, minlength=cursor.size)
        before = np.append(0, np.cumsum(found)[:-1])
        at = np.arange(len(order)) + (cursor.ravel() - before)[place[order]]
        rows_out[at], values_out[at] = position[cell[order]], counts[order]
        cursor += found.reshape(cursor.shape)


@compiled()
def _fill(
    begin,
    end,
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
    first, last = edges[begin], edges[end]
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        if c < 0:
            continue
        for e in range(indptr[r], indptr[r + 1]):
            g = column[col0 + indices[e]]
            if first <= g < last and values[e] != 0:
                k = cursor[g, c]
                rows_out[k] = position[row0 + r]
                values_out[k] = values[e]
                cursor[g, c] = k + 1


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
    small = len(codes) * len(detected) <= _SMALL
    for row, starts, genes, counts in _chunks(indptr, indices, values):
        first = row0 + row
        cells = slice(first, first + len(starts) - 1)
        mixed = mix(np.arange(cells.start, cells.stop))
        if not small:
            _sum(starts, genes, counts, codes, mixed, first, col0, sums, row_sum, detected, digest)
            continue
        n, group = int(genes.max(initial=-1)) + 1, codes[cells]
        here = slice(col0, col0 + n)
        row_of = np.repeat(np.arange(len(group)), np.diff(starts))
        used = group >= 0
        row_sum[cells] += np.where(used, np.bincount(row_of, counts, len(group)), 0)
        detected[here] += np.bincount(genes[used[row_of] & (counts > 0)], minlength=n)
        sums[:, here] += _by_group(group, len(sums), starts, genes, counts.astype(np.int64), n)
        identity = counts.astype(np.uint64) * mixed[row_of]
        digest[:, here] += _by_group(group, len(sums), starts, genes, identity, n)


@compiled()
def _sum(indptr, indices, values, codes, mixed, row0, col0, sums, row_sum, detected, digest):
    for r in range(len(indptr) - 1):
        c = codes[row0 + r]
        s = 0.0
        if c >= 0:
            for e in range(indptr[r], indptr[r + 1]):
                v = values[e]
                s += v
                sums[c, col0 + indices[e]] += v
                detected[col0 + indices[e]] += v > 0
                digest[c, col0 + indices[e]] += np.uint64(v) * mixed[r]
        row_sum[row0 + r] += s


def entries_before(rows, start, stop, cell):
    """Find each gene's first entry in start:stop whose cell is at or after `cell`."""
    low, high = start.copy(), stop.copy()
    if not len(rows):
        return low
    while (low < high).any():  # all genes take each step of the search together
        middle = (low + high) // 2
        before = (low < high) & (rows[np.minimum(middle, len(rows) - 1)] < cell)
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    return low
