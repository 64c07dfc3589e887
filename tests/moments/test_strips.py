"""Residuals in strips of genes and the products of strips, against numpy."""

import numpy as np
import pytest

from hiercorr.kernels.vectors import STRIP
from hiercorr.moments.strips import Dense, Strips


def test_strips_hold_every_gene_once_and_zeros_after_the_last():
    block = np.random.default_rng(0).normal(size=(STRIP + 5, 11))
    strips = Strips(len(block), np.float64)
    out = strips.turn(block)
    assert out.shape == (2, 11, STRIP)
    genes = out.transpose(0, 2, 1).reshape(-1, 11)
    np.testing.assert_array_equal(genes[: len(block)], block)
    assert (genes[len(block) :] == 0).all()
    assert np.shares_memory(out, strips.turn(block[:, :4].copy()))


@pytest.mark.parametrize("symmetric", [False, True])
def test_products_of_strips_are_those_of_matrices(symmetric):
    rng = np.random.default_rng(1)
    left = rng.normal(size=(STRIP + 30, 40))
    right = left if symmetric else rng.normal(size=(20, 40))
    dense = Dense(len(left), len(right), symmetric, np.float64)
    for cells in (slice(0, 15), slice(15, 40)):
        x, y = (Strips(len(side), np.float64).turn(side[:, cells].copy()) for side in (left, right))
        dense.add(x, x if symmetric else y)
    out = np.full((len(left), len(right)), np.nan)
    dense.put(np.arange(len(left)), np.arange(len(right)), out)
    keep = np.triu(np.ones_like(out, bool)) if symmetric else np.ones_like(out, bool)
    np.testing.assert_allclose(out[keep], (left @ right.T)[keep], rtol=1e-10, atol=1e-10)
