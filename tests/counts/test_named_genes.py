"""Genes without counts, and genes named twice: one message in every function."""

import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
OPTIONS = {"sample": "sample", "depth": "depth"}
NAMED = {
    "fit": lambda w, b, genes: w.fit(target=genes),
    "signature": lambda w, b, genes: w.signature(genes),
    "module_correlation": lambda w, b, genes: w.module_correlation(
        {"m": genes, "n": ["gene4", "gene5"]}
    ),
    "fit_many": lambda w, b, genes: b.fit_many("gene4", genes=genes),
}


@pytest.fixture(scope="module")
def models():
    adata, _ = simulate_counts(4, 60, 14, mean=3.0, within=0.5, seed=1)
    adata.X[:, 3] = 0
    if hasattr(adata.X, "eliminate_zeros"):
        adata.X.eliminate_zeros()
    return hc.CSCore(adata, **OPTIONS), hc.BayesianCorrelation(adata, **OPTIONS)


@pytest.mark.parametrize("name", NAMED)
def test_gene_without_counts(models, name):
    with pytest.raises(hc.InputError, match="gene 'gene3' has no count in the chosen cells"):
        NAMED[name](*models, ["gene1", "gene3"])


@pytest.mark.parametrize("name", ["fit", "signature", "fit_many"])
def test_gene_named_twice(models, name):
    with pytest.raises(hc.InputError, match=r"'gene1' (is named )?twice"):
        NAMED[name](*models, ["gene1", "gene2", "gene1"])


def test_names_with_commas_are_several_genes(models):
    with pytest.raises(hc.InputError, match="one text with 2 genes: name each by itself"):
        models[0].fit(target="gene1,gene2")
