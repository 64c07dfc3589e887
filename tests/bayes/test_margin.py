"""Margins of genes: rows of cells, and the mode of the integrated likelihood."""

import numpy as np
import pytest
from scipy import integrate, stats

from hiercorr.bayes.margin import Rows, fit_margin

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_rows_stand_for_their_cells(cells):
    """A Gauss rule over depth replaces cells with equal counts; the mode does not move."""
    for j in range(3):
        rows = cells.rows(j)
        assert len(rows.weight) < len(cells.x)
        np.testing.assert_allclose(
            np.add.reduceat(rows.weight, rows.starts[:-1]), np.diff(cells.starts)
        )
        every = Rows(
            cells.x[:, [j]].astype(float), cells.exposure(j), np.ones(len(cells.x)), cells.starts
        )
        few, all_ = (fit_margin(r, 0, (np.log(0.6), 0.6)) for r in (rows, every))
        assert few.log_sd == pytest.approx(all_.log_sd, abs=1e-7)
        np.testing.assert_allclose(few.m, all_.m, atol=1e-7)
        np.testing.assert_allclose(few.m_se, all_.m_se, rtol=1e-6)


@pytest.mark.slow
def test_margin_is_the_mode_of_the_integrated_likelihood(cells):
    """Against adaptive quadrature of Poisson times normal for each cell."""
    j, c = 1, 0
    margin = fit_margin(cells.rows(j), 0, (np.log(0.6), 0.6))

    def cell(i, m, sd):
        def density(u):
            return stats.poisson.pmf(cells.x[i, j], np.exp(cells.log_s[i] + u)) * stats.norm.pdf(
                u, m, sd
            )

        return np.log(integrate.quad(density, m - 8 * sd, m + 8 * sd, limit=200)[0])

    def value(m):
        prior = stats.norm.logpdf(m, margin.prior_mean, 1.5)
        return prior + sum(
            cell(i, m, margin.sd) for i in range(cells.starts[c], cells.starts[c + 1])
        )

    h = 0.05
    down, mid, up = (value(margin.m[c] + k * h) for k in (-1, 0, 1))
    assert abs(up - down) / (2 * h) < 0.02 / margin.m_se[c]  # the slope is nought at the mode
    assert 1 / np.sqrt(-(up - 2 * mid + down) / h**2) == pytest.approx(margin.m_se[c], rel=0.02)
