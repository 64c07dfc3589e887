"""The data sets and gene sets that come with the package."""

import numpy as np

import hiercorr as hc


def test_data_sets():
    assert hc.datasets.kang_pbmc().shape == (1556, 1267)
    stem = hc.datasets.ipsc_cycle()
    assert stem.shape == (888, 101)
    assert stem.var_names.is_unique
    assert stem.var["gene_id"].str.startswith("ENSG").all()
    assert stem.var.loc["UBE2C", "gene_id"] == "ENSG00000175063"
    assert (stem.obs["depth"] > 20 * np.asarray(stem.X.sum(1)).ravel()).all()  # not their row sums
    assert (stem.obs["donor"].nunique(), stem.obs["plate"].nunique()) == (6, 16)
    sets = hc.datasets.hallmark()
    assert len(sets) == 50
    assert "HALLMARK_HYPOXIA" in sets
