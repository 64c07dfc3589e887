"""Pairs in tiles: the numbers do not depend on them, q-values are over distinct pairs."""

import numpy as np

import hiercorr as hc
from tests.support import fit


def test_q_values_are_over_distinct_pairs(result):
    from scipy import stats

    p = result.matrix("p_value").values
    upper = np.triu_indices(len(p), 1)
    known = np.isfinite(p[upper])
    expected = stats.false_discovery_control(p[upper][known].astype(float))
    np.testing.assert_allclose(result.matrix("q_value").values[upper][known], expected, rtol=1e-5)


def test_tiles_do_not_matter(small, monkeypatch):
    from hiercorr.moments import depth, products, residuals
    from hiercorr.results import tiling

    base = fit(small)
    for name, value in {"_PART_GENES": 3, "WIDE": 5, "_LEAST_GENES": 1}.items():
        monkeypatch.setattr(tiling, name, value)
    monkeypatch.setattr(products, "CELL_BLOCK", 16)
    monkeypatch.setattr(residuals, "CELL_BLOCK", 16)
    monkeypatch.setattr(products, "SPARSE_BLOCK", 20)
    monkeypatch.setattr(depth, "_BASIS_BLOCK", 30)
    low, middle, high = np.quantile(
        hc.CSCore(small, sample="sample", depth="depth").counts.detection, [0.3, 0.5, 0.7]
    )
    # all genes dense, visited for residuals, visited where both have counts;
    # two kinds, all three kinds
    for limits in ((0.0, 0.0), (0.0, 1.1), (1.1, 1.1), (middle, middle), (low, high)):
        monkeypatch.setattr(products, "SPARSE", limits[0])
        monkeypatch.setattr(products, "DENSE", limits[1])
        tiled = fit(small)
        for name in ("correlation", "se", "p_value", "flag"):
            np.testing.assert_allclose(tiled.matrix(name), base.matrix(name), rtol=2e-4, atol=2e-6)
    monkeypatch.undo()
