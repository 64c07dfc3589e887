"""Random-effects regressions of tiles: effects of rows, and both routes of a whole fit."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr import kernels
from hiercorr.within import hierarchical_difference
from hiercorr.within.hierarchical_difference import PairSums, sample_effects
from tests.support import OPTIONS
from tests.within.support import two_arms


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_of_tiles_have_the_effects_of_their_pairs(dtype, symmetric):
    """Also genes without variance, samples without information, and shares of 0."""
    rng = np.random.default_rng(3)
    n_samples, rows, columns = 6, 8, 8 if symmetric else 30
    sums = tuple(
        part.astype(dtype)
        for part in (
            rng.normal(0, 1, (n_samples, rows, columns)),
            rng.gamma(5, 1, (n_samples, rows, columns)),
            rng.gamma(2, 0.2, (n_samples, rows, columns)),
        )
    )
    sums[1][rng.random(sums[1].shape) < 0.03] = 0
    sums[1][:, 3, 5] = 0
    sides = []
    for n in (rows, columns):
        phi = rng.gamma(2, 0.5, n)
        phi[2] = -1
        ratio, share = rng.uniform(0.5, 2, (n_samples, n)), rng.random((n_samples, n))
        ratio[1, 3], share[2, 7] = np.nan, 0
        scale, skewness = rng.gamma(50, 0.02, (n_samples, n)), rng.normal(0, 0.1, (n_samples, n))
        sides.append((phi, scale, ratio, share, skewness))
    for t in range(rows):
        first = t + 1 if symmetric else 0
        at = np.arange(first, columns)
        of_row = (np.full(len(at), t), at)
        left, right = (
            (side[0][k], *(part[:, k] for part in side[1:]))
            for side, k in zip(sides, of_row, strict=True)
        )
        wanted = sample_effects(PairSums(*(part[:, t, at] for part in sums), left, right))
        parts, related = np.empty((4, n_samples, len(at))), np.empty(len(at), bool)
        room = np.empty((n_samples + 4, len(at)))
        kernels.regression.effects_of_row(t, first, sums, *sides, 3.0, 0.9, parts, related, room)
        for k, name in enumerate(("value", "variance", "skewness", "square")):
            np.testing.assert_allclose(
                parts[k], getattr(wanted, name), rtol=5e-6, atol=1e-9, err_msg=name
            )
        np.testing.assert_array_equal(related, wanted.related)


def test_both_routes_of_a_whole_fit_agree(monkeypatch):
    """Array operations by chunk and compiled loops by row: same differences, p and tau."""
    data = two_arms(0.2, 0.6, n=5, cells=300, genes=40, seed=3)
    chunks = hc.differential(data, condition="arm", **OPTIONS).dataset
    monkeypatch.setattr(hierarchical_difference, "COMPILED_FROM", 0)
    rows = hc.differential(data, condition="arm", **OPTIONS).dataset
    assert np.nanmin(rows["p_value"]) < 1e-4
    for name in ("difference", "p_value", "difference_se", "group_tau"):
        np.testing.assert_allclose(rows[name], chunks[name], rtol=2e-4, atol=1e-6, err_msg=name)


def test_the_pairs_of_the_whole_fit_decide_whether_loops_are_compiled(monkeypatch):
    """40 genes have 780 pairs; tiles of many samples are small, also those of fits of millions."""
    used = []
    effects = kernels.regression.effects_of_row
    monkeypatch.setattr(
        kernels.regression, "effects_of_row", lambda *args: used.append(1) or effects(*args)
    )
    data = two_arms(0.2, 0.6, n=5, cells=100, genes=40, seed=3)
    for limit, compiled in ((781, False), (780, True)):
        monkeypatch.setattr(hierarchical_difference, "COMPILED_FROM", limit)
        hc.differential(data, condition="arm", **OPTIONS)
        assert bool(used) is compiled
