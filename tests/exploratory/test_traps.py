"""The traps of cell-level correlation in data that were made to show them."""

import warnings

import numpy as np
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_questionable_data_are_said_to_be(gbm):
    with pytest.warns(hc.DataWarning, match="sum over only 300 genes"):
        hc.traps(gbm, target="FTL", permutations=19, genes=10, **VEHICLE)


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


def test_foreign_cells_are_seen_and_can_be_left_out():
    """Twenty cells of another type make independent genes correlate."""
    adata, _ = simulate_counts(4, 200, 60, mean=1.5, seed=3)
    clean = hc.traps(adata, "sample", "gene0", depth="depth", permutations=19)
    assert clean.summary["foreign_share"] < 0.45
    assert "foreign cells: 5% of the cells carry" in str(clean)
    assert "annotation" not in str(clean)
    x = adata.X.toarray()
    at = np.arange(0, 800, 40)
    x[at, :20] = np.random.default_rng(0).poisson(12, (20, 20))
    mixed = adata.copy()
    mixed.X = sparse.csr_matrix(x)
    traps = hc.traps(mixed, "sample", "gene0", depth="depth", permutations=19)
    assert traps.summary["foreign_share"] > 0.7
    assert "doublets, or cells of another type" in str(traps)
    keep = traps.without_leading_cells(mixed.obs_names)
    assert keep.sum() == 720
    assert not keep[at].any()
    with pytest.raises(hc.InputError, match="share"):
        traps.without_leading_cells(mixed.obs_names, share=1.5)


def test_donors_are_the_units_where_a_block_names_them(gbm):
    options = {"depth": "total_counts", "genes": 40}
    sample = ("patient_id", "condition")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t = hc.traps(gbm, sample, "FTL", block="patient_id", permutations=99, **options)
    assert not [w for w in caught if "not independent" in str(w.message)]
    fit = hc.CSCore(gbm, sample, block="patient_id", **options).fit(target="FTL")
    assert t.genes["p_within"].to_dict() == fit.pvalues.to_dict()
    assert t.summary["smallest_p"] == pytest.approx(1 / 16)  # signs of 5 donors, two-sided
