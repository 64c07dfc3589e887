"""Cells of the posterior, and work that is too much."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.population import cells_of
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_too_much_work_is_refused_with_its_cost():
    adata, _ = simulate_counts(4, 30, 25, mean=2.0, seed=1)
    with pytest.raises(
        hc.InputError, match=r"2 to 20 genes, not 25: 300 pairs would take about .* fit_many"
    ):
        model_of(adata).fit()
    big, _ = simulate_counts(4, 5200, 2, mean=0.5, seed=1)
    with pytest.raises(hc.InputError, match=r"20,800 cells: .*many_cells='subsample'"):
        model_of(big)
    with pytest.warns(hc.DataWarning, match="of 20,800 cells are used"):
        thinned = model_of(big, many_cells="subsample", seed=1)
    assert thinned.counts.n_cells == 20_000
    where = thinned.counts.cells
    np.testing.assert_array_equal(
        cells_of(thinned.counts, thinned._setup).x, big.X.toarray()[where]
    )
    assert model_of(big, many_cells="all").counts.n_cells == 20_800
    with pytest.raises(hc.InputError, match="has a parameter for each of"):
        model_of(big, many_cells="all").fit(method="latent", draws=100)
