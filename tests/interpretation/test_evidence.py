"""Evidence at two levels: classes by hand, refusals, the Bayesian layer."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::hiercorr.DataWarning",
    "ignore::hiercorr.EstimationWarning",
)


def test_classes_by_hand(within, between):
    e = hc.evidence("FTL", within=within, between=between, q=0.2)
    w, b = within.top("FTL", n=300), between.top("FTL", n=300)
    for gene, row in e.table.iterrows():
        passes = w.loc[gene, "q_value"] < 0.2, b.loc[gene, "q_value"] < 0.2
        same = np.sign(w.loc[gene, "correlation"]) == np.sign(b.loc[gene, "correlation"])
        expected = {
            (1, 1): "both levels" if same else "discordant",
            (1, 0): "cell-state only",
            (0, 1): "between-sample only",
        }
        assert row["evidence"] == expected.get(tuple(int(p) for p in passes), "insufficient")
    assert e.counts().sum() == len(e.table) == 299
    assert e.counts()["both levels"] == len(e.of("both levels"))
    assert "i2" in " ".join(e.table.columns)


def test_refuses(gbm, within, between):
    with pytest.raises(hc.InputError, match="unknown gene 'nothing'"):
        hc.evidence("nothing", within=within, between=between)
    with pytest.raises(hc.InputError, match="needs a result of level 'between'"):
        hc.evidence("FTL", within=within, between=within)
    adata, _ = simulate_counts(4, 60, 8, mean=3, seed=1)
    other = hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm").fit()
    with pytest.raises(hc.InputError, match="come from different data"):
        hc.evidence("FTL", within=within, between=other)
    few = hc.CSCore(gbm, **VEHICLE, genes=["FTL", "SPP1"]).fit()
    many = hc.Pseudobulk(gbm, **VEHICLE, genes=["FTL", "FTH1"]).fit()
    with pytest.raises(hc.InputError, match="share no gene"):
        hc.evidence("FTL", within=few, between=many)
    with pytest.warns(hc.DataWarning, match="1 genes are in both"):
        hc.evidence("FTL", within=few, between=between)
    both_arms = hc.Pseudobulk(gbm, "sample_id", depth="total_counts").fit()
    with pytest.warns(
        hc.DataWarning, match="rest on different samples: 0 only within, 5 only between"
    ):
        hc.evidence("FTL", within=within, between=both_arms)
    with pytest.raises(hc.InputError, match="name must be one of"):
        hc.evidence("FTL", within=within, between=between).of("strong")


def test_evidence_takes_the_bayesian_layer(fitted):
    _, r, _, adata = fitted
    within, between = (
        hc.CSCore(adata, "sample", depth="depth").fit(),
        hc.Pseudobulk(adata, "sample", depth="depth").fit(),
    )
    table = hc.evidence("gene0", within=within, between=between, bayesian=r).table
    assert table.loc["gene1", "bayesian_correlation"] == pytest.approx(
        float(r.dataset["correlation"][0, 1])
    )


def test_layers_of_different_cells_are_told(gbm):
    options = {"sample": "sample_id", "depth": "total_counts", "genes": 20}
    within = hc.CSCore(gbm, subset={"condition": "ctrl"}, **options).fit(target="FTL")
    between = hc.Pseudobulk(gbm, **options).fit(target="FTL")
    with pytest.warns(hc.DataWarning, match="subset is 'condition: ctrl' within and 'all cells'"):
        hc.evidence("FTL", within=within, between=between)
    again = hc.Pseudobulk(gbm, subset={"condition": "ctrl"}, **options).fit(target="FTL")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hc.evidence("FTL", within=within, between=again)


def test_small_q_values_are_not_rounded_to_0():
    data = hc.datasets.ipsc_cycle()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = hc.CSCore(data, "donor", depth="depth").fit(target="CDK1")
        b = hc.Pseudobulk(data, "donor", depth="depth").fit(target="CDK1")
        found = hc.evidence("CDK1", within=w, between=b)
    smallest = found.table["within_q_value"].min()
    assert smallest < 1e-20
    for text in (str(found), found._repr_html_()):
        assert f"{smallest:.1e}" in text
        assert " 0.0 " not in text
