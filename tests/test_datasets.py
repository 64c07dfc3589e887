"""The data sets and gene sets that come with the package."""

import hiercorr as hc


def test_data_sets():
    assert hc.datasets.kang_pbmc().shape == (1556, 1267)
    sets = hc.datasets.hallmark()
    assert len(sets) == 50
    assert "HALLMARK_HYPOXIA" in sets
