"""Results streamed to disk: the numbers of a fit in memory, interrupted or refused."""

import itertools

import numpy as np
import pandas as pd
import pytest
import zarr

import hiercorr as hc
from hiercorr.results import stream, tiling
from tests.support import OPTIONS, assert_same

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


@pytest.mark.parametrize("estimator", ["within", "pooled"])
def test_streamed_result_is_the_result(data, small_tiles, estimator, tmp_path):
    model = hc.CSCore(data, **OPTIONS)
    wanted = model.fit(estimator)
    found = model.fit(estimator, out=tmp_path / "all.zarr")
    assert not found.dataset["correlation"].variable._in_memory
    loaded = hc.load(tmp_path / "all.zarr").dataset
    assert_same(loaded.drop_vars("q_value"), wanted.dataset.drop_vars("q_value"))
    np.testing.assert_allclose(loaded["q_value"], wanted.dataset["q_value"], rtol=3e-4)
    assert {k: v for k, v in loaded.attrs.items() if k != "created"} == {
        k: v for k, v in wanted.dataset.attrs.items() if k != "created"
    }
    for v in wanted.dataset.data_vars:
        assert loaded[v].attrs.keys() == wanted.dataset[v].attrs.keys()
    # the methods read from disk what they need
    pd.testing.assert_series_equal(found.flag_counts(), wanted.flag_counts())
    assert found.top("gene39", 5).index.tolist() == wanted.top("gene39", 5).index.tolist()
    assert repr(found) == repr(wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["all.zarr"]


@pytest.mark.slow
def test_pairs_of_a_streamed_result_are_read_in_parts(data, small_tiles, tmp_path, monkeypatch):
    from hiercorr.results import pairs

    model = hc.CSCore(data, **OPTIONS)
    wanted, found = model.fit(), model.fit(out=tmp_path / "all.zarr")
    monkeypatch.setattr(pairs, "_PART", 120)
    for options in ({}, {"n": 7}, {"q": 0.3}, {"min_correlation": 0.2, "n": 3}):
        a, b = found.pairs(**options), wanted.pairs(**options)
        pd.testing.assert_frame_equal(
            a.drop(columns="q_value"), b.drop(columns="q_value"), rtol=1e-3
        )
    pd.testing.assert_series_equal(found.flag_counts(), wanted.flag_counts())


def test_streamed_q_values_are_those_of_scipy(tmp_path):
    from scipy import stats

    rng = np.random.default_rng(3)
    n = 60
    p = np.where(rng.random((n, n)) < 0.3, rng.random((n, n)) * 1e-4, rng.random((n, n))).astype(
        np.float32
    )
    p[3, 5:9] = np.nan
    p = np.triu(p, 1) + np.triu(p, 1).T
    np.fill_diagonal(p, np.nan)
    spans = [slice(0, 25), slice(25, 60)]
    tiles = [(left, right) for k, left in enumerate(spans) for right in spans[k:]]
    with stream.opened(tmp_path / "q.zarr", tiles, np.float32, False) as output:
        for left, right in tiles:
            tile = {
                "correlation": np.zeros((left.stop - left.start, right.stop - right.start)),
                "p_value": p[left, right].copy(),
            }
            output.write(left, right, tile, np.zeros(tile["p_value"].shape, np.uint16))
        output.q_values()
        q = output._group["q_value"][:]
    upper = np.triu_indices(n, 1)
    known = ~np.isnan(p[upper])
    wanted = stats.false_discovery_control(p[upper][known].astype(float))
    np.testing.assert_allclose(q[upper][known], wanted, rtol=6.2e-5)
    assert (q[upper][known] >= wanted * (1 - 1e-6)).all()  # never too small
    np.testing.assert_array_equal(q, q.T)
    assert np.isnan(q[upper][~known]).all()


def test_memory_is_refused_before_work_and_streaming_is_the_way_out(data, tmp_path):
    model = hc.CSCore(data, memory_limit="80kB", scratch=tmp_path, **OPTIONS)
    with pytest.raises(
        hc.InputError, match=r"would take .* may be used; stream it to disk with out='result.zarr'"
    ):
        model.fit()
    with pytest.raises(hc.InputError, match="may be used; estimate one gene against all"):
        model.fit(per_sample=True)  # which cannot be streamed
    with pytest.raises(hc.InputError, match="choose fewer genes"):
        hc.CSCore(data, memory_limit="1kB", scratch=tmp_path, **OPTIONS).fit(target="gene3")
    assert model.fit(out=tmp_path / "all.zarr").dataset.sizes["gene"] == 40


def test_tiles_fit_into_what_the_counts_leave(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "_LEAST_GENES", 1)
    n = hc.CSCore(data, **OPTIONS).counts.rows.size
    model = hc.CSCore(data, memory_limit=8 * n + 20_000, **OPTIONS)
    found = model.fit(out=tmp_path / "all.zarr").dataset
    layers = 2 * model.counts.n_samples * 4  # bytes per pair
    side = zarr.open_group(str(tmp_path / "all.zarr"), mode="r")["correlation"].chunks[0]
    assert side**2 * layers <= 20_000 / 4
    wanted = hc.CSCore(data, **OPTIONS).fit().dataset
    assert_same(found.drop_vars("q_value"), wanted.drop_vars("q_value"))


def test_interrupted_stream_leaves_what_was_there(data, small_tiles, monkeypatch, tmp_path):
    model = hc.CSCore(data, **OPTIONS)
    first = model.fit(out=tmp_path / "r.zarr").matrix()
    write, calls = stream.ZarrOutput.write, itertools.count()

    def failing(self, *args):
        if next(calls) == 4:
            raise OSError(28, "No space left on device")
        write(self, *args)

    monkeypatch.setattr(stream.ZarrOutput, "write", failing)
    with pytest.raises(FileExistsError):
        model.fit(out=tmp_path / "r.zarr")
    with pytest.raises(OSError, match="No space"):
        model.fit(out=tmp_path / "r.zarr", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    pd.testing.assert_frame_equal(hc.load(tmp_path / "r.zarr").matrix(), first)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"out": "r.nc"}, "ends in .zarr"),
        ({"out": "no/such/r.zarr"}, "no folder"),
        ({"out": "r.zarr", "target": "gene1"}, "use save"),
        ({"out": "r.zarr", "per_sample": True}, "per_sample"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"n_jobs": True}, "n_jobs"),
        ({"n_jobs": "two"}, "n_jobs"),
    ],
)
def test_refusals(data, options, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hc.InputError, match=text):
        hc.CSCore(data, **OPTIONS).fit(**options)
    assert not any(tmp_path.iterdir())
