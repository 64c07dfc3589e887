"""A pair of genes in the cells."""

import numpy as np
import pytest

from hiercorr import plotting
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_pair_scatter(gbm):
    ax = plotting.pair_scatter(gbm, gene_a="FTL", gene_b="FTH1", **VEHICLE, max_cells=500)
    assert "500 of 2,500 drawn" in ax.get_title()
    assert len(ax.collections[0].get_offsets()) == 500
    assert len(ax.collections) == 6
    cells = gbm[gbm.obs["sample_id"] == "PW030-701"]
    scale = (
        np.median(gbm.obs.loc[gbm.obs["condition"] == "ctrl", "total_counts"])
        / cells.obs["total_counts"].sum()
    )
    expected = np.log1p([cells[:, g].X.sum() * scale for g in ("FTL", "FTH1")])
    np.testing.assert_allclose(ax.collections[1].get_offsets()[0], expected, rtol=1e-6)
