"""The variance of one cell's contribution."""

import pytest

from hiercorr.planning.variances import cell_variance


def test_cell_variance_of_rich_normal_like_genes():
    # Many counts, little spread: expression itself is observed, and a correlation has variance
    # (1 - rho^2)^2 per cell.
    for rho in (0.0, 0.5):
        assert cell_variance((1e6, 1e6), (0.05, 0.05), rho, 0.0) == pytest.approx(
            (1 - rho**2) ** 2, rel=0.05
        )
