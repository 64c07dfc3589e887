"""Fits from several threads, on any number of threads, and in forked processes."""

import os
import subprocess
import sys

import pytest
import threadpoolctl

import hiercorr as hc
from hiercorr import inference
from hiercorr.runtime.workers import allowed
from tests.support import OPTIONS, assert_same

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


CODE = """
import warnings; warnings.simplefilter("ignore")
from concurrent.futures import ThreadPoolExecutor
import multiprocessing
import numpy as np
from threadpoolctl import threadpool_info
import hiercorr as hc
from hiercorr.simulate import simulate_counts

adata, _ = simulate_counts(4, 150, 60, mean=1.0, within=0.3, seed=1)
obs = adata.obs
obs["arm"] = np.where(obs["sample"].isin(obs["sample"].unique()[:2]), "a", "b")

def one(k):
    if k % 3 == 0:
        model = hc.CSCore(adata, "sample", depth="depth")
        return model.fit(per_sample=True).dataset["p_value"].values
    if k % 3 == 1:
        return hc.Pseudobulk(adata, "sample", depth="depth").fit().dataset["p_value"].values
    return hc.differential(adata, "sample", "arm", depth="depth").dataset["p_value"].values

def blas():
    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return {p["filepath"]: p["num_threads"] for p in pools}

before = blas()
alone = [one(k) for k in range(3)]
with ThreadPoolExecutor(6) as pool:
    together = list(pool.map(one, range(18)))
for k, found in enumerate(together):
    np.testing.assert_allclose(found, alone[k % 3], rtol=1e-5, atol=1e-7)
assert blas() == before  # held to one thread inside the loops only
if "fork" in multiprocessing.get_all_start_methods():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for k, found in enumerate(pool.map_async(one, range(6)).get(300)):
            np.testing.assert_allclose(found, alone[k % 3], rtol=1e-5, atol=1e-7)
print("same numbers")
"""


@pytest.mark.slow
def test_fits_in_threads_and_forked_processes_give_the_numbers_of_one():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "same numbers" in done.stdout


def fit_in_worker(adata, estimator):
    model = hc.CSCore(adata, **OPTIONS)
    return os.getpid(), model.fit(estimator, precision="double").dataset


@pytest.mark.slow
def test_workers_of_joblib_give_the_numbers_of_one_process(data):
    joblib = pytest.importorskip("joblib")
    estimators = ["within", "pooled"]
    work = [joblib.delayed(fit_in_worker)(data, e) for e in estimators]
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel(timeout=300)(work)
    for estimator, (pid, dataset) in zip(estimators, found, strict=True):
        assert pid != os.getpid()
        assert_same(dataset, fit_in_worker(data, estimator)[1], exact=True)


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
                allowed(),
                max(
                    p["num_threads"]
                    for p in threadpoolctl.threadpool_info()
                    if p["user_api"] == "blas"
                ),
            )
        )
        return inner(*args)

    monkeypatch.setattr(inference, "pair_estimate", noted)
    before = allowed()
    model = hc.CSCore(data, **OPTIONS)
    model.fit(n_jobs=1)
    with threadpoolctl.threadpool_limits(1):
        model.fit()
    assert seen == [(1, 1), (1, 1)]
    assert allowed() == before
