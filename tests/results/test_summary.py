"""A result as text."""

import warnings

import pytest

import hiercorr as hc


def test_text(result, one):
    text = str(result.summary(n=3))
    assert "within" in text
    assert "No. samples:" in text
    assert "Flags:" in text
    assert len(str(one.summary(n=3))) > 200
    assert "<table" in result.summary()._repr_html_()
    assert "12 genes, all pairs" in repr(result)
    assert "target gene0" in repr(one)
    assert "<table" in result._repr_html_()


K = {"depth": "total_counts", "genes": 15, "block": "patient_id"}
BLOCKED = {
    "CSCore": lambda data: hc.CSCore(data, "sample_id", **K).fit(),
    "signature": lambda data: hc.CSCore(data, "sample_id", **K).signature(["FTL", "FTH1"]),
    "score": lambda data: hc.CSCore(data, "sample_id", **K).score("total_counts"),
    "differential": lambda data: hc.differential(data, "sample_id", "condition", **K),
    "Pseudobulk": lambda data: hc.Pseudobulk(data, "sample_id", **K).fit(),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_samples_and_donors(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = BLOCKED[name](hc.datasets.glioblastoma())
    head = str(r.summary(n=1)).splitlines()
    assert any(line.split()[-3:] == ["No.", "samples:", "10"] for line in head)
    assert any(line.split()[-3:] == ["No.", "donors:", "5"] for line in head)
    assert any(line.startswith("Min. cells:") and "10 (smaller" in line for line in head)
    assert "10 samples of 5 donors" in repr(r)
