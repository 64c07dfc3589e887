import numpy as np
import pytest

from hiercorr.simulate import simulate_counts


@pytest.fixture
def adata():
    made, _ = simulate_counts(4, 30, 8, mean=4, within=0.3, seed=3)
    made.obs["cell_type"] = np.where(np.arange(made.n_obs) % 3 == 0, "D1", "D10")
    return made
