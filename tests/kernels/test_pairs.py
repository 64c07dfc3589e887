"""Compiled tests of pairs."""

import numpy as np

from hiercorr import inference, kernels


def test_kernel_table_marks_what_is_not_inside():
    out = [np.empty((1, 3)) for _ in range(7)]
    kernels.pairs.correlation_table(
        np.array([[1.0, np.nan, 0.3]]), 5.0, 0.5, 0.4, *inference.log_p_table(5, 5**0.5), *out
    )
    assert np.isnan(out[0]).tolist() == [[True, True, False]]
