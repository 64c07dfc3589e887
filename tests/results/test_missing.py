"""Counts of pairs that could not be estimated, and of tested pairs beyond -1 or 1."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.results.missing import Missing, count_missing, proportion


@pytest.fixture(scope="module")
def warned():
    m = hc.Pseudobulk(hc.datasets.ipsc_cycle(), "donor")
    with pytest.warns(hc.EstimationWarning) as caught:
        r = m.fit("corrected")
    return r, next(str(w.message) for w in caught if "of the pairs" in str(w.message))


def test_pairs_beyond_1_are_not_among_those_that_could_not_be_estimated(warned):
    r, text = warned
    upper = np.triu_indices(len(r.genes), 1)
    p, correlation = (r.matrix(n).to_numpy()[upper] for n in ("p_value", "correlation"))
    lost, beyond = np.isnan(p).mean(), (np.isnan(correlation) & np.isfinite(p)).mean()
    assert min(lost, beyond) > 0.01
    assert text.startswith(f"{lost:.1%} of the pairs could not be estimated; they are NaN")
    assert f"{beyond:.1%} of the pairs have an estimate beyond -1 or 1" in text
    assert f"{lost:.1%} not estimable, {beyond:.1%} beyond -1 or 1>" in repr(r)
    assert len(r.pairs()) == np.isfinite(p).sum()


def test_streamed_results_warn_alike(tmp_path, small):
    texts = []
    for out in ({}, {"out": tmp_path / "r.zarr"}):
        model = hc.CSCore(small, "sample", depth="depth")
        with pytest.warns(hc.EstimationWarning) as caught:
            r = model.fit(uncertainty="jackknife", **out)
        texts.append(
            [str(w.message) for w in caught if "of the pairs" in str(w.message)] + [repr(r)]
        )
    assert texts[0] == texts[1]


def test_no_share_is_rounded_to_none():
    assert proportion(1, 100_000) == "less than 0.1%"
    assert (
        str(Missing(1, 2, 100_000)) == "less than 0.1% not estimable, less than 0.1% beyond -1 or 1"
    )
    flag = np.array([0, 0, 256, 0], np.uint16)
    values = {
        "correlation": np.array([np.nan, np.nan, np.nan, 0.1]),
        "se": np.array([1, np.nan, 1, 1]),
    }
    assert count_missing(values, flag) == Missing(1, 1, 3)
    assert Missing(0, 0, 3).warning() is None
