"""Reading and comparing counts."""

import numpy as np

from tests.support import read_counts


def counts(source, **options):
    return read_counts(source, **{"sample": "sample", "depth": "depth", **options})


def same(a, b):
    np.testing.assert_array_equal(a.toarray(), b.toarray())
    np.testing.assert_array_equal(a.depth, b.depth)
    np.testing.assert_array_equal(a.starts, b.starts)
    assert list(a.genes) == list(b.genes)
    assert list(a.samples) == list(b.samples)
