"""Sums over cells through quadrature in sequencing depth."""

import numpy as np
import pytest

from hiercorr import moments
from hiercorr.simulate import simulate_counts
from tests.support import fit, read_counts


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_depth_quadrature_is_exact_to_its_tolerance(spread):
    adata, _ = simulate_counts(3, 200, 5, mean=2, depth_sd=spread, seed=1)
    counts = read_counts(adata, sample="sample", depth="depth")
    for tolerance in (1e-8, 1e-13):
        sums = moments.depth_sums(counts, tolerance)
        x, s = counts.toarray(), counts.depth / counts.depth.mean()
        for a in (0.01, 1.0, 50.0):
            direct = (x / (1 + a * s)[:, None]).sum(0)
            through = (sums.first.sum(1) / (1 + a * sums.nodes)).sum(1)
            np.testing.assert_allclose(through, direct, rtol=30 * tolerance + 1e-12)


def test_constant_depth():
    adata, _ = simulate_counts(3, 50, 4, mean=2, depth_sd=0, depth_shift=0, within=0.5, seed=1)
    assert np.isfinite(fit(adata).matrix().iloc[0, 1])
