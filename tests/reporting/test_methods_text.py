"""The Methods paragraph of every kind of result, and the references in it."""

import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.reporting.methods_text import MODELS, citations, methods_text
from tests.support import fit


def test_a_result_is_described_by_its_own_model(small, quiet):
    texts = {
        "CSCore": methods_text(fit(small)),
        "Pseudobulk": methods_text(hc.Pseudobulk(small, "sample", depth="depth").fit()),
        "CellCorrelation": methods_text(hc.CellCorrelation(small, "sample", depth="depth").fit()),
        "decomposition": methods_text(hc.decompose(small, "sample", depth="depth")),
    }
    assert set(texts) <= set(MODELS)
    assert len(set(texts.values())) == len(texts)
    for text in texts.values():
        assert hc.__version__ in text
        assert "460" in text  # cells
        assert "None" not in text
        assert "nan" not in text.split()


def test_references_are_those_of_the_text_in_its_order(small):
    text, full = methods_text(fit(small)), citations(fit(small))
    short = [", ".join(c.split(", ")[:1]) for c in full]
    at = [text.find(s) for s in short]
    assert min(at) > 0
    assert at == sorted(at)
    assert "Su et al. 2023" in short
    assert not any("bootstrap" in c for c in full)


def test_other_objects_and_unknown_models_are_refused(small):
    with pytest.raises(hc.InputError, match="unknown model of a result 'mine'"):
        methods_text(hc.CorrelationResult(fit(small).dataset.assign_attrs(model="mine")))
    with pytest.raises(hc.InputError, match="unknown model of a result"):
        methods_text(pd.DataFrame({"p_value": [0.1]}))
    with pytest.raises(hc.InputError):
        methods_text(3)
