"""What holds for any data that pass the door, searched by hypothesis."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import fit

designs = st.fixed_dictionaries(
    {
        "cells": st.lists(st.integers(2, 60), min_size=2, max_size=9),
        "log_means": st.lists(st.floats(-2.5, 2), min_size=2, max_size=9),
        "within": st.floats(-0.3, 0.8),
        "depth_sd": st.floats(0, 2),
        "depth_shift": st.floats(0, 2),
        "seed": st.integers(0, 10_000),
        "estimator": st.sampled_from(["within", "pooled"]),
        "uncertainty": st.sampled_from(["jackknife", "cluster", "bootstrap", "none"]),
        "precision": st.sampled_from(["single", "double"]),
        "per_sample": st.booleans(),
    }
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(designs)
def test_results_are_sound(design):
    adata, _ = simulate_counts(
        len(design["cells"]),
        design["cells"],
        len(design["log_means"]),
        mean=10 ** np.array(design["log_means"]),
        within=design["within"],
        depth_sd=design["depth_sd"],
        depth_shift=design["depth_shift"],
        seed=design["seed"],
    )
    expressed = np.asarray(adata.X.sum(0)).ravel() > 0
    options = {k: design[k] for k in ("estimator", "uncertainty", "precision")}
    try:
        with np.errstate(all="raise", under="ignore"):
            result = fit(
                adata,
                model={"genes": expressed, "min_cells": 5},
                **({"n_bootstrap": 100} if options["uncertainty"] == "bootstrap" else {}),
                seed=1,
                per_sample=design["per_sample"] and design["estimator"] == "within",
                **options,
            )
    except hc.InputError as error:
        assert "2 expressed genes" in str(error) or "2 samples are left" in str(error)  # noqa: PT017
        return
    ds = result.dataset
    for name, variable in ds.data_vars.items():
        if variable.dtype.kind == "f":
            assert not np.isinf(variable.values).any(), name
    r, flag = ds["correlation"].values, ds["flag"].values
    known, off = np.isfinite(r), ~np.eye(len(r), dtype=bool)
    assert (np.abs(r[known]) <= 1).all()
    np.testing.assert_array_equal(r, r.T)
    assert (flag[~known] > 0).all()
    interval = np.isfinite(ds["ci_lower"].values)
    assert (ds["ci_lower"].values <= r)[interval & known].all()
    assert (r <= ds["ci_upper"].values)[interval & known].all()
    beyond = interval & ~known  # an estimate beyond 1 is withheld, its interval is not
    assert ((flag[beyond] & int(hc.Flag.OUT_OF_RANGE)) > 0).all()
    assert ((ds["p_value"].values >= 0) & (ds["p_value"].values <= 1))[interval].all()
    assert np.array_equal(interval, np.isfinite(ds["p_value"].values))
    if design["uncertainty"] != "none":
        assert (flag[~interval & off] > 0).all()
    assert str(result.summary())
    # estimates beyond 1 are withheld, their tests stay in the table
    listed = known | np.isfinite(ds["p_value"].values)
    assert len(result.pairs()) == (listed & off).sum() // 2


def panel(seed, samples=5):
    rng = np.random.default_rng(seed)
    cells = rng.integers(30, 90, samples)
    mean = np.exp(rng.uniform(-1.5, 1.5, 7))
    adata, _ = simulate_counts(
        samples, list(cells), 7, mean=mean, within=0.4, between=0.4, seed=seed
    )
    return adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()


def numbers(result):
    """Values by name, so that neither the order of genes nor that of samples plays a part."""
    ds = result.dataset.sortby("gene")
    return ds.sortby("partner") if "partner" in ds.dims else ds


def all_models(adata, sums=True):
    """Fit every moment model in double precision; `sums`: also the models of sample sums."""
    options = {"sample": "sample", "depth": "depth"}
    yield "within", fit(adata, precision="double", per_sample=True)
    yield "pooled", fit(adata, estimator="pooled", precision="double")
    yield "cluster", fit(adata, uncertainty="cluster", precision="double")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not sums:
            return
        yield (
            "pseudobulk",
            hc.Pseudobulk(adata, normalization="cpm", **options).fit(precision="double"),
        )
        yield "spearman", hc.CellCorrelation(adata, **options).fit("spearman", precision="double")


def assert_same_answers(one, other, sums=True):
    for (name, a), (_, b) in zip(all_models(one, sums), all_models(other, sums), strict=True):
        a, b = numbers(a), numbers(b)
        for variable in ("correlation", "se", "ci_lower", "p_value", "flag"):
            np.testing.assert_allclose(
                a[variable].values,
                b[variable].values,
                rtol=1e-6,
                atol=1e-9,
                err_msg=f"{name}: {variable}",
            )


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_order_of_cells_and_genes_plays_no_part(seed):
    adata = panel(seed)
    rng = np.random.default_rng(seed)
    assert_same_answers(
        adata, adata[rng.permutation(adata.n_obs)][:, rng.permutation(adata.n_vars)].copy()
    )


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_names_of_samples_play_no_part(seed):
    adata = panel(seed)
    other = adata.copy()
    names = list(dict.fromkeys(adata.obs["sample"]))
    new = dict(
        zip(
            names,
            np.random.default_rng(seed).permutation([f"x{k}" for k in range(len(names))]),
            strict=True,
        )
    )
    other.obs["sample"] = adata.obs["sample"].astype(str).map(new)
    assert_same_answers(adata, other)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_units_of_depth_play_no_part(seed, factor):
    adata = panel(seed)
    other = adata.copy()
    other.obs["depth"] = adata.obs["depth"] * factor
    assert_same_answers(
        adata, other, sums=False
    )  # sums of samples have a prior count, which is in counts


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from(["csc", "dense", "float32", "int16", "unsorted"]))
def test_format_of_the_matrix_plays_no_part(seed, kind):
    from scipy import sparse

    adata = panel(seed)
    other, x = adata.copy(), sparse.csr_matrix(adata.X)
    if kind == "unsorted":
        y = sparse.csr_matrix(x[:, ::-1])  # columns in falling order in each row, then named back
        x = sparse.csr_matrix((y.data, x.shape[1] - 1 - y.indices, y.indptr), x.shape)
        assert not x.has_sorted_indices
    other.X = {"csc": x.tocsc, "dense": x.toarray}.get(
        kind, lambda: x if kind == "unsorted" else x.astype(kind)
    )()
    assert_same_answers(adata, other)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_a_sample_given_twice_is_not_a_new_sample_of_the_same_weight(seed):
    """With all cells twice the estimate hardly moves, and n remains the number of samples."""
    import anndata as ad

    adata = panel(seed)
    twice = ad.concat([adata, adata], index_unique="-")
    one, two = fit(adata, precision="double"), fit(twice, precision="double")
    assert one.dataset.attrs["n_samples"] == two.dataset.attrs["n_samples"] == 5
    a, b = one.dataset, two.dataset
    known = np.isfinite(a["correlation"].values) & np.isfinite(b["correlation"].values)
    rich = known & (a["flag"].values == 0)
    assert np.abs(a["correlation"].values - b["correlation"].values)[rich].max(initial=0) < 0.12
    assert (b["df"].values[rich] <= 4 + 1e-9).all()


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(0.1, 20))
def test_recoded_covariates_give_the_same_answer(seed, shift, scale):
    adata = panel(seed, samples=8)
    number = (
        adata.obs["sample"]
        .map({s: k for k, s in enumerate(dict.fromkeys(adata.obs["sample"]))})
        .astype(int)
    )
    adata.obs["age"], adata.obs["arm"] = 20.0 + 3 * number, np.where(number % 2 == 0, "a", "b")
    other = adata.copy()
    other.obs["age"], other.obs["arm"] = (
        shift + scale * adata.obs["age"],
        np.where(number % 2 == 0, "z", "y"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {
            "sample": "sample",
            "depth": "depth",
            "formula": "~ age + arm",
            "normalization": "cpm",
        }
        a, b = (hc.Pseudobulk(d, **options).fit(precision="double").dataset for d in (adata, other))
        c, d = (
            hc.differential(x, "sample", "arm", "~ age", depth="depth").dataset
            for x in (adata, other)
        )
    for name in ("correlation", "p_value"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(c["difference"], -d["difference"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(c["p_value"], d["p_value"], rtol=1e-3, atol=1e-5)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_matrices_are_symmetric_and_projections_positive(seed):
    adata = panel(seed)
    for name, result in all_models(adata):
        for variable in ("correlation", "se", "p_value", "flag"):
            values = result.dataset[variable].values
            np.testing.assert_array_equal(values, values.T, err_msg=f"{name}: {variable}")
        p = result.dataset["p_value"].values
        assert ((p >= 0) & (p <= 1) | np.isnan(p)).all(), name
        assert (np.nan_to_num(result.dataset["se"].values, nan=1.0) > 0).all(), name
