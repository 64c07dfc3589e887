"""Moves of values within and between square arrays."""

import numpy as np
import pytest

from hiercorr import kernels


@pytest.mark.parametrize(
    ("left", "right"), [(slice(3, 140), slice(140, 210)), (slice(50, 190), slice(50, 190))]
)
def test_a_tile_goes_to_both_triangles(left, right):
    whole = np.random.default_rng(0).random((230, 230))
    whole = np.triu(whole) + np.triu(whole, 1).T
    tile = whole[left, right].copy()
    if left == right:
        tile[np.tril_indices(len(tile), -1)] = np.nan  # below the diagonal nothing is read
    out = np.full_like(whole, -1)
    kernels.squares.place(tile, left.start, right.start, out)
    np.testing.assert_array_equal(out[left, right], whole[left, right])
    np.testing.assert_array_equal(out[right, left], whole[right, left])
    assert (out == -1).sum() == whole.size - (1 if left == right else 2) * tile.size
