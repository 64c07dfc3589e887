import numpy as np
import pytest

import hiercorr as hc
from tests.support import VEHICLE


@pytest.fixture(scope="module")
def all_pairs(gbm):
    return hc.CSCore(gbm, genes=15, **VEHICLE).fit()


@pytest.fixture(scope="module")
def target(gbm):
    return hc.CSCore(gbm, genes=15, **VEHICLE).fit(target="FTL")


def test_all_pairs_in_the_order_of_the_genes(all_pairs):
    table = all_pairs.to_frame()
    assert len(table) == len(all_pairs) == 15 * 14 // 2
    r = all_pairs.matrix()
    for a, b in table.index[[0, 13, 14, -1]]:
        assert table.loc[(a, b), "correlation"] == r.loc[a, b]
    expected = all_pairs.pairs().set_index(["gene_a", "gene_b"])
    assert set(table.columns) == set(expected.columns)
    for name in expected.columns:
        np.testing.assert_array_equal(table[name].loc[expected.index], expected[name])


def test_a_target_has_the_table_of_its_partners(target):
    table, expected = target.to_frame(), target.top(n=14)
    assert len(table) == len(target) == 14
    assert "FTL" not in table.index
    assert table.index.tolist() == [g for g in target.genes if g != "FTL"]
    for name in expected.columns:
        np.testing.assert_array_equal(table[name].loc[expected.index], expected[name])


@pytest.mark.parametrize("which", ["all_pairs", "target"])
def test_names_of_statsmodels(which, request):
    r = request.getfixturevalue(which)
    table = r.to_frame()
    np.testing.assert_array_equal(r.params, table["correlation"])
    np.testing.assert_array_equal(r.pvalues, table["p_value"])
    limits = r.conf_int()
    np.testing.assert_array_equal(limits["lower"], table["ci_lower"])
    np.testing.assert_array_equal(limits["upper"], table["ci_upper"])
    assert r.params.index.equals(limits.index)


def test_differences_are_the_parameters_of_a_comparison(gbm):
    r = hc.differential(
        gbm, "sample_id", "condition", block="patient_id", depth="total_counts", genes=14
    )
    table = r.to_frame()
    np.testing.assert_array_equal(r.params, table["difference"])
    np.testing.assert_array_equal(r.conf_int()["upper"], table["difference_upper"])


def test_one_pair(all_pairs, target):
    pair = all_pairs["FTL", "FTH1"]
    assert pair["correlation"] == all_pairs.matrix().loc["FTL", "FTH1"]
    assert pair.name == ("FTL", "FTH1")
    for names in (("FTL", "FTH1"), ("FTH1", "FTL")):
        assert target[names]["p_value"] == target.top(n=14).loc["FTH1", "p_value"]


def test_what_is_no_pair_is_refused(all_pairs, target, gbm):
    with pytest.raises(hc.InputError, match="did you mean 'FTH1'"):
        all_pairs["FTL", "FTH11"]
    with pytest.raises(hc.InputError, match="not a pair"):
        all_pairs["FTL", "FTL"]
    with pytest.raises(hc.InputError, match="pairs of 'FTL' only"):
        target["FTH1", "SPP1"]
    with pytest.raises(hc.InputError, match="unknown gene"):
        all_pairs[["FTL"], "FTH1"]
    for wrong in ("FTL", 3, ("FTL", "FTH1", "SPP1")):
        with pytest.raises(hc.InputError, match="name two genes"):
            all_pairs[wrong]
    with pytest.raises(TypeError):
        iter(all_pairs)
    assert bool(all_pairs)
    naive = hc.CSCore(gbm, genes=15, **VEHICLE).fit(estimator="pooled", uncertainty="none")
    with pytest.raises(hc.InputError, match="no p_value"):
        _ = naive.pvalues
    with pytest.raises(hc.InputError, match="no ci_lower"):
        naive.conf_int()


def test_a_result_on_disk_has_the_same_tables(all_pairs, tmp_path):
    path = all_pairs.save(tmp_path / "r.zarr")
    lazy = hc.load(path, lazy=True)
    np.testing.assert_array_equal(lazy.params, all_pairs.params)
    np.testing.assert_array_equal(lazy.pvalues, all_pairs.pvalues)
    assert lazy["FTL", "FTH1"]["correlation"] == all_pairs["FTL", "FTH1"]["correlation"]
