import numpy as np
import pytest

from hiercorr.moments.depth import depth_sums
from hiercorr.simulate import simulate_counts
from tests.support import read_counts


@pytest.fixture(scope="session")
def counts():
    """4 samples x 9 genes that are detected in a few to nearly all cells."""
    mean = [0.03, 4, 0.08, 2, 0.2, 1, 0.05, 6, 0.1]
    adata, _ = simulate_counts(4, [70, 130, 90, 50], 9, mean=mean, within=0.5, seed=11)
    return read_counts(adata, sample="sample", depth="depth")


@pytest.fixture(scope="session")
def sums(counts):
    return depth_sums(counts, 1e-13)


@pytest.fixture(scope="session")
def weights(counts):
    """mu and a, of any value, of the residuals (x - s mu) / (1 + a s)."""
    rng = np.random.default_rng(4)
    return rng.uniform(0.1, 3, counts.n_genes), rng.uniform(0, 2, counts.n_genes)
