"""The check of a design: its share of variance, conditions, confounding, advice."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.planning.check import proportion
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


def test_measured_share_and_conditions():
    adata, truth = simulate_counts(10, 200, 30, mean=2.0, between_sd=0.5, within_sd=0.5, seed=1)
    d = hc.check_design(adata, "sample", depth="depth", main_claim=True)
    mu = truth["mu"].values
    between = mu.var(0) / mu.mean(0) ** 2
    expected = np.median(between / (between + np.expm1(0.25) * (mu**2).mean(0) / mu.mean(0) ** 2))
    assert d.facts["variance_share"] == pytest.approx(expected, abs=0.08)
    assert d.facts["effective_cells"] == pytest.approx(2000 / d.facts["design_effect"])
    assert d.conditions["holds"].tolist() == [True, True, True, True, None]
    assert "Pseudobulk(...).fit() between samples for the main claim" in d.recommendation
    assert "set review=" in str(d)
    assert "<table" in d._repr_html_()
    assert d.table().loc["n_samples", "value"] == 10


def test_groups_formula_and_confounding(gbm):
    kang = hc.datasets.kang_pbmc()
    d = hc.check_design(
        kang,
        "sample_id",
        cell_type="cell_type",
        formula="~ donor",
        depth="total_counts",
        min_cells=20,
    )
    assert d.groups.loc["stim107", "CD8 T cells"] == 15
    assert any("fewer than 20 cells" in r for r in d.reasons)
    assert d.recommendation.startswith("explore only")
    d = hc.check_design(gbm, "sample_id", formula="~ condition", depth="total_counts")
    assert any("'condition' cannot be told from those of 'treatment'" in p for p in d.problems)
    d = hc.check_design(gbm, "sample_id", formula="~ condition + nothing", depth="total_counts")
    assert "unknown column in the formula 'nothing'" in d.problems[0]
    d = hc.check_design(gbm, "sample_id", formula="~ patient_id * condition", depth="total_counts")
    assert "needs at least 12 samples" in d.problems[0]


def test_check_design(gbm, tmp_path):
    design = hc.check_design(gbm, sample="sample_id", depth="total_counts")
    assert design.repeated == {"patient_id": 5}
    assert design.structure.random == "(1 | patient_id/sample_id)"
    assert design.facts["n_donors"] == design.structure.n_donors == 5
    assert "sample='sample_id', block='patient_id').fit() within" in design.recommendation
    assert "(1 | patient_id/sample_id): 10 samples nested in 5 donors, 2 each" in str(design)
    assert "condition crossed with patient_id: 2 levels, balanced" in design._repr_html_()
    assert design.samples.loc["PW030-701", "n_cells"] == 500
    assert "the sample size is 5, not 5,000" in str(design)
    assert "patient_id" in design._repr_html_()
    two, _ = simulate_counts(2, 300, 4, seed=1)
    assert "explore only" in hc.check_design(two, sample="sample", depth="depth").recommendation
    uneven, _ = simulate_counts(4, [20, 200, 100, 100], 4, depth_shift=1.5, seed=1)
    reasons = " ".join(hc.check_design(uneven, sample="sample", depth="depth").reasons)
    assert "cells per sample differ more than 5-fold" in reasons
    assert "3-fold in sequencing depth" in reasons


def test_advice_names_the_columns(gbm):
    merged = hc.check_design(gbm, sample="patient_id", depth="total_counts")
    reasons = " ".join(merged.reasons)
    assert "sample='patient_id' merges 10 samples of 'sample_id'" in reasons
    assert "use sample='sample_id', block='patient_id'" in reasons
    assert "block='patient_id' moments are centred in each sample" in reasons
    assert "inference is over 5 donors" in reasons
    bare = gbm.copy()
    bare.obs = bare.obs[["patient_id", "condition", "total_counts"]]
    merged = hc.check_design(bare, sample="patient_id", depth="total_counts")
    assert merged.structure.block is None
    assert "'condition' varies within samples of 'patient_id'" in " ".join(merged.reasons)
    assert "covariates='~ condition'" in " ".join(merged.reasons)
    vehicle = hc.check_design(
        gbm, sample="sample_id", depth="total_counts", subset={"condition": "ctrl"}
    )
    assert vehicle.structure.block is None
    assert "condition" in vehicle.structure.constant
    assert vehicle.recommendation.startswith("CSCore(...).fit()")


def test_donors_that_are_named_are_the_units(gbm):
    renamed = gbm.copy()
    renamed.obs = renamed.obs[["patient_id", "condition", "total_counts"]].rename(
        columns={"patient_id": "pool"}
    )
    options = {"depth": "total_counts", "formula": "~ condition"}
    d = hc.check_design(renamed, ("pool", "condition"), block="pool", **options)
    assert (d.structure.n_samples, d.structure.n_donors) == (10, 5)
    assert "sample=('pool', 'condition'), block='pool').fit()" in d.recommendation
    assert "the sample size is 5, not 5,000" in str(d)
    assert "varies within" not in str(d)
    found = hc.check_design(gbm, "sample_id", depth="total_counts")
    named = hc.check_design(gbm, "sample_id", block="patient_id", depth="total_counts")
    assert str(named) == str(found)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("nothing", "unknown block column 'nothing'"),
        ("total_counts", "varies within samples"),
        ("sample_id", "is the sample column"),
        ("one", "there is one donor"),
    ],
)
def test_columns_that_are_no_donors(gbm, block, message):
    data = gbm.copy()
    data.obs["one"] = "x"
    with pytest.raises(hc.InputError, match=message):
        hc.check_design(data, "sample_id", block=block, depth="total_counts")


def test_random_intercepts_of_the_formula(gbm):
    options = {"sample": "sample_id", "depth": "total_counts"}
    d = hc.check_design(gbm, formula="~ condition + (1 | patient_id)", **options)
    assert not any("unknown" in p or "cannot read" in p for p in d.problems)
    d = hc.check_design(gbm, formula="~ condition + (1 | patient)", **options)
    assert "unknown grouping column 'patient'; did you mean 'patient_id'" in d.problems[0]


def test_tables_and_numbers_say_what_they_are():
    adata, _ = simulate_counts(8, 100, 12, mean=2.0, between_sd=0.02, seed=1)
    number = pd.factorize(adata.obs["sample"])[0]
    adata.obs["batch"], adata.obs["age"] = number % 4 + 1, 30 + 3 * number
    adata.obs["organ"], adata.obs["kind"] = "brain", np.where(np.arange(adata.n_obs) % 2, "T", "B")
    d = hc.check_design(adata, "sample", cell_type="kind", formula="~ batch + age", depth="depth")
    assert d.groups.columns.name == "kind"
    assert "organ" not in d.samples  # one value in all samples
    assert {"batch", "age"} <= set(d.samples)
    slopes = [p for p in d.problems if "as a slope" in p]
    assert len(slopes) == 1
    assert "'batch' has whole numbers (1 to 4)" in slopes[0]
    assert "C(batch)" in slopes[0]
    for formula in ("~ C(batch) + age", "~ np.log(age)", "~ C(batch):age"):
        factor = hc.check_design(adata, "sample", formula=formula, depth="depth")
        assert not any("'batch' has whole" in p for p in factor.problems), formula
    for formula in ("~ np.log(batch)", "~ age + batch:age", "~ I(batch ** 2)", "~ `batch` * age"):
        d = hc.check_design(adata, "sample", formula=formula, depth="depth")
        assert any("'batch' has whole" in p for p in d.problems), formula


@pytest.mark.parametrize(("value", "text"), [(0.0064, "0.64%"), (0.0, "0%"), (0.312, "31%")])
def test_small_proportions_are_not_zero(value, text):
    assert proportion(value) == text
