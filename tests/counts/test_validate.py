"""Selected cells, samples, genes and depth: resolved as documented, or refused by name."""

import re

import numpy as np
import pytest

import hiercorr as hc
from tests.counts.support import counts


def test_a_depth_column_that_is_the_panel_sum_is_said_to_be(gbm):
    """And only who passed no depth is told to pass one."""
    same = gbm.obs["total_counts"].to_numpy()
    for depth, text in (
        ("total_counts", "depth column 'total_counts' is the sum over only 300 genes"),
        (same, "depth array is the sum over only 300 genes"),
        (None, "depth is the sum over only 300 genes.*pass depth="),
    ):
        with pytest.warns(hc.DataWarning, match="sum over only 300 genes") as found:
            hc.CSCore(gbm, sample="sample_id", depth=depth, genes=5)
        said = [str(w.message) for w in found if "300 genes" in str(w.message)]
        assert len(said) == 1
        assert re.match(text, said[0])
        assert ("pass depth=" in said[0]) == (depth is None)


def test_subset_matches_exactly(adata):
    assert counts(adata, subset={"cell_type": "D1"}).n_cells == 40
    assert counts(adata, subset={"cell_type": ["D1", "D10"]}).n_cells == 120


def test_genes_by_number_are_the_most_expressed(adata):
    total = np.asarray(adata.X.sum(0)).ravel()
    assert set(counts(adata, genes=3).genes) == set(adata.var_names[np.argsort(-total)[:3]])
    mask = np.zeros(8, bool)
    mask[[1, 4]] = True
    assert list(counts(adata, genes=mask).genes) == ["gene1", "gene4"]
    assert list(counts(adata, genes=["gene4", "gene1"]).genes) == ["gene4", "gene1"]


def broken(adata, how):
    adata = adata.copy()
    x = adata.X.toarray().astype(float)
    options = {}
    match how:
        case "fraction":
            x[5, 2] = 2.5
            x[6, 3] = 30
        case "negative":
            x[5, 2] = -1
        case "nan":
            x[5, 2] = np.nan
        case "inf":
            x[5, 2] = np.inf
        case "huge":
            x[5, 2] = 1e12
        case "log":
            x = np.log1p(x)
        case "zero depth":
            options["depth"] = np.where(np.arange(120) == 7, 0, 1.0)
        case "empty cell":
            x[7] = 0
            options["depth"] = None
        case "nan depth":
            options["depth"] = np.where(np.arange(120) == 7, np.nan, 1.0)
        case "short depth":
            options["depth"] = np.ones(5)
        case "depth column":
            options["depth"] = "deep"
        case "depth text":
            options["depth"] = "cell_type"
        case "sample column":
            options["sample"] = "samples"
        case "one sample":
            adata.obs["one"] = "a"
            options["sample"] = "one"
        case "missing sample":
            adata.obs["gap"] = adata.obs["sample"].astype(object).where(np.arange(120) != 9)
            options["sample"] = "gap"
        case "few cells":
            options |= {"min_cells": 31, "small_samples": "error"}
        case "all small":
            options["min_cells"] = 31
        case "small option":
            options["small_samples"] = "drop"
        case "layer":
            options["layer"] = "count"
        case "raw":
            options["layer"] = "raw"
        case "gene":
            options["genes"] = ["gene1", "GENE22"]
        case "gene twice":
            options["genes"] = ["gene1", "gene1"]
        case "gene string":
            options["genes"] = "gene1"
        case "gene positions":
            options["genes"] = [0, 1, 2]
        case "no genes":
            options["genes"] = 0
        case "gene mask":
            options["genes"] = np.ones(3, bool)
        case "one gene":
            options["genes"] = ["gene1"]
        case "zero gene":
            x[:, 1] = 0
            options["genes"] = ["gene0", "gene1", "gene2"]
        case "zero everywhere":
            x[:, 1] = 0
        case "same names":
            adata.var_names = ["g0", "g0", *adata.var_names[2:]]
        case "subset column":
            options["subset"] = {"celltype": "D1"}
        case "subset value":
            options["subset"] = {"cell_type": "D2"}
        case "subset empty":
            options["subset"] = np.zeros(120, bool)
        case "subset length":
            options["subset"] = np.ones(3, bool)
        case "subset conflict":
            adata.obs["half"] = np.where(adata.obs["cell_type"] == "D1", "x", "y")
            options["subset"] = {"cell_type": "D1", "half": "y"}
    adata.X = x
    return adata, options


