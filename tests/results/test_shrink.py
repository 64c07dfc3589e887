"""Local false sign rates of results."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.inference.shrinkage import learn_effects, normal_scores, shrink
from hiercorr.reporting.methods_text import methods_text
from hiercorr.results import pairs


@pytest.fixture(scope="module")
def every(gbm):
    options = {"depth": "total_counts", "genes": 40, "subset": {"condition": "ctrl"}}
    return hc.CSCore(gbm, "sample_id", **options).fit()


def test_all_pairs_once(every, tmp_path):
    r = every.shrink()
    d = r.dataset
    i, j = np.triu_indices(d.sizes["gene"], 1)
    z = normal_scores(d["p_value"].values, d["correlation_unclipped"].values)
    prior = learn_effects(z[i, j])
    assert d.attrs["null_share"] == pytest.approx(prior.null_share)
    assert d.attrs["shrunken_pairs"] == np.isfinite(z[i, j]).sum()
    lfsr, factor = shrink(z[i, j], prior)
    np.testing.assert_allclose(d["lfsr"].values[i, j], lfsr, rtol=1e-5)
    wanted = (factor * d["correlation_unclipped"].values[i, j]).astype(np.float32)
    np.testing.assert_allclose(d["shrunken_correlation"].values[i, j], wanted, rtol=1e-4)
    np.testing.assert_array_equal(d["lfsr"].values, d["lfsr"].values.T)
    assert np.isnan(np.diag(d["lfsr"].values)).all()
    assert "lfsr" not in every.dataset
    assert {"lfsr", "shrunken_correlation"} <= set(r.pairs().columns)
    assert {"lfsr", "shrunken_correlation"} <= set(r.top(r.genes[0]).columns)
    assert "local false sign rates" in str(methods_text(r))
    assert "local false sign rates" not in str(methods_text(every))
    assert "lfsr: local false sign rate" in str(r.summary())
    assert "lfsr" not in str(every.summary())
    again = hc.load(r.save(tmp_path / "r.nc"))
    np.testing.assert_array_equal(again.dataset["lfsr"].values, d["lfsr"].values)


def test_target_and_difference(gbm):
    options = {"depth": "total_counts", "genes": 100}
    one = hc.CSCore(gbm, "sample_id", **options).fit(target="FTL").shrink()
    assert one.dataset["lfsr"].notnull().sum() == one.dataset.attrs["shrunken_pairs"] > 60
    two = hc.differential(gbm, "sample_id", "condition", block="patient_id", **options).shrink()
    d = two.dataset
    assert (
        (abs(d["shrunken_difference"]) <= abs(d["difference"]) + 1e-6)
        .where(d["lfsr"].notnull(), True)
        .all()
    )
    assert "shrunken_correlation" not in d


def test_refusals(every, gbm):
    few = hc.CSCore(gbm, "sample_id", depth="total_counts", genes=8).fit()
    with pytest.raises(hc.InputError, match=r"2\d tested pairs: too few.*fit more genes"):
        few.shrink()
    with pytest.raises(hc.InputError, match="no p-values to learn from"):
        hc.CSCore(gbm, "sample_id", depth="total_counts", genes=20).fit(uncertainty="none").shrink()


def test_ranking_by_shrunken_estimates(every, monkeypatch):
    r = every.shrink()
    ranked = r.pairs(sort_by="shrunken")
    size = ranked["shrunken_correlation"].abs()
    assert size.dropna().is_monotonic_decreasing
    assert len(ranked) == len(r.pairs())
    monkeypatch.setattr(pairs, "_PART", 100)  # rows in blocks, as on disk
    columns = ["gene_a", "gene_b", "shrunken_correlation"]
    pd.testing.assert_frame_equal(r.pairs(n=7, sort_by="shrunken")[columns], ranked[columns][:7])
    strong = r.pairs(q=0.05, min_correlation=0.3, sort_by="shrunken")
    assert len(strong) == len(r.pairs(q=0.05, min_correlation=0.3)) > 0
    assert strong["shrunken_correlation"].abs().is_monotonic_decreasing
    top = r.top("FTL", n=5, sort_by="shrunken")
    row = r.matrix("shrunken_correlation").loc["FTL"].drop("FTL")
    assert top.index.tolist() == row.abs().sort_values(ascending=False).index[:5].tolist()
    for table in (every.top, every.pairs):
        with pytest.raises(hc.InputError, match=r"no shrunken estimates: call shrink\(\) first"):
            table(**({"gene": "FTL"} if table == every.top else {}), sort_by="shrunken")
    with pytest.raises(hc.InputError, match="sort_by must be"):
        r.pairs(sort_by="lfsr")


def test_ranking_differences(gbm):
    options = {"depth": "total_counts", "genes": 40}
    r = hc.differential(gbm, "sample_id", "condition", block="patient_id", **options).shrink()
    found = r.pairs(n=5, sort_by="shrunken")["shrunken_difference"].abs()
    whole = np.abs(r.dataset["shrunken_difference"].values)
    assert found.iloc[0] == pytest.approx(np.nanmax(whole))
    assert found.is_monotonic_decreasing
