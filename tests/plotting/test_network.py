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
    ax = result.plot.network(min_correlation=0.2)
    table = result.pairs(q=0.05, min_correlation=0.2)
    lines = sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))
    assert lines == len(table)
