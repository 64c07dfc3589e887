"""Differential correlation: the truth is found, size is kept, recoding and refusals."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import OPTIONS
from tests.within.support import two_arms

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize("options", [{}, {"permutations": 500, "seed": 1}])
def test_truth_is_found(options):
    r = hc.differential(
        two_arms(0.2, 0.7, n=8, cells=500, seed=3), condition="arm", **OPTIONS, **options
    )
    pairs = [(f"gene{k}", f"gene{k + 1}") for k in range(0, 12, 2)]
    ds = r.dataset
    at = {"gene": ("pair", [a for a, _ in pairs]), "partner": ("pair", [b for _, b in pairs])}
    import xarray as xr

    at = {k: xr.DataArray(v[1], dims="pair") for k, v in at.items()}
    assert float(ds["difference"].sel(at).mean()) == pytest.approx(0.5, abs=0.06)
    assert ((ds["difference_lower"] < 0.5) & (ds["difference_upper"] > 0.5)).sel(at).mean() > 0.6
    assert (ds["p_value"].sel(at) < 0.05).all()
    groups = ds["group_correlation"].sel(at).mean("pair")
    np.testing.assert_allclose(groups, [0.2, 0.7], atol=0.06)
    assert list(ds["group"].values) == ["a", "b"]


@pytest.mark.slow
def test_null_is_kept_at_few_samples():
    """Type-I error over 1,500 pairs without a difference (validation/ has the full study)."""
    rejected = []
    for seed in range(6):
        for paired in (False, True):
            null = two_arms(0.4, 0.4, n=5, cells=120, genes=24, seed=20 + seed, paired=paired)
            block = "donor" if paired else None
            p = (
                hc.differential(null, condition="arm", block=block, **OPTIONS)
                .dataset["p_value"]
                .values
            )
            rejected.append(np.mean(p[np.triu_indices(24, 1)] < 0.05))
    assert 0.025 < np.mean(rejected) < 0.07


def test_recoding_and_relabelling(data):
    base = hc.differential(data, condition="arm", **OPTIONS).dataset
    turned = data.copy()
    turned.obs["arm"] = turned.obs["arm"].map({"a": "z", "b": "c"}).astype(str)
    turned.obs["sample"] = pd.Categorical(turned.obs["sample"].astype(str).map(lambda s: s[::-1]))
    other = hc.differential(turned, condition="arm", **OPTIONS).dataset
    np.testing.assert_allclose(other["difference"], -base["difference"], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(other["p_value"], base["p_value"], rtol=2e-3, atol=1e-6)
    number = data.copy()
    number.obs["arm"] = (number.obs["arm"] == "b").astype(float) * 10
    slope = hc.differential(number, condition="arm", **OPTIONS).dataset
    np.testing.assert_allclose(10 * slope["difference"], base["difference"], rtol=2e-4, atol=2e-6)
    assert "group_correlation" not in slope


def test_result_is_saved_and_shown(data, tmp_path):
    r = hc.differential(data, condition="arm", target="gene0", **OPTIONS)
    assert r.top(n=1).index[0] == "gene1"
    assert {"difference", "correlation[a]", "correlation[b]"} <= set(r.top().columns)
    assert "diff." in str(r.summary())
    for name in ("r.zarr", "r.nc"):
        loaded = hc.load(r.save(tmp_path / name))
        xr_equal = loaded.dataset.equals(r.dataset)
        assert xr_equal
    full = hc.differential(data, condition="arm", **OPTIONS)
    assert {"correlation[a]", "difference"} <= set(full.pairs(n=3).columns)
    np.testing.assert_allclose(
        full.matrix("difference").loc["gene0"],
        r.matrix("difference").loc["gene0"],
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        ({}, {"condition": "arms"}, "unknown condition column 'arms'; did you mean 'arm'"),
        (
            {"arm": lambda o: ["a", "b"] * (len(o) // 2)},
            {},
            "condition 'arm' varies within samples",
        ),
        ({"arm": lambda o: "a"}, {}, "has one value, 'a'"),
        (
            {"arm": lambda o: np.where(o["sample"] == o["sample"].iloc[0], "b", "a")},
            {},
            "one sample in group 'b'",
        ),
        ({"batch": lambda o: o["arm"]}, {"formula": "~ batch"}, "not of full rank"),
        ({}, {"block": "age"}, "nothing can be compared within blocks"),
        ({}, {"permutations": 5}, "at least 19"),
        ({}, {"permutations": 99, "formula": "~ age"}, "name a categorical covariate as block="),
        ({}, {"confidence": 5}, "confidence must lie"),
        ({}, {"precision": "half"}, "precision must be"),
        ({}, {"block": "donors"}, "unknown block column"),
    ],
)
def test_refusals(data, change, options, text):
    given = data.copy()
    for name, make in change.items():
        given.obs[name] = make(given.obs)
    with pytest.raises(hc.InputError, match=text):
        hc.differential(given, **{"condition": "arm", **OPTIONS, **options})


def test_real_data_paired_by_patient():
    adata = hc.datasets.glioblastoma()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.differential(
            adata, "sample_id", "condition", block="patient_id", target="FTL", depth="total_counts"
        )
    assert r.dataset.attrs["uncertainty"] == "hierarchical"
    assert "tau" in r.dataset  # conditions are compared within patients
    assert list(r.dataset["group"].values) == ["ctrl", "panobinostat"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = hc.differential(
            adata,
            "sample_id",
            "condition",
            block="patient_id",
            target="FTL",
            depth="total_counts",
            uncertainty="HC2",
        ).dataset
    assert alone["df"].max() <= 4 + 1e-6  # 5 patients
    np.testing.assert_allclose(r.dataset["hc2_p_value"], alone["p_value"], rtol=1e-5)


def test_condition_within_samples_is_compared_within_them():
    parts = []
    for k, rho in enumerate((0.2, 0.7)):
        part, _ = simulate_counts(7, 250, 12, mean=1.5, within=rho, seed=30 + k)
        part.obs["cell_type"] = ["T cells", "B cells"][k]
        part.obs_names = f"{k}" + part.obs_names
        parts.append(part)
    adata = ad.concat(parts)
    with pytest.raises(
        hc.InputError, match="compare the conditions within samples, with block='sample'"
    ):
        hc.differential(adata, condition="cell_type", **OPTIONS)
    r = hc.differential(
        adata,
        condition="cell_type",
        block="sample",
        target="gene0",
        uncertainty="HC2",
        **OPTIONS,
    )
    assert r.dataset.sizes["sample"] == 14
    assert list(r.dataset["group"].values) == ["B cells", "T cells"]
    assert r.top(n=1).index[0] == "gene1"
    assert float(r.top(n=1)["difference"].iloc[0]) == pytest.approx(-0.5, abs=0.15)
    assert float(r.top(n=1)["df"].iloc[0]) <= 6 + 1e-6


def test_genes_of_few_counts_make_no_differences():
    """Estimates beyond -2 and 2 of genes with almost no variance were called."""
    mean = np.r_[np.full(26, 1.0), np.full(10, 0.05)]
    for seed in (0, 1):
        adata, _ = simulate_counts(
            10,
            200,
            36,
            mean=mean,
            between_sd=1.2,
            within_sd=1.0,
            within=0.0,
            seed=seed,
            covariates={"arm": (["u", "v"] * 5, 0.0)},
        )
        r = hc.differential(adata, "sample", "arm", depth="depth")
        d = r.dataset
        beyond = np.abs(d["difference_unclipped"].values) >= 2
        assert beyond.any()
        assert np.isnan(d["difference"].values[beyond]).all()
        assert (d["flag"].values[beyond] & int(hc.Flag.OUT_OF_RANGE) > 0).all()
        assert (d["q_value"].values < 0.05).sum() == 0
        assert "difference_unclipped" in r.pairs()
        shown = np.isfinite(d["difference_lower"].values)
        assert (d["difference_lower"].values < d["difference_upper"].values)[shown].all()
        without = np.isfinite(d["p_value"].values) & ~shown
        assert (d["flag"].values[without] & int(hc.Flag.NO_INTERVAL) > 0).all()


def test_sample_with_another_variance_makes_no_difference():
    """LTF varies 300 times as much in one sample; its correlation there is none."""
    adata = hc.datasets.glioblastoma()
    options = {"depth": "total_counts", "block": "patient_id", "target": "FTL"}
    r = hc.differential(adata, "sample_id", "condition", **options)
    row = r.matrix("difference_unclipped").loc["FTL", "LTF"]
    assert abs(row) < 0.4
    assert r.matrix("q_value").loc["FTL", "LTF"] > 0.05
    assert np.nanmax(np.abs(r.matrix("difference_unclipped").loc["FTL"])) < 2
