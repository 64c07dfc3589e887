"""What depth alone makes of correlations: measured, flagged, taken out."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.schema import Flag

SAMPLES, CELLS = 6, 300
BIT = int(Flag.DEPTH_DEPENDENT)


def data(x, depth):
    n = len(x)
    obs = pd.DataFrame(
        {"donor": np.repeat([f"d{k}" for k in range(SAMPLES)], n // SAMPLES), "s": 1000 * depth},
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=[f"g{j}" for j in range(x.shape[1])])
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def depth():
    return np.exp(np.random.default_rng(1).normal(0, 0.5, SAMPLES * CELLS))


@pytest.fixture(scope="module")
def along(depth):
    """60 independent genes, of which 30 follow depth with slopes of +-0.7."""
    rng = np.random.default_rng(2)
    slope = np.repeat([0.0, 0.7, -0.7], [30, 15, 15])
    mean = np.exp(rng.normal(0.5, 0.7, 60))
    x = depth[:, None] ** (1 + slope) * mean * rng.gamma(2, 0.5, (len(depth), 60))
    return data(rng.poisson(x), depth)


def pairs(result, name, genes):
    return result.dataset[name].values[genes, genes][np.triu_indices(genes.stop - genes.start, 1)]


FOLLOW, DO_NOT = slice(30, 60), slice(0, 30)


def test_genes_that_follow_depth_are_flagged_and_their_pairs(along):
    result = hc.CSCore(along, "donor", depth="s").fit()
    gene = (result.dataset["gene_flag"].values & BIT) > 0
    assert gene[DO_NOT].mean() < 0.1
    assert gene[FOLLOW].mean() > 0.9
    assert (pairs(result, "p_value", FOLLOW) < 0.05).mean() > 0.5
    assert (pairs(result, "p_value", DO_NOT) < 0.05).mean() < 0.1
    flagged = (pairs(result, "flag", FOLLOW) & BIT) > 0
    significant = pairs(result, "p_value", FOLLOW) < 0.05
    assert flagged[significant].mean() > 0.9
    assert ((pairs(result, "flag", DO_NOT) & BIT) > 0).mean() < 0.02
    assert result.dataset["depth_slope"].values[30:45].mean() == pytest.approx(0.7, abs=0.1)


def test_depth_adjust_takes_it_out(along):
    model = hc.CSCore(along, "donor", depth="s", depth_adjust=True)
    result = model.fit()
    assert (pairs(result, "p_value", FOLLOW) < 0.05).mean() < 0.1
    assert ((result.dataset["flag"].values & BIT) == 0).all()
    assert result.dataset.attrs["depth_adjust"] == 1
    assert "Log depth was regressed out" in str(result.summary())
    assert "depth_adjust" not in hc.CSCore(along, "donor", depth="s").fit().dataset.attrs
    row = model.fit(target="g40", uncertainty="jackknife").dataset["correlation"].values[0]
    whole = model.fit(uncertainty="jackknife").matrix().loc["g40"]
    np.testing.assert_allclose(row, whole, atol=1e-5)


def test_depth_adjust_is_log_depth_as_a_covariate(along):
    along.obs["log_s"] = np.log(along.obs["s"])
    options = {"uncertainty": "jackknife", "precision": "double"}
    adjusted = hc.CSCore(along, "donor", depth="s", depth_adjust=True).fit(**options)
    covariate = hc.CSCore(along, "donor", depth="s", covariates="~ log_s").fit(**options)
    np.testing.assert_allclose(adjusted.matrix(), covariate.matrix(), rtol=1e-6, atol=1e-9)
    along.obs["noise"] = np.random.default_rng(9).normal(size=along.n_obs)
    both = hc.CSCore(along, "donor", depth="s", depth_adjust=True, covariates="~ noise")
    stated = hc.CSCore(along, "donor", depth="s", covariates="~ noise + log_s")
    np.testing.assert_allclose(
        both.fit(**options).matrix(), stated.fit(**options).matrix(), rtol=1e-6, atol=1e-9
    )


def test_true_pairs_stay(depth):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(len(depth), 20))
    z[:, 10:] = 0.6 * z[:, :10] + 0.8 * z[:, 10:]
    x = rng.poisson(2 * depth[:, None] * np.exp(0.6 * z - 0.18))
    adjusted = hc.CSCore(data(x, depth), "donor", depth="s", depth_adjust=True).fit().matrix()
    bare = hc.CSCore(data(x, depth), "donor", depth="s").fit().matrix()
    k = np.arange(10)
    np.testing.assert_allclose(
        adjusted.to_numpy()[k, 10 + k], bare.to_numpy()[k, 10 + k], atol=0.03
    )


@pytest.mark.parametrize("genes", [15, 40])
def test_composition_of_a_panel(genes):
    rng = np.random.default_rng(4)
    depth = np.exp(rng.normal(0, 0.4, 3000))
    x = rng.poisson(10 * depth[:, None] * rng.gamma(2.5, 0.4, (3000, genes)))
    result = hc.CSCore(data(x, depth), "donor").fit()
    r = result.dataset["correlation_unclipped"].values[np.triu_indices(genes, 1)]
    assert result.dataset.attrs["composition"] == pytest.approx(np.median(r), abs=0.01)
    assert ((pairs(result, "flag", slice(0, genes)) & BIT) > 0).mean() > 0.6
    assert "independent genes would correlate" in str(result.summary())
    known = hc.CSCore(data(x, depth), "donor", depth="s").fit()
    assert "composition" not in known.dataset.attrs
    r = known.dataset["correlation_unclipped"].values[np.triu_indices(genes, 1)]
    assert abs(np.median(r)) < 0.015


def test_composition_of_a_dominated_library(depth):
    rng = np.random.default_rng(5)
    blood = rng.poisson(120 * depth * rng.gamma(4, 0.25, len(depth)))
    rest = rng.poisson(depth[:, None] * rng.gamma(2, 0.5, (len(depth), 200)))
    adata = data(np.column_stack([blood, rest]), depth)
    total = hc.CSCore(adata, "donor", depth="total").fit()
    r = pairs(total, "correlation_unclipped", slice(1, 201))
    assert total.dataset.attrs["composition"] == pytest.approx(np.nanmedian(r), abs=0.03)
    assert np.nanmedian(r) > 0.04
    default = hc.CSCore(adata, "donor").fit()
    assert abs(default.dataset.attrs.get("composition", 0)) < 0.02
    assert abs(np.median(pairs(default, "correlation_unclipped", slice(1, 201)))) < 0.02


def test_refusals(along):
    with pytest.raises(hc.InputError, match="use estimator='within'"):
        hc.CSCore(along, "donor", depth_adjust=True).fit(estimator="pooled")
    with pytest.raises(hc.InputError, match="depth_adjust"):
        hc.CSCore(along, "donor", depth_adjust=True, scheduler="threads")
    with pytest.raises(hc.InputError, match="depth_adjust"):
        hc.CSCore(along, "donor", depth_adjust="yes")
