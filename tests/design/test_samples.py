"""Columns that describe samples, blocks, repeated donors, conditions that vary within samples."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.design.samples import repeated_donors, warn_of_varying_conditions
from hiercorr.simulate import simulate_counts

DONORS, CELLS = 4, 60


def cells(**columns):
    """Cells of four donors in order; a column is a value per cell of one donor, or per cell."""
    obs = pd.DataFrame({"donor": np.repeat([f"d{k}" for k in range(DONORS)], CELLS)})
    for name, values in columns.items():
        obs[name] = np.resize(values, len(obs))
    return obs


def told(obs, sample="donor", **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        starts = np.arange(0, len(obs) + 1, CELLS)
        warn_of_varying_conditions(obs, starts, sample, **options)
    assert len(found) <= 1
    return str(found[0].message) if found else ""


def test_repeated_donors_are_named(gbm):
    with pytest.warns(
        hc.DataWarning, match="10 samples of 'sample_id' come from 5 values of 'patient_id'"
    ):
        hc.CSCore(gbm, sample="sample_id", depth="total_counts", genes=5)


def test_properties_of_donors_are_not_donors():
    table = pd.DataFrame(
        {
            "donor": ["a", "a", "b", "b", "c", "c"],
            "donor_sex": list("ffffmm"),
            "patient_group": list("xxxxyy"),
        }
    )
    assert repeated_donors(table, "sample") == {"donor": 3}
    assert repeated_donors(table[["donor_sex"]], "donor") == {}


def test_condition_that_varies_within_samples():
    obs = cells(condition=["ctrl", "stim"])
    obs["sample_id"] = obs["donor"] + obs["condition"]
    message = told(obs)
    assert message.startswith("'condition' varies within the samples of 'donor': its effect on")
    assert "use sample='sample_id', block='donor', or covariates='~ condition'" in message
    assert "block='donor' with obs['donor_condition'] = " in told(obs.drop(columns="sample_id"))
    assert "sample='sample_id', block='hospital'" in told(
        obs.assign(hospital="h"), block="hospital"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("treatment", "treated", "arm", "group", "stim", "time", "timepoint", "TimePoint", "day"),
        *("visit", "batch", "seq batch", "Condition", "drug_dose", "brain_region"),
    ],
)
@pytest.mark.parametrize("values", [["a", "b"], [0, 7], [True, False]])
def test_names_of_conditions(name, values):
    quoted = name if name.isidentifier() else f"`{name}`"
    assert f"covariates='~ {quoted}'" in told(cells(**{name: values}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("condition", ["ctrl"]),  # constant
        ("condition", ["ctrl"] * 59 + ["stim"]),  # 1 cell of 60
        ("cell_type", ["a", "b"]),
        ("cell_group", ["a", "b"]),
        ("phase", ["a", "b"]),
        ("pseudotime", np.linspace(0, 1, 240)),
        ("time", np.linspace(0, 1, 240)),
        ("n_batches", [1, 2]),
        ("condition", [f"c{k}" for k in range(240)]),  # names cells
        ("condition", ["ctrl"] * 180 + ["ctrl", "stim"] * 30),  # in one donor of four
    ],
)
def test_columns_without_a_warning(name, values):
    assert told(cells(**{name: values})) == ""


def test_adjusted_conditions_and_their_copies_are_silent():
    obs = cells(condition=["ctrl", "stim"], treatment=["x", "y"], batch=["1", "1", "2", "2"])
    assert told(obs, covariates="~ condition + batch + (1 | donor)") == ""
    assert "'batch' varies" in told(obs, covariates=["condition"])
    assert "'condition' and 'batch' vary within" in told(obs)


@pytest.fixture(scope="module")
def treated():
    """Five donors of which half of the cells were treated, in two cell types."""
    adata, _ = simulate_counts(5, 160, 14, mean=2.0, within=0.4, seed=3)
    number = np.arange(adata.n_obs)
    adata.obs["condition"] = np.where(number % 2 == 0, "ctrl", "stim")
    adata.obs["kind"] = np.where(number % 4 < 2, "a", "b")
    adata.obs["well"] = adata.obs["sample"].astype(str) + adata.obs["condition"]
    adata.obs = adata.obs.rename(columns={"sample": "donor"})
    return adata


def test_models_warn_once(treated):
    options = {"depth": "depth"}
    with pytest.warns(hc.DataWarning, match="sample='well', block='donor'"):
        hc.CSCore(treated, "donor", **options)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        hc.by_cell_type(treated, "kind", "donor", **options)
    assert sum("'condition' varies" in str(w.message) for w in found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", hc.DataWarning)
        hc.CSCore(treated, "well", block="donor", **options)
        hc.CSCore(treated, "donor", covariates="~ condition", **options)


def test_remedy_removes_the_effect_of_the_condition(treated):
    """A shift of means by treatment is correlation by donor, and none by sample within donor."""
    shifted = treated.copy()
    rng = np.random.default_rng(1)
    x = rng.poisson(2.0, shifted.shape)
    stim = (shifted.obs["condition"] == "stim").to_numpy()
    x[stim] = rng.poisson(6.0, x[stim].shape)
    shifted.X = x.astype(np.float32)
    shifted.obs["depth"] = 1000.0
    upper = np.triu_indices(14, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = hc.CSCore(shifted, "donor", depth="depth").fit().dataset
        right = hc.CSCore(shifted, "well", depth="depth", block="donor").fit().dataset
    assert np.nanmean(wrong["correlation"].values[upper]) > 0.5
    assert (wrong["q_value"].values[upper] < 0.05).mean() > 0.9
    p = right["p_value"].values[upper]
    assert not (right["q_value"].values[upper] < 0.05).any()
    assert not (p[np.isfinite(p)] < 0.001).any()
