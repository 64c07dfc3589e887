import numpy as np
import pytest

from hiercorr.bayes.margin import Cells
from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="session")
def cells():
    adata, _ = simulate_counts(
        6, [60, 90, 40, 80, 70, 50], 4, mean=[0.1, 0.6, 2.0, 9.0], within=0.5, seed=1
    )
    s = adata.obs["depth"].to_numpy()
    starts = np.append(0, np.cumsum([60, 90, 40, 80, 70, 50]))
    return Cells(adata.X.toarray().astype(np.int64), np.log(s / s.mean()), starts)
