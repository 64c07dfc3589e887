"""Fits on a Dask cluster: the numbers of one process."""

import itertools
import os
import signal
import sys
import threading
import time
import warnings

import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.results import tiling
from tests.support import OPTIONS, assert_same

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


@pytest.fixture(scope="module")
def plain(forty_genes_fit):
    return forty_genes_fit


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


@pytest.mark.slow
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


def test_schedulers_that_are_functions(data, plain):
    dask = pytest.importorskip("dask")
    found = hc.CSCore(data, scheduler=dask.get, **OPTIONS).fit().dataset
    assert_same(found, plain)


@pytest.mark.parametrize(
    "scheduler",
    [len, int, lambda *_, **__: 5, lambda _, keys, **__: [[None]], object(), True, b"x", {}],
)
def test_schedulers_that_are_none(data, scheduler):
    with pytest.raises(hc.InputError, match=r"^scheduler=.* is (not a function|neither)"):
        hc.CSCore(data, scheduler=scheduler, **OPTIONS)


def test_bad_counts_are_named_from_the_workers(data, client):
    bad = data.copy()
    bad.X = bad.X.astype(float)
    bad.X[300, 7] = 0.5
    cell = bad.obs_names[300]
    with pytest.raises(
        hc.InputError, match=rf"not contain counts \(cell '{cell}', gene 'gene7': 0.5\)"
    ):
        hc.CSCore(dask_backed(bad), scheduler=client, **OPTIONS)


def test_no_task_is_dense(data, client, monkeypatch):
    """The largest dense array of a task is a block of cells by the genes of a tile."""
    from hiercorr import kernels
    from hiercorr.moments import products
    from hiercorr.within import heterogeneity

    model = hc.CSCore(dask_backed(data), scheduler="sync", **OPTIONS)
    shapes = []
    inner = kernels.strips.fill
    monkeypatch.setattr(
        kernels.strips, "fill", lambda *a: (shapes.append((len(a[2]), *a[-1].shape)), inner(*a))[1]
    )
    monkeypatch.setattr(products, "CELL_BLOCK", 50)
    monkeypatch.setattr(tiling, "_TILE_GENES", 13)
    monkeypatch.setattr(tiling, "_LEAST_GENES", 1)
    monkeypatch.setattr(heterogeneity, "PANEL_GENES", 13)
    model.fit()
    assert max(cells for _, _, cells, _ in shapes) <= 50
    assert max(genes for genes, _, _, _ in shapes) <= 13
    assert max(strips for _, strips, _, _ in shapes) == 1


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_worker_that_stops_for_a_while(data, client, small_tiles, monkeypatch):
    """A worker that answers nothing for two seconds is waited for."""
    wanted = hc.CSCore(data, **OPTIONS).fit(precision="double").dataset
    model = hc.CSCore(dask_backed(data), scheduler=client, **OPTIONS)
    pid = next(iter(client.run(os.getpid).values()))
    write, calls = tiling.PairOutput.write, itertools.count()

    def stopping(self, *args):
        if next(calls) == 2:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(2, os.kill, (pid, signal.SIGCONT)).start()
        write(self, *args)

    monkeypatch.setattr(tiling.PairOutput, "write", stopping)
    found = model.fit(precision="double").dataset
    assert_same(found, wanted, rtol=1e-6, atol=1e-9)
    assert pid in client.run(os.getpid).values()


@pytest.mark.parametrize(
    ("model", "fit", "text"),
    [
        ({"scratch": "."}, {}, "cannot be combined with scratch=, covariates="),
        ({"covariates": "~ depth"}, {}, "cannot be combined with scratch=, covariates="),
        ({}, {"per_sample": True}, "needs the cells in this process"),
        ({}, {"checkpoint": "kept"}, "checkpoint= stores sums of this process"),
    ],
)
def test_what_a_cluster_does_not_do(data, model, fit, text):
    pytest.importorskip("dask")
    with pytest.raises(hc.InputError, match=text):
        hc.CSCore(data, scheduler="sync", **OPTIONS, **model).fit(**fit)
