"""Fits from several threads of one process, with any of numba's threading layers."""

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hiercorr.runtime import blas
from hiercorr.runtime.resources import threads

CODE = """
import warnings; warnings.simplefilter("ignore")
from concurrent.futures import ThreadPoolExecutor
import numpy as np, numba
from threadpoolctl import threadpool_info
import hiercorr as hc
from hiercorr.simulate import simulate_counts

adata, _ = simulate_counts(4, 150, 60, mean=1.0, within=0.3, seed=1)
obs = adata.obs
obs["arm"] = np.where(obs["sample"].isin(obs["sample"].unique()[:2]), "a", "b")

def one(k):
    if k % 3 == 0:
        return hc.CSCore(adata, "sample", depth="depth").fit(per_sample=True).dataset["p_value"].values
    if k % 3 == 1:
        return hc.Pseudobulk(adata, "sample", depth="depth").fit().dataset["p_value"].values
    return hc.differential(adata, "sample", "arm", depth="depth").dataset["p_value"].values

blas = lambda: {p["filepath"]: p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}
before = blas()
alone = [one(k) for k in range(3)]
with ThreadPoolExecutor(6) as pool:
    together = list(pool.map(one, range(18)))
for k, found in enumerate(together):
    np.testing.assert_allclose(found, alone[k % 3], rtol=1e-5, atol=1e-7)
assert blas() == before  # held to one thread inside the loops only
print("same numbers", numba.threading_layer())
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_fits_in_threads_give_the_numbers_of_one(layer):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_THREADING_LAYER": layer, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "same numbers" in done.stdout
    if layer == "workqueue":
        assert "workqueue" in done.stdout


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_limits_on_blas_end_in_any_order():
    with threadpool_limits(3):
        first, second = blas.at_most(1), blas.at_most(2)
        first.__enter__()
        second.__enter__()
        assert _blas_threads() == {1}
        assert blas.allowed() == 3
        first.__exit__(None, None, None)  # the one that began first is not the last to end
        assert _blas_threads() == {2}
        second.__exit__(None, None, None)
        assert _blas_threads() == {3} == {blas.allowed()}


def test_loops_have_what_blas_may_use_while_another_thread_holds_it_back():
    with threadpool_limits(2), threads(2), blas.at_most(1), threads(None) as n:
        assert n == 2