BAD = {
    "fraction": r"fractions.*cell 'cell5', gene 'gene2': 2.5.*no layer",
    "negative": r"negative.*cell 'cell5', gene 'gene2': -1",
    "nan": r"not finite.*cell 'cell5', gene 'gene2'",
    "inf": r"not finite.*cell 'cell5', gene 'gene2'",
    "huge": r"too large",
    "log": r"log-normalised",
    "zero depth": r"1 cells have a depth that is not positive.*'cell7': 0; correct depth=",
    "nan depth": r"'cell7': nan",
    "short depth": r"shape \(5,\).*120 cells",
    "depth column": r"unknown depth column 'deep'; did you mean 'depth'",
    "depth text": r"depth column 'cell_type' is not numeric",
    "sample column": r"unknown sample column 'samples'; did you mean 'sample'",
    "one sample": r"contains one sample, 'a'",
    "missing sample": r"1 cells have no value in sample column 'gap', e.g. cell 'cell9'",
    "few cells": r"4 of 4 samples.*fewer than 31 cells.*lower min_cells=",
    "all small": r"fewer than 2 samples are left",
    "small option": r"'exclude', 'error'",
    "layer": r"unknown layer 'count'",
    "raw": r"has no raw",
    "gene": r"unknown gene 'GENE22'; did you mean",
    "gene twice": r"'gene1' is named twice",
    "gene string": r"one string; pass a list",
    "gene positions": r"positions are not accepted",
    "no genes": r"at least one gene",
    "gene mask": r"shape \(3,\).*8 entries",
    "one gene": r"at least 2 expressed genes",
    "zero gene": r"have no count in the chosen cells, e.g. 'gene1'",
    "same names": r"1 gene names occur more than once, e.g. 'g0'.*var_names_make_unique",
    "subset column": r"unknown obs column \(subset\) 'celltype'; did you mean 'cell_type'",
    "subset value": r"unknown value of obs column 'cell_type' 'D2'",
    "subset empty": r"selects no cell",
    "subset length": r"boolean array of length 120",
    "subset conflict": r"leaves no cell",
}


@pytest.mark.parametrize("how", BAD)
def test_bad_input_is_refused_by_name(adata, how, quiet):
    bad, options = broken(adata, how)
    with pytest.raises(hc.InputError, match=BAD[how]):
        hc.CSCore(bad, **{"sample": "sample", "depth": "depth", **options})


def test_small_samples_are_left_out_with_one_warning(adata):
    keep = np.ones(120, bool)
    keep[:25] = False
    with pytest.warns(hc.DataWarning, match=r"1 of 4 samples.*'s1' \(5\)") as record:
        model = hc.CSCore(adata, sample="sample", depth="depth", subset=keep)
    assert len(record) == 1
    assert list(model.counts.samples) == ["s2", "s3", "s4"]
    assert model.fit().dataset.attrs["excluded_samples"] == "s1"


def test_genes_without_counts_in_the_chosen_cells_are_left_out_with_a_warning(adata):
    x = adata.X.toarray()
    x[(adata.obs["cell_type"] == "D1").to_numpy(), 3] = 0
    adata.X = x
    with pytest.warns(hc.DataWarning, match="1 of 8 genes have no count in the chosen cells"):
        model = hc.CSCore(adata, sample="sample", depth="depth", subset={"cell_type": "D1"})
    assert "gene3" not in model.counts.genes
    x[:, 3] = 0
    adata.X = x
    assert hc.check_design(adata, sample="sample", depth="depth").facts["n_genes"] == 7
