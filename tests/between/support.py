"""Designs, responses and models that tests of the models between samples share."""

import warnings

import numpy as np
from scipy import stats

import hiercorr as hc

_RNG = np.random.default_rng(3)
DESIGN = np.column_stack([np.ones(12), np.tile([0.0, 1.0], 6), _RNG.normal(size=12)])
Y = _RNG.normal(size=(12, 5)) + DESIGN @ _RNG.normal(size=(3, 5))
BLOCKS = np.repeat(np.arange(4), 3)


def model(adata, quiet_donors=True, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.DataWarning if quiet_donors else RuntimeWarning)
        return hc.Pseudobulk(adata, "sample_id", depth="total_counts", **options)


def pseudobulk(adata, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.DataWarning)
        return hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm", **options)


def spearman_over_all_orders(x, y):
    """Return scipy's p-value of Spearman's r over all orders of x.

    The sum of products of ranks orders them as r does, and scipy takes it for many at one time.
    """
    ranks = stats.rankdata(y)
    return stats.permutation_test(
        (stats.rankdata(x),),
        lambda x, axis: (x * ranks).sum(axis),
        vectorized=True,
        permutation_type="pairings",
        n_resamples=np.inf,
    ).pvalue
