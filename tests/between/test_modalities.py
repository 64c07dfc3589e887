"""Sums of features of several types: each type has its own library sizes."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.between.normalization import library_sizes, log_cpm

KINDS = ["Gene Expression", "Antibody Capture"]


@pytest.fixture(scope="module")
def adata():
    rng = np.random.default_rng(5)
    samples, cells, genes, proteins = 8, 30, 40, 12
    n = samples * cells
    rna, adt = (np.exp(rng.normal(0, 0.4, (samples, 1))).repeat(cells, 0) for _ in range(2))
    mean = np.exp(rng.normal(1, 0.5, (samples, genes))).repeat(cells, 0)
    own = np.exp(rng.normal(1, 0.5, (samples, proteins))).repeat(cells, 0)
    x = np.hstack([rng.poisson(rna * mean), rng.poisson(adt * own)])
    obs = pd.DataFrame(
        {"donor": np.repeat([f"d{k}" for k in range(samples)], cells), "adt": 100 * adt[:, 0]},
        index=[f"c{i}" for i in range(n)],
    )
    names = [f"g{j}" for j in range(genes)] + [f"p{j}" for j in range(proteins)]
    var = pd.DataFrame({"feature_types": np.repeat(KINDS, [genes, proteins])}, index=names)
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.DataWarning)
        yield


def test_sums_have_a_depth_of_each_type(adata):
    sums = hc.aggregate(adata, "donor", modalities="all", depth={"Antibody Capture": "adt"})
    x = adata.X.toarray()
    donors = adata.obs["donor"]
    genes = pd.Series(x[:, :40].sum(1), donors).groupby(level=0).sum()
    np.testing.assert_array_equal(sums.obs["depth"], genes)
    given = adata.obs.groupby("donor")["adt"].sum()
    np.testing.assert_allclose(sums.obs["depth of Antibody Capture"], given)
    assert list(sums.var["feature_types"]) == list(adata.var["feature_types"])


@pytest.mark.parametrize("normalization", ["tmm", "cpm", "median_of_ratios"])
def test_libraries_are_those_of_the_type(adata, normalization):
    model = hc.Pseudobulk(adata, "donor", modalities="all", normalization=normalization)
    sums = np.asarray(model.samples.X)
    for at in (slice(0, 40), slice(40, None)):
        sizes = library_sizes(sums[:, at], sums[:, at].sum(1), normalization)
        right = log_cpm(sums[:, at], sizes)
        np.testing.assert_allclose(model.expression.iloc[:, at], right)
    again = hc.Pseudobulk(model.samples, "donor", normalization=normalization)
    pd.testing.assert_frame_equal(again.expression, model.expression)


def test_genes_are_as_alone_and_pairs_are_tested(adata):
    result = hc.Pseudobulk(adata, "donor", modalities="all").fit()
    alone = hc.Pseudobulk(adata, "donor").fit()
    d = result.dataset
    np.testing.assert_allclose(
        d["correlation"].values[:40, :40], alone.dataset["correlation"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(d["mean"].values[:40], alone.dataset["mean"])
    assert d["mean"].values[40:].sum() == pytest.approx(1)
    assert list(d["feature_type"].values) == list(adata.var["feature_types"])
    target = hc.Pseudobulk(adata, "donor", modalities="all").fit(target="p3")
    np.testing.assert_allclose(
        target.dataset["correlation"].values[0], d["correlation"].sel(gene="p3"), atol=1e-5
    )


@pytest.mark.parametrize("method", ["voom", "negative_binomial", "corrected"])
def test_methods_of_counts_are_refused(adata, method):
    target = {} if method == "corrected" else {"target": "g0"}
    with pytest.raises(hc.InputError, match="needs one library of each sample"):
        hc.Pseudobulk(adata, "donor", modalities="all").fit(method, **target)


def test_sums_of_several_types_have_no_size_factors_of_deseq2(adata):
    sums = hc.aggregate(adata, "donor", modalities="all")
    sums.obs["arm"] = np.tile(["a", "b"], 4)
    with pytest.raises(hc.InputError, match="one size factor of each sample"):
        hc.differential_expression(sums, "donor", "~ arm", ("arm", "b", "a"))


def test_refusal_beside_sums(adata):
    sums = hc.aggregate(adata, "donor", modalities="all")
    with pytest.raises(hc.InputError, match="pass them to hiercorr"):
        hc.Pseudobulk(sums, "donor", modalities="all")
