"""All compiled loops but those of :mod:`hiercorr.bayes`. Plain arrays in, plain arrays out."""

from hiercorr.kernels import counts, differences, pairs, squares, strips, sums

__all__ = ["counts", "differences", "pairs", "squares", "strips", "sums"]
