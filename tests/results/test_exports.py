"""Exports of a result to AnnData and NetworkX."""

import numpy as np
import pytest

import hiercorr as hc


def test_to_anndata(result, one, small):
    before = list(small.varp), list(small.uns), list(small.var)
    out = result.to_anndata(small)
    np.testing.assert_array_equal(
        out.varp["hiercorr_correlation"], result.dataset["correlation"].values
    )
    assert out.uns["hiercorr"]["model"] == "CSCore"
    assert "hiercorr_mean" in out.var
    assert (list(small.varp), list(small.uns), list(small.var)) == before
    assert "hiercorr_gene0_correlation" in one.to_anndata(small).var
    with pytest.raises(hc.InputError, match="not in the AnnData"):
        result.to_anndata(small[:, :3])


def test_to_networkx(result):
    graph = result.to_networkx(q=None, min_correlation=0.2)
    pairs = result.pairs(min_correlation=0.2)
    assert graph.number_of_nodes() == 12
    assert graph.number_of_edges() == len(pairs)
    first = pairs.iloc[0]
    assert graph.edges[first["gene_a"], first["gene_b"]]["weight"] == pytest.approx(
        first["correlation"]
    )
