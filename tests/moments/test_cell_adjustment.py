"""Expected counts from covariates of cells, by hand."""

import numpy as np

from hiercorr.moments.cell_adjustment import CellAdjustment


def test_expected_counts_are_the_product_of_covariates_and_coefficients():
    scaled = np.array([[1.0, 0.5], [2.0, -1.0], [3.0, 0.0]])
    beta = np.array([[[1.0, 2.0], [0.0, 4.0]], [[10.0, 0.0], [2.0, 1.0]]])
    adjustment = CellAdjustment(scaled, beta, np.zeros((2, 4, 4)))
    first, second = (adjustment.fitted(c, np.float32) for c in (0, 1))
    found = first(slice(0, 2), slice(0, 3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 0, 6]])
    np.testing.assert_array_equal(second(np.array([0]), slice(1, 3)), [[18, 30]])
