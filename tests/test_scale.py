"""Work that is larger than memory or one process: disk, checkpoints, threads, Dask - always the numbers of the plain fit."""

import itertools
import os
import signal
import subprocess
import sys
import time
import warnings

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
import threadpoolctl
from scipy import sparse

import hiercorr as hc
from hiercorr import inference
from hiercorr.results import stream, tiling
from hiercorr.runtime import resources
from hiercorr.simulate import simulate_counts
from hiercorr.within import fitting

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
OPTIONS = {"sample": "sample", "depth": "depth"}


@pytest.fixture(scope="module")
def data():
    adata, _ = simulate_counts(
        5, 120, 40, mean=np.geomspace(0.05, 4, 40), within=0.4, cell_imbalance=0.4, seed=5
    )
    rng = np.random.default_rng(0)
    return adata[rng.permutation(adata.n_obs)].copy()  # cells of a sample are not together in files


@pytest.fixture(scope="module")
def plain(data):
    return hc.CSCore(data, **OPTIONS).fit().dataset


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 13 genes, so that 40 genes are 10 tiles."""
    monkeypatch.setattr(tiling, "_TILE_GENES", 13)
    monkeypatch.setattr(tiling, "_PART_GENES", 13)
    monkeypatch.setattr(tiling, "WIDE", 13)
    monkeypatch.setattr(tiling, "_LEAST_GENES", 1)


def assert_same(found, wanted, rtol=2e-4, atol=2e-6, exact=False):
    assert set(found.data_vars) == set(wanted.data_vars)
    for name in wanted.data_vars:
        a, b = found[name].values, wanted[name].values
        if exact:
            np.testing.assert_array_equal(a, b, err_msg=name)
        elif a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_files_give_the_numbers_of_memory(data, plain, store, kind, tmp_path):
    copy = data.copy()
    copy.X = sparse.csc_matrix(data.X) if kind == "csc" else sparse.csr_matrix(data.X)
    path = tmp_path / f"counts.{store}"
    getattr(copy, f"write_{store}")(path)
    for source in (path, ad.read_h5ad(path, backed="r")) if store == "h5ad" else (path,):
        found = hc.CSCore(source, scratch=tmp_path, **OPTIONS).fit().dataset
        assert_same(found, plain, exact=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # the scratch file has no name


def test_entries_beyond_the_limit_are_refused_with_the_way_out(data, tmp_path):
    with pytest.raises(
        hc.InputError, match=r"non-zeros, which would take .* may be used; pass scratch=FOLDER"
    ):
        hc.CSCore(data, memory_limit="10kB", **OPTIONS)
    hc.CSCore(data, memory_limit="10kB", scratch=tmp_path, **OPTIONS)
    with pytest.raises(hc.InputError, match="is not a folder"):
        hc.CSCore(data, scratch=tmp_path / "missing", **OPTIONS)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("500MB", 5 * 10**8), (123, 123), ("1.5 kB", 1500), ("2g", 2 * 10**9)],
)
def test_memory_as_text(text, size):
    assert resources.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-3", 0, "4 GiBs", "1.2.3GB", ""])
def test_memory_that_is_none(text):
    with pytest.raises(hc.InputError, match="memory_limit"):
        resources.memory_bytes(text)


def test_scratch_on_a_full_disk(data, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(hc.InputError, match=r"has no room for .*No space left"):
        hc.CSCore(data, scratch=tmp_path, **OPTIONS)


# --- results on disk -------------------------------------------------------------------------------------------------


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
    with pytest.raises(hc.InputError, match="choose fewer genes"):
        hc.CSCore(data, memory_limit="1kB", scratch=tmp_path, **OPTIONS).fit(target="gene3")
    assert model.fit(out=tmp_path / "all.zarr").dataset.sizes["gene"] == 40


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


# --- checkpoints -----------------------------------------------------------------------------------------------------

KILLED = """
import os, sys, warnings, signal
warnings.simplefilter("ignore")
import hiercorr as hc
from hiercorr.results import tiling
from hiercorr import moments
tiling._TILE_GENES, tiling.WIDE, tiling._LEAST_GENES = 13, 13, 1
inner, calls = moments.cross_products, 0
def counted(*args):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*args)
moments.cross_products = counted
hc.CSCore(sys.argv[1], sample="sample", depth="depth").fit("pooled", checkpoint=sys.argv[2])
"""


def test_killed_fit_goes_on_and_ends_the_same(data, small_tiles, monkeypatch, tmp_path):
    from hiercorr import moments

    path, kept = tmp_path / "counts.h5ad", tmp_path / "kept"
    data.write_h5ad(path)
    wanted = hc.CSCore(path, **OPTIONS).fit("pooled").dataset
    for at in (9, 23):  # killed twice; the second run does not begin again
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(kept), str(at)], capture_output=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(kept.glob("*.npy"))) == 8 + 22
    inner, calls = moments.cross_products, itertools.count()
    monkeypatch.setattr(moments, "cross_products", lambda *a: (next(calls), inner(*a))[1])
    found = hc.CSCore(path, **OPTIONS).fit("pooled", checkpoint=kept).dataset
    assert next(calls) == 10 * (5 + 1) - 30  # 10 tiles, 5 samples and the test over all
    assert_same(found, wanted, exact=True)
    assert not kept.exists()


def interrupt(data, monkeypatch, folder):
    """A fit that is stopped when the sums of its first tile are kept."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(fitting, "tile_of", stop)
        with pytest.raises(KeyboardInterrupt):
            hc.CSCore(data, **OPTIONS).fit(checkpoint=folder)


