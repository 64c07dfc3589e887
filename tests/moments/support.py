"""Weighted residuals from dense arrays."""

import numpy as np


def dense_residuals(counts, depth, mu, slope, sample):
    """(x - s mu) / (1 + a s) of the cells of one sample, as (cells, genes)."""
    cells = slice(counts.starts[sample], counts.starts[sample + 1])
    x, s = counts.toarray()[cells].astype(float), depth[cells]
    return (x - np.outer(s, mu)) / (1 + np.outer(s, slope))
