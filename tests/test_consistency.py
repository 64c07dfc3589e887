"""Every estimator and option: q from p, symmetry, target and all pairs, order and names, rows."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.reporting import methods_text
from tests.within.support import two_arms

GENES, TARGET = 16, "gene2"
OPTIONS = {"sample": "sample", "depth": "depth"}


@pytest.fixture(scope="module")
def data():
    return two_arms(0.2, 0.6, n=5, cells=100, genes=GENES, seed=4, paired=True)


def cscore(*fit, model=None, **options):
    return lambda a, **more: hc.CSCore(a, **OPTIONS, **(model or {})).fit(*fit, **options, **more)


def signature(**options):
    group = ["gene0", "gene1", "gene4"]
    return lambda a, **more: hc.CSCore(a, **OPTIONS).signature(group, **options, **more)


def difference(**options):
    return lambda a, **more: hc.differential(a, condition="arm", **OPTIONS, **options, **more)


def bulk(*fit, model=None, **options):
    return lambda a, **more: hc.Pseudobulk(a, **OPTIONS, **(model or {})).fit(
        *fit, **options, **more
    )


def naive(*fit, **options):
    return lambda a, **more: hc.CellCorrelation(a, **OPTIONS).fit(*fit, **options, **more)


FITS = {
    "within": cscore(),
    "within, equal weights": cscore(weights="equal"),
    "within, jackknife": cscore(uncertainty="jackknife"),
    "within, jackknife, equal weights": cscore(uncertainty="jackknife", weights="equal"),
    "within, cluster": cscore(uncertainty="cluster"),
    "within, per sample": cscore(per_sample=True),
    "within, double": cscore(precision="double"),
    "blocks": cscore(model={"block": "donor"}),
    "pooled": cscore("pooled"),
    "pooled, none": cscore("pooled", "none"),
    "difference": difference(),
    "difference, HC2": difference(uncertainty="HC2"),
    "difference, pooled": difference(method="pooled"),
    "difference, contrast": difference(contrast=("arm", "a", "b")),
    "pearson": bulk(),
    "pearson, plain": bulk(moderated=False),
    "partial": bulk(model={"formula": "~ arm"}),
    "spearman": bulk("spearman"),
    "cells, within": naive(),
    "cells, spearman": naive("spearman"),
    "cells, pooled": naive(level="pooled"),
}
SIGNATURES = {
    "signature": signature(),
    "signature, jackknife": signature(uncertainty="jackknife"),
    "score": lambda a, **more: hc.CSCore(a, **OPTIONS).score("depth", **more),
}
# moderation borrows from the pairs of a target, which all pairs do not have
OWN_TARGET = ("pearson", "partial")
# ties in float, and samples of a bootstrap, depend on the order of samples
SKIPPED = ("flag", "gene_flag")


def fitted(name, data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (FITS | SIGNATURES)[name](data, **more)


def compare(one, other, names=None, rtol=2e-3, atol=2e-4):
    for name in names or [n for n, v in one.data_vars.items() if n not in SKIPPED]:
        if one[name].dtype.kind != "f":
            continue
        got, wanted = other[name].astype(float), one[name].astype(float)
        got = got.reindex({d: wanted[d] for d in wanted.dims if d in got.coords})
        np.testing.assert_allclose(
            got.transpose(*wanted.dims), wanted, rtol=rtol, atol=atol, err_msg=name
        )


@pytest.fixture(scope="module")
def results(data):
    return {name: fitted(name, data) for name in FITS | SIGNATURES}


@pytest.mark.parametrize("name", FITS | SIGNATURES)
def test_q_rows_diagonal_and_text(name, results):
    result = results[name]
    d = result.dataset
    for attribute in ("model", "estimand", "schema_version", "hiercorr_version", "n_samples"):
        assert attribute in d.attrs, attribute
    assert len(methods_text(result)) > 200
    if "p_value" not in d:
        return
    if "partner" in d.dims:
        upper = np.triu_indices(GENES, 1)
        p, q = (d[k].values[upper].astype(float) for k in ("p_value", "q_value"))
        for v, values in d.data_vars.items():
            if values.dims == ("gene", "partner") and values.dtype.kind == "f":
                np.testing.assert_array_equal(values, values.T, err_msg=str(v))
        assert np.isnan(np.diagonal(d["p_value"])).all()
    else:
        p, q = (d[k].values[0].astype(float) for k in ("p_value", "q_value"))
    known = np.isfinite(p)
    np.testing.assert_allclose(q[known], stats.false_discovery_control(p[known]), rtol=1e-5)
    assert np.isnan(q[~known]).all()
    if name == "pooled, none":  # only the published test of cells, in variables of its own
        assert not known.any()
        return
    assert len(result.pairs()) == known.sum()
    assert len(result.pairs(q=0.2)) == (q[known] <= 0.2).sum()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", FITS)
def test_target_is_a_row_of_all_pairs(name, data, results):
    whole, one = results[name].dataset, fitted(name, data, target=TARGET).dataset
    names = [
        v
        for v, values in whole.data_vars.items()
        if {"gene", "partner"} <= set(values.dims) and v in one and v not in ("q_value", *SKIPPED)
    ]
    assert "correlation" in names
    for v in ["correlation"] if name in OWN_TARGET else names:
        row = whole[v].sel(partner=TARGET).astype(float)
        found = one[v].sel(target=TARGET).astype(float).reindex(gene=row["gene"])
        np.testing.assert_allclose(found.transpose(*row.dims), row, rtol=2e-3, atol=2e-4, err_msg=v)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", FITS | SIGNATURES)
def test_order_and_names_play_no_part(name, data, results):
    rng = np.random.default_rng(0)
    cells, genes = rng.permutation(data.n_obs), rng.permutation(data.n_vars)
    turned = data[cells][:, genes].copy()
    samples = turned.obs["sample"].astype(str)
    turned.obs["sample"] = pd.Categorical("x" + samples.str[::-1])
    whole = results[name].dataset
    other = fitted(name, turned).dataset
    sample = {"x" + str(s)[::-1]: str(s) for s in whole["sample"].values}
    other = other.assign_coords(sample=[sample[str(s)] for s in other["sample"].values])
    compare(whole, other)
