"""q-values of a result over other families and by other procedures, against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def result():
    adata, _ = simulate_counts(6, 200, 14, mean=np.geomspace(0.02, 3, 14), within=0.5, seed=2)
    return hc.CSCore(adata, "sample", depth="depth").fit(precision="double")


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("bh", "fdr_bh"),
        ("by", "fdr_by"),
        ("bonferroni", "bonferroni"),
        ("holm", "holm"),
    ],
)
def test_procedures_are_those_of_statsmodels(result, method, theirs):
    p, q = (r.values for r in (result.dataset["p_value"], result.adjust(method).dataset["q_value"]))
    upper = np.triu_indices(len(p), 1)
    known = np.isfinite(p[upper])
    np.testing.assert_allclose(
        q[upper][known], multipletests(p[upper][known], method=theirs)[1], rtol=1e-6
    )
    np.testing.assert_array_equal(q, q.T)
    assert np.isnan(np.diag(q)).all()
    for gene in (1, 9):
        row = result.adjust(method, family="gene").dataset["q_value"].values[gene]
        known = np.isfinite(p[gene])
        np.testing.assert_allclose(
            row[known], multipletests(p[gene][known], method=theirs)[1], rtol=1e-6
        )


def test_family_is_stated(result):
    assert result.dataset.attrs["q_method"] == "Benjamini-Hochberg"
    assert "q: Benjamini-Hochberg over all distinct pairs." in str(result.summary())
    other = result.adjust("hierarchical", level=0.1)
    assert other.dataset.attrs["q_method"] == "Benjamini-Bogomolov"
    assert "pairs of each of the genes chosen at 0.1" in str(other.summary())
    assert (
        result.dataset.attrs["q_method"] == "Benjamini-Hochberg"
    )  # the first result stays as it was


def test_refusals(result):
    for options, text in (
        ({"method": "qvalue"}, "method must be"),
        ({"family": "pathway"}, "family must be"),
        ({"method": "hierarchical", "level": 2}, "level must lie"),
    ):
        with pytest.raises(hc.InputError, match=text):
            result.adjust(**options)
    adata, _ = simulate_counts(4, 60, 5, seed=1)
    model = hc.CSCore(adata, "sample", depth="depth")
    with pytest.raises(hc.InputError, match="no p-values"):
        model.fit(uncertainty="none").adjust("by")
    with pytest.raises(hc.InputError, match="genes first"):
        model.fit(target="gene0").adjust("hierarchical")
