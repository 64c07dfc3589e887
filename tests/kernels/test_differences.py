"""Regressions of per-sample values against scipy's t tests."""

import numpy as np
import pytest
from scipy import stats

from hiercorr import kernels

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def kernel(values, design, contrast):
    """The regression of equally weighted per-sample values."""
    s = len(values)
    num, den = values.reshape(s, 1, 1), np.ones((s, 1, 1))
    zero, share, one = np.zeros((s, 1)), np.full((s, 1), 1 / s), np.ones(1)
    found = kernels.differences.difference(
        num, den, one, one, zero, zero, share, share, design, np.array(contrast, float)
    )
    return [float(v[0, 0]) for v in found]


def test_two_groups_are_welch():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 4), rng.normal(1, 1, 9)
    design = np.column_stack([np.ones(13), np.repeat([0.0, 1.0], [4, 9])])
    estimate, se, df = kernel(np.concatenate([a, b]), design, [0, 1])
    wanted = stats.ttest_ind(b, a, equal_var=False)
    assert estimate / se == pytest.approx(wanted.statistic)
    v = 1 / np.array([4, 9])  # the working variances are equal
    assert df == pytest.approx(v.sum() ** 2 / (v**2 / np.array([3, 8])).sum())


def test_pairs_in_blocks_are_the_paired_t_test():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 6), rng.normal(0.5, 1, 6)
    donors = np.tile(np.eye(6), (2, 1))
    design = np.column_stack([np.ones(12), donors[:, 1:], np.repeat([0.0, 1.0], 6)])
    estimate, se, df = kernel(np.concatenate([a, b]), design, [0] * 6 + [1])
    wanted = stats.ttest_rel(b, a)
    assert estimate / se == pytest.approx(wanted.statistic)
    assert df == pytest.approx(5)
