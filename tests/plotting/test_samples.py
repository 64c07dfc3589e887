"""Plots over samples: forest and strip."""

import numpy as np
import pytest

from tests.plotting.support import ink

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_forest(result):
    ax = result.plot.forest("FTL", "FTH1")
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[:2] == ["new sample (95%)", "all samples"]
    assert len(labels) == 7
    at = result.dataset.sel(gene="FTL", partner="FTH1")
    np.testing.assert_allclose(
        sorted(ax.collections[1].get_offsets()[:, 0]),
        np.sort(at["sample_correlation"].values),
        rtol=1e-6,
    )
    assert ink(ax.figure) > 0.01


def test_strip(result):
    ax = result.plot.strip("FTL", n=6)
    assert len(ax.get_xticklabels()) == 6
    assert len(ax.lines) == 7  # five samples, the zero line and the entry of all samples


def test_areas_of_squares_are_weights(result):
    ax = result.plot.forest("FTL", "FTH1")
    table = result.sample_table("FTL", "FTH1").iloc[::-1]
    area = ax.collections[1].get_sizes()
    weight = table["fisher_z_se"] ** -2
    np.testing.assert_allclose(area / area.max(), weight / weight.max(), rtol=1e-5)
    assert any("1 / SE" in t.get_text() for t in ax.texts)
