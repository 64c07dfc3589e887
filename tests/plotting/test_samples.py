"""Plots over samples: forest and strip."""

import numpy as np
import pytest

import hiercorr as hc
from tests.plotting.support import ink, title

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


def test_scatter_over_samples_has_the_partial_correlation(gbm):
    model = hc.Pseudobulk(gbm, "sample_id", formula="~ condition", depth="total_counts", genes=20)
    r = model.fit()
    a, b = r.pairs(n=1).loc[0, ["gene_a", "gene_b"]]
    ax = r.plot.sample_scatter(a, b)
    x, y = ax.collections[0].get_offsets().T
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(r[a, b]["correlation"], rel=1e-5)
    assert ax.get_xlabel() == f"{a} (log2 CPM, adjusted)"
    assert title(ax).startswith("10 samples: r = ")
    with pytest.raises(hc.InputError, match="no expression of samples"):
        hc.CSCore(gbm, "sample_id", depth="total_counts", genes=5).fit().plot.sample_scatter(a, b)


def test_plots_across_cell_types(gbm):
    data = gbm.copy()
    data.obs["kind"] = ["y" if k % 2 else "x" for k in range(data.n_obs)]
    options = {"depth": "total_counts", "genes_a": 4, "genes_b": 12}
    r = hc.AcrossCellTypes(data, "sample_id", "kind", ("x", "y"), **options).fit()
    ax = r.plot.heatmap()
    rows, columns = ([t.get_text() for t in a.get_ticklabels()] for a in (ax.yaxis, ax.xaxis))
    np.testing.assert_array_equal(ax.images[0].get_array(), r.matrix().loc[rows, columns])
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("genes of x", "genes of y")
    assert len(r.plot.heatmap(genes=[*rows[:2], *columns[:3]]).images[0].get_array()) == 2
    a, b = rows[0], next(c for c in columns if " (" not in c)
    ax = r.plot.sample_scatter(b, a)
    assert ax.get_xlabel() == f"{b} in y (log2 CPM)"
    assert ax.get_ylabel() == f"{a} (log2 CPM)"
    assert sum(len(c.get_offsets()) for c in r.plot.volcano().collections) == 48
    assert sum(len(c.get_offsets()) for c in r.plot.diagnostics().collections) == 16
    assert "48 p-values" in title(r.plot.qq())
