"""The network of pairs."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.modules import find_modules

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_network_modules_and_limits(result):
    modules = find_modules(result, min_correlation=0.2)
    ax = result.plot.network(min_correlation=0.2, modules=modules, max_genes=10)
    assert "10 of" in ax.get_title()
    with pytest.raises(hc.InputError, match="no network to show"):
        result.plot.network(min_correlation=0.999)


def test_diagnostics_and_network_show_the_result(result):
    r = result.matrix().to_numpy(float).copy()
    np.fill_diagonal(r, np.nan)
    shown = np.concatenate([c.get_offsets() for c in result.plot.diagnostics().collections])
    expected = np.column_stack([result.gene_table()["detection"], np.nanmedian(np.abs(r), axis=0)])
    np.testing.assert_allclose(
        shown[np.lexsort(shown.T)], expected[np.lexsort(expected.T)], rtol=1e-6
    )
    ax = result.plot.network(min_correlation=0.2, max_edges=1000)
    table = result.pairs(q=0.05, min_correlation=0.2)
    lines = sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))
    assert lines == len(table)


def test_the_network_keeps_the_strongest_pairs_and_every_gene(result):
    ax = result.plot.network(min_correlation=0.1, max_genes=20, max_edges=30)
    segments = [c for c in ax.collections if hasattr(c, "get_segments")]
    assert sum(len(c.get_segments()) for c in segments) == 30
    nodes = [c for c in ax.collections if not hasattr(c, "get_segments")]
    assert sum(len(c.get_offsets()) for c in nodes) == 20
    at = np.concatenate([c.get_offsets() for c in nodes])
    ends = np.concatenate([s for c in segments for s in c.get_segments()])
    assert all((np.abs(ends - p).max(1) < 1e-9).any() for p in at)  # no gene without a pair
    entries = [t.get_text() for t in ax.get_legend().get_texts()]
    assert any(t.startswith("community 1 (") for t in entries)
    assert any(t.startswith("positive (|r| ") for t in entries)
    strongest = result.pairs(q=0.05, min_correlation=0.1)["correlation"].abs().max()
    assert any(f"to {strongest:.2f})" in t for t in entries)


def test_modules_are_squares_in_a_network_of_their_members():
    model = hc.CSCore(
        hc.datasets.glioblastoma(),
        "sample_id",
        depth="total_counts",
        genes=30,
        subset={"condition": "ctrl"},
    )
    sets = {"ferritin": ["FTL", "FTH1"], "ribosome": ["RPS2", "RPLP0"]}
    ax = model.module_membership(sets).plot.network(q=None, min_correlation=0.3)
    assert "target (2)" in [t.get_text() for t in ax.get_legend().get_texts()]
    assert {"ferritin", "ribosome"} <= {t.get_text() for t in ax.texts}
