"""Reading counts: the input stays as it was, depth is taken from all genes."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from tests.counts.support import counts
from tests.support import fit


def test_input_is_not_modified(adata):
    adata.X = adata.X.astype(np.float32)
    x, obs, var = adata.X.copy(), adata.obs.copy(), adata.var.copy()
    adata.X.data.flags.writeable = False
    fit(adata)
    assert (x != adata.X).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, obs)
    pd.testing.assert_frame_equal(adata.var, var)


def test_depth_is_taken_before_genes_and_cells_are_chosen(adata):
    total = np.asarray(adata.X.sum(1)).ravel()
    with pytest.warns(hc.DataWarning, match="targeted panel"):
        got = counts(
            adata,
            depth=None,
            genes=["gene1", "gene2"],
            subset=adata.obs["cell_type"].to_numpy() == "D1",
        )
    np.testing.assert_array_equal(got.depth, total[got.cells])
