"""Compiled loops on plain arrays; :mod:`hiercorr.kernels.bayes` is imported separately."""

from hiercorr.kernels import (
    counts,
    differences,
    heterogeneity,
    pairs,
    regression,
    squares,
    strips,
    sums,
)

__all__ = [
    "counts",
    "differences",
    "heterogeneity",
    "pairs",
    "regression",
    "squares",
    "strips",
    "sums",
]
