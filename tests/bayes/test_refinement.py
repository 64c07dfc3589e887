"""The measured error of the grids."""

import numpy as np
import pytest
import scipy.sparse as sp

import hiercorr as hc
from hiercorr.bayes.refinement import grid_error, refined
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")
SETTINGS = Settings(100, 150, 2)


@pytest.fixture(scope="module")
def data():
    return simulate_counts(4, 40, 2, mean=2.0, within=0.5, seed=1)[0]


def test_refined_grids_contain_the_points():
    pytest.importorskip("nutpie")
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    grid = model_of(adata).pair("gene0", "gene1").grid
    fine = refined(grid)
    for c in range(4):
        for g in range(2):
            old = grid.left[c, g] + grid.spacing[c, g] * np.arange(grid.points[g])
            new = fine.left[c, g] + fine.spacing[c, g] * np.arange(fine.points[g])
            assert new[0] < old[0] - grid.spacing[c, g]
            assert new[-1] > old[-1] + grid.spacing[c, g]
            assert abs(old[:, None] - new).min(1).max() < 1e-9


def test_coarser_grids_have_a_larger_error(data):
    pytest.importorskip("nutpie")
    pair = model_of(data).pair("gene0", "gene1")
    draws = sample_pair(pair, SETTINGS, 1)
    assert grid_error(pair, draws) < 0.1
    object.__setattr__(pair, "grids", tuple((left, 4 * step) for left, step in pair.grids))
    assert grid_error(pair, draws) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True])
def test_what_no_grid_resolves_is_flagged(data, copied):
    """A gene and its copy, with counts of thousands: their correlation is too near to 1."""
    pytest.importorskip("nutpie")
    few = data[np.concatenate([np.arange(k, k + 12) for k in (0, 40, 80)])].copy()
    x = few.X.toarray()
    if copied:
        x = np.repeat(x[:, :1], 2, 1) * 2000
    few.X = sp.csr_matrix(x)
    r = model_of(few).fit(draws=100, tune=100, chains=2, seed=1, progress=False)
    flagged = bool(int(r.dataset["flag"].values[0, 1]) & int(hc.Flag.COARSE_GRID))
    assert flagged == copied
    assert (r.dataset.attrs["grid_error"] > 0.1) == copied