def test_checkpoint_of_other_counts_is_not_used(data, monkeypatch, tmp_path):
    kept, other = tmp_path / "kept", tmp_path / "other.txt"
    kept.mkdir()
    (kept / "mine.txt").write_text("stays")

    interrupt(data, monkeypatch, kept)
    assert len(list(kept.glob("*.npy"))) == 5
    changed = data.copy()
    changed.X[0, np.flatnonzero(changed.X[0].toarray()[0])[0]] += 1
    found = hc.CSCore(changed, **OPTIONS).fit(checkpoint=kept).dataset
    assert_same(found, hc.CSCore(changed, **OPTIONS).fit().dataset, exact=True)
    assert len(list(kept.glob("*.npy"))) == 5  # those of the first data are still there
    hc.CSCore(data, **OPTIONS).fit(checkpoint=kept)
    assert [p.name for p in kept.iterdir()] == ["mine.txt"]
    other.write_text("")
    with pytest.raises(hc.InputError, match="cannot make the checkpoint folder"):
        hc.CSCore(data, **OPTIONS).fit(checkpoint=other)


def test_damaged_checkpoint_is_computed_again(data, plain, monkeypatch, tmp_path):
    interrupt(data, monkeypatch, tmp_path)
    first = sorted(tmp_path.glob("*.npy"))[0]
    first.write_bytes(first.read_bytes()[:200])
    assert_same(hc.CSCore(data, **OPTIONS).fit(checkpoint=tmp_path).dataset, plain, exact=True)


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["within", "pooled"])
def test_numbers_do_not_depend_on_threads(data, estimator):
    model = hc.CSCore(data, **OPTIONS)
    one = model.fit(estimator, n_jobs=1, precision="double").dataset
    two = model.fit(estimator, n_jobs=2, precision="double").dataset
    assert_same(two, one, rtol=1e-9, atol=1e-12)


def test_limits_on_threads_hold(data, monkeypatch):
    seen = []
    inner = inference.pair_estimate

    def noted(*args):
        seen.append(
            (
                numba.get_num_threads(),
                max(
                    p["num_threads"]
                    for p in threadpoolctl.threadpool_info()
                    if p["user_api"] == "blas"
                ),
            )
        )
        return inner(*args)

    monkeypatch.setattr(inference, "pair_estimate", noted)
    before = numba.get_num_threads()
    model = hc.CSCore(data, **OPTIONS)
    model.fit(n_jobs=1)
    with threadpoolctl.threadpool_limits(1):
        model.fit()
    assert seen == [(1, 1), (1, 1)]
    assert numba.get_num_threads() == before


# --- resampling and import ---------------------------------------------------------------------------------------------


def test_import_is_light():
    heavy = ("pymc", "arviz", "dask", "matplotlib", "statsmodels.api", "gseapy", "sklearn")
    code = f"import sys, hiercorr; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_scaling_benchmark_runs():
    command = [sys.executable, "-m", "validation.benchmarks.scaling", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "failed" not in done.stderr
    for name in ("pooled", "within, from disk", "numpy corrcoef", "BLAS limit"):
        assert name in done.stdout


# --- Dask --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit="2GiB"
        )
    with cluster, distributed.Client(cluster) as client:
        yield client


