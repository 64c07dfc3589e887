"""The traps of cell-level correlation in data that were made to show them."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_traps_show_what_was_put_in():
    """Genes related between samples only: tests over cells find them, also after the shuffle."""
    between = np.full((25, 25), 0.9) + 0.1 * np.eye(25)
    adata, _ = simulate_counts(8, 200, 25, mean=2.0, between=between, between_sd=0.6, seed=3)
    t = hc.traps(adata, "sample", "gene0", depth="depth")
    assert t.summary["called_cells"] > 15
    assert t.summary["called_shuffled"] > 15
    assert t.summary["called_within"] <= 2
    assert t.genes["zeros"].median() == pytest.approx(t.genes["zeros_expected"].median(), rel=0.05)
    assert abs(t.summary["depth_normalised"]) < t.summary["depth_raw"]
    assert t.genes.loc["gene1", "p_between"] >= 1e-3
    assert "Traps for gene0" in str(t)
    with pytest.raises(hc.InputError, match="needs 3 of them"):
        hc.traps(adata, "sample", "gene0", depth="depth", subset={"sample": ["s1", "s2"]})
