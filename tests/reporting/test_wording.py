"""Phrases of the Methods paragraphs."""

import pytest

from hiercorr.reporting import wording
from hiercorr.reporting.wording import CellTypeSize, Facts

TESTED = {"n_samples": 6, "uncertainty": "jackknife", "q_family": "all distinct pairs"}


def tested(**attrs):
    return Facts({**TESTED, **attrs}, frozenset({"p_value"}), 20)


def test_lists():
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b"]) == "a and b"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"
    assert wording.paragraph("One.", "", "Two.") == "One. Two."


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (Facts({}, genes=300), "between all pairs of 300 genes"),
        (Facts({}, genes=2), "between 2 genes"),
        (Facts({}, genes=1300, target="FTL"), "between FTL and 1,299 other genes"),
        (Facts({}, genes=2, target="FTL"), "between FTL and 1 other gene"),
        (Facts({}, genes=9, target="score", target_is_gene=False), "between score and 9 genes"),
    ],
)
def test_pairs(facts, text):
    assert wording.between_genes(facts) == text


def test_cells_samples_and_depth():
    facts = Facts({"n_cells": 5000, "n_samples": 10, "sample_column": "donor", "depth": "umis"})
    text = wording.data(facts)
    assert text == "5,000 cells from 10 samples, with umis as sequencing depth"
    types = Facts(
        {"sample_column": "donor"}, types={"B": CellTypeSize(40, 3, 9), "T": CellTypeSize(50, 4, 9)}
    )
    assert "B: 40 cells from 3 samples; T: 50 cells from 4 samples" in wording.data(types)


def test_excluded_samples_and_types():
    facts = Facts({"excluded_samples": "s1", "min_cells": 20}, left_out=("rare", "other"))
    text = wording.excluded(facts)
    assert "fewer than 20 cells" in text
    assert "rare and other" in text
    assert wording.excluded(Facts({})) == ""
    assert wording.excluded(Facts({"empty_cells": 1})) == "One cell without counts was left out."
    assert "2,310 cells without counts were left" in wording.excluded(Facts({"empty_cells": 2310}))


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        ("Benjamini-Hochberg", "Benjamini & Hochberg 1995"),
        ("Benjamini-Yekutieli", "Benjamini & Yekutieli 2001"),
        ("Storey", "Storey et al. 2004"),
        ("Benjamini-Bogomolov", "Benjamini & Bogomolov 2014"),
    ],
)
def test_adjustment_for_multiple_testing(method, reference):
    text = wording.adjustment(tested(q_method=method))
    assert reference in text
    assert method == "Benjamini-Bogomolov" or "all distinct pairs of genes" in text


def test_what_was_not_tested_is_not_adjusted():
    assert wording.adjustment(tested(q_method="Storey", uncertainty="none")) == ""
    assert wording.adjustment(tested(q_method="Storey", n_samples=2)) == ""
    assert "at least 3 samples" in wording.over_samples(tested(n_samples=2))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("jackknife", "Miller 1974"),
        ("cluster", "Bell & McCaffrey 2002"),
        ("bootstrap", "500 resamples"),
    ],
)
def test_standard_errors(kind, words):
    text = wording.over_samples(tested(uncertainty=kind, n_bootstrap=500, confidence=0.9))
    assert words in text
    assert "90% confidence intervals" in text


def test_terms_of_formulas():
    assert wording.covariates("~ 1") == []
    assert wording.covariates("~ C(arm) + `age at death` + donor", without=("donor",)) == [
        "arm",
        "age at death",
    ]


def test_permutations():
    exact = wording.permuted(Facts({"seed": 1}), 120, True, "samples", "")
    drawn = wording.permuted(Facts({"seed": 1}), 9999, False, "samples", "")
    assert "all 120 possible permutations" in exact
    assert "Phipson" not in exact
    assert "9,999 random permutations, seed 1" in drawn
    assert "Phipson & Smyth 2010" in drawn