def dask_backed(data):
    array = pytest.importorskip("dask.array")
    copy = data.copy()
    copy.X = array.from_array(sparse.csr_matrix(data.X), chunks=(170, data.n_vars), asarray=False)
    return copy


@pytest.mark.parametrize("estimator", ["within", "pooled"])
@pytest.mark.parametrize("source", ["dask", "memory", "h5ad"])
def test_cluster_gives_the_numbers_of_one_process(
    data, client, small_tiles, source, estimator, tmp_path, monkeypatch
):
    from hiercorr.within import dask

    monkeypatch.setattr(dask, "_BLOCK_ROWS", 130)
    given = {
        "dask": dask_backed,
        "memory": lambda d: d,
        "h5ad": lambda d: (d.write_h5ad(tmp_path / "d.h5ad"), tmp_path / "d.h5ad")[1],
    }[source](data)
    wanted = hc.CSCore(data, **OPTIONS).fit(estimator, precision="double").dataset
    found = hc.CSCore(given, scheduler=client, **OPTIONS).fit(estimator, precision="double").dataset
    assert_same(found, wanted, rtol=1e-6, atol=1e-9)


def test_dask_backed_data_without_a_cluster(data, plain):
    assert_same(hc.CSCore(dask_backed(data), **OPTIONS).fit().dataset, plain, exact=True)
    found = (
        hc.CSCore(dask_backed(data), scheduler="threads", **OPTIONS).fit(target="gene39").dataset
    )
    wanted = hc.CSCore(data, **OPTIONS).fit(target="gene39").dataset
    assert_same(found, wanted)


def test_bad_counts_are_named_from_the_workers(data, client):
    bad = data.copy()
    bad.X = bad.X.astype(float)
    bad.X[300, 7] = 0.5
    cell = bad.obs_names[300]
    with pytest.raises(
        hc.InputError, match=rf"not hold counts \(cell '{cell}', gene 'gene7': 0.5\)"
    ):
        hc.CSCore(dask_backed(bad), scheduler=client, **OPTIONS)


def test_no_task_is_dense(data, client, monkeypatch):
    """The largest dense array of a task is some thousand cells by the genes of a tile, in whole strips."""
    from hiercorr import kernels
    from hiercorr.moments import products

    model = hc.CSCore(dask_backed(data), scheduler="sync", **OPTIONS)
    shapes = []
    inner = kernels.strips.fill
    monkeypatch.setattr(
        kernels.strips, "fill", lambda *a: (shapes.append((len(a[2]), *a[-2].shape)), inner(*a))[1]
    )
    monkeypatch.setattr(products, "CELL_BLOCK", 50)
    monkeypatch.setattr(tiling, "_TILE_GENES", 13)
    monkeypatch.setattr(tiling, "_LEAST_GENES", 1)
    model.fit()
    assert max(cells for _, _, cells, _ in shapes) <= 50
    assert max(genes for genes, _, _, _ in shapes) <= 13
    assert max(strips for _, strips, _, _ in shapes) == 1


def test_worker_killed_in_mid_run(data, client, small_tiles, monkeypatch, tmp_path):
    wanted = hc.CSCore(data, **OPTIONS).fit(precision="double").dataset
    model = hc.CSCore(dask_backed(data), scheduler=client, **OPTIONS)
    pids = client.run(os.getpid)
    write, calls = tiling.PairOutput.write, itertools.count()

    def killing(self, *args):
        if next(calls) == 2:
            os.kill(next(iter(pids.values())), signal.SIGKILL)
            time.sleep(0.5)
        write(self, *args)

    monkeypatch.setattr(tiling.PairOutput, "write", killing)
    found = model.fit(precision="double").dataset
    assert_same(found, wanted, rtol=1e-6, atol=1e-9)
    assert set(client.run(os.getpid).values()) != set(pids.values())


@pytest.mark.parametrize(
    ("model", "fit", "text"),
    [
        ({"scratch": "."}, {}, "neither scratch= nor covariates="),
        ({"covariates": "~ depth"}, {}, "neither scratch= nor covariates="),
        ({}, {"per_sample": True}, "needs the cells in this process"),
        ({}, {"checkpoint": "kept"}, "checkpoint= keeps sums of this process"),
    ],
)
def test_what_a_cluster_does_not_do(data, model, fit, text):
    pytest.importorskip("dask")
    with pytest.raises(hc.InputError, match=text):
        hc.CSCore(data, scheduler="sync", **OPTIONS, **model).fit(**fit)
