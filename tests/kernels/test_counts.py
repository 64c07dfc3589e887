"""Compiled loops over stored counts against numpy and scipy."""

import numpy as np
import pytest
from scipy import sparse

from hiercorr.kernels import counts

X = np.random.default_rng(3).poisson(0.6, (40, 6))
CODES = np.random.default_rng(4).integers(-1, 3, 40)  # -1: the cell is not used


@pytest.mark.parametrize("bad", [0.5, -1.0, np.nan, np.inf, 2.0**31])
@pytest.mark.parametrize("at", [0, 65_536, 99_999])
def test_first_value_that_is_not_a_count(bad, at):
    values = np.ones(100_000)
    assert counts.first_bad_count(values) == -1
    values[at:] = bad
    assert counts.first_bad_count(values) == at


@pytest.fixture(params=["scipy", "compiled"])
def way(request, monkeypatch):
    """Small matrices are summed without compiled loops."""
    if request.param == "compiled":
        monkeypatch.setattr(counts, "_SMALL", 0)
    monkeypatch.setattr(counts, "_CHUNK", 20)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_scan_of_two_blocks(way, dtype):
    count, total = np.zeros((6, 3), np.int64), np.zeros(6)
    row_sum, digest = np.zeros(40), np.zeros(6, np.uint64)
    for first in (0, 25):
        m = sparse.csr_matrix(X[first : first + 25].astype(dtype))
        counts.scan_block(
            *(m.indptr, m.indices, m.data, CODES, first, 0),
            *(count, total, row_sum, digest, 0),
        )
    for c in range(3):
        np.testing.assert_array_equal(count[:, c], (X[c == CODES] > 0).sum(0))
    np.testing.assert_array_equal(total, X[CODES >= 0].sum(0))
    np.testing.assert_array_equal(row_sum, X.sum(1))
    mixed = counts.mix(np.arange(40))[:, None] * X.astype(np.uint64)
    np.testing.assert_array_equal(digest, mixed[CODES >= 0].sum(0))


def test_entries_in_order_of_samples(way):
    chosen, order = np.array([1, 2, 5]), np.argsort(CODES, kind="stable")
    order = order[CODES[order] >= 0]
    column, position = np.full(6, -1), np.full(40, -1)
    column[chosen], position[order] = np.arange(3), np.arange(len(order))
    count = np.array([[(X[c == CODES, g] > 0).sum() for c in range(3)] for g in chosen])
    cursor = (np.cumsum(count) - count.ravel()).reshape(3, 3)
    rows, values = np.full(count.sum(), -1, np.int32), np.full(count.sum(), -1, np.int32)
    for first in (0, 25):
        m = sparse.csr_matrix(X[first : first + 25])
        counts.fill_block(
            *(m.indptr, m.indices, m.data, CODES, position, column, first, 0),
            *(np.array([0, 2, 3]), cursor, rows, values),
        )
    wanted = sparse.csc_matrix(X[order][:, chosen])
    np.testing.assert_array_equal(rows, wanted.indices)
    np.testing.assert_array_equal(values, wanted.data)


def test_sums_of_groups(way):
    m = sparse.csr_matrix(X)
    sums, row_sum = np.zeros((3, 6), np.int64), np.zeros(40)
    detected, digest = np.zeros(6, np.int64), np.zeros((3, 6), np.uint64)
    counts.sum_block(m.indptr, m.indices, m.data, CODES, 0, 0, sums, row_sum, detected, digest)
    for c in range(3):
        np.testing.assert_array_equal(sums[c], X[c == CODES].sum(0))
    np.testing.assert_array_equal(row_sum[CODES >= 0], X[CODES >= 0].sum(1))
    np.testing.assert_array_equal(detected, (X[CODES >= 0] > 0).sum(0))
    mixed = counts.mix(np.arange(40))[:, None] * X.astype(np.uint64)
    for c in range(3):
        np.testing.assert_array_equal(digest[c], mixed[c == CODES].sum(0))


def test_entries_before_a_cell():
    m = sparse.csc_matrix(X)
    start, stop = m.indptr[:-1].astype(np.int64), m.indptr[1:].astype(np.int64)
    for cell in (0, 17, 40):
        found = counts.entries_before(m.indices.astype(np.int32), start, stop, cell)
        wanted = [
            a + np.searchsorted(m.indices[a:b], cell) for a, b in zip(start, stop, strict=True)
        ]
        np.testing.assert_array_equal(found, wanted)


def test_a_digest_sees_counts_that_change_cells():
    m = sparse.csc_matrix(X)
    offsets = np.column_stack([m.indptr[:-1], m.indptr[1:]]).astype(np.int64)
    values = m.data.astype(np.int32)
    first = counts.entry_digest(m.indices.astype(np.int64), values, offsets)
    moved = m.indices.astype(np.int64)
    moved[0] += 100
    second = counts.entry_digest(moved, values, offsets)
    assert first[0, 0] != second[0, 0]
    np.testing.assert_array_equal(first[1:], second[1:])
    total, mixed = np.zeros(6, np.uint64), counts.mix(np.arange(len(X)))
    gene = np.repeat(np.arange(6), np.diff(m.indptr))
    order = np.random.default_rng(0).permutation(len(gene))  # in any order
    np.add.at(total, gene[order], (values.astype(np.uint64) * mixed[m.indices])[order])
    np.testing.assert_array_equal(first[:, 0], total)
