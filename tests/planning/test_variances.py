"""The variance of one cell's contribution."""

import pytest

from hiercorr.planning.variances import cell_variance, expected_variance


def test_cell_variance_of_rich_normal_like_genes():
    # Many counts, little spread: expression itself is observed, and a correlation has variance
    # (1 - rho^2)^2 per cell.
    for rho in (0.0, 0.5):
        assert cell_variance((1e6, 1e6), (0.05, 0.05), rho, 0.0) == pytest.approx(
            (1 - rho**2) ** 2, rel=0.05
        )


@pytest.mark.parametrize(("mean", "depth_sd"), [(0.5, 0.4), (2.0, 0.0)])
def test_expected_variance_is_that_of_independent_genes(mean, depth_sd):
    pair = ((mean, mean), (0.8, 0.6))
    expected, skewness = expected_variance(*pair, 0.0, depth_sd)
    assert expected == pytest.approx(cell_variance(*pair, 1e-9, depth_sd), rel=0.05)
    assert expected_variance(*pair, 0.5, depth_sd)[0] > expected
    assert 0 < skewness < 10
