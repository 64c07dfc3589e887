"""Adjusted p-values against scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from hiercorr import inference
from hiercorr.inference.multiplicity import hierarchical, simes, storey


def test_benjamini_hochberg():
    p = np.random.default_rng(0).uniform(size=1000) ** 2
    p[::7] = np.nan
    q = inference.benjamini_hochberg(p)
    known = np.isfinite(p)
    np.testing.assert_allclose(q[known], stats.false_discovery_control(p[known]))
    assert np.isnan(q[~known]).all()
    assert np.isnan(inference.benjamini_hochberg(np.full(3, np.nan))).all()
    single = p.astype(np.float32)  # sorted in another way
    single[:50] = single[50]  # ties
    known = np.isfinite(single)
    found = inference.benjamini_hochberg(single)
    np.testing.assert_allclose(
        found[known], stats.false_discovery_control(single[known]), rtol=1e-6
    )
    assert np.isnan(found[~known]).all()
    assert found.dtype == np.float32


def test_storey_uses_the_share_of_true_nulls():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(3000), rng.random(1000) * 1e-3])
    ratio = storey(p) / multipletests(p, method="fdr_bh")[1]
    assert ratio.max() == pytest.approx(0.75, abs=0.05)
    assert storey(rng.random(500) ** 0.2).max() <= 1  # never beyond BH


def test_simes_and_choice_of_genes():
    rng = np.random.default_rng(1)
    p = rng.random((30, 30))
    p[:5, 10:20] = 1e-6
    np.fill_diagonal(p, np.nan)
    for k in (0, 7):
        row = p[k][np.isfinite(p[k])]
        assert simes(p)[k] == pytest.approx(
            min(np.sort(row) * len(row) / np.arange(1, len(row) + 1))
        )
    q = hierarchical(p, 0.05)
    chosen = stats.false_discovery_control(simes(p)) <= 0.05
    assert chosen[:5].all()
    for k in range(30):
        row = np.isfinite(p[k])
        wanted = (
            np.minimum(stats.false_discovery_control(p[k][row]) * 30 / chosen.sum(), 1)
            if chosen[k]
            else 1.0
        )
        np.testing.assert_allclose(q[k][row], wanted)
