"""Orders of samples for permutation tests."""

import itertools

import numpy as np

from hiercorr.design.permutation import arrangements, distinct_orders, random_orders


def test_pairs_of_samples_have_mirror_images():
    chosen = arrangements(6, 1000, np.repeat([0, 1, 2], 2), None)
    assert (chosen.possible, chosen.smallest_p) == (8, 0.25)


def test_random_orders_stay_within_strata():
    strata = np.array([0, 1, 0, 1, 1, 2])
    orders = random_orders(strata, 400, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(6), (400, 1)))
    np.testing.assert_array_equal(strata[orders], np.tile(strata, (400, 1)))
    assert len(np.unique(orders, axis=0)) == 2 * 6  # all orders: 2! 3! 1!


def test_distinct_orders_by_brute_force():
    values, strata = np.array([0.0, 1, 1, 5, 5, 7]), np.array([0, 0, 0, 1, 1, 1])
    wanted = {
        (*values[list(a)], *values[list(b)])
        for a in itertools.permutations(range(3))
        for b in itertools.permutations(range(3, 6))
    }
    found = distinct_orders(values, strata, 9)
    assert sorted(map(tuple, found)) == sorted(wanted)
    assert distinct_orders(values, strata, 8) is None
