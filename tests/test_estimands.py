"""Every result says what its correlation estimates."""

import pytest

import hiercorr as hc
from hiercorr.estimands import estimand

VEHICLE = {"condition": "ctrl"}
CELLS = {"sample": "sample_id", "depth": "total_counts", "genes": 14, "subset": VEHICLE}


@pytest.fixture(scope="module")
def adata():
    return hc.datasets.glioblastoma()


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (lambda a: hc.CSCore(a, **CELLS).fit(), "1 / (tau^2 + v)"),
        (
            lambda a: hc.CSCore(a, **CELLS).fit(uncertainty="jackknife"),
            "in proportion to their information",
        ),
        (lambda a: hc.CSCore(a, **CELLS).fit(weights="equal"), "with equal weights"),
        (lambda a: hc.CSCore(a, **CELLS).fit("pooled"), "mixed"),
        (lambda a: hc.CSCore(a, **CELLS).signature(["FTL", "FTH1"]), "weighted sum"),
        (lambda a: hc.CSCore(a, **CELLS).score("total_counts"), "a score of the cells"),
        (lambda a: hc.Pseudobulk(a, **CELLS).fit(), "noise of the sums included"),
        (lambda a: hc.Pseudobulk(a, **CELLS).fit("corrected"), "without the sampling noise"),
        (lambda a: hc.Pseudobulk(a, **CELLS, formula="~ age").fit(target="FTL"), "partial"),
        (lambda a: hc.CellCorrelation(a, **CELLS).fit(), "dropout and depth included"),
        (
            lambda a: hc.differential(
                a, "sample_id", "condition", depth="total_counts", genes=14, block="patient_id"
            ),
            "difference between groups",
        ),
        (lambda a: hc.decompose(a, **CELLS), "within and between samples"),
        (lambda a: hc.direct_partners(hc.CSCore(a, **CELLS)), "given the other 12 genes"),
    ],
)
def test_result_states_its_estimand(adata, fit, words):
    assert words in fit(adata).dataset.attrs["estimand"]


def test_levels_of_the_bayesian_model():
    assert "means" in estimand({"model": "BayesianCorrelation", "level": "between"})
    assert "typical sample" in estimand({"model": "BayesianCorrelation", "level": "within"})
    assert estimand({"model": "enrich"}) is None
