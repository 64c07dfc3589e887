"""Methods paragraphs of tables made from results."""

import pytest

import hiercorr as hc
from hiercorr.reporting import table_text
from hiercorr.reporting.methods_text import methods_text
from hiercorr.reporting.wording import Facts

ENRICHED = {"partners": 12, "q": 0.1, "direction": "positive", "background": 299}
GROUPED = {"method": "leiden", "seed": 4, "min_size": 3, "q": 0.05, "signed": 1}


@pytest.mark.parametrize(
    ("attrs", "target", "present", "absent"),
    [
        ({}, "FTL", ["12 genes with a positive correlation with FTL at q < 0.1"], ["|r|"]),
        ({"min_correlation": 0.3}, "FTL", ["|r| >= 0.3"], []),
        ({}, None, ["12 selected genes", "299 tested genes"], ["correlation with"]),
        ({"sets": "hallmark"}, "FTL", ["Liberzon et al. 2015"], []),
        ({"min_size": 5, "max_size": 500}, "FTL", ["5 to 500 genes"], []),
    ],
)
def test_over_representation(attrs, target, present, absent):
    text = table_text.enrich(Facts({**ENRICHED, **attrs}, target=target))
    assert all(words in text for words in present)
    assert not any(words in text for words in absent)


def test_ranked_sets():
    attrs = {"ranked_by": "statistic", "permutations": 1000, "seed": 3}
    text = table_text.gsea(Facts(attrs, target="FTL"))
    assert "partners of FTL, ranked by the signed test statistic" in text
    assert "1,000 permutations of genes (seed 3)" in text


@pytest.mark.parametrize(
    ("attrs", "present", "absent"),
    [
        ({}, ["Leiden algorithm", "seed 4", "q <= 0.05"], ["power", "Jaccard"]),
        ({"method": "hierarchical", "n_modules": 5}, ["average-linkage", "5 clusters"], ["seed"]),
        ({"power": 6.0}, ["power 6"], []),
        ({"signed": 0, "min_correlation": 0.3}, ["absolute correlations", "|r| >= 0.3"], []),
    ],
)
def test_modules(attrs, present, absent):
    text = table_text.modules(Facts({**GROUPED, **attrs}))
    assert all(words in text for words in present)
    assert not any(words in text for words in absent)


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_evidence(within, between):
    text = methods_text(hc.evidence("FTL", within=within, between=between, q=0.2))
    assert "Partners of FTL" in text
    assert "threshold 0.2" in text
