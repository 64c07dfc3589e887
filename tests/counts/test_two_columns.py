"""Samples that are combinations of two columns: the same numbers through every door."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.design.samples import Combination, sample_name
from hiercorr.planning import pilot
from hiercorr.plotting.cells import pair_scatter
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
GENES = ["gene0", "gene1", "gene2"]


@pytest.fixture(scope="module")
def data():
    """Samples d0|v0, d0|v1, d1|v0, ..., also in one column."""
    adata, _ = simulate_counts(8, 60, 14, mean=2, seed=1)
    k = pd.factorize(adata.obs["sample"])[0]
    adata.obs["donor"] = [f"d{i // 2}" for i in k]
    adata.obs["visit"] = [f"v{i % 2}" for i in k]
    adata.obs["both"] = adata.obs["donor"] + "|" + adata.obs["visit"]
    adata.obs["arm"] = np.where(k % 2, "x", "y")
    adata.obs["type"] = np.tile(["A", "B"], len(k) // 2)
    del adata.obs["sample"]
    return adata


def plain(result):
    return result.dataset.to_dataframe() if result.target else result.pairs()


DOORS = {
    "CSCore": lambda d, s: plain(hc.CSCore(d, s).fit()),
    "CSCore, block": lambda d, s: plain(hc.CSCore(d, s, block="donor").fit()),
    "signature": lambda d, s: hc.CSCore(d, s).signature(GENES).top(),
    "score": lambda d, s: hc.CSCore(d, s).score(np.arange(d.n_obs) % 7).top(),
    "differential": lambda d, s: plain(hc.differential(d, s, "arm")),
    "differential, block": lambda d, s: plain(hc.differential(d, s, "arm", block="donor")),
    "by_cell_type": lambda d, s: hc.by_cell_type(d, "type", s, min_cells=5).pairs(),
    "Pseudobulk": lambda d, s: plain(hc.Pseudobulk(d, s).fit()),
    "Pseudobulk, block": lambda d, s: plain(hc.Pseudobulk(d, s, block="donor").fit()),
    "Pseudobulk of sums": lambda d, s: plain(hc.Pseudobulk(hc.aggregate(d, s), s).fit()),
    "Pseudobulk, corrected": lambda d, s: plain(hc.Pseudobulk(d, s).fit(method="corrected")),
    "aggregate": lambda d, s: hc.aggregate(d, s).to_df(),
    "aggregate, types": lambda d, s: hc.aggregate(d, s, "type", min_cells=5, min_counts=0).to_df(),
    "check_design": lambda d, s: hc.check_design(d, s).samples.iloc[:, :3],
    "metacells": lambda d, s: hc.metacells(d, s, size=10, seed=1).to_df(),
    "metacell_sensitivity": lambda d, s: hc.metacell_sensitivity(d, s, "gene0", sizes=[5], seed=1),
    "traps": lambda d, s: hc.traps(d, s, "gene0", seed=1).genes,
    "CellCorrelation": lambda d, s: plain(hc.CellCorrelation(d, s).fit()),
    "decompose": lambda d, s: plain(hc.decompose(d, s)),
    "pilot": lambda d, s: pd.Series(pilot(d, s, "gene0", "gene1")).astype(str).to_frame(),
    "pair_scatter": lambda d, s: pd.DataFrame(
        {"label": [t.get_text() for t in pair_scatter(d, s, "gene0", "gene1").texts]}
    ),
    "Bayesian": lambda d, s: pd.DataFrame(hc.BayesianCorrelation(d, s, GENES[:2]).design.matrix),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_takes_two_columns(data, door):
    before = data.obs.copy()
    found, wanted = DOORS[door](data, ("donor", "visit")), DOORS[door](data, "both")
    pd.testing.assert_frame_equal(found, wanted, check_names=False)
    pd.testing.assert_frame_equal(data.obs, before)


@pytest.mark.parametrize("door", ["CSCore", "differential", "aggregate", "check_design", "traps"])
@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (("donor", "none"), "'none'"),
        (("donor",), "two columns"),
        (("donor", "donor"), "two columns"),
        (("donor", 1), "two columns"),
        (3, "sample must be a string"),
    ],
)
def test_what_names_no_samples(data, door, sample, text):
    with pytest.raises(hc.InputError, match=text):
        DOORS[door](data, sample)


def test_a_column_of_the_joined_name(data):
    other = data.copy()
    other.obs["donor|visit"] = "x"
    with pytest.raises(hc.InputError, match="other values than the combinations"):
        hc.CSCore(other, ("donor", "visit"))
    other.obs["donor|visit"] = other.obs["both"]
    assert hc.CSCore(other, ("donor", "visit")).counts.n_samples == 8


def test_copies_of_the_name():
    name = sample_name(["donor", "visit"])
    for other in (copy.copy(name), copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
        assert isinstance(other, Combination)
        assert (other, other.columns) == ("donor|visit", ("donor", "visit"))
