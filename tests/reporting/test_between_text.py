"""Methods paragraphs of the models between samples."""

import pytest

import hiercorr as hc
from hiercorr.reporting.methods_text import citations, methods_text

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::hiercorr.DataWarning",
    "ignore::hiercorr.EstimationWarning",
)


def test_methods_name_what_was_run(gbm):
    m = hc.Pseudobulk(
        gbm,
        "sample_id",
        depth="total_counts",
        formula="~ condition",
        block="patient_id",
        block_method="correlation",
    )
    r = m.fit("voom", target="FTL")
    text = methods_text(r)
    assert "voom precision weights" in text
    assert "consensus correlation of 0." in text
    assert any("Smyth" in c for c in citations(r))
    assert not any("Freedman" in c for c in citations(r))


@pytest.mark.parametrize(
    ("options", "present"),
    [
        ({}, ["Pearson correlations", "two-sided t tests"]),
        ({"method": "spearman"}, ["Spearman", "Kendall et al. 1939"]),
        ({"method": "hc3", "target": "gene0"}, ["HC3", "MacKinnon & White 1985"]),
        ({"method": "negative_binomial", "target": "gene0"}, ["negative-binomial regression"]),
        ({"method": "corrected", "seed": 3}, ["sampling noise", "seed 3"]),
        ({"permutations": 200, "seed": 1}, ["all 120 possible permutations"]),
    ],
)
def test_each_method_is_named_with_its_source(small, options, present, quiet):
    model = hc.Pseudobulk(small, "sample", depth="depth", normalization="cpm")
    text = methods_text(model.fit(**options))
    assert all(words in text for words in present)
    assert "counts per million, without" in text


@pytest.mark.parametrize(
    ("normalization", "source"),
    [("tmm", "Robinson & Oshlack 2010"), ("median_of_ratios", "Anders & Huber 2010")],
)
def test_normalizations(gbm, normalization, source, quiet):
    model = hc.Pseudobulk(gbm, "sample_id", depth="total_counts", normalization=normalization)
    assert source in methods_text(model.fit(target="FTL"))


@pytest.mark.parametrize(
    ("options", "present"),
    [
        ({}, "Partial Pearson correlations between samples, for the 6 pairs of 2 genes of x"),
        ({"method": "ols"}, "each gene of y was regressed on that of each gene of x, adjusting"),
        ({"method": "hc3"}, "MacKinnon & White 1985"),
        ({"method": "corrected"}, "the noise of two cell types comes from different cells"),
        ({"permutations": 99, "seed": 1}, "permuting the residuals given the covariates"),
    ],
)
def test_methods_state_both_cell_types(gbm, options, present):
    data = gbm.copy()
    data.obs["kind"] = ["y" if k % 2 else "x" for k in range(data.n_obs)]
    lists = {"genes_a": ["FTL", "FTH1"], "genes_b": ["FTL", "SPP1", "CXCL2"]}
    given = {"depth": "total_counts", "formula": "~ condition"}
    model = hc.AcrossCellTypes(data, "sample_id", "kind", ("x", "y"), **given, **lists)
    text = methods_text(model.fit(**options))
    assert present in text
    assert "summed over the cells of x and, separately, of y in each of 10 samples" in text
    assert "over the 6 pairs of 2 genes of x with 3 genes of y" in text
    assert "within one cell type were not tested" in text
