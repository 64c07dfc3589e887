"""The table of distinct pairs."""

import pandas as pd

from tests.support import fit


def test_strongest_pairs_only(small):
    result = fit(small)
    whole = result.pairs()
    pd.testing.assert_frame_equal(result.pairs(n=7), whole.head(7))
    bare = fit(small, uncertainty="none")
    assert set(bare.pairs(n=5)["gene_a"]) == set(bare.pairs().head(5)["gene_a"])
    assert len(result.pairs(n=10_000)) == len(whole)
